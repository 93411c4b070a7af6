//! TCP connections, and what happens to them.

use fastrand::Rng;
use sg_common::Direction;

use super::super::Line;
use super::{Ends, direction, one_of};

/// Allowed to some, to all, to nobody.
const SERVERS_IN: [u16; 5] = [80, 8040, 9000, 22, 81];
const SERVERS_OUT: [u16; 3] = [443, 5432, 80];

/// A connection in the making.
struct Connection<'e> {
    ends: &'e Ends,
    opener: Direction,
    server: u16,
    /// The next sequence number of each direction.
    next: [u32; 2],
    lines: Vec<Line>,
}

pub(super) fn connection(rng: &mut Rng, ends: &Ends) -> Vec<Line> {
    let opener = direction(rng);
    let servers: &[u16] = if opener == Direction::Ingress { &SERVERS_IN } else { &SERVERS_OUT };
    let server = one_of(rng, servers);
    let next = [rng.u32(..), rng.u32(..)];
    let mut connection = Connection { ends, opener, server, next, lines: Vec::new() };
    connection.open(rng);
    for _ in 0..rng.u8(0..6) {
        connection.event(rng);
    }
    connection.close(rng);
    connection.lines
}

impl Connection<'_> {
    fn segment(&self, direction: Direction, flags: &str, seq: u32, ack: u32, len: u16) -> String {
        let ends = self.ends.ports(direction, self.opener, self.server);
        format!("tcp {ends} {flags} seq={seq} ack={ack} len={len}")
    }

    fn send(&mut self, direction: Direction, flags: &str, seq: u32, ack: u32, len: u16) {
        let text = self.segment(direction, flags, seq, ack, len);
        self.lines.push((direction, text));
    }

    /// The next segment of a direction, as a stack would send it.
    fn proper(&mut self, direction: Direction, flags: &str, len: u16) {
        let (this, other) = (direction.index(), direction.reverse().index());
        let ack = if flags.contains('A') { self.next[other] } else { 0 };
        self.send(direction, flags, self.next[this], ack, len);
        let counted = u32::from(flags.contains('S')) + u32::from(flags.contains('F'));
        self.next[this] = self.next[this].wrapping_add(u32::from(len) + counted);
    }

    fn open(&mut self, rng: &mut Rng) {
        let (opener, responder) = (self.opener, self.opener.reverse());
        match rng.u8(0..20) {
            // In the middle.
            0..=1 => {}
            2 => {
                // Both at once.
                let before = self.next[responder.index()];
                self.proper(opener, "S", 0);
                self.send(responder, "S", before, 0, 0);
                self.next[responder.index()] = before.wrapping_add(1);
                for side in [opener, responder] {
                    let (this, other) = (side.index(), side.reverse().index());
                    self.send(side, "SA", self.next[this].wrapping_sub(1), self.next[other], 0);
                }
            }
            3 => {
                // The other end answers a SYN by one of its own.
                self.proper(opener, "S", 0);
                self.proper(responder, "S", 0);
                self.proper(opener, "SA", 0);
                self.proper(responder, "A", 0);
            }
            4 => {
                self.proper(opener, "S", 0);
                self.proper(responder, "RA", 0);
            }
            5 => {
                // Once more, with another number.
                self.proper(opener, "S", 0);
                self.next[opener.index()] = rng.u32(..);
                self.handshake("SEC");
            }
            6 => {
                // An answer that acknowledges something else.
                self.proper(opener, "S", 0);
                let (seq, ack) = (self.next[responder.index()], rng.u32(..));
                self.send(responder, "SA", seq, ack, 0);
            }
            7 => self.handshake("SEC"),
            _ => self.handshake("S"),
        }
    }

    fn handshake(&mut self, syn: &str) {
        self.proper(self.opener, syn, 0);
        self.proper(self.opener.reverse(), "SA", 0);
        self.proper(self.opener, "A", 0);
    }

    fn event(&mut self, rng: &mut Rng) {
        let side = direction(rng);
        let (this, other) = (side.index(), side.reverse().index());
        let (next, ack) = (self.next[this], self.next[other]);
        match rng.u8(0..16) {
            0..=5 => self.proper(side, one_of(rng, &["A", "PA", "PAU"]), rng.u16(0..1400)),
            // Again.
            6 => {
                let old = self.lines.get(rng.usize(..self.lines.len().max(1))).cloned();
                self.lines.extend(old);
            }
            // Behind a gap, far away, long acknowledged.
            7 => self.send(
                side,
                "A",
                next.wrapping_add(one_of(rng, &[1400, 1 << 20, 1 << 30])),
                ack,
                100,
            ),
            8 => self.send(side, "A", next.wrapping_sub(one_of(rng, &[1, 1400, 1 << 25])), ack, 1),
            9 => self.send(side, "A", next, ack.wrapping_add(1 << 20), 0),
            10 => {
                let seq = next.wrapping_add(one_of(rng, &[1, 1000, 70_000, 1 << 31, u32::MAX]));
                self.send(side, one_of(rng, &["R", "RA"]), seq, ack, 0);
            }
            11 => {
                let seq = next.wrapping_add(one_of(rng, &[1, 1000, 1 << 31]));
                self.send(side, "FA", seq, ack, 0);
            }
            12 => self.send(side, "S", one_of(rng, &[next, next.wrapping_add(1 << 20)]), 0, 0),
            13 => self.send(side, "SA", next, ack, 0),
            14 => {
                let flags = one_of(rng, &["null", "F", "FPU", "SF", "SR", "SRA", "FRA"]);
                self.send(side, flags, next, ack, 0);
            }
            _ => self.error(rng),
        }
    }

    /// An error about the last segment, or about one that was never sent.
    fn error(&mut self, rng: &mut Rng) {
        let side = direction(rng);
        let (this, other) = (side.index(), side.reverse().index());
        let seq = match rng.u8(0..3) {
            0 => self.next[this].wrapping_add(1 << 24),
            _ => self.next[this].wrapping_sub(1),
        };
        let mut quote = self.segment(side, "A", seq, self.next[other], 0);
        if rng.u8(0..6) == 0 {
            let port = format!(":{}", self.ends.client);
            quote = quote.replace(&port, ":1");
        }
        let line = self.ends.error(rng, side, &quote);
        self.lines.push(line);
    }

    fn close(&mut self, rng: &mut Rng) {
        let first = direction(rng);
        match rng.u8(0..6) {
            0..=1 => return,
            2..=3 => {
                self.proper(first, "FA", 0);
                self.proper(first.reverse(), one_of(rng, &["FA", "A"]), 0);
                self.proper(first, "A", 0);
            }
            _ => self.proper(first, one_of(rng, &["R", "RA"]), 0),
        }
        // A straggler, and the same ends once more.
        match rng.u8(0..4) {
            0 => self.proper(direction(rng), "A", 10),
            1 => {
                self.next[self.opener.index()] =
                    self.next[self.opener.index()].wrapping_add(90_000);
                self.handshake("S");
            }
            _ => {}
        }
    }
}
