//! Policy files and what they compile to, what their `tests:` say, and what the engine leaves behind.

use std::collections::BTreeMap;

use sg_common::abi::{CLASS_ANYONE_V4, EventKind, InterfaceFlags};
use sg_common::{Direction, LinkLayer, Reason, V4, Verdict};
use sg_userspace::compile::{CompileError, PeerName, Surroundings, TableSpec, compile};
use sg_userspace::engine::{HostTables, Limits, NoSlot, Outcome, Probe, packet, reach, run_tests};
use sg_userspace::policy::model::Traffic;
use sg_userspace::policy::{Policy, load};

const SAMPLE: &str = r#"
dialect: aws
vpcs:
  - name: prod
    cidrs: [172.16.0.0/16, "fd00:16::/56"]
    subnets: [172.16.1.0/24, 172.16.32.0/24]
    prefix_lists:
      - {name: office, cidrs: [203.0.113.0/24]}
    security_groups:
      - name: bastion
        ingress:
          - {type: ssh, from: {prefix_list: office}, description: head office}
      - name: alb
        ingress:
          - {type: http, from: [0.0.0.0/0, "::/0"]}
      - name: empty
      - name: backend
        ingress:
          - {protocol: tcp, ports: 22, from: {group: bastion}}
          - {protocol: tcp, ports: [80, 8000-8080], from: {group: alb}}
          - {protocol: icmp, icmp_type: 8, from: 172.16.0.0/16}
          - {protocol: udp, ports: 53, from: {group: empty}}
        egress: []
    interfaces:
      - {name: backend-1, addresses: [172.16.32.10, "fd00:16:0:32::10"], groups: [backend], device: veth-b1, side: workload}
      - {name: backend-2, addresses: [172.16.32.11], groups: [backend], device: veth-b2, side: workload, mac: "02:00:00:00:00:05"}
      - {name: backend-3, addresses: [172.16.9.1], groups: [backend], device: veth-b3, side: workload}
      - {name: alb-1, addresses: [172.16.1.10, "fd00:16:0:1::/64"], groups: [alb]}
      - {name: alb-2, addresses: [172.16.1.11], groups: [alb, bastion]}
      - {name: outsider, addresses: [172.16.1.12]}
tests:
  - {from: 198.51.100.7, to: alb-1, protocol: tcp, port: 80, expect: allow}
  - {from: 198.51.100.7, to: alb-1, protocol: tcp, port: 22, expect: drop}
  - {from: alb-1, to: backend-1, protocol: tcp, port: 22, expect: drop}
  - {from: alb-2, to: backend-1, protocol: tcp, port: 22, expect: allow}
  - {from: alb-1, to: backend-1, protocol: tcp, port: 8064, expect: allow}
  - {from: outsider, to: backend-1, protocol: icmp, expect: allow}
  - {from: backend-1, to: alb-1, protocol: tcp, port: 80, expect: drop}
  - {from: backend-1, to: 169.254.169.254, protocol: tcp, port: 80, expect: allow}
  - {from: backend-1, to: 172.16.0.2, protocol: udp, port: 53, expect: allow}
  - {from: "2001:db8::1", to: alb-1, protocol: tcp, port: 80, expect: allow}
  - {from: "fd00:16:0:1::77", to: backend-1, protocol: tcp, port: 80, expect: allow}
  - {from: alb-1, to: backend-1, protocol: icmpv6, expect: drop}
"#;

fn policy(text: &str) -> Policy {
    load("policy.yaml", text).expect("a policy").policy
}

fn spec(policy: &Policy) -> TableSpec {
    compile(policy, &Surroundings::with_devices(policy), None).expect("a spec")
}

const fn tcp(port: u16) -> Traffic {
    Traffic::Ports { protocol: 6, first: port, last: port }
}

fn probe(direction: Direction, local: &str, remote: &str, traffic: Traffic) -> Probe {
    let address = |text: &str| text.parse().expect("an address");
    Probe::new(direction, address(local), address(remote), traffic)
}

/// Reason and rule in words.
fn ask(spec: &TableSpec, interface: &str, probe: &Probe) -> (&'static str, String) {
    let slot = spec.slot(interface).expect("an interface");
    let answer = reach(spec, slot, probe).expect("an answer");
    let rule = answer.rule.map(|rule| rule.to_string()).unwrap_or_default();
    (answer.decision.reason.name(), rule)
}

