//! What can be said of a frame from outside, by a parser that is not ours: the words by which classes of
//! differences recognise packets.

use std::collections::BTreeSet;

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// Words for a frame:
///
/// `vlan`; `ip` or `other`; `v4` or `v6`; `options` (IPv4), `extensions` (IPv6); `fragment`; `multicast` (to a
/// group or to everybody); `link_local` (either end); `tcp`, `udp`, `sctp`, `icmp`; `syn`, `syn_ack`, `reset`,
/// `fin`, `plain`, `odd_flags`; `error` (ICMP with a quote), `quotes_tcp`, `short_quote` (of less than RFC 792's
/// eight bytes behind the header), `quotes_fragment` (not the first).
#[must_use]
pub(super) fn words(frame: &[u8]) -> BTreeSet<&'static str> {
    let mut words = BTreeSet::new();
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return words };
    if !packet.link_exts.is_empty() {
        words.insert("vlan");
    }
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            words.extend(["ip", "v4"]);
            words.extend((!header.options().is_empty()).then_some("options"));
            let destination = header.destination_addr();
            let many = destination.is_multicast() || destination.is_broadcast();
            words.extend(many.then_some("multicast"));
            let local = header.source_addr().is_link_local() || destination.is_link_local();
            words.extend(local.then_some("link_local"));
            words.extend(header.is_fragmenting_payload().then_some("fragment"));
            protocol(header.protocol().0, &mut words);
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            words.extend(["ip", "v6"]);
            let next = header.next_header();
            words.extend(next.is_ipv6_ext_header_value().then_some("extensions"));
            let (source, destination) = (header.source_addr(), header.destination_addr());
            words.extend(destination.is_multicast().then_some("multicast"));
            let local = source.is_unicast_link_local() || destination.is_unicast_link_local();
            words.extend(local.then_some("link_local"));
            words.extend(ip.payload().fragmented.then_some("fragment"));
            protocol(ip.payload().ip_number.0, &mut words);
        }
        Some(LaxNetSlice::Arp(_)) | None => {
            words.insert("other");
        }
    }
    transport(packet.transport.as_ref(), &mut words);
    words
}

fn protocol(number: u8, words: &mut BTreeSet<&'static str>) {
    words.extend(match number {
        6 => Some("tcp"),
        17 => Some("udp"),
        132 => Some("sctp"),
        1 | 58 => Some("icmp"),
        _ => None,
    });
}

fn transport(transport: Option<&TransportSlice<'_>>, words: &mut BTreeSet<&'static str>) {
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            words.insert(match (tcp.syn(), tcp.ack(), tcp.rst()) {
                (true, false, false) => "syn",
                (true, true, false) => "syn_ack",
                (false, _, true) => "reset",
                (false, true, false) => "plain",
                _ => "odd_flags",
            });
            words.extend(tcp.fin().then_some("fin"));
        }
        Some(TransportSlice::Icmpv4(icmp)) if matches!(icmp.type_u8(), 3 | 4 | 5 | 11 | 12) => {
            words.insert("error");
            let quote = icmp.payload();
            let header = quote.first().map_or(20, |first| usize::from(first & 0x0f) * 4);
            let later = quote.get(6..8).is_some_and(|it| it[0] & 0x1f != 0 || it[1] != 0);
            words.extend((quote.get(9) == Some(&6)).then_some("quotes_tcp"));
            words.extend((quote.len() < header + 8).then_some("short_quote"));
            words.extend(later.then_some("quotes_fragment"));
        }
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() < 128 => {
            words.insert("error");
            let quote = icmp.payload();
            words.extend((quote.get(6) == Some(&6)).then_some("quotes_tcp"));
            words.extend((quote.len() < 48).then_some("short_quote"));
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {}
        Some(TransportSlice::Udp(_) | TransportSlice::Igmp(_)) | None => {}
    }
}

/// A fragment: the datagram that it belongs to, and which bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Addresses, protocol where it is part of the key, identification.
    pub datagram: Vec<u8>,
    /// The first byte.
    pub offset: usize,
    /// Behind the last byte.
    pub end: usize,
    /// Not the last.
    pub more: bool,
}

