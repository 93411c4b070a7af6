//! `sgctl history`: every policy that has been in force.

use anyhow::Context as _;
use serde::Serialize;

use super::table::Table;
use super::{Exit, Format, Global, output};
use crate::history::{Entry, History};
use crate::kernel::live::Live;
use crate::kernel::{Paths, require_root};
use crate::moment;

/// List the policies that have been in force: when, who, why
///
/// With a number: what changed with that policy, or its text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl history
  sgctl history 12             what changed with policy 12
  sgctl history 12 --policy    its text, as a file for `sgctl apply`")]
pub(super) struct Arguments {
    /// Number of one policy
    number: Option<u64>,
    /// Print the policy itself
    #[arg(long, requires = "number")]
    policy: bool,
}

/// An entry as `history -o json` lists it.
#[derive(Debug, Serialize)]
struct Listed<'e> {
    /// Its number.
    number: u64,
    /// Whether it is in force.
    in_force: bool,
    /// When it came into force, RFC 3339.
    #[serde(serialize_with = "moment::serialize")]
    time: u64,
    /// Who put it in force.
    user: &'e str,
    /// By which command.
    command: &'e str,
    /// Why.
    message: Option<&'e str>,
    /// What changed against the one before.
    diff: &'e [String],
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("read the history")?;
    let paths = Paths::from_environment();
    let in_force = Live::read(&paths)?.map(|live| live.number);
    let history = History::open(&paths.state, in_force)?;
    if let Some(number) = in_force.filter(|number| history.entry(*number).is_none()) {
        log::warn!("{}", missing(&paths, number));
    }
    let listed = |entry| Listed::new(entry, in_force);
    let Some(number) = arguments.number else {
        let entries: Vec<_> = history.entries().map(listed).collect();
        if global.output == Format::Json {
            output::print_json(&entries)?;
        } else if entries.is_empty() && in_force.is_some() {
            eprintln!("the history is empty");
        } else if entries.is_empty() {
            eprintln!("no policy has been in force");
        } else {
            output::print(&text(&entries))?;
        }
        return Ok(Exit::Yes);
    };
    // Also says which numbers there are.
    let policy = history.policy(number)?;
    if arguments.policy {
        output::print(&policy.text)?;
        return Ok(Exit::Yes);
    }
    let entry = listed(history.entry(number).context("no such entry")?);
    if global.output == Format::Json {
        output::print_json(&entry)?;
    } else {
        output::print(&details(&entry))?;
    }
    Ok(Exit::Yes)
}

/// Said where the policy in force is not in the history.
pub(super) fn missing(paths: &Paths, number: u64) -> String {
    format!(
        "policy {number} is in force, and the history in {} has no entry of it: it was emptied or moved away, or had no room; `sgctl rollback` may have nothing to go back to",
        paths.state.join("history").display()
    )
}

impl<'e> Listed<'e> {
    fn new(entry: &'e Entry, in_force: Option<u64>) -> Self {
        let Entry { number, time, user, command, message, diff, content: _, cause: _ } = entry;
        Self {
            number: *number,
            in_force: in_force == Some(*number),
            time: *time,
            user,
            command,
            message: message.as_deref(),
            diff,
        }
    }
}

/// One line for each, the newest last, where the eye is.
fn text(entries: &[Listed<'_>]) -> String {
    let mut table = Table::new(["", "NUMBER", "TIME", "USER", "COMMAND", "MESSAGE"]);
    table.add_rows(entries.iter().map(|entry| {
        [
            if entry.in_force { "*" } else { "" }.to_owned(),
            entry.number.to_string(),
            moment::rfc3339(entry.time),
            entry.user.to_owned(),
            entry.command.to_owned(),
            entry.message.unwrap_or_default().to_owned(),
        ]
    }));
    table.text("")
}

fn details(entry: &Listed<'_>) -> String {
    let Listed { number, user, command, .. } = entry;
    let mut text = format!("policy {number}, {}, {user}: {command}\n", moment::rfc3339(entry.time));
    if let Some(message) = entry.message {
        text += &format!("{message}\n");
    }
    for line in entry.diff {
        text += line;
        text.push('\n');
    }
    text
}
