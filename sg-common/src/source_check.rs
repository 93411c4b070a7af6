//! Which source addresses are legal (AWS: source/destination check).

use crate::abi::InterfaceFlags;
use crate::judging::Judging;
use crate::{Address, AddressTables, Direction, Family, Tables};

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Whether a packet that is not infrastructure traffic may come from where it says. Nothing comes
    /// from an unspecified, loopback, multicast or IPv4-mapped address; nothing arrives from the
    /// interface's own address; and what leaves a workload leaves from an address of the workload's.
    #[inline(always)]
    pub(crate) fn source_is_legal<A: Address>(&self, local: A, remote: A) -> bool
    where
        T: AddressTables<A>,
    {
        match Self::DIRECTION {
            Direction::Ingress => is_unicast(remote) && !self.is_own(remote),
            // A packet to an address of its own would open a flow that such ingress then matches.
            Direction::Egress => self.local_is_legal(local) && !self.is_own(remote),
        }
    }

    /// The same for infrastructure traffic, where hosts that have no address yet, or none beyond the link,
    /// speak too.
    #[inline(always)]
    pub(crate) fn configuring_source_is_legal<A: Address>(&self, source: A) -> bool
    where
        T: AddressTables<A>,
    {
        if is_nobodys(source) {
            return false;
        }
        let link_local = matches!(A::FAMILY, Family::V6) && source.is_link_local();
        let configuring = source.is_unspecified() || link_local && self.link_local_is_legal(source);
        match Self::DIRECTION {
            // Asking whether an address is free is not claiming it.
            Direction::Ingress => source.is_unspecified() || !self.is_own(source),
            Direction::Egress => configuring || !self.checks_source() || self.is_own(source),
        }
    }

    /// The part of [`Self::source_is_legal`] that also holds for answers: the local end's address is one
    /// that it may use.
    #[inline(always)]
    pub(crate) fn local_is_legal<A: Address>(&self, local: A) -> bool
    where
        T: AddressTables<A>,
    {
        is_unicast(local) && (!self.checks_source() || self.is_own(local))
    }

    /// Whether a workload may have this link-local address: where its MAC address is given, the one made from
    /// that (RFC 4291, appendix A), or one in the policy.
    #[inline(always)]
    pub(crate) fn link_local_is_legal<A: Address>(&self, address: A) -> bool
    where
        T: AddressTables<A>,
    {
        !self.has(InterfaceFlags::MAC)
            || is_made_from(address, self.interface.mac)
            || self.is_own(address)
    }

    /// Whether a frame from a workload carries the MAC address it must, where one is given.
    #[inline(always)]
    pub(crate) fn mac_is_legal(&self, mac: [u8; 6]) -> bool {
        matches!(Self::DIRECTION, Direction::Ingress)
            || !self.checks_source()
            || !self.has(InterfaceFlags::MAC)
            || self.interface.mac == mac
    }
}

#[inline(always)]
fn is_made_from<A: Address>(address: A, mac: [u8; 6]) -> bool {
    let [a, b, c, d, e, f] = mac;
    let made = [0, u32::from_ne_bytes([a ^ 2, b, c, 0xff]), u32::from_ne_bytes([0xfe, d, e, f])];
    address.widen()[0] == u32::from_ne_bytes([0xfe, 0x80, 0, 0]) && address.widen()[1..] == made
}

/// Whether a host could have the address on a network.
#[inline(always)]
fn is_unicast<A: Address>(address: A) -> bool {
    !address.is_unspecified() && !is_nobodys(address)
}

/// Whether no packet on a network comes from the address, not even one of a host that has none yet.
#[inline(always)]
pub(crate) fn is_nobodys<A: Address>(address: A) -> bool {
    address.is_loopback() || address.is_multicast() || address.is_mapped()
}
