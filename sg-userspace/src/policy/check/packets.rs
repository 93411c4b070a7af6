//! The protocol part of a written rule: `type`, or `protocol` with ports or an ICMP type.

use crate::policy::diagnostic::{Code, Report};
use crate::policy::model::Traffic;
use crate::policy::source::Span;
use crate::policy::traffic::{self, Protocol};
use crate::policy::tree::{Node, Value};
use crate::policy::{text, value};

/// The packets that a rule speaks of; empty after an error.
pub(super) fn of(
    written: &text::Rule<'_>,
    place: Span,
    report: &mut Report,
) -> Vec<(Traffic, Span)> {
    match (written.shorthand, written.protocol) {
        (Some(_), Some(protocol)) => {
            let message = "a rule has `type` or `protocol`, not both";
            report.error(Code::ParameterCombination, protocol.span, message);
            Vec::new()
        }
        (None, None) => {
            report
                .error(Code::ParameterMissing, place, "a rule needs `protocol` or `type`")
                .hint("`protocol: all` is every protocol");
            Vec::new()
        }
        (Some(node), None) => {
            foreign(written.ports, "a rule with `type` takes no `ports`", report);
            foreign(written.icmp_type, "a rule with `type` takes no `icmp_type`", report);
            foreign(written.icmp_code, "a rule with `type` takes no `icmp_code`", report);
            shorthand(node, report).map(|traffic| (traffic, node.span)).into_iter().collect()
        }
        (None, Some(node)) => match protocol(node, report) {
            Some(Protocol::Number(number)) if traffic::has_ports(number) => {
                foreign(written.icmp_type, "`icmp_type` is for icmp and icmpv6", report);
                foreign(written.icmp_code, "`icmp_code` is for icmp and icmpv6", report);
                with_ports(number, written.ports, node.span, report)
            }
            Some(Protocol::Number(number)) if traffic::is_icmp(number) => {
                foreign(written.ports, "ICMP has no ports, it has `icmp_type`", report);
                let kind = icmp_kind(written.icmp_type, written.icmp_code, report);
                kind.map(|kind| (Traffic::Icmp { protocol: number, kind }, node.span))
                    .into_iter()
                    .collect()
            }
            Some(other) => {
                foreign(written.ports, "`ports` is for tcp, udp and sctp", report);
                foreign(written.icmp_type, "`icmp_type` is for icmp and icmpv6", report);
                foreign(written.icmp_code, "`icmp_code` is for icmp and icmpv6", report);
                let traffic = match other {
                    Protocol::All => Traffic::All,
                    Protocol::Number(number) => Traffic::Protocol(number),
                };
                vec![(traffic, node.span)]
            }
            None => Vec::new(),
        },
    }
}

/// Reports a key that does not go with the protocol.
pub(super) fn foreign(node: Option<&Node<'_>>, message: &str, report: &mut Report) {
    if let Some(node) = node {
        report.error(Code::ParameterCombination, node.span, message);
    }
}

pub(super) fn shorthand(node: &Node<'_>, report: &mut Report) -> Option<Traffic> {
    let given = value::text(node, "`type`", report)?;
    let found = traffic::shorthand(given);
    if found.is_none() {
        report
            .error(Code::ParameterValue, node.span, format!("there is no rule type {given:?}"))
            .hint(traffic::shorthand_hint(given));
    }
    found
}

pub(super) fn protocol(node: &Node<'_>, report: &mut Report) -> Option<Protocol> {
    let given = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::Null
        | Value::Bool(_)
        | Value::Float
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => value::text(node, "`protocol`", report)?.to_owned(),
    };
    traffic::protocol(&given)
        .map_err(|error| {
            let hint = error.hint();
            report.error(Code::PermissionMalformed, node.span, error.to_string()).hint(hint);
        })
        .ok()
}

fn with_ports<'n>(
    protocol: u8,
    node: Option<&'n Node<'n>>,
    every: Span,
    report: &mut Report,
) -> Vec<(Traffic, Span)> {
    let Some(node) = node else {
        return vec![(Traffic::Ports { protocol, first: 0, last: u16::MAX }, every)];
    };
    let nodes = value::one_or_many(node, "`ports`", report).unwrap_or_default();
    nodes.iter().filter_map(|node| range(node, protocol, report)).collect()
}

fn range(node: &Node<'_>, protocol: u8, report: &mut Report) -> Option<(Traffic, Span)> {
    let given = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone().into_owned(),
        Value::Null | Value::Bool(_) | Value::Float | Value::List(_) | Value::Map(_) => {
            value::mismatch(node, "a port", "a number or a range like 8000-8080", report);
            return None;
        }
    };
    match traffic::ports(&given) {
        Ok((first, last)) => Some((Traffic::Ports { protocol, first, last }, node.span)),
        Err(error) => {
            report.error(Code::ParameterValue, node.span, error.to_string());
            None
        }
    }
}

/// `None` after an error; `Some(None)` is any type.
fn icmp_kind(
    icmp_type: Option<&Node<'_>>,
    icmp_code: Option<&Node<'_>>,
    report: &mut Report,
) -> Option<Option<(u8, Option<u8>)>> {
    let kind = icmp_type.map_or(Some(None), |node| icmp_number(node, "`icmp_type`", report));
    let code = icmp_code.map_or(Some(None), |node| icmp_number(node, "`icmp_code`", report));
    match (kind?, code?) {
        (None, Some(_)) => {
            let span = icmp_code.map_or(Span::new(0, 0), |node| node.span);
            report
                .error(Code::PermissionMalformed, span, "an ICMP code says nothing without a type")
                .hint("give `icmp_type` a number, or leave `icmp_code` out");
            None
        }
        (kind, code) => Some(kind.map(|kind| (kind, code))),
    }
}

/// A number, or `any` (which AWS writes as -1).
pub(super) fn icmp_number(node: &Node<'_>, what: &str, report: &mut Report) -> Option<Option<u8>> {
    match &node.value {
        Value::Text(word) if word.eq_ignore_ascii_case("any") || word == "-1" => Some(None),
        Value::Integer(-1) => Some(None),
        Value::Text(word) if word.parse::<u8>().is_ok() => Some(word.parse().ok()),
        Value::Text(word) => {
            let message = format!("{what} is 0 to 255 or `any`, not {word:?}");
            report.error(Code::PermissionMalformed, node.span, message);
            None
        }
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float
        | Value::List(_)
        | Value::Map(_) => value::integer(node, what, 0..=u8::MAX, report).map(Some),
    }
}
