//! `sgctl confirm`: keeps what `apply --confirm-within` has put in force.

use serde::Serialize;

use super::{Exit, Format, Global, output};
use crate::kernel::Paths;
use crate::kernel::transaction::confirm;

/// Keep the policy that `apply --confirm-within` has put in force
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl apply web.yaml --confirm-within 120s && sgctl confirm")]
pub(super) struct Arguments {}

/// What `confirm -o json` prints.
#[derive(Debug, Serialize)]
struct Confirmed {
    /// Number in the history of the policy in force.
    number: u64,
}

pub(super) fn run(_arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let number = confirm(&Paths::from_environment())?;
    if global.output == Format::Json {
        output::print_json(&Confirmed { number })?;
    } else {
        output::print(&format!("policy {number} stays in force"))?;
    }
    Ok(Exit::Yes)
}
