//! Row 12: what an entry takes, by the kernel's own account.

use ::tests::bench::generate::{self, everywhere};
use anyhow::{Context as _, Result};
use ipnet::IpNet;
use sg_userspace::kernel::bench::MapMemory;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::Peer;

use super::{Lab, Row};
use crate::driver::FAMILIES;
use crate::frames::Family;
use crate::policies;
use crate::report::{Measured, Table};
use crate::stats::number;
use crate::subject::{Subject, compiled, sizes};

pub(super) struct Memory;

/// Members, and prefixes.
const MANY: usize = 100_000;

impl Row for Memory {
    fn number(&self) -> u8 {
        12
    }

    fn title(&self) -> &'static str {
        "bytes per flow, per member, per prefix"
    }

    fn method(&self) -> &'static str {
        "Keys and values as the maps have them, and what the kernel charges for each map (`memlock` in fdinfo). Flow \
         tables are made whole, so theirs is divided by their capacity; members and prefixes are entered, 100 000 of \
         each, and the difference is divided by their number."
    }

    fn measure(&self, _: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        let empty = maps(&policies::open())?;
        let mut table = Table::new(
            "bytes per entry",
            &["entry", "maps", "key and value", "with the kernel's own"],
        );
        for (family, at) in FAMILIES.into_iter().zip(["_V4", "_V6"]) {
            flow_rows(&mut table, &empty, family, at)?;
            let name = family.name();
            let hosts = format!("HOSTS{at}");
            let by_members = maps(&of_members(family)?)?;
            table.row(entered(format!("member, {name}"), &hosts, &empty, &by_members)?);
            let cidrs = format!("CIDRS{at}");
            let by_blocks = maps(&policies::listed(&policies::blocks(MANY, family)))?;
            table.row(entered(format!("prefix, {name}"), &cidrs, &empty, &by_blocks)?);
        }
        measured.table(table);
        measured.table(all_maps(&empty));
        measured.note(
            "a member's or a prefix's class stands in 8 bytes of `CLASSES`, which is made whole"
                .to_owned(),
        );
        Ok(measured)
    }
}

fn maps(policy: &Policy) -> Result<Vec<MapMemory>> {
    let tables = compiled(policy, &[policies::host_name()])?;
    let sizes = sizes(&tables, 0);
    let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
    let maps = subject.judge().borrow().memory()?;
    Ok(maps)
}

/// A rule from a group of so many members.
fn of_members(family: Family) -> Result<Policy> {
    let group = generate::group(2, Vec::new(), vec![everywhere()]);
    let mut members = Vec::new();
    for index in 1..=MANY {
        let mut member = policies::member(index, vec![2]);
        if family == Family::V6 {
            let address = 0x2400_u128 << 112 | u128::try_from(index)?;
            member.addresses =
                vec![IpNet::new(std::net::Ipv6Addr::from_bits(address).into(), 128)?];
        }
        members.push(member);
    }
    let rules = vec![policies::open_port(Peer::Group(2))];
    Ok(policies::of_rules(rules, vec![group], members, Vec::new()))
}

fn find<'m>(maps: &'m [MapMemory], name: &str) -> Result<&'m MapMemory> {
    maps.iter().find(|map| map.name == name).with_context(|| format!("no map {name}"))
}

fn plain(map: &MapMemory) -> f64 {
    f64::from(map.key + map.value)
}

/// Bytes of each entry that a map can hold.
#[expect(clippy::cast_precision_loss, reason = "bytes of a machine's memory")]
fn of_capacity(map: &MapMemory) -> f64 {
    map.charged as f64 / f64::from(map.capacity)
}

fn flow_rows(table: &mut Table, maps: &[MapMemory], family: Family, at: &str) -> Result<()> {
    let (flows, clock) = (find(maps, &format!("FLOWS{at}"))?, find(maps, &format!("CLOCK{at}"))?);
    let opening = find(maps, &format!("OPENED_IN{at}"))?;
    let name = family.name();
    // An array's key is its index, which takes nothing.
    let of_both = plain(flows) + f64::from(clock.value);
    table.row([
        format!("established flow, {name}"),
        format!("{}, {}", flows.name, clock.name),
        format!("{of_both:.0}"),
        format!("{:.0}", of_capacity(flows) + of_capacity(clock)),
    ]);
    table.row([
        format!("half-open flow, {name}"),
        opening.name.to_owned(),
        format!("{:.0}", plain(opening)),
        format!("{:.0}", of_capacity(opening)),
    ]);
    Ok(())
}

/// An entry of a map that takes memory as it fills.
#[expect(clippy::cast_precision_loss, reason = "bytes of a machine's memory")]
fn entered(
    what: String,
    name: &str,
    empty: &[MapMemory],
    full: &[MapMemory],
) -> Result<[String; 4]> {
    let (before, after) = (find(empty, name)?, find(full, name)?);
    let each = after.charged.saturating_sub(before.charged) as f64 / number(MANY);
    Ok([what, name.to_owned(), format!("{:.0}", plain(after)), format!("{each:.0}")])
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a machine's memory")]
fn all_maps(maps: &[MapMemory]) -> Table {
    let mut table = Table::new(
        "all maps at their usual sizes",
        &["map", "capacity", "key", "value", "MiB charged"],
    );
    let mut sum = 0;
    for map in maps {
        sum += map.charged;
        table.row([
            map.name.to_owned(),
            map.capacity.to_string(),
            map.key.to_string(),
            map.value.to_string(),
            format!("{:.2}", map.charged as f64 / f64::from(1 << 20)),
        ]);
    }
    let sum = format!("{:.1}", sum as f64 / f64::from(1 << 20));
    table.row(["all".to_owned(), String::new(), String::new(), String::new(), sum]);
    table
}
