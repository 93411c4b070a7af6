//! `sgctl group`: the groups in force.

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use sg_common::Direction;

use super::edit::{self, Change, InForce, Where};
use super::rule_list::{self, Row};
use super::table::Table;
use super::{Exit, Format, Global, output};
use crate::policy::Fragment;
use crate::policy::edit::Edit;
use crate::policy::model::{Peer, Vpc};

/// List, show, create, copy and delete groups of the policy in force
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Create(Create),
    Copy(Copy),
    Delete(Delete),
}

/// List the groups
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl group list\n  sgctl group list --vpc prod -o json")]
struct List {
    #[command(flatten)]
    place: Where,
}

/// Show a group: its rules, who is in it, who refers to it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl group show web\n  sgctl group show 'web tier' -o json")]
struct Show {
    /// The group
    name: String,
    #[command(flatten)]
    place: Where,
}

/// Create a group, which lets nothing in and everything out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl group create web --description 'public web servers'
  sgctl group create sealed --no-egress     neither in nor out
Then:
  sgctl rule authorize web --type https --from 0.0.0.0/0
  sgctl interface set-groups web-1 web")]
struct Create {
    /// Its name, unique in the VPC whatever the case
    name: String,
    /// Free text
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    /// Without the rules that let everything out
    #[arg(long)]
    no_egress: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Create a group with the rules of another
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl group copy web web-canary --description 'one host'")]
struct Copy {
    /// The group whose rules it has
    group: String,
    /// Name of the new group
    to: String,
    /// Its description; that of the other unless given
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Delete a group that no interface has and no other group refers to
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl group delete web-canary --message 'experiment over'")]
struct Delete {
    /// The group
    name: String,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// A group as `group list -o json` has it, and `group show` with its rules.
#[derive(Debug, Serialize)]
struct Listed<'p> {
    vpc: &'p str,
    name: &'p str,
    description: &'p str,
    ingress_rules: usize,
    egress_rules: usize,
    interfaces: Vec<&'p str>,
    /// Groups that have rules for it.
    referred_by: Vec<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<Row<'p>>>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::List(List { place }) => list(place, global),
        Verb::Show(Show { name, place }) => show(name, place, global),
        Verb::Create(Create { name, description, no_egress, place, change }) => {
            let mut group = Fragment::new().text("name", name);
            if let Some(description) = description {
                group = group.text("description", description);
            }
            if *no_egress {
                group = group.with("egress", "[]");
            }
            let edit = Edit::GroupCreate { vpc: place.vpc.clone(), group: group.to_string() };
            edit::make(
                &InForce::read()?,
                edit,
                change,
                &format!("group {name:?} is created"),
                global,
            )
        }
        Verb::Copy(Copy { group, to, description, place, change }) => {
            let (vpc, description) = (place.vpc.clone(), description.clone());
            let done = format!("group {to:?} has the rules of {group:?}");
            let (group, to) = (group.clone(), to.clone());
            let edit = Edit::GroupCopy { vpc, group, to, description };
            edit::make(&InForce::read()?, edit, change, &done, global)
        }
        Verb::Delete(Delete { name, place, change }) => {
            let edit = Edit::GroupDelete { vpc: place.vpc.clone(), group: name.clone() };
            edit::make(
                &InForce::read()?,
                edit,
                change,
                &format!("group {name:?} is deleted"),
                global,
            )
        }
    }
}

fn list(place: &Where, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let vpcs = in_force.vpcs(place)?;
    let listed: Vec<_> = vpcs.iter().flat_map(|vpc| all(vpc)).collect();
    if global.output == Format::Json {
        output::print_json(&listed)?;
        return Ok(Exit::Yes);
    }
    let mut table = Table::new(["VPC", "GROUP", "INGRESS", "EGRESS", "INTERFACES", "DESCRIPTION"]);
    table.add_rows(listed.iter().map(|group| {
        [
            group.vpc.to_owned(),
            group.name.to_owned(),
            group.ingress_rules.to_string(),
            group.egress_rules.to_string(),
            group.interfaces.len().to_string(),
            group.description.to_owned(),
        ]
    }));
    output::print(&table.text(""))?;
    Ok(Exit::Yes)
}

fn show(name: &str, place: &Where, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let (vpc, found) = in_force.group(place, name)?;
    let mut shown = all(vpc)
        .find(|group| group.name == found.name)
        .context("the group was there a moment ago")?;
    shown.rules = Some(rule_list::rows(vpc, found));
    if global.output == Format::Json {
        output::print_json(&shown)?;
        return Ok(Exit::Yes);
    }
    let mut text = format!("group {} of VPC {}\n", shown.name, shown.vpc);
    if !shown.description.is_empty() {
        text += &format!("  {}\n", shown.description);
    }
    text += "rules:\n";
    text += &rule_list::text_of_group(shown.rules.as_deref().unwrap_or_default(), "  ", false);
    for (what, names) in [("interfaces", &shown.interfaces), ("referred to by", &shown.referred_by)]
    {
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        text += &format!("{what}: {names}\n");
    }
    output::print(&text)?;
    Ok(Exit::Yes)
}

/// Every group of a VPC, in one walk over its interfaces.
fn all(vpc: &Vpc) -> impl Iterator<Item = Listed<'_>> {
    let mut interfaces: Vec<Vec<&str>> = vec![Vec::new(); vpc.groups.len()];
    for interface in &vpc.interfaces {
        for &group in &interface.groups {
            interfaces[group].push(&interface.name);
        }
    }
    let mut referred_by: Vec<Vec<&str>> = vec![Vec::new(); vpc.groups.len()];
    for group in &vpc.groups {
        let mut peers: Vec<usize> = Vec::new();
        for rule in Direction::ALL.into_iter().flat_map(|direction| group.rules(direction)) {
            if let Peer::Group(peer) = rule.peer {
                peers.push(peer);
            }
        }
        peers.sort_unstable();
        peers.dedup();
        peers.into_iter().for_each(|peer| referred_by[peer].push(&group.name));
    }
    let both = interfaces.into_iter().zip(referred_by);
    vpc.groups.iter().zip(both).map(|(group, (interfaces, referred_by))| Listed {
        vpc: &vpc.name,
        name: &group.name,
        description: &group.description,
        ingress_rules: group.ingress.len(),
        egress_rules: group.egress.len(),
        interfaces,
        referred_by,
        rules: None,
    })
}
