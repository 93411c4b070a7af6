//! Atomic addition. The Rust target for BPF offers none, though every kernel since 5.12 has the
//! instruction; so it is written out here.

use core::arch::asm;
use core::cell::UnsafeCell;

/// A shared 64-bit counter in a map.
#[repr(transparent)]
pub(crate) struct Counter64(UnsafeCell<u64>);

// SAFETY: the only access is the atomic instruction below.
unsafe impl Sync for Counter64 {}

impl Counter64 {
    /// Adds to the counter, wrapping, and returns what it was.
    #[inline(always)]
    pub(crate) fn fetch_add(&self, delta: u64) -> u64 {
        let mut value = delta;
        // SAFETY: the pointer comes from a reference, so it is aligned and valid for reads and writes.
        unsafe {
            asm!(
                "{value} = atomic_fetch_add((u64 *)({place} + 0), {value})",
                value = inout(reg) value,
                place = in(reg) self.0.get(),
                options(nostack),
            );
        }
        value
    }
}
