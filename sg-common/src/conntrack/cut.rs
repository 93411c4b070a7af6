//! Live flows after a change of rules.
//!
//! An interface's epoch rises when a change narrows what it lets through. A flow judged under another
//! epoch goes on with `live_flows: keep`, unless AWS would not track it; with `cut` it is judged again, by
//! the rules of the direction that opened it. Refused, its entry stays and drops both directions, or the
//! other end's next packet would open it anew.

use crate::abi::{Flow, FlowFlags, FlowKey, FlowKind, FlowState, InterfaceFlags};
use crate::judging::Judging;
use crate::permit::Question;
use crate::wire::ip;
use crate::work::Work;
use crate::{Address, AddressTables, Be16, Direction, Tables};

/// What a flow's packet finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The flow goes on.
    Holds,
    /// It does again.
    Revived,
    /// The rules allow it no longer.
    Cut,
}

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Whether a flow must be looked at by [`Self::judge_again`].
    #[inline(always)]
    pub(crate) fn is_doubtful(&self, flow: &Flow) -> bool {
        flow.state == FlowState::Cut as u8
            || flow.epoch != self.interface.epoch
                && flow.state != FlowState::Closed as u8
                && (flow.flags & FlowFlags::UNTRACKED != 0
                    || self.has(InterfaceFlags::CUT_LIVE_FLOWS))
    }

    /// Judges the flow in hand again; `work.flow` says afterwards how it stands.
    #[inline(never)]
    pub(crate) fn judge_again<A: Address>(&self, work: &mut Work<A>) -> Standing
    where
        T: AddressTables<A>,
    {
        let opener = work.flow.opening_direction();
        let was_cut = work.flow.state == FlowState::Cut as u8;
        // Only the end that opened it may take it up again.
        if was_cut && opener != Self::DIRECTION {
            return Standing::Cut;
        }
        let question = Question {
            remote: work.key.remote,
            direction: opener,
            protocol: work.key.protocol,
            port: Some(rule_port(&work.key, opener)),
        };
        work.flow.epoch = self.interface.epoch;
        let Some(permit) = self.permit(question) else {
            work.flow.state = FlowState::Cut as u8;
            return Standing::Cut;
        };
        work.flow.rule = permit.rule();
        work.flow.flags &= !FlowFlags::UNTRACKED;
        if permit.is_untracked() {
            work.flow.flags |= FlowFlags::UNTRACKED;
        }
        if !was_cut {
            return Standing::Holds;
        }
        if work.key.protocol == ip::TCP {
            // Nobody has followed its numbers meanwhile.
            work.flow.flags |= FlowFlags::ADOPTED;
            work.flow.state = FlowState::Adopted as u8;
        } else {
            work.flow.state = FlowState::Opened as u8;
        }
        Standing::Revived
    }
}

/// What the rules of the opening direction look at: destination port, or type and code.
#[inline(always)]
pub fn rule_port<A: Address>(key: &FlowKey<A>, opener: Direction) -> Be16 {
    let (local, remote) = (key.local_port.to_bytes(), key.remote_port.to_bytes());
    if key.kind == FlowKind::Ports as u8 {
        return match opener {
            Direction::Ingress => key.local_port,
            Direction::Egress => key.remote_port,
        };
    }
    let query =
        key.kind == FlowKind::QueryByLocal as u8 || key.kind == FlowKind::QueryByRemote as u8;
    // Queries have code 0.
    Be16::from_bytes(if query { [remote[1], 0] } else { [local[1], remote[1]] })
}
