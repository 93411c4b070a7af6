//! What stands before the rules: source check, infrastructure, connection tracking, in the order of
//! `sg_common::decide`. Drops carry the word that events and counters have for them.
//!
//! nf_conntrack has no opinion on some messages and flags, or another one than security groups; those are
//! led around it, to the rules or to their drop.

use ipnet::IpNet;
use sg_common::abi::InterfaceFlags;
use sg_common::{Direction, Family, Reason};

use super::names::comment;
use super::peers::{set, set_name};
use super::{Export, Subject, chain};
use crate::compile::TableSpec;
use crate::policy::model::Side;

/// Flags that make the kind of a segment.
const FLAGS: &str = "tcp flags & (fin | syn | rst | ack)";

/// The chains of one interface in the making.
pub(super) struct Chains<'s> {
    pub(super) subject: &'s Subject<'s>,
    pub(super) own: Vec<IpNet>,
    /// Name of the sets of its addresses.
    own_name: String,
}

impl Subject<'_> {
    /// Name of the chain that judges a direction.
    pub(super) fn chain(&self, direction: Direction) -> String {
        format!("{}_{}", self.name, direction.name())
    }

    pub(super) fn has(&self, flags: u32) -> bool {
        self.spec.version.flags & flags == flags
    }

    pub(super) fn checks_source(&self) -> bool {
        self.side == Side::Workload && self.has(InterfaceFlags::SOURCE_CHECK)
    }
}

impl Export<'_> {
    /// Sets and chains of an interface.
    pub(super) fn interface(&mut self, spec: &TableSpec, subject: &Subject<'_>) -> Vec<String> {
        let chains = Chains {
            subject,
            own: own(spec, subject.slot),
            own_name: self.names.unique(&format!("own {}", subject.spec.name)),
        };
        let mut lines = chains.sets();
        for direction in Direction::ALL {
            let name = subject.chain(direction);
            let mut rules = match direction {
                Direction::Ingress => chains.ingress(),
                Direction::Egress => chains.egress(),
            };
            rules.extend(tracking(direction, &format!("{name}_rules")));
            lines.extend(chain(&name, rules));
            let rules = self.rules(spec, subject, direction);
            lines.extend(chain(&format!("{name}_rules"), rules));
        }
        lines.extend(chains.targets());
        lines
    }
}

/// The addresses of an interface.
fn own(spec: &TableSpec, slot: u16) -> Vec<IpNet> {
    let slot = u32::from(slot);
    let v4 = spec.v4.own.iter().filter(|prefix| prefix.space == slot);
    let v4 = v4.filter_map(|prefix| IpNet::new(prefix.address.into(), prefix.length).ok());
    let v6 = spec.v6.own.iter().filter(|prefix| prefix.space == slot);
    let v6 = v6.filter_map(|prefix| IpNet::new(prefix.address.into(), prefix.length).ok());
    v4.chain(v6).collect()
}

pub(super) fn drop_because(matches: &str, reason: Reason) -> String {
    format!("{matches} counter drop{}", comment(reason.name()))
}

pub(super) fn accept_because(matches: &str, reason: Reason) -> String {
    format!("{matches} counter accept{}", comment(reason.name()))
}

