//! The event stream for people and programs: records of the ring, with numbers turned into words.

mod clock;
mod filter;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use sg_common::abi::{Event, EventKind};
use sg_common::wire::ip;
use sg_common::{Direction, Reason};

use crate::compile::{RuleInfo, TableSpec};

pub use clock::WallClock;
pub use filter::Filter;
pub use text::{End, trace_line};

/// What the numbers in records stand for.
#[derive(Debug, Clone, Default)]
pub struct Names {
    interfaces: BTreeMap<u16, String>,
    rules: BTreeMap<u32, String>,
    /// Those of them that are no longer in force.
    gone: BTreeSet<u32>,
}

impl Names {
    /// As a compiled policy numbers them.
    #[must_use]
    pub fn of(spec: &TableSpec) -> Self {
        let interfaces = spec.interfaces.iter().map(|(&slot, one)| (slot, one.name.clone()));
        let rules = spec.rules.iter().map(|(&number, rule)| (number, rule.to_string()));
        Self { interfaces: interfaces.collect(), rules: rules.collect(), gone: BTreeSet::new() }
    }

    /// With rules that went before, by the numbers that they had.
    #[must_use]
    pub fn with_gone<'g>(mut self, gone: impl Iterator<Item = (u32, &'g RuleInfo)>) -> Self {
        for (number, rule) in
            gone.filter(|&(number, _)| !self.rules.contains_key(&number)).collect::<Vec<_>>()
        {
            self.rules.insert(number, rule.to_string());
            self.gone.insert(number);
        }
        self
    }

    /// Whether every number of a record is known; a younger policy may know more.
    #[must_use]
    pub fn know(&self, event: &Event) -> bool {
        self.interfaces.contains_key(&event.slot)
            && (event.rule == 0 || self.rules.contains_key(&event.rule))
    }

    /// Takes names over, and keeps those that the new policy has forgotten: records outlive them.
    pub fn learn(&mut self, newer: Self) {
        let Self { interfaces, rules, gone } = newer;
        self.gone =
            self.rules.keys().filter(|number| !rules.contains_key(number)).copied().collect();
        self.gone.extend(gone);
        self.interfaces.extend(interfaces);
        self.rules.extend(rules);
    }

    /// A rule in words.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&str> {
        self.rules.get(&number).map(String::as_str)
    }

    /// Whether a rule is no longer in force: it went, or nobody knows it any more.
    #[must_use]
    pub fn is_gone(&self, number: u32) -> bool {
        number != 0 && (self.gone.contains(&number) || !self.rules.contains_key(&number))
    }

    /// The interface in a slot.
    #[must_use]
    pub fn interface(&self, slot: u16) -> String {
        self.interfaces.get(&slot).cloned().unwrap_or_else(|| format!("slot {slot}"))
    }
}

/// One event, as `events -o json` prints it, one a line. Source and destination are those of the packet;
/// of an `end`, those of the flow's first packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// `allow`: first packet of a flow. `drop`. `end`: a flow's end. `audit`: would have been dropped.
    pub verdict: &'static str,
    /// `ingress` or `egress`; of an `end`, the direction that opened the flow.
    pub direction: &'static str,
    /// Name of the interface.
    pub interface: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or a number; null without an IP header.
    pub protocol: Option<String>,
    /// Null without an IP header, like the next.
    pub source: Option<IpAddr>,
    /// Null for protocols without ports, like the next port.
    pub source_port: Option<u16>,
    /// Where the packet goes.
    pub destination: Option<IpAddr>,
    /// Where it goes there.
    pub destination_port: Option<u16>,
    /// ICMP and ICMPv6 packets only.
    pub icmp_type: Option<u8>,
    /// ICMP and ICMPv6 packets only.
    pub icmp_code: Option<u8>,
    /// Why.
    pub reason: &'static str,
    /// The rule in words, where one decided.
    pub rule: Option<String>,
    /// Whether that rule is no longer in force.
    pub rule_gone: bool,
    /// Length of the packet in bytes; null for `end`.
    pub length: Option<u32>,
    /// Packets of the flow; `end` only.
    pub packets: Option<BothWays<u32>>,
    /// Bytes of the flow; `end` only.
    pub bytes: Option<BothWays<u64>>,
    #[serde(skip)]
    kind: EventKind,
    #[serde(skip)]
    way: Direction,
    #[serde(skip)]
    number: u8,
    /// Time of day for people.
    #[serde(skip)]
    clock: String,
}

