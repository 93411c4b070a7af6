//! Any edits in any order, against what files say.

use proptest::prelude::*;
use proptest::sample::select;
use sg_common::Direction;
use sg_userspace::policy::edit::{Edit, Editor};
use sg_userspace::policy::{Policy, load, write};

use crate::support::{
    START, add, assert_is_its_text, authorize, code, group_create, group_delete, list_add,
    list_create, list_delete, list_remove, policy, remove, revoke,
};

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
