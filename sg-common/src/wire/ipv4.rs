//! IPv4 (RFC 791).

use super::be16;
use super::ip::{IpHeader, IpVersion};
use crate::{Packet, Reason, V4};

/// Length of a header without options.
pub const HEADER: usize = 20;
/// Longest option area: fifteen words less the fixed five.
pub const MAX_OPTIONS: usize = 40;
/// Loose source and record route (RFC 791, section 3.1).
const LOOSE_SOURCE_ROUTE: u8 = 131;
/// Strict source and record route.
const STRICT_SOURCE_ROUTE: u8 = 137;
/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// Offset of a fragment in units of eight bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;

impl IpVersion for V4 {
    #[inline(always)]
    fn parse<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason> {
        let b = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
        let length = usize::from(b[0] & 0x0f) * 4;
        let available = packet.len().checked_sub(offset).ok_or(Reason::Malformed)?;
        let total = match be16([b[2], b[3]]) {
            // The stack writes zero where a batch of segments is longer than the field can say.
            0 if packet.is_gso() => available,
            total => usize::from(total),
        };
        if b[0] >> 4 != 4 || length < HEADER || total < length || total > available {
            return Err(Reason::Malformed);
        }
        if length > HEADER {
            let (options, rest) = (offset + HEADER, length - HEADER);
            refuse_source_route(packet, options, rest, &mut header.options)?;
        }
        fields(&b, header);
        header.payload = offset + length;
        header.fragment_start = header.payload;
        header.payload_length = total - length;
        if header.has_fragment_header { header.check_fragment(total - length) } else { Ok(()) }
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        end: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason> {
        let b = packet.load::<HEADER>(offset).ok_or(Reason::IcmpError)?;
        let length = usize::from(b[0] & 0x0f) * 4;
        if b[0] >> 4 != 4 || length < HEADER {
            return Err(Reason::IcmpError);
        }
        fields(&b, header);
        header.payload = P::confine(offset + length);
        header.fragment_start = header.payload;
        header.payload_length = end.checked_sub(header.payload).ok_or(Reason::IcmpError)?;
        Ok(())
    }
}

/// What stands in the header itself.
#[inline(always)]
fn fields(b: &[u8; HEADER], header: &mut IpHeader<V4>) {
    header.source = V4::new([b[12], b[13], b[14], b[15]]);
    header.destination = V4::new([b[16], b[17], b[18], b[19]]);
    header.protocol = b[9];
    header.hop_limit = b[8];
    let fragment = be16([b[6], b[7]]);
    header.fragment_id = be16([b[4], b[5]]).into();
    header.fragment_offset = (fragment & FRAGMENT_OFFSET) * 8;
    header.more_fragments = fragment & MORE_FRAGMENTS != 0;
    header.has_fragment_header = fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0;
}

/// Reads the options, off the fast path. Both source route options end in a drop, and so does an option
/// whose length is impossible, as hosts drop it too (RFC 1122, section 3.2.1.8).
///
/// The walk looks at every byte in turn and asks whether an option begins there: no index depends on the
/// packet, so the verifier takes it as it stands.
#[inline(never)]
fn refuse_source_route<P: Packet + ?Sized>(
    packet: &P,
    options: usize,
    length: usize,
    copy: &mut [u8; MAX_OPTIONS],
) -> Result<(), Reason> {
    let mut at = 0;
    while at < MAX_OPTIONS && at < length {
        let word = packet.load::<4>(options + at).ok_or(Reason::Malformed)?;
        copy[at] = word[0];
        copy[at + 1] = word[1];
        copy[at + 2] = word[2];
        copy[at + 3] = word[3];
        at += 4;
    }
    let length = P::confine(length);
    // Bit n: an option begins at byte n.
    let mut begins = 1_u64;
    for at in 0..MAX_OPTIONS {
        if at >= length {
            break;
        }
        if begins >> at & 1 == 0 {
            continue;
        }
        let step = match copy[at] {
            0 => break,
            1 => 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Reason::SourceRoute),
            _ => match copy.get(at + 1) {
                None | Some(0 | 1) => return Err(Reason::Malformed),
                Some(&step) => usize::from(step),
            },
        };
        if step > length - at {
            return Err(Reason::Malformed);
        }
        begins = P::forget(begins | 1 << (at + step));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::wire::ip::Part;

    fn header(options: &[u8], payload: usize) -> Vec<u8> {
        let words = 5 + options.len() / 4;
        let total = words * 4 + payload;
        let mut bytes = std::vec![0x40 | u8::try_from(words).unwrap(), 0];
        bytes.extend(u16::try_from(total).unwrap().to_be_bytes());
        bytes.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(options);
        bytes.resize(total, 0);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<IpHeader<V4>, Reason> {
        let mut header = IpHeader::default();
        V4::parse(bytes, 0, &mut header).map(|()| header)
    }

    #[test]
    fn the_real_header_length_counts() {
        for words in 0..=10 {
            let parsed = parse(&header(&std::vec![1; words * 4], 8)).unwrap();
            assert_eq!((parsed.payload, parsed.payload_length), (20 + words * 4, 8));
        }
    }

    #[test]
    fn padding_of_the_link_is_not_payload() {
        let mut bytes = header(&[], 8);
        bytes.resize(60, 0xaa);
        assert_eq!(parse(&bytes).unwrap().payload_length, 8);
    }

    #[test]
    fn lengths_that_cannot_be() {
        for (index, value) in [(0, 0x44), (0, 0x65), (3, 19), (2, 1)] {
            let mut bytes = header(&[], 8);
            bytes[index] = value;
            assert_eq!(parse(&bytes), Err(Reason::Malformed), "byte {index} = {value:#x}");
        }
        for length in 0..28 {
            assert_eq!(parse(&header(&[], 8)[..length]), Err(Reason::Malformed), "{length}");
        }
    }

    #[test]
    fn source_routing_wherever_it_stands() {
        for kind in [LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE] {
            assert_eq!(parse(&header(&[kind, 3, 4, 0], 8)), Err(Reason::SourceRoute));
            assert_eq!(parse(&header(&[1, 1, 1, kind], 8)), Err(Reason::SourceRoute));
            assert_eq!(
                parse(&header(&[7, 7, 4, 0, 0, 0, 0, kind], 8)),
                Err(Reason::SourceRoute),
                "behind record route"
            );
            assert!(parse(&header(&[0, kind, 3, 4], 8)).is_ok(), "behind the end of options");
        }
    }

    #[test]
    fn broken_options() {
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(parse(&header(&options, 8)), Err(Reason::Malformed), "{options:?}");
        }
    }

    #[test]
    fn fragments_but_not_the_flag_that_forbids_them() {
        for (field, fragment) in [(0x0000, false), (0x4000, false), (0x2000, true), (0x0001, true)]
        {
            let mut bytes = header(&[], 8);
            bytes[6..8].copy_from_slice(&u16::to_be_bytes(field));
            assert_eq!(parse(&bytes).unwrap().part() != Part::Whole, fragment, "{field:#x}");
        }
    }
}
