//! What leaves the programs: events, counters, and decisions of test runs.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use sg_common::Decision;
use sg_common::abi::{DecisionRecord, Event, EventKind, StreamCounters};

use crate::globals;
use crate::maps::{EVENTS, REPLAY_DECISION, REPLAY_TIME, STREAM};

const SECOND: u64 = 1_000_000_000;

/// The monotonic clock, by the tick; in a test run, the clock of the run.
#[inline(always)]
pub(crate) fn now() -> u64 {
    if globals::replay() {
        return REPLAY_TIME.get(0).copied().unwrap_or(0);
    }
    // SAFETY: takes no argument and has no precondition.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Leaves the decision where the test run reads it.
#[inline(always)]
pub(crate) fn leave_decision(decision: Decision) {
    if let Some(record) = REPLAY_DECISION.get_ptr_mut(0) {
        let value =
            DecisionRecord { rule: decision.rule, reason: decision.reason as u8, padding: [0; 3] };
        // SAFETY: the element is this processor's own.
        unsafe { record.write(value) };
    }
}

/// Writes an event, unless it is a drop beyond the budget of its second. Every event is counted once: as
/// emitted, suppressed or lost.
#[inline(always)]
pub(crate) fn emit(time: u64, kind: EventKind, fill: impl FnOnce(&mut Event)) {
    let Some(counters) = STREAM.get_ptr_mut(0) else { return };
    // SAFETY: the element is this processor's own, and programs do not nest on it.
    let counters = unsafe { &mut *counters };
    let is_drop = matches!(kind, EventKind::Drop);
    if globals::silent() || is_drop && !within_budget(counters, time) {
        counters.suppressed += 1;
        return;
    }
    let kind = if is_drop && globals::audit() { EventKind::Audit } else { kind };
    match EVENTS.reserve::<Event>(0) {
        Some(mut entry) => {
            let event = zeroed(&mut entry);
            event.time = time;
            event.kind = kind as u8;
            fill(event);
            entry.submit(0);
            counters.emitted += 1;
        }
        None => counters.lost += 1,
    }
}

/// Clears a record word by word, volatile: a whole zero value would be a call of `memset`, which on BPF is
/// a loop over bytes.
#[inline(always)]
fn zeroed(entry: &mut RingBufEntry<Event>) -> &mut Event {
    const WORDS: usize = size_of::<Event>() / 8;
    let words = entry.as_mut_ptr().cast::<u64>();
    let mut index = 0;
    while index < WORDS {
        // SAFETY: the record is that many words long.
        let word = unsafe { words.add(index) };
        // SAFETY: the word is the record's, and aligned as the record is.
        unsafe { word.write_volatile(0) };
        index += 1;
    }
    // SAFETY: all of it has been written, and zero is a value of every field.
    unsafe { entry.assume_init_mut() }
}

/// Takes one drop from the budget of the second in which it falls.
#[inline(always)]
fn within_budget(counters: &mut StreamCounters, time: u64) -> bool {
    let second = time / SECOND;
    if counters.second != second {
        counters.second = second;
        counters.used = 0;
    }
    counters.used += 1;
    counters.used <= globals::drop_budget()
}
