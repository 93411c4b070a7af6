//! Room in the flow table without a process that sweeps it.
//!
//! Beside `flows` stands an array with an element per possible flow: {deadline, key}. Whoever inserts a
//! flow moves a shared hand over it and takes the first element whose owner is dead. An element whose
//! deadline lies ahead costs no hash lookup; one whose owner turns out alive gets its owner's deadline.
//! The hand gives each element to one caller per round, so no two flows ever share one.

use crate::abi::{ClockEntry, FlowKey};
use crate::conntrack::track::ended;
use crate::wire::ip;
use crate::work::Work;
use crate::{Address, AddressTables, ClockHand, TableError, Tables};

/// Rounds of the hand, and elements looked at in each, before the table counts as full: 32 in all. Only
/// the end of a round looks at a flow, which keeps the loop small for the verifier; few elements need it, since
/// an owner is asked at most once in its timeout.
const ROUNDS: u32 = 4;
const PROBES: u32 = 8;

/// Moves the flow in hand among the established ones, of which its interface may have `limit`.
#[inline(always)]
pub(crate) fn insert<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    work: &mut Work<A>,
    now: u64,
    limit: u32,
) -> Result<(), TableError> {
    // Claimed before the limits are asked, so that they count the living alone.
    let hand = claim(tables, work, now).ok_or(TableError::Full)?;
    let other = work.key.protocol != ip::TCP;
    let others = if other { AddressTables::<A>::add_others(tables, 1) } else { 0 };
    let flows = AddressTables::<A>::add_flows(tables, work.key.slot.get(), 1);
    let placed = if other && others >= AddressTables::<A>::others_limit(tables) {
        Err(TableError::Full)
    } else if flows >= limit.into() {
        Err(TableError::Limit)
    } else {
        place(tables, work, hand)
    };
    if placed.is_err() {
        if other {
            AddressTables::<A>::add_others(tables, -1);
        }
        AddressTables::<A>::add_flows(tables, work.key.slot.get(), -1);
    }
    placed
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

/// Takes a flow out of the established ones. Its element is found unowned when the hand comes by.
#[inline(always)]
pub(crate) fn remove<A: Address, T: Tables + AddressTables<A>>(tables: &T, key: &FlowKey<A>) {
    // Two processors may both find a flow dead: only the one that removes it counts it.
    if tables.remove_flow(key) {
        AddressTables::<A>::add_flows(tables, key.slot.get(), -1);
        if key.protocol != ip::TCP {
            AddressTables::<A>::add_others(tables, -1);
        }
    }
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
) -> Option<ClockHand> {
    for _ in 0..ROUNDS {
        let Some(hand) = passed(tables, work, now) else { continue };
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
) -> Option<ClockHand> {
    for _ in 0..PROBES {
        let hand = AddressTables::<A>::advance_clock(tables);
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
    remove(tables, &element.key);
    None
}
