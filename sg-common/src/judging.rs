//! A packet on its way through the engine, with what every step needs to know of its surroundings.

use crate::abi::{CLASS_NONE, InterfaceFlags, InterfaceVersion};
use crate::{Address, AddressTables, Direction, LinkLayer, Side, Tables};

/// One packet being judged. Its direction is a constant of the type, so that everything behind an entry
/// point is compiled for the one direction that it judges.
pub(crate) struct Judging<'a, P: ?Sized, T, const EGRESS: bool> {
    pub(crate) packet: &'a P,
    pub(crate) tables: &'a T,
    /// What the packet's first byte belongs to.
    pub(crate) link: LinkLayer,
    /// The interface, in the version that `generation` selects.
    pub(crate) interface: &'a InterfaceVersion,
    /// Read once per packet.
    pub(crate) generation: u64,
    /// Nanoseconds of the monotonic clock.
    pub(crate) now: u64,
}

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Which way the packet travels.
    pub(crate) const DIRECTION: Direction =
        if EGRESS { Direction::Egress } else { Direction::Ingress };

    /// Whether the interface has these [`InterfaceFlags`].
    #[inline(always)]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.interface.flags & flags == flags
    }

    /// Whether the device is a workload's.
    #[inline(always)]
    pub(crate) fn at_workload(&self) -> bool {
        matches!(self.tables.attachment().side, Side::Workload)
    }

    /// Whether sources of egress are checked at all here.
    #[inline(always)]
    pub(crate) fn checks_source(&self) -> bool {
        self.at_workload() && self.has(InterfaceFlags::SOURCE_CHECK)
    }

    /// Whether the interface has this address, in the policy version that counts now.
    #[inline(always)]
    pub(crate) fn is_own<A: Address>(&self, address: A) -> bool
    where
        T: AddressTables<A>,
    {
        AddressTables::<A>::own(self.tables, address)
            .is_some_and(|slot| self.tables.class(slot).version(self.generation) != CLASS_NONE)
    }
}
