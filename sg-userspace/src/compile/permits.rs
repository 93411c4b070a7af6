//! From rules and classes to permits: what a policy allows of which class.
//!
//! A policy has permits only for classes with a peer that its rules name. Any match is an allow, so the
//! longest prefix need not win; it must tell the lowest rule, and an entry that would tell what the next
//! shorter one does is left out.

use std::collections::BTreeMap;

use sg_common::Direction;
use sg_common::abi::{CLASS_ANYONE_V4, CLASS_ANYONE_V6, Permit};
use sg_common::wire::ip;

use super::classes::ClassesOf;
use super::prefixes::{ANY_PORT, ANY_PROTOCOL, Pattern, patterns};
use super::roles::{CompiledRule, Roles};
use super::spec::PermitPrefix;
use super::{CompileError, Compiler, MAX_PERMITS};

/// Class, direction, packets, rule: in this order a pattern stands behind all that cover it.
pub(super) type Claim = (u32, Direction, Pattern, u32);

impl Compiler<'_> {
    /// Enters the permits of a VPC's local policies.
    pub(super) fn permits(
        &mut self,
        roles: &Roles,
        classes: &ClassesOf,
    ) -> Result<(), CompileError> {
        let mut claims = Vec::new();
        for &policy in &roles.policies {
            let spec = &self.spec.policies[&policy];
            claims.clear();
            for &rule in &spec.rules {
                claim(rule, &roles.rules[&rule], classes, &mut claims);
                if self.permits.len() + claims.len() > MAX_PERMITS {
                    return Err(CompileError::Permits(spec.groups.join(", ")));
                }
            }
            claims.sort_unstable();
            let first = self.permits.len();
            enter(policy, &claims, &mut self.permits);
            if spec.marks_untracked {
                mark_untracked(&claims, first, &mut self.permits);
            }
        }
        Ok(())
    }
}

fn claim(number: u32, rule: &CompiledRule, classes: &ClassesOf, claims: &mut Vec<Claim>) {
    let anyone_v4 = rule.everybody.v4.then_some(CLASS_ANYONE_V4);
    let anyone_v6 = rule.everybody.v6.then_some(CLASS_ANYONE_V6);
    let named = rule.peers.iter().flatten().flat_map(|&peer| classes.get(peer));
    let patterns = patterns(rule.traffic);
    for class in anyone_v4.into_iter().chain(anyone_v6).chain(named) {
        let patterns = patterns.iter();
        claims.extend(patterns.map(|&pattern| (class, rule.direction, pattern, number)));
    }
}

/// Enters the permits of claims, sorted.
pub(super) fn enter(policy: u32, claims: &[Claim], permits: &mut Vec<(PermitPrefix, u32)>) {
    let mut covering: Vec<(Pattern, u32)> = Vec::new();
    let mut some_port: BTreeMap<u8, u32> = BTreeMap::new();
    for run in claims.chunk_by(|left, right| (left.0, left.1) == (right.0, right.1)) {
        covering.clear();
        for &(class, direction, pattern, rule) in run {
            while covering.last().is_some_and(|(outer, _)| !outer.covers(pattern)) {
                covering.pop();
            }
            if covering.last().is_some_and(|&(_, lowest)| lowest <= rule) {
                continue;
            }
            covering.push((pattern, rule));
            let Pattern { protocol, port, bits } = pattern;
            let key =
                PermitPrefix { policy, class, direction, some_port: false, protocol, port, bits };
            permits.push((key, rule));
            if covering[0].0.bits > ANY_PORT {
                let lowest = some_port.entry(protocol).or_insert(rule);
                *lowest = rule.min(*lowest);
            }
        }
        let (class, direction, ..) = run[0];
        while let Some((protocol, rule)) = some_port.pop_first() {
            let (port, bits) = (0, ANY_PORT);
            let key =
                PermitPrefix { policy, class, direction, some_port: true, protocol, port, bits };
            permits.push((key, rule));
        }
    }
}

