//! Traffic that passes without a rule, and its forgeries, as `sg_common::infrastructure` and
//! `sg_common::neighbour` judge them: as far as matches reach, which cannot walk the options of neighbour
//! discovery.

use ipnet::IpNet;
use sg_common::abi::InterfaceFlags;
use sg_common::{Direction, Reason};

use super::chain;
use super::chains::{Chains, accept_because, drop_because};
use super::names::comment;
use crate::policy::model::Side;

/// Neighbour solicitations and advertisements.
const NEIGHBOURS: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";
/// Both, well formed or forged (RFC 4861, sections 7.1.1 and 7.1.2; RFC 6980, section 5). Their target stands
/// in bytes 8 to 24; the bit of solicited advertisements is the second of byte 4.
const MALFORMED: [&str; 8] = [
    "icmpv6 type 133-137 exthdr frag exists",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit != 255",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } icmpv6 code != 0",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 length < 24",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } @th,64,8 0xff",
    "icmpv6 type nd-neighbor-solicit ip6 saddr :: ip6 daddr != ff02::1:ff00:0/104",
    "icmpv6 type nd-neighbor-advert ip6 saddr ::",
    "icmpv6 type nd-neighbor-advert ip6 daddr ff00::/8 @th,33,1 1",
];
/// What only routers and servers send; clients of DHCP do not ask from which port.
const NO_WORKLOADS: [&str; 6] = [
    "icmp type { redirect, router-advertisement }",
    "icmpv6 type { nd-router-advert, nd-redirect }",
    "meta nfproto ipv4 udp dport 68",
    "meta nfproto ipv6 udp dport 546",
    "meta nfproto ipv4 udp sport 67 udp dport 67",
    "meta nfproto ipv6 udp sport 547 udp dport 547",
];

impl Chains<'_> {
    pub(super) fn infrastructure(&self, direction: Direction) -> Vec<String> {
        let (forged, subject) = (Reason::ForgedInfrastructure, self.subject);
        let egress = matches!(direction, Direction::Egress);
        let mut lines = Vec::new();
        if egress && subject.side == Side::Workload {
            lines.extend(NO_WORKLOADS.map(|matches| drop_because(matches, forged)));
        }
        lines.extend(MALFORMED.map(|matches| drop_because(matches, forged)));
        if !egress {
            lines.push(format!("icmpv6 type nd-neighbor-advert jump {}", self.claimed()));
        } else if subject.checks_source() {
            let spoken = self.spoken_for();
            lines.push(format!("icmpv6 type nd-neighbor-solicit ip6 saddr :: jump {spoken}"));
            lines.push(format!("icmpv6 type nd-neighbor-advert jump {spoken}"));
        }
        for (flag, matches, reason) in entries(egress) {
            if subject.has(flag) {
                lines.push(accept_because(&matches, reason));
            }
        }
        lines
    }

    /// Others do not advertise the interface's addresses.
    fn claimed(&self) -> String {
        format!("{}_claimed", self.subject.name)
    }

    /// A workload speaks for its own addresses.
    fn spoken_for(&self) -> String {
        format!("{}_spoken_for", self.subject.name)
    }

    /// The chains for targets of neighbour discovery. That a link-local one is the sender's cannot be asked.
    pub(super) fn targets(&self) -> Vec<String> {
        let forged = Reason::ForgedInfrastructure;
        let own: Vec<String> = self.own.iter().filter_map(target).collect();
        let claimed = own.iter().map(|target| drop_because(target, forged)).collect();
        let mut lines = chain(&self.claimed(), claimed);
        if self.subject.checks_source() {
            let mut rules: Vec<String> = own.iter().map(|it| format!("{it} return")).collect();
            rules.push("@th,64,10 0x3fa ip6 saddr { ::, fe80::/10 } return".to_owned());
            rules.push(format!("counter drop{}", comment(forged.name())));
            lines.extend(chain(&self.spoken_for(), rules));
        }
        lines
    }
}

/// A match for targets in a block of IPv6 addresses.
fn target(net: &IpNet) -> Option<String> {
    let IpNet::V6(net) = net else { return None };
    match u32::from(net.prefix_len()) {
        0 => Some("meta nfproto ipv6".to_owned()),
        bits => Some(format!("@th,64,{bits} 0x{:x}", net.network().to_bits() >> (128 - bits))),
    }
}

/// What passes: the switch that must be on, the packets, the reason.
fn entries(egress: bool) -> Vec<(u32, String, Reason)> {
    let routers = if egress {
        "icmpv6 type nd-router-solicit icmpv6 code 0 ip6 hoplimit 255 ip6 daddr { fe80::/10, ff00::/8 }"
    } else {
        "icmpv6 type nd-router-advert icmpv6 code 0 ip6 hoplimit 255 ip6 length >= 16 ip6 saddr fe80::/10"
    };
    // Queries, reports and ends of listening; reports of version 2.
    let reports = "icmpv6 type { 130, 131, 132, 143 } ip6 hoplimit 1 ip6 daddr ff00::/8 \
                   ip6 saddr { ::, fe80::/10 }";
    let igmp = "ip protocol igmp ip ttl 1 ip daddr { 224.0.0.0/4, 255.255.255.255 }";
    let (v4, v6) = if egress { ((68, 67), (546, 547)) } else { ((67, 68), (547, 546)) };
    let dhcp =
        |family, (from, to)| format!("meta nfproto {family} udp sport {from} udp dport {to}");
    let listener = Reason::InfrastructureMulticastListener;
    vec![
        (
            InterfaceFlags::NEIGHBOUR_DISCOVERY,
            NEIGHBOURS.to_owned(),
            Reason::InfrastructureNeighbourDiscovery,
        ),
        (
            InterfaceFlags::ROUTER_DISCOVERY,
            routers.to_owned(),
            Reason::InfrastructureRouterDiscovery,
        ),
        (InterfaceFlags::MULTICAST_LISTENER, reports.to_owned(), listener),
        (InterfaceFlags::MULTICAST_LISTENER, igmp.to_owned(), listener),
        (InterfaceFlags::DHCP, dhcp("ipv4", v4), Reason::InfrastructureDhcp),
        (InterfaceFlags::DHCP, dhcp("ipv6", v6), Reason::InfrastructureDhcp),
    ]
}
