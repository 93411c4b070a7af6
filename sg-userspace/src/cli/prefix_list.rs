//! `sgctl prefix-list`: the prefix lists in force.

use clap::Subcommand;
use serde::Serialize;
use sg_common::Direction;

use super::edit::{self, Change, InForce, Where};
use super::table::Table;
use super::{Exit, Format, Global, output};
use crate::policy::Fragment;
use crate::policy::edit::Edit;
use crate::policy::model::{Peer, PrefixList, Vpc};

/// List, show, create, delete and change prefix lists of the policy in force
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
    Delete(Delete),
    Add(Entries),
    Remove(RemoveEntries),
}

/// List the prefix lists
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl prefix-list list -o json")]
struct List {
    #[command(flatten)]
    place: Where,
}

/// Show a prefix list: its blocks, and the groups that refer to it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl prefix-list show office")]
struct Show {
    /// The prefix list
    name: String,
    #[command(flatten)]
    place: Where,
}

/// Create a prefix list
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl prefix-list create office 203.0.113.0/24 2001:db8::/32
  sgctl prefix-list create partners --max-entries 20     none yet, and counts as 20 rules")]
struct Create {
    /// Its name, unique in the VPC
    name: String,
    /// CIDR blocks or addresses; `my-ip` is the address that this ssh session comes from
    #[arg(value_name = "CIDR")]
    cidrs: Vec<String>,
    /// How far it may grow; it counts as so many rules
    #[arg(long, value_name = "NUMBER")]
    max_entries: Option<usize>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Delete a prefix list that no group refers to
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl prefix-list delete partners")]
struct Delete {
    /// The prefix list
    name: String,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Add blocks to a prefix list, for every rule that names it at once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sgctl prefix-list add office 198.51.100.0/24 --message 'new branch'"
)]
struct Entries {
    /// The prefix list
    name: String,
    /// CIDR blocks or addresses; `my-ip` is the address that this ssh session comes from
    #[arg(required = true, value_name = "CIDR")]
    cidrs: Vec<String>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Remove blocks from a prefix list, for every rule that names it at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl prefix-list remove office 198.51.100.0/24")]
struct RemoveEntries {
    #[command(flatten)]
    entries: Entries,
}

/// A prefix list as `prefix-list list -o json` has it.
#[derive(Debug, Serialize)]
struct Row<'p> {
    vpc: &'p str,
    name: &'p str,
    cidrs: Vec<String>,
    max_entries: Option<usize>,
    referred_by: Vec<&'p str>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::List(List { place }) => list(place, global),
        Verb::Show(Show { name, place }) => show(name, place, global),
        Verb::Create(arguments) => create(arguments, global),
        Verb::Delete(Delete { name, place, change }) => {
            let edit = Edit::PrefixListDelete { vpc: place.vpc.clone(), prefix_list: name.clone() };
            edit::make(
                &InForce::read()?,
                edit,
                change,
                &format!("prefix list {name:?} is deleted"),
                global,
            )
        }
        Verb::Add(entries) => {
            let (vpc, prefix_list, cidrs) = entries.parts()?;
            let done = format!("prefix list {prefix_list:?} has {}", taken_as(&cidrs));
            let edit = Edit::PrefixListAdd { vpc, prefix_list, cidrs };
            edit::make(&InForce::read()?, edit, &entries.change, &done, global)
        }
        Verb::Remove(RemoveEntries { entries }) => {
            let (vpc, prefix_list, cidrs) = entries.parts()?;
            let gone = taken_as(&cidrs);
            let done = format!("prefix list {prefix_list:?} no longer has {gone}");
            let edit = Edit::PrefixListRemove { vpc, prefix_list, cidrs };
            edit::make(&InForce::read()?, edit, &entries.change, &done, global)
        }
    }
}

impl Entries {
    fn parts(&self) -> anyhow::Result<(Option<String>, String, Vec<String>)> {
        Ok((self.place.vpc.clone(), self.name.clone(), blocks(&self.cidrs)?))
    }
}

fn blocks(cidrs: &[String]) -> anyhow::Result<Vec<String>> {
    cidrs.iter().map(|text| edit::block(text)).collect()
}

fn taken_as(cidrs: &[String]) -> String {
    cidrs.iter().map(|text| edit::taken_as(text)).collect::<Vec<_>>().join(", ")
}

fn create(arguments: &Create, global: Global) -> anyhow::Result<Exit> {
    let Create { name, cidrs, max_entries, place, change } = arguments;
    let mut list = Fragment::new().text("name", name).texts("cidrs", &blocks(cidrs)?);
    if let Some(most) = max_entries {
        list = list.with("max_entries", most);
    }
    let edit = Edit::PrefixListCreate { vpc: place.vpc.clone(), prefix_list: list.to_string() };
    edit::make(&InForce::read()?, edit, change, &format!("prefix list {name:?} is created"), global)
}

fn list(place: &Where, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let vpcs = in_force.vpcs(place)?;
    let rows: Vec<_> =
        vpcs.iter().flat_map(|vpc| vpc.prefix_lists.iter().map(|list| row(vpc, list))).collect();
    if global.output == Format::Json {
        output::print_json(&rows)?;
        return Ok(Exit::Yes);
    }
    let mut table = Table::new(["VPC", "PREFIX LIST", "ENTRIES", "AT MOST", "GROUPS"]);
    table.add_rows(rows.iter().map(|row| {
        [
            row.vpc.to_owned(),
            row.name.to_owned(),
            row.cidrs.len().to_string(),
            row.max_entries.map_or("-".to_owned(), |most| most.to_string()),
            row.referred_by.join(", "),
        ]
    }));
    output::print(&table.text(""))?;
    Ok(Exit::Yes)
}

fn show(name: &str, place: &Where, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let (vpc, list) = in_force.prefix_list(place, name)?;
    let row = row(vpc, list);
    if global.output == Format::Json {
        output::print_json(&row)?;
        return Ok(Exit::Yes);
    }
    let mut text = format!("prefix list {} of VPC {}\n", row.name, row.vpc);
    row.cidrs.iter().for_each(|net| text += &format!("  {net}\n"));
    let groups =
        if row.referred_by.is_empty() { "none".to_owned() } else { row.referred_by.join(", ") };
    text += &format!("referred to by: {groups}\n");
    output::print(&text)?;
    Ok(Exit::Yes)
}

fn row<'p>(vpc: &'p Vpc, list: &'p PrefixList) -> Row<'p> {
    let at = vpc.prefix_lists.iter().position(|one| std::ptr::eq(one, list));
    let groups = vpc.groups.iter().filter(|group| {
        let mut rules = Direction::ALL.into_iter().flat_map(|way| group.rules(way));
        rules.any(|rule| at.is_some_and(|at| rule.peer == Peer::PrefixList(at)))
    });
    Row {
        vpc: &vpc.name,
        name: &list.name,
        cidrs: list.cidrs.iter().map(ToString::to_string).collect(),
        max_entries: list.max_entries,
        referred_by: groups.map(|group| group.name.as_str()).collect(),
    }
}