/// Marks what AWS leaves untracked: TCP and UDP that a rule allows from or to everywhere while another
/// allows every response to everywhere (Amazon EC2 User Guide, "Security group connection tracking").
/// Whether it does depends on class, direction and protocol alone.
fn mark_untracked(claims: &[Claim], first: usize, permits: &mut Vec<(PermitPrefix, u32)>) {
    let answered = |class, direction: Direction, protocol| {
        claims.iter().any(|&(of, opens, pattern, _)| {
            let whole = Pattern { protocol, port: 0, bits: ANY_PORT };
            (of, opens) == (class, direction.reverse()) && pattern.covers(whole)
        })
    };
    let mut apart = Vec::new();
    for (key, value) in &mut permits[first..] {
        if !matches!(key.class, CLASS_ANYONE_V4 | CLASS_ANYONE_V6) || key.some_port {
            continue;
        }
        let marked = Permit::new(*value, true).0;
        if key.bits != ANY_PROTOCOL {
            let counts = matches!(key.protocol, ip::TCP | ip::UDP);
            if counts && answered(key.class, key.direction, key.protocol) {
                *value = marked;
            }
            continue;
        }
        for protocol in [ip::TCP, ip::UDP] {
            if answered(key.class, key.direction, protocol) {
                let key = PermitPrefix { protocol, bits: ANY_PORT, ..*key };
                apart.push((key, marked));
            }
        }
    }
    // A rule for every protocol covers others too; one that has an entry of its own keeps it.
    apart.retain(|(key, _)| !permits[first..].iter().any(|(other, _)| other == key));
    permits.extend(apart);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Traffic;

    fn told(rules: &[(u32, Traffic)]) -> Vec<(u8, u16, u8, u32)> {
        let mut claims: Vec<Claim> = rules
            .iter()
            .flat_map(|&(rule, traffic)| {
                patterns(traffic).into_iter().map(move |p| (3, Direction::Ingress, p, rule))
            })
            .collect();
        claims.sort_unstable();
        let mut permits = Vec::new();
        enter(1, &claims, &mut permits);
        let exact = permits.iter().filter(|(p, _)| !p.some_port);
        exact.map(|(p, rule)| (p.protocol, p.port, p.bits, *rule)).collect()
    }

    const fn tcp(first: u16, last: u16) -> Traffic {
        Traffic::Ports { protocol: 6, first, last }
    }

    #[test]
    fn the_longest_entry_tells_the_lowest_rule() {
        for (rules, permits) in [
            (vec![(1, Traffic::All), (2, tcp(80, 80))], vec![(0, 0, 72, 1)]),
            (vec![(2, Traffic::All), (1, tcp(80, 80))], vec![(0, 0, 72, 2), (6, 80, 96, 1)]),
            (vec![(1, tcp(80, 81)), (2, tcp(80, 80))], vec![(6, 80, 95, 1)]),
            (vec![(3, tcp(80, 80)), (2, tcp(80, 80))], vec![(6, 80, 96, 2)]),
            (
                vec![(9, Traffic::All), (5, tcp(0, 65535)), (7, tcp(22, 22)), (3, tcp(23, 23))],
                vec![(0, 0, 72, 9), (6, 0, 80, 5), (6, 23, 96, 3)],
            ),
            (
                vec![(2, Traffic::Protocol(0)), (1, tcp(80, 80))],
                vec![(0, 0, 80, 2), (6, 80, 96, 1)],
            ),
        ] {
            assert_eq!(told(&rules), permits, "{rules:?}");
        }
    }

    #[test]
    fn some_port_has_an_entry_where_no_permit_leaves_the_port_open() {
        for (traffics, protocols) in [
            (vec![tcp(80, 80), tcp(22, 22)], vec![(6, 1)]),
            (vec![tcp(0, 65535), tcp(22, 22)], vec![]),
            (vec![Traffic::All, tcp(22, 22)], vec![]),
            (
                vec![Traffic::Icmp { protocol: 1, kind: Some((8, None)) }, tcp(1, 2)],
                vec![(1, 1), (6, 2)],
            ),
        ] {
            let mut claims: Vec<Claim> = (1..)
                .zip(traffics)
                .flat_map(|(rule, traffic)| {
                    patterns(traffic).into_iter().map(move |p| (3, Direction::Egress, p, rule))
                })
                .collect();
            claims.sort_unstable();
            let mut permits = Vec::new();
            enter(1, &claims, &mut permits);
            let some: Vec<_> = permits.iter().filter(|(key, _)| key.some_port).collect();
            let found: Vec<_> = some.iter().map(|(key, rule)| (key.protocol, *rule)).collect();
            assert_eq!(found, protocols);
            assert!(some.iter().all(|(key, _)| (key.port, key.bits) == (0, ANY_PORT)));
        }
    }

    #[test]
    fn what_aws_leaves_untracked_is_marked() {
        let marked = |rules: &[(Direction, u32, Traffic)]| -> Vec<(Direction, u8, u8)> {
            let mut claims: Vec<Claim> = (1..)
                .zip(rules)
                .flat_map(|(rule, &(direction, class, traffic))| {
                    patterns(traffic).into_iter().map(move |p| (class, direction, p, rule))
                })
                .collect();
            claims.sort_unstable();
            let mut permits = Vec::new();
            enter(1, &claims, &mut permits);
            mark_untracked(&claims, 0, &mut permits);
            let marked = permits.iter().filter(|(_, value)| Permit(*value).is_untracked());
            marked.map(|(key, _)| (key.direction, key.protocol, key.bits)).collect()
        };
        use Direction::{Egress, Ingress};
        const ALL: Traffic = Traffic::All;
        const ANYONE: u32 = CLASS_ANYONE_V4;
        for (rules, expected) in [
            (vec![(Ingress, ANYONE, tcp(80, 80)), (Egress, ANYONE, ALL)], vec![(Ingress, 6, 96)]),
            (vec![(Ingress, ANYONE, tcp(80, 80)), (Egress, ANYONE, tcp(0, 9))], vec![]),
            (vec![(Ingress, 3, tcp(80, 80)), (Egress, ANYONE, ALL)], vec![]),
            (vec![(Ingress, ANYONE, tcp(80, 80)), (Egress, CLASS_ANYONE_V6, ALL)], vec![]),
            (
                vec![(Ingress, ANYONE, tcp(0, 65535)), (Egress, ANYONE, ALL)],
                vec![(Ingress, 6, 80), (Egress, 6, 80)],
            ),
            (
                vec![(Ingress, ANYONE, ALL), (Egress, ANYONE, ALL)],
                vec![(Ingress, 6, 80), (Ingress, 17, 80), (Egress, 6, 80), (Egress, 17, 80)],
            ),
            (vec![(Ingress, ANYONE, Traffic::Protocol(1)), (Egress, ANYONE, ALL)], vec![]),
        ] {
            let mut found = marked(&rules);
            found.sort_unstable();
            assert_eq!(found, expected, "{rules:?}");
        }
    }

    #[test]
    fn classes_and_directions_stay_apart() {
        let all = patterns(Traffic::All)[0];
        let claims = [
            (3, Direction::Ingress, all, 1),
            (3, Direction::Egress, all, 2),
            (4, Direction::Ingress, all, 2),
        ];
        let mut permits = Vec::new();
        enter(1, &claims, &mut permits);
        assert_eq!(permits.len(), 3);
    }
}
