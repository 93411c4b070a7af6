//! The TCP machine (RFC 9293, hardened as RFC 5961 asks).
//!
//! Per direction an entry keeps `end`, the sequence number behind what that end has sent in order, and
//! `ack`, the highest acknowledgement that end has sent. A segment changes the flow only where it fits
//! them; one that does not is passed on, for the addressee to judge, but moves and refreshes nothing. A
//! reset or a FIN counts only with exactly the next sequence number, so that ending a flow from outside
//! takes a guess of 32 bits.

use super::{Step, adopted};
use crate::Direction;
use crate::abi::{Flow, FlowFlags, FlowState};
use crate::wire::tcp::{FIN, Kind, Segment};

/// How far from `end` a segment may lie and still refresh the flow: larger than the windows in use, small
/// against the sequence space.
const PLAUSIBLE: u32 = 1 << 24;
/// How far before `end` a segment may begin and still move it: one batch of segments.
pub(super) const OVERLAP: u32 = 1 << 19;

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
    if matches!(state, FlowState::Midstream) && flow.flags & FlowFlags::ADOPTED != 0 {
        adopted::confirm(flow, opener, direction, segment)
    } else if direction == opener {
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
    if flow.state == FlowState::Adopted as u8 {
        return adopted::learn(flow, direction, segment);
    }
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
    let follows = matches!(direction, Direction::Egress) && flow.flags & FlowFlags::ADOPTED != 0;
    if !plausible(segment.sequence, flow.end[this]) {
        return if follows { adopted::follow(flow, segment) } else { Step::Ignored };
    }
    // What taught may have been a keepalive or a retransmission, behind which the next one leaves a gap.
    let sure = exact || follows;
    if sure || continues(flow.end[this], segment) {
        if after(segment.end(), flow.end[this]) {
            flow.end[this] = segment.end();
        }
        if sure && segment.flags & FIN != 0 {
            flow.flags |= fin(direction);
        }
    }
    acknowledge(flow, direction, segment.acknowledgement);
    close_if_both(flow)
}

/// Closes a flow whose halves are both closed.
#[inline(always)]
pub(super) fn close_if_both(flow: &mut Flow) -> Step {
    const BOTH: u8 = FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE;
    if flow.flags & BOTH == BOTH {
        flow.state = FlowState::Closed as u8;
        return Step::Close;
    }
    Step::Stay
}

