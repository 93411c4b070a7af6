//! `cargo xtask attack [FILTER]`: plays the attacks whose names contain the filter, and prints what came of
//! each in one table.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use tests::attack::{ATTACKS, Attack, Measured, Options};
use tests::interrupt;

/// Columns of the table where there is no terminal.
const WIDTH: u16 = 160;
const USAGE: &str = "usage: attack [--quick] [--captures DIR] [FILTER]";

fn main() -> Result<ExitCode> {
    let (mut options, mut filter, mut quick) = (Options::default(), String::new(), false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--captures" => options.captures = words.next().map(PathBuf::from),
            other if other.starts_with('-') => bail!(USAGE),
            _ => filter = word.to_lowercase(),
        }
    }
    if let Some(folder) = &options.captures {
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
    }
    let wanted =
        |attack: &&Attack| (attack.quick || !quick) && attack.name.to_lowercase().contains(&filter);
    let attacks: Vec<_> = ATTACKS.iter().filter(wanted).collect();
    ensure!(!attacks.is_empty(), "no attack is called so");
    // The guards of the last attacks put the machine right again: they must not be passed by.
    interrupt::watch()?;
    let mut played = Vec::new();
    for attack in attacks {
        played.push((attack, play(attack, &options)));
        if interrupt::requested() {
            println!("\ninterrupted: what the attacks have made is gone");
            return Ok(ExitCode::from(130));
        }
    }
    Ok(conclude(&played))
}

fn play(attack: &Attack, options: &Options) -> Measured {
    eprint!("{} ... ", attack.name);
    let started = Instant::now();
    let measured = attack.play(options);
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{} ({seconds:.1} s)", if measured.passed { "ok" } else { "FAILED" });
    measured
}

fn conclude(played: &[(&Attack, Measured)]) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    // Where nobody looks, as in a log.
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(["attack", "must be", "measured", "ok"]);
    for (attack, measured) in played {
        let ok = if measured.passed { "yes" } else { "NO" };
        table.add_row([attack.name, attack.must, &measured.numbers, ok]);
    }
    println!("{table}");
    let passed = played.iter().filter(|(_, measured)| measured.passed).count();
    println!("{passed} of {} as they must be", played.len());
    if passed == played.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
