//! Memory that work takes from the kernel, as the kernel counts it: what the allocator keeps for itself included.

use anyhow::{Context as _, Result};

/// What this process had of memory when some work began.
pub(super) struct Memory {
    before: u64,
}

impl Memory {
    /// From here on. What earlier work left in the heap goes back to the kernel first: `sgctl` does such work once
    /// in its life, with memory that it must get. Left in place, it would serve small work and not large work.
    pub(super) fn fresh() -> Result<Self> {
        // SAFETY: gives back what is free and touches nothing that is in use.
        unsafe { libc::malloc_trim(0) };
        // proc_pid_clear_refs(5): 5 sets the most that was resident to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")?;
        Ok(Self { before: status("VmRSS")? })
    }

    /// The most bytes that it has had since, beyond those from before.
    pub(super) fn peak(&self) -> Result<u64> {
        Ok(status("VmHWM")?.saturating_sub(self.before))
    }
}

/// Bytes of a line of `/proc/self/status`, proc_pid_status(5).
fn status(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("kB")?;
        value.trim().parse::<u64>().ok()
    });
    kilobytes.map(|number| number * 1024).with_context(|| format!("the kernel tells no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_for_a_while_counts_and_what_was_before_does_not() {
        const MEBIBYTES: usize = 64 << 20;
        let before = vec![1_u8; MEBIBYTES];
        let memory = Memory::fresh().expect("a kernel that counts");
        drop(vec![1_u8; MEBIBYTES]);
        let peak = usize::try_from(memory.peak().expect("a peak")).expect("not that much");
        drop(before);
        // Other tests of this process allocate beside it, little; and the kernel adds up its processors' counts late.
        let little = MEBIBYTES / 16;
        assert!((MEBIBYTES - little..2 * MEBIBYTES).contains(&peak), "{peak} bytes");
    }
}
