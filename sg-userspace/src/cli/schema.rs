//! `sgctl schema`: the JSON Schema of policy files.

use super::{Exit, output};
use crate::policy::schema;

/// Print the JSON Schema of policy files
///
/// Editors that know YAML take it for completion and for checks while typing; so do other programs that
/// write policy files. What a schema cannot say is checked by `sgctl validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl schema > sg.schema.json
  # and in the policy file's first line:
  # yaml-language-server: $schema=sg.schema.json")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<Exit> {
    output::print_json(&schema())?;
    Ok(Exit::Yes)
}
