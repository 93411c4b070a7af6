//! Read-only globals, written by the loader before the program is. The verifier knows their values, so
//! what they switch off is not in the loaded program.

use sg_common::Side;

/// Slot of the interface.
#[unsafe(no_mangle)]
static SG_SLOT: u32 = 0;
/// Number of its VPC.
#[unsafe(no_mangle)]
static SG_VPC: u32 = 0;
/// 0: host, 1: workload.
#[unsafe(no_mangle)]
static SG_SIDE: u32 = 0;
/// 1: packets begin with an IP header.
#[unsafe(no_mangle)]
static SG_LINK_IP: u32 = 0;
/// 1: drops are reported, not done.
#[unsafe(no_mangle)]
static SG_AUDIT: u32 = 0;
/// 1: every packet is traced through aya-log.
#[unsafe(no_mangle)]
static SG_TRACE: u32 = 0;
/// 1: time comes from a map and every decision is left in one.
#[unsafe(no_mangle)]
static SG_REPLAY: u32 = 0;
/// 1: no event is written; each counts as suppressed.
#[unsafe(no_mangle)]
static SG_SILENT: u32 = 0;
/// Elements of the reclaiming clock less one; their number is a power of two.
#[unsafe(no_mangle)]
static SG_CLOCK_MASK: u32 = 0;
/// Elements of the rules' counters less one; their number is a power of two.
#[unsafe(no_mangle)]
static SG_RULE_MASK: u32 = 0;
/// Drops reported per second and processor.
#[unsafe(no_mangle)]
static SG_DROP_BUDGET: u32 = 0;
/// When the grace time ends in which flows are learnt, in nanoseconds of the monotonic clock; 0: none.
#[unsafe(no_mangle)]
static SG_GRACE_UNTIL: u64 = 0;

/// Reads a global that the compiler must not take for the constant it sees.
#[inline(always)]
fn read(global: &'static u32) -> u32 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(global) }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the loader writes a u16")]
pub(crate) fn slot() -> u16 {
    read(&SG_SLOT) as u16
}

#[inline(always)]
pub(crate) fn vpc() -> u32 {
    read(&SG_VPC)
}

#[inline(always)]
pub(crate) fn side() -> Side {
    if read(&SG_SIDE) == 0 { Side::Host } else { Side::Workload }
}

#[inline(always)]
pub(crate) fn link_is_ip() -> bool {
    read(&SG_LINK_IP) != 0
}

#[inline(always)]
pub(crate) fn audit() -> bool {
    read(&SG_AUDIT) != 0
}

#[inline(always)]
pub(crate) fn trace() -> bool {
    read(&SG_TRACE) != 0
}

#[inline(always)]
pub(crate) fn replay() -> bool {
    read(&SG_REPLAY) != 0
}

#[inline(always)]
pub(crate) fn silent() -> bool {
    read(&SG_SILENT) != 0
}

#[inline(always)]
pub(crate) fn clock_mask() -> u32 {
    read(&SG_CLOCK_MASK)
}

#[inline(always)]
pub(crate) fn rule_mask() -> u32 {
    read(&SG_RULE_MASK)
}

#[inline(always)]
pub(crate) fn drop_budget() -> u64 {
    read(&SG_DROP_BUDGET).into()
}

#[inline(always)]
pub(crate) fn grace_until() -> u64 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(&raw const SG_GRACE_UNTIL) }
}
