//! The soak suite: what must hold not once but each of a hundred times, while packets come as fast as they can.
//!
//! A row is a line of [`ROWS`] and a function that returns what it [`Measured`]. `cargo xtask soak` runs them in that
//! order and prints one table; a short run of some is a test too.

mod change;
mod full;
mod policies;
pub(crate) mod streams;
mod upgrade;

use anyhow::Result;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each row does what it does.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 100 }
    }
}

/// What came of a row.
#[derive(Debug)]
pub struct Measured {
    /// The numbers, for the table.
    pub numbers: String,
    /// Whether they are what they must be.
    pub passed: bool,
}

/// Something done again and again, and what must come of it.
#[derive(Debug)]
pub struct Row {
    /// What is done.
    pub name: &'static str,
    /// What must come of it.
    pub must: &'static str,
    run: fn(Options) -> Result<Measured>,
}

impl Row {
    /// Runs it; a row that cannot be run does not hold.
    #[must_use]
    pub fn run(&self, options: Options) -> Measured {
        (self.run)(options).unwrap_or_else(|error| Measured {
            numbers: format!("could not be run: {error:#}"),
            passed: false,
        })
    }
}

/// Every row, in the order in which they are run.
pub const ROWS: &[Row] = &[
    Row {
        name: "apply killed",
        must: "exactly the old or the new policy, and which",
        run: change::kill,
    },
    Row { name: "two applies race", must: "one order or the other, and which", run: change::race },
    Row { name: "tables full", must: "exit 1, old policy whole", run: full::full },
    Row {
        name: "unconfirmed",
        must: "back within a second of the deadline",
        run: change::unconfirmed,
    },
    Row { name: "upgrade, TCX", must: streams::EXACT, run: upgrade::tcx },
    Row { name: "upgrade, clsact", must: streams::EXACT, run: upgrade::clsact },
    Row { name: "upgrade, native XDP", must: streams::EXACT, run: upgrade::xdp },
];
