//! What is refused: by which of AWS's codes, and what a refusal names.

use sg_userspace::policy::edit::{Edit, apply};

use crate::support::{
    START, add, authorize, code, group_create, group_delete, list_add, list_create, list_delete,
    list_remove, policy, remove, revoke, revoke_id, set_groups,
};

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
        (
            group_delete("web"),
            "\"web\" is in use by interfaces \"web-1\", \"web-2\", and by rule ID of group \"db\"",
        ),
        (list_delete("office"), "\"office\" is in use by rule ID of group \"web\""),
        (remove("db-1"), "\"db-1\" is in use by test 2"),
    ] {
        let error = apply(&mut edited, &edit).expect_err(message);
        let told = &error.findings[0].message;
        let id = told.split(' ').find(|word| word.starts_with("sgr-")).unwrap_or("none");
        assert_eq!(told.replace(id, "ID"), message);
        if id != "none" {
            let group = told.rsplit('"').nth(1).expect("a group");
            apply(&mut edited.clone(), &revoke_id(group, id)).expect("the rule of that group");
        }
    }
}

#[test]
fn a_rule_that_is_there_is_named() {
    let mut edited = policy(START);
    let rule = "{type: ssh, from: {prefix_list: office}}";
    let error = apply(&mut edited, &authorize("web", rule)).expect_err("twice");
    assert_eq!(code(&error), "InvalidPermission.Duplicate");
    let told = &error.findings[0].message;
    assert!(told.contains("until 2") && told.contains("revoke it first"), "{told}");
    let id = error.findings[0].message.rsplit(' ').next().expect("an identifier").to_owned();
    let done = apply(&mut edited, &revoke_id("web", &id)).expect("the rule");
    assert_eq!(done.rules[0].to_string(), id);
    // Twice in one edit, and not in the group.
    let twice = "{protocol: tcp, ports: [22, 22], from: 10.0.0.1}";
    let error = apply(&mut edited, &authorize("web", twice)).expect_err("twice");
    assert_eq!(error.findings[0].message, "the group has this tcp 22 rule already");
}

/// Two VPCs: `default` and `web` in both, `lb` and `office` in one each.
const TWO: &str = r#"
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    security_groups: [{name: web}, {name: lb}]
    interfaces: [{name: web-1, addresses: [10.0.0.1], groups: [web]}]
  - name: test
    cidrs: [10.1.0.0/16]
    prefix_lists: [{name: office, cidrs: []}]
    security_groups: [{name: web}]
    interfaces: [{name: web-2, addresses: [10.1.0.1], groups: [web]}]
"#;

fn refusal(edit: &Edit) -> String {
    let start = policy(TWO);
    let mut edited = start.clone();
    let error = apply(&mut edited, edit).expect_err(&format!("{edit:?}"));
    assert_eq!(edited, start);
    error.to_string()
}

#[test]
fn the_vpc_need_not_be_said_where_only_one_has_what_is_named() {
    let mut edited = policy(TWO);
    for (edit, vpc) in [
        (authorize("lb", "{type: ssh, from: {group: web}}"), 0),
        (revoke("LB", "{type: ssh, from: {group: web}}"), 0),
        (list_add("office", "192.0.2.0/24"), 1),
        (list_remove("office", "192.0.2.0/24"), 1),
        (Edit::GroupCopy { vpc: None, group: "lb".into(), to: "lb2".into(), description: None }, 0),
        (group_delete("lb2"), 0),
        (list_delete("office"), 1),
    ] {
        let before = edited.clone();
        apply(&mut edited, &edit).expect("found");
        assert_ne!(edited.vpcs[vpc], before.vpcs[vpc], "{edit:?}");
        assert_eq!(edited.vpcs[1 - vpc], before.vpcs[1 - vpc], "{edit:?}");
    }
}

#[test]
fn where_vpcs_are_several_they_are_named() {
    for (edit, message) in [
        (
            group_create("{name: new}"),
            "MissingParameter: the policy has 2 VPCs: say in which (add --vpc with one of: prod, test)",
        ),
        (
            add("{name: x, addresses: [10.0.0.9]}"),
            "MissingParameter: the policy has 2 VPCs: say in which (add --vpc with one of: prod, test)",
        ),
        (
            authorize("web", "{type: ssh, from: 10.0.0.1}"),
            "MissingParameter: several VPCs have a group \"web\" (add --vpc with one of: prod, test)",
        ),
        (
            authorize("lbb", "{type: ssh, from: 10.0.0.1}"),
            "InvalidGroup.NotFound: no VPC has a group \"lbb\" (did you mean `lb`?)",
        ),
        (
            Edit::GroupDelete { vpc: Some("test".into()), group: "lb".into() },
            "InvalidGroup.NotFound: VPC \"test\" has no group \"lb\" (VPC \"prod\" has one; none is known outside \
             its VPC)",
        ),
        (
            set_groups("web-2", &["web", "lb"]),
            "InvalidGroup.NotFound: interface \"web-2\" is in VPC \"test\", which has no group \"lb\" (VPC \"prod\" \
             has one; none is known outside its VPC)",
        ),
        (
            set_groups("web-2", &["wbe"]),
            "InvalidGroup.NotFound: interface \"web-2\" is in VPC \"test\", which has no group \"wbe\" (did you mean \
             `web`?)",
        ),
        (
            list_delete("offices"),
            "InvalidPrefixListID.NotFound: no VPC has a prefix list \"offices\" (did you mean `office`?)",
        ),
        (
            Edit::GroupDelete { vpc: Some("prd".into()), group: "lb".into() },
            "InvalidVpcID.NotFound: the policy has no VPC \"prd\" (did you mean `prod`?)",
        ),
    ] {
        assert_eq!(refusal(&edit), message, "{edit:?}");
    }
}
