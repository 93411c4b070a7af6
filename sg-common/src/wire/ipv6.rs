//! IPv6 and its extension headers (RFC 8200).

use super::be16;
use super::ip::{IpHeader, Network};
use crate::{Packet, Reason, V6};

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Longest chain of extension headers that is walked.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// More fragments follow, or the offset is not zero.
const FRAGMENT_MASK: u16 = 0xfff9;

impl Network for V6 {
    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<IpHeader<Self>, Reason> {
        let b = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
        let available =
            packet.len().checked_sub(offset + HEADER).ok_or(Reason::Malformed)?;
        let length = match be16([b[4], b[5]]) {
            // The stack writes zero where a batch of segments is longer than the field can say.
            0 if packet.is_gso() => available,
            length => usize::from(length),
        };
        if b[0] >> 4 != 6 || length > available {
            return Err(Reason::Malformed);
        }
        let start = offset + HEADER;
        let chain = if is_extension(b[6]) {
            walk(packet, b[6], start, length)?
        } else {
            Chain::new(b[6], start, length)
        };
        Ok(IpHeader {
            source: address(&b.0, 8),
            destination: address(&b.0, 24),
            protocol: chain.protocol,
            hop_limit: b[7],
            fragment: chain.fragment,
            payload: chain.offset,
            payload_length: chain.remaining,
        })
    }
}

#[inline(always)]
const fn address(b: &[u8; HEADER], at: usize) -> V6 {
    V6::new([
        b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7],
        b[at + 8], b[at + 9], b[at + 10], b[at + 11], b[at + 12], b[at + 13], b[at + 14], b[at + 15],
    ])
}

/// Where the chain of extension headers has led so far.
struct Chain {
    protocol: u8,
    offset: usize,
    remaining: usize,
    fragment: bool,
    fragment_headers: u8,
}

impl Chain {
    #[inline(always)]
    const fn new(protocol: u8, offset: usize, remaining: usize) -> Self {
        Self { protocol, offset, remaining, fragment: false, fragment_headers: 0 }
    }
}

