//! The packet language: one line of text to one frame.
//!
//! ```text
//! tcp 198.51.100.7:40000 > 10.0.0.5:80 S seq=100 ack=0 len=0 win=64240 doff=5      flags FSRPAUEC or null
//! udp 10.0.0.5:53 > 198.51.100.7:53 len=12 udplength=20
//! sctp A:PORT > B:PORT init|data|chunk=N
//! icmp A > B echo-request|echo-reply|type=N [code=N] [id=N] [seq=N] [{ tcp ... }]  quotes a packet, its first cut=N bytes
//! icmpv6 likewise; ns, na (target=), rs, ra, redirect, mld (type=): hop limit and type as they must be;
//!   all but mld: code=N, options slla=MAC, tlla=MAC, nonce, opt=HEX; na: router, solicited, override
//! igmp A > B [type=N]     dhcp-ask A > B     dhcp-answer A > B     ip/47 A > B
//! arp request|reply|N SENDER > TARGET [sha=MAC]     ethertype/88cc [HEX]     raw HEX
//! ```
//!
//! Any line may say `vlan=5`, `vlan=s7,5` (s: 0x88a8), `smac=`, `dmac=`, `truncate=` and `trailer=` (bytes of
//! the frame). IP lines: `ttl=`/`hop=`, `version=`, `length=` (the header's field), `frag=OFFSET[+][@ID]` (+:
//! more follow); IPv4: `ihl=`, `df`, `ipopt=nop*3,rr,lsrr,ssrr,eol,HEX` (padded with zeros to a word); IPv6:
//! extension headers in their order, `hbh dst rh0 rh2 rh4 ah frag=`, `hbh=N` and `dst=N` with that length
//! field. A fragment with an offset has no transport header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, IpFragOffset, IpNumber,
    Ipv4Header, Ipv4Options, Ipv6Header,
};
use sg_common::Direction;

use super::transport::{self, Ends};
use super::words::{Words, hex, mac};

/// Stands for the protected end where its policy gives no address. No device has it.
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Stands for the router or neighbour.
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// The frame that a line describes, travelling in `direction`; `own` is the protected end's MAC address.
///
/// # Errors
/// Says which word is not understood.
pub fn frame(text: &str, direction: Direction, own: Option<[u8; 6]>) -> Result<Vec<u8>> {
    let mut words = Words::split(text)?;
    let own = own.unwrap_or(OWN_MAC);
    let (source, destination) = match direction {
        Direction::Ingress => (OTHER_MAC, own),
        Direction::Egress => (own, OTHER_MAC),
    };
    let source = words.text("smac").map_or(Ok(source), mac)?;
    let destination = words.text("dmac").map_or(Ok(destination), mac)?;
    let tags = words.text("vlan").map_or(Ok(Vec::new()), tags)?;
    let truncate: Option<usize> = words.value("truncate")?;
    let trailer: usize = words.value("trailer")?.unwrap_or(0);
    let (ethertype, payload) = network(&mut words, source)?;
    words.finish()?;
    let Some(ethertype) = ethertype else { return Ok(payload) };
    let header = Ethernet2Header { source, destination, ether_type: EtherType(ethertype) };
    let mut bytes = header.to_bytes().to_vec();
    bytes.splice(12..12, tags);
    bytes.extend(payload);
    bytes.resize(bytes.len() + trailer, 0);
    if let Some(length) = truncate {
        ensure!(length < bytes.len(), "the frame has {} bytes as it is", bytes.len());
        bytes.truncate(length);
    }
    Ok(bytes)
}

/// `5`, `s7,5`: the bytes of the tags.
fn tags(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for tag in text.split(',') {
        let (ethertype, id) = match tag.strip_prefix('s') {
            Some(id) => (0x88a8_u16, id),
            None => (0x8100, tag),
        };
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(id.parse::<u16>().with_context(|| text.to_owned())?.to_be_bytes());
    }
    Ok(bytes)
}

/// EtherType and bytes of what an Ethernet header carries; without one, the whole frame.
fn network(words: &mut Words<'_>, source_mac: [u8; 6]) -> Result<(Option<u16>, Vec<u8>)> {
    let head = words.next()?;
    if head == "raw" {
        return Ok((None, hex(words.next()?)?));
    }
    if head == "arp" {
        return Ok((Some(0x0806), arp(words, source_mac)?));
    }
    if let Some(ethertype) = head.strip_prefix("ethertype/") {
        let payload = words.next().map_or(Ok(vec![0; 46]), hex)?;
        return Ok((Some(u16::from_str_radix(ethertype, 16)?), payload));
    }
    let (version, bytes) = ip(head, words)?;
    Ok((Some(version), bytes))
}

