//! Exported rulesets against snapshots, and what cannot be exported. That nft takes them is tested where
//! nft may run: `tests/tests/export_nft.rs`.

use std::fs;
use std::path::Path;

use sg_userspace::compile::{CompileError, Surroundings};
use sg_userspace::export::{ExportError, Target, nft_ruleset};
use sg_userspace::policy::model::Side;
use sg_userspace::policy::{Policy, load};

fn policy(path: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path).expect("a policy file");
    load("policy.yaml", &text).expect("a good policy").policy
}

fn target(interface: &str, device: &str, side: Option<Side>) -> Target {
    Target { interface: interface.to_owned(), devices: vec![device.to_owned()], side }
}

fn export(policy: &Policy, targets: &[Target]) -> Result<String, ExportError> {
    nft_ruleset(policy, "policy.yaml", &Surroundings::default(), targets)
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("data/export/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn rulesets_are_as_recorded() {
    let everything = "tests/data/policy/good-everything.yaml";
    for (name, file, interface, side) in [
        ("every-form", everything, "web", Some(Side::Workload)),
        ("host", "../examples/ec2-basic.yaml", "web-1", Some(Side::Host)),
        ("kakao-default", "../examples/kakao-web.yaml", "plain-1", None),
        ("kakao-lists", "../examples/kakao-web.yaml", "web-1", None),
        ("nat-unchecked", "../examples/bastion-nat.yaml", "nat-1", None),
        ("design", "tests/data/policy/good-design.yaml", "backend-1", None),
    ] {
        let text = export(&policy(file), &[target(interface, "eth0", side)]).expect(name);
        snapshot(name, &text);
    }
}

#[test]
fn several_interfaces_share_the_sets_of_their_peers() {
    let policy = policy("../examples/group-reference.yaml");
    let targets = ["one-a", "one-b", "three-a"].map(|name| target(name, name, None));
    let text = export(&policy, &targets).expect("a ruleset");
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("set sg_group_group_1_v4 {"), 1);
    assert_eq!(lines("iifname "), 3);
    assert_eq!(lines("oifname "), 3);
    assert_eq!(lines("@sg_group_group_1_v4 tcp dport 123 counter accept"), 2);
}

#[test]
fn a_group_without_members_is_a_set_without_elements() {
    let text = "vpcs: [{name: v, cidrs: [10.0.0.0/8], security_groups: [{name: nobody}, \
                {name: web, ingress: [{type: ssh, from: {group: nobody}}]}], \
                interfaces: [{name: i, addresses: [10.0.0.1], groups: [web]}]}]";
    let policy = load("policy.yaml", text).expect("a good policy").policy;
    let text = export(&policy, &[target("i", "eth0", None)]).expect("a ruleset");
    let set = text.split("set sg_group_nobody_v4 {").nth(1).expect("the set");
    assert!(!set.split('}').next().expect("its body").contains("elements"), "{text}");
    assert!(text.contains("ip saddr @sg_group_nobody_v4 tcp dport 22 counter accept"), "{text}");
}

#[test]
fn what_cannot_be_exported() {
    let policy = policy("../examples/three-tier.yaml");
    let no_device = Target { devices: Vec::new(), ..target("backend-1", "", None) };
    assert_eq!(export(&policy, &[no_device]), Err(ExportError::NoDevice("backend-1".to_owned())));
    assert_eq!(
        export(&policy, &[target("nobody", "eth0", None)]),
        Err(ExportError::Compile(CompileError::NoInterface("nobody".to_owned())))
    );
    for device in ["eth*", "a\"b", "a\\b"] {
        let refused = export(&policy, &[target("backend-1", device, None)]);
        assert_eq!(refused, Err(ExportError::DeviceName(device.to_owned())));
    }
    let twice = ["backend-1", "bastion-1"].map(|name| target(name, "eth0", None));
    assert!(matches!(export(&policy, &twice), Err(ExportError::SharedDevice { .. })));
}
