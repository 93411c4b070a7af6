//! What stands behind the IP header of a line of the packet language.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{TcpHeader, UdpHeader, checksum::Sum16BitWords};
use sg_common::wire::{icmp::v6, ip, sctp, tcp};

use super::packet::quoted;
use super::words::{Words, hex, mac};

/// SCTP's DATA chunk (RFC 9260, section 3.3.1).
const SCTP_DATA: u8 = 0;

/// The two ends of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    ports: Option<(u16, u16)>,
}

impl Ends {
    /// Addresses, with ports at both or at neither.
    pub(super) fn parse(from: &str, to: &str) -> Result<Self> {
        if let (Ok(source), Ok(destination)) = (from.parse::<IpAddr>(), to.parse::<IpAddr>()) {
            return Ok(Self { source, destination, ports: None });
        }
        let end = |text: &str| text.parse::<SocketAddr>().with_context(|| text.to_owned());
        let (from, to) = (end(from)?, end(to)?);
        let ports = Some((from.port(), to.port()));
        Ok(Self { source: from.ip(), destination: to.ip(), ports })
    }

    fn ports(&self) -> Result<(u16, u16)> {
        self.ports.context("the ends need ports")
    }
}

/// A transport header with its payload, and what it wants of the IP header.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) bytes: Vec<u8>,
}

/// Builds what the head of a line names; a later fragment is payload alone.
pub(super) fn build(
    head: &str,
    words: &mut Words<'_>,
    ends: &Ends,
    is_later: bool,
) -> Result<Part> {
    let is_v4 = ends.source.is_ipv4();
    let part = |protocol, bytes| Part { protocol, hop_limit: 64, bytes };
    if is_later {
        let payload = vec![0; words.value("len")?.unwrap_or(8)];
        return Ok(part(number(head)?, payload));
    }
    let mut built = match head {
        "tcp" => part(ip::TCP, tcp_segment(words, ends.ports()?)?),
        "udp" => part(ip::UDP, udp(words, ends.ports()?)?),
        "dhcp-ask" => part(ip::UDP, udp(words, if is_v4 { (68, 67) } else { (546, 547) })?),
        "dhcp-answer" => part(ip::UDP, udp(words, if is_v4 { (67, 68) } else { (547, 546) })?),
        "sctp" => part(ip::SCTP, sctp_packet(words, ends.ports()?)?),
        "icmp" | "icmpv6" => part(number(head)?, icmp(head, words)?),
        "igmp" => {
            let kind = words.value("type")?.unwrap_or(0x16);
            Part { hop_limit: 1, ..part(ip::IGMP, vec![kind, 0, 0, 0, 224, 0, 0, 251]) }
        }
        _ => match discovery(head, words)? {
            Some(part) => part,
            None => part(number(head)?, vec![0; words.value("len")?.unwrap_or(8)]),
        },
    };
    fill_checksum(&mut built, ends);
    Ok(built)
}

fn number(head: &str) -> Result<u8> {
    Ok(match head {
        "tcp" => ip::TCP,
        "udp" => ip::UDP,
        "sctp" => ip::SCTP,
        "icmp" => ip::ICMP,
        "icmpv6" => ip::ICMPV6,
        other => match other.strip_prefix("ip/") {
            Some(number) => number.parse()?,
            None => bail!("{other} is no kind of packet"),
        },
    })
}

fn tcp_segment(words: &mut Words<'_>, (source, destination): (u16, u16)) -> Result<Vec<u8>> {
    const LETTERS: [(char, u8); 8] = [
        ('F', tcp::FIN),
        ('S', tcp::SYN),
        ('R', tcp::RST),
        ('P', 0x08),
        ('A', tcp::ACK),
        ('U', 0x20),
        ('E', 0x40),
        ('C', 0x80),
    ];
    let bit = |letter: char| LETTERS.iter().find(|known| known.0 == letter).map(|known| known.1);
    let is_flags = |word: &str| word == "null" || word.chars().all(|letter| bit(letter).is_some());
    let flags = words.take(is_flags).context("a segment needs flags, or null")?;
    let flags = flags.chars().filter_map(bit).fold(0, |all, one| all | one);
    let window = words.value("win")?.unwrap_or(64240);
    let sequence = words.value("seq")?.unwrap_or(1);
    let mut header = TcpHeader::new(source, destination, sequence, window);
    header.acknowledgment_number = words.value("ack")?.unwrap_or(0);
    let mut bytes = header.to_bytes().to_vec();
    bytes[13] = flags;
    if let Some(doff) = words.value::<u8>("doff")? {
        bytes[12] = doff << 4;
    }
    bytes.resize(bytes.len() + words.value("len")?.unwrap_or(0), 0);
    Ok(bytes)
}

fn udp(words: &mut Words<'_>, (source_port, destination_port): (u16, u16)) -> Result<Vec<u8>> {
    let payload: usize = words.value("len")?.unwrap_or(0);
    let length = words.value("udplength")?.unwrap_or(u16::try_from(UdpHeader::LEN + payload)?);
    let header = UdpHeader { source_port, destination_port, length, checksum: 0 };
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(UdpHeader::LEN + payload, 0);
    Ok(bytes)
}

