//! Compiling a large policy against a tenth of it: time that grows with the input, and memory by the member.

use anyhow::Result;
use sg_userspace::compile::{Surroundings, compile};
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{Interface, Peer, Rule};

use super::memory::Memory;
use super::{
    Measured, Options, figures,
    generate::{self, block, drawn, everywhere, tcp},
};

/// Rules of each group.
const RULES: usize = 10;
/// Members by group.
const MEMBERS: usize = 100;
/// One member in so many has a second group, its first one's neighbour: sets of groups are few, as they are where
/// people make them.
const SHARED: usize = 8;
const ROUNDS: usize = 5;

pub(super) fn run(options: Options) -> Result<Measured> {
    let groups = options.scaled(10_000);
    let whole = sample(groups);
    // Ten of them are as much to read as the whole, so that neither finds more of it in the processor's caches.
    let tenths: Vec<_> = (0..10).map(|_| sample(groups / 10)).collect();
    let mut pairs = Vec::new();
    let (mut peak, mut entries) = (0, String::new());
    for _ in 0..ROUNDS {
        let large = compiled(&whole)?;
        let mut small = Vec::new();
        for tenth in &tenths {
            small.push(compiled(tenth)?.seconds);
        }
        pairs.push((large.seconds, small.iter().sum::<f64>() / 10.0));
        (peak, entries) = (large.peak.max(peak), large.entries);
    }
    let mut measured = Measured::begin();
    measured.at_most(12.0, figures::median_ratio(&pairs), "time");
    let bytes = figures::number(usize::try_from(peak)?) / figures::number(groups * MEMBERS);
    measured.add(bytes <= 200.0, format!("{bytes:.0} bytes a member"));
    let (large, small) = figures::medians(&pairs);
    measured.context(format!("{large:.2} s against {small:.3} s; {entries}"));
    Ok(measured)
}

struct Compiled {
    seconds: f64,
    peak: u64,
    entries: String,
}

fn compiled((policy, here): &(Policy, Surroundings)) -> Result<Compiled> {
    let memory = Memory::fresh()?;
    let (seconds, spec) = figures::worked(|| compile(policy, here, None))?;
    let peak = memory.peak()?;
    let sizes = spec?.capacities();
    let entries = format!(
        "{} permits, {} classes, {} addresses",
        sizes.permits, sizes.classes, sizes.hosts_v4
    );
    Ok(Compiled { seconds, peak, entries })
}

/// A policy in which every group is some local interface's, so that every rule and every member counts.
fn sample(groups: usize) -> (Policy, Surroundings) {
    let rules = |group: usize| -> Vec<Rule> {
        let rule = |index: usize| {
            let seed = group * RULES + index;
            let peer = match index % 3 {
                0 | 1 => Peer::Group(drawn(seed + 1) % groups),
                _ => Peer::Cidr(elsewhere(seed)),
            };
            tcp(drawn(seed), peer)
        };
        (1..RULES).map(rule).collect()
    };
    let member = |index: usize| -> Interface {
        let mut of = vec![index % groups];
        if (index / groups).is_multiple_of(SHARED) {
            of.push((index + 1) % groups);
        }
        generate::interface(index, block(generate::address(index), 32), of)
    };
    let of = |index| generate::group(index, rules(index), vec![everywhere()]);
    let policy = generate::policy(
        (0..groups).map(of).collect(),
        (0..groups * MEMBERS).map(member).collect(),
        Vec::new(),
    );
    let names: Vec<_> = (0..groups).map(generate::interface_name).collect();
    (policy, Surroundings::of(names.iter().map(String::as_str)))
}

/// A block that holds no member and, but for chance, no other block.
fn elsewhere(seed: usize) -> ipnet::IpNet {
    let bits = 0x8000_0000 | u32::try_from(drawn(seed + 7)).unwrap_or_default();
    block(std::net::Ipv4Addr::from_bits(bits), 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_is_compiled() {
        let groups = 20;
        let (policy, here) = sample(groups);
        let vpc = &policy.vpcs[0];
        let rules: usize = vpc.groups.iter().map(|it| it.ingress.len() + it.egress.len()).sum();
        assert_eq!(rules, groups * RULES);
        let spec = compile(&policy, &here, None).expect("a spec");
        assert_eq!(spec.policies.len(), groups);
        let of_groups = spec
            .rules
            .values()
            .filter(|rule| matches!(rule.identity.origin, sg_userspace::compile::Origin::Group(_)));
        assert_eq!(of_groups.count(), rules);
        // Members of groups that no rule names are nobody's peer.
        assert!(spec.v4.hosts.len() > groups * MEMBERS * 9 / 10);
    }
}
