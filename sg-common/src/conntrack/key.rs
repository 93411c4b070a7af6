//! From a packet to the key of its flow, and to what rules look at.

use crate::abi::{FlowKey, FlowKind};
use crate::wire::icmp::{self, Message};
use crate::wire::ip::IpHeader;
use crate::wire::transport::Transport;
use crate::{Address, Be16, Direction};

/// Key of a packet's flow, and the destination port (ICMP: type and code) by which a rule would let it
/// open one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classified<A> {
    pub(crate) key: FlowKey<A>,
    pub(crate) rule_port: Be16,
}

/// `None`: an ICMP error, which belongs to no flow of its own.
#[inline(always)]
pub(crate) fn classify<A: Address>(
    slot: u16,
    direction: Direction,
    header: &IpHeader<A>,
    transport: &Transport,
) -> Option<Classified<A>> {
    let (local, remote) = match direction {
        Direction::Ingress => (header.destination, header.source),
        Direction::Egress => (header.source, header.destination),
    };
    let blank = FlowKey {
        local,
        remote,
        local_port: Be16::default(),
        remote_port: Be16::default(),
        slot: Be16::new(slot),
        protocol: header.protocol,
        kind: FlowKind::Ports as u8,
    };
    match transport {
        Transport::Tcp(segment) => Some(ports(blank, direction, segment.source, segment.destination)),
        Transport::Udp(source, destination) => Some(ports(blank, direction, *source, *destination)),
        Transport::Sctp(head) => Some(ports(blank, direction, head.source, head.destination)),
        Transport::Icmp(message) => message_key(blank, direction, message),
        Transport::Other => Some(Classified { key: blank, rule_port: Be16::default() }),
    }
}

#[inline(always)]
fn ports<A: Address>(
    blank: FlowKey<A>,
    direction: Direction,
    source: Be16,
    destination: Be16,
) -> Classified<A> {
    let (local_port, remote_port) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    Classified { key: FlowKey { local_port, remote_port, ..blank }, rule_port: destination }
}

/// A query and its reply share a key, which says who asked: both ends may use the same identifier.
#[inline(always)]
fn message_key<A: Address>(
    blank: FlowKey<A>,
    direction: Direction,
    message: &Message,
) -> Option<Classified<A>> {
    let (asked_by, one_way) = match direction {
        Direction::Ingress => (FlowKind::QueryByRemote, FlowKind::OneWayByRemote),
        Direction::Egress => (FlowKind::QueryByLocal, FlowKind::OneWayByLocal),
    };
    let answered = match direction {
        Direction::Ingress => FlowKind::QueryByLocal,
        Direction::Egress => FlowKind::QueryByRemote,
    };
    let (local_port, remote_port, kind) = match message.classify(A::FAMILY) {
        icmp::Kind::Error => return None,
        icmp::Kind::Query => (message.identifier, Be16::new(message.kind.into()), asked_by),
        icmp::Kind::Reply(query) => (message.identifier, Be16::new(query.into()), answered),
        icmp::Kind::OneWay => {
            (Be16::new(message.kind.into()), Be16::new(message.code.into()), one_way)
        }
    };
    let key = FlowKey { local_port, remote_port, kind: kind as u8, ..blank };
    Some(Classified { key, rule_port: Be16::from_bytes([message.kind, message.code]) })
}