/// Common header and one chunk (RFC 9260, section 3).
fn sctp_packet(words: &mut Words<'_>, (source, destination): (u16, u16)) -> Result<Vec<u8>> {
    let chunk = if words.flag("init") {
        sctp::INIT
    } else if words.flag("data") {
        SCTP_DATA
    } else {
        words.value("chunk")?.context("init, data or chunk=")?
    };
    let mut bytes = vec![0; 32];
    bytes[0..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    (bytes[12], bytes[15]) = (chunk, 20);
    Ok(bytes)
}

fn icmp(head: &str, words: &mut Words<'_>) -> Result<Vec<u8>> {
    let echo = if head == "icmp" { [8, 0] } else { [128, 129] };
    let kind = if words.flag("echo-request") {
        echo[0]
    } else if words.flag("echo-reply") {
        echo[1]
    } else {
        words.value("type")?.context("echo-request, echo-reply or type=")?
    };
    let id: u16 = words.value("id")?.unwrap_or(1);
    let sequence: u16 = words.value("seq")?.unwrap_or(1);
    let mut bytes = vec![kind, words.value("code")?.unwrap_or(0), 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.resize(8 + words.value("len")?.unwrap_or(0), 0);
    if let Some(quote) = words.quote() {
        // What an error says beside the quote; RFC 792: unused.
        bytes[4..8].fill(0);
        bytes.extend(quoted(quote)?);
    }
    Ok(bytes)
}

/// Neighbour discovery and multicast listeners (RFC 4861, RFC 3810).
fn discovery(head: &str, words: &mut Words<'_>) -> Result<Option<Part>> {
    let (kind, length) = match head {
        "rs" => (v6::ROUTER_SOLICITATION, 8),
        "ra" => (v6::ROUTER_ADVERTISEMENT, 16),
        "ns" => (v6::NEIGHBOUR_SOLICITATION, 24),
        "na" => (v6::NEIGHBOUR_ADVERTISEMENT, 24),
        "redirect" => (v6::REDIRECT, 40),
        "mld" => (words.value("type")?.unwrap_or(v6::LISTENER_REPORT_V2), 24),
        _ => return Ok(None),
    };
    let mut bytes = vec![0; length];
    bytes[0] = kind;
    if let Some(target) = words.value::<Ipv6Addr>("target")? {
        ensure!(length >= 24, "{head} has no target");
        bytes[8..24].copy_from_slice(&target.octets());
    }
    if head == "mld" {
        return Ok(Some(Part { protocol: ip::ICMPV6, hop_limit: 1, bytes }));
    }
    bytes[1] = words.value("code")?.unwrap_or(0);
    if head == "na" {
        let flags = [("router", 0x80), ("solicited", 0x40), ("override", 0x20)];
        bytes[4] =
            flags.iter().filter(|(word, _)| words.flag(word)).fold(0, |all, one| all | one.1);
    }
    while let Some(option) = words.take(|word| discovery_option(word).is_some()) {
        bytes.extend(discovery_option(option).context("an option")??);
    }
    let hop_limit = 255;
    Ok(Some(Part { protocol: ip::ICMPV6, hop_limit, bytes }))
}

/// An option of neighbour discovery (RFC 4861, section 4.6; RFC 3971, section 5.3); `None`: the word is none.
fn discovery_option(word: &str) -> Option<Result<Vec<u8>>> {
    let link_layer = |kind: u8, text| mac(text).map(|mac| [&[kind, 1][..], &mac].concat());
    Some(match word.split_once('=') {
        None if word == "nonce" => Ok(vec![14, 1, 1, 2, 3, 4, 5, 6]),
        Some(("slla", text)) => link_layer(1, text),
        Some(("tlla", text)) => link_layer(2, text),
        Some(("opt", text)) => hex(text),
        _ => return None,
    })
}

/// Internet checksum over the pseudo header, where there is one, and everything behind the IP header.
fn fill_checksum(part: &mut Part, ends: &Ends) {
    let (at, pseudo) = match part.protocol {
        ip::TCP => (16, true),
        ip::UDP => (6, true),
        ip::ICMPV6 => (2, true),
        ip::ICMP | ip::IGMP => (2, false),
        _ => return,
    };
    let mut sum = Sum16BitWords::new();
    if pseudo {
        for address in [ends.source, ends.destination] {
            sum = match address {
                IpAddr::V4(address) => sum.add_slice(&address.octets()),
                IpAddr::V6(address) => sum.add_slice(&address.octets()),
            };
        }
        let length = u32::try_from(part.bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        sum = sum.add_slice(&length).add_slice(&[0, part.protocol]);
    }
    let sum = sum.add_slice(&part.bytes).to_ones_complement_with_no_zero().to_be();
    if let Some(place) = part.bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}