#[test]
fn tests_of_the_file_pass() {
    let policy = policy(SAMPLE);
    let results = run_tests(&policy, &BTreeMap::new()).expect("results");
    for result in &results {
        assert!(result.passed(), "{result:?}");
    }
    let dropped = |index: usize| {
        let end = results[index].dropped_by().expect("a drop");
        (end.interface.as_str(), end.direction, end.answer.decision.reason)
    };
    assert_eq!(dropped(2), ("backend-1", Direction::Ingress, Reason::NoRule));
    assert_eq!(dropped(6), ("backend-1", Direction::Egress, Reason::NoRule));
    let Outcome::Judged(ends) = &results[4].outcome else { panic!("judged") };
    let rules: Vec<_> = ends.iter().filter_map(|end| end.answer.rule.as_ref()).collect();
    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        ["group alb egress all to 0.0.0.0/0", "group backend ingress tcp/8000-8080 from group alb"]
    );
}

#[test]
fn a_failing_test_says_so() {
    let wrong = SAMPLE
        .replace("protocol: tcp, port: 22, expect: drop", "protocol: tcp, port: 22, expect: allow");
    let results = run_tests(&policy(&wrong), &BTreeMap::new()).expect("results");
    let failed: Vec<_> = results.iter().filter(|it| !it.passed()).map(|it| it.verdict()).collect();
    assert_eq!(failed, [Some(Verdict::Drop); 2]);
}

/// IPv4 addresses that are in some group's class.
fn members(spec: &TableSpec) -> Vec<String> {
    let is_group = |peer: &u32| matches!(spec.peers[peer].name, PeerName::Group(_));
    let hosts = spec.v4.hosts.iter().filter(|(_, class)| spec.classes[class].iter().any(is_group));
    hosts.map(|((_, address), _)| address.to_string()).collect()
}

#[test]
fn only_what_local_policies_name_is_compiled() {
    let spec = spec(&policy(SAMPLE));
    let names: Vec<_> = spec.interfaces.values().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["backend-1", "backend-2", "backend-3"]);
    assert_eq!(members(&spec), ["172.16.1.10", "172.16.1.11"], "alb and bastion, nobody else");
    let cidrs: Vec<_> = spec.v6.cidrs.keys().map(ToString::to_string).collect();
    assert!(cidrs.contains(&"fd00:16:0:1::/64".to_owned()), "{cidrs:?}");
    assert!(!spec.rules.values().any(|rule| rule.to_string().contains("office")));
    let counts = spec.capacities();
    assert_eq!((counts.interfaces, counts.own_v4, counts.own_v6), (3, 3, 1));
    // And the link-local services, the name server and two subnets' routers: no block around them holds their class.
    assert_eq!(counts.hosts_v4, 2 + 6 + 1 + 2);
}

#[test]
fn interfaces_of_one_subnet_share_a_policy() {
    let spec = spec(&policy(SAMPLE));
    let number = |name| spec.interfaces[&spec.slot(name).expect(name)].version.policy;
    assert_eq!(number("backend-1"), number("backend-2"));
    assert_ne!(number("backend-1"), number("backend-3"), "its router is the VPC's");
    let gre = Traffic::Protocol(47);
    for (name, local, router) in
        [("backend-1", "172.16.32.10", "172.16.32.1"), ("backend-3", "172.16.9.1", "172.16.0.1")]
    {
        let (reason, rule) = ask(&spec, name, &probe(Direction::Egress, local, router, gre));
        assert_eq!(reason, "rule");
        assert_eq!(rule, format!("infrastructure subnet_router egress all to {router}/32"));
    }
    let other = probe(Direction::Egress, "172.16.32.10", "172.16.0.1", gre);
    assert_eq!(ask(&spec, "backend-1", &other).0, "no_rule");
    let arrives = probe(Direction::Ingress, "172.16.32.10", "172.16.32.1", gre);
    assert_eq!(ask(&spec, "backend-1", &arrives).0, "no_rule", "egress only");
}

