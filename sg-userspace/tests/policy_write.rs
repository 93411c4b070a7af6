//! What `write` writes loads as the policy it was written from.

#[expect(dead_code, reason = "shared with the tests of the compiler, which need more of it")]
mod compile_support;

use std::path::Path;

use proptest::prelude::*;
use sg_userspace::policy::model::{
    ConnectionTracking, Endpoint, Expect, LiveFlows, Peer, Policy, ReachabilityTest, Rule, Side,
    Traffic, Vpc,
};
use sg_userspace::policy::{Style, load, load_file, write};

/// Lines of tests are those of the text at hand.
fn without_lines(mut policy: Policy) -> Policy {
    policy.tests.iter_mut().for_each(|test| test.line = 0);
    policy
}

fn check(policy: Policy) {
    let text = write(&policy);
    let loaded = load("written.yaml", &text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.diagnostics.render(Style::OneLine)));
    assert!(loaded.warnings.is_empty(), "{}\n{text}", loaded.warnings.render(Style::OneLine));
    assert_eq!(without_lines(loaded.policy.clone()), without_lines(policy), "{text}");
    assert_eq!(write(&loaded.policy), text);
}

#[test]
fn every_file_that_loads_survives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for directory in ["tests/data/policy", "../examples"] {
        for entry in std::fs::read_dir(root.join(directory)).expect(directory) {
            let path = entry.expect("an entry").path();
            let Ok(loaded) = load_file(&path) else { continue };
            check(loaded.policy);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} files");
}

/// Characters of a name by AWS's rules, those with a meaning in YAML among them.
fn name() -> impl Strategy<Value = String> {
    let words = [
        "null", "true", "1e3", "0x10", "- a", "a: b", "a #b", "[x]", "{y}", "*z", "&w", "!t", "no",
    ];
    prop_oneof![
        3 => "[a-zA-Z0-9 ._:/()#,@\\[\\]+=&;{}!$*-]{1,20}"
            .prop_map(|text| text.trim_end().to_owned())
            .prop_filter("a name", |text| !text.is_empty() && !text.starts_with("sg-")),
        1 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
    ]
}

fn rule_description() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ._:/()#,@\\[\\]+=;{}!$*-]{0,20}"
}

fn device() -> impl Strategy<Value = String> {
    "[^/: \\s\\x00\\x0b\\u{80}-\\u{10ffff}]{1,12}|eth[0-9]|é\u{2028}"
        .prop_filter("a device", |text| !matches!(text.as_str(), "." | "..") && text.len() <= 15)
}

/// What the compiler's tests leave at its default.
fn decorated() -> impl Strategy<Value = Policy> {
    let words = (
        prop::collection::vec(name(), 24),
        prop::collection::vec(rule_description(), 24),
        prop::collection::hash_set(device(), 8),
        any::<[u16; 8]>(),
        any::<bool>(),
    );
    (compile_support::policy(), words).prop_map(|(mut policy, words)| {
        let (names, texts, devices, numbers, cut) = words;
        let mut devices = devices.into_iter();
        policy.live_flows = if cut { LiveFlows::Cut } else { LiveFlows::Keep };
        policy.quotas.rules_per_direction = 60 + usize::from(numbers[0] % 100);
        policy.quotas.groups_per_vpc = 100 + usize::from(numbers[1]);
        for (number, vpc) in policy.vpcs.iter_mut().enumerate() {
            vpc.cidrs = vec![
                "10.0.0.0/15".parse().expect("a block"),
                "fd00:16::/56".parse().expect("a block"),
            ];
            vpc.name = format!("{}{number}", names[number]);
            for (index, group) in vpc.groups.iter_mut().enumerate().skip(1) {
                group.name = format!("{index}{}", names[4 + index]);
                group.description = texts[index].clone();
            }
            for group in &mut vpc.groups {
                group.ingress.retain(is_expressible);
                group.egress.retain(is_expressible);
            }
            for (index, rule) in rules(vpc).enumerate() {
                rule.description = texts[index % texts.len()].clone();
                rule.expires = (index % 5 == 0).then(|| u64::from(numbers[2]) * 70_000);
            }
            for (index, list) in vpc.prefix_lists.iter_mut().enumerate() {
                list.name = format!("{index}{}", names[8 + index]);
                list.max_entries = (numbers[3] % 2 == 0).then(|| list.cidrs.len() + 1 + index);
            }
            let mut taken: Vec<ipnet::IpNet> = Vec::new();
            for (index, interface) in vpc.interfaces.iter_mut().enumerate() {
                interface.name = format!("{number}{index}{}", names[12 + index]);
                interface.devices = devices.by_ref().take(index % 3).collect();
                let meets = |net: &ipnet::IpNet| {
                    taken.iter().any(|it| it.contains(net) || net.contains(it))
                };
                interface.addresses.retain(|net| !meets(net));
                taken.extend(&interface.addresses);
                interface.auto_addresses = interface.addresses.is_empty();
                if interface.auto_addresses {
                    interface.side = Side::Host;
                    interface.devices = vec![format!("auto{number}.{index}")];
                }
                interface.connection_tracking = ConnectionTracking {
                    udp: 30 + u32::from(numbers[4] % 31),
                    max_flows: (index == 1).then_some(7),
                    ..ConnectionTracking::default()
                };
            }
        }
        // The others have digits before them, which hides what YAML would make of the word alone.
        policy.vpcs[0].name.clone_from(&names[20]);
        policy.vpcs[0].groups[1].name.clone_from(&names[21]);
        policy.vpcs[0].interfaces[0].name.clone_from(&names[22]);
        policy.vpcs[0].prefix_lists[0].name.clone_from(&names[23]);
        let traffic = Traffic::Ports { protocol: 6, first: numbers[5], last: numbers[5] };
        policy.tests = vec![ReachabilityTest {
            from: Endpoint::Address("8.8.8.8".parse().expect("an address")),
            to: Endpoint::Interface { vpc: 1, interface: 2 },
            traffic,
            expect: Expect::Drop,
            line: 0,
        }];
        policy.tests.truncate(usize::from(policy.vpcs[1].interfaces[2].auto_addresses));
        policy
    })
}

fn rules(vpc: &mut Vpc) -> impl Iterator<Item = &mut Rule> {
    vpc.groups.iter_mut().flat_map(|group| group.ingress.iter_mut().chain(&mut group.egress))
}

/// Files take no ICMP of one family for a block of the other.
fn is_expressible(rule: &Rule) -> bool {
    match (rule.traffic, &rule.peer) {
        (Traffic::Icmp { protocol, .. }, Peer::Cidr(net)) => {
            (protocol == 1) == net.addr().is_ipv4()
        }
        _ => true,
    }
}

proptest! {
    #[test]
    fn generated_policies_survive(policy in decorated()) {
        check(policy);
    }
}
