//! A change of members compiled by itself gives the tables that the whole policy gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use sg_common::abi::{CLASS_ANYONE_V4, CLASS_ANYONE_V6};
use sg_userspace::compile::{
    Members, Membership, PeerSpec, PermitPrefix, RuleIdentity, Surroundings, TableSpec, compile,
};
use sg_userspace::policy::edit::{Edit, Editor};
use sg_userspace::policy::load;

const GROUPS: [&str; 4] = ["a", "b", "c", "d"];
const VPCS: [&str; 2] = ["v", "w"];

/// `d` is named by nobody; `a` by two policies, `b` by one, `c` by itself; some of it through prefixes.
const POLICY: &str = r#"
vpcs:
  - name: v
    cidrs: [10.0.0.0/8, "fd00::/16"]
    prefix_lists:
      - {name: list, cidrs: [10.2.0.5, 10.1.3.6, "fd00::2"]}
    security_groups:
      - {name: a, ingress: [{protocol: tcp, ports: [22, 80-90], from: {group: a}}]}
      - {name: b, ingress: [{protocol: all, from: {group: a}}, {protocol: udp, ports: 53, from: [10.1.0.0/16, 10.2.0.4, 10.2.0.99]}]}
      - {name: c, ingress: [{protocol: tcp, ports: 443, from: {group: c}}, {protocol: tcp, ports: 80, from: 0.0.0.0/0}, {protocol: tcp, ports: 25, from: {prefix_list: list}}], egress: [{protocol: all, to: {group: b}}]}
      - {name: d}
    interfaces:
      - {name: one, addresses: [10.9.0.1], groups: [a], device: one}
      - {name: two, addresses: [10.9.0.2], groups: [b, c], device: two}
      - {name: three, addresses: [10.9.0.3], groups: [c], device: three}
      - {name: net, addresses: [10.1.2.0/24], groups: [a, c]}
"#;

/// The same addresses and names in another VPC, with other rules; one interface is local.
const NEIGHBOUR: &str = r#"
  - name: w
    cidrs: [10.0.0.0/8, "fd00::/16"]
    security_groups:
      - {name: default, ingress: [{protocol: tcp, ports: 80, from: 0.0.0.0/0}]}
      - {name: a, ingress: [{protocol: udp, ports: 53, from: {group: b}}]}
      - {name: b, ingress: [{protocol: all, from: 169.254.0.0/16}], egress: [{protocol: all, to: {group: a}}]}
      - {name: c}
      - {name: d}
    interfaces:
      - {name: other, addresses: [10.9.0.1], groups: [default, a, b], device: other}
"#;

fn policy(dialect: &str) -> String {
    format!("dialect: {dialect}\n{}{NEIGHBOUR}", POLICY.trim())
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u8, Vec<usize>),
    Remove(usize, u8),
    SetGroups(usize, u8, Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let groups = || prop::collection::vec(0..GROUPS.len(), 1..4);
    prop_oneof![
        (0..2_usize, 0..12_u8, groups()).prop_map(|(vpc, it, groups)| Step::Add(vpc, it, groups)),
        (0..2_usize, 0..12_u8).prop_map(|(vpc, it)| Step::Remove(vpc, it)),
        (0..2_usize, 0..12_u8, groups())
            .prop_map(|(vpc, it, groups)| Step::SetGroups(vpc, it, groups)),
    ]
}

/// Of both families, and some inside a block that a rule names.
fn addresses(member: u8) -> Vec<IpAddr> {
    let v4 = if member.is_multiple_of(3) { [10, 1, 3, member] } else { [10, 2, 0, member] };
    let mut addresses = vec![IpAddr::from(v4)];
    if member.is_multiple_of(2) {
        addresses.push(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(member)]));
    }
    addresses
}

fn names(groups: &[usize]) -> Vec<String> {
    let names: BTreeSet<_> = groups.iter().map(|&group| GROUPS[group].to_owned()).collect();
    names.into_iter().collect()
}

/// The VPC and the member that an edit changes, and the groups that the member has then.
fn edit(step: &Step) -> (usize, u8, Edit, Vec<String>) {
    let name = |vpc: usize, member: u8| format!("{}{member}", VPCS[vpc]);
    match step {
        Step::Add(vpc, member, groups) => {
            let list: Vec<_> = addresses(*member).iter().map(|it| format!("\"{it}\"")).collect();
            let (list, groups) = (list.join(", "), names(groups));
            let interface = format!(
                "{{name: {}, addresses: [{list}], groups: [{}]}}",
                name(*vpc, *member),
                groups.join(", ")
            );
            let edit = Edit::InterfaceAdd { vpc: Some(VPCS[*vpc].to_owned()), interface };
            (*vpc, *member, edit, groups)
        }
        Step::Remove(vpc, member) => {
            let interface = name(*vpc, *member);
            (*vpc, *member, Edit::InterfaceRemove { interface }, Vec::new())
        }
        Step::SetGroups(vpc, member, groups) => {
            let (interface, groups) = (name(*vpc, *member), names(groups));
            let edit = Edit::InterfaceSetGroups { interface, groups: groups.clone() };
            (*vpc, *member, edit, groups)
        }
    }
}

