//! An interface's epoch rises when what it can see narrows, and only then; `compile_property.rs` asks the same of
//! random policies.

use sg_userspace::compile::{Surroundings, compile};

const POLICY: &str = r#"
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, "fd00:16::/56"]
    prefix_lists: [{name: office, cidrs: [203.0.113.0/24, 198.51.100.0/24]}]
    security_groups:
      - {name: lb}
      - {name: web, ingress: [{type: http, from: {group: lb}}], egress: []}
      - {name: ssh, ingress: [{type: ssh, from: {prefix_list: office}}], egress: []}
      - {name: db, ingress: [{type: postgresql, from: {group: web}}], egress: []}
    interfaces:
      - {name: web, addresses: [10.0.0.5], groups: [web]}
      - {name: ssh, addresses: [10.0.0.6], groups: [ssh]}
      - {name: db, addresses: [10.0.0.7], groups: [db]}
      - {name: lb-1, addresses: [10.0.1.1], groups: [lb]}
      - {name: lb-2, addresses: [10.0.1.2, "fd00:16::2"], groups: [lb]}
  - name: test
    cidrs: [10.0.0.0/16]
    security_groups:
      - {name: lb}
      - {name: web, ingress: [{type: http, from: {group: lb}}], egress: []}
    interfaces:
      - {name: test-web, addresses: [10.0.0.5], groups: [web]}
      - {name: test-lb, addresses: [10.0.1.1], groups: [lb]}
"#;

/// Which interfaces are raised when one text takes the place of another.
fn raised(from: &str, to: &str) -> Vec<String> {
    let load = |text: &str| sg_userspace::policy::load("epochs", text).expect("a policy").policy;
    assert!(POLICY.contains(from), "{from}");
    let (old, new) = (load(POLICY), load(&POLICY.replacen(from, to, 1)));
    let local = Surroundings::of(["web", "ssh", "db", "test-web"]);
    let before = compile(&old, &local, None).expect("a spec");
    let after = compile(&new, &local, Some(&before)).expect("a spec");
    let interfaces = after.interfaces.iter();
    let raised = interfaces
        .filter(|(slot, it)| it.version.epoch != before.interfaces[slot].version.epoch)
        .map(|(_, it)| it.name.clone());
    raised.collect()
}

#[test]
fn only_interfaces_that_name_the_lost_peer_are_raised() {
    for (what, from, to, expected) in [
        ("nothing", "egress: []", "egress: []", &[][..]),
        (
            "a member of lb goes",
            "addresses: [10.0.1.2, \"fd00:16::2\"], groups: [lb]",
            "addresses: [10.0.1.2], groups: [ssh]",
            &["web"],
        ),
        ("a member loses an address", "[10.0.1.2, \"fd00:16::2\"]", "[10.0.1.2]", &["web"]),
        ("a member comes", "groups: [db]", "groups: [db, lb]", &[]),
        ("a list is shorter", "203.0.113.0/24, ", "", &["ssh"]),
        ("a list is longer", "203.0.113.0/24, ", "203.0.113.0/24, 192.0.2.0/24, ", &[]),
        ("a narrower entry", "203.0.113.0/24, ", "203.0.113.0/25, ", &["ssh"]),
        ("a wider entry in its place", "203.0.113.0/24, ", "203.0.112.0/23, ", &[]),
        ("a rule goes", "{type: postgresql, from: {group: web}}", "", &["db"]),
        (
            "a rule comes",
            "{type: postgresql, from: {group: web}}",
            "{type: postgresql, from: {group: web}}, {type: ssh, from: {group: lb}}",
            &[],
        ),
        (
            "another VPC's member goes",
            "{name: test-lb, addresses: [10.0.1.1], groups: [lb]}",
            "{name: test-lb, addresses: [10.0.1.1], groups: [web]}",
            &["test-web"],
        ),
        (
            "the web host moves",
            "{name: web, addresses: [10.0.0.5]",
            "{name: web, addresses: [10.0.0.9]",
            &["db"],
        ),
    ] {
        // The host that moves has another router only where its subnet is another one.
        assert_eq!(raised(from, to), expected, "{what}");
    }
}

/// The same rules, but 0.0.0.0/0 no longer includes 169.254.0.0/16.
#[test]
fn a_dialect_that_takes_link_local_out_of_everybody_narrows() {
    let text = |dialect: &str| {
        format!(
            "dialect: {dialect}
infrastructure: {{dns: false, metadata: false, time: false, licences: false, subnet_router: false}}
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    security_groups: [{{name: web, egress: [{{protocol: all, to: 0.0.0.0/0}}]}}]
    interfaces: [{{name: web, addresses: [10.0.0.5], groups: [web]}}]
"
        )
    };
    let load = |dialect: &str| {
        sg_userspace::policy::load("epochs", &text(dialect)).expect("a policy").policy
    };
    let (aws, kakao) = (load("aws"), load("kakao"));
    let before = compile(&aws, &Surroundings::of(["web"]), None).expect("a spec");
    let after = compile(&kakao, &Surroundings::of(["web"]), Some(&before)).expect("a spec");
    let epochs = [&before, &after].map(|spec| spec.interfaces[&0].version.epoch);
    assert_eq!(epochs, [0, 1]);
}

/// A flow that was adopted against the rules has the epoch that it was adopted under.
#[test]
fn live_flows_that_are_kept_no_more_are_judged_again() {
    let all = ["web", "ssh", "db", "test-web"];
    let mut found = raised("vpcs:\n", "live_flows: cut\nvpcs:\n");
    found.sort_unstable();
    let mut expected = all.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(found, expected);
}
