//! Traffic without which a network does not work, passed without a rule and without a flow: ARP, DHCP,
//! neighbour discovery, router discovery, multicast listeners. Each kind can be switched off; what only a
//! router or a server sends never passes from a workload.

use crate::abi::InterfaceFlags;
use crate::judging::Judging;
use crate::wire::arp::Arp;
use crate::wire::icmp::{Message, v6};
use crate::wire::ip::{self, IpHeader};
use crate::wire::transport::Transport;
use crate::{Address, AddressTables, Be16, Direction, Family, Packet, Reason, Tables, V6};

/// Neighbour discovery is sent with it, so that no packet from beyond a router passes for it
/// (RFC 4861, section 6.1).
const HOP_LIMIT: u8 = 255;
/// MLD and IGMP are sent with it (RFC 3810, section 5; RFC 3376, section 4).
const LISTENER_HOP_LIMIT: u8 = 1;

/// Offset of the target address in neighbour solicitations and advertisements (RFC 4861, section 4.3).
const ND_TARGET: usize = 8;

const DHCP_SERVER: Be16 = Be16::new(67);
const DHCP_CLIENT: Be16 = Be16::new(68);
const DHCPV6_CLIENT: Be16 = Be16::new(546);
const DHCPV6_SERVER: Be16 = Be16::new(547);

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Judges an ARP packet.
    #[inline(always)]
    pub(crate) fn arp(&self, arp: &Arp, source_mac: [u8; 6]) -> Reason {
        if !self.has(InterfaceFlags::ARP) {
            return Reason::Ethertype;
        }
        if matches!(Self::DIRECTION, Direction::Egress) && self.checks_source() {
            let mac = !self.has(InterfaceFlags::MAC) || arp.sender_mac == self.interface.mac;
            // 0.0.0.0 asks whether an address is free (RFC 5227).
            let sender = arp.sender.is_unspecified() || self.is_own(arp.sender);
            if !mac || !sender || arp.sender_mac != source_mac {
                return Reason::ForgedInfrastructure;
            }
        }
        Reason::InfrastructureArp
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
            Transport::Tcp(_) | Transport::Sctp(_) | Transport::Other => self.igmp(header)?,
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

    /// Like the source check of other traffic, but the unspecified and link-local addresses are legal too.
    #[inline(always)]
    fn configuring_source_is_legal<A: Address>(&self, source: A) -> bool
    where
        T: AddressTables<A>,
    {
        if source.is_loopback() || source.is_multicast() {
            return false;
        }
        let configuring =
            source.is_unspecified() || matches!(A::FAMILY, Family::V6) && source.is_link_local();
        match Self::DIRECTION {
            Direction::Ingress => configuring || !self.is_own(source),
            Direction::Egress => configuring || !self.checks_source() || self.is_own(source),
        }
    }

    /// DHCP (RFC 2131) and DHCPv6 (RFC 8415): the client's packets out, the server's in.
    #[inline(always)]
    fn dhcp(&self, family: Family, source: Be16, destination: Be16) -> Option<Reason> {
        let (client, server) = match family {
            Family::V4 => (DHCP_CLIENT, DHCP_SERVER),
            Family::V6 => (DHCPV6_CLIENT, DHCPV6_SERVER),
        };
        let asks = source == client && destination == server;
        let answers = source == server && destination == client;
        match Self::DIRECTION {
            Direction::Egress if asks => Some(Reason::InfrastructureDhcp),
            Direction::Ingress if answers => Some(Reason::InfrastructureDhcp),
            Direction::Egress if answers && self.at_workload() => {
                Some(Reason::ForgedInfrastructure)
            }
            Direction::Ingress | Direction::Egress => None,
        }
    }

    /// IGMP goes to a group and no further than the link (RFC 3376, section 4): anything else of that
    /// protocol is for the rules.
    #[inline(always)]
    fn igmp<A: Address>(&self, header: &IpHeader<A>) -> Option<Reason> {
        let on_link = header.hop_limit == LISTENER_HOP_LIMIT && header.destination.is_multicast();
        on_link.then_some(Reason::InfrastructureMulticastListener)
    }

    /// Neighbour discovery, router discovery and multicast listeners.
    #[inline(always)]
    fn neighbour<A: Address>(&self, header: &IpHeader<A>, message: &Message) -> Option<Reason>
    where
        T: AddressTables<A>,
    {
        if matches!(A::FAMILY, Family::V4) {
            return None;
        }
        let egress = matches!(Self::DIRECTION, Direction::Egress);
        match message.kind {
            v6::ROUTER_ADVERTISEMENT | v6::REDIRECT if egress && self.at_workload() => {
                Some(Reason::ForgedInfrastructure)
            }
            v6::LISTENER_QUERY
            | v6::LISTENER_REPORT
            | v6::LISTENER_DONE
            | v6::LISTENER_REPORT_V2 => (header.hop_limit == LISTENER_HOP_LIMIT)
                .then_some(Reason::InfrastructureMulticastListener),
            v6::NEIGHBOUR_SOLICITATION | v6::NEIGHBOUR_ADVERTISEMENT
                if header.hop_limit != HOP_LIMIT =>
            {
                Some(Reason::ForgedInfrastructure)
            }
            v6::NEIGHBOUR_ADVERTISEMENT
                if egress && self.checks_source() && !self.advertises_own(header) =>
            {
                Some(Reason::ForgedInfrastructure)
            }
            v6::NEIGHBOUR_SOLICITATION | v6::NEIGHBOUR_ADVERTISEMENT => {
                Some(Reason::InfrastructureNeighbourDiscovery)
            }
            v6::ROUTER_SOLICITATION if egress => {
                (header.hop_limit == HOP_LIMIT).then_some(Reason::InfrastructureRouterDiscovery)
            }
            // Only a neighbour's link-local address sends one (RFC 4861, section 6.1.2).
            v6::ROUTER_ADVERTISEMENT if !egress => (header.hop_limit == HOP_LIMIT
                && header.source.is_link_local())
            .then_some(Reason::InfrastructureRouterDiscovery),
            _ => None,
        }
    }

    /// Whether a neighbour advertisement speaks of an address of the interface's. A link-local address is
    /// not in the policy; it must at least be the sender's.
    #[inline(always)]
    fn advertises_own<A: Address>(&self, header: &IpHeader<A>) -> bool {
        let Some(target) = self.packet.load::<16>(header.payload + ND_TARGET) else { return false };
        let target = V6::new(target.0);
        let is_senders = target.is_link_local() && target.widen() == header.source.widen();
        header.payload_length >= ND_TARGET + 16 && (is_senders || self.is_own(target))
    }
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
