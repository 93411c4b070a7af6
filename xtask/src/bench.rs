//! `cargo xtask bench`: what things cost, by the packages `bench` and `tests`, optimised.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege, setup};

/// Arguments of `bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// Fewer and shorter rounds, for a look (about two minutes)
    #[arg(long)]
    quick: bool,
    /// Only these rows of the table of targets
    #[arg(long = "row", value_name = "NUMBER")]
    rows: Vec<u8>,
    /// Instead: replay a capture, over and over, against the programs, X and nftables
    #[arg(long, value_name = "FILE", conflicts_with = "rows")]
    pcap: Option<PathBuf>,
}

/// What is not about packets.
#[derive(clap::Subcommand)]
enum Other {
    /// Changes of a large policy, and of one under traffic: a table of ratios and their bounds
    Policy {
        /// Smaller sizes and fewer rounds, for a look
        #[arg(long)]
        quick: bool,
        /// Only rows whose name contains this
        filter: Option<String>,
    },
}

/// Builds and measures; a bound that is not kept is a failure.
///
/// # Errors
/// When it cannot be built, or a bound is not kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.other {
        None => packets(args),
        Some(Other::Policy { quick, filter }) => policy(*quick, filter.as_deref()),
    }
}

fn packets(args: &Args) -> Result<()> {
    let Args { quick, rows, pcap, .. } = args;
    setup::bench_tools(Privilege::detect())?;
    let packages = ["--package", "sg-userspace", "--package", "bench"];
    cmd::run(cmd::cargo().args(["build", "--release"]).args(packages).args(["--bins"]))?;
    let mut bench = optimised("bench")?;
    let out = cmd::target_dir().join("bench");
    // Of a capture there is a report of its own.
    bench.arg("--out").arg(if pcap.is_some() { out.join("capture") } else { out });
    if let Some(pcap) = pcap {
        bench.arg("--pcap").arg(pcap);
    }
    for row in rows {
        bench.args(["--row", &row.to_string()]);
    }
    cmd::run(bench.args(quick.then_some("--quick")))
}

fn policy(quick: bool, filter: Option<&str>) -> Result<()> {
    let packages = ["--package", "sg-userspace", "--package", "tests"];
    let bins = ["--bin", "sgctl", "--bin", "policy_bench"];
    cmd::run(cmd::cargo().args(["build", "--release"]).args(packages).args(bins))?;
    let mut bench = optimised("policy_bench")?;
    cmd::run(bench.args(quick.then_some("--quick")).args(filter))
}

/// A program that has been built, with root's powers.
fn optimised(name: &str) -> Result<Command> {
    let program = cmd::target_dir().join("release").join(name);
    let program = program.to_str().context("the path of the target directory is no text")?;
    Privilege::detect().command(program).context("measuring needs root or sudo")
}
