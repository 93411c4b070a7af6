//! Forgetting one live flow, beside the packets of others and its own.
//!
//! An established flow has an entry, an element of the reclaiming clock and, unless it is TCP, a place in the number
//! of the others. Userspace could remove the entry, but it has no atomic addition for that number, and between its
//! look at the clock and its write there the element may be another flow's for long. So the controller hands the key
//! to a program, which does what a packet does that finds the flow dead.

use crate::abi::{Flow, FlowCell, FlowKey, FlowState, Forgetting, Forgotten};
use crate::conntrack::reclaim;
use crate::conntrack::track::ended;
use crate::work::{Scratch, Work};
use crate::{Address, AddressTables, Direction, Packet, Tables, V4, V6};

/// Does what a [`Forgetting`] asks for.
#[inline(always)]
pub fn forget<P: Packet + ?Sized, T: Tables>(
    record: &P,
    tables: &T,
    now: u64,
    scratch: &mut Scratch,
) -> Forgotten {
    let Some(bytes) = record.load::<{ size_of::<Forgetting>() }>(0) else {
        return Forgotten::Refused;
    };
    let record: Forgetting = zerocopy::transmute!(bytes.0);
    match record.family {
        4 => forget_one::<V4, T>(&record, tables, now, &mut scratch.v4),
        6 => forget_one::<V6, T>(&record, tables, now, &mut scratch.v6),
        _ => Forgotten::Refused,
    }
}

#[inline(always)]
fn forget_one<A: Address, T: Tables + AddressTables<A>>(
    record: &Forgetting,
    tables: &T,
    now: u64,
    work: &mut Work<A>,
) -> Forgotten {
    work.key = FlowKey {
        local: A::narrow(record.local),
        remote: A::narrow(record.remote),
        local_port: record.local_port,
        remote_port: record.remote_port,
        slot: record.slot,
        protocol: record.protocol,
        kind: record.kind,
    };
    work.tag = work.key.tag();
    let mut gone = false;
    // Opening tables first: a flow that is promoted meanwhile is then found among the established ones.
    for opened in Direction::ALL {
        let cell = tables.opening(opened, &work.key);
        if cell.is_some_and(|cell| is_wanted(&cell.snapshot(), work.tag, now)) {
            tables.remove_opening(opened, &work.key);
            gone = true;
        }
    }
    if let Some(cell) = tables.flow(&work.key) {
        // Its totals, before the element is another's.
        work.flow = cell.snapshot();
        if is_wanted(&work.flow, work.tag, now) && reclaim::remove(tables, work) {
            gone = true;
            // One that has closed has told them already.
            if work.flow.state != FlowState::Closed as u8 {
                let totals = FlowCell::new(&work.flow);
                ended(tables, &work.key, &totals, now);
            }
        }
    }
    if gone { Forgotten::Gone } else { Forgotten::Unknown }
}

/// Alive, and not cut: what was cut stays, or the other end's next packet would open it anew.
#[inline(always)]
const fn is_wanted(flow: &Flow, tag: u32, now: u64) -> bool {
    flow.tag == tag && flow.deadline > now && flow.state != FlowState::Cut as u8
}