fn arp(words: &mut Words<'_>, source_mac: [u8; 6]) -> Result<Vec<u8>> {
    let operation = match words.next()? {
        "request" => ArpOperation::REQUEST,
        "reply" => ArpOperation::REPLY,
        number => ArpOperation(number.parse().with_context(|| format!("ARP {number}"))?),
    };
    let [sender, target] = pair(words)?.map(str::parse::<Ipv4Addr>);
    let sender_mac = words.text("sha").map_or(Ok(source_mac), mac)?;
    let (sender, target) = (sender?.octets(), target?.octets());
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender_mac,
        &sender,
        &[0; 6],
        &target,
    )?;
    Ok(packet.to_bytes().to_vec())
}

/// `A > B`
fn pair<'t>(words: &mut Words<'t>) -> Result<[&'t str; 2]> {
    let from = words.next()?;
    ensure!(words.next()? == ">", "no > behind {from}");
    Ok([from, words.next()?])
}

/// An IP packet as an ICMP error quotes it.
pub(super) fn quoted(text: &str) -> Result<Vec<u8>> {
    let mut words = Words::split(text)?;
    let head = words.next()?;
    let cut: Option<usize> = words.value("cut")?;
    let (_ethertype, mut bytes) = ip(head, &mut words)?;
    words.finish()?;
    bytes.truncate(cut.unwrap_or(usize::MAX));
    Ok(bytes)
}

/// The fragment that a packet is.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    offset: u16,
    more: bool,
    id: u32,
}

/// `1480+@7`: at that byte, more follow, identification.
fn fragment(text: &str) -> Result<Fragment> {
    let (place, id) = text.split_once('@').unwrap_or((text, "1"));
    let offset: u16 = place.trim_end_matches('+').parse().with_context(|| text.to_owned())?;
    ensure!(offset.is_multiple_of(8), "fragments begin at multiples of 8");
    Ok(Fragment { offset, more: place.ends_with('+'), id: id.parse()? })
}

fn ip(head: &str, words: &mut Words<'_>) -> Result<(u16, Vec<u8>)> {
    let [from, to] = pair(words)?;
    let ends = Ends::parse(from, to)?;
    // It stays: its place among the extension headers counts.
    let part = words.peek("frag").map(fragment).transpose()?;
    let is_later = part.is_some_and(|part| part.offset != 0);
    let transport = transport::build(head, words, &ends, is_later)?;
    let hop = match words.value("ttl")? {
        Some(ttl) => ttl,
        None => words.value("hop")?.unwrap_or(transport.hop_limit),
    };
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            _ = words.text("frag");
            let header = v4(words, source, destination, part, hop, &transport)?;
            Ok((0x0800, [header, transport.bytes].concat()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = v6(words, source, destination, hop, &transport)?;
            Ok((0x86dd, [header, transport.bytes].concat()))
        }
        (source, destination) => bail!("no packet goes from {source} to {destination}"),
    }
}

fn v4(
    words: &mut Words<'_>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    part: Option<Fragment>,
    ttl: u8,
    transport: &transport::Part,
) -> Result<Vec<u8>> {
    let options = words.text("ipopt").map_or(Ok(Vec::new()), options)?;
    let part = part.unwrap_or(Fragment { offset: 0, more: false, id: 1 });
    let mut header = Ipv4Header {
        identification: u16::try_from(part.id)?,
        dont_fragment: words.flag("df"),
        more_fragments: part.more,
        fragment_offset: IpFragOffset::try_from(part.offset / 8)?,
        time_to_live: ttl,
        protocol: IpNumber(transport.protocol),
        source: source.octets(),
        destination: destination.octets(),
        options: Ipv4Options::try_from(options.as_slice())?,
        ..Ipv4Header::default()
    };
    let length = header.header_len() + transport.bytes.len();
    header.total_len = words.value("length")?.unwrap_or(u16::try_from(length)?);
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = header.to_bytes().to_vec();
    if let Some(ihl) = words.value::<u8>("ihl")? {
        bytes[0] = bytes[0] & 0xf0 | ihl & 0x0f;
    }
    version(words, &mut bytes)?;
    Ok(bytes)
}

fn version(words: &mut Words<'_>, bytes: &mut [u8]) -> Result<()> {
    if let Some(version) = words.value::<u8>("version")? {
        bytes[0] = version << 4 | bytes[0] & 0x0f;
    }
    Ok(())
}