impl Chains<'_> {
    fn sets(&self) -> Vec<String> {
        let title = format!("addresses of {}", self.subject.spec.name);
        let families = [Family::V4, Family::V6].into_iter();
        families
            .flat_map(|family| set(&set_name(&self.own_name, family), family, &title, &self.own))
            .collect()
    }

    fn own(&self, family: Family) -> String {
        format!("@{}", set_name(&self.own_name, family))
    }

    fn ingress(&self) -> Vec<String> {
        let (v4, v6) = (self.own(Family::V4), self.own(Family::V6));
        let mut lines = everywhere();
        let forged = Reason::SourceCheck;
        lines.push(drop_because(&format!("ip saddr != 0.0.0.0 ip saddr {v4}"), forged));
        lines.push(drop_because(&format!("ip6 saddr != :: ip6 saddr {v6}"), forged));
        lines.extend(self.infrastructure(Direction::Ingress));
        lines.push(drop_because("ip saddr 0.0.0.0", forged));
        lines.push(drop_because("ip6 saddr ::", forged));
        lines
    }

    fn egress(&self) -> Vec<String> {
        let (v4, v6) = (self.own(Family::V4), self.own(Family::V6));
        let forged = Reason::SourceCheck;
        let mut lines = everywhere();
        if self.subject.checks_source() {
            if self.subject.has(InterfaceFlags::MAC) {
                let mac = self.subject.spec.version.mac.map(|byte| format!("{byte:02x}")).join(":");
                lines.push(drop_because(&format!("ether saddr != {mac}"), forged));
            }
            lines.push(drop_because(&format!("ip saddr != 0.0.0.0 ip saddr != {v4}"), forged));
            let legal = "ip6 saddr != { ::, fe80::/10 }";
            lines.push(drop_because(&format!("{legal} ip6 saddr != {v6}"), forged));
        }
        lines.extend(self.infrastructure(Direction::Egress));
        lines.push(drop_because("ip saddr 0.0.0.0", forged));
        lines.push(drop_because("ip6 saddr ::", forged));
        if self.subject.checks_source() {
            lines.push(drop_because(&format!("ip6 saddr != {v6}"), forged));
        }
        // Such a packet would open a flow that ingress from the own address then matches.
        lines.push(drop_because(&format!("ip daddr {v4}"), forged));
        lines.push(drop_because(&format!("ip6 daddr {v6}"), forged));
        lines
    }
}

/// What no direction lets through.
fn everywhere() -> Vec<String> {
    let drop = |(matches, reason)| drop_because(matches, reason);
    let all = [
        ("ip option lsrr exists", Reason::SourceRoute),
        ("ip option ssrr exists", Reason::SourceRoute),
        ("rt type 0", Reason::SourceRoute),
        ("ip saddr { 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 }", Reason::SourceCheck),
        ("ip6 saddr { ::1, ::ffff:0.0.0.0/96, ff00::/8 }", Reason::SourceCheck),
    ];
    all.map(drop).into()
}

/// Flows, and who may open one; `rules` is the chain that decides on new ones.
fn tracking(direction: Direction, rules: &str) -> Vec<String> {
    let mut lines = vec![
        drop_because(
            &format!("{FLAGS} != {{ syn, syn | ack, rst, rst | ack, ack, fin | ack }}"),
            Reason::TcpFlags,
        ),
        // A quote alone brings neither of these in.
        format!("icmp type {{ source-quench, redirect }} goto {rules}"),
        format!("icmpv6 type nd-redirect goto {rules}"),
        // The answering side opens a connection of its own.
        format!("{FLAGS} == syn ct direction reply goto {rules}"),
        "ct state established counter accept comment \"flow\"".to_owned(),
        // A flow that was let in and is not answered yet still counts as new.
        "ct state new ct status confirmed counter accept comment \"flow\"".to_owned(),
        "ct state related meta l4proto { icmp, ipv6-icmp } counter accept comment \"related\""
            .to_owned(),
        // What asks for no answer and answers nothing is no flow to nf_conntrack, but has rules.
        format!(
            "icmp type != {{ echo-request, echo-reply, timestamp-request, timestamp-reply, \
             info-request, info-reply, address-mask-request, address-mask-reply }} goto {rules}"
        ),
        format!("icmpv6 type != {{ echo-request, echo-reply }} goto {rules}"),
        "ct state invalid counter drop comment \"no_flow\"".to_owned(),
    ];
    // Who may open a connection may continue one whose entry was lost; the local end may not.
    let opening = match direction {
        Direction::Ingress => "{ syn, ack }",
        Direction::Egress => "syn",
    };
    lines.push(drop_because(&format!("{FLAGS} != {opening}"), Reason::NoFlow));
    // Of any other protocol every chunk is missing.
    lines.push(drop_because("meta l4proto sctp sctp chunk init missing", Reason::NoFlow));
    lines.push(format!("goto {rules}"));
    lines
}
