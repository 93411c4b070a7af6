//! TCP flows that are older than their entry, such as the sockets that were there before the programs.
//!
//! Nobody tells their sequence numbers, so they are learnt from packets; and until they are, no packet of
//! the remote end may end the flow.

use super::Step;
use super::tcp::{self, close_if_both, plausible};
use crate::Direction;
use crate::abi::{Flow, FlowFlags, FlowState};
use crate::wire::tcp::{FIN, Kind, Segment};

/// A segment of a flow that is older than its entry, until its sequence numbers are known. Only the local
/// end teaches them: nobody else can send its segments, and what it acknowledges is what it has received.
/// From the remote end nothing is believed, or two forged segments, one to teach and one to reset, would
/// end the flow.
#[inline(always)]
pub(super) fn learn(flow: &mut Flow, direction: Direction, segment: &Segment) -> Step {
    match (direction, segment.kind()) {
        // Kept for the local end to confirm: the segment that acknowledges it is the one that teaches.
        (Direction::Ingress, Kind::Plain) if segment.flags & FIN != 0 => {
            flow.end[Direction::Ingress.index()] = segment.end();
            Step::Stay
        }
        (Direction::Egress, Kind::Plain) => {
            if flow.end[Direction::Ingress.index()] == segment.acknowledgement {
                flow.flags |= FlowFlags::FIN_FROM_REMOTE;
            }
            if segment.flags & FIN != 0 {
                flow.flags |= FlowFlags::FIN_FROM_LOCAL;
            }
            teach(flow, segment);
            flow.state = FlowState::Established as u8;
            close_if_both(flow)
        }
        // A stack resets only what it does not hold any more.
        (Direction::Egress, Kind::Reset) => {
            flow.state = FlowState::Closed as u8;
            Step::Close
        }
        (_, Kind::Plain | Kind::Reset | Kind::Syn | Kind::SynAck | Kind::Invalid) => Step::Ignored,
    }
}

/// What the local end may have had in flight before the segment that taught: one batch of segments.
const OVERLAP: u32 = 1 << 19;

/// The first segment that is seen in the grace time after attaching: the middle of a connection. It waits
/// for the other end among the flows that are not established, which a flood of such segments may evict.
#[inline(always)]
pub(super) fn open(direction: Direction, segment: &Segment) -> Flow {
    let mut flow = tcp::open(direction, segment);
    flow.flags |= FlowFlags::ADOPTED;
    if matches!(direction, Direction::Egress) {
        follow(&mut flow, segment);
    }
    flow
}

/// A further segment of such a connection. It is established as soon as both ends have spoken, unlike one
/// whose entry was lost: in its middle, nothing need follow before the grace ends.
#[inline(always)]
pub(super) fn confirm(
    flow: &mut Flow,
    opener: Direction,
    direction: Direction,
    segment: &Segment,
) -> Step {
    const REMOTE: usize = Direction::Ingress.index();
    let by_local = matches!(opener, Direction::Egress);
    match (direction, segment.kind()) {
        (Direction::Egress, Kind::Plain) => {
            follow(flow, segment);
            if by_local {
                return Step::Stay;
            }
            flow.state = FlowState::Established as u8;
            Step::Promote
        }
        (Direction::Ingress, Kind::Plain)
            if by_local && plausible(segment.sequence, flow.end[REMOTE]) =>
        {
            flow.state = FlowState::Established as u8;
            match tcp::advance(flow, direction, segment) {
                Step::Close => Step::Remove,
                Step::Ignored | Step::Stay | Step::Promote | Step::Remove => Step::Promote,
            }
        }
        // A stack resets what it does not know.
        (Direction::Egress, Kind::Reset) => Step::Remove,
        (Direction::Ingress, Kind::Reset) if by_local && segment.sequence == flow.end[REMOTE] => {
            Step::Remove
        }
        (_, Kind::Plain | Kind::Reset | Kind::Syn | Kind::SynAck | Kind::Invalid) => Step::Ignored,
    }
}

/// Takes the local end's word for where the connection stands, whatever was known: it may be another one
/// between the same ports.
#[inline(always)]
pub(super) fn follow(flow: &mut Flow, segment: &Segment) -> Step {
    flow.flags &= !(FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE | FlowFlags::FIN_AHEAD);
    if segment.flags & FIN != 0 {
        flow.flags |= FlowFlags::FIN_FROM_LOCAL;
    }
    teach(flow, segment);
    Step::Stay
}

