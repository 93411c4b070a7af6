//! From a rule's packets to prefixes of the part of a permit's key that follows the direction: protocol
//! (8 bits) and port (16 bits).

use sg_common::abi::PermitKey;

use crate::policy::model::Traffic;

/// A prefix of protocol and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) protocol: u8,
    pub(super) port: u16,
    /// Of the whole key: [`PermitKey::ANY_PROTOCOL_BITS`] to [`PermitKey::BITS`].
    pub(super) bits: u8,
}

pub(super) const ANY_PROTOCOL: u8 = narrow(PermitKey::ANY_PROTOCOL_BITS);
pub(super) const ANY_PORT: u8 = narrow(PermitKey::PROTOCOL_BITS);
const ALL_BITS: u8 = narrow(PermitKey::BITS);

const fn narrow(bits: u32) -> u8 {
    let [low, ..] = bits.to_le_bytes();
    assert!(bits < 256, "prefix lengths fit a byte");
    low
}

impl Pattern {
    /// Whether every packet of `other` is one of this pattern.
    pub(super) fn covers(self, other: Self) -> bool {
        if self.bits > other.bits {
            return false;
        }
        let open = u32::from(ALL_BITS - self.bits);
        let number = |pattern: Self| u32::from(pattern.protocol) << 16 | u32::from(pattern.port);
        number(self) >> open == number(other) >> open
    }
}

/// The packets of a rule, as few prefixes as can be.
pub(super) fn patterns(traffic: Traffic) -> Vec<Pattern> {
    let all_of = |protocol| vec![Pattern { protocol, port: 0, bits: ANY_PORT }];
    match traffic {
        Traffic::All => vec![Pattern { protocol: 0, port: 0, bits: ANY_PROTOCOL }],
        Traffic::Protocol(protocol) | Traffic::Icmp { protocol, kind: None } => all_of(protocol),
        Traffic::Icmp { protocol, kind: Some((kind, None)) } => {
            let port = u16::from_be_bytes([kind, 0]);
            vec![Pattern { protocol, port, bits: ALL_BITS - 8 }]
        }
        Traffic::Icmp { protocol, kind: Some((kind, Some(code))) } => {
            let port = u16::from_be_bytes([kind, code]);
            vec![Pattern { protocol, port, bits: ALL_BITS }]
        }
        Traffic::Ports { protocol, first, last } => port_prefixes(first, last)
            .into_iter()
            .map(|(port, length)| Pattern { protocol, port, bits: ANY_PORT + length })
            .collect(),
    }
}

/// The fewest prefixes (first port, length in bits) that together are the ports `first..=last`.
#[must_use]
pub fn port_prefixes(first: u16, last: u16) -> Vec<(u16, u8)> {
    let mut prefixes = Vec::new();
    let (mut from, end) = (u32::from(first), u32::from(last) + 1);
    while from < end {
        // The largest block that begins here and does not reach beyond the end.
        let aligned = from.trailing_zeros().min(16);
        let open = (0..=aligned).rev().find(|&bits| from + (1 << bits) <= end).unwrap_or(0);
        if let (Ok(port), Ok(length)) = (u16::try_from(from), u8::try_from(16 - open)) {
            prefixes.push((port, length));
        }
        from += 1 << open;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        for (first, last, prefixes) in [
            (0, 65535, vec![(0, 0)]),
            (80, 80, vec![(80, 16)]),
            (0, 0, vec![(0, 16)]),
            (65535, 65535, vec![(65535, 16)]),
            (80, 81, vec![(80, 15)]),
            (81, 82, vec![(81, 16), (82, 16)]),
            (0, 1023, vec![(0, 6)]),
            (1024, 65535, vec![(1024, 6), (2048, 5), (4096, 4), (8192, 3), (16384, 2), (32768, 1)]),
            (8000, 8080, vec![(8000, 10), (8064, 12), (8080, 16)]),
            (32768, 65535, vec![(32768, 1)]),
        ] {
            assert_eq!(port_prefixes(first, last), prefixes, "{first}-{last}");
        }
        assert_eq!(port_prefixes(1, 65534).len(), 30, "the worst range");
    }

    #[test]
    fn a_reversed_range_is_empty() {
        assert_eq!(port_prefixes(2, 1), []);
    }

    #[test]
    fn packets_become_patterns() {
        let pattern = |protocol, port, bits| Pattern { protocol, port, bits };
        for (traffic, expected) in [
            (Traffic::All, pattern(0, 0, 72)),
            (Traffic::Protocol(47), pattern(47, 0, 80)),
            (Traffic::Protocol(0), pattern(0, 0, 80)),
            (Traffic::Icmp { protocol: 1, kind: None }, pattern(1, 0, 80)),
            (Traffic::Icmp { protocol: 58, kind: Some((128, None)) }, pattern(58, 0x8000, 88)),
            (Traffic::Icmp { protocol: 1, kind: Some((3, Some(4))) }, pattern(1, 0x0304, 96)),
            (Traffic::Ports { protocol: 6, first: 0, last: 65535 }, pattern(6, 0, 80)),
            (Traffic::Ports { protocol: 6, first: 22, last: 22 }, pattern(6, 22, 96)),
        ] {
            assert_eq!(patterns(traffic), [expected], "{traffic:?}");
        }
    }

    #[test]
    fn patterns_cover_what_lies_inside() {
        let pattern = |protocol, port, bits| Pattern { protocol, port, bits };
        let (all, tcp, low) = (pattern(0, 0, 72), pattern(6, 0, 80), pattern(6, 0, 86));
        assert!(all.covers(tcp) && all.covers(low) && tcp.covers(low) && low.covers(low));
        assert!(!tcp.covers(all) && !low.covers(tcp));
        assert!(!pattern(0, 0, 80).covers(tcp), "protocol 0 is a protocol");
        assert!(!low.covers(pattern(6, 1024, 96)) && low.covers(pattern(6, 1023, 96)));
    }
}
