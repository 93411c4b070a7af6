//! One VPC: its address ranges, subnets and prefix lists, then its groups and interfaces.

use ipnet::IpNet;

use super::settings::Settings;
use super::{FileNames, group, interface, name};
use crate::policy::cidr::{self, Ranges};
use crate::policy::diagnostic::{Code, Draft, Report};
use crate::policy::model::{PrefixList, Vpc};
use crate::policy::names::Table;
use crate::policy::source::Span;
use crate::policy::tree::Node;
use crate::policy::{text, value};

/// The largest prefix list that can be declared.
const MAX_ENTRIES: usize = 1_000_000;

pub(super) fn check<'n>(
    node: &'n Node<'n>,
    index: usize,
    settings: &Settings,
    names: &mut FileNames,
    report: &mut Report,
) -> Option<Vpc> {
    let written = text::Vpc::read(node, report)?;
    let own_name = name(written.name, "a VPC", report);
    if let (Some(own_name), Some(node)) = (own_name, written.name)
        && let Err(first) = names.vpcs.insert(own_name, index, node.span)
    {
        report
            .error(Code::ParameterValue, node.span, format!("VPC {own_name:?} is given twice"))
            .related(first, "first");
    }
    let cidrs = cidrs(written.cidrs, report);
    let ranges = Ranges::new(&cidrs);
    let subnets = subnets(written.subnets, &ranges, report);
    let (prefix_lists, list_names) = prefix_lists(written.prefix_lists, report);
    let lists = group::Lists { names: &list_names, lists: &prefix_lists };
    let (groups, group_names) = group::check(written.security_groups, &lists, settings, report);
    let scope = interface::Scope {
        vpc: index,
        ranges: &ranges,
        groups: &group_names,
        quotas: &settings.quotas,
    };
    let interfaces = interface::check(written.interfaces, &scope, names, report);
    let name = own_name.unwrap_or_default().to_owned();
    Some(Vpc { name, cidrs, subnets, prefix_lists, groups, interfaces })
}

/// Canonical blocks with their places.
pub(super) fn blocks<'n>(
    nodes: &'n [Node<'n>],
    what: &str,
    report: &mut Report,
) -> Vec<(IpNet, Span)> {
    let block = |node: &'n Node<'n>| {
        let given = value::text(node, what, report)?;
        Some((cidr::canonical(given, Code::ParameterValue, node.span, report)?, node.span))
    };
    nodes.iter().filter_map(block).collect()
}

fn cidrs<'n>(node: Option<&'n Node<'n>>, report: &mut Report) -> Vec<IpNet> {
    let nodes = node.and_then(|node| value::one_or_many(node, "`cidrs` of a VPC", report));
    let blocks = blocks(nodes.unwrap_or_default(), "a CIDR block", report);
    for ((inner, place), (outer, first)) in cidr::overlaps(blocks.clone(), |_, _| false) {
        report
            .error(Code::VpcRange, place, format!("{inner} overlaps {outer} of the same VPC"))
            .related(first, "first");
    }
    blocks.into_iter().map(|(net, _)| net).collect()
}

fn subnets<'n>(node: Option<&'n Node<'n>>, ranges: &Ranges, report: &mut Report) -> Vec<IpNet> {
    let nodes = node.and_then(|node| value::list(node, "`subnets`", report));
    let blocks = blocks(nodes.unwrap_or_default(), "a subnet", report);
    for &(net, place) in &blocks {
        if !ranges.contain(&net) {
            let message = format!("subnet {net} is not inside the CIDR blocks of its VPC");
            report.error(Code::SubnetRange, place, message);
        }
    }
    for ((inner, place), (outer, first)) in cidr::overlaps(blocks.clone(), |_, _| false) {
        report
            .error(Code::SubnetConflict, place, format!("subnet {inner} overlaps subnet {outer}"))
            .related(first, "first");
    }
    blocks.into_iter().map(|(net, _)| net).collect()
}

fn prefix_lists<'n>(node: Option<&'n Node<'n>>, report: &mut Report) -> (Vec<PrefixList>, Table) {
    let mut names = Table::exact();
    let mut lists = Vec::new();
    let nodes = node.and_then(|node| value::list(node, "`prefix_lists`", report));
    for node in nodes.unwrap_or_default() {
        let Some(written) = text::PrefixList::read(node, report) else { continue };
        let own_name = name(written.name, "a prefix list", report);
        if let (Some(own_name), Some(node)) = (own_name, written.name)
            && let Err(first) = names.insert(own_name, lists.len(), node.span)
        {
            list_taken(own_name, node.span, report).related(first, "first");
        }
        lists.push(prefix_list(&written, own_name.unwrap_or_default(), report));
    }
    (lists, names)
}

/// Reports a name that another list has.
pub(super) fn list_taken<'r>(name: &str, place: Span, report: &'r mut Report) -> &'r mut Draft {
    report.error(Code::ParameterValue, place, format!("prefix list {name:?} is given twice"))
}

/// Reports a list that has outgrown what it declares.
pub(super) fn list_full(list: &PrefixList, place: Span, report: &mut Report) {
    let PrefixList { name, cidrs, max_entries } = list;
    if let Some(most) = max_entries.filter(|&most| most < cidrs.len()) {
        let message =
            format!("prefix list {name:?} has {} entries and declares {most}", cidrs.len());
        report.error(Code::PrefixListMaxEntries, place, message);
    }
}

pub(super) fn prefix_list<'n>(
    written: &text::PrefixList<'n>,
    name: &str,
    report: &mut Report,
) -> PrefixList {
    let nodes = written.cidrs.and_then(|node| value::list(node, "`cidrs`", report));
    let blocks = blocks(nodes.unwrap_or_default(), "a CIDR block", report);
    let mut seen = std::collections::HashMap::with_capacity(blocks.len());
    let mut cidrs = Vec::with_capacity(blocks.len());
    for (net, place) in blocks {
        if let Some(&first) = seen.get(&net) {
            let message = format!("{net} is twice in prefix list {name:?}, it counts once");
            report.warning(place, message).related(first, "first");
        } else {
            seen.insert(net, place);
            cidrs.push(net);
        }
    }
    let mut list = PrefixList { name: name.to_owned(), cidrs, max_entries: None };
    if let Some(node) = written.max_entries {
        list.max_entries = value::integer(node, "`max_entries`", 1..=MAX_ENTRIES, report);
        list_full(&list, node.span, report);
    }
    list
}
