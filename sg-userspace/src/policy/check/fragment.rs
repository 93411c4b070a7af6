//! Parts of a file that stand alone: what edits carry, read by the readers of whole files.
//!
//! What a reader of a whole file finds by comparing its parts, such as a name given twice, is found here by
//! asking what is there already; the words are the same.

use ipnet::IpNet;
use sg_common::Direction;

use super::{group, interface, name, rule, vpc};
use crate::policy::diagnostic::{Diagnostics, Report};
use crate::policy::model::{Interface, Policy, PrefixList, Rule, SecurityGroup, Vpc};
use crate::policy::names::Table;
use crate::policy::source::{Source, Span};
use crate::policy::tree::{self, Node};
use crate::policy::{RuleId, cidr, text, value};

/// What a part may refer to.
pub(crate) struct Around<'s> {
    pub(crate) policy: &'s Policy,
    /// Index of the VPC.
    pub(crate) vpc: usize,
    pub(crate) groups: &'s Table,
    pub(crate) lists: &'s Table,
    pub(crate) ranges: &'s cidr::Ranges,
}

impl Around<'_> {
    fn vpc(&self) -> &Vpc {
        &self.policy.vpcs[self.vpc]
    }

    fn rules(&self) -> rule::Scope<'_> {
        rule::Scope::new(self.groups, self.lists, &self.policy.quotas)
    }

    fn interfaces(&self) -> interface::Scope<'_> {
        interface::Scope {
            vpc: self.vpc,
            ranges: self.ranges,
            groups: self.groups,
            quotas: &self.policy.quotas,
        }
    }
}

/// What was read, and what was found that does not stop it; or every error.
pub(crate) type Read<T> = Result<(T, Diagnostics), Box<Diagnostics>>;

/// Reads a part of a file by one of the readers of whole files.
fn read<T>(
    text: &str,
    reader: impl for<'n> FnOnce(&'n Node<'n>, &mut Report) -> Option<T>,
) -> Read<T> {
    let source = Source::new("edit", text);
    let mut report = Report::new();
    let found = tree::parse(text, &source, &mut report).and_then(|root| reader(&root, &mut report));
    let has_errors = report.has_errors();
    let diagnostics = report.finish(source);
    match found {
        Some(found) if !has_errors => Ok((found, diagnostics)),
        Some(_) | None => Err(Box::new(diagnostics)),
    }
}

/// A list of words as a part of a file.
fn words(words: &[String]) -> String {
    // JSON is YAML; nothing in a list of texts fails.
    serde_json::to_string(words).unwrap_or_default()
}

/// The rules that a written one stands for; `there` are those that the group has, with their identifiers.
pub(crate) fn rules<'r>(
    text: &str,
    direction: Direction,
    there: impl Iterator<Item = (&'r Rule, RuleId)>,
    around: &Around<'_>,
) -> Read<Vec<Rule>> {
    read(text, |node, report| {
        let known = |(rule, id): (&Rule, RuleId)| {
            ((rule.traffic, rule.peer.clone()), rule::First::Kept { id, expires: rule.expires })
        };
        let mut seen: rule::Seen = there.map(known).collect();
        let mut rules = Vec::new();
        rule::unfold(node, direction, &around.rules(), &mut seen, &mut rules, report);
        Some(rules)
    })
}

/// The name of a written group: rules may refer to their own group, so it must be known before they are read.
pub(crate) fn group_name(text: &str) -> Read<String> {
    read(text, |node, report| {
        let written = text::SecurityGroup::read(node, report)?;
        let own = name(written.name, "a security group", report)?;
        Some(own.to_owned())
    })
}

/// A group of which [`Around::groups`] has the name already, though the VPC has not the group.
pub(crate) fn group(text: &str, around: &Around<'_>) -> Read<SecurityGroup> {
    read(text, |node, report| {
        let written = text::SecurityGroup::read(node, report)?;
        let own = name(written.name, "a security group", report)?;
        let group = group::check_one(own, &written, None, &around.rules(), report);
        quotas(&group, around.vpc(), around, report);
        group::too_many(
            Some(node.span),
            around.vpc().groups.len() + 1,
            &around.policy.quotas,
            report,
        );
        Some(group)
    })
}

