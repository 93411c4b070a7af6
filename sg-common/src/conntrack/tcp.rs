//! The TCP machine (RFC 9293, hardened as RFC 5961 asks).
//!
//! Per direction an entry keeps `end`, the sequence number behind what that end has sent in order, and
//! `ack`, the highest acknowledgement that end has sent. A segment changes the flow only where it fits
//! them; one that does not is passed on, for the addressee to judge, but moves and refreshes nothing. A
//! reset or a FIN counts only with exactly the next sequence number, so that ending a flow from outside
//! takes a guess of 32 bits.

use super::Step;
use crate::Direction;
use crate::abi::{Flow, FlowFlags, FlowState};
use crate::wire::tcp::{FIN, Kind, Segment};

/// How far from `end` a segment may lie and still refresh the flow: larger than the windows in use, small
/// against the sequence space.
const PLAUSIBLE: u32 = 1 << 24;
/// How far before `end` a segment may begin and still move it: one batch of segments.
const OVERLAP: u32 = 1 << 19;

/// The first segment of a flow: a SYN of either end, or, from the remote end, the middle of a connection
/// whose entry was lost.
#[inline(always)]
pub(crate) fn open(direction: Direction, segment: &Segment) -> Flow {
    let midstream = matches!(segment.kind(), Kind::Plain);
    let mut flow = Flow {
        state: if midstream { FlowState::Midstream } else { FlowState::SynSent } as u8,
        flags: seen(direction)
            | match direction {
                Direction::Ingress => FlowFlags::OPENED_BY_REMOTE,
                Direction::Egress => FlowFlags::SOURCE_CHECKED,
            },
        ..Flow::default()
    };
    flow.end[direction.index()] = segment.end();
    if midstream {
        flow.ack[direction.index()] = segment.acknowledgement;
    } else {
        // What a SYN-ACK acknowledges at least.
        flow.ack[direction.reverse().index()] = segment.sequence.wrapping_add(1);
    }
    flow
}

/// A further segment of a flow whose handshake is not complete. `ack` of the opener holds the least that
/// completes it: the sequence number behind the responder's SYN.
#[inline(always)]
pub(crate) fn advance_opening(
    flow: &mut Flow,
    state: FlowState,
    opener: Direction,
    direction: Direction,
    segment: &Segment,
) -> Step {
    if direction == opener {
        from_opener(flow, state, opener.index(), segment)
    } else {
        from_responder(flow, state, opener.index(), segment)
    }
}

#[inline(always)]
fn from_opener(flow: &mut Flow, state: FlowState, opener: usize, segment: &Segment) -> Step {
    let responder = 1 - opener;
    match segment.kind() {
        Kind::Syn => {
            flow.end[opener] = segment.end();
            flow.ack[responder] = segment.sequence.wrapping_add(1);
            flow.state = FlowState::SynSent as u8;
            Step::Stay
        }
        Kind::Reset if segment.sequence == flow.end[opener] => Step::Remove,
        Kind::Plain
            if matches!(state, FlowState::SynReceived)
                && within(segment.acknowledgement, flow.ack[opener], flow.end[responder]) =>
        {
            flow.state = FlowState::Established as u8;
            flow.ack[opener] = segment.acknowledgement;
            flow.flags |= seen(Direction::Ingress) | seen(Direction::Egress);
            if within(flow.end[opener], segment.sequence, segment.end()) {
                flow.end[opener] = segment.end();
            }
            Step::Promote
        }
        Kind::Plain | Kind::Reset | Kind::SynAck | Kind::Invalid => Step::Ignored,
    }
}

