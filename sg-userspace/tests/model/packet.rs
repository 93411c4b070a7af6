//! Packets as the model sees them, and the bytes that the engine gets for them.

use std::net::IpAddr;

use sg_common::Direction;
use sg_common::wire::ip;

/// One packet, whole or a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) direction: Direction,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Body,
    pub(crate) part: Option<Part>,
}

/// What stands behind the IP header of the whole datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Tcp(Segment),
    Udp { ports: (u16, u16), length: usize },
    Sctp { ports: (u16, u16), chunk: u8 },
    Icmp { kind: u8, code: u8, id: u16 },
    Error { kind: u8, code: u8, quote: Quote },
    Other { protocol: u8 },
}

/// A TCP segment: source and destination port, numbers, flags, bytes of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) length: u32,
}

/// The beginning of a packet, quoted by an ICMP error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Box<Body>,
    /// How much of the body is quoted.
    pub(crate) length: usize,
    /// The quoted packet is a fragment at this offset, and more follow.
    pub(crate) fragment: Option<u16>,
}

/// A fragment: bytes of the datagram's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: u16,
    /// A multiple of eight.
    pub(crate) offset: u16,
    pub(crate) length: usize,
    pub(crate) more: bool,
}

impl Part {
    /// Neither the first of several nor a later one: the whole packet, whatever its headers say.
    pub(crate) const fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

impl Packet {
    /// The interface's end.
    pub(crate) const fn local(&self) -> IpAddr {
        match self.direction {
            Direction::Ingress => self.destination,
            Direction::Egress => self.source,
        }
    }

    /// The other end.
    pub(crate) const fn remote(&self) -> IpAddr {
        match self.direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        }
    }

    /// IP protocol number.
    pub(crate) fn protocol(&self) -> u8 {
        self.body.protocol(self.source.is_ipv4())
    }

    /// What of the datagram's body this packet carries.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let whole = self.body.bytes();
        let Some(part) = self.part else { return whole };
        let mut bytes: Vec<u8> = whole.into_iter().skip(part.offset.into()).collect();
        bytes.resize(part.length, 0);
        bytes
    }

    /// A first fragment of TCP says nothing of the data behind it.
    pub(crate) fn as_seen(&self) -> Self {
        let mut seen = self.clone();
        if let (Some(_), Body::Tcp(segment)) = (self.part, &mut seen.body) {
            segment.length = u32::try_from(self.payload().len() - 20).expect("small");
        }
        seen
    }

    /// As it stands on Ethernet. No checksums: firewalls do not look at them.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let header = |payload: &[u8]| {
            let part = self.part.map(|part| (part.id, part.offset, part.more));
            datagram(self.source, self.destination, self.protocol(), part, payload)
        };
        let ethertype: [u8; 2] = if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        [&MACS[..], &ethertype, &header(&self.payload())].concat()
    }
}

impl Body {
    /// IP protocol number, between addresses of a family.
    pub(crate) const fn protocol(&self, is_ipv4: bool) -> u8 {
        match self {
            Self::Tcp(_) => ip::TCP,
            Self::Udp { .. } => ip::UDP,
            Self::Sctp { .. } => ip::SCTP,
            Self::Icmp { .. } | Self::Error { .. } if is_ipv4 => ip::ICMP,
            Self::Icmp { .. } | Self::Error { .. } => ip::ICMPV6,
            Self::Other { protocol } => *protocol,
        }
    }

    /// Source and destination port, of protocols that have them.
    pub(crate) const fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp(Segment { ports, .. })
            | Self::Udp { ports, .. }
            | Self::Sctp { ports, .. } => Some(*ports),
            Self::Icmp { .. } | Self::Error { .. } | Self::Other { .. } => None,
        }
    }

    /// How long the header is that a verdict needs.
    pub(crate) const fn header(&self) -> usize {
        match self {
            Self::Tcp(_) => 20,
            Self::Udp { .. } | Self::Icmp { .. } | Self::Error { .. } => 8,
            // The common header and the head of the first chunk.
            Self::Sctp { .. } => 16,
            Self::Other { .. } => 0,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ports = self.ports().unwrap_or_default();
        let mut bytes = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        match self {
            Self::Tcp(segment) => {
                bytes.extend(segment.sequence.to_be_bytes());
                bytes.extend(segment.acknowledgement.to_be_bytes());
                bytes.extend([0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.resize(20 + usize::try_from(segment.length).expect("small"), b'x');
            }
            Self::Udp { length, .. } => {
                bytes.extend(u16::try_from(8 + length).expect("small").to_be_bytes());
                bytes.extend([0; 2]);
                bytes.resize(8 + length, b'x');
            }
            Self::Sctp { chunk, .. } => {
                bytes.extend([0; 8]);
                bytes.extend([*chunk, 0, 0, 20]);
                bytes.resize(32, 0);
            }
            Self::Icmp { kind, code, id } => {
                bytes = vec![*kind, *code, 0, 0];
                bytes.extend(id.to_be_bytes());
                bytes.resize(32, 1);
            }
            Self::Error { kind, code, quote } => {
                bytes = vec![*kind, *code, 0, 0, 0, 0, 0, 0];
                bytes.extend(quote.bytes());
            }
            Self::Other { .. } => bytes.resize(24, 0),
        }
        bytes
    }
}

impl Quote {
    fn bytes(&self) -> Vec<u8> {
        let part = self.fragment.map(|offset| (77, offset, true));
        let offset = self.fragment.unwrap_or_default().into();
        let mut body: Vec<u8> = self.body.bytes().into_iter().skip(offset).collect();
        if self.fragment.is_some() {
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let (from, to) = (self.source, self.destination);
        let mut packet = datagram(from, to, self.body.protocol(from.is_ipv4()), part, &body);
        packet.truncate(packet.len() - body.len() + self.length.min(body.len()));
        packet
    }
}

/// An IP packet; `part`: identification, offset, more fragments.
fn datagram(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    part: Option<(u16, u16, bool)>,
    payload: &[u8],
) -> Vec<u8> {
    let (id, offset, more) = part.unwrap_or_default();
    let place = |offset: u16, bit: u16| (offset | (u16::from(more) * bit)).to_be_bytes();
    let length =
        |beside: usize| u16::try_from(beside + payload.len()).expect("small").to_be_bytes();
    let mut bytes = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x45, 0]);
            bytes.extend(length(20));
            bytes.extend(id.to_be_bytes());
            bytes.extend(place(offset / 8, 0x2000));
            bytes.extend([64, protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extension = if part.is_some() { 8 } else { 0 };
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length(extension));
            bytes.extend([if part.is_some() { 44 } else { protocol }, 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            if part.is_some() {
                bytes.extend([protocol, 0]);
                bytes.extend(place(offset, 1));
                bytes.extend(u32::from(id).to_be_bytes());
            }
        }
        (source, destination) => panic!("no packet goes from {source} to {destination}"),
    }
    bytes.extend(payload);
    bytes
}
