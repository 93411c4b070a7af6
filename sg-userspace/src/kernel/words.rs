//! The words of `classes`, in memory that is shared with the programs: a word is one store, without a system call.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sg_common::abi::ClassWord;

use super::KernelError;
use super::bpf::open_pin;

/// The mapped array.
pub(super) struct Words {
    memory: NonNull<c_void>,
    bytes: usize,
    number: usize,
}

// SAFETY: the memory is the process's, and every access to it is atomic.
unsafe impl Send for Words {}

impl Words {
    /// Maps the pinned array of so many words.
    pub(super) fn open(pins: &Path, name: &'static str, number: u32) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Batch { doing: "map", map: name, source };
        let map = open_pin(&pins.join(name)).map_err(failed)?;
        let number = number as usize;
        let bytes = NonZeroUsize::new(number * size_of::<u64>()).unwrap_or(NonZeroUsize::MIN);
        let (access, shared) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let memory = unsafe { mmap(None, bytes, access, shared, map.as_fd(), 0) };
        let memory = memory.map_err(|error| failed(error.into()))?;
        Ok(Self { memory, bytes: bytes.get(), number })
    }

    /// Writes a word; programs that read it see the old one or the new one.
    pub(super) fn set(&self, slot: u32, word: ClassWord) -> Result<(), KernelError> {
        let slot = slot as usize;
        if slot >= self.number {
            let source = std::io::Error::from_raw_os_error(libc::E2BIG);
            return Err(KernelError::Batch { doing: "write", map: "CLASSES", source });
        }
        // SAFETY: the mapping is that many words long.
        let place = unsafe { self.memory.cast::<AtomicU64>().add(slot) };
        // SAFETY: it is aligned to a page, lives as long as this, and is only accessed atomically.
        unsafe { place.as_ref() }.store(word.0, Ordering::Release);
        Ok(())
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let unmapped = unsafe { munmap(self.memory, self.bytes) };
        if let Err(error) = unmapped {
            log::warn!("cannot unmap CLASSES: {error}");
        }
    }
}
