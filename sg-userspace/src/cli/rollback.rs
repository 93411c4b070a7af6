//! `sgctl rollback`: a policy of the history, in force again.

use super::{Exit, Global, apply, ssh_guard};
use crate::kernel::Paths;
use crate::kernel::transaction::{Author, rollback};

/// Put the policy before, or a numbered one of the history, in force again
///
/// It becomes a new entry of the history, so that a rollback can be rolled back: a second one goes forward again. While a policy waits for its
/// confirmation, a rollback without a number takes it back at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl rollback       the policy before the one in force
  sgctl history        what there is
  sgctl rollback 12    policy 12")]
pub(super) struct Arguments {
    /// Number of the policy, as `sgctl history` lists it
    number: Option<u64>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Also if it would cut the ssh session that this is typed in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let author = Author::of_process(arguments.message.clone());
    let paths = Paths::from_environment();
    let review = ssh_guard::reviewer(&paths, arguments.force);
    let applied = rollback(&paths, arguments.number, &author, &review)?;
    apply::tell(&applied, None, global)?;
    Ok(Exit::Yes)
}
