//! `cargo xtask corpus`: captures of other people through the loaded programs and the host's engine.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{cmd, privilege::Privilege};

/// Arguments of `corpus`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of pcap and pcapng files, looked through with its subfolders
    dir: PathBuf,
}

/// Replays every capture; the first line that differs is printed, and any difference is a failure.
///
/// # Errors
/// When the programs and the host disagree, or a capture cannot be replayed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let privilege = Privilege::detect();
    let dir = args.dir.canonicalize().with_context(|| args.dir.display().to_string())?;
    cmd::run(cmd::cargo().args(["build", "--package", "tests", "--bin", "corpus"]))?;
    let program = cmd::target_dir().join("debug/corpus");
    let program = program.to_str().context("the path of the target directory is no text")?;
    let mut corpus = privilege.command(program).context("loading programs needs root or sudo")?;
    cmd::run(corpus.arg(dir))
}
