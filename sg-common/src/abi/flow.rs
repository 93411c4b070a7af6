//! The value of the flow tables: one cache line a flow.
//!
//! [`Flow`] is the plain form, for writing a whole entry and for reading one in userspace. [`FlowCell`]
//! is the same 64 bytes as they live in a map, where several processors read and write them at once:
//! every field is a word of its own, so that each direction writes its own words.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::FlowKey;
use super::word::{Word32, Word64};
use crate::{Address, Direction};

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowState {
    /// TCP: the opener's SYN was seen.
    SynSent = 1,
    /// TCP: the responder's SYN-ACK was seen.
    SynReceived = 2,
    /// TCP: picked up in the middle from the remote end, not yet confirmed by the local one.
    Midstream = 3,
    /// TCP: the handshake is complete.
    Established = 4,
    /// TCP: both ends have closed, or one has reset.
    Closed = 5,
    /// Other protocols: only the opener has spoken.
    Opened = 6,
    /// Other protocols: the responder has answered once.
    Replied = 7,
    /// Other protocols: the opener has spoken again after an answer.
    AskedAgain = 8,
    /// Other protocols: more than one request and response (AWS: UDP stream).
    Stream = 9,
    /// The rules allow it no longer: its packets are dropped both ways.
    Cut = 10,
    /// TCP: older than its entry, and its sequence numbers are not known yet. They are learnt from what the
    /// local end says.
    Adopted = 11,
}

impl FlowState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Midstream,
        Self::Established,
        Self::Closed,
        Self::Opened,
        Self::Replied,
        Self::AskedAgain,
        Self::Stream,
        Self::Cut,
        Self::Adopted,
    ];

    /// The state with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SynSent),
            2 => Some(Self::SynReceived),
            3 => Some(Self::Midstream),
            4 => Some(Self::Established),
            5 => Some(Self::Closed),
            6 => Some(Self::Opened),
            7 => Some(Self::Replied),
            8 => Some(Self::AskedAgain),
            9 => Some(Self::Stream),
            10 => Some(Self::Cut),
            11 => Some(Self::Adopted),
            _ => None,
        }
    }

    /// The word for it in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Midstream => "midstream",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Opened => "opened",
            Self::Replied => "replied",
            Self::AskedAgain => "asked-again",
            Self::Stream => "stream",
            Self::Cut => "cut",
            Self::Adopted => "adopted",
        }
    }
}

/// Bits of [`Flow::flags`].
#[derive(Debug, Clone, Copy)]
pub struct FlowFlags;

impl FlowFlags {
    /// The remote end opened the flow.
    pub const OPENED_BY_REMOTE: u8 = 1;
    /// The remote end has closed its half.
    pub const FIN_FROM_REMOTE: u8 = 1 << 1;
    /// The local end has closed its half.
    pub const FIN_FROM_LOCAL: u8 = 1 << 2;
    /// A FIN of the remote end came out of order: `end` is the number behind it, and it counts once the local
    /// end acknowledges that.
    pub const FIN_AHEAD: u8 = 1 << 3;
    /// The local address has passed the source check.
    pub const SOURCE_CHECKED: u8 = 1 << 5;
    /// The flow is older than its entry: no packet was seen to open it.
    pub const ADOPTED: u8 = 1 << 6;
    /// AWS would leave it untracked: it is judged again as soon as its rule goes.
    pub const UNTRACKED: u8 = 1 << 7;
}

/// One tracked conversation.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// When it dies unless a packet comes, in nanoseconds of the monotonic clock.
    pub deadline: u64,
    /// Bytes of ingress and egress.
    pub bytes: [u64; 2],
    /// Packets of ingress and egress.
    pub packets: [u32; 2],
    /// TCP, per direction: the sequence number behind the last byte sent in order (RFC 9293: SND.NXT).
    pub end: [u32; 2],
    /// TCP, per direction: the highest acknowledgement sent (the other direction's RCV.NXT).
    pub ack: [u32; 2],
    /// The rule that opened it.
    pub rule: u32,
    /// Its element of the reclaiming clock.
    pub clock_slot: u32,
    /// Hash of the key, to tell an element that was recycled under a reader.
    pub tag: u32,
    /// A [`FlowState`].
    pub state: u8,
    /// [`FlowFlags`].
    pub flags: u8,
    /// The interface's epoch when the flow was last judged.
    pub epoch: u16,
}

/// A [`Flow`] as it stands in a map.
#[derive(Debug, Default)]
#[repr(C)]
pub struct FlowCell {
    deadline: Word64,
    bytes: [Word64; 2],
    packets: [Word32; 2],
    end: [Word32; 2],
    ack: [Word32; 2],
    rule: Word32,
    clock_slot: Word32,
    /// `tag` in the low half; `state`, `flags` and `epoch` in the high one. They share a word, so that they are
    /// always read and written together, and whose element it is along with them.
    identity: Word64,
}