/// What tables say, without a number.
#[derive(Debug, PartialEq)]
struct Meaning {
    addresses: BTreeMap<String, BTreeSet<String>>,
    permits: BTreeMap<String, Option<RuleIdentity>>,
}

fn meaning(spec: &TableSpec) -> Meaning {
    let peers = |class: u32| -> BTreeSet<String> {
        match class {
            CLASS_ANYONE_V4 => ["everybody, IPv4".to_owned()].into(),
            CLASS_ANYONE_V6 => ["everybody, IPv6".to_owned()].into(),
            class => {
                let peers = spec.classes[&class].iter();
                let text = |peer: &u32| {
                    let PeerSpec { vpc, name } = &spec.peers[peer];
                    format!("{} {name}", spec.vpcs[vpc])
                };
                peers.map(text).collect()
            }
        }
    };
    let mut addresses = BTreeMap::new();
    let mut insert = |address: String, class| {
        addresses.insert(address, peers(class));
    };
    let vpc = |number: &u32| &spec.vpcs[number];
    spec.v4.hosts.iter().for_each(|((of, it), class)| insert(format!("{} {it}", vpc(of)), *class));
    spec.v6.hosts.iter().for_each(|((of, it), class)| insert(format!("{} {it}", vpc(of)), *class));
    spec.v4.cidrs.iter().for_each(|(it, class)| insert(format!("{} {it}", vpc(&it.space)), *class));
    spec.v6.cidrs.iter().for_each(|(it, class)| insert(format!("{} {it}", vpc(&it.space)), *class));
    let permit = |(key, value): (&PermitPrefix, &u32)| {
        let policy = &spec.policies[&key.policy];
        let groups = format!("{} {}", vpc(&policy.vpc), policy.groups.join("+"));
        let PermitPrefix { direction, some_port, protocol, port, bits, .. } = key;
        let of = peers(key.class);
        let text = format!("{groups} {of:?} {direction:?} {some_port} {protocol} {port} {bits}");
        let rule = sg_common::abi::Permit(*value).rule();
        // Of several, the lowest number is told: which that is depends on the order of numbers alone.
        (text, spec.rules.get(&rule).map(|rule| rule.identity.clone()))
    };
    Meaning { addresses, permits: spec.permits.iter().map(permit).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn patched_tables_are_compiled_tables(
        steps in prop::collection::vec(step(), 1..40),
        batch in 1..6_usize,
        dialect in prop_oneof![Just("aws"), Just("kakao")],
    ) {
        let policy = load("test", &policy(dialect)).expect("a policy").policy;
        let local = Surroundings::with_devices(&policy);
        let mut spec = compile(&policy, &local, None).expect("tables");
        let mut members = Members::of(&spec);
        let mut editor = Editor::new(policy);
        let mut present = BTreeSet::new();
        for steps in steps.chunks(batch) {
            let mut changed: BTreeMap<(usize, IpAddr), Vec<String>> = BTreeMap::new();
            for step in steps {
                let (vpc, member, edit, groups) = edit(step);
                let is_done = editor.apply(&edit).is_ok();
                let there = present.contains(&(vpc, member));
                prop_assert_eq!(is_done, there != matches!(step, Step::Add(..)), "{:?}", step);
                if is_done {
                    if matches!(step, Step::Remove(..)) {
                        present.remove(&(vpc, member));
                    } else {
                        present.insert((vpc, member));
                    }
                    let addresses = addresses(member).into_iter();
                    changed.extend(addresses.map(|it| ((vpc, it), groups.clone())));
                }
            }
            let membership = |((vpc, address), groups): ((usize, IpAddr), _)| {
                Membership { vpc: VPCS[vpc].to_owned(), address, groups }
            };
            let memberships: Vec<_> = changed.into_iter().map(membership).collect();
            let before = spec.clone();
            let patch = members.patch(&spec, &memberships);
            let changes = patch.changes(&spec);
            members.follow(&spec, &patch);
            patch.apply(&mut spec);

            let fresh = compile(editor.policy(), &local, None).expect("tables");
            prop_assert_eq!(meaning(&spec), meaning(&fresh));
            // What is written leads from the tables before to the tables after.
            let told = sg_userspace::diff::diff(&before, &spec);
            prop_assert_eq!(sorted(&changes.add_permits), sorted(&told.add_permits));
            prop_assert_eq!(sorted(&changes.remove_permits), sorted(&told.remove_permits));
            prop_assert_eq!(&changes.v4, &told.v4);
            prop_assert_eq!(&changes.v6, &told.v6);
            prop_assert_eq!(&changes.interfaces, &told.interfaces);
            // Epochs rise as they would if everything were compiled.
            let following = compile(editor.policy(), &local, Some(&before)).expect("tables");
            for (slot, interface) in &spec.interfaces {
                prop_assert_eq!(interface.version.epoch, following.interfaces[slot].version.epoch);
            }
        }
    }
}

fn sorted<T: Ord + Clone>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list
}
