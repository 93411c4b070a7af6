//! Room in the flow table without a process that sweeps it.
//!
//! Beside `flows` stands an array with an element per possible flow: {deadline, key}. Each interface has a
//! part of it to itself, and so a number of flows that no other can take. Whoever inserts a flow moves the
//! interface's hand over that part and takes the first element whose owner is dead. An element whose
//! deadline lies ahead costs no hash lookup; one whose owner turns out alive gets its owner's deadline.
//! The hand gives each element to one caller per round, so no two flows ever share one.

use crate::abi::{ClockEntry, FlowKey, InterfaceVersion};
use crate::conntrack::track::ended;
use crate::wire::ip;
use crate::work::Work;
use crate::{Address, AddressTables, ClockHand, TableError, Tables};

/// Rounds of the hand, and elements looked at in each, before the table counts as full: 32 in all. Only
/// the end of a round looks at a flow, which keeps the loop small for the verifier; few elements need it, since
/// an owner is asked at most once in its timeout.
const ROUNDS: u32 = 4;
const PROBES: u32 = 8;

/// Moves the flow in hand among the established ones.
#[inline(always)]
pub(crate) fn insert<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
    now: u64,
    interface: &InterfaceVersion,
) -> Result<(), TableError> {
    let room = AddressTables::<A>::room(tables);
    let Some(hand) = claim(tables, work, now, interface) else {
        let is_whole_table = interface.flow_limit >= room;
        return Err(if is_whole_table { TableError::Full } else { TableError::Limit });
    };
    if work.key.protocol == ip::TCP {
        return known_is_fine(place(tables, work, hand));
    }
    // A quarter of the table at most, so that datagrams leave room for connections.
    let others = AddressTables::<A>::add_others(tables, 1);
    let placed = if others > i64::from(room / 4) {
        Err(TableError::Full)
    } else {
        place(tables, work, hand)
    };
    if placed.is_err() {
        AddressTables::<A>::add_others(tables, -1);
    }
    known_is_fine(placed)
}

/// Another processor was quicker: the flow is where it should be.
#[inline(always)]
fn known_is_fine(placed: Result<(), TableError>) -> Result<(), TableError> {
    if matches!(placed, Err(TableError::Exists)) { Ok(()) } else { placed }
}

#[inline(always)]
fn place<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
    hand: ClockHand,
) -> Result<(), TableError> {
    work.flow.clock_slot = hand.0;
    tables.insert_flow(&work.key, &work.flow)?;
    tables.set_clock(hand, work.flow.deadline, &work.key);
    Ok(())
}

/// Takes the flow of the key in hand out of the established ones, and gives its element back: it may be days
/// until the deadline in it has passed. Whether it was there. Off the fast path, with a stack frame of its own.
#[inline(never)]
pub(crate) fn remove<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
) -> bool {
    let Some(cell) = tables.flow(&work.key) else { return false };
    let hand = ClockHand(cell.clock_slot());
    let removed = take_out(tables, &work.key);
    if removed && tables.clock(hand, u64::MAX, &mut work.element) && work.element.key == work.key {
        tables.set_clock(hand, 0, &work.key);
    }
    removed
}

/// Takes a flow out; whether it was there. Two processors may both find a flow dead: only the one that
/// removes it counts it.
#[inline(always)]
fn take_out<A: Address, T: Tables + AddressTables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let removed = tables.remove_flow(key);
    if removed && key.protocol != ip::TCP {
        AddressTables::<A>::add_others(tables, -1);
    }
    removed
}

/// Lets the hand look at a flow that has closed as soon as it may go.
#[inline(always)]
pub(crate) fn shorten<A: Address, T: Tables + AddressTables<A>>(tables: &T, work: &mut Work<A>) {
    let hand = ClockHand(work.flow.clock_slot);
    // Not another's: the flow may have been taken out, and its element given away, since it was looked up.
    if tables.clock(hand, u64::MAX, &mut work.element) && work.element.key == work.key {
        tables.set_clock(hand, work.flow.deadline, &work.key);
    }
}

/// An element that nobody owns any more. A round ends at an element whose deadline has passed; where its
/// owner turns out alive, the next round goes on behind it.
#[inline(always)]
fn claim<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
    now: u64,
    interface: &InterfaceVersion,
) -> Option<ClockHand> {
    for _ in 0..ROUNDS {
        let Some(hand) = passed(tables, work, now, interface) else { continue };
        if work.element.deadline == 0 {
            return Some(hand);
        }
        let Some(deadline) = still_owned(tables, hand, &work.element, now) else {
            return Some(hand);
        };
        tables.set_clock(hand, deadline, &work.element.key);
    }
    None
}

/// The next element whose deadline has passed, copied into `work`.
#[inline(always)]
fn passed<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
    now: u64,
    interface: &InterfaceVersion,
) -> Option<ClockHand> {
    for _ in 0..PROBES {
        let slot = work.key.slot.get();
        let hand = AddressTables::<A>::advance_clock(tables, slot, interface);
        if tables.clock(hand, now, &mut work.element) {
            return Some(hand);
        }
    }
    None
}

/// The deadline of the flow that owns an element, if it is alive; a dead one is taken out.
#[inline(always)]
fn still_owned<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    hand: ClockHand,
    element: &ClockEntry<A>,
    now: u64,
) -> Option<u64> {
    let cell = tables.flow(&element.key)?;
    if cell.clock_slot() != hand.0 || cell.tag() != element.key.tag() {
        return None;
    }
    let deadline = cell.deadline();
    if deadline > now {
        return Some(deadline);
    }
    if !cell.is_closed() {
        ended(tables, &element.key, &cell, now);
    }
    let _by_another = take_out(tables, &element.key);
    None
}
