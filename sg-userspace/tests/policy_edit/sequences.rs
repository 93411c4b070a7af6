//! What edits make of a policy, and what they leave alone.

use sg_common::Direction;
use sg_userspace::policy::edit::{Edit, Editor, Touched, apply};
use sg_userspace::policy::{Policy, RuleId, write};

use crate::support::{
    START, add, assert_is_its_text, authorize, code, group_create, list_add, list_remove, policy,
    remove, revoke, revoke_id, set_groups,
};

#[test]
fn a_sequence_of_edits_reads_like_a_file() {
    let mut editor = Editor::new(policy(START));
    let edits = [
        group_create(
            "{name: lb, ingress: [{type: https, from: [0.0.0.0/0, \"::/0\"]}, {protocol: all, from: {group: lb}}]}",
        ),
        authorize(
            "db",
            "{protocol: tcp, ports: 8000-8080, from: 10.1.2.3/8, description: 'host bits'}",
        ),
        Edit::GroupCopy {
            vpc: None,
            group: "db".to_owned(),
            to: "db2".to_owned(),
            description: None,
        },
        add("{name: lb-1, addresses: 10.0.0.7, groups: [lb]}"),
        set_groups("web-2", &["lb"]),
        revoke("web", "{type: http, from: 0.0.0.0/0}"),
        list_remove("office", "198.51.100.0/24"),
        Edit::Expire { at: 1_893_456_000 + 31 * 86_400 },
    ];
    let done = editor.apply_all(&edits).expect("legal edits");
    assert_eq!(done[1].warnings, ["10.1.2.3/8 has host bits set, it is taken as 10.0.0.0/8"]);
    assert!(matches!(done[4].touched, Touched::Interface { vpc: 0, .. }));
    assert_eq!(done[7].rules.len(), 1, "the rule that expires");
    assert_is_its_text(editor.policy());
    insta::assert_snapshot!(write(editor.policy()), @r#"
    dialect: aws
    live_flows: keep
    quotas: {rules_per_direction: 4, groups_per_interface: 2, groups_per_vpc: 5}
    vpcs:
      - name: prod
        cidrs: [10.0.0.0/16, "fd00:16::/56"]
        prefix_lists:
          - {name: office, cidrs: [203.0.113.0/24]}
          - {name: small, cidrs: [192.0.2.1/32], max_entries: 2}
        security_groups:
          - name: web
          - name: db
            ingress:
              - {type: postgresql, from: {group: web}}
              - {protocol: tcp, ports: 8000-8080, from: 10.0.0.0/8, description: host bits}
          - name: default
            ingress:
              - {protocol: all, from: {group: default}}
          - name: lb
            ingress:
              - {type: https, from: 0.0.0.0/0}
              - {type: https, from: "::/0"}
              - {protocol: all, from: {group: lb}}
          - name: db2
            ingress:
              - {type: postgresql, from: {group: web}}
              - {protocol: tcp, ports: 8000-8080, from: 10.0.0.0/8, description: host bits}
        interfaces:
          - {name: web-1, addresses: [10.0.0.1, "fd00:16::1"], groups: [web], device: eth0}
          - {name: web-2, addresses: [10.0.0.2, 10.0.1.0/28], groups: [lb]}
          - {name: db-1, addresses: [10.0.0.3], groups: [db]}
          - {name: lb-1, addresses: [10.0.0.7], groups: [lb]}
    tests:
      - {from: "198.51.100.7", to: web-1, type: http, expect: allow}
      - {from: web-2, to: db-1, type: postgresql, expect: allow}
    "#);
    done.into_iter().rev().for_each(|one| editor.undo(one));
    assert_eq!(editor.into_policy(), policy(START));
}

#[test]
fn host_bits_are_told_of_whatever_the_edit() {
    let mut edited = policy(START);
    let told = ["10.77.0.9/24 has host bits set, it is taken as 10.77.0.0/24"];
    let rule = "{type: ssh, from: 10.77.0.9/24}";
    for edit in [
        authorize("db", rule),
        revoke("db", rule),
        list_add("small", "10.77.0.9/24"),
        list_remove("small", "10.77.0.9/24"),
    ] {
        assert_eq!(apply(&mut edited, &edit).expect("legal").warnings, told, "{edit:?}");
    }
    assert_eq!(edited, policy(START));
}

#[test]
fn all_or_nothing() {
    let mut editor = Editor::new(policy(START));
    let edits = [remove("web-2"), group_create("{name: a}"), group_create("{name: A}")];
    // The first is refused by a test of the policy; without the test, the third by the second.
    assert_eq!(editor.apply_all(&edits).expect_err("in use").0, 0);
    let (at, error) = editor.apply_all(&edits[1..]).expect_err("twice");
    assert_eq!((at, code(&error)), (1, "InvalidGroup.Duplicate"));
    assert_eq!(editor.into_policy(), policy(START));
}

#[test]
fn identifiers_outlive_edits_of_other_rules() {
    let mut edited = policy(START);
    let id = |policy: &Policy| {
        let vpc = &policy.vpcs[0];
        let group = vpc.groups.iter().find(|group| group.name == "web").expect("the group");
        let rule = group.ingress.last().expect("the ssh rule");
        RuleId::of(vpc, group, Direction::Ingress, rule)
    };
    let before = id(&edited);
    for edit in [
        list_remove("office", "198.51.100.0/24"),
        revoke("web", "{type: http, from: 0.0.0.0/0}"),
        group_create("{name: aaa}"),
    ] {
        apply(&mut edited, &edit).expect("legal");
    }
    assert_eq!(id(&edited), before);
    let done = apply(&mut edited, &revoke_id("web", &before.to_string())).expect("revoked");
    assert_eq!(done.rules, [before]);
    assert_eq!(edited.vpcs[0].groups[0].ingress, []);
}

#[test]
fn rules_whose_time_is_over_are_absent() {
    let at = 1_896_112_800; // 2030-01-31T18:00:00Z
    let start = policy(START);
    assert_eq!(start.next_expiry(), Some(at));
    let (same, expired) = start.clone().without_expired(at - 1);
    assert_eq!((same, expired.len()), (start.clone(), 0));
    let (without, expired) = start.clone().without_expired(at);
    let told: Vec<_> = expired.iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("group web: tcp 22 ingress, {}", expired[0].id)]);
    let mut edited = start;
    let done = apply(&mut edited, &Edit::Expire { at }).expect("no refusal");
    assert_eq!((edited, done.rules), (without.clone(), vec![expired[0].id]));
    assert_eq!(without.next_expiry(), None);
    assert_eq!(without.vpcs[0].groups[0].ingress.len(), 1, "nothing but the rule goes");
}

#[test]
fn edits_are_data() {
    let edit = authorize("web tier", "{type: ssh, from: 10.0.0.1}");
    let json = serde_json::to_string(&edit).expect("JSON");
    assert_eq!(
        json,
        r#"{"edit":"rule_authorize","group":"web tier","direction":"ingress","rule":"{type: ssh, from: 10.0.0.1}"}"#
    );
    assert_eq!(serde_json::from_str::<Edit>(&json).expect("its own text"), edit);
}
