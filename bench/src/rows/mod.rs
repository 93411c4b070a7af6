//! The rows of the report, each in a file of its own. Another is a file, a type with [`Row`] and a line in [`ROWS`].

mod established;
mod events;
mod floods;
mod insert;
mod memory;
mod prefixes;
mod scale;
mod sockets;
mod two_cores;

use std::time::Duration;

use anyhow::Result;

use crate::report::Measured;
use crate::rounds::Plan;

/// Packets of a ring of new flows.
pub(crate) const FRESH_RING: usize = 1 << 16;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lab {
    /// For a look: fewer and shorter rounds.
    pub(crate) quick: bool,
}

impl Lab {
    /// Rounds of batches.
    pub(crate) fn plan(self) -> Plan {
        if self.quick {
            Plan { rounds: 3, batch: Duration::from_millis(10) }
        } else {
            Plan { rounds: 15, batch: Duration::from_millis(40) }
        }
    }
}

impl Lab {
    /// Rounds of packets that really go somewhere.
    pub(crate) fn rounds(self) -> usize {
        if self.quick { 5 } else { 21 }
    }

    /// How long one of them is looked at.
    pub(crate) fn window(self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 120 })
    }
}

/// A row of the table of targets.
pub(crate) trait Row: Sync {
    /// Its number there.
    fn number(&self) -> u8;
    /// What is measured.
    fn title(&self) -> &'static str;
    /// How it is measured, in a sentence or two.
    fn method(&self) -> &'static str;
    /// Measures it.
    ///
    /// # Errors
    /// When it cannot be measured, or what ran was not what is measured.
    fn measure(&self, lab: Lab) -> Result<Measured>;
}

/// Every row, in order.
pub(crate) const ROWS: &[&dyn Row] = &[
    &established::Established,
    &prefixes::Prefixes,
    &scale::Scale,
    &insert::Insert,
    &floods::AgainstFloor,
    &floods::AgainstRivals,
    &sockets::DATAGRAMS,
    &sockets::CONNECTIONS,
    &sockets::BULK,
    &events::Events,
    &two_cores::TwoCores,
    &memory::Memory,
];
