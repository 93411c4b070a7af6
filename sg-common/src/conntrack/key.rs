//! From a packet to the key of its flow, and to what rules look at.

use crate::abi::{FlowKey, FlowKind};
use crate::wire::icmp::{self, Message};
use crate::wire::ip::{self, IpHeader};
use crate::wire::transport::Transport;
use crate::work::Work;
use crate::{Address, Be16, Direction, Family, Reason};

/// Writes the key of the packet's flow, its tag, and the port that rules look at.
///
/// # Errors
/// [`Reason::IcmpError`]: such a message belongs to no flow of its own.
#[inline(always)]
pub(crate) fn classify<A: Address>(
    slot: u16,
    direction: Direction,
    work: &mut Work<A>,
) -> Result<(), Reason> {
    let header = &work.header;
    let (local, remote) = ends(direction, header);
    let ends = match &work.transport {
        Transport::Tcp(segment) => ports(direction, segment.source, segment.destination),
        Transport::Udp(source, destination) => ports(direction, *source, *destination),
        Transport::Sctp(head) => ports(direction, head.source, head.destination),
        Transport::Icmp(message) => {
            message_ends(A::FAMILY, direction, message).ok_or(Reason::IcmpError)?
        }
        Transport::Other => {
            let ends = ports(direction, Be16::default(), Be16::default());
            // Rules of the other family's ICMP by type are not about it.
            let rule_port = if is_icmp(header.protocol) { NO_MESSAGE } else { ends.rule_port };
            Ends { rule_port, ..ends }
        }
    };
    work.key = FlowKey {
        local,
        remote,
        local_port: ends.local,
        remote_port: ends.remote,
        slot: Be16::new(slot),
        protocol: header.protocol,
        kind: ends.kind as u8,
    };
    work.rule_port = ends.rule_port;
    work.tag = work.key.tag();
    Ok(())
}

/// A type and code that no message has (RFC 4443, section 2.1: reserved).
const NO_MESSAGE: Be16 = Be16::from_bytes([255, 255]);

const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ip::ICMP | ip::ICMPV6)
}

/// The local and the remote address of a packet that travels in `direction`.
#[inline(always)]
pub(crate) fn ends<A: Address>(direction: Direction, header: &IpHeader<A>) -> (A, A) {
    match direction {
        Direction::Ingress => (header.destination, header.source),
        Direction::Egress => (header.source, header.destination),
    }
}

/// Writes the key of the datagram that a fragment is part of. IPv4 identifies one by its protocol too
/// (RFC 791); IPv6 does not (RFC 8200, section 4.5).
#[inline(always)]
pub(crate) fn datagram<A: Address>(
    slot: u16,
    direction: Direction,
    header: &IpHeader<A>,
    key: &mut FlowKey<A>,
) {
    let (local, remote) = ends(direction, header);
    let [a, b, c, d] = header.fragment_id.to_be_bytes();
    key.local = local;
    key.remote = remote;
    key.local_port = Be16::from_bytes([a, b]);
    key.remote_port = Be16::from_bytes([c, d]);
    key.slot = Be16::new(slot);
    key.protocol = match A::FAMILY {
        Family::V4 => header.protocol,
        Family::V6 => 0,
    };
    // Datagrams of both directions may have the same identification.
    key.kind = match direction {
        Direction::Ingress => FlowKind::DatagramIn,
        Direction::Egress => FlowKind::DatagramOut,
    } as u8;
}

/// The part of a key that comes from the transport header.
pub(crate) struct Ends {
    pub(crate) local: Be16,
    pub(crate) remote: Be16,
    pub(crate) kind: FlowKind,
    rule_port: Be16,
}

#[inline(always)]
pub(crate) fn ports(direction: Direction, source: Be16, destination: Be16) -> Ends {
    let (local, remote) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    Ends { local, remote, kind: FlowKind::Ports, rule_port: destination }
}

/// A query and its reply share a key, which says who asked: both ends may use the same identifier.
#[inline(always)]
pub(crate) fn message_ends(
    family: Family,
    direction: Direction,
    message: &Message,
) -> Option<Ends> {
    let (asked_by, answered, one_way) = match direction {
        Direction::Ingress => {
            (FlowKind::QueryByRemote, FlowKind::QueryByLocal, FlowKind::OneWayByRemote)
        }
        Direction::Egress => {
            (FlowKind::QueryByLocal, FlowKind::QueryByRemote, FlowKind::OneWayByLocal)
        }
    };
    let (local, remote, kind) = match message.classify(family) {
        icmp::Kind::Error => return None,
        icmp::Kind::Query => (message.identifier, message.kind, asked_by),
        icmp::Kind::Reply(query) => (message.identifier, query, answered),
        icmp::Kind::OneWay => (Be16::new(message.kind.into()), message.code, one_way),
    };
    let rule_port = Be16::from_bytes([message.kind, message.code]);
    Some(Ends { local, remote: Be16::new(remote.into()), kind, rule_port })
}
