//! Traffic without which a network does not work, passed without a rule and without a flow: ARP, DHCP,
//! neighbour discovery, router discovery, multicast listeners. Each kind can be switched off; what only a
//! router or a server sends never passes from a workload.

use crate::abi::InterfaceFlags;
use crate::judging::Judging;
use crate::source_check::is_nobodys;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ip::{self, IpHeader};
use crate::wire::transport::Transport;
use crate::{Address, AddressTables, Be16, Family, LinkLayer, Packet, Reason, Tables};

/// IGMP is sent with it (RFC 3376, section 4).
const LISTENER_HOP_LIMIT: u8 = 1;
/// Offset of the source address in an Ethernet header.
const SOURCE_MAC: usize = 6;

const DHCP_SERVER: Be16 = Be16::new(67);
const DHCP_CLIENT: Be16 = Be16::new(68);
const DHCPV6_CLIENT: Be16 = Be16::new(546);
const DHCPV6_SERVER: Be16 = Be16::new(547);

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Judges an ARP packet.
    #[inline(always)]
    pub(crate) fn arp(&self, arp: &Arp, source_mac: [u8; 6]) -> Reason {
        if !self.has(InterfaceFlags::ARP) {
            Reason::Ethertype
        } else if !EGRESS {
            self.arriving_arp(arp)
        } else if !self.checks_source() || self.may_say(arp, source_mac) {
            Reason::InfrastructureArp
        } else {
            Reason::ForgedInfrastructure
        }
    }

    /// Nobody else has the interface's address, whatever they say; they may ask whether it is free.
    #[inline(always)]
    fn arriving_arp(&self, arp: &Arp) -> Reason {
        if is_nobodys(arp.sender) || !arp.sender.is_unspecified() && self.is_own(arp.sender) {
            Reason::SourceCheck
        } else {
            Reason::InfrastructureArp
        }
    }

    /// Whether a workload says nothing of others: what is believed of an ARP packet, request or reply, is
    /// that its sender's IP address is at its sender's hardware address.
    #[inline(always)]
    fn may_say(&self, arp: &Arp, source_mac: [u8; 6]) -> bool {
        // A group's hardware address would have everybody receive what is sent to the workload.
        let mac = arp.sender_mac == source_mac && arp.sender_mac[0] & 1 == 0;
        let named = !self.has(InterfaceFlags::MAC) || arp.sender_mac == self.interface.mac;
        let sender = if arp.sender.is_unspecified() {
            // RFC 5227, section 2.1: asks whether an address is free. Who asks for another's keeps it
            // from being used.
            matches!(arp.operation, Operation::Request) && self.is_own(arp.target)
        } else {
            self.is_own(arp.sender)
        };
        mac && named && sender
    }

    /// Judges a packet that may be infrastructure traffic; `None`: it is not, flows and rules decide.
    /// Off the fast path, with a stack frame of its own.
    #[inline(never)]
    pub(crate) fn infrastructure<A: Address>(
        &self,
        header: &IpHeader<A>,
        transport: &Transport,
    ) -> Option<Reason>
    where
        T: AddressTables<A>,
    {
        let reason = match transport {
            Transport::Udp(source, destination) => self.dhcp(A::FAMILY, *source, *destination)?,
            Transport::Icmp(message) => self.neighbour(header, message)?,
            Transport::Tcp(_) | Transport::Sctp(_) | Transport::Other => igmp(header)?,
        };
        let Some(entry) = entry_of(reason) else { return Some(reason) };
        if !self.has(entry) {
            None
        } else if self.configuring_source_is_legal(header.source) {
            Some(reason)
        } else {
            Some(Reason::SourceCheck)
        }
    }

    /// DHCP (RFC 2131) and DHCPv6 (RFC 8415): the client's packets out, the server's in.
    ///
    /// A workload sends nothing to a client, from whatever port: clients look at the destination alone.
    /// Nor does it send from a server's port to a server's, where relays listen and would hand an answer
    /// on.
    #[inline(always)]
    fn dhcp(&self, family: Family, source: Be16, destination: Be16) -> Option<Reason> {
        let (client, server) = match family {
            Family::V4 => (DHCP_CLIENT, DHCP_SERVER),
            Family::V6 => (DHCPV6_CLIENT, DHCPV6_SERVER),
        };
        let passes = if EGRESS {
            source == client && destination == server
        } else {
            source == server && destination == client
        };
        let serves = destination == client || source == server && destination == server;
        if passes {
            Some(Reason::InfrastructureDhcp)
        } else if EGRESS && serves && self.at_workload() {
            Some(Reason::ForgedInfrastructure)
        } else {
            None
        }
    }

    /// Where the frame says it comes from; `None` on devices without Ethernet.
    #[inline(always)]
    pub(crate) fn source_mac(&self) -> Option<[u8; 6]> {
        match self.link {
            LinkLayer::Ethernet => self.packet.load::<6>(SOURCE_MAC).map(|bytes| bytes.0),
            LinkLayer::Ip => None,
        }
    }
}

/// IGMP goes to a group and no further than the link (RFC 3376, section 4): anything else of that protocol
/// is for the rules.
#[inline(always)]
fn igmp<A: Address>(header: &IpHeader<A>) -> Option<Reason> {
    let on_link = header.hop_limit == LISTENER_HOP_LIMIT && header.destination.is_multicast();
    (matches!(A::FAMILY, Family::V4) && on_link).then_some(Reason::InfrastructureMulticastListener)
}

/// The switch of an infrastructure entry; a forgery has none.
#[inline(always)]
const fn entry_of(reason: Reason) -> Option<u32> {
    if matches!(reason, Reason::InfrastructureDhcp) {
        Some(InterfaceFlags::DHCP)
    } else if matches!(reason, Reason::InfrastructureNeighbourDiscovery) {
        Some(InterfaceFlags::NEIGHBOUR_DISCOVERY)
    } else if matches!(reason, Reason::InfrastructureRouterDiscovery) {
        Some(InterfaceFlags::ROUTER_DISCOVERY)
    } else if matches!(reason, Reason::InfrastructureMulticastListener) {
        Some(InterfaceFlags::MULTICAST_LISTENER)
    } else {
        None
    }
}

/// Whether a packet is of a protocol that infrastructure traffic uses at all.
#[inline(always)]
pub(crate) fn possible(protocol: u8, transport: &Transport) -> bool {
    match transport {
        Transport::Udp(..) | Transport::Icmp(_) => true,
        Transport::Other => protocol == ip::IGMP,
        Transport::Tcp(_) | Transport::Sctp(_) => false,
    }
}
