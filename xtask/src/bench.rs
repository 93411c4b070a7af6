//! `cargo xtask bench`: what things cost, by the package `tests`, optimised.

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
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
    let Bench::Policy { quick, filter } = &args.bench;
    let privilege = Privilege::detect();
    let packages = ["--package", "sg-userspace", "--package", "tests"];
    let bins = ["--bin", "sgctl", "--bin", "policy_bench"];
    cmd::run(cmd::cargo().args(["build", "--release"]).args(packages).args(bins))?;
    let program = cmd::target_dir().join("release/policy_bench");
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut bench = privilege.command(program).context("measuring needs root or sudo")?;
    if *quick {
        bench.arg("--quick");
    }
    cmd::run(bench.args(filter))
}