#[inline(always)]
fn from_responder(flow: &mut Flow, state: FlowState, opener: usize, segment: &Segment) -> Step {
    let responder = 1 - opener;
    let acknowledges = within(segment.acknowledgement, flow.ack[responder], flow.end[opener]);
    match (segment.kind(), state) {
        (Kind::SynAck, FlowState::SynSent | FlowState::SynReceived) if acknowledges => {
            flow.end[responder] = segment.end();
            flow.ack[opener] = segment.sequence.wrapping_add(1);
            flow.state = FlowState::SynReceived as u8;
            Step::Stay
        }
        // Refused: a reset in answer to a SYN acknowledges it (RFC 9293, section 3.10.7.3).
        (Kind::Reset, FlowState::SynSent) if acknowledges => Step::Remove,
        (Kind::Reset, FlowState::SynReceived) if segment.sequence == flow.end[responder] => {
            Step::Remove
        }
        // What was picked up in the middle is unknown to the local end.
        (Kind::Reset, FlowState::Midstream) => Step::Remove,
        (Kind::Plain, FlowState::Midstream) => {
            flow.end[responder] = segment.end();
            flow.ack[opener] = segment.sequence;
            flow.ack[responder] = segment.acknowledgement;
            flow.state = FlowState::SynReceived as u8;
            Step::Stay
        }
        (Kind::Plain, FlowState::SynReceived) if segment.sequence == flow.end[responder] => {
            flow.end[responder] = segment.end();
            Step::Stay
        }
        _ => Step::Ignored,
    }
}

/// A further segment of an established flow.
#[inline(always)]
pub(crate) fn advance(flow: &mut Flow, direction: Direction, segment: &Segment) -> Step {
    let this = direction.index();
    let other = 1 - this;
    let exact = segment.sequence == flow.end[this] || segment.sequence == flow.ack[other];
    match segment.kind() {
        Kind::Reset if exact => {
            flow.state = FlowState::Closed as u8;
            return Step::Close;
        }
        Kind::Plain => {}
        Kind::Syn | Kind::SynAck | Kind::Reset | Kind::Invalid => return Step::Ignored,
    }
    if !plausible(segment.sequence, flow.end[this]) {
        return Step::Ignored;
    }
    if exact || continues(flow.end[this], segment) {
        if after(segment.end(), flow.end[this]) {
            flow.end[this] = segment.end();
        }
        if exact && segment.flags & FIN != 0 {
            flow.flags |= fin(direction);
        }
    }
    acknowledge(flow, direction, segment.acknowledgement);
    const BOTH: u8 = FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE;
    if flow.flags & BOTH == BOTH {
        flow.state = FlowState::Closed as u8;
        return Step::Close;
    }
    Step::Stay
}

/// Takes an acknowledgement. The local end's is the truth about what it has received, so it also moves
/// the remote's `end` past segments that came out of order; the remote's may be forged and counts only
/// up to what the local end has sent.
#[inline(always)]
fn acknowledge(flow: &mut Flow, direction: Direction, acknowledgement: u32) {
    let this = direction.index();
    let other = 1 - this;
    if !after(acknowledgement, flow.ack[this]) || !plausible(acknowledgement, flow.end[other]) {
        return;
    }
    if after(acknowledgement, flow.end[other]) {
        match direction {
            Direction::Ingress => return,
            Direction::Egress => flow.end[other] = acknowledgement,
        }
    }
    flow.ack[this] = acknowledgement;
}

/// Whether a segment begins at or shortly before `end` and reaches it.
#[inline(always)]
const fn continues(end: u32, segment: &Segment) -> bool {
    end.wrapping_sub(segment.sequence) <= OVERLAP && !after(end, segment.end())
}

#[inline(always)]
const fn plausible(number: u32, end: u32) -> bool {
    number.wrapping_sub(end).wrapping_add(PLAUSIBLE) < 2 * PLAUSIBLE
}

/// Whether `a` lies behind `b` in sequence space.
#[inline(always)]
const fn after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// Whether `number` lies in `first..=last` in sequence space.
#[inline(always)]
const fn within(number: u32, first: u32, last: u32) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}

const fn seen(direction: Direction) -> u8 {
    match direction {
        Direction::Ingress => FlowFlags::REMOTE_SEEN,
        Direction::Egress => FlowFlags::LOCAL_SEEN,
    }
}

const fn fin(direction: Direction) -> u8 {
    match direction {
        Direction::Ingress => FlowFlags::FIN_FROM_REMOTE,
        Direction::Egress => FlowFlags::FIN_FROM_LOCAL,
    }
}
