//! Headers of every length and tags of every number: a port is read where it is, and nowhere else.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use etherparse::{IpNumber, Ipv4Header, Ipv4Options, Ipv6Header};
use sg_common::wire::{
    ip::{TCP, UDP},
    tcp::SYN,
};

use super::{
    Measured, Options,
    frames::{Ends, IPV4, IPV6, Segment, udp},
    range::{self, Hook, Target},
};

/// IPv4 header lengths in words.
const LENGTHS: std::ops::RangeInclusive<usize> = 5..=15;
/// Extension headers that are walked at most.
const CHAIN: usize = 8;
const DESTINATION_OPTIONS: u8 = 60;

/// A frame and whether it must arrive.
struct Probe {
    frame: Vec<u8>,
    passes: bool,
}

pub(super) fn lengths(_: &Options) -> Result<Measured> {
    compare(|target| {
        let [v4, v6] = target.ends();
        let mut probes = Vec::new();
        for protocol in [TCP, UDP] {
            for length in LENGTHS {
                for decoy in LENGTHS.filter(|decoy| *decoy != length) {
                    for passes in [true, false] {
                        probes.push(ipv4(
                            target,
                            v4,
                            protocol,
                            length,
                            decoy,
                            passes,
                            probes.len(),
                        )?);
                    }
                }
            }
        }
        for headers in 0..=CHAIN + 1 {
            for passes in [true, false] {
                probes.push(ipv6(target, v6, headers, passes, probes.len())?);
            }
        }
        Ok(probes)
    })
}

/// Sends every probe at each hook; a probe that arrives and must not, or the other way round, is a change of
/// verdict.
fn compare(make: impl Fn(&Target<'_>) -> Result<Vec<Probe>>) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        let probes = make(&target)?;
        let frames: Vec<_> = probes.iter().map(|probe| probe.frame.clone()).collect();
        let arrived: HashSet<Vec<u8>> = target.arrivals(&frames)?.into_iter().collect();
        let changed = probes.iter().filter(|it| arrived.contains(&it.frame) != it.passes);
        let changed: Vec<_> = changed.collect();
        let (count, passed) = (probes.len(), probes.iter().filter(|probe| probe.passes).count());
        let text = format!("{hook:?}: {} of {count}, {passed} pass", changed.len());
        measured.add(changed.is_empty() && passed > 0, &text);
        if let Some(first) = changed.first() {
            let hex: String = first.frame.iter().map(|byte| format!("{byte:02x}")).collect();
            measured.numbers += &format!(" (must pass: {}: {hex})", first.passes);
        }
    }
    Ok(measured)
}

/// The port that is asked, and the other one, which stands where it must not be read.
fn ports(protocol: u8, passes: bool) -> (u16, u16) {
    let (allowed, denied) = if protocol == TCP { (80, 81) } else { (53, 54) };
    if passes { (allowed, denied) } else { (denied, allowed) }
}

/// A header of `length` words; the decoy stands where a header of `decoy` words would have the port.
fn ipv4(
    target: &Target<'_>,
    ends: Ends,
    protocol: u8,
    length: usize,
    decoy: usize,
    passes: bool,
    number: usize,
) -> Result<Probe> {
    let (port, other) = ports(protocol, passes);
    let source = 10_000 + u16::try_from(number)?;
    let mut payload = match protocol {
        TCP => Segment { ports: (source, port), flags: SYN, ..Segment::default() }.bytes(&[0; 40]),
        _ => udp((source, port), &[0; 52]),
    };
    // An experimental option (RFC 4727) that fills the area: nobody is to look into it.
    let mut options = vec![0; (length - 5) * 4];
    if let [kind, size, ..] = &mut options[..] {
        (*kind, *size) = (0x5e, u8::try_from((length - 5) * 4)?);
    }
    // The decoy is planted behind the checksums, which nobody has to believe before a socket does.
    let (area, at) = if decoy < length {
        (&mut options, (decoy - 5) * 4 + 2)
    } else {
        (&mut payload, (decoy - length) * 4 + 2)
    };
    area.get_mut(at..at + 2).context("room for the decoy")?.copy_from_slice(&other.to_be_bytes());
    if protocol == TCP {
        payload[13] = SYN;
    }
    let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) = (ends.source, ends.destination)
    else {
        anyhow::bail!("IPv4 has IPv4 addresses")
    };
    let mut header = Ipv4Header {
        time_to_live: 64,
        protocol: IpNumber(protocol),
        source: from.octets(),
        destination: to.octets(),
        options: Ipv4Options::try_from(options.as_slice())?,
        ..Ipv4Header::default()
    };
    header.total_len = u16::try_from(header.header_len() + payload.len())?;
    header.header_checksum = header.calc_header_checksum();
    let packet = [&header.to_bytes(), &payload[..]].concat();
    Ok(Probe { frame: target.link().frame(IPV4, &packet), passes })
}

/// `headers` extension headers; in each the decoy stands where a shorter chain would have the port.
fn ipv6(
    target: &Target<'_>,
    ends: Ends,
    headers: usize,
    passes: bool,
    number: usize,
) -> Result<Probe> {
    let (port, other) = ports(TCP, passes);
    let source = 10_000 + u16::try_from(number)?;
    let segment = Segment { ports: (source, port), flags: SYN, ..Segment::default() };
    let mut chain = Vec::new();
    for index in 0..headers {
        let next = if index + 1 == headers { TCP } else { DESTINATION_OPTIONS };
        // One byte of padding, an option whose number is the rest of the decoy, its two bytes, padding.
        let [high, low] = other.to_be_bytes();
        chain.extend([next, 0, high, low, 2, high, low, 0]);
    }
    let payload = [&chain[..], &ends.checksummed(TCP, &segment.bytes(b""))].concat();
    let (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) = (ends.source, ends.destination)
    else {
        anyhow::bail!("IPv6 has IPv6 addresses")
    };
    let header = Ipv6Header {
        payload_length: u16::try_from(payload.len())?,
        next_header: IpNumber(if headers == 0 { TCP } else { DESTINATION_OPTIONS }),
        hop_limit: 64,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv6Header::default()
    };
    let frame = target.link().frame(IPV6, &[&header.to_bytes(), &payload[..]].concat());
    Ok(Probe { frame, passes: passes && headers <= CHAIN })
}

pub(super) fn tags(_: &Options) -> Result<Measured> {
    const ETHERTYPES: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    let mut stacks: Vec<Vec<[u8; 2]>> = vec![Vec::new()];
    for depth in 0..3 {
        let deeper: Vec<_> = stacks.iter().filter(|stack| stack.len() == depth).cloned().collect();
        for stack in deeper {
            stacks.extend(ETHERTYPES.map(|tag| [&stack[..], &[tag]].concat()));
        }
    }
    compare(|target| {
        let mut probes = Vec::new();
        for stack in &stacks {
            for ends in target.ends() {
                for passes in [true, false] {
                    let (port, _) = ports(TCP, passes);
                    let source = 10_000 + u16::try_from(probes.len())?;
                    let segment =
                        Segment { ports: (source, port), flags: SYN, ..Segment::default() };
                    let mut frame = target.link().packet(ends, TCP, &segment.bytes(b""));
                    let tags = stack.iter().flat_map(|tag| [tag[0], tag[1], 0, 5]);
                    frame.splice(12..12, tags);
                    probes.push(Probe { frame, passes: passes && stack.len() <= 2 });
                }
            }
        }
        Ok(probes)
    })
}
