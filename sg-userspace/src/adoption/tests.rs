//! Sockets to flows, and what packets make of those flows.

use sg_common::abi::Adopted;
use sg_common::{LinkLayer, Reason};

use Direction::{Egress, Ingress};

use super::*;
use crate::compile::{Surroundings, TableSpec, compile};
use crate::engine::{HostTables, Limits};

fn socket(protocol: u8, state: SocketState, local: &str, remote: &str) -> Socket {
    let address = |text: &str| text.parse().expect("an address and a port");
    Socket { protocol, state, local: address(local), remote: address(remote), unacknowledged: 0 }
}

fn own(address: IpAddr) -> bool {
    ["10.0.0.5", "fd00::5"].iter().any(|own| address == own.parse::<IpAddr>().expect("an address"))
}

fn tcp(local: &str, remote: &str) -> Socket {
    socket(ip::TCP, SocketState::Established, local, remote)
}

#[test]
fn a_listener_says_who_opened() {
    use SocketState::{Established, Listen, Unconnected};
    let nobody = "0.0.0.0:0";
    let sockets = [
        socket(ip::TCP, Listen, "[::]:22", "[::]:0"),
        socket(ip::TCP, Listen, "10.0.0.5:80", nobody),
        socket(ip::TCP, Listen, "10.0.0.6:81", nobody),
        socket(ip::UDP, Unconnected, "0.0.0.0:53", nobody),
        tcp("[::ffff:10.0.0.5]:22", "[::ffff:198.51.100.7]:40000"),
        tcp("10.0.0.5:80", "198.51.100.7:40001"),
        tcp("10.0.0.5:81", "198.51.100.7:40002"),
        tcp("10.0.0.5:53", "198.51.100.7:40003"),
        socket(ip::UDP, Established, "10.0.0.5:53", "198.51.100.7:40004"),
        socket(ip::UDP, Established, "10.0.0.5:22", "198.51.100.7:40005"),
        tcp("[fd00::5]:22", "[fd01::7]:40006"),
    ];
    let found = conversations(&sockets, own);
    let opened: BTreeMap<_, _> = found.iter().map(|one| (one.remote.port(), one.opened)).collect();
    let (remote, local) = (Ingress, Egress);
    let expected = [
        (40000, remote),
        (40001, remote),
        (40002, local),
        (40003, local),
        (40004, remote),
        (40005, local),
        (40006, remote),
    ];
    assert_eq!(opened, BTreeMap::from(expected));
    assert!(found.iter().all(|one| one.local.ip() == one.local.ip().to_canonical()));
}

#[test]
fn only_what_passes_the_device_is_adopted() {
    let sockets = [
        tcp("10.0.0.6:80", "198.51.100.7:1"),
        tcp("127.0.0.1:80", "127.0.0.1:2"),
        tcp("10.0.0.5:80", "10.0.0.5:3"),
        tcp("10.0.0.5:80", "10.0.0.6:4"),
        tcp("10.0.0.5:80", "10.0.0.6:4"),
    ];
    let found = conversations(&sockets, own);
    assert_eq!(found.iter().map(|one| one.remote.port()).collect::<Vec<_>>(), [4]);
}

#[test]
fn halves_that_are_closed_begin_closed() {
    use SocketState::{CloseWait, Established, FinWait1, FinWait2, LastAck};
    let (local, remote) = (FlowFlags::FIN_FROM_LOCAL, FlowFlags::FIN_FROM_REMOTE);
    for (state, unacknowledged, expected) in [
        (Established, 9, (FlowState::Adopted, 0)),
        (FinWait1, 1000, (FlowState::Adopted, 0)),
        (FinWait1, 1, (FlowState::Adopted, local)),
        (FinWait2, 0, (FlowState::Adopted, local)),
        (CloseWait, 5, (FlowState::Adopted, remote)),
        (LastAck, 1000, (FlowState::Adopted, remote)),
        (LastAck, 1, (FlowState::Closed, local | remote)),
    ] {
        let one = Socket { unacknowledged, ..socket(ip::TCP, state, "10.0.0.5:1", "10.9.9.9:2") };
        let found = conversations(&[one], own);
        assert_eq!((found[0].state, found[0].closed), expected, "{state:?} {unacknowledged}");
    }
}

#[test]
fn too_many_are_refused_with_what_would_do() {
    let one = conversations(&[tcp("10.0.0.5:1", "10.9.9.9:2")], own)[0];
    let udp = Conversation { protocol: ip::UDP, ..one };
    assert_eq!(check_room(&[one; 8], 8, 9), Ok(()));
    let overflow = Overflow { what: "IPv4 conversations", live: 9, room: 8, enough: 18 };
    assert_eq!(check_room(&[one; 9], 8, 9), Err(overflow));
    let overflow = Overflow { what: "UDP conversations", live: 3, room: 2, enough: 24 };
    assert_eq!(check_room(&[udp; 3], 8, 9), Err(overflow));
    let overflow = Overflow { what: "IPv4 conversations", live: 5, room: 4, enough: 20 };
    assert_eq!(check_room(&[one; 5], 8, 4), Err(overflow), "two interfaces share");
}

