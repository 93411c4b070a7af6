//! A change of members compiled by itself gives the tables that the whole policy gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use sg_common::abi::{CLASS_ANYONE_V4, CLASS_ANYONE_V6};
use sg_userspace::compile::{
    Members, Membership, PermitPrefix, RuleIdentity, Surroundings, TableSpec, compile,
};
use sg_userspace::policy::edit::{Edit, Editor};
use sg_userspace::policy::load;

const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

/// `d` is named by nobody; `a` by two policies, `b` by one, `c` by itself; some of it through prefixes.
const POLICY: &str = r#"
vpcs:
  - name: v
    cidrs: [10.0.0.0/8, "fd00::/16"]
    prefix_lists:
      - {name: list, cidrs: [10.2.0.5, 10.1.2.6, "fd00::2"]}
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

#[derive(Debug, Clone)]
enum Step {
    Add(u8, Vec<usize>),
    Remove(u8),
    SetGroups(u8, Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let groups = || prop::collection::vec(0..GROUPS.len(), 1..4);
    prop_oneof![
        (0..12_u8, groups()).prop_map(|(member, groups)| Step::Add(member, groups)),
        (0..12_u8).prop_map(Step::Remove),
        (0..12_u8, groups()).prop_map(|(member, groups)| Step::SetGroups(member, groups)),
    ]
}

/// Of both families, and one inside a member that is a prefix.
fn addresses(member: u8) -> Vec<IpAddr> {
    let v4 = if member.is_multiple_of(3) { [10, 1, 2, member] } else { [10, 2, 0, member] };
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

fn edit(step: &Step) -> (u8, Edit, Vec<String>) {
    match step {
        Step::Add(member, groups) => {
            let list: Vec<_> = addresses(*member).iter().map(|it| format!("\"{it}\"")).collect();
            let (list, groups) = (list.join(", "), names(groups));
            let interface = format!(
                "{{name: m{member}, addresses: [{list}], groups: [{}]}}",
                groups.join(", ")
            );
            (*member, Edit::InterfaceAdd { vpc: None, interface }, groups)
        }
        Step::Remove(member) => {
            let interface = format!("m{member}");
            (*member, Edit::InterfaceRemove { interface }, Vec::new())
        }
        Step::SetGroups(member, groups) => {
            let (interface, groups) = (format!("m{member}"), names(groups));
            (*member, Edit::InterfaceSetGroups { interface, groups: groups.clone() }, groups)
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
                peers.map(|peer| spec.peers[peer].name.to_string()).collect()
            }
        }
    };
    let mut addresses = BTreeMap::new();
    let mut insert = |address: String, class| {
        addresses.insert(address, peers(class));
    };
    spec.v4.hosts.iter().for_each(|((_, host), class)| insert(host.to_string(), *class));
    spec.v6.hosts.iter().for_each(|((_, host), class)| insert(host.to_string(), *class));
    spec.v4.cidrs.iter().for_each(|(cidr, class)| insert(cidr.to_string(), *class));
    spec.v6.cidrs.iter().for_each(|(cidr, class)| insert(cidr.to_string(), *class));
    let permit = |(key, value): (&PermitPrefix, &u32)| {
        let groups = spec.policies[&key.policy].groups.join("+");
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
    fn patched_tables_are_compiled_tables(steps in prop::collection::vec(step(), 1..40), batch in 1..6_usize) {
        let policy = load("test", POLICY).expect("a policy").policy;
        let local = Surroundings::with_devices(&policy);
        let mut spec = compile(&policy, &local, None).expect("tables");
        let mut members = Members::of(&spec);
        let mut editor = Editor::new(policy);
        for steps in steps.chunks(batch) {
            let mut changed: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
            for step in steps {
                let (member, edit, groups) = edit(step);
                if editor.apply(&edit).is_ok() {
                    changed.extend(addresses(member).into_iter().map(|it| (it, groups.clone())));
                }
            }
            let membership = |(address, groups)| Membership { vpc: "v".to_owned(), address, groups };
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
