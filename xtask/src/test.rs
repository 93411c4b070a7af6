//! `cargo xtask test`: every test, the privileged ones with root's powers.
//!
//! The fuzz targets run last, for a bounded time, and count as one test.
//!
//! Compiling is always done as the invoking user, so that no file of the target directory belongs
//! to someone else; only the test binaries of the package `tests` go through sudo.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{cmd, fuzz, privilege::Privilege, summary::Summary};

/// Packages whose tests need no privilege.
const UNPRIVILEGED: [&str; 3] = ["sg-common", "sg-userspace", "xtask"];
/// The package whose tests make namespaces and load programs.
const PRIVILEGED: [&str; 1] = ["tests"];

/// Arguments of `test`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run only the tests that need no privileges
    #[arg(long)]
    unprivileged: bool,
    /// Run only the tests whose name contains this
    filter: Option<String>,
}

/// Runs the tests and prints their sum as the last line.
///
/// # Errors
/// When a test fails, none ran, or the privileged ones cannot be run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let privilege = Privilege::detect();
    if privilege == Privilege::None && !args.unprivileged {
        return refuse();
    }
    let mut summary = Summary::default();
    for mut cargo in runs(args, privilege)? {
        let failed_before = summary.failed;
        if !stream(&mut cargo, &mut summary)? && summary.failed == failed_before {
            // It did not compile, or a test took its whole binary down before it could report.
            summary.failed += 1;
        }
    }
    if args.filter.is_none() {
        match fuzz::run(&fuzz::Args::bounded()) {
            Ok(()) => summary.passed += 1,
            Err(error) => {
                println!("{error:#}");
                summary.failed += 1;
            }
        }
    }
    println!("{summary}");
    if summary.failed > 0 {
        bail!("tests failed");
    }
    if summary.ran() == 0 {
        bail!("no test ran: does the filter name one?");
    }
    Ok(())
}

/// The cargo commands that together run what was asked for.
fn runs(args: &Args, privilege: Privilege) -> Result<Vec<Command>> {
    if args.unprivileged {
        return Ok(vec![cargo_test(&UNPRIVILEGED, args)]);
    }
    // Cargo does not build another package's binary for a test, and the harness runs sgctl. With
    // the tests in the same breath, dependencies get the features that the tests will want, and
    // are compiled once.
    cmd::run(cmd::cargo().args(["build", "--bins", "--tests"]))?;
    if privilege == Privilege::Root {
        return Ok(vec![cargo_test(&[UNPRIVILEGED.as_slice(), &PRIVILEGED].concat(), args)]);
    }
    let mut privileged = cargo_test(&PRIVILEGED, args);
    privileged.env(runner_variable()?, "sudo -n -E");
    Ok(vec![cargo_test(&UNPRIVILEGED, args), privileged])
}

fn cargo_test(packages: &[&str], args: &Args) -> Command {
    let mut cargo = cmd::cargo();
    cargo.args(["test", "--no-fail-fast"]);
    packages.iter().for_each(|package| _ = cargo.args(["--package", package]));
    if let Some(filter) = &args.filter {
        cargo.args(["--", filter]);
    }
    cargo
}

/// The variable by which cargo is told how to start binaries of the host's target.
fn runner_variable() -> Result<String> {
    let host = cmd::host_target()?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_")))
}

/// Runs cargo, passing its output on as it comes and counting results; true if it succeeded.
fn stream(cargo: &mut Command, summary: &mut Summary) -> Result<bool> {
    cmd::announce(cargo);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo's output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading cargo's output")?;
        // A test may print anything; what is not text is shown, not refused.
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        summary.add_line(&line);
    }
    Ok(child.wait().context("waiting for cargo")?.success())
}

/// Names the tests that would need privileges, and fails: skipping them silently would be a lie.
fn refuse() -> Result<()> {
    let mut list = cargo_test(&PRIVILEGED, &Args::default());
    list.args(["--", "--list", "--format", "terse"]);
    let names = cmd::output(&mut list).context("listing the privileged tests")?;
    println!("these tests need root, and neither are we root nor does `sudo -n` work:");
    names.lines().filter(|line| line.ends_with(": test")).for_each(|line| println!("  {line}"));
    bail!("run as root, make sudo work (`sudo -v`), or pass --unprivileged to run only the rest")
}