/// Off the fast path, with a stack frame of its own.
#[inline(never)]
fn walk<P: Packet + ?Sized>(
    packet: &P,
    protocol: u8,
    offset: usize,
    remaining: usize,
) -> Result<Chain, Reason> {
    let mut chain = Chain::new(protocol, offset, remaining);
    for index in 0..MAX_EXTENSION_HEADERS {
        if chain.fragment || !is_extension(chain.protocol) {
            return Ok(chain);
        }
        // Hop-by-hop options stand first or nowhere (RFC 8200, section 4.1).
        if chain.protocol == HOP_BY_HOP && index != 0 {
            return Err(Reason::ExtensionHeaders);
        }
        step(packet, &mut chain)?;
    }
    if chain.fragment || !is_extension(chain.protocol) {
        Ok(chain)
    } else {
        Err(Reason::ExtensionHeaders)
    }
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Passes one extension header.
#[inline(always)]
fn step<P: Packet + ?Sized>(packet: &P, chain: &mut Chain) -> Result<(), Reason> {
    let b = packet.load::<8>(chain.offset).ok_or(Reason::ExtensionHeaders)?;
    let length = match chain.protocol {
        FRAGMENT => {
            chain.fragment_headers += 1;
            if chain.fragment_headers > 1 {
                return Err(Reason::ExtensionHeaders);
            }
            // Neither offset nor more fragments: an atomic fragment, a whole packet (RFC 6946).
            chain.fragment = be16([b[2], b[3]]) & FRAGMENT_MASK != 0;
            8
        }
        // RFC 4302: in words of four bytes, less two.
        AUTHENTICATION => (usize::from(b[1]) + 2) * 4,
        ROUTING if b[2] == 0 => return Err(Reason::SourceRoute),
        _ => (usize::from(b[1]) + 1) * 8,
    };
    chain.protocol = b[0];
    chain.offset += length;
    chain.remaining = chain.remaining.checked_sub(length).ok_or(Reason::ExtensionHeaders)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A packet with the given extension headers, each as its type and its bytes behind "next header".
    fn packet(extensions: &[(u8, &[u8])], protocol: u8, payload: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, (_, rest)) in extensions.iter().enumerate() {
            body.push(extensions.get(index + 1).map_or(protocol, |next| next.0));
            body.extend(*rest);
        }
        body.resize(body.len() + payload, 0);
        let mut bytes = std::vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend([extensions.first().map_or(protocol, |first| first.0), 64]);
        bytes.extend([0x20; 16]);
        bytes.extend([0x30; 16]);
        bytes.extend(body);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<(u8, usize, usize, bool), Reason> {
        V6::parse(bytes, 0)
            .map(|h| (h.protocol, h.payload, h.payload_length, h.fragment))
    }

    const OPTIONS: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    const SEGMENT_ROUTING: &[u8] = &[0, 4, 0, 0, 0, 0, 0];

    #[test]
    fn no_extension() {
        assert_eq!(parse(&packet(&[], 6, 20)), Ok((6, 40, 20, false)));
        assert_eq!(parse(&packet(&[], 59, 0)), Ok((59, 40, 0, false)));
    }

    #[test]
    fn up_to_eight() {
        for count in 1..=8 {
            let chain = std::vec![(DESTINATION, OPTIONS); count];
            assert_eq!(parse(&packet(&chain, 17, 8)), Ok((17, 40 + 8 * count, 8, false)));
        }
        let chain = std::vec![(DESTINATION, OPTIONS); 9];
        assert_eq!(parse(&packet(&chain, 17, 8)), Err(Reason::ExtensionHeaders));
    }

    #[test]
    fn lengths_have_two_units() {
        let authentication = [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            parse(&packet(&[(AUTHENTICATION, &authentication)], 6, 20)),
            Ok((6, 64, 20, false))
        );
        let long = [&[1][..], &[0; 14]].concat();
        assert_eq!(parse(&packet(&[(HOP_BY_HOP, &long)], 6, 20)), Ok((6, 56, 20, false)));
    }

    #[test]
    fn hop_by_hop_first_or_nowhere() {
        assert_eq!(
            parse(&packet(&[(HOP_BY_HOP, OPTIONS), (DESTINATION, OPTIONS)], 6, 20)),
            Ok((6, 56, 20, false))
        );
        assert_eq!(
            parse(&packet(&[(DESTINATION, OPTIONS), (HOP_BY_HOP, OPTIONS)], 6, 20)),
            Err(Reason::ExtensionHeaders)
        );
    }

    #[test]
    fn routing_type_zero_only() {
        assert_eq!(parse(&packet(&[(ROUTING, SEGMENT_ROUTING)], 6, 20)), Ok((6, 48, 20, false)));
        assert_eq!(
            parse(&packet(&[(ROUTING, &[0, 0, 0, 0, 0, 0, 0])], 6, 20)),
            Err(Reason::SourceRoute)
        );
    }

    #[test]
    fn fragments() {
        let atomic: &[u8] = &[0, 0, 0, 0, 0, 0, 1];
        let first: &[u8] = &[0, 0, 1, 0, 0, 0, 1];
        let later: &[u8] = &[0, 0, 8, 0, 0, 0, 1];
        assert_eq!(parse(&packet(&[(FRAGMENT, atomic)], 6, 20)), Ok((6, 48, 20, false)));
        assert_eq!(parse(&packet(&[(FRAGMENT, first)], 6, 20)), Ok((6, 48, 20, true)));
        assert_eq!(parse(&packet(&[(FRAGMENT, later)], 6, 20)), Ok((6, 48, 20, true)));
        assert_eq!(
            parse(&packet(&[(FRAGMENT, atomic), (FRAGMENT, first)], 6, 20)),
            Err(Reason::ExtensionHeaders)
        );
    }

    #[test]
    fn chains_that_run_out_of_the_packet() {
        let too_long = [9, 1, 4, 0, 0, 0, 0];
        assert_eq!(
            parse(&packet(&[(DESTINATION, &too_long)], 6, 20)),
            Err(Reason::ExtensionHeaders)
        );
        let whole = packet(&[(DESTINATION, OPTIONS)], 6, 20);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }
}