/// `nop*3,lsrr`: the option area, padded to a whole word.
fn options(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split(',') {
        let (name, times) = match word.split_once('*') {
            Some((name, times)) => (name, times.parse()?),
            None => (word, 1),
        };
        // RFC 791, section 3.1: type, length, pointer, one address.
        let option = match name {
            "eol" => vec![0],
            "nop" => vec![1],
            "rr" => vec![7, 7, 4, 0, 0, 0, 0],
            "lsrr" => vec![131, 7, 4, 192, 0, 2, 1],
            "ssrr" => vec![137, 7, 4, 192, 0, 2, 1],
            digits => hex(digits)?,
        };
        bytes.extend(option.repeat(times));
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn v6(
    words: &mut Words<'_>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    transport: &transport::Part,
) -> Result<Vec<u8>> {
    let length: Option<u16> = words.value("length")?;
    let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
    while let Some(word) = words.take(|word| extension(word).is_some()) {
        chain.extend(extension(word).transpose()?);
    }
    let mut extensions = Vec::new();
    for (index, (_, rest)) in chain.iter().enumerate() {
        extensions.push(chain.get(index + 1).map_or(transport.protocol, |next| next.0));
        extensions.extend(rest);
    }
    let behind = extensions.len() + transport.bytes.len();
    let header = Ipv6Header {
        payload_length: length.unwrap_or(u16::try_from(behind)?),
        next_header: IpNumber(chain.first().map_or(transport.protocol, |first| first.0)),
        hop_limit,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    let mut bytes = header.to_bytes().to_vec();
    version(words, &mut bytes)?;
    bytes.extend(extensions);
    Ok(bytes)
}

/// Number of an extension header and its bytes behind "next header"; `None`: the word is none.
fn extension(word: &str) -> Option<Result<(u8, Vec<u8>)>> {
    const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
    let options = |number, length: &str| {
        let length: u8 = length.parse().with_context(|| word.to_owned())?;
        Ok((number, [&[length][..], &PADDING].concat()))
    };
    // One address, one segment left.
    let routing = |kind: u8| Ok((43, [&[2, kind, 1, 0, 0, 0, 0][..], &[0x20; 16]].concat()));
    Some(match word.split_once('=') {
        None => match word {
            "hbh" => options(0, "0"),
            "dst" => options(60, "0"),
            "rh0" => routing(0),
            "rh2" => routing(2),
            "rh4" => routing(4),
            "ah" => Ok((51, [&[4][..], &[0; 22]].concat())),
            _ => return None,
        },
        Some(("hbh", length)) => options(0, length),
        Some(("dst", length)) => options(60, length),
        Some(("frag", text)) => fragment(text).map(|part| {
            let place = (part.offset | u16::from(part.more)).to_be_bytes();
            (44, [&[0][..], &place, &part.id.to_be_bytes()].concat())
        }),
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        frame(text, Direction::Ingress, None).expect(text)
    }

    #[test]
    fn a_segment_is_what_etherparse_reads() {
        let bytes =
            bytes("tcp 198.51.100.7:40000 > 10.0.0.5:80 SA seq=7 ack=9 len=3 ttl=9 vlan=s4,5");
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&bytes).expect("a packet");
        assert_eq!(packet.link_exts.len(), 2);
        let Some(etherparse::TransportHeader::Tcp(tcp)) = packet.transport else { panic!("TCP") };
        assert_eq!(
            (tcp.source_port, tcp.destination_port, tcp.syn, tcp.ack),
            (40000, 80, true, true)
        );
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (7, 9));
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("IPv4") };
        assert_eq!((ip.time_to_live, ip.total_len), (9, 43));
        let sum = tcp.calc_checksum_ipv4(&ip, packet.payload.slice()).expect("a sum");
        assert_eq!((ip.header_checksum, tcp.checksum), (ip.calc_header_checksum(), sum));
    }

    #[test]
    fn extension_headers_stand_in_their_order() {
        let bytes = bytes("udp [2001:db8::1]:5 > [2001:db8::2]:6 hbh rh2 frag=0+@9 dst");
        let next = |at: usize| bytes[14 + at];
        assert_eq!([next(6), next(40), next(48), next(72), next(80)], [0, 43, 44, 60, 17]);
        assert_eq!(bytes[14 + 72..14 + 80], [60, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(bytes.len(), 14 + 40 + 8 + 24 + 8 + 8 + 8);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "tcp 10.0.0.1:1 > 10.0.0.2:2",
            "tcp 10.0.0.1:1 > 10.0.0.2:2 S sek=1",
            "tcp 10.0.0.1 > 10.0.0.2:2 S",
            "udp 10.0.0.1:1 > [::1]:2",
            "udp 10.0.0.1:1 10.0.0.2:2",
            "icmp 10.0.0.1 > 10.0.0.2",
            "udp 10.0.0.1:1 > 10.0.0.2:2 truncate=500",
            "quux 10.0.0.1 > 10.0.0.2",
        ] {
            assert!(frame(text, Direction::Ingress, None).is_err(), "{text}");
        }
    }
}
