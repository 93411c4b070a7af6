//! A word in a map that several processors read and write.
//!
//! The host uses the core library's atomics. The BPF target has them in 64 bits only, so there a word is
//! read and written by volatile accesses, which the back end turns into one load or store each: all that
//! relaxed ordering asks for. An exchange is written out as the instruction that it is. Neither form adds
//! atomically; counters that must be exact are per processor.

#[cfg(not(target_arch = "bpf"))]
mod words {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

    macro_rules! word {
        ($name:ident, $atomic:ty, $value:ty, $doc:literal) => {
            #[doc = $doc]
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(in crate::abi) struct $name($atomic);

            impl $name {
                /// A word that holds `value`.
                #[inline(always)]
                pub(in crate::abi) const fn new(value: $value) -> Self {
                    Self(<$atomic>::new(value))
                }

                /// Its value now.
                #[inline(always)]
                pub(in crate::abi) fn get(&self) -> $value {
                    self.0.load(Relaxed)
                }

                /// Gives it a value.
                #[inline(always)]
                pub(in crate::abi) fn set(&self, value: $value) {
                    self.0.store(value, Relaxed);
                }
            }
        };
    }

    word!(Word32, AtomicU32, u32, "32 bits.");
    word!(Word64, AtomicU64, u64, "64 bits.");

    impl Word64 {
        /// Replaces `expected`; whether it was that.
        #[inline(always)]
        pub(in crate::abi) fn exchange(&self, expected: u64, value: u64) -> bool {
            self.0.compare_exchange(expected, value, Relaxed, Relaxed).is_ok()
        }
    }
}

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "the target has no 32-bit atomics; the volatile accesses are here")]
mod words {
    use core::arch::asm;
    use core::cell::UnsafeCell;

    macro_rules! word {
        ($name:ident, $value:ty, $doc:literal) => {
            #[doc = $doc]
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(in crate::abi) struct $name(UnsafeCell<$value>);

            // SAFETY: the only accesses are single volatile loads and stores of an aligned word.
            unsafe impl Sync for $name {}

            impl $name {
                /// A word that holds `value`.
                #[inline(always)]
                pub(in crate::abi) const fn new(value: $value) -> Self {
                    Self(UnsafeCell::new(value))
                }

                /// Its value now.
                #[inline(always)]
                pub(in crate::abi) fn get(&self) -> $value {
                    // SAFETY: a reference is valid for reads, and nobody holds one to the inside.
                    unsafe { self.0.get().read_volatile() }
                }

                /// Gives it a value.
                #[inline(always)]
                pub(in crate::abi) fn set(&self, value: $value) {
                    // SAFETY: likewise for writes.
                    unsafe { self.0.get().write_volatile(value) }
                }
            }
        };
    }

    word!(Word32, u32, "32 bits.");
    word!(Word64, u64, "64 bits.");

    impl Word64 {
        /// Replaces `expected`; whether it was that. Compared and stored by one instruction, which takes
        /// the expected value in r0 and leaves there what it found.
        #[inline(always)]
        pub(in crate::abi) fn exchange(&self, expected: u64, value: u64) -> bool {
            let found: u64;
            // SAFETY: the pointer comes from a reference, so it is aligned and valid for reads and writes.
            unsafe {
                asm!(
                    "r0 = cmpxchg_64({place} + 0, r0, {value})",
                    place = in(reg) self.0.get(),
                    value = in(reg) value,
                    inout("r0") expected => found,
                    options(nostack),
                );
            }
            found == expected
        }
    }
}

pub(super) use words::{Word32, Word64};
