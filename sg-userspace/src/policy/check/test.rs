//! Reachability tests: each names one packet that can exist.

use std::net::IpAddr;

use super::{FileNames, packets};
use crate::policy::diagnostic::{Code, Report};
use crate::policy::model::{Endpoint, Expect, ReachabilityTest, Traffic, Vpc};
use crate::policy::source::{Source, Span};
use crate::policy::traffic::{self, Protocol};
use crate::policy::tree::Node;
use crate::policy::{text, value};

/// Words for outcomes.
pub(crate) const OUTCOMES: &[(&str, Expect)] = &[("allow", Expect::Allow), ("drop", Expect::Drop)];

pub(super) fn check<'n>(
    node: &'n Node<'n>,
    vpcs: &[Vpc],
    names: &FileNames,
    source: &Source<'_>,
    report: &mut Report,
) -> Option<ReachabilityTest> {
    let written = text::Test::read(node, report)?;
    let from = written.from.and_then(|node| endpoint(node, names, report));
    let to = written.to.and_then(|node| endpoint(node, names, report));
    let traffic = packet(&written, node.span, report);
    let expect = written.expect.and_then(|node| value::keyword(node, "`expect`", OUTCOMES, report));
    let (from, to, traffic) = (from?, to?, traffic?);
    if matches!((from, to), (Endpoint::Address(_), Endpoint::Address(_))) {
        let message = "a test has an interface at one end at least";
        report.error(Code::ParameterCombination, node.span, message);
        return None;
    }
    let possible = [true, false].into_iter().any(|is_ipv4| {
        has_family(from, vpcs, is_ipv4)
            && has_family(to, vpcs, is_ipv4)
            && traffic::fits_family(traffic, is_ipv4)
    });
    if !possible {
        let message =
            "no such packet exists: its ends and its protocol have no address family in common";
        report.error(Code::ParameterCombination, node.span, message);
    }
    let (line, _) = source.line_column(node.span.start());
    Some(ReachabilityTest { from, to, traffic, expect: expect?, line })
}

fn endpoint<'n>(node: &'n Node<'n>, names: &FileNames, report: &mut Report) -> Option<Endpoint> {
    let given = value::text(node, "an end of a test", report)?;
    if let Some(&(vpc, interface)) =
        names.interfaces.get(given).and_then(|index| names.places.get(index))
    {
        return Some(Endpoint::Interface { vpc, interface });
    }
    let address = given.parse::<IpAddr>().ok();
    if address.is_none() {
        let hint = if report.is_full() { None } else { names.interfaces.suggest(given) };
        let message = format!("{given:?} is neither an interface nor an address");
        report.error(Code::ParameterValue, node.span, message).maybe_hint(hint);
    }
    address.map(Endpoint::Address)
}

/// Whether an end can have an address of the family; with `auto`, that is not known before attach.
fn has_family(end: Endpoint, vpcs: &[Vpc], is_ipv4: bool) -> bool {
    match end {
        Endpoint::Address(address) => address.is_ipv4() == is_ipv4,
        Endpoint::Interface { vpc, interface } => {
            let found = vpcs.get(vpc).and_then(|vpc| vpc.interfaces.get(interface));
            found.is_none_or(|interface| {
                let is_family = |net: &ipnet::IpNet| net.addr().is_ipv4() == is_ipv4;
                // Without addresses after an error: then nothing more is said about it.
                interface.addresses.is_empty() || interface.addresses.iter().any(is_family)
            })
        }
    }
}

/// One packet: one port, one ICMP type and code.
fn packet(written: &text::Test<'_>, place: Span, report: &mut Report) -> Option<Traffic> {
    let traffic = match (written.shorthand, written.protocol) {
        (Some(_), Some(node)) => {
            packets::foreign(Some(node), "a test has `type` or `protocol`, not both", report);
            return None;
        }
        (None, None) => {
            let message = "a test needs `protocol` or `type`";
            report.error(Code::ParameterMissing, place, message);
            return None;
        }
        (Some(node), None) => {
            packets::foreign(written.port, "a test with `type` takes no `port`", report);
            packets::shorthand(node, report)?
        }
        (None, Some(node)) => match packets::protocol(node, report)? {
            Protocol::All => Traffic::All,
            Protocol::Number(number) if traffic::has_ports(number) => {
                port(written, place, number, report)?
            }
            Protocol::Number(number) if traffic::is_icmp(number) => {
                Traffic::Icmp { protocol: number, kind: None }
            }
            Protocol::Number(number) => Traffic::Protocol(number),
        },
    };
    concrete(traffic, written, place, report)
}

fn port(
    written: &text::Test<'_>,
    place: Span,
    protocol: u8,
    report: &mut Report,
) -> Option<Traffic> {
    let Some(node) = written.port else {
        report.error(Code::ParameterMissing, place, "a test of this protocol needs `port`");
        return None;
    };
    let port = value::integer(node, "`port`", 0..=u16::MAX, report)?;
    Some(Traffic::Ports { protocol, first: port, last: port })
}

/// Fills in what one packet has and a rule may leave open, and refuses what stays open.
fn concrete(
    traffic: Traffic,
    written: &text::Test<'_>,
    place: Span,
    report: &mut Report,
) -> Option<Traffic> {
    let is_icmp = matches!(traffic, Traffic::Icmp { .. });
    if !is_icmp {
        packets::foreign(written.icmp_type, "`icmp_type` is for icmp and icmpv6", report);
        packets::foreign(written.icmp_code, "`icmp_code` is for icmp and icmpv6", report);
    }
    match traffic {
        Traffic::Ports { first, last, .. } if first == last => Some(traffic),
        Traffic::All | Traffic::Ports { .. } => {
            let message = "a test is about one packet: name one protocol and one port";
            report.error(Code::ParameterValue, place, message);
            None
        }
        Traffic::Protocol(_) => {
            packets::foreign(written.port, "`port` is for tcp, udp and sctp", report);
            Some(traffic)
        }
        Traffic::Icmp { protocol, .. } => {
            packets::foreign(written.port, "`port` is for tcp, udp and sctp", report);
            let number = |node, what, report: &mut Report| match node {
                Some(node) => packets::icmp_number(node, what, report),
                None => Some(None),
            };
            let echo = if protocol == traffic::ICMP { 8 } else { 128 };
            let kind = number(written.icmp_type, "`icmp_type`", report)?.unwrap_or(echo);
            let code = number(written.icmp_code, "`icmp_code`", report)?.unwrap_or(0);
            Some(Traffic::Icmp { protocol, kind: Some((kind, Some(code))) })
        }
    }
}
