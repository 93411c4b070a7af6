//! Edits against what files say: the policy after any of them is the one its text loads as, a refused one
//! would have been refused as a file, and taken back it leaves nothing.

use proptest::prelude::*;
use proptest::sample::select;
use sg_common::Direction;
use sg_userspace::policy::edit::{Edit, EditError, Editor, Touched, Which, apply};
use sg_userspace::policy::{Policy, RuleId, Style, load, write};

const START: &str = r#"
quotas: {rules_per_direction: 4, groups_per_interface: 2, groups_per_vpc: 5}
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, "fd00:16::/56"]
    prefix_lists:
      - {name: office, cidrs: [203.0.113.0/24, 198.51.100.0/24]}
      - {name: small, cidrs: [192.0.2.1], max_entries: 2}
    security_groups:
      - name: web
        ingress:
          - {type: http, from: 0.0.0.0/0}
          - {type: ssh, from: {prefix_list: office}, expires: 2030-01-31T18:00:00Z}
      - name: db
        ingress: [{type: postgresql, from: {group: web}}]
    interfaces:
      - {name: web-1, addresses: [10.0.0.1, "fd00:16::1"], groups: [web], device: eth0}
      - {name: web-2, addresses: [10.0.0.2, 10.0.1.0/28], groups: [web, default]}
      - {name: db-1, addresses: [10.0.0.3], groups: [db]}
tests:
  - {from: 198.51.100.7, to: web-1, type: http, expect: allow}
  - {from: web-2, to: db-1, type: postgresql, expect: allow}
"#;

fn policy(text: &str) -> Policy {
    let loaded = load("start.yaml", text);
    loaded.unwrap_or_else(|error| panic!("{}", error.diagnostics.render(Style::OneLine))).policy
}

fn without_lines(mut policy: Policy) -> Policy {
    policy.tests.iter_mut().for_each(|test| test.line = 0);
    policy
}

fn assert_is_its_text(policy: &Policy) {
    let text = write(policy);
    let loaded = load("written.yaml", &text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.diagnostics.render(Style::OneLine)));
    assert_eq!(without_lines(loaded.policy), without_lines(policy.clone()), "{text}");
}

fn code(error: &EditError) -> &'static str {
    error.code().map_or("", |code| code.as_str())
}

fn group_create(group: &str) -> Edit {
    Edit::GroupCreate { vpc: None, group: group.to_owned() }
}

fn group_delete(group: &str) -> Edit {
    Edit::GroupDelete { vpc: None, group: group.to_owned() }
}

fn authorize(group: &str, rule: &str) -> Edit {
    let (group, rule) = (group.to_owned(), rule.to_owned());
    Edit::RuleAuthorize { vpc: None, group, direction: Direction::Ingress, rule }
}

fn revoke(group: &str, rule: &str) -> Edit {
    let rules = Which::Exact { direction: Direction::Ingress, rule: rule.to_owned() };
    Edit::RuleRevoke { vpc: None, group: group.to_owned(), rules }
}

fn revoke_id(group: &str, id: &str) -> Edit {
    Edit::RuleRevoke { vpc: None, group: group.to_owned(), rules: Which::Id(id.to_owned()) }
}

fn add(interface: &str) -> Edit {
    Edit::InterfaceAdd { vpc: None, interface: interface.to_owned() }
}

fn remove(interface: &str) -> Edit {
    Edit::InterfaceRemove { interface: interface.to_owned() }
}

fn set_groups(interface: &str, groups: &[&str]) -> Edit {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Edit::InterfaceSetGroups { interface: interface.to_owned(), groups }
}

fn list_add(prefix_list: &str, cidr: &str) -> Edit {
    Edit::PrefixListAdd {
        vpc: None,
        prefix_list: prefix_list.to_owned(),
        cidrs: vec![cidr.to_owned()],
    }
}

fn list_remove(prefix_list: &str, cidr: &str) -> Edit {
    Edit::PrefixListRemove {
        vpc: None,
        prefix_list: prefix_list.to_owned(),
        cidrs: vec![cidr.to_owned()],
    }
}

fn list_create(prefix_list: &str) -> Edit {
    Edit::PrefixListCreate { vpc: None, prefix_list: prefix_list.to_owned() }
}

