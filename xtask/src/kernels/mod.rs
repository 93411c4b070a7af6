//! `cargo xtask kernels`: do the programs load, judge and attach on the kernels that we say they do?
//!
//! Debian's packages of each kernel are unpacked, not installed, and boot in a virtual machine from an image
//! that holds the test program and what it needs, without disk and network. The running kernel comes first.

mod image;
mod machine;
mod package;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::privilege::Privilege;
use crate::setup::packages::{self, KERNELS};
use crate::{cmd, kernels::report::Report};

/// The oldest kernel that we say works, and the one that Debian 12 offers beside it.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// Arguments of `kernels`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only kernels of these series, such as 6.1; `running` is the one that runs
    series: Vec<String>,
    /// Longest that a virtual machine may take, in seconds
    #[arg(long, default_value_t = 1800)]
    limit: u64,
}

/// Asks each kernel, prints a row for each.
///
/// # Errors
/// When one refuses a program, fails a case or does not come to an end.
pub(crate) fn run(args: &Args) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the virtual machines are x86-64 alone, and this machine is not");
    }
    let wanted = |name: &str| args.series.is_empty() || args.series.iter().any(|it| it == name);
    if let Some(unknown) =
        args.series.iter().find(|it| *it != "running" && !SERIES.contains(&&***it))
    {
        bail!("no kernel is called {unknown}: there are running, {}", SERIES.join(", "));
    }
    let privilege = Privilege::detect();
    packages::ensure(&KERNELS, privilege).context("setup: packages")?;
    cmd::run(cmd::cargo().args(["build", "--package", "tests", "--bin", "kernel"]))?;
    let program = cmd::target_dir().join("debug/kernel");
    let mut reports = Vec::new();
    if wanted("running") {
        reports.push(on_this_kernel(&program, privilege)?);
    }
    let machines = SERIES.into_iter().filter(|series| wanted(series));
    let machines = machines.map(|series| prepare(&program, series, privilege));
    reports.extend(boot_all(machines.collect::<Result<_>>()?, Duration::from_secs(args.limit))?);
    println!("{}", report::table(&reports));
    let failed: Vec<&str> =
        reports.iter().filter(|it| !it.is_good()).map(|it| it.kernel.as_str()).collect();
    reports.iter().for_each(Report::print_failures);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Where everything is kept that belongs to a series.
fn folder(series: &str) -> Result<PathBuf> {
    let folder = cmd::target_dir().join("kernels").join(series);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn on_this_kernel(program: &Path, privilege: Privilege) -> Result<Report> {
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut command = privilege.command(program).context("loading programs needs root or sudo")?;
    cmd::announce(&command);
    let started = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().context("cannot start it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Report::parse("running", &text, started.elapsed()))
}

/// A machine that could boot.
struct Prepared {
    series: &'static str,
    folder: PathBuf,
    kernel: PathBuf,
    image: PathBuf,
}

fn prepare(program: &Path, series: &'static str, privilege: Privilege) -> Result<Prepared> {
    let folder = folder(series)?;
    let kernel = package::fetch(series, &folder, privilege)
        .with_context(|| format!("getting a kernel {series}"))?;
    let image = folder.join("image.cpio");
    image::write(&image, program, &kernel).context("making the image")?;
    Ok(Prepared { series, folder, kernel: kernel.image, image })
}

/// Side by side: each keeps about one processor busy.
fn boot_all(machines: Vec<Prepared>, limit: Duration) -> Result<Vec<Report>> {
    thread::scope(|scope| {
        let boot = |machine| scope.spawn(move || boot(&machine, limit));
        let running: Vec<_> = machines.into_iter().map(boot).collect();
        let join = |one: ScopedJoinHandle<'_, Result<Report>>| {
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    })
}

fn boot(machine: &Prepared, limit: Duration) -> Result<Report> {
    let Prepared { series, folder, kernel, image } = machine;
    let started = Instant::now();
    let ended = machine::run(kernel, image, folder, limit)?;
    let report = Report::parse(series, &ended.report, started.elapsed());
    if !report.is_whole {
        eprintln!("kernel {series} did not come to an end ({}); its last words:", ended.how);
        eprintln!("{}\nall of them: {}", ended.last_words, ended.console.display());
    }
    Ok(report)
}
