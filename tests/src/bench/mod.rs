//! What a change of policy costs, and what packets notice of it: ratios of interleaved rounds, each with the bound
//! that it must keep. Absolute times are context, since machines differ and are shared.
//!
//! A row is a line of [`ROWS`] and a function that returns what it [`Measured`]. `cargo xtask bench policy` runs
//! them in that order and prints one table.

mod compile;
mod editing;
mod edits;
mod figures;
mod flows;
pub mod generate;
mod load;
mod member;
mod memory;
mod permits;

use anyhow::Result;

/// How much of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A fiftieth of the sizes, and fewer rounds: for a look, since small ratios are noise.
    pub quick: bool,
}

impl Options {
    fn scaled(self, size: usize) -> usize {
        if self.quick { size.div_ceil(50) } else { size }
    }
}

/// What came of a row.
#[derive(Debug)]
pub struct Measured {
    /// The ratios that are bounded, and what they must be.
    pub ratios: Vec<String>,
    /// Absolute values, for context.
    pub context: Vec<String>,
    /// Whether every bound is kept.
    pub passed: bool,
}

impl Measured {
    const fn begin() -> Self {
        Self { ratios: Vec::new(), context: Vec::new(), passed: true }
    }

    /// Adds a ratio and whether it keeps its bound.
    fn add(&mut self, passed: bool, ratio: String) {
        self.passed &= passed;
        self.ratios.push(if passed { ratio } else { format!("{ratio} MISSED") });
    }

    /// Adds a ratio that may be so much at most.
    fn at_most(&mut self, bound: f64, ratio: f64, what: &str) {
        self.add(ratio <= bound, format!("{what} {ratio:.2}x"));
    }

    fn context(&mut self, line: String) {
        self.context.push(line);
    }
}

/// A job, and what it may cost.
#[derive(Debug)]
pub struct Row {
    /// What is done.
    pub name: &'static str,
    /// What must come of it.
    pub bound: &'static str,
    run: fn(Options) -> Result<Measured>,
}

impl Row {
    /// Runs it; a row that cannot be run is missed.
    #[must_use]
    pub fn run(&self, options: Options) -> Measured {
        (self.run)(options).unwrap_or_else(|error| Measured {
            ratios: vec![format!("could not be run: {error:#}")],
            context: Vec::new(),
            passed: false,
        })
    }
}

/// Every row, in the order in which they are run.
pub const ROWS: &[Row] = &[
    Row {
        name: "member added to a group of 1 000 000, named by 100 policies, against one of 1000",
        bound: "at most 3x latency and CPU; a handful of writes, as many as there",
        run: member::run,
    },
    Row {
        name: "compile 10 000 groups, 100 000 rules, 1 000 000 members, against a tenth",
        bound: "at most 12x the time; at most 200 bytes a member",
        run: compile::run,
    },
    Row {
        name: "load 1 000 000 addresses, against a system call for each step",
        bound: "at least 5x faster",
        run: load::run,
    },
    Row {
        name: "500 interfaces with the same groups, against one",
        bound: "as many permits",
        run: permits::interfaces,
    },
    Row {
        name: "500 policies, each with a rule to everywhere and one from 10.0.0.0/8, over 1 000 000 members there",
        bound: "permits by rules, not by classes; the first such rule writes a handful",
        run: permits::broad,
    },
    Row {
        name: "1000 edits a second against traffic",
        bound: "at least 1000 a second; 0 wrong verdicts; packets at most 1.1x of quiet",
        run: edits::run,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_miss_is_the_rows() {
        let mut measured = Measured::begin();
        measured.at_most(3.0, 2.0, "latency");
        assert!(measured.passed);
        measured.at_most(3.0, 3.5, "CPU");
        measured.at_most(3.0, 1.0, "other");
        assert!(!measured.passed);
        assert_eq!(measured.ratios, ["latency 2.00x", "CPU 3.50x MISSED", "other 1.00x"]);
    }
}