fn list_delete(prefix_list: &str) -> Edit {
    Edit::PrefixListDelete { vpc: None, prefix_list: prefix_list.to_owned() }
}

#[test]
fn refusals_have_aws_codes_and_change_nothing() {
    let start = policy(START);
    for (edit, expected) in [
        (group_create("{name: WEB}"), "InvalidGroup.Duplicate"),
        (group_create("{name: Default}"), "InvalidGroup.Reserved"),
        (group_create("{name: sg-1}"), "InvalidParameterValue"),
        (group_create("{name: a, rules: []}"), "UnknownParameter"),
        (
            group_create("{name: a, ingress: [{type: ssh, from: {group: nobody}}]}"),
            "InvalidGroup.NotFound",
        ),
        (
            group_create(
                "{name: a, ingress: [{protocol: tcp, ports: [1, 2, 3, 4, 5], from: 10.0.0.1}]}",
            ),
            "RulesPerSecurityGroupLimitExceeded",
        ),
        (group_delete("nobody"), "InvalidGroup.NotFound"),
        (group_delete("default"), "CannotDelete"),
        (group_delete("db"), "DependencyViolation"),
        (authorize("nobody", "{type: ssh, from: 10.0.0.1}"), "InvalidGroup.NotFound"),
        (authorize("web", "{type: http, from: 0.0.0.0/0}"), "InvalidPermission.Duplicate"),
        (
            authorize("web", "{type: http, from: 0.0.0.0/0, description: another}"),
            "InvalidPermission.Duplicate",
        ),
        (authorize("web", "{protocol: icmpv6, from: 10.0.0.1}"), "InvalidPermission.Malformed"),
        (
            authorize("web", "{type: ssh, from: {prefix_list: nobody}}"),
            "InvalidPrefixListID.NotFound",
        ),
        (authorize("web", "{type: ssh, to: 10.0.0.1}"), "InvalidParameterCombination"),
        (authorize("web", "{type: ssh, from: []}"), "InvalidParameterValue"),
        (
            authorize("web", "{protocol: tcp, ports: [1, 2], from: 10.0.0.1}"),
            "RulesPerSecurityGroupLimitExceeded",
        ),
        (revoke("web", "{type: https, from: 0.0.0.0/0}"), "InvalidPermission.NotFound"),
        (revoke_id("web", "sgr-00000000000000000"), "InvalidSecurityGroupRuleId.NotFound"),
        (revoke_id("web", "sgr-1"), "InvalidSecurityGroupRuleId.Malformed"),
        (add("{name: web-1, addresses: [10.0.0.9]}"), "InvalidParameterValue"),
        (add("{name: x, addresses: [10.0.0.1]}"), "InvalidIPAddress.InUse"),
        (add("{name: x, addresses: [10.0.1.3]}"), "InvalidIPAddress.InUse"),
        (add("{name: x, addresses: [10.0.0.0/24]}"), "InvalidIPAddress.InUse"),
        (add("{name: x, addresses: [10.1.0.9]}"), "InvalidParameterValue"),
        (add("{name: x, addresses: [10.0.0.9], device: eth0}"), "InvalidParameterValue"),
        (add("{name: x, addresses: [10.0.0.9], groups: [w]}"), "InvalidGroup.NotFound"),
        (add("{name: 198.51.100.7, addresses: [10.0.0.9]}"), "InvalidParameterValue"),
        (remove("nobody"), "InvalidNetworkInterfaceID.NotFound"),
        (remove("web-1"), "DependencyViolation"),
        (set_groups("nobody", &["web"]), "InvalidNetworkInterfaceID.NotFound"),
        (set_groups("web-1", &["nobody"]), "InvalidGroup.NotFound"),
        (set_groups("web-1", &[]), "InvalidParameterValue"),
        (set_groups("web-1", &["web", "db", "default"]), "SecurityGroupsPerInterfaceLimitExceeded"),
        (list_create("{name: office, cidrs: []}"), "InvalidParameterValue"),
        (list_delete("office"), "DependencyViolation"),
        (list_delete("nobody"), "InvalidPrefixListID.NotFound"),
        (list_add("office", "203.0.113.0/24"), "InvalidPrefixListModification"),
        (list_remove("office", "192.0.2.0/24"), "InvalidPrefixListModification"),
        (list_add("office", "host"), "InvalidParameterValue"),
        (
            Edit::PrefixListAdd {
                vpc: None,
                prefix_list: "office".to_owned(),
                cidrs: vec!["192.0.2.4".to_owned(), "192.0.2.5".to_owned()],
            },
            "RulesPerSecurityGroupLimitExceeded",
        ),
        (
            Edit::PrefixListAdd {
                vpc: None,
                prefix_list: "small".to_owned(),
                cidrs: vec!["192.0.2.4".to_owned(), "192.0.2.5".to_owned()],
            },
            "PrefixListMaxEntriesExceeded",
        ),
        (
            Edit::GroupDelete { vpc: Some("test".to_owned()), group: "web".to_owned() },
            "InvalidVpcID.NotFound",
        ),
    ] {
        let mut edited = start.clone();
        let error = apply(&mut edited, &edit).expect_err(&format!("{edit:?}"));
        assert_eq!(code(&error), expected, "{edit:?}: {error}");
        assert_eq!(edited, start, "{edit:?}");
    }
}

