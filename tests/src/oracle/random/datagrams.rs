//! Everything but TCP.

use fastrand::Rng;

use super::super::Line;
use super::{Ends, direction, one_of};

/// Allowed to all, to some, to nobody.
const PORTS: [u16; 4] = [53, 5000, 5010, 5011];

pub(super) fn udp(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let (opener, server) = (direction(rng), one_of(rng, &PORTS));
    let mut lines = Vec::new();
    for _ in 0..rng.u8(1..6) {
        let side = if lines.is_empty() && rng.u8(0..4) > 0 { opener } else { direction(rng) };
        let text = format!("udp {} len={}", ends.ports(side, opener, server), rng.u16(0..200));
        lines.push((side, text));
        match rng.u8(0..6) {
            0 => {
                let quote = format!("udp {}", ends.ports(side, opener, server));
                lines.push(ends.error(rng, side, &quote));
            }
            // Somebody else's answer.
            1 => {
                let back = side.reverse();
                lines.push((back, format!("udp {}", ends.ports(back, opener, server + 1))));
            }
            _ => {}
        }
    }
    lines
}

pub(super) fn echo(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let opener = direction(rng);
    let head = if ends.v6 { "icmpv6" } else { "icmp" };
    let mut lines = Vec::new();
    for seq in 0..rng.u8(1..4) {
        let id = ends.client;
        let ask = format!("{head} {} echo-request id={id} seq={seq}", ends.addresses(opener));
        let back = opener.reverse();
        let answer = format!("{head} {} echo-reply id={id} seq={seq}", ends.addresses(back));
        match rng.u8(0..8) {
            0 => lines.push((back, answer)),
            1 => lines.extend([(opener, ask.clone()), ends.error(rng, opener, &ask)]),
            2 => {
                let other = format!("{head} {} echo-reply id={}", ends.addresses(back), id + 1);
                lines.extend([(opener, ask), (back, other)]);
            }
            3 => {
                // What is neither asked nor answered.
                let kind = if ends.v6 { 140 } else { one_of(rng, &[9, 11, 41]) };
                let side = direction(rng);
                lines.push((side, format!("{head} {} type={kind}", ends.addresses(side))));
            }
            _ => lines.extend([(opener, ask), (back, answer)]),
        }
    }
    lines
}

/// INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, then DATA and SACK, then the three of SHUTDOWN, or ABORT
/// (RFC 9260, section 3.2).
pub(super) fn sctp(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let opener = direction(rng);
    let server = one_of(rng, &[36412, 3868, 5]);
    let back = opener.reverse();
    let mut chunks = vec![(opener, 1), (back, 2), (opener, 10), (back, 11)];
    for _ in 0..rng.u8(0..4) {
        let side = direction(rng);
        chunks.extend([(side, 0), (side.reverse(), 3)]);
    }
    match rng.u8(0..4) {
        0 => chunks.extend([(opener, 7), (back, 8), (opener, 14)]),
        1 => chunks.push((direction(rng), 6)),
        // Without the beginning.
        2 => drop(chunks.drain(..rng.usize(..chunks.len()))),
        _ => {}
    }
    let line =
        |(side, chunk)| (side, format!("sctp {} chunk={chunk}", ends.ports(side, opener, server)));
    chunks.into_iter().map(line).collect()
}

pub(super) fn other(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let protocol = one_of(rng, &[47, 50, 253]);
    let lines = (0..rng.u8(1..4)).map(|_| {
        let side = direction(rng);
        (side, format!("ip/{protocol} {} len=24", ends.addresses(side)))
    });
    lines.collect()
}

/// A datagram in pieces of 24 bytes: in order, backwards, with one missing or twice, with an overlap.
pub(super) fn fragments(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let (opener, server) = (direction(rng), one_of(rng, &PORTS));
    let mut lines = Vec::new();
    for id in 1..=rng.u16(1..3) {
        let pieces = rng.u16(2..5);
        let side = if id == 1 || rng.bool() { opener } else { opener.reverse() };
        let ports = ends.ports(side, opener, server);
        let piece = |index: u16| {
            let place = index * 24;
            let more = if index + 1 < pieces { "+" } else { "" };
            let head = format!("frag={place}{more}@{id}");
            if index == 0 {
                format!("udp {ports} len=16 udplength={} {head}", pieces * 24)
            } else {
                format!("udp {ports} len=24 {head}")
            }
        };
        let mut order: Vec<u16> = (0..pieces).collect();
        match rng.u8(0..8) {
            0..=1 => order.reverse(),
            2 => rng.shuffle(&mut order),
            3 => drop(order.remove(rng.usize(..order.len()))),
            _ => {}
        }
        lines.extend(order.into_iter().map(|index| (side, piece(index))));
        if rng.u8(0..8) == 0 {
            // Over the middle of the first.
            lines.push((side, format!("udp {ports} len=24 frag=8+@{id}")));
        }
    }
    lines
}