const POLICY: &str = r#"
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16, "fd00::/64"]
    security_groups:
      - name: web
        ingress: [{type: http, from: 0.0.0.0/0}]
        egress: [{protocol: udp, ports: 53, to: 0.0.0.0/0}]
    interfaces: [{name: web, addresses: [10.0.0.5, "fd00::5"], groups: [web]}]
"#;

fn spec() -> TableSpec {
    spec_with(POLICY)
}

fn spec_with(policy: &str) -> TableSpec {
    let Ok(loaded) = crate::policy::load("adopt", policy) else { panic!("a policy") };
    compile(&loaded.policy, &Surroundings::of(["web"]), None).expect("tables")
}

#[test]
fn rules_are_asked_in_the_direction_that_opened() {
    let listen = socket(ip::TCP, SocketState::Listen, "0.0.0.0:80", "0.0.0.0:0");
    let sockets = [
        listen,
        tcp("10.0.0.5:80", "198.51.100.7:40000"),
        tcp("10.0.0.5:50000", "198.51.100.7:80"),
        socket(ip::UDP, SocketState::Established, "10.0.0.5:50000", "198.51.100.7:53"),
    ];
    for (live_flows, denied) in [("keep", Adopted::Kept), ("cut", Adopted::Cut)] {
        let spec = spec_with(&format!("live_flows: {live_flows}\n{POLICY}"));
        let slot = spec.slot("web").expect("a slot");
        let tables = HostTables::new(&spec, slot, Limits::default()).expect("tables");
        let results: Vec<_> = conversations(&sockets, own)
            .iter()
            .map(|one| tables.adopt(&one.record(AdoptionRequest::Add), 1))
            .collect();
        let expected = [Adopted::Allowed, denied, Adopted::Allowed];
        assert_eq!(results, expected, "in to 80, out to 80, out to 53");
        let with_rule = tables.established::<V4>().iter().filter(|(_, flow)| flow.rule > 0).count();
        assert_eq!(with_rule, 2);
    }
}

#[test]
fn results_have_numbers() {
    for result in Adopted::ALL {
        assert_eq!(Adopted::from_number(result as u32), Some(result));
    }
    assert_eq!(Adopted::from_number(0), None);
}

/// A frame of an Ethernet header, IPv4 and TCP.
fn segment(direction: Direction, flags: &str, sequence: u32, acknowledgement: u32) -> Vec<u8> {
    let (mut local, mut remote) = (([10, 0, 0, 5], 50000), ([198, 51, 100, 7], 7000));
    if direction == Ingress {
        std::mem::swap(&mut local, &mut remote);
    }
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [2; 6])
        .ipv4(local.0, remote.0, 64)
        .tcp(local.1, remote.1, sequence, 1000);
    let builder = match flags {
        "A" => builder.ack(acknowledgement),
        "FA" => builder.fin().ack(acknowledgement),
        "R" => builder.rst(),
        "S" => builder.syn(),
        other => panic!("{other}"),
    };
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).expect("a frame");
    frame
}

/// Judges segments one after the other.
fn judge(tables: &HostTables<'_>, steps: &[(Direction, &str, u32, u32, Reason)]) {
    for (now, step) in (2..).zip(steps) {
        let &(direction, flags, sequence, acknowledgement, reason) = step;
        let frame = segment(direction, flags, sequence, acknowledgement);
        let decision = tables.judge(&frame, direction, LinkLayer::Ethernet, now);
        assert_eq!(decision.reason, reason, "{step:?}");
    }
}

fn states(tables: &HostTables<'_>) -> Vec<u8> {
    tables.established::<V4>().iter().map(|(_, flow)| flow.state).collect()
}

#[test]
fn an_adopted_flow_lives_without_a_rule_and_reopens_only_by_one() {
    let spec = spec();
    let slot = spec.slot("web").expect("a slot");
    let tables = HostTables::new(&spec, slot, Limits::default()).expect("tables");
    let found = conversations(&[tcp("10.0.0.5:50000", "198.51.100.7:7000")], own);
    let record = found[0].record(AdoptionRequest::Add);
    assert_eq!(tables.adopt(&record, 1), Adopted::Kept);
    assert_eq!(tables.adopt(&record, 1), Adopted::Known);
    judge(
        &tables,
        &[
            // Forged, and nothing is known yet.
            (Ingress, "R", 77, 0, Reason::Flow),
            (Ingress, "A", 77, 0, Reason::Flow),
            (Ingress, "R", 77, 0, Reason::Flow),
        ],
    );
    assert_eq!(states(&tables), [FlowState::Adopted as u8]);
    judge(
        &tables,
        &[
            (Egress, "A", 500, 100, Reason::Flow),
            (Ingress, "A", 100, 500, Reason::Flow),
            // A new connection between the same ports is judged as one.
            (Egress, "S", 9000, 0, Reason::NoRule),
            (Ingress, "S", 9000, 0, Reason::NoRule),
            (Ingress, "R", 99, 0, Reason::Flow),
        ],
    );
    assert_eq!(states(&tables), [FlowState::Established as u8]);
    judge(&tables, &[(Ingress, "R", 100, 0, Reason::Flow)]);
    assert_eq!(states(&tables), [FlowState::Closed as u8]);
    let replace = found[0].record(AdoptionRequest::Replace);
    assert_eq!(tables.adopt(&replace, 9), Adopted::Kept);
    assert_eq!(states(&tables), [FlowState::Adopted as u8]);
    let remove = found[0].record(AdoptionRequest::Remove);
    assert_eq!((tables.adopt(&remove, 9), states(&tables)), (Adopted::Removed, vec![]));
    judge(&tables, &[(Egress, "A", 500, 100, Reason::NoFlow)]);
}

