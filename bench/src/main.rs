//! `cargo xtask bench`: what a packet costs, held against floors that no stateful filter gets below. Writes
//! `report.json` and `report.html`; a target that is missed is a failure.

mod capture;
mod driver;
mod floor;
mod frames;
mod guarded;
mod machine;
mod paired;
mod policies;
mod profile;
mod report;
mod rings;
mod rivals;
mod rounds;
mod rows;
mod scenes;
mod sockets;
mod stats;
mod subject;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use ::tests::interrupt;
use anyhow::{Result, ensure};
use clap::Parser;

use crate::capture::Replayed;
use crate::machine::Machine;
use crate::report::{Measured, Report, RowReport};
use crate::rows::{Lab, ROWS, Row};

/// Measures what a packet costs
#[derive(Parser)]
struct Args {
    /// Fewer and shorter rounds, for a look
    #[arg(long)]
    quick: bool,
    /// Only these rows of the table of targets
    #[arg(long = "row", value_name = "NUMBER")]
    rows: Vec<u8>,
    /// Instead: replay a capture
    #[arg(long, value_name = "FILE", conflicts_with = "rows")]
    pcap: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Instead: run one kind of packet for some seconds, for a profiler
    #[arg(long, value_name = "KIND")]
    profile: Option<profile::Kind>,
    /// With --profile: how many seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// With --profile: beside so many established flows, as a power of two
    #[arg(long, default_value_t = 16)]
    flows: u32,
    /// With --profile: IPv6
    #[arg(long)]
    v6: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    // The guards of the rows take away what they have made: they must not be passed by.
    interrupt::watch()?;
    if let Some(kind) = args.profile {
        machine::on_last_processor()?;
        let family = if args.v6 { frames::Family::V6 } else { frames::Family::V4 };
        profile::run(kind, family, args.flows, args.seconds)?;
        return Ok(ExitCode::SUCCESS);
    }
    let capture = args.pcap.as_deref().map(Replayed::read).transpose()?;
    let wanted = |row: &&dyn Row| args.rows.is_empty() || args.rows.contains(&row.number());
    let rows: Vec<&dyn Row> = match &capture {
        Some(capture) => vec![capture],
        None => ROWS.iter().copied().filter(wanted).collect(),
    };
    ensure!(!rows.is_empty(), "no row has such a number");
    let began = Instant::now();
    let machine = Machine::look()?;
    machine::on_last_processor()?;
    let mut done = Vec::new();
    for row in rows {
        done.push(measured(row, Lab { quick: args.quick }));
        if interrupt::requested() {
            println!("interrupted: what the rows have made is gone");
            return Ok(ExitCode::from(130));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let report = Report { machine, quick: args.quick, seconds, rows: done };
    report.write(&args.out)?;
    println!("{}", report.text());
    println!("{} and report.html", args.out.join("report.json").display());
    let passed = report.rows.iter().all(|row| row.measured.passed());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures a row, and says on standard error how it came out.
fn measured(row: &dyn Row, lab: Lab) -> RowReport {
    eprint!("{}. {} ... ", row.number(), row.title());
    let began = Instant::now();
    let measured = row.measure(lab).unwrap_or_else(|error| Measured::failed(&error));
    let seconds = began.elapsed().as_secs_f64();
    let said = match (&measured.error, measured.passed()) {
        (Some(error), _) => error,
        (None, true) => "ok",
        (None, false) => "MISSED",
    };
    eprintln!("{said} ({seconds:.1} s)");
    let (number, title, method) = (row.number(), row.title(), row.method());
    RowReport { number, title, method, seconds, measured }
}