const _: () = assert!(size_of::<Flow>() == size_of::<FlowCell>());

/// The byte of [`FlowCell::identity`] that holds the flags.
const FLAGS: u64 = 0xff << 40;

#[inline(always)]
const fn tag_of(identity: u64) -> u32 {
    let [a, b, c, d, ..] = identity.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// How stale a stored deadline may be before a packet writes it anew: an eighth of a second, so that an
/// established flow's line is written for time at most eight times a second.
const DEADLINE_GRAIN_NS: u64 = 1 << 27;

impl Flow {
    /// [`FlowCell::identity`], with this flow's tag.
    #[inline(always)]
    const fn identity(&self) -> u64 {
        let [a, b, c, d] = self.tag.to_le_bytes();
        let [low, high] = self.epoch.to_le_bytes();
        u64::from_le_bytes([a, b, c, d, self.state, self.flags, low, high])
    }

    /// Which end opened it.
    #[inline(always)]
    #[must_use]
    pub const fn opening_direction(&self) -> Direction {
        if self.flags & FlowFlags::OPENED_BY_REMOTE != 0 {
            Direction::Ingress
        } else {
            Direction::Egress
        }
    }
}

impl FlowCell {
    /// A cell that holds `flow`.
    #[must_use]
    pub fn new(flow: &Flow) -> Self {
        Self {
            deadline: Word64::new(flow.deadline),
            bytes: [Word64::new(flow.bytes[0]), Word64::new(flow.bytes[1])],
            packets: [Word32::new(flow.packets[0]), Word32::new(flow.packets[1])],
            end: [Word32::new(flow.end[0]), Word32::new(flow.end[1])],
            ack: [Word32::new(flow.ack[0]), Word32::new(flow.ack[1])],
            rule: Word32::new(flow.rule),
            clock_slot: Word32::new(flow.clock_slot),
            identity: Word64::new(flow.identity()),
        }
    }

    /// A copy of every field.
    #[inline(always)]
    #[must_use]
    pub fn snapshot(&self) -> Flow {
        let [a, b, c, d, state, flags, low, high] = self.identity.get().to_le_bytes();
        Flow {
            deadline: self.deadline.get(),
            bytes: [self.bytes[0].get(), self.bytes[1].get()],
            packets: [self.packets[0].get(), self.packets[1].get()],
            end: [self.end[0].get(), self.end[1].get()],
            ack: [self.ack[0].get(), self.ack[1].get()],
            rule: self.rule.get(),
            clock_slot: self.clock_slot.get(),
            tag: u32::from_le_bytes([a, b, c, d]),
            state,
            flags,
            epoch: u16::from_le_bytes([low, high]),
        }
    }

    /// When the flow dies.
    #[inline(always)]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline.get()
    }

    /// The element of the reclaiming clock that the flow owns.
    #[inline(always)]
    #[must_use]
    pub fn clock_slot(&self) -> u32 {
        self.clock_slot.get()
    }

    /// Whether the flow has ended and only lingers.
    #[inline(always)]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.identity.get().to_le_bytes()[4] == FlowState::Closed as u8
    }

    /// The tag of the flow that the cell holds now.
    #[inline(always)]
    #[must_use]
    pub fn tag(&self) -> u32 {
        tag_of(self.identity.get())
    }

    /// Adds one packet of `length` bytes.
    #[inline(always)]
    pub fn count(&self, direction: Direction, length: u32) {
        let (packets, bytes) = match direction {
            Direction::Ingress => (&self.packets[0], &self.bytes[0]),
            Direction::Egress => (&self.packets[1], &self.bytes[1]),
        };
        packets.set(packets.get().wrapping_add(1));
        bytes.set(bytes.get().wrapping_add(length.into()));
    }

    /// Writes what the machine may have changed, and only where it did: state, sequence numbers, and the
    /// deadline when it moved by more than a grain.
    ///
    /// `before` is what was read. Each store asks once more whose element it is. An interrupt between the snapshot and here is time
    /// enough for another processor to recycle it, and what is stored then would end another's flow: 4 to 20
    /// of 50 000 recycled flows in `tests/tests/stress.rs`. So what ends a flow, its state and its deadline, is
    /// exchanged atomically, against a value that no other flow has; it changes a few times a second at most.
    #[inline(always)]
    pub fn commit(&self, before: &Flow, flow: &Flow) {
        // Before the tag is looked at: a recycled element has another one by now.
        let deadline = self.deadline.get();
        let (was, is) = (before.identity(), flow.identity());
        if was != is && !self.identity.exchange(was, is) {
            let now = self.identity.get();
            if tag_of(now) == flow.tag {
                // Another packet of the flow was quicker. Its state stands; no flag is lost, so that of two
                // ends that close at once both are known to.
                let _third_packet = self.identity.exchange(now, now | is & FLAGS & !was);
            }
        }
        self.set_changed(&self.rule, before.rule, flow.rule, flow.tag);
        self.set_changed(&self.end[0], before.end[0], flow.end[0], flow.tag);
        self.set_changed(&self.end[1], before.end[1], flow.end[1], flow.tag);
        self.set_changed(&self.ack[0], before.ack[0], flow.ack[0], flow.tag);
        self.set_changed(&self.ack[1], before.ack[1], flow.ack[1], flow.tag);
        if flow.deadline < deadline {
            // Whoever ends the flow must have his way; whoever only uses it may be late.
            if self.tag() == flow.tag && !self.deadline.exchange(deadline, flow.deadline) {
                let now = self.deadline.get();
                if self.tag() == flow.tag {
                    let _third_packet = self.deadline.exchange(now, flow.deadline);
                }
            }
        } else if flow.deadline > deadline + DEADLINE_GRAIN_NS && self.identity.get() == is {
            let _stored = self.deadline.exchange(deadline, flow.deadline);
        }
    }

    /// Leaves the line clean where nothing changed, and what another processor has written where this
    /// packet did not change it.
    #[inline(always)]
    fn set_changed(&self, word: &Word32, before: u32, value: u32, tag: u32) {
        if value != before && self.tag() == tag {
            word.set(value);
        }
    }
}