#[test]
fn a_full_table_takes_no_more_and_keeps_what_it_has() {
    let spec = spec();
    let slot = spec.slot("web").expect("a slot");
    let limits = Limits { clock: 4, flows: 4, ..Limits::default() };
    let tables = HostTables::new(&spec, slot, limits).expect("tables");
    let results: Vec<_> = (1..=5)
        .map(|port| {
            let found = conversations(&[tcp("10.0.0.5:9", &format!("10.9.9.9:{port}"))], own);
            tables.adopt(&found[0].record(AdoptionRequest::Add), 1)
        })
        .collect();
    assert_eq!(results[..4], [Adopted::Kept; 4]);
    assert_eq!((results[4], states(&tables).len()), (Adopted::Full, 4));
}

#[test]
fn grace_learns_the_middle_of_connections_until_it_ends() {
    let (keep, cut) = (spec(), spec_with(&format!("live_flows: cut\n{POLICY}")));
    let slot = keep.slot("web").expect("a slot");
    let tables = |keeps_denied, until| {
        let spec = if keeps_denied { &keep } else { &cut };
        HostTables::new(spec, slot, Limits::default()).expect("tables").in_grace(until)
    };
    let first = |tables: &HostTables<'_>, direction, flags, reason| {
        judge(tables, &[(direction, flags, 500, 100, reason)]);
    };
    // The local end speaks first, then the remote one.
    let flows = tables(true, 100);
    first(&flows, Egress, "A", Reason::Adopted);
    judge(&flows, &[(Ingress, "R", 77, 0, Reason::Flow), (Ingress, "A", 100, 500, Reason::Flow)]);
    assert_eq!(states(&flows), [FlowState::Established as u8]);
    // The remote end first: its word alone establishes nothing.
    let flows = tables(true, 100);
    first(&flows, Ingress, "A", Reason::Adopted);
    judge(&flows, &[(Ingress, "A", 500, 100, Reason::Flow), (Ingress, "S", 1, 0, Reason::NoRule)]);
    assert!(states(&flows).is_empty());
    judge(&flows, &[(Egress, "A", 100, 500, Reason::Flow)]);
    assert_eq!(states(&flows), [FlowState::Established as u8]);
    judge(&flows, &[(Egress, "S", 1, 0, Reason::NoRule), (Ingress, "R", 500, 0, Reason::Flow)]);
    assert_eq!(states(&flows), [FlowState::Closed as u8]);
    // What opens a connection is judged by the rules, and so is everything after the grace.
    for (flags, reason) in [("S", Reason::NoRule), ("R", Reason::NoFlow), ("FA", Reason::NoFlow)] {
        first(&tables(true, 100), Ingress, flags, reason);
    }
    first(&tables(true, 100), Egress, "S", Reason::NoRule);
    first(&tables(true, 2), Egress, "A", Reason::NoFlow);
    first(&tables(true, 2), Ingress, "A", Reason::NoRule);
    // `live_flows: cut`: what no rule allows is not learnt.
    first(&tables(false, 100), Egress, "A", Reason::NoFlow);
    first(&tables(false, 100), Ingress, "A", Reason::NoRule);
}

#[test]
fn in_grace_only_the_local_end_starts_datagrams() {
    let spec = spec();
    let slot = spec.slot("web").expect("a slot");
    let tables = HostTables::new(&spec, slot, Limits::default()).expect("tables");
    let tables = tables.in_grace(100);
    let (local, remote) = (([10, 0, 0, 5], 4000), ([198, 51, 100, 7], 4001));
    let judge = |(source, source_port), (destination, port), direction, reason| {
        let mut frame = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [2; 6])
            .ipv4(source, destination, 64)
            .udp(source_port, port);
        builder.write(&mut frame, &[1]).expect("a frame");
        let decision = tables.judge(&frame, direction, LinkLayer::Ethernet, 2);
        assert_eq!(decision.reason, reason);
    };
    judge(remote, local, Ingress, Reason::NoRule);
    judge(local, remote, Egress, Reason::Adopted);
    judge(remote, local, Ingress, Reason::Flow);
}
