//! What happens, one thing after another: steps that speak of sequence numbers and quotes relative to what the
//! ends have sent so far, so that a step means the same when those before it are taken away.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::select;
use sg_common::Direction;

use crate::packet::{Body, Packet, Part, Quote, Segment};
use crate::tcp::{ACK, FIN, RST, SYN, modulo};
use crate::world::{HOSTS, LOCALS, PORTS, REMOTES, address};

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Seconds pass.
    Wait(u64),
    Packet(Send),
    /// SYN, SYN-ACK, ACK, the first of them sent in this direction.
    Handshake(Ends, Direction),
    /// Fragments of one datagram: its identification, and which of [`PIECES`].
    Fragments(Send, u16, Vec<usize>),
    /// Later fragments of as many datagrams whose first never comes.
    Spray(Send, u16),
}

/// Who talks: indices into the lists of the world, seen from the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    /// Which of the two interfaces.
    pub(crate) at: usize,
    pub(crate) v6: bool,
    pub(crate) local: usize,
    pub(crate) remote: usize,
    pub(crate) local_port: usize,
    pub(crate) remote_port: usize,
}

/// A packet to be made.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) ends: Ends,
    pub(crate) direction: Direction,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Flags, then how far off the numbers are from what its sender would say, then bytes of data.
    Tcp(u8, i64, i64, u32),
    Udp(usize),
    /// Type of its first chunk.
    Sctp(u8),
    /// Index into [`MESSAGES`], identifier.
    Icmp(usize, u16),
    Other(u8),
    Error(Quoting),
}

/// An ICMP error to be made.
#[derive(Debug, Clone)]
pub(crate) struct Quoting {
    /// Index into [`ERRORS`].
    pub(crate) kind: usize,
    /// What the other side is said to have sent.
    pub(crate) quoted: Box<What>,
    /// Index into the addresses of the sender's side.
    pub(crate) router: usize,
    /// Index into the addresses of the receiver's side; the quoted source is the right one.
    pub(crate) wrong_receiver: Option<usize>,
    /// Bytes of the quoted body.
    pub(crate) length: usize,
    /// Offset of the quoted fragment.
    pub(crate) fragment: Option<u16>,
}

/// Types of queries, replies and other messages, IPv4 and IPv6.
const MESSAGES: [[u8; 4]; 2] = [[8, 0, 13, 30], [128, 129, 128, 200]];
/// Types and codes of errors: unreachable, time exceeded, redirect, source quench; too big.
const ERRORS: [[(u8, u8); 5]; 2] =
    [[(3, 1), (3, 4), (11, 0), (5, 1), (4, 0)], [(1, 3), (2, 0), (3, 0), (4, 1), (100, 0)]];

/// Parts of a datagram: offset, length, more to come. The last is all of it.
pub(crate) const PIECES: [(u16, usize, bool); 9] = [
    (0, 32, true),
    (32, 16, false),
    (0, 24, true),
    (24, 24, false),
    (0, 16, true),
    (0, 8, true),
    (8, 8, true),
    (16, 16, true),
    (0, usize::MAX, false),
];

/// What the two ends of each conversation have sent so far.
#[derive(Debug, Default)]
pub(crate) struct Talks(HashMap<Ends, [u32; 2]>);

impl Talks {
    /// Close to where numbers wrap, for one end.
    const FIRST: [u32; 2] = [u32::MAX - 20, 5000];

    /// The packet that its sender makes now, told to the conversation.
    pub(crate) fn make(&mut self, send: &Send) -> Packet {
        let packet = self.draft(send);
        if let (Body::Tcp(segment), What::Tcp(flags, 0, _, length)) = (&packet.body, &send.what) {
            let syn_and_fin = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            let next = segment.sequence.wrapping_add(length + syn_and_fin);
            self.0.entry(send.ends).or_insert(Self::FIRST)[send.direction.index()] = next;
        }
        packet
    }

