//! `cargo xtask attack`: the attack suite of the package `tests`, with the tools that it attacks with.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege, setup};

/// Arguments of `attack`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only attacks that take seconds and no tools, which `test` plays too
    #[arg(long)]
    quick: bool,
    /// Folder of captures whose packets are cut at every byte, with its subfolders [env: SG_CAPTURES]
    #[arg(long, value_name = "DIR")]
    captures: Option<PathBuf>,
    /// Only attacks whose name contains this
    filter: Option<String>,
}

/// Installs the tools, builds, and plays; any attack that does what it must not is a failure.
///
/// # Errors
/// When the tools cannot be installed, or an attack succeeds.
pub(crate) fn run(args: &Args) -> Result<()> {
    let privilege = Privilege::detect();
    if !args.quick {
        setup::attack_tools(privilege)?;
    }
    let build = ["build", "--package", "sg-userspace", "--package", "tests", "--bins"];
    cmd::run(cmd::cargo().args(build))?;
    let program = cmd::target_dir().join("debug/attack");
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut attack = privilege.command(program).context("attacking needs root or sudo")?;
    if args.quick {
        attack.arg("--quick");
    }
    // Looked up here: sudo drops the caller's variables.
    let captures =
        args.captures.clone().or_else(|| std::env::var_os("SG_CAPTURES").map(PathBuf::from));
    if let Some(captures) = captures {
        let captures = captures.canonicalize().with_context(|| captures.display().to_string())?;
        attack.arg("--captures").arg(captures);
    }
    cmd::run(attack.args(&args.filter))
}
