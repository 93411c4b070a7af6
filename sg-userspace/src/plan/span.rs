//! Packets as intervals of numbers: the protocol, then the port or ICMP's type and code. Every rule's packets
//! are one such interval, so that what rules leave of one another is a list of them.

use std::fmt::{self, Display, Formatter};

use sg_common::wire::ip;

use crate::compile::TrafficText;
use crate::policy::model::Traffic;

/// Protocol times 65536, plus the port, or type times 256 plus code: from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Span {
    first: u32,
    last: u32,
}

const PORTS: u32 = 1 << 16;
const LAST_PROTOCOL: u32 = 255;

impl From<Traffic> for Span {
    fn from(traffic: Traffic) -> Self {
        let within = |protocol: u8, first: u16, last: u16| {
            let base = u32::from(protocol) * PORTS;
            Self { first: base + u32::from(first), last: base + u32::from(last) }
        };
        match traffic {
            Traffic::All => Self { first: 0, last: (LAST_PROTOCOL + 1) * PORTS - 1 },
            Traffic::Protocol(protocol) | Traffic::Icmp { protocol, kind: None } => {
                within(protocol, 0, u16::MAX)
            }
            Traffic::Ports { protocol, first, last } => within(protocol, first, last),
            Traffic::Icmp { protocol, kind: Some((kind, code)) } => within(
                protocol,
                u16::from_be_bytes([kind, code.unwrap_or(0)]),
                u16::from_be_bytes([kind, code.unwrap_or(u8::MAX)]),
            ),
        }
    }
}

impl Span {
    /// Whether it holds all of `other`.
    #[must_use]
    pub(super) const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether they have anything in common.
    #[must_use]
    pub(super) const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The last span that begins where this one ends, in the order of spans.
    pub(super) const fn end(self) -> Self {
        Self { first: self.last, last: u32::MAX }
    }

    /// Cut where one of `others` begins or ends: each piece is inside or outside each of them.
    pub(super) fn pieces(self, others: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut starts = vec![self.first];
        for other in others.filter(|other| self.meets(*other)) {
            starts.extend([other.first, other.last + 1]);
        }
        starts.retain(|start| (self.first..=self.last).contains(start));
        starts.sort_unstable();
        starts.dedup();
        let lasts = starts.iter().skip(1).map(|start| start - 1).chain([self.last]);
        starts.iter().zip(lasts).map(|(&first, last)| Self { first, last }).collect()
    }
}

/// Adds a span behind those in a list, joined to the last one where it follows it.
pub(super) fn append(spans: &mut Vec<Span>, next: Span) {
    match spans.last_mut() {
        Some(last) if last.last + 1 == next.first => last.last = next.last,
        _ => spans.push(next),
    }
}

/// What `spans`, a part of `whole`, are in words: listed, or as what they leave out.
pub(super) fn text(whole: Span, spans: &[Span]) -> String {
    if spans == [whole] {
        return whole.to_string();
    }
    let mut left_out = Vec::new();
    for piece in whole.pieces(spans.iter().copied()) {
        if !spans.iter().any(|span| span.covers(piece)) {
            append(&mut left_out, piece);
        }
    }
    let list =
        |spans: &[Span]| spans.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (these, but) = (list(spans), format!("{whole} but {}", list(&left_out)));
    if but.len() < these.len() { but } else { these }
}

impl Display for Span {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first / PORTS, self.last / PORTS);
        if first == last {
            return within_one(first, self.first % PORTS, self.last % PORTS, formatter);
        }
        // A rest of the first protocol, whole ones, the beginning of the last.
        let begins_inside = !self.first.is_multiple_of(PORTS);
        let ends_inside = self.last % PORTS != PORTS - 1;
        let whole = first + u32::from(begins_inside)..last + u32::from(!ends_inside);
        let mut separator = "";
        if begins_inside {
            within_one(first, self.first % PORTS, PORTS - 1, formatter)?;
            separator = ", ";
        }
        match whole.end.saturating_sub(whole.start) {
            0 => {}
            1 => {
                formatter.write_str(separator)?;
                within_one(whole.start, 0, PORTS - 1, formatter)?;
                separator = ", ";
            }
            _ if whole == (0..LAST_PROTOCOL + 1) => formatter.write_str("all")?,
            _ => {
                write!(formatter, "{separator}protocols {}-{}", whole.start, whole.end - 1)?;
                separator = ", ";
            }
        }
        if ends_inside {
            formatter.write_str(separator)?;
            within_one(last, 0, self.last % PORTS, formatter)?;
        }
        Ok(())
    }
}

