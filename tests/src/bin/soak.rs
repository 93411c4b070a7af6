//! `cargo xtask soak [FILTER]`: runs the rows whose names contain the filter, and prints what came of each in one
//! table.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use tests::interrupt;
use tests::soak::{Measured, Options, ROWS, Row};

/// Columns of the table where there is no terminal.
const WIDTH: u16 = 160;
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
    ensure!(!rows.is_empty(), "no row is called so");
    // The guards of the rows take away what they have made: they must not be passed by.
    interrupt::watch()?;
    let mut done = Vec::new();
    for row in rows {
        done.push((row, run(row, options)));
        if interrupt::requested() {
            println!("\ninterrupted: what the rows have made is gone");
            return Ok(ExitCode::from(130));
        }
    }
    Ok(conclude(&done))
}

fn run(row: &Row, options: Options) -> Measured {
    eprint!("{} ... ", row.name);
    let started = Instant::now();
    let measured = row.run(options);
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{} ({seconds:.1} s)", if measured.passed { "ok" } else { "FAILED" });
    measured
}

fn conclude(done: &[(&Row, Measured)]) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    // Where nobody looks, as in a log.
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(["row", "must be", "measured", "ok"]);
    for (row, measured) in done {
        let ok = if measured.passed { "yes" } else { "NO" };
        table.add_row([row.name, row.must, &measured.numbers, ok]);
    }
    println!("{table}");
    let passed = done.iter().filter(|(_, measured)| measured.passed).count();
    println!("{passed} of {} as they must be", done.len());
    if passed == done.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
