//! From rules and classes to permits: what a policy allows of which class.
//!
//! A policy has permits only for classes with a peer that its rules name. Any match is an allow, so the
//! longest prefix need not win; it must tell the lowest rule, and an entry that would tell what the next
//! shorter one does is left out.

use sg_common::Direction;
use sg_common::abi::{CLASS_ANYONE_V4, CLASS_ANYONE_V6};

use super::classes::ClassesOf;
use super::prefixes::Pattern;
use super::roles::{CompiledRule, Roles};
use super::spec::PermitPrefix;
use super::{CompileError, Compiler, MAX_PERMITS};

/// Class, direction, packets, rule: in this order a pattern stands behind all that cover it.
type Claim = (u32, Direction, Pattern, u32);

impl Compiler<'_> {
    /// Enters the permits of a VPC's local policies.
    pub(super) fn permits(
        &mut self,
        roles: &Roles,
        classes: &ClassesOf,
    ) -> Result<(), CompileError> {
        for &policy in &roles.policies {
            let spec = &self.spec.policies[&policy];
            let mut claims = Vec::new();
            for &rule in &spec.rules {
                claim(rule, &roles.rules[&rule], classes, &mut claims);
                if self.permits.len() + claims.len() > MAX_PERMITS {
                    return Err(CompileError::Permits(spec.groups.join(", ")));
                }
            }
            claims.sort_unstable();
            enter(policy, &claims, &mut self.permits);
        }
        Ok(())
    }
}

fn claim(number: u32, rule: &CompiledRule, classes: &ClassesOf, claims: &mut Vec<Claim>) {
    let anyone_v4 = rule.everybody.v4.then_some(CLASS_ANYONE_V4);
    let anyone_v6 = rule.everybody.v6.then_some(CLASS_ANYONE_V6);
    let named = rule.peers.iter().filter_map(|peer| classes.get(peer)).flatten().copied();
    for class in anyone_v4.into_iter().chain(anyone_v6).chain(named) {
        let patterns = rule.patterns.iter();
        claims.extend(patterns.map(|&pattern| (class, rule.direction, pattern, number)));
    }
}

fn enter(policy: u32, claims: &[Claim], permits: &mut Vec<(PermitPrefix, u32)>) {
    let mut covering: Vec<(Pattern, u32)> = Vec::new();
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
            permits.push((PermitPrefix { policy, class, direction, protocol, port, bits }, rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::prefixes::patterns;
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
        permits.iter().map(|(p, rule)| (p.protocol, p.port, p.bits, *rule)).collect()
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
