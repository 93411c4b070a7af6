//! Room in the flow table without a process that sweeps it.
//!
//! Beside `flows` stands an array with an element per possible flow: {deadline, key}. Whoever inserts a
//! flow moves a shared hand over it and takes the first element whose owner is dead. An element whose
//! deadline lies ahead costs no hash lookup; one whose owner turns out alive gets its owner's deadline.
//! The hand gives each element to one caller per round, so no two flows ever share one.

use crate::abi::{ClockEntry, Flow, FlowKey};
use crate::conntrack::track::ended;
use crate::wire::ip;
use crate::{Address, AddressTables, ClockHand, TableError, Tables};

/// Elements looked at before the table counts as full.
const PROBES: u32 = 32;

/// Moves a flow among the established ones.
#[inline(always)]
pub(crate) fn insert<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    flow: &mut Flow,
    now: u64,
) -> Result<(), TableError> {
    let other = key.protocol != ip::TCP;
    if other && AddressTables::<A>::add_others(tables, 1) >= AddressTables::<A>::others_limit(tables) {
        AddressTables::<A>::add_others(tables, -1);
        return Err(TableError::Full);
    }
    let placed = claim::<A, T>(tables, now).ok_or(TableError::Full).and_then(|hand| {
        flow.clock_slot = hand.0;
        tables.insert_flow(key, flow)?;
        tables.set_clock(hand, &ClockEntry { deadline: flow.deadline, key: *key });
        Ok(())
    });
    if other && placed.is_err() {
        AddressTables::<A>::add_others(tables, -1);
    }
    placed
}

/// Takes a flow out of the established ones. Its element is found unowned when the hand comes by.
#[inline(always)]
pub(crate) fn remove<A: Address, T: Tables + AddressTables<A>>(tables: &T, key: &FlowKey<A>) {
    tables.remove_flow(key);
    if key.protocol != ip::TCP {
        AddressTables::<A>::add_others(tables, -1);
    }
}

/// Lets the hand look at a flow that has closed as soon as it may go.
#[inline(always)]
pub(crate) fn shorten<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    flow: &Flow,
) {
    tables.set_clock(
        ClockHand(flow.clock_slot),
        &ClockEntry { deadline: flow.deadline, key: *key },
    );
}

#[inline(always)]
fn claim<A: Address, T: Tables + AddressTables<A>>(tables: &T, now: u64) -> Option<ClockHand> {
    for _ in 0..PROBES {
        let hand = AddressTables::<A>::advance_clock(tables);
        let entry: ClockEntry<A> = tables.clock(hand)?;
        if entry.deadline > now {
            continue;
        }
        if entry.deadline == 0 {
            return Some(hand);
        }
        match owner(tables, hand, &entry) {
            Some(flow) if flow.deadline > now => {
                tables.set_clock(hand, &ClockEntry { deadline: flow.deadline, ..entry });
            }
            Some(flow) => {
                ended(tables, &entry.key, &flow, now);
                remove(tables, &entry.key);
                return Some(hand);
            }
            None => return Some(hand),
        }
    }
    None
}

/// The flow that owns an element, if it is still there and still owns it.
#[inline(always)]
fn owner<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    hand: ClockHand,
    entry: &ClockEntry<A>,
) -> Option<Flow> {
    let flow = tables.flow(&entry.key)?.snapshot();
    (flow.clock_slot == hand.0 && flow.tag == entry.key.tag()).then_some(flow)
}
