//! The hidden verb of the process that keeps deadlines.

use super::Exit;
use crate::kernel::{Paths, keeper};

/// Keep deadlines until there are none; started by the verbs that set them
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments) -> anyhow::Result<Exit> {
    keeper::run(&Paths::from_environment(), keeper::say_ready)?;
    Ok(Exit::Yes)
}
