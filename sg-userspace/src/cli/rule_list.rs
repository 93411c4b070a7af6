//! `sgctl rule list`: the rules in force, their identifiers, and what has passed because of them.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use sg_common::Direction;

use super::edit::{InForce, Where};
use super::table::Table;
use super::{Exit, Format, Global, duration, output};
use crate::compile::{PeerName, TrafficText};
use crate::events::WallClock;
use crate::kernel::read::{self, RuleHits};
use crate::moment;
use crate::policy::RuleId;
use crate::policy::model::{Peer, Rule, SecurityGroup, Vpc};

/// List rules
///
/// With --hits: the packets that opened flows because of a rule and all that came behind them, both ways, and the
/// last one's time. They are counted since the rule came into force on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl rule list
  sgctl rule list web --hits
  sgctl rule list --unused-for 30d     rules that could go
  sgctl rule list web -o json")]
pub(super) struct Arguments {
    /// Of this group alone
    group: Option<String>,
    /// With what has passed because of each
    #[arg(long)]
    hits: bool,
    /// Only those that nothing has passed because of for so long, such as 30d; not those that are in force for
    /// a shorter time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    unused_for: Option<Duration>,
    #[command(flatten)]
    place: Where,
}

/// A rule as `rule list -o json` has it.
#[derive(Debug, Serialize)]
pub(super) struct Row<'p> {
    vpc: &'p str,
    group: &'p str,
    id: RuleId,
    direction: &'static str,
    traffic: String,
    /// As a policy file has it: `{"cidr": ...}`, `{"group": ...}` or `{"prefix_list": ...}`.
    peer: PeerName,
    description: &'p str,
    /// When it goes by itself, RFC 3339.
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<Hits>,
}

/// What has passed because of a rule. Nothing is counted where no interface of this machine has the group.
#[derive(Debug, Clone, Default, Serialize)]
struct Hits {
    packets: u64,
    bytes: u64,
    /// When the last packet passed, RFC 3339.
    last_used: Option<String>,
    /// Since when they are counted.
    counted_since: Option<String>,
    /// Nanoseconds since the last use, or since it is counted.
    #[serde(skip)]
    idle: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let mut rows = Vec::new();
    match &arguments.group {
        None => {
            for vpc in in_force.vpcs(&arguments.place)? {
                rows.extend(vpc.groups.iter().flat_map(|group| self::rows(vpc, group)));
            }
        }
        Some(name) => {
            let (vpc, group) = in_force.group(&arguments.place, name)?;
            rows = self::rows(vpc, group);
        }
    }
    let with_hits = arguments.hits || arguments.unused_for.is_some();
    if with_hits {
        let hits = hits(&in_force)?;
        for row in &mut rows {
            row.hits = Some(hits.get(&row.id).cloned().unwrap_or_default());
        }
    }
    if let Some(time) = arguments.unused_for {
        keep_unused(&mut rows, time);
    }
    match (global.output, &arguments.group) {
        (Format::Json, _) => output::print_json(&rows)?,
        (Format::Text, Some(_named)) => output::print(&text_of_group(&rows, "", with_hits))?,
        (Format::Text, None) => output::print(&text_of_all(&rows, with_hits))?,
    }
    Ok(Exit::Yes)
}

/// The rules of a group.
pub(super) fn rows<'p>(vpc: &'p Vpc, group: &'p SecurityGroup) -> Vec<Row<'p>> {
    let row = |direction: Direction, rule: &'p Rule| Row {
        vpc: &vpc.name,
        group: &group.name,
        id: RuleId::of(vpc, group, direction, rule),
        direction: direction.name(),
        traffic: TrafficText(rule.traffic).to_string(),
        peer: peer(vpc, rule),
        description: &rule.description,
        expires: rule.expires.map(moment::rfc3339),
        hits: None,
    };
    let both = Direction::ALL.into_iter();
    both.flat_map(|way| group.rules(way).iter().map(move |rule| row(way, rule))).collect()
}

fn peer(vpc: &Vpc, rule: &Rule) -> PeerName {
    match rule.peer {
        Peer::Cidr(net) => PeerName::Cidr(net),
        Peer::Group(index) => {
            PeerName::Group(vpc.groups.get(index).map_or_else(String::new, |one| one.name.clone()))
        }
        Peer::PrefixList(index) => {
            let list = vpc.prefix_lists.get(index);
            PeerName::PrefixList(list.map_or_else(String::new, |one| one.name.clone()))
        }
    }
}