#[test]
fn who_is_in_the_way_of_a_deletion_is_named() {
    let mut edited = policy(START);
    for (edit, message) in [
        (group_delete("web"), "\"web\" is in use by interfaces \"web-1\", \"web-2\""),
        (list_delete("office"), "\"office\" is in use by group \"web\""),
        (remove("db-1"), "\"db-1\" is in use by test 2"),
    ] {
        let error = apply(&mut edited, &edit).expect_err(message);
        assert_eq!(error.findings[0].message, message);
    }
}

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

const NAMES: &[&str] = &["web", "Web", "db", "default", "a", "b", "c"];
const LISTS: &[&str] = &["office", "small", "x", "y"];
const INTERFACES: &[&str] = &["web-1", "web-2", "db-1", "i", "j", "k", "198.51.100.7"];
const BLOCKS: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.5",
    "10.0.1.0/28",
    "10.0.1.3",
    "10.0.1.0/24",
    "10.0.0.0/16",
    "203.0.113.0/24",
    "198.51.100.0/24",
    "10.9.9.9/8",
];

fn name(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(names).prop_map(str::to_owned)
}

fn rule(key: &'static str) -> impl Strategy<Value = String> {
    let peer = prop_oneof![
        2 => name(BLOCKS),
        1 => name(NAMES).prop_map(|name| format!("{{group: {name}}}")),
        1 => name(LISTS).prop_map(|name| format!("{{prefix_list: {name}}}")),
    ];
    let packets = select(
        &["type: ssh", "type: http", "protocol: tcp, ports: [1, 2]", "protocol: icmpv6"][..],
    );
    (packets, peer).prop_map(move |(packets, peer)| format!("{{{packets}, {key}: {peer}}}"))
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let vpc = None;
    prop_oneof![
        (name(NAMES), prop::collection::vec(rule("from"), 0..3)).prop_map(|(name, rules)| {
            group_create(&format!("{{name: {name}, ingress: [{}]}}", rules.join(", ")))
        }),
        (name(NAMES), name(NAMES)).prop_map(|(group, to)| Edit::GroupCopy {
            vpc: None,
            group,
            to,
            description: None
        }),
        name(NAMES).prop_map(|group| group_delete(&group)),
        (name(NAMES), rule("from")).prop_map(|(group, rule)| authorize(&group, &rule)),
        (name(NAMES), rule("to")).prop_map(move |(group, rule)| Edit::RuleAuthorize {
            vpc: vpc.clone(),
            group,
            direction: Direction::Egress,
            rule,
        }),
        (name(NAMES), rule("from")).prop_map(|(group, rule)| revoke(&group, &rule)),
        (name(INTERFACES), prop::collection::vec(name(BLOCKS), 0..3), name(NAMES), 0..4_u8)
            .prop_map(|(name, blocks, group, device)| {
                add(&format!(
                    "{{name: {name}, addresses: [{}], groups: [{group}], device: eth{device}}}",
                    blocks.join(", ")
                ))
            }),
        name(INTERFACES).prop_map(|name| remove(&name)),
        (name(INTERFACES), prop::collection::vec(name(NAMES), 0..4))
            .prop_map(|(interface, groups)| Edit::InterfaceSetGroups { interface, groups }),
        (name(LISTS), prop::collection::vec(name(BLOCKS), 0..3), prop::option::of(1..4_u8))
            .prop_map(|(name, blocks, most)| {
                let most = most.map_or(String::new(), |most| format!(", max_entries: {most}"));
                list_create(&format!("{{name: {name}, cidrs: [{}]{most}}}", blocks.join(", ")))
            }),
        name(LISTS).prop_map(|name| list_delete(&name)),
        (name(LISTS), name(BLOCKS)).prop_map(|(list, block)| list_add(&list, &block)),
        (name(LISTS), name(BLOCKS)).prop_map(|(list, block)| list_remove(&list, &block)),
        Just(Edit::Expire { at: 1_900_000_000 }),
    ]
}