#[test]
fn flags_follow_the_file() {
    let text = SAMPLE.replace("dialect: aws", "infrastructure: {arp: false, dns: false}");
    let policy = policy(&text);
    let spec = spec(&policy);
    let version = |name| spec.interfaces[&spec.slot(name).expect(name)].version;
    let on = InterfaceFlags::DHCP
        | InterfaceFlags::NEIGHBOUR_DISCOVERY
        | InterfaceFlags::ROUTER_DISCOVERY
        | InterfaceFlags::MULTICAST_LISTENER
        | InterfaceFlags::SOURCE_CHECK;
    assert_eq!(version("backend-1").flags, on);
    assert_eq!(version("backend-2").flags, on | InterfaceFlags::MAC);
    assert_eq!(version("backend-2").mac, [2, 0, 0, 0, 0, 5]);
    let dns = Traffic::Ports { protocol: 17, first: 53, last: 53 };
    let resolver = probe(Direction::Egress, "172.16.32.10", "172.16.0.2", dns);
    assert_eq!(ask(&spec, "backend-1", &resolver).0, "no_rule");
}

#[test]
fn everybody_costs_one_permit_whatever_the_classes() {
    let text = SAMPLE.replace("        egress: []\n", "").replace(
        "      - {name: alb-1,",
        "      - {name: alb-0, addresses: [172.16.1.9], groups: [alb], device: eth0}\n      - {name: alb-1,",
    );
    let text = text.replace("dialect: aws", "infrastructure: {dns: false, metadata: false, time: false, licences: false, subnet_router: false}");
    let policy = policy(&text);
    let spec = compile(&policy, &Surroundings::of(["alb-0"]), None).expect("a spec");
    let number = spec.interfaces[&0].version.policy;
    let of = |direction| {
        let keys = spec.permits.keys();
        let of = keys.filter(|it| it.policy == number && it.direction == direction);
        of.filter(|it| !it.some_port).count()
    };
    assert_eq!((of(Direction::Ingress), of(Direction::Egress)), (2, 2), "one per family");
    assert!(spec.permits.keys().any(|it| it.class == CLASS_ANYONE_V4));
    let some_port = spec.permits.keys().filter(|it| it.policy == number && it.some_port);
    assert_eq!(some_port.count(), 2, "for fragments that come early, where the port is not open");
}

const KAKAO: &str = r#"
dialect: kakao
vpcs:
  - name: k
    cidrs: [10.0.0.0/16]
    security_groups:
      - name: plain
        egress: [{protocol: all, to: 0.0.0.0/0}]
      - name: metadata
        egress: [{protocol: tcp, ports: 80, to: 169.254.169.0/24}]
      - name: shorter
        egress: [{protocol: all, to: 168.0.0.0/7}]
    interfaces:
      - {name: in-default, addresses: [10.0.0.5], device: d0}
      - {name: in-plain, addresses: [10.0.0.6], groups: [plain], device: d1}
      - {name: in-metadata, addresses: [10.0.0.7], groups: [plain, metadata], device: d2}
      - {name: in-shorter, addresses: [10.0.0.8], groups: [shorter], device: d3}
"#;

#[test]
fn kakao_keeps_link_local_out_of_everybody() {
    let spec = spec(&policy(KAKAO));
    for (name, local, remote, port, reason) in [
        ("in-default", "10.0.0.5", "169.254.169.254", 80, "rule"),
        ("in-default", "10.0.0.5", "8.8.8.8", 80, "rule"),
        ("in-plain", "10.0.0.6", "169.254.169.254", 80, "no_rule"),
        ("in-plain", "10.0.0.6", "169.253.1.1", 80, "rule"),
        ("in-metadata", "10.0.0.7", "169.254.169.254", 80, "rule"),
        ("in-metadata", "10.0.0.7", "169.254.169.254", 81, "no_rule"),
        ("in-shorter", "10.0.0.8", "169.254.169.254", 80, "rule"),
    ] {
        let (found, rule) = ask(&spec, name, &probe(Direction::Egress, local, remote, tcp(port)));
        assert_eq!(found, reason, "{name} {remote} {port} {rule}");
    }
    let default = probe(Direction::Egress, "10.0.0.5", "169.254.1.1", tcp(443));
    assert_eq!(ask(&spec, "in-default", &default).1, "group default egress all to 0.0.0.0/0");
}

#[test]
fn a_change_of_dialect_is_a_change_of_policy() {
    let old = policy(&KAKAO.replace("kakao", "aws"));
    let old = compile(&old, &Surroundings::of(["in-default"]), None).expect("a spec");
    let new = policy(KAKAO);
    let new = compile(&new, &Surroundings::of(["in-default"]), Some(&old)).expect("a spec");
    assert!(new.policies.keys().all(|number| !old.policies.contains_key(number)));
}

