//! `sgctl apply`: another policy for what is attached.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::{Exit, Format, Global, duration, output, policy_file, ssh_guard, test_report};
use crate::history::Cause;
use crate::kernel::live::{Live, Source};
use crate::kernel::transaction::{Again, Applied, Author, Origin, Request, apply};
use crate::kernel::{Paths, require_root};
use crate::moment;

/// Put another policy in force, on all attached interfaces at once
///
/// A packet meets the old policy or the new one, never a mixture. Whatever fails, the old policy stays, whole.
/// `sgctl plan FILE` says first what would change; `sgctl rollback` goes back.
///
/// The file's `tests:` are run first: a file with a test that fails is not applied.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl apply web.yaml
  sgctl apply web.yaml --confirm-within 120s     the old policy comes back unless `sgctl confirm` is run in time
  sgctl apply web.yaml --message 'ticket 4711'")]
pub(super) struct Arguments {
    /// The policy file
    file: PathBuf,
    /// Take the change back unless `sgctl confirm` is run in this time, such as 120s: for changes that may
    /// lock out who makes them
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm_within: Option<Duration>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Also if it would cut the ssh session that this is typed in
    #[arg(long)]
    force: bool,
}

/// What `apply -o json` prints, and `rollback`.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    /// Number in the history of the policy in force.
    number: u64,
    /// Whether anything has changed.
    changed: bool,
    /// What changed, a line each.
    diff: &'a [String],
    /// Seconds in which `sgctl confirm` must follow.
    confirm_within: Option<u64>,
    /// Which policy of the history a rollback has put in force again.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<&'a Again>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let file = policy_file::open(&arguments.file, global)?;
    require_root("change the policy")?;
    let paths = Paths::from_environment();
    let addresses = policy_file::device_addresses(&file.policy, &Default::default());
    let results = policy_file::test(&file.policy, &addresses)?;
    if test_report::tell_failures(&file.policy, &arguments.file, &results) > 0 {
        bail!("tests of {} fail; nothing has changed", arguments.file.display());
    }
    let request = Request {
        source: Source::file(policy_file::absolute(&arguments.file), file.text),
        policy: &file.policy,
        author: &Author::of_process(arguments.message.clone()),
        review: &ssh_guard::reviewer(&paths, arguments.force),
        confirm_within: arguments.confirm_within,
        cause: Cause::Change,
    };
    let applied = apply(&paths, &request)?;
    tell(&applied, arguments.confirm_within, global)?;
    tell_unattached(&paths)?;
    Ok(Exit::Yes)
}

pub(super) fn tell(
    applied: &Applied,
    confirm_within: Option<Duration>,
    global: Global,
) -> anyhow::Result<()> {
    let confirm_within = confirm_within.filter(|_| applied.changed).map(|time| time.as_secs());
    if global.output == Format::Json {
        let Applied { number, changed, diff, again } = applied;
        let again = again.as_ref();
        let report = Report { number: *number, changed: *changed, diff, confirm_within, again };
        return output::print_json(&report);
    }
    let number = applied.number;
    if !applied.changed {
        return Ok(output::print(&format!("nothing changes: policy {number} says the same"))?);
    }
    match &applied.again {
        Some(again) => {
            output::print(&format!("{} is in force again, as entry {number}", told(again)))?
        }
        None => output::print(&format!("policy {number} is in force"))?,
    }
    if let Some(seconds) = confirm_within {
        eprintln!("run `sgctl confirm` within {seconds} s, or the policy before comes back");
    }
    Ok(())
}

/// `policy 1 of 2026-03-01T12:03:04Z (sgctl attach --policy web.yaml)`
fn told(again: &Again) -> String {
    let Again { number, origin } = again;
    match origin {
        Some(Origin { time, command }) => {
            format!("policy {number} of {} ({command})", moment::rfc3339(*time))
        }
        None => format!("policy {number}"),
    }
}

/// Interfaces of the policy whose devices are not attached are not protected by it.
fn tell_unattached(paths: &Paths) -> anyhow::Result<()> {
    let Some(live) = Live::read(paths)? else { return Ok(()) };
    let loaded = crate::policy::load(&live.source.path, &live.source.text)?;
    for interface in policy_file::interfaces(&loaded.policy) {
        for device in &interface.devices {
            if !live.devices.iter().any(|attached| attached.device == *device) {
                log::warn!(
                    "interface {} names device {device}, which is not attached: `sgctl attach {device}`",
                    interface.name
                );
            }
        }
    }
    Ok(())
}
