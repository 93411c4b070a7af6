//! `cargo xtask build`: the workspace, eBPF programs included (sg-userspace's build script makes
//! those).

use anyhow::Result;

use crate::cmd;

/// Arguments of `build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as shipped
    #[arg(long)]
    release: bool,
}

/// Builds the default members.
///
/// # Errors
/// When cargo fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cargo = cmd::cargo();
    cargo.arg("build");
    if args.release {
        cargo.arg("--release");
    }
    cmd::run(&mut cargo)
}
