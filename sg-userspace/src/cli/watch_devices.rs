//! `sgctl watch-devices`: keeps attached devices under their policy.

use serde::Serialize;

use super::{Exit, Format, Global, output};
use crate::events::WallClock;
use crate::kernel::read::monotonic;
use crate::kernel::watch::{Event, Watcher};
use crate::kernel::{Paths, require_root};

/// Attach devices again that are re-created, renamed, moved or stripped of programs; runs until it is ended
///
/// Enforcement needs no such process: what is attached stays so. But a device that is made anew has no programs, and
/// nothing is filtered there until it gets them. This command notices within a second, in every network namespace that
/// has a name or a process, gives the device the programs and options that it had, and writes a line for each event.
/// `addresses: auto` follows as soon as an address changes.
///
/// What is opened before a device has its programs is not adopted. contrib/ has a unit for systemd.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl watch-devices
  sgctl watch-devices -o json | jq 'select(.protected | not)'")]
pub(super) struct Arguments {}

/// An event with its time, as JSON has it: one object a line.
#[derive(Serialize)]
struct Line<'e> {
    time: String,
    #[serde(flatten)]
    event: &'e Event,
}

pub(super) fn run(_: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("watch devices")?;
    let paths = Paths::from_environment();
    let mut watcher = Watcher::new(&paths);
    eprintln!("watching the attached devices");
    loop {
        for event in watcher.wait()? {
            output::print(&text(&event, global)?)?;
        }
    }
}

fn text(event: &Event, global: Global) -> anyhow::Result<String> {
    let now = monotonic();
    let clock = WallClock::now(now);
    if global.output == Format::Json {
        return Ok(serde_json::to_string(&Line { time: clock.rfc3339(now), event })?);
    }
    let Event { device, interface, detail, protected, .. } = event;
    let unprotected = if *protected { "" } else { " (UNPROTECTED)" };
    Ok(format!("{} {device} ({interface}): {detail}{unprotected}", clock.time_of_day(now)))
}
