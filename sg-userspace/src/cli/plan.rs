//! `sgctl plan`: what a policy file would change, without touching anything.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::test_report::{self, TestReport};
use super::{Exit, Format, Global, output, policy_file, ssh_guard};
use crate::compile::{Surroundings, compile};
use crate::kernel::live::Live;
use crate::kernel::wanted::{fits, surroundings, tables_for};
use crate::kernel::{Paths, read, require_root};
use crate::plan::flows::LiveFlows;
use crate::plan::{Plan, Side};
use crate::policy::Policy;
use crate::ssh::Session;

/// Show what a policy file would change
///
/// First the difference of the files, then what becomes reachable at the attached interfaces and what no longer
/// is, then what becomes of live flows. Nothing is touched and nothing is locked. The file's `tests:` are run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 the plan is shown; with --exit-code 3 where something changes; 1 errors in the file, or `sgctl apply`
would refuse it.

Examples:
  sgctl plan web.yaml
  sgctl plan web.yaml --exit-code && echo up to date
  sgctl plan web.yaml -o json | jq -r '.opens[] | \"\\(.traffic) \\(.peer)\"'")]
pub(super) struct Arguments {
    /// The policy file
    file: PathBuf,
    /// Exit with 3 where something changes
    #[arg(long)]
    exit_code: bool,
}

/// What `plan -o json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Whether anything is attached; otherwise the comparison is with a policy that allows nothing.
    attached: bool,
    /// In one line.
    summary: String,
    #[serde(flatten)]
    plan: &'a Plan,
    /// What becomes of the live flows that no rule allows any more; null where nothing is attached or `apply`
    /// would refuse.
    live_flows: Option<&'a LiveFlows>,
    /// What the ssh session would suffer that this is typed in; null: nothing.
    ssh: Option<&'a str>,
    /// Why `sgctl apply` would refuse the file.
    refused: &'a [String],
    /// The lines of `tests:`.
    tests: Vec<TestReport>,
}

/// What the kernel's side of a plan says.
#[derive(Default)]
struct Effects {
    live_flows: Option<LiveFlows>,
    ssh: Option<String>,
    refused: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let file = policy_file::open(&arguments.file, global)?;
    require_root("read the policy in force")?;
    let paths = Paths::from_environment();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (policy, expired) = file.policy.without_expired(now);
    for rule in expired {
        log::warn!("left out, its time is over: {rule}");
    }
    let live = Live::read(&paths)?;
    let (plan, mut effects) = match &live {
        Some(live) => of_attached(&paths, live, &policy)?,
        None => of_nothing(&policy)?,
    };
    let addresses = policy_file::device_addresses(&policy, &Default::default());
    let results = policy_file::test(&policy, &addresses)?;
    let failed = test_report::tell_failures(&policy, &arguments.file, &results);
    if failed > 0 {
        let tests = output::count(failed, "test");
        effects.refused.push(format!("{tests} of {} would fail", arguments.file.display()));
    }
    if global.output == Format::Json {
        let tests = results.iter().map(|result| TestReport::new(&policy, result));
        output::print_json(&Report {
            attached: live.is_some(),
            summary: plan.summary(),
            plan: &plan,
            live_flows: effects.live_flows.as_ref(),
            ssh: effects.ssh.as_deref(),
            refused: &effects.refused,
            tests: tests.collect(),
        })?;
    } else {
        let passed = results.iter().filter(|result| result.passed()).count();
        output::print(&text(&arguments.file, live.as_ref(), &plan, &effects, passed, global))?;
    }
    for reason in &effects.refused {
        eprintln!("error: apply would refuse this: {reason}");
    }
    if let Some(ssh) = &effects.ssh {
        log::warn!("{ssh}");
    }
    Ok(match effects.refused.is_empty() {
        false => Exit::Refused,
        true if arguments.exit_code && !plan.is_empty() => Exit::No,
        true => Exit::Yes,
    })
}

fn of_attached(paths: &Paths, live: &Live, policy: &Policy) -> anyhow::Result<(Plan, Effects)> {
    let loaded = crate::policy::load(&live.source.path, &live.source.text)?;
    let surroundings = surroundings(live)?;
    let side = |policy| Side { policy, surroundings: &surroundings };
    let plan = Plan::between(side(&loaded.policy), side(policy));
    let mut effects = Effects::default();
    if let Some(pending) = &live.pending {
        let left = pending.left().as_secs();
        effects
            .refused
            .push(format!("policy {} waits for its confirmation for {left} s more", live.number));
    }
    let tables = match tables_for(live, policy) {
        Ok(tables) => tables,
        Err(error) => {
            effects.refused.push(error.to_string());
            return Ok((plan, effects));
        }
    };
    if let Err(error) = fits(live, &tables) {
        effects.refused.push(error.to_string());
    }
    effects.live_flows = Some(LiveFlows::under(&read::flows(paths)?, &live.tables, &tables));
    if let Some(session) = Session::from_environment() {
        let fate = ssh_guard::under(&session, paths, live, &tables).map_err(anyhow::Error::msg)?;
        effects.ssh = fate.text(&session);
    }
    Ok((plan, effects))
}

/// With nothing attached: what the interfaces that name a device would let through, once attached.
fn of_nothing(policy: &Policy) -> anyhow::Result<(Plan, Effects)> {
    let mut surroundings = Surroundings::with_devices(policy);
    surroundings.addresses = policy_file::device_addresses(policy, &Default::default());
    // What cannot be compiled cannot be attached.
    compile(policy, &surroundings, None)?;
    let empty = Policy { vpcs: Vec::new(), tests: Vec::new(), ..policy.clone() };
    let nothing = Surroundings::default();
    let old = Side { policy: &empty, surroundings: &nothing };
    let new = Side { policy, surroundings: &surroundings };
    Ok((Plan::between(old, new), Effects::default()))
}

fn text(
    file: &Path,
    live: Option<&Live>,
    plan: &Plan,
    effects: &Effects,
    passed: usize,
    global: Global,
) -> String {
    let mut text = match live {
        Some(live) => format!("{} against policy {} in force\n", file.display(), live.number),
        None => format!(
            "{} against a policy that allows nothing: nothing is attached\n",
            file.display()
        ),
    };
    text += &plan.text(global.color.is_wanted(&io::stdout()));
    if plan.is_empty() {
        text += "nothing changes\n";
    }
    if let Some(flows) = &effects.live_flows {
        text += &flows.text();
    }
    let unchanged = output::count(plan.unchanged_rules, "rule");
    let tests = output::count(passed, "test");
    text + &format!("{}; {unchanged} unchanged, {tests} passed\n", plan.summary())
}
