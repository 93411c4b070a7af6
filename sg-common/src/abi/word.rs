//! A word in a map that several processors read and write.
//!
//! The host uses the core library's atomics. The BPF target has them in 64 bits only, so there a word is
//! read and written by volatile accesses, which the back end turns into one load or store each: all that
//! relaxed ordering asks for. Neither form adds atomically; counters that must be exact are per processor.

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
}

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "the target has no 32-bit atomics; the volatile accesses are here")]
mod words {
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
}

pub(super) use words::{Word32, Word64};
