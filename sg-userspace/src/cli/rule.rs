//! `sgctl rule`: the rules in force, more of them or fewer.

use clap::Subcommand;

use super::edit::{self, Change, InForce, Where};
use super::rule_options::{Extras, RuleOptions, Written};
use super::{Exit, Global, rule_list};
use crate::policy::edit::{Edit, Which};

/// List, authorize and revoke rules of the policy in force
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(rule_list::Arguments),
    Authorize(Box<Authorize>),
    Revoke(Box<Revoke>),
}

/// Add a rule to a group
///
/// It holds for new flows at once, on every interface of the group. One option that names several ports or peers
/// adds as many rules, all or none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl rule authorize bastion --type ssh --from office                 office: a prefix list or a group
  sgctl rule authorize bastion --type ssh --from my-ip --timeout 30m    from where you are, for half an hour
  sgctl rule authorize web --protocol tcp --port 8000-8080,443 --from 10.0.0.0/8 --from fd00::/8
  sgctl rule authorize web --protocol icmp --icmp-type 8 --from 0.0.0.0/0 --description 'ping'
  sgctl rule authorize app --type postgresql --to group:db              egress: --to")]
struct Authorize {
    /// The group
    group: String,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    extras: Extras,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Take a rule from a group
///
/// New flows are refused at once. What becomes of live ones says the policy's `live_flows`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl rule list bastion                              the identifiers
  sgctl rule revoke bastion --id sgr-0123456789abcdef0
  sgctl rule revoke bastion --type ssh --from office   the options of `authorize` say the same rule")]
struct Revoke {
    /// The group
    group: String,
    /// The rule by its identifier
    #[arg(long, value_name = "ID", conflicts_with_all = ["shorthand", "protocol", "port", "from", "to"])]
    id: Option<String>,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::List(arguments) => rule_list::run(arguments, global),
        Verb::Authorize(arguments) => authorize(arguments, global),
        Verb::Revoke(arguments) => revoke(arguments, global),
    }
}

fn authorize(arguments: &Authorize, global: Global) -> anyhow::Result<Exit> {
    let Authorize { group, rule, extras, place, change } = arguments;
    let in_force = InForce::read()?;
    let (vpc, found) = in_force.group(place, group)?;
    let Written { direction, rule, taken_as } = rule.written(vpc, extras)?;
    let done = format!("group {:?} has the rule {taken_as}", found.name);
    let (vpc, group) = (Some(vpc.name.clone()), found.name.clone());
    edit::make(
        &in_force,
        Edit::RuleAuthorize { vpc, group, direction, rule },
        change,
        &done,
        global,
    )
}

fn revoke(arguments: &Revoke, global: Global) -> anyhow::Result<Exit> {
    let Revoke { group, id, rule, place, change } = arguments;
    if id.is_none() && rule.is_empty() {
        anyhow::bail!("say which rule: --id, or the options of `sgctl rule authorize`");
    }
    let in_force = InForce::read()?;
    let (vpc, found) = in_force.group(place, group)?;
    let rules = match id {
        Some(id) => Which::Id(id.clone()),
        None => {
            let Written { direction, rule, .. } = rule.written(vpc, &Extras::default())?;
            Which::Exact { direction, rule }
        }
    };
    let done = format!("group {:?} no longer has the rule", found.name);
    let (vpc, group) = (Some(vpc.name.clone()), found.name.clone());
    edit::make(&in_force, Edit::RuleRevoke { vpc, group, rules }, change, &done, global)
}
