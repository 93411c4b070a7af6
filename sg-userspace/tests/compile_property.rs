//! Compiled tables say what the rules say, and numbers keep their meaning.

mod compile_support;

use std::collections::{BTreeMap, BTreeSet};

use compile_support::{Packet, edit, local, naive, packets, policy, probe};
use ipnet::IpNet;
use proptest::prelude::*;
use sg_common::abi::Permit;
use sg_common::abi::{CLASS_ANYONE_V4, CLASS_ANYONE_V6};
use sg_common::{Direction, Reason, Verdict};
use sg_userspace::compile::{
    InterfaceSpec, Origin, PeerName, PermitPrefix, RuleInfo, RuleSlots, Surroundings, TableSpec,
    compile,
};
use sg_userspace::engine::reach;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{Interface, Peer, Rule, SecurityGroup, Vpc};

/// The tables of the local interfaces that `bits` picks.
fn compiled(policy: &Policy, bits: u8, previous: Option<&TableSpec>) -> TableSpec {
    compile(policy, &Surroundings::of(local(policy, bits)), previous).expect("a spec")
}

/// Every packet at every local interface: the engine's verdict is the rules'.
fn says_the_same(
    policy: &Policy,
    spec: &TableSpec,
    packets: &[Packet],
) -> Result<(), TestCaseError> {
    for (&slot, interface) in &spec.interfaces {
        let vpc = policy.vpcs.iter().find(|vpc| vpc.name == interface.vpc_name).expect("a VPC");
        let own = vpc.interfaces.iter().find(|it| it.name == interface.name).expect("an interface");
        for &packet in packets {
            let probe = probe(own, packet);
            let answer = reach(spec, slot, &probe).expect("an answer");
            let expected = naive::allows(policy, vpc, own, &probe);
            let allowed = answer.decision.verdict() == Verdict::Allow;
            prop_assert_eq!(allowed, expected, "{} {:?}: {:?}", own.name, probe, answer);
            prop_assert_eq!(answer.rule.is_some(), answer.decision.reason == Reason::Rule);
            if let Some(rule) = answer.rule {
                let covering =
                    numbers(spec, vpc, probe.direction, &naive::matching(policy, vpc, own, &probe));
                is_the_lowest(spec, answer.decision.rule, &rule, &covering)?;
            }
        }
    }
    Ok(())
}

/// The numbers of rules of the file.
fn numbers(
    spec: &TableSpec,
    vpc: &Vpc,
    direction: Direction,
    rules: &[(&SecurityGroup, &Rule)],
) -> Vec<u32> {
    let name = |peer: &Peer| match peer {
        Peer::Cidr(net) => PeerName::Cidr(*net),
        Peer::Group(index) => PeerName::Group(vpc.groups[*index].name.clone()),
        Peer::PrefixList(index) => PeerName::PrefixList(vpc.prefix_lists[*index].name.clone()),
    };
    let number = |(group, rule): &(&SecurityGroup, &Rule)| {
        let same = |info: &RuleInfo| {
            let identity = &info.identity;
            identity.vpc == vpc.name
                && identity.origin == Origin::Group(group.name.clone())
                && identity.direction == direction
                && identity.traffic == rule.traffic
                && identity.peer == name(&rule.peer)
        };
        let mut found = spec.rules.iter().filter(|(_, info)| same(info)).map(|(number, _)| *number);
        (found.next().expect("a number"), found.next())
    };
    let numbers = rules.iter().map(number);
    numbers.inspect(|(_, second)| assert_eq!(*second, None)).map(|(number, _)| number).collect()
}

/// The rule told covers the packet, and no lower one with the same peer does.
fn is_the_lowest(
    spec: &TableSpec,
    told: u32,
    rule: &RuleInfo,
    covering: &[u32],
) -> Result<(), TestCaseError> {
    if matches!(rule.identity.origin, Origin::Infrastructure(_)) {
        return Ok(());
    }
    let same_peer = |number: &&u32| spec.rules[number].identity.peer == rule.identity.peer;
    prop_assert_eq!(covering.iter().filter(same_peer).min(), Some(&told), "{}", rule);
    Ok(())
}

