//! Histories of arbitrary packets through the engine on the host: no panic, and what must hold of every packet.
//!
//! An input is a byte that picks the policy, then records: one byte (bit 0: egress, bits 1 and 2: how much time
//! passes, bit 3: without a link layer), a length in two bytes, and the packet. `tests/src/bin/seeds.rs` writes them.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sg_common::abi::{Flow, FlowKey, FlowState};
use sg_common::{Direction, LinkLayer, Reason, V4, V6, Verdict};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::engine::{HostFamily, HostTables, Limits};
use sg_userspace::policy;

/// Interfaces as the cases have them (`tests/cases`), so that their packets are of use here.
const POLICIES: [&str; 4] = [
    "vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, 'fd00:16::/56']
    security_groups:
      - name: web
        ingress:
          - {protocol: tcp, ports: [22, 80], from: [0.0.0.0/0, '::/0']}
          - {protocol: udp, ports: 53, from: [198.51.100.0/24, '2001:db8::/32']}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
          - {protocol: icmpv6, from: '::/0'}
          - {protocol: sctp, from: 0.0.0.0/0}
        egress:
          - {protocol: udp, ports: 53, to: [0.0.0.0/0, '::/0']}
          - {protocol: tcp, ports: 443, to: 198.51.100.0/24}
    interfaces:
      - {name: own, addresses: [10.0.0.5, 'fd00:16::5'], groups: [web], SIDE}
",
    "vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, 'fd00:16::/56']
    interfaces:
      - {name: own, addresses: [10.0.0.5, 'fd00:16::5'], SIDE}
",
    "dialect: kakao
infrastructure: {dhcp: false}
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, 'fd00:16::/56']
    security_groups:
      - name: all
        ingress: [{protocol: all, from: [0.0.0.0/0, '::/0']}]
    interfaces:
      - {name: own, addresses: [10.0.0.5, 'fd00:16::5'], groups: [all], SIDE}
",
    "vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, 'fd00:16::/56']
    security_groups:
      - {name: none, egress: []}
    interfaces:
      - {name: own, addresses: [10.0.0.5, 'fd00:16::5'], groups: [none], SIDE}
",
];

const SIDES: [&str; 2] = ["side: host", "side: workload, mac: '02:00:00:00:00:01'"];

static SPECS: LazyLock<Vec<TableSpec>> = LazyLock::new(|| {
    let texts = POLICIES.iter().flat_map(|text| SIDES.map(|side| text.replace("SIDE", side)));
    let spec = |text: String| {
        let loaded = policy::load("fuzz", &text).unwrap_or_else(|rejected| {
            panic!("{}", rejected.diagnostics.render(policy::Style::OneLine))
        });
        compile(&loaded.policy, &Surroundings::of(["own"]), None).expect("a spec")
    };
    texts.map(spec).collect()
});

/// So few that tables overflow.
const LIMITS: Limits = Limits { clock: 8, flows: 8, opening: 4, fragments: 8 };
/// Nanoseconds to the next packet: none, to both sides of most timeouts.
const PAUSES: [u64; 4] = [0, 1_000_000_000, 29_000_000_000, 601_000_000_000];

/// Established flows that live, their counts left out.
type Established = BTreeMap<String, Flow>;

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let spec = &SPECS[usize::from(*first) % SPECS.len()];
    let slot = spec.slot("own").expect("the interface");
    let tables = HostTables::new(spec, slot, LIMITS).expect("its tables");
    let mut now = 1_000_000_000_000;
    let mut judged = 0;
    while let [head, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (packet, next) = behind.split_at(length);
        rest = next;
        now += PAUSES[usize::from(head >> 1 & 3)];
        let direction = Direction::ALL[usize::from(head & 1)];
        let link = if head & 8 == 0 { LinkLayer::Ethernet } else { LinkLayer::Ip };
        judged += 1;
        judge(&tables, packet, direction, link, now, judged);
        cut(spec, slot, packet, direction, link, now);
    }
});

fn judge(
    tables: &HostTables<'_>,
    packet: &[u8],
    direction: Direction,
    link: LinkLayer,
    now: u64,
    judged: u64,
) {
    let before = (established(tables, now), opening(tables, now));
    let decision = tables.judge(packet, direction, link, now);
    let after = (established(tables, now), opening(tables, now));
    if decision.verdict() == Verdict::Drop {
        let new = |key: &&String| !before.1.contains(key) && !before.0.contains_key(*key);
        assert_eq!(after.1.iter().find(new), None, "a drop opens a flow: {decision:?}");
        assert_eq!(after.0.keys().find(new), None, "a drop establishes a flow: {decision:?}");
    }
    for (key, flow) in &before.0 {
        let closed = flow.state == FlowState::Closed as u8;
        assert!(closed || after.0.contains_key(key), "{key} vanished: {decision:?}");
    }
    let counted: u64 = tables.counters().values().map(|counter| counter.packets).sum();
    assert_eq!(counted, judged);
}

/// A packet cut anywhere passes only if the whole one does. Where nothing came before: another packet's flow
/// may let either pass.
fn cut(
    spec: &TableSpec,
    slot: u16,
    packet: &[u8],
    direction: Direction,
    link: LinkLayer,
    now: u64,
) {
    let tables = HostTables::new(spec, slot, LIMITS).expect("its tables");
    let whole = tables.judge(packet, direction, link, now);
    if whole.verdict() == Verdict::Allow {
        return;
    }
    // Headers end early; of long packets every cut behind them tells the same.
    for length in 0..packet.len().min(160) {
        let part = tables.judge(&packet[..length], direction, link, now);
        let passes = part.verdict() == Verdict::Allow;
        assert!(!passes || is_not_ip(part.reason), "{length} bytes pass: {part:?}, all: {whole:?}");
    }
}

/// What is neither IP nor ARP passes a host's own device, however short.
fn is_not_ip(reason: Reason) -> bool {
    reason == Reason::OtherEthertype
}

fn established(tables: &HostTables<'_>, now: u64) -> Established {
    fn of<A: HostFamily + std::fmt::Debug>(tables: &HostTables<'_>, now: u64) -> Established {
        live(tables.established::<A>(), now).collect()
    }
    let mut all = of::<V4>(tables, now);
    all.extend(of::<V6>(tables, now));
    all
}

fn opening(tables: &HostTables<'_>, now: u64) -> Vec<String> {
    fn of<A: HostFamily + std::fmt::Debug>(tables: &HostTables<'_>, now: u64) -> Vec<String> {
        let flows = Direction::ALL.map(|opened| tables.half_open::<A>(opened)).concat();
        live(flows, now).map(|(key, _)| key).collect()
    }
    [of::<V4>(tables, now), of::<V6>(tables, now)].concat()
}

fn live<A: HostFamily + std::fmt::Debug>(
    flows: Vec<(FlowKey<A>, Flow)>,
    now: u64,
) -> impl Iterator<Item = (String, Flow)> {
    let alive = flows.into_iter().filter(move |(_, flow)| flow.deadline > now);
    alive.map(|(key, flow)| (format!("{key:?}"), flow))
}
