//! Entering flows that were there before the programs.
//!
//! The controller knows the sockets, but only a program can enter a flow while others run: an element of
//! the reclaiming clock belongs to whoever moved its hand there by an atomic addition, and userspace has
//! none. So the controller hands each conversation to a program, which does what promoting a flow does.

use crate::abi::{
    Adopted, Adoption, AdoptionRequest, Flow, FlowFlags, FlowKey, FlowKind, FlowState,
};
use crate::conntrack::{reclaim, timeout};
use crate::work::{Scratch, Work};
use crate::{Address, AddressTables, Be16, Direction, Packet, Tables, V4, V6};

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
    match adoption.family {
        4 => perform::<V4, T>(&adoption, tables, now, &mut scratch.v4),
        6 => perform::<V6, T>(&adoption, tables, now, &mut scratch.v6),
        _ => Adopted::Refused,
    }
}

#[inline(always)]
fn perform<A: Address, T: Tables + AddressTables<A>>(
    adoption: &Adoption,
    tables: &T,
    now: u64,
    work: &mut Work<A>,
) -> Adopted {
    const REMOVE: u8 = AdoptionRequest::Remove as u8;
    const REPLACE: u8 = AdoptionRequest::Replace as u8;
    const ADD: u8 = AdoptionRequest::Add as u8;
    work.key = FlowKey {
        local: A::narrow(adoption.local),
        remote: A::narrow(adoption.remote),
        local_port: adoption.local_port,
        remote_port: adoption.remote_port,
        slot: Be16::new(tables.attachment().slot),
        protocol: adoption.protocol,
        kind: FlowKind::Ports as u8,
    };
    match adoption.request {
        REMOVE => {
            forget(tables, work);
            return Adopted::Done;
        }
        REPLACE => forget(tables, work),
        ADD => {
            if is_known(tables, work, now) {
                return Adopted::Known;
            }
        }
        _ => return Adopted::Refused,
    }
    let Some(interface) = tables.interface(tables.generation()) else { return Adopted::Refused };
    let Some(state) = FlowState::from_number(adoption.state) else { return Adopted::Refused };
    if interface.policy == 0 {
        return Adopted::Refused;
    }
    work.flow = Flow {
        deadline: now + timeout(state, adoption.protocol, interface),
        rule: adoption.rule,
        tag: work.key.tag(),
        state: adoption.state,
        epoch: interface.epoch,
        flags: adoption.flags | FlowFlags::ADOPTED | FlowFlags::SOURCE_CHECKED,
        ..Flow::default()
    };
    match reclaim::insert(tables, work, now, interface.flow_limit) {
        Ok(()) => Adopted::Done,
        Err(_) => Adopted::Full,
    }
}

#[inline(always)]
fn forget<A: Address, T: Tables + AddressTables<A>>(tables: &T, work: &Work<A>) {
    reclaim::remove(tables, &work.key);
    tables.remove_opening(Direction::Ingress, &work.key);
    tables.remove_opening(Direction::Egress, &work.key);
}

/// Whether the flow has an entry, established or on the way there: packets know it better than sockets.
#[inline(always)]
fn is_known<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &Work<A>,
    now: u64,
) -> bool {
    let tag = work.key.tag();
    let lives = |cell: &crate::abi::FlowCell| cell.tag() == tag && cell.deadline() > now;
    tables.flow(&work.key).is_some_and(|cell| lives(&cell))
        || tables.opening(Direction::Ingress, &work.key).is_some_and(|cell| lives(&cell))
        || tables.opening(Direction::Egress, &work.key).is_some_and(|cell| lives(&cell))
}
