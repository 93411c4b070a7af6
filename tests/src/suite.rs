//! What the suites have in common that run row after row and print one table: attacks, soaking, benchmarks.

use std::time::Instant;

use anyhow::{Result, ensure};
use comfy_table::{ContentArrangement, Table, presets};

use crate::interrupt;

/// Columns of the table where there is no terminal.
const WIDTH: u16 = 160;

/// How a suite speaks of its rows.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// One of them.
    pub noun: &'static str,
    /// What one is called that did not come out as it must.
    pub failed: &'static str,
}

impl Suite {
    /// Runs rows in turn and says on standard error how each came out; `None` when somebody interrupted. `run` tells
    /// what was measured and whether it is as it must be.
    ///
    /// # Errors
    /// When there is no row, or interrupts cannot be watched for.
    pub fn run<'r, R, M>(
        self,
        rows: &[&'r R],
        name: impl Fn(&R) -> &'static str,
        run: impl Fn(&R) -> (M, bool),
    ) -> Result<Option<Vec<(&'r R, M)>>> {
        let Self { noun, failed } = self;
        ensure!(!rows.is_empty(), "no {noun} is called so");
        // The guards of the rows take away what they have made: they must not be passed by.
        interrupt::watch()?;
        let mut done = Vec::new();
        for &row in rows {
            eprint!("{} ... ", name(row));
            let started = Instant::now();
            let (measured, passed) = run(row);
            let seconds = started.elapsed().as_secs_f64();
            eprintln!("{} ({seconds:.1} s)", if passed { "ok" } else { failed });
            done.push((row, measured));
            if interrupt::requested() {
                println!("\ninterrupted: what the {noun}s have made is gone");
                return Ok(None);
            }
        }
        Ok(Some(done))
    }
}

/// An empty table with these columns.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    // Where nobody looks, as in a log.
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(header);
    table
}
