//! The `sgctl` command: a file per verb, each from raw arguments to validated values to an answer.
//!
//! Data goes to standard output, talk to standard error. The exit code is 0 for yes, 1 for an error,
//! 2 for wrong usage, 3 when the answer is no.

mod adoption;
mod apply;
mod attach;
mod attached;
mod completions;
mod confirm;
mod detach;
mod duration;
mod edit;
mod events;
mod explain;
mod export;
mod failure;
mod flows;
mod group;
mod history;
mod interface;
mod keep_deadlines;
mod logger;
mod output;
mod plan;
mod policy_file;
mod prefix_list;
mod replay;
mod rollback;
mod rule;
mod rule_list;
mod rule_options;
mod schema;
mod serve;
mod sizes;
mod ssh_guard;
mod status;
mod table;
mod test_report;
mod traffic;
mod validate;
mod warnings;
mod watch_devices;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use output::{Color, Format};

/// Security groups for any Linux host, enforced in eBPF.
#[derive(Debug, Parser)]
#[command(name = "sgctl", version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    global: Global,
}

const AFTER_HELP: &str = "\
Data goes to standard output, everything else to standard error.
Exit status: 0 yes, 1 error, 2 wrong usage, 3 the answer is no.
Environment: SG_BPFFS (/sys/fs/bpf/sg), SG_RUN (/run/sg) and SG_STATE (/var/lib/sg) say where things live.";

/// What every verb takes.
#[derive(Debug, Clone, Copy, Args)]
struct Global {
    /// How data is written to standard output
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Whether to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Validate(validate::Arguments),
    Attach(Box<attach::Arguments>),
    Detach(detach::Arguments),
    Plan(plan::Arguments),
    Apply(apply::Arguments),
    Confirm(confirm::Arguments),
    Rollback(rollback::Arguments),
    History(history::Arguments),
    Serve(serve::Arguments),
    Group(group::Arguments),
    Rule(rule::Arguments),
    Interface(interface::Arguments),
    PrefixList(prefix_list::Arguments),
    Status(status::Arguments),
    WatchDevices(watch_devices::Arguments),
    Events(events::Arguments),
    Flows(flows::Arguments),
    Explain(explain::Arguments),
    Export(export::Arguments),
    Replay(replay::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    #[command(hide = true)]
    KeepDeadlines(keep_deadlines::Arguments),
}

/// How a verb ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Done, or the answer is yes.
    Yes,
    /// What is wrong has been told.
    Refused,
    /// The answer is no.
    No,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Yes => Self::SUCCESS,
            Exit::Refused => Self::FAILURE,
            Exit::No => Self::from(3),
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    logger::start();
    let Cli { verb, global } = Cli::parse();
    match run(verb, global) {
        Ok(exit) => exit.into(),
        // Whoever read the answer has seen enough.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb, global: Global) -> anyhow::Result<Exit> {
    match verb {
        Verb::Validate(arguments) => validate::run(&arguments, global),
        Verb::Attach(arguments) => attach::run(&arguments, global),
        Verb::Detach(arguments) => detach::run(&arguments, global),
        Verb::Plan(arguments) => plan::run(&arguments, global),
        Verb::Apply(arguments) => apply::run(&arguments, global),
        Verb::Confirm(arguments) => confirm::run(&arguments, global),
        Verb::Rollback(arguments) => rollback::run(&arguments, global),
        Verb::History(arguments) => history::run(&arguments, global),
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Group(arguments) => group::run(&arguments, global),
        Verb::Rule(arguments) => rule::run(&arguments, global),
        Verb::Interface(arguments) => interface::run(&arguments, global),
        Verb::PrefixList(arguments) => prefix_list::run(&arguments, global),
        Verb::Status(arguments) => status::run(&arguments, global),
        Verb::WatchDevices(arguments) => watch_devices::run(&arguments, global),
        Verb::Events(arguments) => events::run(&arguments, global),
        Verb::Flows(arguments) => flows::run(&arguments, global),
        Verb::Explain(arguments) => explain::run(&arguments, global),
        Verb::Export(arguments) => export::run(&arguments, global),
        Verb::Replay(arguments) => replay::run(&arguments, global),
        Verb::Schema(arguments) => schema::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::KeepDeadlines(arguments) => keep_deadlines::run(&arguments),
    }
}

/// Has the policy follow the devices of interfaces with `addresses: auto`. What keeps it from that is told,
/// and the command goes on.
fn follow_addresses(paths: &crate::kernel::Paths) {
    match crate::kernel::addresses::follow(paths) {
        Ok(moved) => moved.iter().for_each(|name| {
            log::warn!("interface {name} has other addresses than before; the policy has followed");
        }),
        // Whoever changes something now looks itself.
        Err(crate::kernel::KernelError::Busy { .. }) => {}
        Err(error) => log::warn!("the policy has not followed the devices' addresses: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
