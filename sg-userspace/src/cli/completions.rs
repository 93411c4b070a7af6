//! `sgctl completions`: what a shell needs to complete our command lines.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Exit, output};

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl completions bash > /etc/bash_completion.d/sgctl
  sgctl completions zsh > ~/.zfunc/_sgctl
  sgctl completions fish > ~/.config/fish/completions/sgctl.fish")]
pub(super) struct Arguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "sgctl", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(Exit::Yes)
}
