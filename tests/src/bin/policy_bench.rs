//! `cargo xtask bench policy`: measures the rows whose names contain the filter, and prints them in one table.

use std::{fs, process::ExitCode};

use anyhow::{Result, bail};
use tests::bench::{Measured, Options, ROWS, Row};
use tests::suite::{self, Suite};

const USAGE: &str = "usage: policy_bench [--quick] [FILTER]";

fn main() -> Result<ExitCode> {
    let (mut options, mut filter) = (Options::default(), String::new());
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => options.quick = true,
            other if other.starts_with('-') => bail!(USAGE),
            _ => filter = word.to_lowercase(),
        }
    }
    let rows: Vec<_> =
        ROWS.iter().filter(|row| row.name.to_lowercase().contains(&filter)).collect();
    let run = |row: &Row| {
        let measured = row.run(options);
        let passed = measured.passed;
        (measured, passed)
    };
    let suite = Suite { noun: "row", failed: "MISSED" };
    let done = suite.run(&rows, |row| row.name, run)?;
    Ok(done.map_or(ExitCode::from(130), |done| conclude(&done)))
}

fn conclude(done: &[(&Row, Measured)]) -> ExitCode {
    let mut table = suite::table(&["job", "must be", "ratio", "", "context"]);
    for (row, measured) in done {
        let ok = if measured.passed { "ok" } else { "MISSED" };
        let (ratios, context) = (measured.ratios.join("\n"), measured.context.join("\n"));
        table.add_row([row.name, row.bound, &ratios, ok, &context]);
    }
    println!("{table}");
    let passed = done.iter().filter(|(_, measured)| measured.passed).count();
    println!("{passed} of {} as they must be; {}", done.len(), machine());
    if passed == done.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where it was measured.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, Into::into);
    format!("Linux {}, {processors} processors", kernel.trim())
}
