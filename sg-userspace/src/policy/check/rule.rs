//! Rules: one written rule becomes as many as it has ports times peers, each unique in its group.

use std::collections::HashMap;

use sg_common::Direction;

use super::{description, packets, peer};
use crate::policy::diagnostic::{Code, Report};
use crate::policy::model::{Peer, Quotas, Rule, Traffic};
use crate::policy::names::{self, Table};
use crate::policy::source::Span;
use crate::policy::tree::Node;
use crate::policy::{RuleId, text, traffic, value};

/// What rules may refer to.
pub(super) struct Scope<'s> {
    pub(super) groups: &'s Table,
    pub(super) lists: &'s Table,
    /// More rules than this exceed the quota in any case, and are not unfolded.
    most: usize,
}

impl<'s> Scope<'s> {
    pub(super) fn new(groups: &'s Table, lists: &'s Table, quotas: &Quotas) -> Self {
        Self { groups, lists, most: quotas.rules_per_direction.saturating_mul(2) }
    }
}

/// Rules so far, and which one it was.
pub(super) type Seen = HashMap<(Traffic, Peer), First>;

/// The one that another rule would repeat.
#[derive(Debug, Clone, Copy)]
pub(super) enum First {
    /// It is written here.
    Written(Span),
    /// The group has it, perhaps for a time.
    Kept { id: RuleId, expires: Option<u64> },
}

pub(super) fn check<'n>(
    node: &'n Node<'n>,
    direction: Direction,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Vec<Rule> {
    let what = match direction {
        Direction::Ingress => "`ingress`",
        Direction::Egress => "`egress`",
    };
    let mut seen = Seen::new();
    let mut rules = Vec::new();
    for node in value::list(node, what, report).unwrap_or_default() {
        unfold(node, direction, scope, &mut seen, &mut rules, report);
    }
    rules
}

/// The rules that a written one stands for.
pub(super) fn unfold<'n>(
    node: &'n Node<'n>,
    direction: Direction,
    scope: &Scope<'_>,
    seen: &mut Seen,
    rules: &mut Vec<Rule>,
    report: &mut Report,
) {
    let Some(written) = text::Rule::read(node, report) else { return };
    let traffics = packets::of(&written, node.span, report);
    let peers = peer::of(&written, node.span, direction, scope, report);
    let description = description(written.description, names::rule_description, report);
    let expires = written.expires.and_then(|node| value::instant(node, "`expires`", report));
    let count = traffics.len().saturating_mul(peers.len());
    if count > scope.most {
        let message = format!("the rule stands for {count} rules, ports times peers");
        report.error(Code::RulesLimit, node.span, message).hint(
            "put the peers into a prefix list, or raise `quotas: {rules_per_direction: ...}`",
        );
        return;
    }
    for &(traffic, traffic_span) in &traffics {
        for &(ref peer, peer_span) in &peers {
            // The place that differs from the rule's other ones.
            let span = if traffics.len() > 1 { traffic_span } else { peer_span };
            family(traffic, peer, peer_span, report);
            if let Some(&first) = seen.get(&(traffic, peer.clone())) {
                duplicate(traffic, first, span, report);
                continue;
            }
            seen.insert((traffic, peer.clone()), First::Written(span));
            let description = description.clone();
            rules.push(Rule { traffic, peer: peer.clone(), description, expires });
        }
    }
}

fn duplicate(traffic: Traffic, first: First, span: Span, report: &mut Report) {
    let what = traffic::describe(traffic);
    let message = match first {
        First::Written(_) => format!("the group has this {what} rule already"),
        First::Kept { id, expires: None } => {
            format!("the group has this {what} rule already: {id}")
        }
        First::Kept { id, expires: Some(at) } => format!(
            "the group has this {what} rule already, until {} (revoke it first to have another time, or none): {id}",
            crate::moment::rfc3339(at)
        ),
    };
    let error = report.error(Code::PermissionDuplicate, span, message);
    if let First::Written(first) = first {
        error.related(first, "first");
    }
    error.hint("a description does not make it another rule");
}

/// A rule that no packet can match is a mistake, most often `icmp` where `icmpv6` is meant.
fn family(traffic: Traffic, peer: &Peer, span: Span, report: &mut Report) {
    let Peer::Cidr(net) = peer else { return };
    let is_ipv4 = net.addr().is_ipv4();
    if traffic::fits_family(traffic, is_ipv4) {
        return;
    }
    let (protocol, version, other) =
        if is_ipv4 { ("icmpv6", 4, "icmp") } else { ("icmp", 6, "icmpv6") };
    report
        .error(
            Code::PermissionMalformed,
            span,
            format!("a rule for {protocol} never matches the IPv{version} block {net}"),
        )
        .hint(format!("IPv{version} has `protocol: {other}`"));
}
