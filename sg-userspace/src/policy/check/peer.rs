//! The peers of a written rule: CIDR blocks, groups and prefix lists.

use sg_common::Direction;

use super::packets::foreign;
use super::rule::Scope;
use crate::policy::diagnostic::{Code, Report};
use crate::policy::model::Peer;
use crate::policy::names::Table;
use crate::policy::source::Span;
use crate::policy::tree::{Node, Value};
use crate::policy::{cidr, text, value};

/// Everyone that the rule's `from` or `to` names; empty after an error.
pub(super) fn of<'n>(
    written: &text::Rule<'n>,
    place: Span,
    direction: Direction,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Vec<(Peer, Span)> {
    let (node, key, other, wrong) = match direction {
        Direction::Ingress => {
            (written.from, "`from`", written.to, "an ingress rule has `from`, not `to`")
        }
        Direction::Egress => {
            (written.to, "`to`", written.from, "an egress rule has `to`, not `from`")
        }
    };
    foreign(other, wrong, report);
    let Some(node) = node else {
        if other.is_none() {
            report
                .error(Code::ParameterMissing, place, format!("a rule needs {key}"))
                .hint(format!("everybody is {key}: [0.0.0.0/0, \"::/0\"]").replace('`', ""));
        }
        return Vec::new();
    };
    let nodes = value::one_or_many(node, key, report).unwrap_or_default();
    nodes.iter().filter_map(|node| peer(node, scope, report)).collect()
}

fn peer<'n>(node: &'n Node<'n>, scope: &Scope<'_>, report: &mut Report) -> Option<(Peer, Span)> {
    if !matches!(node.value, Value::Map(_)) {
        return block(node, scope, report);
    }
    let written = text::PeerMap::read(node, report)?;
    match (written.cidr, written.group, written.prefix_list) {
        (Some(node), None, None) => block(node, scope, report),
        (None, Some(node), None) => {
            let index = reference(node, "group", Code::GroupNotFound, scope.groups, report)?;
            Some((Peer::Group(index), node.span))
        }
        (None, None, Some(node)) => {
            let code = Code::PrefixListNotFound;
            let index = reference(node, "prefix list", code, scope.lists, report)?;
            Some((Peer::PrefixList(index), node.span))
        }
        // Its unknown keys have been reported.
        (None, None, None) if !is_empty_map(node) => None,
        _ => {
            let message = "a peer has exactly one of `cidr`, `group` and `prefix_list`";
            report.error(Code::ParameterCombination, node.span, message);
            None
        }
    }
}

fn is_empty_map(node: &Node<'_>) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

fn block<'n>(node: &'n Node<'n>, scope: &Scope<'_>, report: &mut Report) -> Option<(Peer, Span)> {
    let given = value::text(node, "a CIDR block", report)?;
    if cidr::parse(given).is_err() {
        let hint = if scope.groups.get(given).is_some() {
            Some(format!("for the group write {{group: {given}}}"))
        } else if scope.lists.get(given).is_some() {
            Some(format!("for the prefix list write {{prefix_list: {given}}}"))
        } else {
            None
        };
        if let Some(hint) = hint {
            let message = format!("CIDR block {given:?} is malformed");
            report.error(Code::ParameterValue, node.span, message).hint(hint);
            return None;
        }
    }
    let net = cidr::canonical(given, Code::ParameterValue, node.span, report)?;
    Some((Peer::Cidr(net), node.span))
}

/// The index of what a name refers to.
pub(super) fn reference(
    node: &Node<'_>,
    what: &str,
    code: Code,
    table: &Table,
    report: &mut Report,
) -> Option<usize> {
    let given = value::text(node, &format!("the name of a {what}"), report)?;
    let found = table.get(given);
    if found.is_none() {
        let hint = if report.is_full() { None } else { table.suggest(given) };
        let message = format!("the VPC has no {what} {given:?}");
        report.error(code, node.span, message).maybe_hint(hint);
    }
    found
}