/// What has passed because of each rule that is in force here. One rule may be compiled to several.
fn hits(in_force: &InForce) -> anyhow::Result<HashMap<RuleId, Hits>> {
    let now = read::monotonic();
    let clock = WallClock::now(now);
    let mut found: HashMap<RuleId, RuleHits> = HashMap::new();
    for one in read::rule_hits(&in_force.paths)? {
        let info = in_force.live.tables.rules.get(&one.rule);
        let Some(id) = info.and_then(|info| info.identity.id()) else { continue };
        found
            .entry(id)
            .and_modify(|sum| {
                sum.packets += one.packets;
                sum.bytes += one.bytes;
                sum.last = sum.last.max(one.last);
                sum.since = sum.since.min(one.since);
            })
            .or_insert(one);
    }
    let told = |one: RuleHits| Hits {
        packets: one.packets,
        bytes: one.bytes,
        last_used: one.last.map(|last| clock.rfc3339(last)),
        counted_since: Some(clock.rfc3339(one.since)),
        idle: Some(now.saturating_sub(one.last.unwrap_or(one.since))),
    };
    Ok(found.into_iter().map(|(id, one)| (id, told(one))).collect())
}

/// Leaves the rules that nothing has used for so long, and says of which that cannot be known yet.
fn keep_unused(rows: &mut Vec<Row<'_>>, time: Duration) {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (mut young, mut elsewhere) = (0_u64, 0_u64);
    rows.retain(|row| {
        let Some(Hits { idle: Some(idle), last_used, .. }) = &row.hits else {
            elsewhere += 1;
            return false;
        };
        let is_unused = *idle >= time;
        young += u64::from(!is_unused && last_used.is_none());
        is_unused
    });
    if young > 0 {
        let rules = output::count(young, "rule");
        eprintln!("{rules} never used, but in force for a shorter time; see --hits");
    }
    if elsewhere > 0 {
        let rules = output::count(elsewhere, "rule");
        eprintln!(
            "{rules} of groups that no interface of this machine has: their use is not known here"
        );
    }
}

/// Rules of one group, which has been named.
pub(super) fn text_of_group(rows: &[Row<'_>], indent: &str, with_hits: bool) -> String {
    text(rows, &[], indent, with_hits)
}

/// Rules of all groups.
fn text_of_all(rows: &[Row<'_>], with_hits: bool) -> String {
    let is_one = rows.windows(2).all(|pair| pair[0].vpc == pair[1].vpc);
    let names: [Name; 2] = [("VPC", |row| row.vpc), ("GROUP", |row| row.group)];
    text(rows, if is_one { &names[1..] } else { &names }, "", with_hits)
}

/// A column that says whose a rule is.
type Name = (&'static str, for<'p> fn(&Row<'p>) -> &'p str);

fn text(rows: &[Row<'_>], names: &[Name], indent: &str, with_hits: bool) -> String {
    let header = names.iter().map(|(title, _)| *title);
    let header = header.chain(["ID", "DIRECTION", "TRAFFIC", "PEER"]);
    let counts: &[&str] = if with_hits { &["PACKETS", "BYTES", "LAST USED"] } else { &[] };
    let mut table = Table::new(header.chain(counts.iter().copied()).chain(["DESCRIPTION"]));
    for row in rows {
        let mut cells: Vec<String> = names.iter().map(|(_, name)| name(row).to_owned()).collect();
        cells.extend([
            row.id.to_string(),
            row.direction.to_owned(),
            row.traffic.clone(),
            row.peer.to_string(),
        ]);
        if with_hits {
            cells.extend(row.hits.clone().unwrap_or_default().cells());
        }
        let expires = row.expires.as_ref().map(|expires| format!("(expires {expires})"));
        let notes: Vec<&str> = [row.description]
            .into_iter()
            .filter(|text| !text.is_empty())
            .chain(expires.as_deref())
            .collect();
        cells.push(notes.join(" "));
        table.add_row(cells);
    }
    table.text(indent)
}

impl Hits {
    fn cells(self) -> [String; 3] {
        let Some(idle) = self.idle else {
            return ["-".to_owned(), "-".to_owned(), "not in force here".to_owned()];
        };
        let ago = ago(idle);
        let last = match self.last_used {
            Some(_) => ago,
            None => format!("never since it is in force, {ago}"),
        };
        [self.packets.to_string(), self.bytes.to_string(), last]
    }
}

/// `3 d ago`
fn ago(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (number, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{number} {unit} ago")
}