fn within_one(protocol: u32, first: u32, last: u32, formatter: &mut Formatter<'_>) -> fmt::Result {
    let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let protocol = u8::try_from(protocol).unwrap_or(u8::MAX);
    let (first, last) = (narrow(first), narrow(last));
    if (first, last) == (0, u16::MAX) {
        return TrafficText(Traffic::Protocol(protocol)).fmt(formatter);
    }
    if !matches!(protocol, ip::ICMP | ip::ICMPV6) {
        return TrafficText(Traffic::Ports { protocol, first, last }).fmt(formatter);
    }
    let ([kind, code], [last_kind, last_code]) = (first.to_be_bytes(), last.to_be_bytes());
    let whole_codes = (code, last_code) == (0, u8::MAX);
    if kind == last_kind && (whole_codes || code == last_code) {
        let code = (!whole_codes).then_some(code);
        return TrafficText(Traffic::Icmp { protocol, kind: Some((kind, code)) }).fmt(formatter);
    }
    TrafficText(Traffic::Protocol(protocol)).fmt(formatter)?;
    if kind == last_kind {
        write!(formatter, " type {kind} code {code}-{last_code}")
    } else if whole_codes {
        write!(formatter, " types {kind}-{last_kind}")
    } else {
        write!(formatter, " type {kind} code {code} to type {last_kind} code {last_code}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ports(protocol: u8, first: u16, last: u16) -> Traffic {
        Traffic::Ports { protocol, first, last }
    }

    fn left(of: Traffic, taken: &[Traffic]) -> String {
        let whole = Span::from(of);
        let taken: Vec<Span> = taken.iter().copied().map(Span::from).collect();
        let mut spans = Vec::new();
        for piece in whole.pieces(taken.iter().copied()) {
            if !taken.iter().any(|one| one.covers(piece)) {
                append(&mut spans, piece);
            }
        }
        text(whole, &spans)
    }

    #[test]
    fn what_is_left_reads_like_rules() {
        let icmp = |kind| Traffic::Icmp { protocol: 1, kind };
        for (of, taken, expected) in [
            (Traffic::All, vec![], "all"),
            (Traffic::All, vec![ports(6, 22, 22)], "all but tcp/22"),
            (Traffic::All, vec![Traffic::Protocol(6)], "all but tcp"),
            (
                Traffic::All,
                vec![ports(6, 22, 22), Traffic::Protocol(47)],
                "all but tcp/22, protocol 47",
            ),
            (ports(6, 0, 65535), vec![ports(6, 0, 1023)], "tcp/1024-65535"),
            (ports(6, 80, 90), vec![ports(6, 81, 81)], "tcp/80, tcp/82-90"),
            (ports(6, 80, 90), vec![ports(17, 80, 90), ports(6, 91, 92)], "tcp/80-90"),
            (ports(6, 80, 90), vec![Traffic::All], ""),
            (icmp(None), vec![icmp(Some((8, None)))], "icmp but icmp type 8"),
            (icmp(Some((8, None))), vec![icmp(Some((8, Some(0))))], "icmp type 8 code 1-255"),
            (icmp(None), vec![icmp(Some((0, None)))], "icmp types 1-255"),
            (icmp(None), vec![icmp(Some((0, Some(0))))], "icmp but icmp type 0 code 0"),
        ] {
            assert_eq!(left(of, &taken), expected, "{of:?} without {taken:?}");
        }
    }

    #[test]
    fn spans_over_protocols() {
        let span = |first, last| Span { first, last }.to_string();
        assert_eq!(span(0, 6 * PORTS - 1), "protocols 0-5");
        assert_eq!(span(6 * PORTS + 23, 8 * PORTS - 1), "tcp/23-65535, protocol 7");
        assert_eq!(span(5 * PORTS, 6 * PORTS + 21), "protocol 5, tcp/0-21");
        assert_eq!(span(6 * PORTS + 1, 17 * PORTS), "tcp/1-65535, protocols 7-16, udp/0");
    }
}
