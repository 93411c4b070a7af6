//! Packet bytes by the word, wherever they stand: the compiler would load an unaligned word byte by byte.
//! Nothing here is optimised away, or a program that only reads would read nothing.

use core::arch::asm;

/// `from + length`, in the one form from which the verifier learns how much there is.
#[inline(always)]
pub(crate) fn behind(from: usize, length: usize) -> usize {
    let mut sum = from;
    // SAFETY: adds a register to another.
    unsafe {
        asm!(
            "{sum} += {length}",
            sum = inout(reg) sum,
            length = in(reg) length,
            options(nostack, nomem, pure, preserves_flags),
        );
    }
    sum
}

macro_rules! unaligned_load {
    ($name:ident, $instruction:literal) => {
        /// Loads a word.
        ///
        /// # Safety
        /// The bytes must be readable.
        #[inline(always)]
        pub(crate) unsafe fn $name(address: usize) -> u64 {
            let value: u64;
            // SAFETY: the caller promises that the bytes are readable.
            unsafe {
                asm!(
                    $instruction,
                    value = out(reg) value,
                    address = in(reg) address,
                    options(nostack, readonly, preserves_flags),
                );
            }
            value
        }
    };
}

pub(crate) use unaligned_load;