/// `None`: a whole packet.
#[must_use]
pub(super) fn fragment(frame: &[u8]) -> Option<Fragment> {
    let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let ip = frame.get(14..)?;
    let (datagram, place, more, length) = match EtherType(ethertype) {
        EtherType::IPV4 => {
            let place = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]);
            let datagram = [ip.get(4..6)?, ip.get(9..10)?, ip.get(12..20)?].concat();
            let header = usize::from(*ip.first()? & 0x0f) * 4;
            (datagram, place << 3, place & 0x2000 != 0, ip.len().checked_sub(header)?)
        }
        EtherType::IPV6 => {
            let at = fragment_header(ip)?;
            let header = ip.get(at..at + 8)?;
            let place = u16::from_be_bytes([header[2], header[3]]);
            let datagram = [&header[4..8], ip.get(8..40)?].concat();
            (datagram, place & 0xfff8, place & 1 != 0, ip.len().checked_sub(at + 8)?)
        }
        _ => return None,
    };
    let offset = usize::from(place);
    let is_part = more || offset != 0;
    is_part.then(|| Fragment { datagram, offset, end: offset + length, more })
}

/// Where an IPv6 packet's fragment header stands, behind options and routing headers.
fn fragment_header(ip: &[u8]) -> Option<usize> {
    let (mut next, mut at) = (*ip.get(6)?, 40);
    while matches!(next, 0 | 43 | 60) {
        let header = ip.get(at..at + 2)?;
        (next, at) = (header[0], at + (usize::from(header[1]) + 1) * 8);
    }
    (next == 44).then_some(at)
}

#[cfg(test)]
mod tests {
    use sg_common::Direction;

    use super::*;
    use crate::case::packet::frame;

    fn words_of(text: &str) -> Vec<&'static str> {
        words(&frame(text, Direction::Ingress, None).expect(text)).into_iter().collect()
    }

    #[test]
    fn words_for_packets() {
        for (text, expected) in [
            ("tcp 192.0.2.1:1 > 10.0.0.5:80 SA", &["ip", "syn_ack", "tcp", "v4"][..]),
            (
                "tcp [fd00::1]:1 > [fd00::5]:80 FA hbh",
                &["extensions", "fin", "ip", "plain", "tcp", "v6"],
            ),
            ("udp 192.0.2.1:1 > 224.0.0.1:80 vlan=5", &["ip", "multicast", "udp", "v4", "vlan"]),
            ("arp request 10.0.0.1 > 10.0.0.5", &["other"]),
            ("udp 192.0.2.1:1 > 10.0.0.5:80 frag=0+@1", &["fragment", "ip", "udp", "v4"]),
            (
                "icmp 192.0.2.1 > 10.0.0.5 type=3 { tcp 10.0.0.5:1 > 192.0.2.1:2 A cut=27 }",
                &["error", "icmp", "ip", "quotes_tcp", "short_quote", "v4"],
            ),
            (
                "icmpv6 fd00::1 > fd00::5 type=1 { udp [fd00::5]:1 > [fd00::1]:2 }",
                &["error", "icmp", "ip", "v6"],
            ),
        ] {
            assert_eq!(words_of(text), expected, "{text}");
        }
    }

    #[test]
    fn fragments_of_both_families() {
        for (text, expected) in [
            ("udp 192.0.2.1:1 > 10.0.0.5:80 len=16 frag=0+@1", Some((0, 24, true))),
            ("udp 192.0.2.1:1 > 10.0.0.5:80 len=24 frag=24@1", Some((24, 48, false))),
            ("udp [fd00::1]:1 > [fd00::5]:80 len=24 hbh frag=1448+@7", Some((1448, 1472, true))),
            ("udp [fd00::1]:1 > [fd00::5]:80 len=24 frag=0@7", None),
            ("udp 192.0.2.1:1 > 10.0.0.5:80", None),
        ] {
            let found = fragment(&frame(text, Direction::Ingress, None).expect(text));
            assert_eq!(found.map(|it| (it.offset, it.end, it.more)), expected, "{text}");
        }
    }
}
