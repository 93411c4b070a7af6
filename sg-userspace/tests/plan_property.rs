//! What a plan says opens and closes is what the engine judges differently, packet by packet.

#[expect(dead_code, reason = "the rules read aloud are for the compiler's tests")]
mod compile_support;

use compile_support::{edit, local, packets, policy, probe};
use proptest::prelude::*;
use sg_common::{Direction, Reason, Verdict};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::engine::{Probe, reach};
use sg_userspace::plan::{Line, Plan, Side};
use sg_userspace::policy::Policy;

/// The engine's verdict, and whether it is the rules': which sources are legal is not a plan's business.
fn judged(spec: &TableSpec, interface: &str, probe: &Probe) -> (bool, bool) {
    let slot = spec.slot(interface).expect("a local interface");
    let decision = reach(spec, slot, probe).expect("an answer").decision;
    (decision.verdict() == Verdict::Allow, decision.reason != Reason::SourceCheck)
}

fn plan(old: &Policy, new: &Policy, surroundings: &Surroundings) -> Plan {
    Plan::between(Side { policy: old, surroundings }, Side { policy: new, surroundings })
}

/// Whether a line of these covers the probe.
fn says(lines: &[Line], interface: &str, probe: &Probe) -> bool {
    let Probe { direction, remote, traffic, .. } = *probe;
    lines.iter().any(|line| line.covers(interface, direction, remote, traffic))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_verdict_changes_exactly_where_a_line_says_so(
        policies in [policy(), policy()],
        edit in edit(),
        bits: u8,
        packets in packets(),
    ) {
        let [old, other] = &policies;
        let new = edit.apply(old, other);
        let surroundings = Surroundings::of(local(old, bits));
        let plan = plan(old, &new, &surroundings);
        let before = compile(old, &surroundings, None).expect("a spec");
        let after = compile(&new, &surroundings, Some(&before)).expect("a spec");
        let own = |policy: &Policy, name: &str| {
            let mut all = policy.vpcs.iter().flat_map(|vpc| vpc.interfaces.clone());
            all.find(|interface| interface.name == name).expect("an interface")
        };
        for name in &surroundings.local {
            let (mine, then) = (own(old, name), own(&new, name));
            for &packet in &packets {
                let probe = probe(&mine, packet);
                let (passed, legal_before) = judged(&before, name, &probe);
                let (passes, legal_after) = judged(&after, name, &probe);
                let is_own = |addresses: &[ipnet::IpNet]| {
                    addresses.iter().any(|net| net.contains(&probe.remote))
                };
                // From a source that one of them does not take: only a remote end is in a plan.
                let by_source = !legal_before && !is_own(&mine.addresses)
                    || !legal_after && !is_own(&then.addresses);
                let both_own = is_own(&mine.addresses) && is_own(&then.addresses);
                if by_source || both_own {
                    continue;
                }
                let told = (
                    says(&plan.opens, name, &probe),
                    says(&plan.closes, name, &probe),
                );
                let seen = (!passed && passes, passed && !passes);
                prop_assert_eq!(told, seen, "{} {:?}\n{}", name, probe, plan.text(false));
            }
        }
        prop_assert!(!plan.is_empty() || before.permits == after.permits);
    }

    #[test]
    fn the_way_back_closes_what_the_way_there_opens(
        policies in [policy(), policy()],
        edit in edit(),
        bits: u8,
        packets in packets(),
    ) {
        let [old, other] = &policies;
        let new = edit.apply(old, other);
        let surroundings = Surroundings::of(local(old, bits));
        let (there, back) = (plan(old, &new, &surroundings), plan(&new, old, &surroundings));
        prop_assert!(plan(old, old, &surroundings).is_empty());
        for name in &surroundings.local {
            for &(egress, remote, traffic, _) in &packets {
                let direction = if egress { Direction::Egress } else { Direction::Ingress };
                let probe = Probe::new(direction, remote, remote, traffic);
                prop_assert_eq!(
                    says(&there.opens, name, &probe), says(&back.closes, name, &probe)
                );
                prop_assert_eq!(
                    says(&there.closes, name, &probe), says(&back.opens, name, &probe)
                );
            }
        }
    }
}
