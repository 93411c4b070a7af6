//! Compilation at the size the design asks for, in time that grows with the input and not its square.
//!
//! `cargo test --release -p sg-userspace --test compile_scale -- --ignored --nocapture` prints numbers.

use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{
    ConnectionTracking, Dialect, Infrastructure, Interface, LiveFlows, Peer, PrefixList, Quotas,
    Rule, SecurityGroup, Side, Traffic, Vpc,
};

/// Prefix lists of the policy.
const LISTS: usize = 100;

/// Size of a policy.
struct Size {
    groups: usize,
    rules_per_group: usize,
    members: usize,
    local: usize,
    prefixes: usize,
}

/// A number that looks drawn, the same in every run.
fn drawn(seed: usize) -> usize {
    let mixed = (seed as u64 ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from(mixed >> 33).expect("31 bits")
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(index).expect("a small index"))
}

fn block(seed: usize) -> IpNet {
    let bits = u32::try_from(drawn(seed)).expect("31 bits") << 1;
    let length = u8::try_from(16 + seed % 17).expect("a length");
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(bits), length).trunc())
}

fn rules(size: &Size, group: usize) -> Vec<Rule> {
    let rule = |index: usize| {
        let seed = group * size.rules_per_group + index;
        let first = u16::try_from(drawn(seed) % 50_000).expect("a port");
        let last = first + if index.is_multiple_of(4) { 100 } else { 0 };
        let peer = match index % 4 {
            0 | 1 => Peer::Group(drawn(seed + 1) % size.groups),
            2 if index == 2 => Peer::Cidr("10.0.0.0/8".parse().expect("a block")),
            2 => Peer::Cidr(block(seed)),
            _ => Peer::PrefixList(drawn(seed) % LISTS),
        };
        let traffic = Traffic::Ports { protocol: 6, first, last };
        Rule { traffic, peer, description: String::new(), expires: None }
    };
    (0..size.rules_per_group).map(rule).collect()
}

fn interface(size: &Size, index: usize) -> Interface {
    let mut groups = vec![index % size.groups];
    if index.is_multiple_of(8) {
        groups.push((index + index / size.groups + 1) % size.groups);
        groups.sort_unstable();
        groups.dedup();
    }
    Interface {
        name: format!("interface-{index}"),
        addresses: vec![IpNet::V4(Ipv4Net::from(address(index)))],
        auto_addresses: false,
        groups,
        devices: Vec::new(),
        side: Side::Workload,
        source_dest_check: true,
        mac: None,
        connection_tracking: ConnectionTracking::default(),
    }
}

fn policy(size: &Size) -> Policy {
    let group = |index: usize| SecurityGroup {
        name: if index == 0 { "default".to_owned() } else { format!("group-{index}") },
        description: String::new(),
        ingress: rules(size, index),
        egress: vec![Rule {
            traffic: Traffic::All,
            peer: Peer::Cidr("0.0.0.0/0".parse().expect("a block")),
            description: String::new(),
            expires: None,
        }],
    };
    let list = |list: usize| {
        let blocks = (list..size.prefixes).step_by(LISTS).map(|index| block(index + 7));
        let mut cidrs: Vec<IpNet> = blocks.collect();
        cidrs.sort_unstable();
        cidrs.dedup();
        PrefixList { name: format!("list-{list}"), max_entries: None, cidrs }
    };
    let vpc = Vpc {
        name: "large".to_owned(),
        cidrs: vec!["10.0.0.0/8".parse().expect("a block")],
        subnets: Vec::new(),
        prefix_lists: (0..LISTS).map(list).collect(),
        groups: (0..size.groups).map(group).collect(),
        interfaces: (0..size.members).map(|index| interface(size, index)).collect(),
    };
    Policy {
        dialect: Dialect::Aws,
        live_flows: LiveFlows::Keep,
        infrastructure: Infrastructure::of(Dialect::Aws),
        quotas: Quotas::default(),
        vpcs: vec![vpc],
        tests: Vec::new(),
    }
}

/// Kilobytes of memory that the process has had at most.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.unwrap_or("VmHWM: unknown").to_owned()
}

fn timed(name: &str, size: &Size, policy: &Policy, previous: Option<&TableSpec>) -> TableSpec {
    let names: Vec<String> = (0..size.local).map(|index| format!("interface-{index}")).collect();
    let surroundings = Surroundings::of(names.iter().map(String::as_str));
    let start = Instant::now();
    let spec = compile(policy, &surroundings, previous).expect("a spec");
    println!("{name}: {:?}, {}, {:?}", start.elapsed(), peak(), spec.capacities());
    spec
}

#[test]
fn a_hundredth_of_the_size_compiles() {
    let size =
        Size { groups: 100, rules_per_group: 10, members: 10_000, local: 100, prefixes: 500 };
    let policy = policy(&size);
    let spec = timed("hundredth", &size, &policy, None);
    assert_eq!(timed("again", &size, &policy, Some(&spec)), spec);
}

#[test]
#[ignore = "takes gigabytes; for measuring"]
fn the_whole_size_compiles() {
    for local in [100, 1_000, 10_000] {
        let size = Size {
            groups: 10_000,
            rules_per_group: 10,
            members: 1_000_000,
            local,
            prefixes: 100_000,
        };
        let mut policy = policy(&size);
        println!("{local} local, policy alone: {}", peak());
        let spec = timed("from nothing", &size, &policy, None);
        policy.vpcs[0].groups[3].ingress.pop();
        policy.vpcs[0].interfaces[5].groups = vec![9];
        timed("after an edit", &size, &policy, Some(&spec));
    }
}
