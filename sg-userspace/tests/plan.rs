//! Plans in words: what each kind of edit says.

use std::time::Instant;

use sg_userspace::compile::Surroundings;
use sg_userspace::plan::{Plan, Side};
use sg_userspace::policy::{Policy, load};

const BASE: &str = r#"
infrastructure: {dns: false, metadata: false, time: false, licences: false, subnet_router: false}
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    prefix_lists: [{name: office, cidrs: [203.0.113.0/24]}]
    security_groups:
      - name: alb
        ingress: [{type: http, from: 0.0.0.0/0}]
      - name: backend
        ingress:
          - {protocol: tcp, ports: 8080, from: {group: alb}}
          - {protocol: tcp, ports: 9000-9100, from: 10.0.0.0/16}
        egress: []
    interfaces:
      - {name: alb-1, addresses: [10.0.0.8], groups: [alb]}
      - {name: alb-2, addresses: [10.0.0.9], groups: [default]}
      - {name: backend-1, addresses: [10.0.1.1], groups: [backend], device: b1, side: workload}
      - {name: backend-2, addresses: [10.0.1.2], groups: [backend], device: b2, side: workload}
"#;

fn policy(text: &str) -> Policy {
    load("test", text).unwrap_or_else(|error| panic!("{error}: {:?}", error.diagnostics)).policy
}

/// The plan from the base to the base with these replacements.
fn plan(edits: &[(&str, &str)]) -> Plan {
    let mut text = BASE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} is in the base");
        text = text.replace(from, to);
    }
    let (old, new) = (policy(BASE), policy(&text));
    let surroundings = Surroundings::with_devices(&old);
    Plan::between(
        Side { policy: &old, surroundings: &surroundings },
        Side { policy: &new, surroundings: &surroundings },
    )
}

fn says(edits: &[(&str, &str)], lines: &[&str], summary: &str) {
    let plan = plan(edits);
    let text = plan.text(false);
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    assert_eq!(plan.summary(), summary);
}

const RULES: &str = "          - {protocol: tcp, ports: 8080, from: {group: alb}}\n";

#[test]
fn nothing_changes() {
    says(&[], &[], "no change");
    assert!(plan(&[]).is_empty());
    assert_eq!(plan(&[]).unchanged_rules, 8);
}

#[test]
fn a_rule_for_a_prefix_list() {
    let added = format!("{RULES}          - {{type: ssh, from: {{prefix_list: office}}}}\n");
    says(
        &[(RULES, &added)],
        &[
            "+ rule: group backend ingress tcp/22 from prefix list office",
            "+ opens ingress tcp/22 from prefix list office on backend-1, backend-2",
        ],
        "+1 rule, opens 1",
    );
}

#[test]
fn a_rule_goes() {
    says(
        &[(RULES, "")],
        &[
            "- rule: group backend ingress tcp/8080 from group alb",
            "- closes ingress tcp/8080 from group alb on backend-1, backend-2",
        ],
        "-1 rule, closes 1",
    );
}

#[test]
fn a_rule_that_others_cover_opens_nothing() {
    let with = |rule: &str| format!("{RULES}          - {rule}\n");
    says(
        &[(RULES, &with("{protocol: tcp, ports: 9005, from: 10.0.7.0/24}"))],
        &[
            "+ rule: group backend ingress tcp/9005 from 10.0.7.0/24",
            "  no effect: group backend ingress tcp/9005 from 10.0.7.0/24 opens nothing: allowed already by group backend ingress tcp/9000-9100 from 10.0.0.0/16",
        ],
        "+1 rule",
    );
    says(
        &[(RULES, &with("{protocol: tcp, ports: 9050-9200, from: 10.0.7.0/24}"))],
        &[
            "+ rule: group backend ingress tcp/9050-9200 from 10.0.7.0/24",
            "+ opens ingress tcp/9101-9200 from 10.0.7.0/24 on backend-1, backend-2",
        ],
        "+1 rule, opens 1",
    );
    says(
        &[(RULES, &with("{protocol: tcp, ports: 9005, from: 10.0.0.0/15}"))],
        &[
            "+ rule: group backend ingress tcp/9005 from 10.0.0.0/15",
            "+ opens ingress tcp/9005 from 10.1.0.0/16 on backend-1, backend-2",
        ],
        "+1 rule, opens 1",
    );
    says(
        &[(RULES, &with("{protocol: all, from: 10.0.9.0/24}"))],
        &[
            "+ rule: group backend ingress all from 10.0.9.0/24",
            "+ opens ingress all but tcp/9000-9100 from 10.0.9.0/24 on backend-1, backend-2",
        ],
        "+1 rule, opens 1",
    );
}

