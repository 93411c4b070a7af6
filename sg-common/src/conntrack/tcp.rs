//! The TCP machine (RFC 9293, hardened as RFC 5961 asks).
//!
//! Per direction an entry keeps `end`, the sequence number behind what that end has sent in order, and
//! `ack`, the highest acknowledgement that end has sent. The local end is believed, the remote one may be
//! anybody: its segment changes the flow only where it follows exactly; one that does not is passed on,
//! for the addressee to judge, but moves nothing. A reset or a FIN counts only with exactly the next
//! sequence number, so that ending a flow from outside takes a guess of 32 bits.

use super::{Step, adopted};
use crate::Direction;
use crate::abi::{Flow, FlowFlags, FlowState};
use crate::wire::tcp::{ACK, FIN, Kind, Segment};

/// How far from `end` a segment may lie and still refresh the flow: larger than the windows in use, small
/// against the sequence space.
const PLAUSIBLE: u32 = 1 << 24;

const REMOTE: usize = Direction::Ingress.index();
const LOCAL: usize = Direction::Egress.index();

/// The first segment of a flow: a SYN of either end, or, from the remote end, the middle of a connection
/// whose entry was lost.
#[inline(always)]
pub(crate) fn open(direction: Direction, segment: &Segment) -> Flow {
    let midstream = matches!(segment.kind(), Kind::Plain);
    let mut flow = Flow {
        state: if midstream { FlowState::Midstream } else { FlowState::SynSent } as u8,
        flags: match direction {
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

/// Whether a SYN of the opener is the one that opened the flow, sent again. Another sequence number is another
/// connection, for the rules to judge.
#[inline(always)]
pub(crate) fn is_sent_again(flow: &Flow, opener: Direction, segment: &Segment) -> bool {
    flow.ack[opener.reverse().index()] == segment.sequence.wrapping_add(1)
        && flow.state != FlowState::Midstream as u8
}

/// A further segment of a flow whose handshake is not complete. `ack` of the opener holds the least that
/// completes it: the sequence number behind the responder's SYN; that of the responder the same of the
/// opener's.
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
        // Sent again; another attempt does not come here.
        Kind::Syn => Step::Stay,
        Kind::Reset if segment.sequence == flow.end[opener] => Step::Remove,
        Kind::Plain
            if matches!(state, FlowState::SynReceived)
                && within(segment.acknowledgement, flow.ack[opener], flow.end[responder]) =>
        {
            flow.state = FlowState::Established as u8;
            flow.ack[opener] = segment.acknowledgement;
            // What else it says counts as it does later; complete it is in any case.
            let _step = match opener {
                REMOTE => from_remote(flow, segment),
                _ => from_local(flow, segment),
            };
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
            flow.flags &= !(FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE);
            flow.state = FlowState::SynReceived as u8;
            Step::Stay
        }
        // Refused: a reset in answer to a SYN acknowledges it (RFC 9293, section 3.10.7.3).
        (Kind::Reset, FlowState::SynSent) if acknowledges && segment.flags & ACK != 0 => {
            Step::Remove
        }
        (Kind::Reset, FlowState::SynReceived) if segment.sequence == flow.end[responder] => {
            Step::Remove
        }
        // What was picked up in the middle is unknown to the local end.
        (Kind::Reset, FlowState::Midstream) => Step::Remove,
        (Kind::Plain, FlowState::Midstream) => {
            flow.end[responder] = segment.end();
            flow.ack[opener] = segment.sequence;
            // The first segment may have been forged: the local end says where the connection stands.
            flow.end[opener] = segment.acknowledgement;
            flow.ack[responder] = segment.acknowledgement;
            flow.state = FlowState::SynReceived as u8;
            note_fin(flow, responder, segment);
            Step::Stay
        }
        (Kind::Plain, FlowState::SynReceived) if segment.sequence == flow.end[responder] => {
            flow.end[responder] = segment.end();
            note_fin(flow, responder, segment);
            Step::Stay
        }
        _ => Step::Ignored,
    }
}

/// An end that answers may close its half before the handshake is complete.
#[inline(always)]
fn note_fin(flow: &mut Flow, sender: usize, segment: &Segment) {
    if segment.flags & FIN != 0 {
        flow.flags |= match sender {
            REMOTE => FlowFlags::FIN_FROM_REMOTE,
            _ => FlowFlags::FIN_FROM_LOCAL,
        };
    }
}

/// A further segment of an established flow.
#[inline(always)]
pub(crate) fn advance(flow: &mut Flow, direction: Direction, segment: &Segment) -> Step {
    if flow.state == FlowState::Adopted as u8 {
        return adopted::learn(flow, direction, segment);
    }
    match direction {
        Direction::Ingress => from_remote(flow, segment),
        Direction::Egress => from_local(flow, segment),
    }
}

/// What the local end sends is the truth about where the connection stands: nobody else can send it. In
/// whatever order it leaves, the furthest counts; and where it does not fit at all, it is another
/// connection between the same ports.
#[inline(always)]
fn from_local(flow: &mut Flow, segment: &Segment) -> Step {
    match segment.kind() {
        Kind::Reset
            if segment.sequence == flow.end[LOCAL] || segment.sequence == flow.ack[REMOTE] =>
        {
            flow.state = FlowState::Closed as u8;
            return Step::Close;
        }
        Kind::SynAck => return adopted::follow(flow, segment),
        Kind::Plain => {}
        Kind::Syn | Kind::Reset | Kind::Invalid => return Step::Ignored,
    }
    if !plausible(segment.sequence, flow.end[LOCAL]) {
        return adopted::follow(flow, segment);
    }
    if after(segment.end(), flow.end[LOCAL]) {
        flow.end[LOCAL] = segment.end();
    }
    if segment.flags & FIN != 0 && segment.end() == flow.end[LOCAL] {
        flow.flags |= FlowFlags::FIN_FROM_LOCAL;
    }
    if after(segment.acknowledgement, flow.ack[LOCAL]) {
        received(flow, segment.acknowledgement);
    }
    close_if_both(flow)
}

/// The local end says up to where it has received, which tells what came out of order, a FIN included.
#[inline(always)]
fn received(flow: &mut Flow, acknowledgement: u32) {
    flow.ack[LOCAL] = acknowledgement;
    if flow.flags & FlowFlags::FIN_AHEAD != 0 && acknowledgement == flow.end[REMOTE] {
        flow.flags |= FlowFlags::FIN_FROM_REMOTE;
        flow.flags &= !FlowFlags::FIN_AHEAD;
    }
    if after(acknowledgement, flow.end[REMOTE]) {
        flow.end[REMOTE] = acknowledgement;
        flow.flags &= !FlowFlags::FIN_AHEAD;
    }
}

/// What the remote end is said to send may be forged: it moves the flow only where it follows exactly on
/// what came before.
#[inline(always)]
fn from_remote(flow: &mut Flow, segment: &Segment) -> Step {
    // Behind a FIN that came out of order stands another number, for the local end to confirm.
    let ahead = flow.flags & FlowFlags::FIN_AHEAD != 0;
    let next = if ahead { flow.ack[LOCAL] } else { flow.end[REMOTE] };
    let exact = segment.sequence == next || segment.sequence == flow.ack[LOCAL];
    match segment.kind() {
        Kind::Reset if exact => {
            flow.state = FlowState::Closed as u8;
            return Step::Close;
        }
        Kind::Plain => {}
        Kind::Syn | Kind::SynAck | Kind::Reset | Kind::Invalid => return Step::Ignored,
    }
    if !plausible(segment.sequence, next) {
        return Step::Ignored;
    }
    let fin = segment.flags & FIN != 0;
    let further = after(segment.end(), next);
    if exact && fin {
        flow.end[REMOTE] = segment.end();
        flow.flags = flow.flags & !FlowFlags::FIN_AHEAD | FlowFlags::FIN_FROM_REMOTE;
    } else if exact && further && !ahead {
        flow.end[REMOTE] = segment.end();
    } else if fin && further {
        flow.end[REMOTE] = segment.end();
        flow.flags |= FlowFlags::FIN_AHEAD;
    }
    // It may be forged as well, and counts only up to what the local end has sent.
    let acknowledgement = segment.acknowledgement;
    if after(acknowledgement, flow.ack[REMOTE]) && !after(acknowledgement, flow.end[LOCAL]) {
        flow.ack[REMOTE] = acknowledgement;
    }
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
/// yet acknowledged. A SYN counts until it is answered; an end that has not spoken is not quoted.
#[inline(always)]
pub(crate) fn quotes_sent(
    flow: &Flow,
    state: FlowState,
    direction: Direction,
    sequence: u32,
) -> bool {
    let this = direction.index();
    let opens = match state {
        FlowState::SynSent if direction != flow.opening_direction() => return false,
        FlowState::SynSent | FlowState::SynReceived => 1,
        FlowState::Midstream | FlowState::Adopted => return false,
        FlowState::Established
        | FlowState::Closed
        | FlowState::Opened
        | FlowState::Replied
        | FlowState::AskedAgain
        | FlowState::Stream
        | FlowState::Cut => 0,
    };
    let oldest = flow.ack[1 - this].wrapping_sub(opens);
    !after(oldest, flow.end[this]) && within(sequence, oldest, flow.end[this])
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

#[cfg(test)]
mod tests {
    use Direction::{Egress, Ingress};

    use super::*;
    use crate::Be16;
    use crate::wire::tcp::{RST, SYN};

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
