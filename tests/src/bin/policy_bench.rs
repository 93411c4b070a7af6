//! `cargo xtask bench policy`: measures the rows whose names contain the filter, and prints them in one table.

use std::{fs, process::ExitCode, time::Instant};

use anyhow::{Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use peak_alloc::PeakAlloc;
use tests::bench::{Measured, Options, ROWS, Row};
use tests::interrupt;

/// The compiler's memory is a row.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Columns of the table where there is no terminal.
const WIDTH: u16 = 160;
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
    eprintln!("{} ({seconds:.1} s)", if measured.passed { "ok" } else { "MISSED" });
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
    table.set_header(["job", "must be", "ratio", "", "context"]);
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