#[test]
fn a_rule_goes_that_another_covers() {
    says(
        &[("ports: 9000-9100, from: 10.0.0.0/16", "ports: 9000-9200, from: 10.0.0.0/16")],
        &[
            "+ rule: group backend ingress tcp/9000-9200 from 10.0.0.0/16",
            "- rule: group backend ingress tcp/9000-9100 from 10.0.0.0/16",
            "+ opens ingress tcp/9101-9200 from 10.0.0.0/16 on backend-1, backend-2",
            "  no effect: group backend ingress tcp/9000-9100 from 10.0.0.0/16 closes nothing: still allowed by group backend ingress tcp/9000-9200 from 10.0.0.0/16",
        ],
        "+1 -1 rules, opens 1",
    );
}

#[test]
fn a_rule_that_goes_by_itself() {
    let with = |expires: &str| {
        format!("{RULES}          - {{type: ssh, from: 10.0.0.8/32, expires: \"{expires}\"}}\n")
    };
    let added =
        "+ rule: group backend ingress tcp/22 from 10.0.0.8/32: expires: 2030-01-02T03:04:05Z";
    says(
        &[(RULES, &with("2030-01-02T03:04:05Z"))],
        &[added, "+ opens ingress tcp/22 from 10.0.0.8/32 on backend-1, backend-2"],
        "+1 rule, opens 1",
    );
    let until = "from: {group: alb}, description: web, expires: \"2030-01-02T03:04:05Z\"}";
    says(
        &[("from: {group: alb}}", until)],
        &[
            "~ rule: group backend ingress tcp/8080 from group alb: description: \"\" -> \"web\"; expires: never -> 2030-01-02T03:04:05Z",
        ],
        "1 rule reworded",
    );
}

#[test]
fn a_member_joins_and_another_leaves() {
    says(
        &[
            ("addresses: [10.0.0.9], groups: [default]", "addresses: [10.0.0.9], groups: [alb]"),
            ("addresses: [10.0.0.8], groups: [alb]", "addresses: [10.0.0.8], groups: [default]"),
        ],
        &[
            "~ interface alb-1: groups: +default -alb",
            "~ interface alb-2: groups: +alb -default",
            "+ opens ingress tcp/8080 from alb-2 (10.0.0.9) on backend-1, backend-2",
            "- closes ingress tcp/8080 from alb-1 (10.0.0.8) on backend-1, backend-2",
        ],
        "2 interfaces, opens 1, closes 1",
    );
}

#[test]
fn a_group_without_members_opens_nothing() {
    let added = format!("{RULES}          - {{type: ssh, from: {{group: empty}}}}\n");
    says(
        &[
            (RULES, &added),
            ("      - name: alb\n", "      - {name: empty, egress: []}\n      - name: alb\n"),
        ],
        &[
            "+ group empty",
            "+ rule: group backend ingress tcp/22 from group empty",
            "  no effect: group backend ingress tcp/22 from group empty opens nothing: nobody else is in group empty",
        ],
        "+1 rule, 1 group, opens 0".trim_end_matches(", opens 0"),
    );
}

#[test]
fn rules_of_groups_that_nobody_here_has() {
    says(
        &[("[{type: http, from: 0.0.0.0/0}]", "[{type: https, from: 0.0.0.0/0}]")],
        &[
            "+ rule: group alb ingress tcp/443 from 0.0.0.0/0",
            "- rule: group alb ingress tcp/80 from 0.0.0.0/0",
            "  no effect here: 2 rules are of groups that no interface here has",
        ],
        "+1 -1 rules",
    );
}

