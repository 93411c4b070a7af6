//! ICMP messages of the link: neighbour discovery, router discovery, multicast listeners, and what a
//! workload must not say by them.

use crate::judging::Judging;
use crate::wire::icmp::{Message, v6};
use crate::wire::ip::IpHeader;
use crate::wire::nd::{self, LinkLayer};
use crate::{Address, Family, Packet, Reason, Tables, V6};

/// MLD is sent with it (RFC 3810, section 5).
const LISTENER_HOP_LIMIT: u8 = 1;
/// ICMP redirect (RFC 792).
const V4_REDIRECT: u8 = 5;
/// ICMP router advertisement (RFC 1256).
const V4_ROUTER_ADVERTISEMENT: u8 = 9;

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Judges an ICMP message; `None`: it is no infrastructure traffic.
    #[inline(always)]
    pub(crate) fn neighbour<A: Address>(
        &self,
        header: &IpHeader<A>,
        message: &Message,
    ) -> Option<Reason> {
        if self.is_not_a_workloads(A::FAMILY, message) {
            return Some(Reason::ForgedInfrastructure);
        }
        if matches!(A::FAMILY, Family::V4) {
            return None;
        }
        match message.kind {
            // RFC 6980, section 5: a fragment header hides the message from whoever watches the link.
            v6::ROUTER_SOLICITATION..=v6::REDIRECT if header.has_fragment_header => {
                Some(Reason::ForgedInfrastructure)
            }
            v6::NEIGHBOUR_SOLICITATION => {
                Some(neighbour_discovery(self.solicitation_is_legal(header, message)))
            }
            v6::NEIGHBOUR_ADVERTISEMENT => {
                Some(neighbour_discovery(self.advertisement_is_legal(header, message)))
            }
            v6::ROUTER_SOLICITATION if EGRESS => self.router_solicitation(header, message),
            v6::ROUTER_ADVERTISEMENT if !EGRESS => is_router_advertisement(header, message)
                .then_some(Reason::InfrastructureRouterDiscovery),
            v6::LISTENER_QUERY
            | v6::LISTENER_REPORT
            | v6::LISTENER_DONE
            | v6::LISTENER_REPORT_V2 => {
                is_listener(header).then_some(Reason::InfrastructureMulticastListener)
            }
            _ => None,
        }
    }

    /// Whether a workload tells hosts where to send, which only routers do.
    #[inline(always)]
    pub(crate) fn is_not_a_workloads(&self, family: Family, message: &Message) -> bool {
        let routes = match family {
            Family::V4 => matches!(message.kind, V4_REDIRECT | V4_ROUTER_ADVERTISEMENT),
            Family::V6 => matches!(message.kind, v6::ROUTER_ADVERTISEMENT | v6::REDIRECT),
        };
        EGRESS && routes && self.at_workload()
    }

    /// RFC 4861, section 7.1.1. A workload may ask for any address, but whether one is free only for its
    /// own: the answer, or another who asks the same, keeps the address from being used (RFC 4862,
    /// section 5.4). Link-local addresses are not in the policy.
    #[inline(always)]
    fn solicitation_is_legal<A: Address>(&self, header: &IpHeader<A>, message: &Message) -> bool {
        let Some(target) = self.target(header, message) else { return false };
        let is_probe = header.source.is_unspecified();
        if is_probe && !nd::is_solicited_node(header.destination) {
            return false;
        }
        if !EGRESS || !self.checks_source() {
            return true;
        }
        let may_have = target.is_link_local() && self.link_local_is_legal(target);
        let may_ask = !is_probe || may_have || self.is_own(target);
        may_ask && self.tells_own_mac(header, nd::NEIGHBOUR)
    }

    /// RFC 4861, section 7.1.2. A workload speaks for its own addresses, and nobody else does. Its
    /// link-local address is not in the policy; it must at least be the sender's.
    #[inline(always)]
    fn advertisement_is_legal<A: Address>(&self, header: &IpHeader<A>, message: &Message) -> bool {
        let Some(target) = self.target(header, message) else { return false };
        let to_all = header.destination.is_multicast();
        if header.source.is_unspecified() || to_all && nd::is_solicited(message) {
            return false;
        }
        if !EGRESS {
            return !self.is_own(target);
        }
        if !self.checks_source() {
            return true;
        }
        let is_senders = target.is_link_local()
            && target.widen() == header.source.widen()
            && self.link_local_is_legal(target);
        (is_senders || self.is_own(target)) && self.tells_own_mac(header, nd::NEIGHBOUR)
    }

    /// The target of a neighbour solicitation or advertisement that is formed as either must be.
    #[inline(always)]
    fn target<A: Address>(&self, header: &IpHeader<A>, message: &Message) -> Option<V6> {
        let is_formed = header.hop_limit == nd::HOP_LIMIT
            && message.code == 0
            && header.payload_length >= nd::NEIGHBOUR;
        if !is_formed {
            return None;
        }
        nd::target(self.packet, header.payload).filter(|target| !target.is_multicast())
    }

    /// RFC 4861, section 6.1.1, and to nowhere beyond the link.
    #[inline(always)]
    fn router_solicitation<A: Address>(
        &self,
        header: &IpHeader<A>,
        message: &Message,
    ) -> Option<Reason> {
        let is_formed = header.hop_limit == nd::HOP_LIMIT
            && message.code == 0
            && header.payload_length >= nd::ROUTER_SOLICITATION
            && (header.destination.is_multicast() || header.destination.is_link_local());
        if !is_formed {
            None
        } else if self.checks_source() && !self.tells_own_mac(header, nd::ROUTER_SOLICITATION) {
            Some(Reason::ForgedInfrastructure)
        } else {
            Some(Reason::InfrastructureRouterDiscovery)
        }
    }

    /// Whether a message whose options begin `fixed` bytes into it names no other link-layer address than
    /// that of its frame, which is the workload's where the policy says which that is. From the
    /// unspecified address it names none at all: nobody could answer (RFC 4861, section 4.1).
    #[inline(never)]
    fn tells_own_mac<A: Address>(&self, header: &IpHeader<A>, fixed: usize) -> bool {
        let Some(mac) = self.source_mac() else { return false };
        let end = header.payload + header.payload_length;
        match nd::link_layer(self.packet, header.payload + fixed, end, mac) {
            LinkLayer::Untold => true,
            LinkLayer::Same => !header.source.is_unspecified(),
            LinkLayer::Other | LinkLayer::Broken => false,
        }
    }
}

#[inline(always)]
const fn neighbour_discovery(is_legal: bool) -> Reason {
    if is_legal { Reason::InfrastructureNeighbourDiscovery } else { Reason::ForgedInfrastructure }
}

/// Only a neighbour's link-local address sends one (RFC 4861, section 6.1.2).
#[inline(always)]
fn is_router_advertisement<A: Address>(header: &IpHeader<A>, message: &Message) -> bool {
    header.hop_limit == nd::HOP_LIMIT
        && message.code == 0
        && header.payload_length >= nd::ROUTER_ADVERTISEMENT
        && header.source.is_link_local()
}

/// From the link and to it: a link-local address, or none yet, to a group (RFC 3810, section 5).
#[inline(always)]
fn is_listener<A: Address>(header: &IpHeader<A>) -> bool {
    header.hop_limit == LISTENER_HOP_LIMIT
        && header.destination.is_multicast()
        && (header.source.is_link_local() || header.source.is_unspecified())
}