    fn draft(&self, send: &Send) -> Packet {
        let Send { ends, direction, what } = send;
        let local = address(LOCALS[usize::from(ends.v6)][ends.local]);
        let remote = address(REMOTES[usize::from(ends.v6)][ends.remote]);
        let (mut source, mut destination) = match direction {
            Direction::Ingress => (remote, local),
            Direction::Egress => (local, remote),
        };
        if let What::Error(quoting) = what {
            let of = |side: Direction, index: usize| match side {
                Direction::Ingress => address(LOCALS[usize::from(ends.v6)][index % 3]),
                Direction::Egress => address(REMOTES[usize::from(ends.v6)][index]),
            };
            source = of(direction.reverse(), quoting.router);
            destination = quoting.wrong_receiver.map_or(destination, |index| of(*direction, index));
        }
        let body = self.body(ends, *direction, what);
        Packet { direction: *direction, source, destination, body, part: None }
    }

    fn body(&self, ends: &Ends, direction: Direction, what: &What) -> Body {
        let ports = match direction {
            Direction::Ingress => (PORTS[ends.remote_port], PORTS[ends.local_port]),
            Direction::Egress => (PORTS[ends.local_port], PORTS[ends.remote_port]),
        };
        match what {
            What::Tcp(flags, sequence, acknowledgement, length) => {
                let next = self.0.get(ends).unwrap_or(&Self::FIRST);
                let off = |number: u32, by: i64| number.wrapping_add(modulo(by));
                Body::Tcp(Segment {
                    ports,
                    sequence: off(next[direction.index()], *sequence),
                    acknowledgement: off(next[direction.reverse().index()], *acknowledgement),
                    flags: *flags,
                    length: *length,
                })
            }
            What::Udp(length) => Body::Udp { ports, length: *length },
            What::Sctp(chunk) => Body::Sctp { ports, chunk: *chunk },
            What::Icmp(which, id) => {
                Body::Icmp { kind: MESSAGES[usize::from(ends.v6)][*which], code: 0, id: *id }
            }
            What::Other(protocol) => Body::Other { protocol: *protocol },
            What::Error(quoting) => {
                let (kind, code) = ERRORS[usize::from(ends.v6)][quoting.kind];
                let quoted = Send {
                    ends: *ends,
                    direction: direction.reverse(),
                    what: quoting.quoted.as_ref().clone(),
                };
                let Packet { source, destination, body, .. } = self.draft(&quoted);
                let (length, fragment) = (quoting.length, quoting.fragment);
                let body = Box::new(body);
                Body::Error {
                    kind,
                    code,
                    quote: Quote { source, destination, body, length, fragment },
                }
            }
        }
    }
}

impl Step {
    /// The packets of a step that has any. Identifications differ between times, so that no datagram lives
    /// on: how long one may is not in the contract.
    pub(crate) fn packets(&self, talks: &mut Talks, time: u16) -> Vec<(usize, Packet)> {
        match self {
            Self::Wait(_) => Vec::new(),
            Self::Packet(send) => vec![(send.ends.at, talks.make(send))],
            Self::Handshake(ends, opener) => {
                let segments = [(*opener, SYN), (opener.reverse(), SYN | ACK), (*opener, ACK)];
                let send = |(direction, flags)| {
                    let what = What::Tcp(flags, 0, 0, 0);
                    (ends.at, talks.make(&Send { ends: *ends, direction, what }))
                };
                segments.map(send).into()
            }
            Self::Fragments(send, id, pieces) => {
                let packet = talks.make(send);
                let piece = |&index: &usize| {
                    let (offset, mut length, more) = PIECES[index];
                    if offset == 0 && !more {
                        length = packet.body.bytes().len();
                    }
                    let part = Part { id: time * 8 + id, offset, length, more };
                    (send.ends.at, Packet { part: Some(part), ..packet.clone() })
                };
                pieces.iter().map(piece).collect()
            }
            Self::Spray(send, count) => {
                let packet = talks.make(send);
                let piece = |id| {
                    let part = Part { id: 40_000 + id, offset: 64, length: 8, more: true };
                    (send.ends.at, Packet { part: Some(part), ..packet.clone() })
                };
                (0..*count).map(piece).collect()
            }
        }
    }
}

