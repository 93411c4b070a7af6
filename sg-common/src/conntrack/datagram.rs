//! Everything but TCP: who has spoken how often.

use super::Step;
use crate::abi::{Flow, FlowFlags, FlowState};
use crate::wire::icmp;
use crate::wire::sctp;
use crate::wire::transport::Transport;
use crate::{Direction, Family};

/// Whether the packet may open a flow. A reply to a query that nobody asked may not, and an SCTP
/// association begins with INIT (RFC 9260, section 5.1).
#[inline(always)]
pub(crate) fn opens(transport: &Transport, family: Family) -> bool {
    match transport {
        Transport::Sctp(head) => head.chunk == sctp::INIT,
        Transport::Icmp(message) => !matches!(message.classify(family), icmp::Kind::Reply(_)),
        Transport::Tcp(_) | Transport::Udp(..) | Transport::Other => true,
    }
}

/// The first packet.
#[inline(always)]
pub(crate) fn open(direction: Direction) -> Flow {
    let flags = match direction {
        Direction::Ingress => FlowFlags::OPENED_BY_REMOTE,
        Direction::Egress => FlowFlags::SOURCE_CHECKED,
    };
    Flow { state: FlowState::Opened as u8, flags, ..Flow::default() }
}

/// A further packet. Only a flow that the local end opened and the remote end answered is promoted:
/// otherwise spoofed requests to an allowed port would fill the protected table by being answered.
#[inline(always)]
pub(crate) fn advance(
    flow: &mut Flow,
    state: FlowState,
    opener: Direction,
    direction: Direction,
) -> Step {
    let next = match (state, direction == opener) {
        (FlowState::Opened, false) => FlowState::Replied,
        (FlowState::Replied, true) => FlowState::AskedAgain,
        (FlowState::AskedAgain, false) => FlowState::Stream,
        (same, _) => same,
    };
    flow.state = next as u8;
    if matches!(opener, Direction::Egress) && !matches!(next, FlowState::Opened) {
        Step::Promote
    } else {
        Step::Stay
    }
}
