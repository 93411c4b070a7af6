//! Fragments as RFC 1858, RFC 3128 and RFC 5722 warn of them.

use sg_common::wire::{
    ip::{TCP, UDP},
    tcp::SYN,
};

use super::{
    fragments::{ALLOWED, DENIED, DENIED_TCP},
    frames::{Ends, Place, Segment, udp},
    range::Target,
};

pub(super) fn filled(letter: u8) -> Vec<u8> {
    vec![letter; 64]
}

/// Each trick once, with ports and identifications of its own.
pub(super) fn tricks(target: &Target<'_>, ends: Ends, number: u32) -> Vec<Vec<u8>> {
    let link = target.link();
    let port = 20_000 + u16::try_from(number).unwrap_or(0);
    let id = |trick: u32| number * 100 + trick + 1;
    let datagram = |to, letter| ends.checksummed(UDP, &udp((port, to), &filled(letter)));
    let (allowed, denied) = (datagram(ALLOWED, b'a'), datagram(DENIED, b'!'));
    let part = |bytes: &[u8], id, range: std::ops::Range<usize>, more| {
        let place = Place { id, offset: range.start, more };
        link.fragment(ends, UDP, place, &bytes[range])
    };
    let end = denied.len();
    let mut frames = vec![
        // Tiny: the header alone, and then the rest.
        part(&denied, id(1), 0..8, true),
        part(&denied, id(1), 8..end, false),
        // Reversed.
        part(&denied, id(2), 40..end, false),
        part(&denied, id(2), 0..40, true),
        // Every fragment twice, in both orders.
        part(&denied, id(3), 0..40, true),
        part(&denied, id(3), 40..end, false),
        part(&denied, id(3), 40..end, false),
        part(&denied, id(3), 0..40, true),
        // A first that is allowed, then another first that is not.
        part(&allowed, id(4), 0..40, true),
        part(&denied, id(4), 0..40, true),
        part(&denied, id(4), 40..end, false),
        // The other way round.
        part(&denied, id(5), 0..40, true),
        part(&allowed, id(5), 0..40, true),
        part(&denied, id(5), 40..end, false),
        // The rest waits for an allowed first, and gets one that is not.
        part(&allowed, id(6), 40..end, false),
        part(&denied, id(6), 0..40, true),
        part(&allowed, id(6), 0..40, true),
        // Overlapping.
        part(&denied, id(7), 8..end, false),
        part(&denied, id(7), 0..24, true),
        part(&allowed, id(8), 0..40, true),
        part(&denied, id(8), 8..end, false),
        // The first missing, in both forms.
        part(&denied, id(9), 40..end, false),
        part(&denied, id(10), 8..40, true),
        part(&denied, id(10), 40..end, false),
        // The same identification again, behind a whole datagram that was allowed.
        part(&allowed, id(11), 0..40, true),
        part(&allowed, id(11), 40..end, false),
        part(&denied, id(11), 0..40, true),
        part(&denied, id(11), 40..end, false),
        part(&allowed, id(12), 40..end, false),
        part(&allowed, id(12), 0..40, true),
        part(&denied, id(12), 40..end, false),
        part(&denied, id(12), 0..40, true),
        // A fragment that is the whole (RFC 6946).
        part(&denied, id(13), 0..end, false),
        // Behind one of another protocol with the same identification.
        link.fragment(ends, TCP, Place { id: id(14), offset: 40, more: false }, &denied[40..]),
        part(&denied, id(14), 0..40, true),
        part(&denied, id(14), 40..end, false),
    ];
    frames.extend(tcp_tricks(target, ends, port, id(20)));
    // The control: the same sizes, to the port that may be asked.
    let control = datagram(ALLOWED, b'd');
    frames.push(part(&control, id(30), 0..40, true));
    frames.push(part(&control, id(30), 40..end, false));
    frames
}

/// SYNs whose flags or ports come with a later fragment.
fn tcp_tricks(target: &Target<'_>, ends: Ends, port: u16, id: u32) -> Vec<Vec<u8>> {
    let link = target.link();
    let segment = |to, flags| {
        let segment = Segment { ports: (port, to), flags, sequence: 7, acknowledgement: 0 };
        ends.checksummed(TCP, &segment.bytes(&[0; 28]))
    };
    let (denied, allowed) = (segment(DENIED_TCP, SYN), segment(80, SYN));
    let part = |bytes: &[u8], id, range: std::ops::Range<usize>, more| {
        let place = Place { id, offset: range.start, more };
        link.fragment(ends, TCP, place, &bytes[range])
    };
    vec![
        part(&denied, id, 0..8, true),
        part(&denied, id, 8..48, false),
        part(&denied, id + 1, 8..48, false),
        part(&denied, id + 1, 0..8, true),
        part(&denied, id + 2, 0..16, true),
        part(&denied, id + 2, 16..48, false),
        // An allowed first, and the denied one over it.
        part(&allowed, id + 3, 0..24, true),
        part(&denied, id + 3, 0..24, true),
        part(&denied, id + 3, 24..48, false),
        part(&allowed, id + 4, 0..24, true),
        part(&denied, id + 4, 8..48, false),
        part(&denied, id + 5, 24..48, false),
        part(&denied, id + 5, 0..24, true),
    ]
}