fn ends() -> impl Strategy<Value = Ends> {
    let port = || prop_oneof![4 => Just(0_usize), 1 => 1..PORTS.len()];
    let far_port = || prop_oneof![4 => Just(3_usize), 1 => 0..PORTS.len()];
    // Mostly a service at one end and an ephemeral port at the other, so that packets meet.
    let ports = prop_oneof![3 => (port(), far_port()), 2 => (far_port(), port())];
    let local = prop_oneof![6 => Just(0_usize), 1 => 1..3_usize];
    let remote = prop_oneof![8 => 0..HOSTS, 1 => HOSTS..REMOTES[0].len()];
    let at = prop_oneof![4 => Just(0_usize), 1 => Just(1)];
    (at, any::<bool>(), local, remote, ports).prop_map(
        |(at, v6, local, remote, (local_port, remote_port))| Ends {
            at,
            v6,
            local,
            remote,
            local_port,
            remote_port,
        },
    )
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&Direction::ALL[..])
}

/// Off by how much; the last are beyond every window.
fn off() -> impl Strategy<Value = i64> {
    const OFFS: &[i64] =
        &[-1, 1, -10, 10, 1000, -1000, 65_535, 1 << 23, 1 << 25, -(1 << 25), 1 << 31];
    prop_oneof![5 => Just(0), 2 => select(OFFS)]
}

fn segment() -> impl Strategy<Value = What> {
    const USUAL: &[u8] = &[SYN, SYN | ACK, ACK, ACK, ACK | 8, FIN | ACK, FIN | ACK, RST, RST | ACK];
    let flags = prop_oneof![6 => select(USUAL), 1 => any::<u8>()];
    let length = prop_oneof![3 => Just(0_u32), 2 => Just(10), 1 => Just(1400)];
    (flags, off(), off(), length).prop_map(|(flags, sequence, acknowledgement, length)| {
        What::Tcp(flags, sequence, acknowledgement, length)
    })
}

fn plain_packet() -> impl Strategy<Value = What> {
    prop_oneof![
        8 => segment(),
        3 => (0..60_usize).prop_map(What::Udp),
        2 => select(&[1_u8, 1, 2, 0, 6, 14][..]).prop_map(What::Sctp),
        3 => (0..4_usize, 1..3_u16).prop_map(|(which, id)| What::Icmp(which, id)),
        1 => select(&[47_u8, 4, 255][..]).prop_map(What::Other),
    ]
}

fn error() -> impl Strategy<Value = What> {
    let kind = prop_oneof![3 => 0..3_usize, 1 => 3..5_usize];
    let receiver = prop_oneof![6 => Just(None), 1 => (0..HOSTS).prop_map(Some)];
    let length = prop_oneof![4 => Just(8_usize), 2 => Just(64), 1 => 0..40_usize];
    let fragment = prop_oneof![6 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(8))];
    (kind, plain_packet(), 0..REMOTES[0].len(), receiver, length, fragment).prop_map(
        |(kind, quoted, router, wrong_receiver, length, fragment)| {
            let quoted = Box::new(quoted);
            What::Error(Quoting { kind, quoted, router, wrong_receiver, length, fragment })
        },
    )
}

fn step(ends: Vec<Ends>) -> impl Strategy<Value = Step> {
    let ends = || select(ends.clone());
    let send = |what: BoxedStrategy<What>| {
        (ends(), direction(), what).prop_map(|(ends, direction, what)| Send {
            ends,
            direction,
            what,
        })
    };
    // Waits to both sides of every timeout.
    let wait = select(&[1_u64, 1, 9, 19, 20, 21, 29, 30, 31, 59, 60, 61, 119, 121, 601][..]);
    prop_oneof![
        16 => send(plain_packet().boxed()).prop_map(Step::Packet),
        3 => send(error().boxed()).prop_map(Step::Packet),
        3 => (ends(), direction()).prop_map(|(ends, opener)| Step::Handshake(ends, opener)),
        2 => (send(plain_packet().boxed()), 0..3_u16, prop::collection::vec(0..PIECES.len(), 1..5))
            .prop_map(|(send, id, pieces)| Step::Fragments(send, id, pieces)),
        2 => wait.prop_map(Step::Wait),
    ]
}

/// A history: few conversations, so that what happens in one meets what happened before.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(ends(), 1..4)
        .prop_flat_map(|ends| prop::collection::vec(step(ends), 1..60))
}
