//! How many permits policies take, and how many entries a broad rule writes.

use std::net::Ipv4Addr;

use anyhow::Result;
use ipnet::IpNet;
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::diff::diff;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{Interface, Peer, PrefixList, SecurityGroup};

use super::{
    Measured, Options, figures,
    generate::{self, block, everywhere, tcp},
};

/// Interfaces, or policies.
const MANY: usize = 500;
/// Groups of the members, each named by a rule of one policy.
const CLASSES: usize = 1000;
/// What is still a handful of entries.
const HANDFUL: usize = 10;
/// The most permits that a rule of the broad ones takes: one, its ports, and what is left untracked of it.
const PER_RULE: f64 = 4.0;

const TEN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);

/// An interface of its own groups, away from the members.
fn local(index: usize, groups: Vec<usize>) -> Interface {
    let number = u32::try_from(index).unwrap_or_default();
    let address = Ipv4Addr::from_bits(0xac10_0000 + number);
    generate::interface(index, block(address, 32), groups)
}

fn compiled(policy: &Policy, locals: usize, previous: Option<&TableSpec>) -> Result<TableSpec> {
    let names: Vec<_> = (0..locals).map(generate::interface_name).collect();
    Ok(compile(policy, &Surroundings::of(names.iter().map(String::as_str)), previous)?)
}

pub(super) fn interfaces(_: Options) -> Result<Measured> {
    let of = |index: usize| -> SecurityGroup {
        let from_group = tcp(index, Peer::Group((index + 1) % 5));
        let from_block = tcp(100 + index, Peer::Cidr(block(TEN, 16)));
        generate::group(index, vec![from_group, from_block], vec![everywhere()])
    };
    let permits = |interfaces: usize| -> Result<TableSpec> {
        let groups = (0..5).map(of).collect();
        let all = (0..interfaces).map(|index| local(index, vec![1, 2, 3, 4])).collect();
        compiled(&generate::policy(groups, all, Vec::new()), interfaces, None)
    };
    let (one, many) = (permits(1)?, permits(MANY)?);
    let mut measured = Measured::begin();
    let (few, all) = (one.permits.len(), many.permits.len());
    let ratio = figures::number(all) / figures::number(few);
    measured.add(few == all && many.policies.len() == 1, format!("{ratio:.2}x"));
    measured.context(format!("{few} permits of one, {all} of {}", many.interfaces.len()));
    Ok(measured)
}

/// How the members are: single addresses, or blocks inside 10.0.0.0/8.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    Single(usize),
    Nested(usize),
}

/// Policies of which the last so many have the two broad rules; the first one names every group of members.
fn policy(members: Members, broad: usize) -> Policy {
    let group = |index: usize| -> SecurityGroup {
        let is_broad = index >= MANY - broad;
        let mut ingress = Vec::new();
        if index == 0 {
            ingress.extend((0..CLASSES).map(|class| tcp(class, Peer::Group(MANY + class))));
            if matches!(members, Members::Nested(_)) {
                ingress.push(tcp(CLASSES, Peer::PrefixList(0)));
            }
        }
        if is_broad {
            ingress.push(tcp(22, Peer::Cidr(block(TEN, 8))));
        }
        let egress = if is_broad { vec![everywhere()] } else { Vec::new() };
        generate::group(index, ingress, egress)
    };
    let (count, length) = match members {
        Members::Single(count) => (count, 32),
        Members::Nested(count) => (count, 28),
    };
    // Blocks of 16 addresses each.
    let place = |index: usize| generate::address(if length == 32 { index } else { index << 4 });
    let member = |index: usize| -> Interface {
        let groups = vec![MANY + index % CLASSES];
        generate::interface(MANY + index, block(place(index), length), groups)
    };
    let listed: Vec<IpNet> = match members {
        Members::Single(_) => Vec::new(),
        Members::Nested(count) => (0..count / 10)
            .map(|index| block(generate::address((1 << 23) + (index << 8)), 24))
            .collect(),
    };
    let list = PrefixList { name: "nested".to_owned(), cidrs: listed, max_entries: None };
    let groups = (0..MANY + CLASSES).map(group).collect();
    let locals = (0..MANY).map(|index| local(index, vec![index]));
    let interfaces = locals.chain((0..count).map(member)).collect();
    generate::policy(groups, interfaces, vec![list])
}

pub(super) fn broad(options: Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let single = Members::Single(options.scaled(1_000_000));
    let few = Members::Single(CLASSES);
    let none = compiled(&policy(single, 0), MANY, None)?;
    let all = compiled(&policy(single, MANY), MANY, None)?.permits.len() - none.permits.len();
    let without = compiled(&policy(few, 0), MANY, None)?.permits.len();
    let all_of_few = compiled(&policy(few, MANY), MANY, None)?.permits.len() - without;
    let per_rule = figures::number(all) / figures::number(2 * MANY);
    measured
        .add(all == all_of_few && per_rule <= PER_RULE, format!("{per_rule:.2} permits a rule"));
    let first = compiled(&policy(single, 1), MANY, Some(&none))?;
    let writes = diff(&none, &first).writes();
    // Permits never change: the policy gets a fresh number, and all of its own permits with it.
    let own = renumbered(&none, &first) + renumbered(&first, &none);
    measured.add(
        writes.saturating_sub(own) <= HANDFUL,
        format!("the first such rules write {writes} entries, {own} of them the policy's own"),
    );
    measured.context(format!(
        "{all} permits for {} rules over {} members in {} classes",
        2 * MANY,
        none.v4.hosts.len(),
        none.classes.len()
    ));
    let nested = Members::Nested(options.scaled(10_000));
    measured.context(nested_members(nested)?);
    Ok(measured)
}

/// Permits of policies that the other tables do not have.
fn renumbered(these: &TableSpec, those: &TableSpec) -> usize {
    these.permits.keys().filter(|key| !those.policies.contains_key(&key.policy)).count()
}

/// What comes of members that are blocks themselves: told, not bounded.
fn nested_members(nested: Members) -> Result<String> {
    let none = compiled(&policy(nested, 0), MANY, None)?;
    let first = compiled(&policy(nested, 1), MANY, Some(&none))?;
    let writes = diff(&none, &first).writes();
    let blocks = none.v4.cidrs.len();
    let begin = format!("over {blocks} blocks inside: the first such rules write {writes} entries");
    Ok(match compiled(&policy(nested, MANY), MANY, None) {
        Ok(all) => format!("{begin}, all take {} permits", all.permits.len() - none.permits.len()),
        Err(error) => format!("{begin}, all are refused ({error})"),
    })
}