/// Refuses a name that another group has.
pub(crate) fn group_taken(name: &str) -> Box<Diagnostics> {
    found(|report| {
        group::taken(name, Span::new(0, 0), report);
    })
}

fn quotas(group: &SecurityGroup, vpc: &Vpc, around: &Around<'_>, report: &mut Report) {
    let place = Some(Span::new(0, 0));
    group::quota(group, place, &vpc.prefix_lists, &around.policy.quotas, report);
}

/// What of the changed groups exceeds a quota.
pub(crate) fn over_quota<'g>(
    groups: impl IntoIterator<Item = &'g SecurityGroup>,
    lists: &[PrefixList],
    around: &Around<'_>,
) -> Result<(), Box<Diagnostics>> {
    let quotas = &around.policy.quotas;
    let place = Some(Span::new(0, 0));
    let diagnostics = found(|report| {
        for one in groups {
            group::quota(one, place, lists, quotas, report);
        }
    });
    if diagnostics.errors() == 0 { Ok(()) } else { Err(diagnostics) }
}

fn found(check: impl FnOnce(&mut Report)) -> Box<Diagnostics> {
    let mut report = Report::new();
    check(&mut report);
    Box::new(report.finish(Source::new("edit", "")))
}

/// What other interfaces have and a new one cannot have.
pub(crate) struct Taken<'t> {
    /// Whether an interface has the name.
    pub(crate) name: &'t dyn Fn(&str) -> bool,
    /// Whether an interface has the device.
    pub(crate) device: &'t dyn Fn(&str) -> bool,
    /// A block of another interface that overlaps, and whose it is.
    pub(crate) address: &'t dyn Fn(IpNet) -> Option<(IpNet, String)>,
}

/// An interface.
pub(crate) fn interface(text: &str, around: &Around<'_>, taken: &Taken<'_>) -> Read<Interface> {
    read(text, |node, report| {
        let written = text::Interface::read(node, report)?;
        let mut names = super::FileNames::new();
        let mut owned = Vec::new();
        let scope = around.interfaces();
        let one = interface::check_one(&written, 0, &scope, &mut names, &mut owned, report);
        let span = written.name.map_or(node.span, |node| node.span);
        if (taken.name)(&one.name) {
            interface::taken(&one.name, span, report);
        }
        for device in one.devices.iter().filter(|device| (taken.device)(device)) {
            interface::device_taken(device, span, report);
        }
        for &(net, (_, span)) in &owned {
            if let Some((other, holder)) = (taken.address)(net) {
                interface::address_taken(net, other, &holder, span, report);
            }
        }
        interface::conflicts(owned, std::slice::from_ref(&one), report);
        Some(one)
    })
}

/// The groups of an interface.
pub(crate) fn groups(names: &[String], around: &Around<'_>) -> Read<Vec<usize>> {
    read(&words(names), |node, report| {
        Some(interface::groups(Some(node), &around.interfaces(), report))
    })
}

/// A prefix list.
pub(crate) fn prefix_list(text: &str, around: &Around<'_>) -> Read<PrefixList> {
    read(text, |node, report| {
        let written = text::PrefixList::read(node, report)?;
        let own = name(written.name, "a prefix list", report)?;
        if around.lists.get(own).is_some() {
            vpc::list_taken(own, node.span, report);
        }
        Some(vpc::prefix_list(&written, own, report))
    })
}

/// CIDR blocks.
pub(crate) fn blocks(cidrs: &[String]) -> Read<Vec<IpNet>> {
    read(&words(cidrs), |node, report| {
        let nodes = value::one_or_many(node, "`cidrs`", report)?;
        let blocks = vpc::blocks(nodes, "a CIDR block", report);
        Some(blocks.into_iter().map(|(net, _)| net).collect())
    })
}

/// Whether a list has outgrown what it declares.
pub(crate) fn too_many_blocks(list: &PrefixList) -> Result<(), Box<Diagnostics>> {
    let diagnostics = found(|report| vpc::list_full(list, Span::new(0, 0), report));
    if diagnostics.errors() == 0 { Ok(()) } else { Err(diagnostics) }
}
