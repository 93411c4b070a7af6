//! Attacks on what counts flows and on what remembers datagrams, on the host's engine.

use std::net::Ipv4Addr;

use sg_common::abi::{
    Adopted, Adoption, AdoptionRequest, FlowFlags, FlowState, Forgetting, Forgotten,
};
use sg_common::{Address, Be16, Direction, LinkLayer, Reason, V4};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::engine::{HostTables, Limits};

const SECOND: u64 = 1_000_000_000;
const LOCAL: [u8; 4] = [10, 0, 0, 5];

fn spec(max_flows: u32) -> TableSpec {
    let policy = format!(
        "
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    security_groups:
      - name: web
        ingress: [{{protocol: tcp, ports: 80, from: 0.0.0.0/0}}]
        egress: [{{protocol: udp, ports: 53, to: 0.0.0.0/0}}]
    interfaces:
      - {{name: web, addresses: [10.0.0.5], groups: [web], connection_tracking: {{max_flows: {max_flows}}}}}
"
    );
    let loaded = sg_userspace::policy::load("attacks", &policy).unwrap_or_else(|e| panic!("{e:?}"));
    compile(&loaded.policy, &Surroundings::of(["web"]), None).expect("tables")
}

fn tables(spec: &TableSpec, limits: Limits) -> HostTables<'_> {
    HostTables::new(spec, spec.slot("web").expect("a slot"), limits).expect("tables")
}

fn conversation(request: AdoptionRequest, protocol: u8, state: FlowState, port: u16) -> Adoption {
    Adoption {
        family: 4,
        request: request as u8,
        local: V4::new(LOCAL).widen(),
        remote: V4::new([198, 51, 100, 7]).widen(),
        local_port: Be16::new(port),
        remote_port: Be16::new(53),
        protocol,
        state: state as u8,
        flags: if protocol == 6 { FlowFlags::OPENED_BY_REMOTE } else { 0 },
        ..Adoption::default()
    }
}

/// Adding over an entry that has expired replaces it: one flow, counted once.
#[test]
fn a_flow_that_is_entered_over_a_dead_one_counts_once() {
    use AdoptionRequest::{Add, Remove};
    let spec = spec(4);
    let tables = tables(&spec, Limits::default());
    let udp = |request, port| conversation(request, 17, FlowState::Stream, port);
    for round in 1..=8 {
        let now = round * 1000 * SECOND;
        assert_eq!(tables.adopt(&udp(Add, 1), now), Adopted::Allowed, "round {round}");
    }
    assert_eq!(tables.established::<V4>().len(), 1);
    let now = 8001 * SECOND;
    assert_eq!(tables.adopt(&udp(Remove, 1), now), Adopted::Removed);
    assert_eq!(tables.adopt(&udp(Add, 2), now), Adopted::Allowed, "nobody else is there");
}

/// What is taken out gives its element of the clock back, or the table is full of nobody.
#[test]
fn what_is_forgotten_makes_room() {
    use AdoptionRequest::{Add, Remove, Replace};
    let spec = spec(100);
    let limits = Limits { clock: 4, flows: 8, opening: 4, fragments: 4 };
    let tables = tables(&spec, limits);
    let tcp = |request, port| conversation(request, 6, FlowState::Adopted, port);
    for round in 0..8 {
        assert_eq!(tables.adopt(&tcp(Add, 80), SECOND), Adopted::Allowed, "round {round}");
        assert_eq!(tables.adopt(&tcp(Remove, 80), SECOND), Adopted::Removed);
    }
    for round in 0..8 {
        assert_eq!(tables.adopt(&tcp(Replace, 80), SECOND), Adopted::Allowed, "again {round}");
    }
}

/// So does what is flushed, once: its element, and its place among those of other protocols than TCP.
#[test]
fn what_is_flushed_makes_room() {
    use AdoptionRequest::Add;
    let spec = spec(100);
    let limits = Limits { clock: 4, flows: 8, opening: 4, fragments: 4 };
    let tables = tables(&spec, limits);
    let forget = |protocol, port, now| {
        let record = Forgetting {
            family: 4,
            protocol,
            local: V4::new(LOCAL).widen(),
            remote: V4::new([198, 51, 100, 7]).widen(),
            local_port: Be16::new(port),
            remote_port: Be16::new(53),
            slot: Be16::new(spec.slot("web").expect("a slot")),
            ..Forgetting::default()
        };
        tables.forget(&record, now)
    };
    for (protocol, state) in [(6, FlowState::Adopted), (17, FlowState::Stream)] {
        for round in 0..8 {
            let flow = conversation(Add, protocol, state, 80);
            assert_eq!(tables.adopt(&flow, SECOND), Adopted::Allowed, "{protocol}, {round}");
            assert_eq!(forget(protocol, 81, SECOND), Forgotten::Unknown);
            assert_eq!(forget(protocol, 80, SECOND), Forgotten::Gone);
            assert_eq!(forget(protocol, 80, SECOND), Forgotten::Unknown, "it went once");
        }
    }
    let events = tables.take_events();
    assert_eq!(events.len(), 16, "each flow's end was told: {events:?}");
    let udp = |port| tables.adopt(&conversation(Add, 17, FlowState::Stream, port), SECOND);
    assert_eq!([80, 81, 82].map(udp), [Adopted::Allowed, Adopted::Allowed, Adopted::Full]);
}

/// An IPv4 fragment without a link layer.
fn fragment(from: [u8; 4], to: [u8; 4], id: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(place.to_be_bytes());
    packet.extend([64, 17, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

fn first_of_udp(source: u16, destination: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(source.to_be_bytes());
    payload.extend(destination.to_be_bytes());
    payload.extend(40_u16.to_be_bytes());
    payload.extend([0; 18]);
    payload
}

/// Forged firsts that no rule allows, from nobody that may send anything, push out what is known of an
/// answer that is half there.
#[test]
fn firsts_that_no_rule_allows_evict_no_datagram_that_passes() {
    const MORE: u16 = 0x2000;
    let spec = spec(100);
    let limits = Limits { clock: 16, flows: 16, opening: 16, fragments: 64 };
    let tables = tables(&spec, limits);
    let ip = LinkLayer::Ip;
    let (peer, now) = ([198, 51, 100, 7], SECOND);
    let query = fragment(LOCAL, peer, 1, 0, &{
        let mut payload = first_of_udp(50000, 53);
        payload[4..6].copy_from_slice(&24_u16.to_be_bytes());
        payload
    });
    assert_eq!(tables.judge(&query, Direction::Egress, ip, now).reason, Reason::Rule);
    let first = fragment(peer, LOCAL, 7, MORE, &first_of_udp(53, 50000));
    assert_eq!(tables.judge(&first, Direction::Ingress, ip, now).reason, Reason::Flow);
    for host in 0..200_u32 {
        let forged = Ipv4Addr::from_bits(0xcb00_7100 + host).octets();
        let forged = fragment(forged, LOCAL, 7, MORE, &first_of_udp(53, 1));
        assert_eq!(tables.judge(&forged, Direction::Ingress, ip, now).reason, Reason::NoRule);
    }
    let rest = fragment(peer, LOCAL, 7, 3, &[0; 16]);
    assert_eq!(tables.judge(&rest, Direction::Ingress, ip, now).reason, Reason::Fragment);
}
