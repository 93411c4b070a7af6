//! `cargo xtask fuzz`: the fuzz targets, for a bounded time.
//!
//! libFuzzer is driven without cargo-fuzz: all that cargo-fuzz would add here are compiler flags, which the stable
//! compiler takes, and installing it compiles longer than the targets do. Address sanitizing takes an unstable
//! compiler and finds nothing in code without `unsafe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::cmd;

/// The targets, in `fuzz/fuzz_targets`.
const TARGETS: [&str; 2] = ["parser", "decide"];

/// What makes a function count its edges and comparisons for libFuzzer.
const RUSTFLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Folder of pcap and pcapng files to begin with as well
    #[arg(long)]
    captures: Option<PathBuf>,
}

impl Args {
    /// What is part of every test run.
    pub(crate) const fn bounded() -> Self {
        Self { target: None, seconds: 15, captures: None }
    }
}

/// Builds and runs the targets.
///
/// # Errors
/// When one does not build, or finds a crash: its input is then named.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cmd::target_dir().join("fuzz");
    seeds(&root.join("seeds"), args.captures.as_deref())?;
    let programs = build(&root)?;
    let targets =
        TARGETS.into_iter().filter(|it| args.target.as_deref().is_none_or(|one| one == *it));
    for target in targets {
        let found = root.join("corpus").join(target);
        let crashes = root.join("crashes").join(target);
        for folder in [&found, &crashes] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut program = cmd::command(path(&programs.join(target))?);
        // What it finds interesting goes into the first folder, and is where the next run begins.
        program.arg(&found).arg(root.join("seeds").join(target));
        program.arg(format!("-max_total_time={}", args.seconds));
        program.arg(format!("-artifact_prefix={}/", crashes.display()));
        // The engine takes microseconds: an input of ten seconds is a hang.
        program.args(["-timeout=10", "-max_len=4096", "-print_final_stats=1", "-verbosity=0"]);
        cmd::run(&mut program).with_context(|| {
            format!("fuzz target {target}: its input is in {}", crashes.display())
        })?;
    }
    Ok(())
}

/// The packets of the cases, and of captures where a folder is given.
fn seeds(out: &Path, captures: Option<&Path>) -> Result<()> {
    cmd::run(cmd::cargo().args(["build", "--package", "tests", "--bin", "seeds"]))?;
    // From nothing: the packets of a case that is gone are of no use.
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let mut program = cmd::command(path(&cmd::target_dir().join("debug/seeds"))?);
    program.arg(out);
    if let Some(folder) = captures {
        program.arg(folder.canonicalize().with_context(|| folder.display().to_string())?);
    }
    cmd::run(&mut program)
}

/// Compiles the targets; where they are.
fn build(root: &Path) -> Result<PathBuf> {
    let host = cmd::host_target()?;
    let began = Instant::now();
    let mut cargo = cmd::cargo();
    cargo.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    // Naming the host keeps the flags from build scripts, which have no libFuzzer to link with.
    cargo.args(["--target", &host]).arg("--target-dir").arg(root);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    cmd::run(&mut cargo).context("libFuzzer takes a C++ compiler (Debian: g++)")?;
    eprintln!("fuzz targets built in {:.0} s", began.elapsed().as_secs_f32());
    Ok(root.join(host).join("release"))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the path of the target directory is no text")
}
