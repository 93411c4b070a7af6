//! `cargo xtask soak [FILTER]`: runs the rows whose names contain the filter, and prints what came of each in one
//! table.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tests::soak::{Measured, Options, ROWS, Row};
use tests::suite::{self, Suite};

const USAGE: &str = "usage: soak [--rounds N] [FILTER]";

fn main() -> Result<ExitCode> {
    let (mut options, mut filter) = (Options::default(), String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => {
                options.rounds = words.next().and_then(|word| word.parse().ok()).context(USAGE)?;
            }
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
    let suite = Suite { noun: "row", failed: "FAILED" };
    let done = suite.run(&rows, |row| row.name, run)?;
    Ok(done.map_or(ExitCode::from(130), |done| conclude(&done)))
}

fn conclude(done: &[(&Row, Measured)]) -> ExitCode {
    let mut table = suite::table(&["row", "must be", "measured", "ok"]);
    for (row, measured) in done {
        let ok = if measured.passed { "yes" } else { "NO" };
        table.add_row([row.name, row.must, &measured.numbers, ok]);
    }
    println!("{table}");
    let passed = done.iter().filter(|(_, measured)| measured.passed).count();
    println!("{passed} of {} as they must be", done.len());
    if passed == done.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
