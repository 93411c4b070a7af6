//! Flows as the model lists them, and which packets belong to which.

use std::net::IpAddr;

use sg_common::Direction;
use sg_common::wire::ip;

use crate::packet::{Body, Packet};
use crate::tcp::{Conversation, FIN, Kind, Phase, kind};
use crate::world::{TCP_ESTABLISHED, UDP, UDP_STREAM};

const SECOND: u64 = 1_000_000_000;

/// What tells flows of one interface apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) talk: Talk,
}

/// The part of a key behind the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talk {
    /// Local and remote port; zeros for protocols without.
    Ports(u16, u16),
    /// Who asked, identifier, type of the query.
    Query(Direction, u16, u8),
    /// Who sent it, type, code.
    OneWay(Direction, u8, u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) opener: Direction,
    pub(crate) deadline: u64,
    pub(crate) story: Story,
}

#[derive(Debug, Clone)]
pub(crate) enum Story {
    Tcp(Conversation),
    /// Who spoke last, and how often the word has passed from one end to the other.
    Other {
        last: Direction,
        turns: usize,
    },
}

impl Flow {
    fn phase(&self) -> Option<Phase> {
        match &self.story {
            Story::Tcp(conversation) => Some(conversation.phase),
            Story::Other { .. } => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase() == Some(Phase::Closed)
    }

    pub(crate) fn is_established(&self) -> bool {
        self.phase() == Some(Phase::Established)
    }

    pub(crate) fn is_attempt(&self) -> bool {
        !self.is_closed() && !self.is_established()
    }

    /// Rule 11, in nanoseconds.
    pub(crate) fn timeout(&self) -> u64 {
        let seconds = match (&self.story, self.key.protocol) {
            (Story::Tcp(conversation), _) => match conversation.phase {
                Phase::Asked | Phase::Middle | Phase::Answered => 20,
                Phase::Established => TCP_ESTABLISHED,
                Phase::Closed => 30,
            },
            // Request, response, request, response.
            (Story::Other { turns, .. }, ip::UDP) if *turns >= 3 => UDP_STREAM,
            (_, ip::UDP) => UDP,
            (_, ip::ICMP | ip::ICMPV6) => 30,
            _ => 600,
        };
        seconds * SECOND
    }
}

/// A packet as it speaks to the table of flows.
pub(crate) fn key(packet: &Packet) -> Key {
    let (sender, receiver) = (packet.direction, packet.direction.reverse());
    let talk = match &packet.body {
        Body::Icmp { kind, code, id } => match (packet.source.is_ipv4(), kind) {
            (true, 8 | 13) | (false, 128) => Talk::Query(sender, *id, *kind),
            (true, 0) => Talk::Query(receiver, *id, 8),
            (true, 14) => Talk::Query(receiver, *id, 13),
            (false, 129) => Talk::Query(receiver, *id, 128),
            _ => Talk::OneWay(sender, *kind, *code),
        },
        body @ (Body::Tcp(_)
        | Body::Udp { .. }
        | Body::Sctp { .. }
        | Body::Error { .. }
        | Body::Other { .. }) => {
            let (source, destination) = body.ports().unwrap_or_default();
            match sender {
                Direction::Ingress => Talk::Ports(destination, source),
                Direction::Egress => Talk::Ports(source, destination),
            }
        }
    };
    let (local, remote) = (packet.local(), packet.remote());
    Key { local, remote, protocol: packet.protocol(), talk }
}

/// Whether it may be the first of a flow, if a rule allows it.
pub(crate) fn may_open(packet: &Packet) -> bool {
    match &packet.body {
        Body::Tcp(segment) => match kind(segment.flags) {
            Kind::Syn => true,
            Kind::Plain => packet.direction == Direction::Ingress && segment.flags & FIN == 0,
            Kind::SynAck | Kind::Reset | Kind::Nonsense => false,
        },
        Body::Sctp { chunk, .. } => *chunk == 1,
        Body::Icmp { .. } => {
            !matches!(key(packet).talk, Talk::Query(asked, ..) if asked != packet.direction)
        }
        Body::Udp { .. } | Body::Other { .. } => true,
        Body::Error { .. } => false,
    }
}
