//! The decision engine on the host: the code that the kernel runs, on a compiled spec held in memory.
//!
//! `explain`, the policy file's `tests:`, the shared cases and the fuzzers all judge packets here.

mod lru;
mod packets;
mod reach;
mod rules;
mod state;
mod tables;
mod tests_of_file;

pub use packets::{Probe, ProbeError, packet};
pub use reach::{Answer, ReachError, reach};
pub use rules::Rules;
pub use state::{Counters, Limits};
pub use tables::{HostFamily, HostTables, NoSlot};
pub use tests_of_file::{End, Outcome, TestResult, run_tests};
