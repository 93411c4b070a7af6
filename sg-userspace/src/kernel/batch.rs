//! Many elements of a map by one system call: aya makes one call for each.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya::Pod;

use super::KernelError;
use super::bpf::open_pin;

/// Commands of bpf(2), `linux/bpf.h`.
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

/// Elements a call: enough that the calls cost nothing, and a signal need not wait long.
const CHUNK: usize = 1 << 14;
/// Pauses in a row before a passing failure is believed.
const RETRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The attributes of the batch commands.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// In: how many. Out: how many were done.
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A pinned map, written by the batch.
pub(super) struct Batch<K, V> {
    map: OwnedFd,
    name: &'static str,
    types: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    /// Opens a map whose keys and values are of these types: its typed handle has been opened before, and that
    /// compares sizes.
    pub(super) fn open(pins: &Path, name: &'static str) -> Result<Self, KernelError> {
        let map = open_pin(&pins.join(name)).map_err(|source| failed("open", name, source))?;
        Ok(Self { map, name, types: PhantomData })
    }

    /// Adds elements, or changes those of an array.
    pub(super) fn update(&self, keys: &[K], values: &[V]) -> Result<(), KernelError> {
        let count = keys.len().min(values.len());
        self.repeat(count, BPF_MAP_UPDATE_BATCH, |from| {
            (keys[from..].as_ptr() as u64, values[from..].as_ptr() as u64)
        })
    }

    /// Adds elements to a hash table, many of them on two processors at once: its buckets have a lock each, a trie
    /// has one for all.
    pub(super) fn update_beside(&self, keys: &[K], values: &[V]) -> Result<(), KernelError>
    where
        K: Sync,
        V: Sync,
    {
        if keys.len() < 2 * CHUNK {
            return self.update(keys, values);
        }
        let half = keys.len() / 2;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.update(&keys[half..], &values[half..]));
            let one = self.update(&keys[..half], &values[..half]);
            one.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Removes elements, all of which are there.
    pub(super) fn remove(&self, keys: &[K]) -> Result<(), KernelError> {
        self.repeat(keys.len(), BPF_MAP_DELETE_BATCH, |from| (keys[from..].as_ptr() as u64, 0))
    }

    /// Calls until all of `count` are done; `at` says where what is left begins.
    fn repeat(
        &self,
        count: usize,
        command: libc::c_long,
        at: impl Fn(usize) -> (u64, u64),
    ) -> Result<(), KernelError> {
        let (mut done, mut retries) = (0, 0);
        while done < count {
            let (keys, values) = at(done);
            let mut attributes = Attributes {
                keys,
                values,
                map: self.map.as_raw_fd().cast_unsigned(),
                // At most a chunk's length.
                count: u32::try_from((count - done).min(CHUNK)).unwrap_or(u32::MAX),
                ..Attributes::default()
            };
            let result = batch(command, &mut attributes);
            match result {
                Ok(()) => retries = 0,
                Err(error) if is_passing(&error) && retries < RETRIES => {
                    retries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(source) => return Err(failed("write", self.name, source)),
            }
            done += attributes.count as usize;
        }
        Ok(())
    }
}

/// The kernel refills its stock of elements beside the call, which may empty it: no memory for a moment.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EBUSY | libc::EAGAIN))
}

fn failed(doing: &'static str, map: &'static str, source: io::Error) -> KernelError {
    KernelError::Batch { doing, map, source }
}

/// Afterwards `count` says how many were done, also where it failed.
fn batch(command: libc::c_long, attributes: &mut Attributes) -> io::Result<()> {
    // SAFETY: the attributes are a prefix of the kernel's union of the length given; keys and values outlive the
    // call, are as many as `count` says and as large as the map's, and the kernel writes to `count` alone.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