/// Whether a segment with this sequence number, sent in `direction`, may still be on its way: sent and not
/// yet acknowledged. A SYN counts until it is answered.
#[inline(always)]
pub(crate) fn quotes_sent(
    flow: &Flow,
    state: FlowState,
    direction: Direction,
    sequence: u32,
) -> bool {
    let this = direction.index();
    let opening =
        matches!(state, FlowState::SynSent | FlowState::SynReceived | FlowState::Midstream);
    let oldest = flow.ack[1 - this].wrapping_sub(opening.into());
    within(sequence, oldest, flow.end[this])
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
pub(super) const fn plausible(number: u32, end: u32) -> bool {
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

pub(super) const fn seen(direction: Direction) -> u8 {
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

#[cfg(test)]
mod tests {
    use Direction::{Egress, Ingress};

    use super::*;
    use crate::Be16;
    use crate::wire::tcp::{ACK, RST, SYN};

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: u32) -> Segment {
        let (source, destination) = (Be16::new(1), Be16::new(2));
        Segment { source, destination, sequence, acknowledgement, flags, data }
    }

    fn opening(flow: &mut Flow, direction: Direction, segment: &Segment) -> Step {
        let state = FlowState::from_number(flow.state).unwrap();
        advance_opening(flow, state, flow.opening_direction(), direction, segment)
    }

    /// A flow that the remote end opened with `theirs` and the local end answered with `ours`.
    fn established(theirs: u32, ours: u32) -> Flow {
        let mut flow = open(Ingress, &segment(SYN, theirs, 0, 0));
        let next = (theirs.wrapping_add(1), ours.wrapping_add(1));
        assert_eq!(opening(&mut flow, Egress, &segment(SYN | ACK, ours, next.0, 0)), Step::Stay);
        assert_eq!(opening(&mut flow, Ingress, &segment(ACK, next.0, next.1, 0)), Step::Promote);
        assert_eq!((flow.state, flow.end), (FlowState::Established as u8, [next.0, next.1]));
        flow
    }

    #[test]
    fn only_the_exact_acknowledgement_promotes() {
        for (acknowledgement, step) in
            [(500, Step::Ignored), (501, Step::Promote), (502, Step::Ignored), (0, Step::Ignored)]
        {
            let mut flow = open(Ingress, &segment(SYN, 100, 0, 0));
            opening(&mut flow, Egress, &segment(SYN | ACK, 500, 101, 0));
            let last = segment(ACK, 101, acknowledgement, 0);
            assert_eq!(opening(&mut flow, Ingress, &last), step, "{acknowledgement}");
        }
    }

    #[test]
    fn an_answer_must_acknowledge_the_syn() {
        let mut flow = open(Egress, &segment(SYN, 100, 0, 0));
        for forged in [segment(SYN | ACK, 7, 100, 0), segment(RST | ACK, 0, 102, 0)] {
            assert_eq!(opening(&mut flow, Ingress, &forged), Step::Ignored);
        }
        assert_eq!(opening(&mut flow, Ingress, &segment(RST | ACK, 0, 101, 0)), Step::Remove);
    }

    #[test]
    fn sequence_numbers_wrap() {
        for start in [0, 100, u32::MAX - 1, u32::MAX] {
            let mut flow = established(start, u32::MAX);
            let next = start.wrapping_add(1);
            assert_eq!(advance(&mut flow, Ingress, &segment(ACK, next, 0, 3000)), Step::Stay);
            assert_eq!(flow.end[0], next.wrapping_add(3000), "from {start}");
        }
    }

    #[test]
    fn a_reset_counts_only_with_the_next_number() {
        for offset in [u32::MAX, 1, 1000, 1 << 31] {
            let mut flow = established(100, 500);
            let forged = segment(RST, 101_u32.wrapping_add(offset), 0, 0);
            let before = flow;
            assert_eq!(advance(&mut flow, Ingress, &forged), Step::Ignored, "{offset}");
            assert_eq!(flow, before);
        }
        let mut flow = established(100, 500);
        assert_eq!(advance(&mut flow, Ingress, &segment(RST, 101, 0, 0)), Step::Close);
    }

    #[test]
    fn a_fin_counts_only_with_the_next_number() {
        let mut flow = established(100, 500);
        advance(&mut flow, Ingress, &segment(FIN | ACK, 4000, 501, 0));
        assert_eq!(flow.flags & FlowFlags::FIN_FROM_REMOTE, 0);
        assert_eq!(advance(&mut flow, Ingress, &segment(FIN | ACK, 101, 501, 0)), Step::Stay);
        assert_ne!(flow.flags & FlowFlags::FIN_FROM_REMOTE, 0);
        assert_eq!(advance(&mut flow, Egress, &segment(FIN | ACK, 501, 102, 10)), Step::Close);
    }

    #[test]
    fn segments_out_of_order_are_caught_up_with() {
        let mut flow = established(100, 500);
        advance(&mut flow, Ingress, &segment(ACK, 1101, 501, 1000));
        assert_eq!(flow.end[0], 101, "a gap moves nothing");
        advance(&mut flow, Ingress, &segment(ACK, 101, 501, 1000));
        assert_eq!(flow.end[0], 1101);
        advance(&mut flow, Egress, &segment(ACK, 501, 2101, 0));
        assert_eq!(flow.end[0], 2101, "the local end says what it has");
        assert_eq!(advance(&mut flow, Ingress, &segment(RST, 2101, 0, 0)), Step::Close);
    }

    #[test]
    fn the_remote_cannot_acknowledge_what_was_not_sent() {
        let mut flow = established(100, 500);
        advance(&mut flow, Ingress, &segment(ACK, 101, 9000, 0));
        assert_eq!((flow.ack[0], flow.end[1]), (501, 501));
    }

    #[test]
    fn what_is_picked_up_in_the_middle_is_confirmed_by_both() {
        let mut flow = open(Ingress, &segment(ACK, 100, 500, 10));
        assert_eq!(flow.state, FlowState::Midstream as u8);
        assert_eq!(opening(&mut flow, Ingress, &segment(ACK, 110, 500, 10)), Step::Ignored);
        assert_eq!(opening(&mut flow, Egress, &segment(ACK, 500, 120, 5)), Step::Stay);
        assert_eq!(opening(&mut flow, Ingress, &segment(ACK, 120, 505, 0)), Step::Promote);
        let mut unknown = open(Ingress, &segment(ACK, 100, 500, 10));
        assert_eq!(opening(&mut unknown, Egress, &segment(RST, 500, 0, 0)), Step::Remove);
    }
}
