//! Entering flows that were there before the programs.
//!
//! The controller knows the sockets, but only a program can enter a flow while others run: an element of
//! the reclaiming clock belongs to whoever moved its hand there by an atomic addition, and userspace has
//! none. So the controller hands each conversation to a program, which does what promoting a flow does.

use crate::abi::{
    Adopted, Adoption, AdoptionRequest, Flow, FlowCell, FlowFlags, FlowKey, FlowKind, FlowState,
    InterfaceFlags,
};
use crate::conntrack::{reclaim, timeout};
use crate::judging::Judging;
use crate::permit::Question;
use crate::work::{Scratch, Work};
use crate::{
    Address, AddressTables, Be16, Direction, LinkLayer, Packet, TableError, Tables, V4, V6,
};

/// Does what an [`Adoption`] asks for.
#[inline(always)]
pub fn adopt<P: Packet + ?Sized, T: Tables>(
    record: &P,
    tables: &T,
    now: u64,
    scratch: &mut Scratch,
) -> Adopted {
    let Some(bytes) = record.load::<{ size_of::<Adoption>() }>(0) else { return Adopted::Refused };
    let adoption: Adoption = zerocopy::transmute!(bytes.0);
    let generation = tables.generation();
    let Some(interface) = tables.interface(generation) else { return Adopted::Refused };
    // Link and direction are none of a packet's: questions name their own.
    let link = LinkLayer::Ethernet;
    let judging =
        Judging::<P, T, false> { packet: record, tables, link, interface, generation, now };
    match adoption.family {
        4 => judging.adopt::<V4>(&adoption, &mut scratch.v4),
        6 => judging.adopt::<V6>(&adoption, &mut scratch.v6),
        _ => Adopted::Refused,
    }
}

impl<P: ?Sized, T: Tables> Judging<'_, P, T, false> {
    #[inline(always)]
    fn adopt<A: Address>(&self, adoption: &Adoption, work: &mut Work<A>) -> Adopted
    where
        T: AddressTables<A>,
    {
        const REMOVE: u8 = AdoptionRequest::Remove as u8;
        const REPLACE: u8 = AdoptionRequest::Replace as u8;
        const ADD: u8 = AdoptionRequest::Add as u8;
        work.key = FlowKey {
            local: A::narrow(adoption.local),
            remote: A::narrow(adoption.remote),
            local_port: adoption.local_port,
            remote_port: adoption.remote_port,
            slot: Be16::new(self.tables.attachment().slot),
            protocol: adoption.protocol,
            kind: FlowKind::Ports as u8,
        };
        work.tag = work.key.tag();
        match adoption.request {
            REMOVE => {
                self.forget(work);
                Adopted::Removed
            }
            REPLACE => {
                self.forget(work);
                self.enter_adopted(adoption, work)
            }
            ADD if self.is_known(work) => Adopted::Known,
            ADD => {
                // What has expired, but was not yet taken out.
                self.forget(work);
                self.enter_adopted(adoption, work)
            }
            _ => Adopted::Refused,
        }
    }

    #[inline(never)]
    fn enter_adopted<A: Address>(&self, adoption: &Adoption, work: &mut Work<A>) -> Adopted
    where
        T: AddressTables<A>,
    {
        let Some(state) = FlowState::from_number(adoption.state) else { return Adopted::Refused };
        if self.interface.policy == 0 {
            return Adopted::Refused;
        }
        work.flow = Flow {
            deadline: self.now + timeout(state, adoption.protocol, self.interface),
            tag: work.tag,
            state: adoption.state,
            epoch: self.interface.epoch,
            flags: adoption.flags | FlowFlags::ADOPTED | FlowFlags::SOURCE_CHECKED,
            ..Flow::default()
        };
        let direction = work.flow.opening_direction();
        let port = match direction {
            Direction::Ingress => work.key.local_port,
            Direction::Egress => work.key.remote_port,
        };
        let (remote, protocol) = (work.key.remote, work.key.protocol);
        let permit = self.permit(Question { remote, direction, protocol, port: Some(port) });
        let result = match permit {
            Some(permit) => {
                work.flow.rule = permit.rule();
                if permit.is_untracked() {
                    work.flow.flags |= FlowFlags::UNTRACKED;
                }
                Adopted::Allowed
            }
            None if self.has(InterfaceFlags::CUT_LIVE_FLOWS) => return Adopted::Cut,
            None => Adopted::Kept,
        };
        match reclaim::insert(self.tables, work, self.now, self.interface) {
            Ok(()) => result,
            Err(TableError::Full | TableError::Exists) => Adopted::Full,
            Err(TableError::Limit) => Adopted::Limit,
        }
    }

    #[inline(always)]
    fn forget<A: Address>(&self, work: &mut Work<A>)
    where
        T: AddressTables<A>,
    {
        reclaim::remove(self.tables, work);
        self.tables.remove_opening(Direction::Ingress, &work.key);
        self.tables.remove_opening(Direction::Egress, &work.key);
    }

    /// Whether the flow has an entry, established or on the way there: packets know it better than sockets.
    #[inline(always)]
    fn is_known<A: Address>(&self, work: &Work<A>) -> bool
    where
        T: AddressTables<A>,
    {
        let lives = |cell: &FlowCell| cell.tag() == work.tag && cell.deadline() > self.now;
        self.tables.flow(&work.key).is_some_and(|cell| lives(&cell))
            || self.tables.opening(Direction::Ingress, &work.key).is_some_and(|cell| lives(&cell))
            || self.tables.opening(Direction::Egress, &work.key).is_some_and(|cell| lives(&cell))
    }
}
