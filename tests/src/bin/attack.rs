//! `cargo xtask attack [FILTER]`: plays the attacks whose names contain the filter, and prints what came of
//! each in one table.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use tests::attack::{ATTACKS, Attack, Measured, Options};
use tests::suite::{self, Suite};

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
    let play = |attack: &Attack| {
        let measured = attack.play(&options);
        let passed = measured.passed;
        (measured, passed)
    };
    let suite = Suite { noun: "attack", failed: "FAILED" };
    let played = suite.run(&attacks, |attack| attack.name, play)?;
    Ok(played.map_or(ExitCode::from(130), |played| conclude(&played)))
}

fn conclude(played: &[(&Attack, Measured)]) -> ExitCode {
    let mut table = suite::table(&["attack", "must be", "measured", "ok"]);
    for (attack, measured) in played {
        let ok = if measured.passed { "yes" } else { "NO" };
        table.add_row([attack.name, attack.must, &measured.numbers, ok]);
    }
    println!("{table}");
    let passed = played.iter().filter(|(_, measured)| measured.passed).count();
    println!("{passed} of {} as they must be", played.len());
    if passed == played.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
