//! What the verbs share that look at the policy in force and edit it: `group`, `rule`, `interface`, `prefix-list`.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use serde::Serialize;

use super::{Exit, Format, Global, output, policy_file, ssh_guard, test_report};
use crate::kernel::live::Live;
use crate::kernel::transaction::{self, Author, EditRequest, Edited, Review};
use crate::kernel::{Paths, require_root};
use crate::policy::edit::{Edit, Kind, find};
use crate::policy::model::{PrefixList, SecurityGroup, Vpc};
use crate::policy::{self, Policy};
use crate::ssh::Session;

/// Where the verb looks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Where {
    /// The VPC, where several have what is meant
    #[arg(long, value_name = "NAME")]
    pub(super) vpc: Option<String>,
}

/// What every verb takes that changes something.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Change {
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Also if it would cut the ssh session that this is typed in
    #[arg(long)]
    force: bool,
}

/// What is in force, read without waiting for anybody.
pub(super) struct InForce {
    pub(super) paths: Paths,
    pub(super) live: Live,
    pub(super) policy: Policy,
}

impl InForce {
    pub(super) fn read() -> anyhow::Result<Self> {
        require_root("read the policy in force")?;
        let paths = Paths::from_environment();
        let live = Live::require(&paths)?;
        let policy = policy::load(&live.source.path, &live.source.text)?.policy;
        Ok(Self { paths, live, policy })
    }

    /// The VPCs that a list shows: the named one, or all.
    pub(super) fn vpcs(&self, wanted: &Where) -> anyhow::Result<Vec<&Vpc>> {
        if wanted.vpc.is_none() {
            return Ok(self.policy.vpcs.iter().collect());
        }
        let at = policy::edit::vpc(&self.policy, wanted.vpc.as_deref())?;
        Ok(vec![&self.policy.vpcs[at]])
    }

    /// The group of this name, where one VPC alone has one.
    pub(super) fn group(
        &self,
        wanted: &Where,
        name: &str,
    ) -> anyhow::Result<(&Vpc, &SecurityGroup)> {
        let (vpc, at) = find(&self.policy, Kind::Group, wanted.vpc.as_deref(), name)?;
        let vpc = &self.policy.vpcs[vpc];
        Ok((vpc, &vpc.groups[at]))
    }

    /// The prefix list of this name, where one VPC alone has one.
    pub(super) fn prefix_list(
        &self,
        wanted: &Where,
        name: &str,
    ) -> anyhow::Result<(&Vpc, &PrefixList)> {
        let (vpc, at) = find(&self.policy, Kind::PrefixList, wanted.vpc.as_deref(), name)?;
        let vpc = &self.policy.vpcs[vpc];
        Ok((vpc, &vpc.prefix_lists[at]))
    }
}

/// What a change prints with `-o json`.
#[derive(Debug, Serialize)]
struct Report<'e> {
    /// Number in the history of what is in force now.
    number: u64,
    /// Identifiers of the rules that came or went.
    rules: &'e [String],
    /// What was found and did not stop it.
    warnings: &'e [String],
}

/// Makes the edit and tells what was done.
pub(super) fn make(
    in_force: &InForce,
    edit: Edit,
    change: &Change,
    done: &str,
    global: Global,
) -> anyhow::Result<Exit> {
    let InForce { paths, live, policy } = in_force;
    let request =
        EditRequest { edits: vec![edit], author: Author::of_process(change.message.clone()) };
    let guard = ssh_guard::reviewer(paths, change.force);
    let review = |review: &Review<'_>| guard(review).and_then(|()| run_tests(live, review.policy));
    // With neither a session nor tests there is nothing to look at, and `sgctl serve` may make the change.
    let is_needed = Session::from_environment().is_some() || !policy.tests.is_empty();
    let edited = transaction::edit(paths, &request, is_needed.then_some(&review))?;
    for warning in &edited.warnings {
        log::warn!("{warning}");
    }
    let Edited { number, rules, warnings, writes: _ } = &edited;
    if global.output == Format::Json {
        output::print_json(&Report { number: *number, rules, warnings })?;
        return Ok(Exit::Yes);
    }
    let ids = if rules.is_empty() { String::new() } else { format!(" ({})", rules.join(", ")) };
    output::print(&format!("{done}{ids}; policy {number} is in force"))?;
    Ok(Exit::Yes)
}

/// The policy's `tests:` hold of what is edited as of what is applied.
fn run_tests(live: &Live, policy: &Policy) -> Result<(), String> {
    if policy.tests.is_empty() {
        return Ok(());
    }
    let addresses = policy_file::device_addresses(policy, &Default::default());
    let results = policy_file::test(policy, &addresses).map_err(|error| error.to_string())?;
    let path = Path::new(&live.source.path);
    if test_report::tell_failures(policy, path, &results) > 0 {
        return Err("tests of the policy would fail; nothing has changed".to_owned());
    }
    Ok(())
}

/// A block as a verb takes it: as a file has it, or `my-ip`.
pub(super) fn block(text: &str) -> anyhow::Result<String> {
    if text == MY_IP { Ok(my_ip()?.to_string()) } else { Ok(text.to_owned()) }
}

/// A block or address as it is taken: a block without host bits, which the reader of files warns of.
pub(super) fn taken_as(text: &str) -> String {
    text.parse().map_or_else(|_no_block| text.to_owned(), |net: IpNet| net.trunc().to_string())
}

/// Stands for the address that the user is logged in from.
pub(super) const MY_IP: &str = "my-ip";

/// The ssh client's address as a block of itself.
pub(super) fn my_ip() -> anyhow::Result<IpNet> {
    let session = Session::from_environment().context(
        "`my-ip` is the address that an ssh session comes from, and this is none: SSH_CONNECTION is set neither \
         here (sudo takes it away) nor in a process above whose environment can be read; write the address",
    )?;
    let client: IpAddr = session.client;
    Ok(IpNet::from(client))
}