#[test]
fn settings_and_interfaces() {
    says(
        &[
            ("infrastructure: {dns: false, ", "live_flows: cut\ninfrastructure: {"),
            (
                "groups: [backend], device: b2, side: workload",
                "groups: [backend, alb], device: b2, side: workload, source_dest_check: false",
            ),
        ],
        &[
            "~ setting live_flows: keep -> cut",
            "~ setting infrastructure dns: off -> on",
            "~ interface backend-2: groups: +alb; source_dest_check: true -> false",
            "+ opens ingress tcp/8080 from backend-2 (10.0.1.2) on backend-1",
            "+ opens egress udp/53 to 169.254.169.253/32 on backend-1, backend-2",
            "+ opens egress udp/53 to fd00:ec2::253/128 on backend-1, backend-2",
            "+ opens egress udp/53 to 10.0.0.2/32 on backend-1, backend-2",
            "+ opens egress tcp/53 to 169.254.169.253/32 on backend-1, backend-2",
            "+ opens egress tcp/53 to fd00:ec2::253/128 on backend-1, backend-2",
            "+ opens egress tcp/53 to 10.0.0.2/32 on backend-1, backend-2",
            "+ opens ingress tcp/80 from 0.0.0.0/0 on backend-2",
            "+ opens egress all to 0.0.0.0/0 on backend-2",
            "+ opens egress all to ::/0 on backend-2",
        ],
        "1 interface, 2 settings, opens 10",
    );
}

/// Colour goes around a line, and only where it is wanted.
#[test]
fn colours() {
    let plan = plan(&[(RULES, "")]);
    assert!(!plan.text(false).contains('\u{1b}'));
    assert!(plan.text(true).starts_with("\u{1b}[31m- rule: "));
}

#[test]
fn many_interfaces_are_one_line() {
    let policy_of = |rule: &str| {
        let mut text = format!(
            "vpcs:\n  - name: prod\n    cidrs: [10.0.0.0/8]\n    security_groups:\n      - name: web\n        ingress: [{rule}]\n    interfaces:\n"
        );
        for index in 0..500 {
            text += &format!(
                "      - {{name: web-{index}, addresses: [10.1.{}.{}], groups: [web], device: d{index}}}\n",
                index / 250,
                index % 250,
            );
        }
        policy(&text)
    };
    let (old, new) = (policy_of(""), policy_of("{type: ssh, from: 10.0.0.0/8}"));
    let surroundings = Surroundings::with_devices(&old);
    let plan = Plan::between(
        Side { policy: &old, surroundings: &surroundings },
        Side { policy: &new, surroundings: &surroundings },
    );
    assert_eq!(plan.opens.len(), 1);
    assert_eq!(plan.opens[0].interfaces.len(), 500);
    let line = "opens ingress tcp/22 from 10.0.0.0/8 on web-0 .. web-499 (500 interfaces)";
    assert!(plan.text(false).contains(line), "{}", plan.text(false));
}

/// Work goes with what the policies hold, not with pairs of it: run by hand, with the time to look at.
#[test]
#[ignore = "measures"]
fn a_large_policy() {
    use sg_userspace::policy::model::{Interface, Peer, Rule, SecurityGroup, Traffic};
    let mut old = policy(BASE);
    let vpc = &mut old.vpcs[0];
    let interface: Interface = vpc.interfaces[0].clone();
    vpc.groups = (0..10_000)
        .map(|index| SecurityGroup {
            name: format!("group-{index}"),
            description: String::new(),
            ingress: (0..10)
                .map(|number| Rule {
                    traffic: Traffic::Ports { protocol: 6, first: number, last: number },
                    peer: Peer::Group((index + usize::from(number)) % 10_000),
                    description: String::new(),
                    expires: None,
                })
                .collect(),
            egress: Vec::new(),
        })
        .collect();
    vpc.interfaces = (0..1_000_000_u32)
        .map(|index| Interface {
            name: format!("interface-{index}"),
            addresses: vec![std::net::IpAddr::from((0x0a00_0000 + index).to_be_bytes()).into()],
            groups: vec![index as usize % 10_000],
            ..interface.clone()
        })
        .collect();
    let mut new = old.clone();
    new.vpcs[0].interfaces[77].groups = vec![99];
    new.vpcs[0].groups[5].ingress.pop();
    let surroundings = Surroundings::of(
        (0..10_000)
            .map(|it| format!("interface-{it}"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str),
    );
    let begin = Instant::now();
    let plan = Plan::between(
        Side { policy: &old, surroundings: &surroundings },
        Side { policy: &new, surroundings: &surroundings },
    );
    eprintln!("{}\n{} in {:?}", plan.text(false), plan.summary(), begin.elapsed());
}