/// The file that says what the policy with the edit would say; `None` for what no file says, such as that
/// something goes that is not there.
#[expect(clippy::wildcard_enum_match_arm, reason = "few edits can be said by a file")]
fn as_file(policy: &Policy, edit: &Edit) -> Option<String> {
    let text = write(policy);
    let under = |heading: &str, line: String| {
        let heading = format!("    {heading}:\n");
        if text.contains(&heading) {
            text.replacen(&heading, &format!("{heading}{line}"), 1)
        } else if let Some((before, after)) = text.split_once("tests:\n") {
            format!("{before}{heading}{line}tests:\n{after}")
        } else {
            format!("{text}{heading}{line}")
        }
    };
    match edit {
        Edit::GroupCreate { group, .. } => {
            Some(under("security_groups", format!("      - {group}\n")))
        }
        Edit::InterfaceAdd { interface, .. } => {
            Some(under("interfaces", format!("      - {interface}\n")))
        }
        Edit::PrefixListCreate { prefix_list, .. } => {
            Some(under("prefix_lists", format!("      - {prefix_list}\n")))
        }
        Edit::RuleAuthorize { group, direction, rule, .. } => {
            let at =
                policy.vpcs[0].groups.iter().position(|it| it.name.eq_ignore_ascii_case(group))?;
            // As a line of the group's own list, which is written for the purpose.
            let mut marked = policy.clone();
            let (own, marker) = (&mut marked.vpcs[0].groups[at], "marker-of-the-test");
            let rules = match direction {
                Direction::Ingress => &mut own.ingress,
                Direction::Egress => &mut own.egress,
            };
            let mut last = policy.vpcs[0].groups[at].egress.first()?.clone();
            last.description = marker.to_owned();
            rules.push(last);
            let written = write(&marked);
            let line = written.lines().find(|line| line.contains(marker))?;
            Some(written.replacen(line, &format!("          - {rule}"), 1))
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn any_edits(edits in prop::collection::vec(any_edit(), 1..25)) {
        let mut editor = Editor::new(policy(START));
        let mut history = Vec::new();
        for edit in &edits {
            let before = editor.policy().clone();
            match editor.apply(edit) {
                Ok(done) => {
                    assert_is_its_text(editor.policy());
                    if let Some(text) = as_file(&before, edit) {
                        prop_assert!(load("file", &text).is_ok(), "{edit:?} was made of\n{text}");
                    }
                    history.push((before, done));
                }
                Err(error) => {
                    prop_assert_eq!(editor.policy(), &before);
                    let reserved = ["InvalidGroup.Reserved", "InvalidGroup.NotFound"].contains(&code(&error));
                    if let Some(text) = as_file(&before, edit).filter(|_| !reserved) {
                        prop_assert!(
                            load("file", &text).is_err() || error.to_string().contains("in a test"),
                            "{edit:?} was refused, {error}, of\n{text}"
                        );
                    }
                }
            }
        }
        for (before, done) in history.into_iter().rev() {
            editor.undo(done);
            prop_assert_eq!(editor.policy(), &before);
            // The index went back too.
            let mut interfaces = before.vpcs[0].interfaces.iter().enumerate();
            let found = interfaces.all(|(at, it)| editor.interface(&it.name) == Some((0, at)));
            prop_assert!(found);
        }
    }
}