#[test]
fn automatic_addresses_are_the_caller_s() {
    let text = r#"
vpcs:
  - name: v
    cidrs: [10.0.0.0/16]
    interfaces:
      - {name: me, addresses: auto, device: eth0}
      - {name: peer, addresses: [10.0.0.9], device: eth1, side: workload}
tests:
  - {from: peer, to: me, protocol: tcp, port: 80, expect: allow}
"#;
    let policy = policy(text);
    let mut surroundings = Surroundings::with_devices(&policy);
    let nothing = compile(&policy, &surroundings, None).expect("a spec");
    assert_eq!(members(&nothing), ["10.0.0.9"]);
    let has = ["10.0.0.5/24", "10.0.0.6/32"].map(|text| text.parse().expect(text));
    surroundings.addresses.insert("me".to_owned(), has.to_vec());
    let spec = compile(&policy, &surroundings, Some(&nothing)).expect("a spec");
    let own: Vec<_> = spec.v4.own.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.0.0.5/32", "10.0.0.6/32", "10.0.0.9/32"]);
    assert_eq!(members(&spec), ["10.0.0.5", "10.0.0.6", "10.0.0.9"]);
    let results = run_tests(&policy, &BTreeMap::new()).expect("results");
    assert!(matches!(results[0].outcome, Outcome::NoCommonFamily) && !results[0].passed());
    let results = run_tests(&policy, &surroundings.addresses).expect("results");
    assert!(results[0].passed());
}

#[test]
fn what_is_not_there_is_an_error() {
    let policy = policy(SAMPLE);
    let unknown = compile(&policy, &Surroundings::of(["nobody"]), None);
    assert_eq!(unknown, Err(CompileError::NoInterface("nobody".to_owned())));
    let spec = spec(&policy);
    assert_eq!(HostTables::new(&spec, 7, Limits::default()).err(), Some(NoSlot(7)));
    assert_eq!(spec.slot("alb-1"), None);
}

#[test]
fn a_description_changes_no_number() {
    let old = spec(&policy(SAMPLE));
    let text = SAMPLE.replace("ports: 22, from", "ports: 22, description: changed, from");
    let new = policy(&text);
    let new = compile(&new, &Surroundings::with_devices(&new), Some(&old)).expect("a spec");
    assert_ne!(new.rules, old.rules);
    assert_eq!(TableSpec { rules: old.rules.clone(), ..new }, old);
}

#[test]
fn flows_live_on_under_another_spec() {
    let before = policy(SAMPLE);
    let old = spec(&before);
    let slot = old.slot("backend-1").expect("a slot");
    let tables = HostTables::new(&old, slot, Limits::default()).expect("tables");
    let opening = probe(Direction::Ingress, "172.16.32.10", "172.16.1.10", tcp(80));
    let syn = packet(&opening, None).expect("a frame");
    let judge = |tables: &HostTables<'_>, now| {
        tables.judge(&syn, Direction::Ingress, LinkLayer::Ethernet, now).reason
    };
    assert_eq!(judge(&tables, 1), Reason::Rule);
    assert_eq!(judge(&tables, 2), Reason::Flow);
    assert_eq!(tables.half_open::<V4>(Direction::Ingress).len(), 1);
    assert_eq!(tables.established::<V4>().len(), 0);

    let closed = policy(&SAMPLE.replace("ports: [80, 8000-8080]", "ports: 81"));
    let surroundings = Surroundings::with_devices(&closed);
    let new = compile(&closed, &surroundings, Some(&old)).expect("a spec");
    let later = tables.with(&new, slot).expect("the same slot");
    assert_eq!(judge(&later, 3), Reason::Flow, "live flows are kept");
    let other = later.with(&new, new.slot("backend-2").expect("a slot")).expect("tables");
    let elsewhere = probe(Direction::Ingress, "172.16.32.11", "172.16.1.10", tcp(80));
    let frame = packet(&elsewhere, None).expect("a frame");
    let decision = other.judge(&frame, Direction::Ingress, LinkLayer::Ethernet, 4);
    assert_eq!(decision.reason, Reason::NoRule);

    let counters = other.counters();
    let packets = |slot, reason| counters[&(slot, Direction::Ingress, reason)].packets;
    assert_eq!((packets(slot, Reason::Rule), packets(slot, Reason::Flow)), (1, 2));
    assert_eq!(packets(slot + 1, Reason::NoRule), 1);
    let kinds: Vec<_> = tables.take_events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Allow as u8, EventKind::Drop as u8]);
    assert!(other.events().is_empty());
}