/// What both specs number has the same meaning in both.
fn numbers_agree(old: &TableSpec, new: &TableSpec) -> Result<(), TestCaseError> {
    fn agree<V: PartialEq + std::fmt::Debug>(
        old: &BTreeMap<u32, V>,
        new: &BTreeMap<u32, V>,
    ) -> Result<(), TestCaseError> {
        for (number, content) in new {
            if let Some(before) = old.get(number) {
                prop_assert_eq!(before, content, "number {}", number);
            }
        }
        Ok(())
    }
    agree(&old.vpcs, &new.vpcs)?;
    agree(&old.peers, &new.peers)?;
    agree(&old.classes, &new.classes)?;
    agree(&old.policies, &new.policies)?;
    agree(&old.rules, &new.rules)?;
    for (slot, interface) in &new.interfaces {
        if let Some(before) = old.interfaces.get(slot) {
            prop_assert_eq!((before.vpc, &before.name), (interface.vpc, &interface.name));
        }
    }
    let known = |spec: &TableSpec, permit: &PermitPrefix| {
        let anyone = [CLASS_ANYONE_V4, CLASS_ANYONE_V6].contains(&permit.class);
        spec.policies.contains_key(&permit.policy)
            && (anyone || spec.classes.contains_key(&permit.class))
    };
    for (one, other) in [(old, new), (new, old)] {
        for (permit, rule) in one.permits.iter().filter(|(permit, _)| known(other, permit)) {
            prop_assert_eq!(other.permits.get(permit), Some(rule), "{:?}", permit);
        }
    }
    Ok(())
}

/// What stays keeps its number.
fn numbers_are_kept(old: &TableSpec, new: &TableSpec) -> Result<(), TestCaseError> {
    for (number, policy) in &new.policies {
        let before = old.policies.iter().find(|(_, content)| *content == policy);
        prop_assert!(before.is_none_or(|(before, _)| before == number));
    }
    for (number, class) in &new.classes {
        let before = old.classes.iter().find(|(_, content)| *content == class);
        prop_assert!(before.is_none_or(|(before, _)| before == number));
    }
    for (number, rule) in &new.rules {
        let before = old.rules.iter().find(|(_, content)| content.identity == rule.identity);
        prop_assert!(before.is_none_or(|(before, _)| before == number));
    }
    for (slot, interface) in &new.interfaces {
        let before = old.interfaces.iter().find(|(_, content)| content.name == interface.name);
        prop_assert!(before.is_none_or(|(before, _)| before == slot));
    }
    Ok(())
}

/// Every number that a table holds is one that the spec explains.
fn nothing_dangles(spec: &TableSpec) -> Result<(), TestCaseError> {
    let hosts = spec.v4.hosts.values().chain(spec.v6.hosts.values());
    let cidrs = spec.v4.cidrs.values().chain(spec.v6.cidrs.values());
    prop_assert!(hosts.chain(cidrs).all(|class| spec.classes.contains_key(class)));
    let peers: Vec<_> = spec.classes.values().flatten().collect();
    prop_assert!(peers.iter().all(|peer| spec.peers.contains_key(peer)));
    let rules = spec.policies.values().flat_map(|policy| &policy.rules);
    let permitted = spec.permits.values().map(|&permit| Permit(permit).rule());
    prop_assert!(rules.copied().chain(permitted).all(|rule| spec.rules.contains_key(&rule)));
    let policies = spec.interfaces.values().map(|interface| interface.version.policy);
    prop_assert!(policies.into_iter().all(|policy| spec.policies.contains_key(&policy)));
    Ok(())
}

/// An interface in two policies, and whether its epoch was raised between them.
struct Change<'p> {
    old: (&'p Policy, &'p Vpc, &'p Interface),
    new: (&'p Policy, &'p Vpc, &'p Interface),
    raised: bool,
}

fn find<'p>(policy: &'p Policy, name: &str) -> (&'p Policy, &'p Vpc, &'p Interface) {
    let interfaces =
        policy.vpcs.iter().flat_map(|vpc| vpc.interfaces.iter().map(move |it| (vpc, it)));
    let found = interfaces.into_iter().find(|(_, interface)| interface.name == name);
    let (vpc, interface) = found.expect("an interface");
    (policy, vpc, interface)
}

/// Every interface that is local before and after.
fn changes<'p>(old: &'p Policy, new: &'p Policy, bits: u8) -> Vec<Change<'p>> {
    let before = compiled(old, bits, None);
    let after = compiled(new, bits, Some(&before));
    let of = |(slot, interface): (&u16, &InterfaceSpec)| Change {
        old: find(old, &interface.name),
        new: find(new, &interface.name),
        raised: before.interfaces[slot].version.epoch != after.interfaces[slot].version.epoch,
    };
    after
        .interfaces
        .iter()
        .filter(|(slot, _)| before.interfaces.contains_key(slot))
        .map(of)
        .collect()
}

/// Whether the rules allow what they refuse afterwards; sources are none of theirs.
fn narrows(change: &Change<'_>, packet: Packet) -> bool {
    let probe = probe(change.old.2, packet);
    let allows = |(policy, vpc, interface): (&Policy, &Vpc, &Interface)| {
        naive::is_permitted(policy, vpc, interface, &probe)
    };
    allows(change.old) && !allows(change.new)
}

