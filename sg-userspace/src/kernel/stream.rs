//! The event ring: records as the programs write them, and what became of those that are not in it.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use serde::Serialize;
use sg_common::abi::Event;
use zerocopy::FromBytes as _;

use super::{KernelError, Lock, Paths, maps};

/// The reading end of the ring.
pub struct EventStream {
    ring: RingBuf<MapData>,
    _lock: Lock,
}

/// What became of all events so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// Written into the ring.
    pub emitted: u64,
    /// Drops beyond the budget of their second.
    pub suppressed: u64,
    /// Not written, because nobody had emptied the ring.
    pub lost: u64,
}

impl EventStream {
    /// Opens the ring. One reader at a time: each record is read once.
    ///
    /// # Errors
    /// [`KernelError::Busy`] when another reads, [`KernelError::NothingAttached`] when nothing writes.
    pub fn open(paths: &Paths) -> Result<Self, KernelError> {
        super::require_root("read the event ring")?;
        if !paths.maps().exists() {
            return Err(KernelError::NothingAttached);
        }
        let lock = Lock::try_take(&paths.events_lock()).map_err(|error| {
            if let KernelError::Busy { holder } = error {
                KernelError::EventsRead { holder }
            } else {
                error
            }
        })?;
        Ok(Self { ring: maps::events(&paths.maps())?, _lock: lock })
    }

    /// The next record, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(item) = self.ring.next() {
            // A record of another length belongs to another version; the pin path keeps those out.
            if let Ok(event) = Event::read_from_bytes(&item) {
                return Some(event);
            }
        }
        None
    }
}

impl AsRawFd for EventStream {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// What became of all events so far, over all processors.
///
/// # Errors
/// When the map cannot be read.
pub fn totals(paths: &Paths) -> Result<StreamTotals, KernelError> {
    let counters = maps::stream(&paths.maps())?;
    let values = counters.get(&0, 0).map_err(|e| KernelError::map("read", "STREAM", e))?;
    Ok(values.iter().fold(StreamTotals::default(), |sum, one| StreamTotals {
        emitted: sum.emitted + one.0.emitted,
        suppressed: sum.suppressed + one.0.suppressed,
        lost: sum.lost + one.0.lost,
    }))
}
