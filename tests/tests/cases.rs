//! Every case of `tests/cases` at every level. The first needs no privilege:
//! `cargo test -p tests --test cases host`.

use std::time::Instant;

use anyhow::Result;
use sg_userspace::kernel::run::RunHook;
use sg_userspace::kernel::{TcMode, Wanted, XdpMode};
use tests::case::check::{Level, Report, check_all};
use tests::case::{Bench, Case, files};

/// Runs everything, then lists every failure.
fn every_case(level: Level<'_>) -> Result<()> {
    let started = Instant::now();
    let files = files()?;
    let cases: Vec<&Case> = files.iter().flat_map(|file| &file.cases).collect();
    let Report { cases, steps, left_out, failures, .. } = check_all(&cases, level);
    for case in left_out {
        println!("not at this level: {case}");
    }
    println!(
        "{cases} cases, {steps} steps, {} failures, {:.1?}",
        failures.len(),
        started.elapsed()
    );
    let list = failures.iter().map(|failure| format!("\n{failure}")).collect::<String>();
    assert!(failures.is_empty(), "{list}\n{} failures", failures.len());
    Ok(())
}

#[test]
fn host() -> Result<()> {
    every_case(Level::Host)
}

#[test]
fn test_run_tc() -> Result<()> {
    every_case(Level::Run(RunHook::Tc))
}

#[test]
fn test_run_xdp() -> Result<()> {
    every_case(Level::Run(RunHook::Xdp))
}

#[test]
fn devices() -> Result<()> {
    every_case(Level::Devices(&Bench::new(Wanted { xdp: XdpMode::Off, tc: TcMode::Auto })?))
}

/// As on kernels without TCX (before 6.6).
#[test]
fn devices_with_clsact() -> Result<()> {
    every_case(Level::Devices(&Bench::new(Wanted { xdp: XdpMode::Off, tc: TcMode::Clsact })?))
}

#[test]
fn devices_with_xdp() -> Result<()> {
    every_case(Level::Devices(&Bench::new(Wanted { xdp: XdpMode::Native, tc: TcMode::Auto })?))
}
