//! The record that the programs write into the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// The first packet of a flow was allowed.
    Allow = 1,
    /// A packet was dropped.
    Drop = 2,
    /// A flow ended; `packets` and `bytes` are its totals.
    End = 3,
    /// A packet would have been dropped, but the device is attached with `--audit`.
    Audit = 4,
}

impl EventKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Allow),
            2 => Some(Self::Drop),
            3 => Some(Self::End),
            4 => Some(Self::Audit),
            _ => None,
        }
    }

    /// The word for it in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::End => "end",
            Self::Audit => "audit",
        }
    }
}

/// A fixed-size record, the same for both families.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// Packets of ingress and egress, kind [`EventKind::End`] only.
    pub packets: [u32; 2],
    /// Bytes of ingress and egress, kind [`EventKind::End`] only.
    pub bytes: [u64; 2],
    /// The protected end, in network order; IPv4 in the first word.
    pub local: [u32; 4],
    /// The other end.
    pub remote: [u32; 4],
    /// The rule that decided; 0: none.
    pub rule: u32,
    /// Length of the packet in bytes.
    pub length: u32,
    /// Slot of the interface.
    pub slot: u16,
    /// Host byte order; ICMP: see [`crate::abi::FlowKind`].
    pub local_port: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6; 0: the packet has no IP header that could be read.
    pub family: u8,
    /// An [`EventKind`].
    pub kind: u8,
    /// Number of the [`crate::Reason`].
    pub reason: u8,
    /// Number of the [`crate::Direction`].
    pub direction: u8,
    /// ICMP type, where the protocol is ICMP or ICMPv6.
    pub icmp_type: u8,
    /// ICMP code, likewise.
    pub icmp_code: u8,
    /// Zero.
    pub padding: [u8; 3],
}
