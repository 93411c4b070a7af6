//! IPv6 and its extension headers (RFC 8200).

use zerocopy::FromBytes;

use super::be16;
use super::ip::{IpHeader, IpVersion, Part};
use crate::{Be16, MAX_OFFSET, Packet, Reason, V6};

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Longest chain of extension headers that is walked.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
/// Length of a fragment header.
const FRAGMENT_HEADER: usize = 8;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// More fragments follow.
const MORE_FRAGMENTS: u16 = 1;
/// Offset of a fragment in bytes.
const FRAGMENT_OFFSET: u16 = 0xfff8;

impl IpVersion for V6 {
    #[inline(always)]
    fn parse<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason> {
        let bytes = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
        let fixed: Fixed = zerocopy::transmute!(bytes.0);
        let available = packet.len().checked_sub(offset + HEADER).ok_or(Reason::Malformed)?;
        let length = match fixed.length.get() {
            // The stack writes zero where a batch of segments is longer than the field can say.
            0 if packet.is_gso() => available,
            length => usize::from(length),
        };
        if fixed.version[0] >> 4 != 6 || length > available {
            return Err(Reason::Malformed);
        }
        fields(&fixed, offset, length, header);
        if !is_extension(header.protocol) {
            return Ok(());
        }
        walk(packet, header)?;
        // Neither offset nor more fragments: an atomic fragment, a whole packet (RFC 6946).
        match header.part() {
            Part::Whole => Ok(()),
            Part::First | Part::Later => header
                .check_fragment(header.payload - header.fragment_start + header.payload_length),
        }
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        end: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason> {
        let bytes = packet.load::<HEADER>(offset).ok_or(Reason::IcmpError)?;
        let fixed: Fixed = zerocopy::transmute!(bytes.0);
        let length = end.checked_sub(offset + HEADER).ok_or(Reason::IcmpError)?;
        if fixed.version[0] >> 4 != 6 {
            return Err(Reason::IcmpError);
        }
        fields(&fixed, offset, length, header);
        let walked = if is_extension(header.protocol) { walk(packet, header) } else { Ok(()) };
        walked.map_err(|_broken| Reason::IcmpError)
    }
}

/// What stands in the fixed header. `length` is that of what follows it.
#[inline(always)]
fn fields(fixed: &Fixed, offset: usize, length: usize, header: &mut IpHeader<V6>) {
    header.source = fixed.source;
    header.destination = fixed.destination;
    header.protocol = fixed.next_header;
    header.hop_limit = fixed.hop_limit;
    header.fragment_id = 0;
    header.fragment_offset = 0;
    header.more_fragments = false;
    header.has_fragment_header = false;
    header.payload = offset + HEADER;
    header.fragment_start = header.payload;
    header.payload_length = length;
}

/// The fixed header.
#[derive(FromBytes)]
#[repr(C)]
struct Fixed {
    /// Version, traffic class, flow label.
    version: [u8; 4],
    length: Be16,
    next_header: u8,
    hop_limit: u8,
    source: V6,
    destination: V6,
}

/// Moves `header` to the end of the chain of extension headers. Off the fast path, with a stack frame of
/// its own.
#[inline(never)]
fn walk<P: Packet + ?Sized>(packet: &P, header: &mut IpHeader<V6>) -> Result<(), Reason> {
    for index in 0..MAX_EXTENSION_HEADERS {
        if at_end(header) {
            return Ok(());
        }
        // Hop-by-hop options stand first or nowhere (RFC 8200, section 4.1).
        if header.protocol == HOP_BY_HOP && index != 0 {
            return Err(Reason::ExtensionHeaders);
        }
        step(packet, header)?;
    }
    if at_end(header) { Ok(()) } else { Err(Reason::ExtensionHeaders) }
}

/// Behind the fragment header of a later fragment stands the middle of something.
#[inline(always)]
const fn at_end(header: &IpHeader<V6>) -> bool {
    header.fragment_offset != 0 || !is_extension(header.protocol)
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Passes one extension header.
#[inline(always)]
fn step<P: Packet + ?Sized>(packet: &P, header: &mut IpHeader<V6>) -> Result<(), Reason> {
    let b = packet.load::<8>(header.payload).ok_or(Reason::ExtensionHeaders)?;
    let length = match header.protocol {
        FRAGMENT => {
            if header.has_fragment_header {
                return Err(Reason::ExtensionHeaders);
            }
            let fragment = be16([b[2], b[3]]);
            header.has_fragment_header = true;
            header.fragment_offset = fragment & FRAGMENT_OFFSET;
            header.more_fragments = fragment & MORE_FRAGMENTS != 0;
            header.fragment_id = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
            FRAGMENT_HEADER
        }
        // RFC 4302: in words of four bytes, less two.
        AUTHENTICATION => (usize::from(b[1]) + 2) * 4,
        ROUTING if b[2] == 0 => return Err(Reason::SourceRoute),
        _ => (usize::from(b[1]) + 1) * 8,
    };
    let next = header.payload + length;
    if next > MAX_OFFSET {
        return Err(Reason::ExtensionHeaders);
    }
    let is_fragment_header = header.protocol == FRAGMENT;
    header.protocol = b[0];
    header.payload = P::confine(next);
    header.payload_length =
        header.payload_length.checked_sub(length).ok_or(Reason::ExtensionHeaders)?;
    if is_fragment_header {
        header.fragment_start = header.payload;
    }
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
        let mut h = IpHeader::default();
        V6::parse(bytes, 0, &mut h)
            .map(|()| (h.protocol, h.payload, h.payload_length, h.part() != Part::Whole))
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
        assert_eq!(parse(&packet(&[(FRAGMENT, first)], 6, 24)), Ok((6, 48, 24, true)));
        assert_eq!(parse(&packet(&[(FRAGMENT, later)], 6, 20)), Ok((6, 48, 20, true)));
        for (fragment, payload) in [(first, 20), (first, 0), (later, 0)] {
            let bytes = packet(&[(FRAGMENT, fragment)], 6, payload);
            assert_eq!(parse(&bytes), Err(Reason::Malformed), "{fragment:?} {payload}");
        }
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