/// What a rule's peer holds.
fn nets(vpc: &Vpc, peer: &Peer) -> Vec<IpNet> {
    match peer {
        Peer::Cidr(net) => vec![*net],
        Peer::PrefixList(list) => vpc.prefix_lists[*list].cidrs.clone(),
        Peer::Group(index) => {
            let members = vpc.interfaces.iter().filter(|it| it.groups.contains(index));
            members.flat_map(|it| it.addresses.clone()).collect()
        }
    }
}

/// Whether rules and what their peers hold only became more, read off the policies alone.
fn only_widens(change: &Change<'_>) -> bool {
    let ((old, before, was), (new, after, is)) = (change.old, change.new);
    let everything = |vpc: &Vpc, interface: &Interface| {
        let groups = interface.groups.iter().map(|&group| (group, vpc.groups[group].clone()));
        let rules = groups.flat_map(|(group, it)| {
            let egress = it.egress.into_iter().map(move |rule| (group, true, rule));
            it.ingress.into_iter().map(move |rule| (group, false, rule)).chain(egress)
        });
        rules.collect::<Vec<_>>()
    };
    let kept = everything(after, is);
    (old.dialect, old.infrastructure) == (new.dialect, new.infrastructure)
        // Each subnet's router has a rule.
        && (&before.subnets, &was.addresses) == (&after.subnets, &is.addresses)
        && everything(before, was).iter().all(|rule| {
            let (had, has) = (nets(before, &rule.2.peer), nets(after, &rule.2.peer));
            let everybody = |nets: &[IpNet]| nets.iter().filter(|net| net.prefix_len() == 0).count();
            // One that becomes everybody is another rule.
            kept.contains(rule) && everybody(&had) == everybody(&has) && had.iter().all(|net| has.contains(net))
        })
}

/// No two rules count in the same element, of those before a change and those after it.
fn elements_are_their_own(old: &TableSpec, new: &TableSpec) -> Result<(), TestCaseError> {
    let rules: BTreeSet<u32> = old.rules.keys().chain(new.rules.keys()).copied().collect();
    let elements: BTreeSet<u32> = rules.iter().map(|&rule| new.rule_slots.of(rule)).collect();
    prop_assert_eq!(rules.len(), elements.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_say_what_the_rules_say(policy in policy(), bits: u8, packets in packets()) {
        let spec = compiled(&policy, bits, None);
        nothing_dangles(&spec)?;
        says_the_same(&policy, &spec, &packets)?;
    }

    #[test]
    fn numbers_keep_their_meaning(
        policies in [policy(), policy(), policy()],
        edits in [edit(), edit()],
        bits: [u8; 3],
        packets in packets(),
    ) {
        let [first, other, another] = &policies;
        let second = edits[0].apply(first, other);
        let third = edits[1].apply(&second, another);
        let one = compiled(first, bits[0], None);
        let two = compiled(&second, bits[1], Some(&one));
        let three = compiled(&third, bits[2], Some(&two));
        for (old, new) in [(&one, &two), (&two, &three)] {
            numbers_agree(old, new)?;
            numbers_are_kept(old, new)?;
            nothing_dangles(new)?;
        }
        says_the_same(&second, &two, &packets)?;
        says_the_same(&third, &three, &packets)?;
    }

    #[test]
    fn the_same_policy_gives_the_same_tables(policy in policy(), bits: u8) {
        let spec = compiled(&policy, bits, None);
        prop_assert_eq!(&compiled(&policy, bits, None), &spec);
        prop_assert_eq!(&compiled(&policy, bits, Some(&spec)), &spec);
        let text = serde_json::to_string(&spec).expect("text");
        prop_assert_eq!(&serde_json::from_str::<TableSpec>(&text).expect("a spec"), &spec);
    }

    #[test]
    fn epochs_rise_where_less_is_allowed(
        policies in [policy(), policy()],
        edit in edit(),
        bits: u8,
        packets in packets(),
    ) {
        let new = edit.apply(&policies[0], &policies[1]);
        for change in changes(&policies[0], &new, bits) {
            let lost = packets.iter().find(|packet| narrows(&change, **packet));
            let name = &change.old.2.name;
            prop_assert!(lost.is_none() || change.raised, "{} loses {:?}", name, lost);
            prop_assert!(!change.raised || !only_widens(&change), "{} loses nothing", name);
        }
    }

    #[test]
    fn rules_never_share_an_element(
        policies in [policy(), policy()],
        edits in prop::collection::vec((edit(), any::<bool>(), any::<u8>()), 1..5),
    ) {
        // Room for the rules of two policies of this universe, and numbers that soon come round.
        let mut spec = TableSpec::empty(RuleSlots::new(256));
        spec.next.rule = 200;
        let mut policy = policies[0].clone();
        for (edit, other, bits) in edits {
            policy = edit.apply(&policy, &policies[usize::from(other)]);
            let next = compiled(&policy, bits, Some(&spec));
            elements_are_their_own(&spec, &next)?;
            spec = next;
        }
    }
}
