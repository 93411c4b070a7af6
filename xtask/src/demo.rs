//! `cargo xtask demo`: the three-tier example with real traffic, step by step.
//!
//! The demo is a binary of the package `tests`, so that this one stays quick to compile.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege};

/// Builds the demo and becomes it, so that Ctrl-C reaches the one that has to clean up.
///
/// # Errors
/// When it cannot be built, or there is no way to root's powers.
pub(crate) fn run() -> Result<()> {
    let privilege = Privilege::detect();
    cmd::run(cmd::cargo().args([
        "build",
        "--package",
        "sg-userspace",
        "--package",
        "tests",
        "--bins",
    ]))?;
    let program = cmd::target_dir().join("debug/demo");
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut demo = privilege
        .command(program)
        .context("making namespaces needs root or `sudo`: run as root, or `sudo -v` first")?;
    cmd::announce(&demo);
    // Returns only when it fails.
    Err(demo.exec()).with_context(|| format!("cannot start {program}"))
}
