//! `cargo xtask soak`: what must hold a hundred times over, under a flood, by the package `tests`.

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege};

/// Arguments of `soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each row does what it does
    #[arg(long, value_name = "N", default_value_t = 100)]
    rounds: usize,
    /// Only rows whose name contains this
    filter: Option<String>,
}

/// Builds and runs; a row that does not hold is a failure.
///
/// # Errors
/// When it cannot be built, or a row does not hold.
pub(crate) fn run(args: &Args) -> Result<()> {
    let privilege = Privilege::detect();
    let build = ["build", "--package", "sg-userspace", "--package", "tests", "--bins"];
    cmd::run(cmd::cargo().args(build))?;
    let program = cmd::target_dir().join("debug/soak");
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut soak = privilege.command(program).context("soaking needs root or sudo")?;
    soak.args(["--rounds", &args.rounds.to_string()]);
    cmd::run(soak.args(&args.filter))
}
