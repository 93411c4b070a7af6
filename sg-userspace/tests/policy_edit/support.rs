//! The policy that the edits are made of, and edits in a word each.

use sg_common::Direction;
use sg_userspace::policy::edit::{Edit, EditError, Which};
use sg_userspace::policy::{Policy, Style, load, write};

pub(crate) const START: &str = r#"
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

pub(crate) fn policy(text: &str) -> Policy {
    let loaded = load("start.yaml", text);
    loaded.unwrap_or_else(|error| panic!("{}", error.diagnostics.render(Style::OneLine))).policy
}

pub(crate) fn without_lines(mut policy: Policy) -> Policy {
    policy.tests.iter_mut().for_each(|test| test.line = 0);
    policy
}

pub(crate) fn assert_is_its_text(policy: &Policy) {
    let text = write(policy);
    let loaded = load("written.yaml", &text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.diagnostics.render(Style::OneLine)));
    assert_eq!(without_lines(loaded.policy), without_lines(policy.clone()), "{text}");
}

pub(crate) fn code(error: &EditError) -> &'static str {
    error.code().map_or("", |code| code.as_str())
}

pub(crate) fn group_create(group: &str) -> Edit {
    Edit::GroupCreate { vpc: None, group: group.to_owned() }
}

pub(crate) fn group_delete(group: &str) -> Edit {
    Edit::GroupDelete { vpc: None, group: group.to_owned() }
}

pub(crate) fn authorize(group: &str, rule: &str) -> Edit {
    let (group, rule) = (group.to_owned(), rule.to_owned());
    Edit::RuleAuthorize { vpc: None, group, direction: Direction::Ingress, rule }
}

pub(crate) fn revoke(group: &str, rule: &str) -> Edit {
    let rules = Which::Exact { direction: Direction::Ingress, rule: rule.to_owned() };
    Edit::RuleRevoke { vpc: None, group: group.to_owned(), rules }
}

pub(crate) fn revoke_id(group: &str, id: &str) -> Edit {
    Edit::RuleRevoke { vpc: None, group: group.to_owned(), rules: Which::Id(id.to_owned()) }
}

pub(crate) fn add(interface: &str) -> Edit {
    Edit::InterfaceAdd { vpc: None, interface: interface.to_owned() }
}

pub(crate) fn remove(interface: &str) -> Edit {
    Edit::InterfaceRemove { interface: interface.to_owned() }
}

pub(crate) fn set_groups(interface: &str, groups: &[&str]) -> Edit {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Edit::InterfaceSetGroups { interface: interface.to_owned(), groups }
}

pub(crate) fn list_add(prefix_list: &str, cidr: &str) -> Edit {
    Edit::PrefixListAdd {
        vpc: None,
        prefix_list: prefix_list.to_owned(),
        cidrs: vec![cidr.to_owned()],
    }
}

pub(crate) fn list_remove(prefix_list: &str, cidr: &str) -> Edit {
    Edit::PrefixListRemove {
        vpc: None,
        prefix_list: prefix_list.to_owned(),
        cidrs: vec![cidr.to_owned()],
    }
}

pub(crate) fn list_create(prefix_list: &str) -> Edit {
    Edit::PrefixListCreate { vpc: None, prefix_list: prefix_list.to_owned() }
}

pub(crate) fn list_delete(prefix_list: &str) -> Edit {
    Edit::PrefixListDelete { vpc: None, prefix_list: prefix_list.to_owned() }
}