/// Totals of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BothWays<N> {
    /// Towards the protected end.
    pub ingress: N,
    /// Away from it.
    pub egress: N,
}

impl<N: Copy> From<[N; 2]> for BothWays<N> {
    fn from([ingress, egress]: [N; 2]) -> Self {
        Self { ingress, egress }
    }
}

impl Record {
    /// An event with its numbers turned into words; `None` when it is none that this version knows.
    #[must_use]
    pub fn new(event: &Event, names: &Names, clock: &WallClock) -> Option<Self> {
        let kind = EventKind::from_number(event.kind)?;
        let reason = Reason::from_number(event.reason)?;
        let way = Direction::ALL.into_iter().find(|way| *way as u8 == event.direction)?;
        let is_end = matches!(kind, EventKind::End);
        let has_ip = event.family != 0;
        let has_ports = has_ip && has_ports(event.protocol);
        let is_icmp = has_ip && matches!(event.protocol, ip::ICMP | ip::ICMPV6) && !is_end;
        let local = address(event.family, event.local);
        let remote = address(event.family, event.remote);
        let local_port = has_ports.then_some(event.local_port);
        let remote_port = has_ports.then_some(event.remote_port);
        let (source, source_port, destination, destination_port) = match way {
            Direction::Ingress => (remote, remote_port, local, local_port),
            Direction::Egress => (local, local_port, remote, remote_port),
        };
        Some(Self {
            time: clock.rfc3339(event.time),
            verdict: kind.name(),
            direction: way.name(),
            interface: names.interface(event.slot),
            protocol: has_ip.then(|| protocol_name(event.protocol)),
            source,
            source_port,
            destination,
            destination_port,
            icmp_type: is_icmp.then_some(event.icmp_type),
            icmp_code: is_icmp.then_some(event.icmp_code),
            reason: reason.name(),
            rule: rule(event.rule, names),
            rule_gone: names.is_gone(event.rule),
            length: (!is_end).then_some(event.length),
            packets: is_end.then(|| event.packets.into()),
            bytes: is_end.then(|| event.bytes.into()),
            kind,
            way,
            number: event.protocol,
            clock: clock.time_of_day(event.time),
        })
    }
}

fn rule(number: u32, names: &Names) -> Option<String> {
    let known = || names.rule(number).map_or_else(|| format!("rule {number}"), str::to_owned);
    (number != 0).then(known)
}

fn address(family: u8, words: [u32; 4]) -> Option<IpAddr> {
    match family {
        4 => Some(Ipv4Addr::from(words[0].to_ne_bytes()).into()),
        6 => {
            let mut octets = [0; 16];
            for (place, word) in octets.chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// The protocols whose flows have ports.
pub const PORT_PROTOCOLS: [u8; 3] = [ip::TCP, ip::UDP, ip::SCTP];

fn has_ports(protocol: u8) -> bool {
    PORT_PROTOCOLS.contains(&protocol)
}

/// Names of the protocols that have one here.
pub const PROTOCOL_NAMES: [(&str, u8); 5] = [
    ("tcp", ip::TCP),
    ("udp", ip::UDP),
    ("icmp", ip::ICMP),
    ("icmpv6", ip::ICMPV6),
    ("sctp", ip::SCTP),
];

/// `tcp`, or the number of a protocol without a name here.
#[must_use]
pub fn protocol_name(protocol: u8) -> String {
    let named = PROTOCOL_NAMES.iter().find(|(_, number)| *number == protocol);
    named.map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests;