/// Takes both directions' numbers from a segment of the local end. What it had in flight before is not
/// known; an acknowledgement of some of that must still fit.
#[inline(always)]
fn teach(flow: &mut Flow, segment: &Segment) {
    const REMOTE: usize = Direction::Ingress.index();
    const LOCAL: usize = Direction::Egress.index();
    flow.end[LOCAL] = segment.end();
    flow.ack[LOCAL] = segment.acknowledgement;
    flow.end[REMOTE] = segment.acknowledgement;
    flow.ack[REMOTE] = segment.sequence.wrapping_sub(OVERLAP);
}

#[cfg(test)]
mod tests {
    use Direction::{Egress, Ingress};

    use super::*;
    use crate::Be16;
    use crate::conntrack::tcp::advance;
    use crate::wire::tcp::{ACK, RST, SYN};

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: u32) -> Segment {
        let (source, destination) = (Be16::new(1), Be16::new(2));
        Segment { source, destination, sequence, acknowledgement, flags, data }
    }

    /// A flow that was there before its entry.
    fn adopted(flags: u8) -> Flow {
        let flags = flags | FlowFlags::ADOPTED;
        Flow { state: FlowState::Adopted as u8, flags, ..Flow::default() }
    }

    #[test]
    fn the_remote_end_teaches_an_adopted_flow_nothing() {
        for flags in [RST, RST | ACK, SYN, SYN | ACK, ACK] {
            for number in [0, 1, 101, u32::MAX] {
                let mut flow = adopted(0);
                let step = advance(&mut flow, Ingress, &segment(flags, number, 0, 9));
                assert_eq!((step, flow), (Step::Ignored, adopted(0)), "{flags:#x} {number}");
            }
        }
        // Not even a segment that the reset behind it continues.
        let mut flow = adopted(0);
        advance(&mut flow, Ingress, &segment(ACK, 7, 7, 3));
        assert_eq!(advance(&mut flow, Ingress, &segment(RST, 10, 0, 0)), Step::Ignored);
        advance(&mut flow, Ingress, &segment(FIN | ACK, 7, 7, 0));
        assert_eq!(advance(&mut flow, Ingress, &segment(RST, 8, 0, 0)), Step::Ignored);
        assert_eq!(flow.flags & FlowFlags::FIN_FROM_REMOTE, 0);
    }

    #[test]
    fn the_local_end_teaches_both_directions() {
        let mut flow = adopted(FlowFlags::OPENED_BY_REMOTE);
        assert_eq!(advance(&mut flow, Egress, &segment(ACK, 500, 101, 20)), Step::Stay);
        assert_eq!((flow.state, flow.end), (FlowState::Established as u8, [101, 520]));
        let forged = segment(RST, 102, 0, 0);
        assert_eq!(advance(&mut flow, Ingress, &forged), Step::Ignored);
        assert_eq!(advance(&mut flow, Ingress, &segment(ACK, 101, 510, 5)), Step::Stay);
        assert_eq!((flow.end[0], flow.ack[0]), (106, 510), "an answer to what was in flight");
        assert_eq!(advance(&mut flow, Ingress, &segment(RST, 106, 0, 0)), Step::Close);
    }

    #[test]
    fn a_keepalive_that_taught_leaves_no_gap() {
        let mut flow = adopted(0);
        advance(&mut flow, Egress, &segment(ACK, 499, 101, 0));
        assert_eq!(advance(&mut flow, Egress, &segment(ACK, 500, 101, 10)), Step::Stay);
        assert_eq!(flow.end[1], 510);
        advance(&mut flow, Ingress, &segment(FIN | ACK, 101, 510, 0));
        assert_eq!(advance(&mut flow, Egress, &segment(FIN | ACK, 511, 102, 0)), Step::Close);
    }

    #[test]
    fn an_adopted_flow_closes_by_what_the_local_end_confirms() {
        // The remote's FIN comes before anything is known, to an end that has closed its half already.
        let mut flow = adopted(FlowFlags::FIN_FROM_LOCAL);
        assert_eq!(advance(&mut flow, Ingress, &segment(FIN | ACK, 101, 500, 0)), Step::Stay);
        assert_eq!(flow.state, FlowState::Adopted as u8);
        assert_eq!(advance(&mut flow, Egress, &segment(ACK, 500, 102, 0)), Step::Close);
        // The local end's own reset.
        let mut flow = adopted(0);
        assert_eq!(advance(&mut flow, Egress, &segment(RST, 7, 0, 0)), Step::Close);
    }
}
