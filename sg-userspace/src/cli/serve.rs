//! `sgctl serve`: edits from memory, those that arrive together as one change.

use super::Exit;
use crate::kernel::{Paths, serve};

/// Make edits from memory, those that arrive together as one change
///
/// The verbs that edit (`group`, `rule`, `interface`, `prefix-list`) do without it: each reads the policy, changes
/// it and is done. Where edits come by the hundred a second, or a policy has a million members, this keeps policy
/// and tables at hand, and the verbs use it when it runs. Enforcement does not depend on it: it may end at any
/// moment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl serve &
  systemd-run --unit sgctl-serve sgctl serve")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments) -> anyhow::Result<Exit> {
    let paths = Paths::from_environment();
    let socket = paths.socket();
    serve::run(&paths, || eprintln!("serving edits at {}", socket.display()))?;
    Ok(Exit::Yes)
}