impl<A: Address> FlowKey<A> {
    /// A hash of the key for [`Flow::tag`]; never 0, which is what an empty element holds.
    #[inline(always)]
    #[must_use]
    pub fn tag(&self) -> u32 {
        let ports = u32::from(self.local_port.get()) << 16 | u32::from(self.remote_port.get());
        let rest =
            u32::from(self.slot.get()) << 16 | u32::from(self.protocol) << 8 | u32::from(self.kind);
        let mut hash = 0x811c_9dc5_u32;
        for word in [self.local.mix(), self.remote.mix(), ports, rest] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(13);
        }
        hash | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_every_field() {
        let flow = Flow {
            deadline: 1,
            bytes: [2, 3],
            packets: [4, 5],
            end: [6, 7],
            ack: [8, 9],
            rule: 10,
            clock_slot: 11,
            tag: 12,
            state: 13,
            flags: 14,
            epoch: 0x1516,
        };
        assert_eq!(FlowCell::new(&flow).snapshot(), flow);
    }

    #[test]
    fn a_commit_leaves_counters_alone() {
        let old = Flow { deadline: 100, ..Flow::default() };
        let cell = FlowCell::new(&old);
        cell.count(Direction::Egress, 60);
        let new = Flow { end: [1, 2], state: 4, epoch: 7, ..old };
        cell.commit(&old, &new);
        let now = cell.snapshot();
        assert_eq!((now.packets, now.bytes), ([0, 1], [0, 60]));
        assert_eq!((now.end, now.state, now.epoch, now.deadline), ([1, 2], 4, 7, 100));
    }

    #[test]
    fn a_recycled_element_is_left_alone() {
        let old = Flow { tag: 3, state: 4, ..Flow::default() };
        let another = Flow { tag: 5, state: 4, deadline: 9, end: [1, 1], ..Flow::default() };
        let cell = FlowCell::new(&another);
        cell.commit(&old, &Flow { state: 5, deadline: 1, end: [7, 7], rule: 2, ..old });
        assert_eq!(cell.snapshot(), another);
    }

    #[test]
    fn two_ends_that_close_at_once_are_both_known_to() {
        let old = Flow { tag: 3, state: 4, ..Flow::default() };
        let cell = FlowCell::new(&old);
        for flags in [FlowFlags::FIN_FROM_LOCAL, FlowFlags::FIN_FROM_REMOTE] {
            cell.commit(&old, &Flow { flags, ..old });
        }
        let both = FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE;
        assert_eq!((cell.snapshot().state, cell.snapshot().flags), (4, both));
    }

    #[test]
    fn deadlines_are_written_by_the_grain() {
        let old = Flow { deadline: 1000, ..Flow::default() };
        let cell = FlowCell::new(&old);
        cell.commit(&old, &Flow { deadline: 1000 + DEADLINE_GRAIN_NS, ..old });
        assert_eq!(cell.deadline(), 1000);
        cell.commit(&old, &Flow { deadline: 1001 + DEADLINE_GRAIN_NS, ..old });
        assert_eq!(cell.deadline(), 1001 + DEADLINE_GRAIN_NS);
        cell.commit(&old, &Flow { deadline: 5, ..old });
        assert_eq!(cell.deadline(), 5, "shortening is never put off");
    }
}
