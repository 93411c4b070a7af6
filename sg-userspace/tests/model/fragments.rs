//! Fragments and ICMP errors by the contract: one remembers datagrams, the other looks into a quote.

use std::net::IpAddr;

use sg_common::Direction;
use sg_userspace::policy::model::Side;

use crate::naive::{Expected, Naive};
use crate::packet::{Packet, Part, Quote};
use crate::tcp::Answer;

/// Identifications of one peer whose first fragment is still to come.
pub(crate) const PENDING: usize = 64;

/// ICMP types of errors that no host should heed.
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
/// How long answers of fragments may come in any order: as long as a UDP stream lives at most.
const PAIR: u64 = 180_000_000_000;

/// A datagram of which a fragment was seen.
#[derive(Debug)]
pub(crate) struct Datagram {
    direction: Direction,
    source: IpAddr,
    destination: IpAddr,
    /// Part of the identification in IPv4 alone (RFC 791; RFC 8200, section 4.5).
    protocol: Option<u8>,
    id: u16,
    fate: Fate,
    /// What has passed: first byte, and the one behind the last.
    passed: Vec<(usize, usize)>,
    /// Where the first of those behind the beginning begins.
    lowest: Option<usize>,
    /// How long it is, once its last fragment has passed.
    length: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Later fragments have passed, the first is still to come.
    Pending,
    /// What its first fragment carries, and whether that was allowed.
    Judged {
        first: Vec<u8>,
        protocol: u8,
        header: usize,
        allowed: bool,
    },
    Poisoned,
}

impl Datagram {
    fn new(packet: &Packet, part: Part, fate: Fate) -> Self {
        Self {
            direction: packet.direction,
            source: packet.source,
            destination: packet.destination,
            protocol: packet.source.is_ipv4().then(|| packet.protocol()),
            id: part.id,
            fate,
            passed: Vec::new(),
            lowest: None,
            length: None,
        }
    }

    fn is_of(&self, packet: &Packet, part: Part) -> bool {
        let protocol = packet.source.is_ipv4().then(|| packet.protocol());
        (self.direction, self.source, self.destination, self.protocol, self.id)
            == (packet.direction, packet.source, packet.destination, protocol, part.id)
    }

    fn remote(&self) -> IpAddr {
        match self.direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        }
    }

    /// Whether all of it has passed, so that its identification may be another's: a fragment that came twice
    /// may be taken for one that is missing.
    fn is_complete(&self) -> Answer {
        let Some(length) = self.length else { return Answer::No };
        if !matches!(self.fate, Fate::Judged { allowed: true, .. }) {
            return Answer::No;
        }
        let covers = |byte| self.passed.iter().any(|(first, end)| (*first..*end).contains(&byte));
        let seen = self.passed.iter().map(|(first, end)| end - first).sum::<usize>();
        if (0..length).all(covers) {
            Answer::Yes
        } else if seen >= length {
            Answer::Open
        } else {
            Answer::No
        }
    }

    /// A first that was dropped has reached nobody: another is judged as if nothing had come.
    const fn is_denied(&self) -> bool {
        matches!(self.fate, Fate::Judged { allowed: false, .. })
    }
}

impl Naive<'_> {
    fn find(&self, packet: &Packet, part: Part) -> Option<&Datagram> {
        self.datagrams.iter().find(|datagram| datagram.is_of(packet, part))
    }

    /// Whether a first fragment poisons its datagram, or finds it poisoned.
    fn poisons(&self, packet: &Packet, part: Part) -> Answer {
        let Some(known) = self.find(packet, part) else { return Answer::No };
        // What has passed is remembered, whatever became of a first.
        if known.lowest.is_some_and(|lowest| lowest < packet.body.header()) {
            return Answer::Yes;
        }
        let poisons = match &known.fate {
            _ if known.is_denied() => Answer::No,
            Fate::Pending => Answer::No,
            Fate::Poisoned => Answer::Yes,
            Fate::Judged { first, protocol, .. } => {
                let now = packet.payload();
                // Of equal length and with equal ports they may count as the same.
                if *protocol != packet.protocol() {
                    Answer::Yes
                } else if *first == now {
                    Answer::No
                } else if first.len() != now.len() || first[..8] != now[..8] {
                    Answer::Yes
                } else {
                    Answer::Open
                }
            }
        };
        match (poisons, known.is_complete()) {
            (Answer::No, _) | (_, Answer::Yes) => Answer::No,
            (poisons, Answer::No) => poisons,
            (_, Answer::Open) => Answer::Open,
        }
    }

    pub(crate) fn expect_first_fragment(
        &self,
        packet: &Packet,
        part: Part,
        mut as_whole: Expected,
    ) -> Expected {
        let poisons = self.poisons(packet, part);
        if poisons != Answer::No {
            as_whole.drop.push("fragment_poisoned");
        }
        if poisons == Answer::Yes {
            as_whole.allow.clear();
        }
        as_whole
    }

    pub(crate) fn expect_later_fragment(
        &self,
        packet: &Packet,
        part: Part,
        mut wrong: Vec<&'static str>,
    ) -> Expected {
        let fate = self.find(packet, part).map(|known| &known.fate);
        // Begins inside the header that the verdict was read from, of the first or of its own protocol.
        let header = match fate {
            Some(Fate::Judged { header, .. }) => packet.body.header().max(*header),
            _ => packet.body.header(),
        };
        if usize::from(part.offset) < header || matches!(fate, Some(Fate::Poisoned)) {
            wrong.push("fragment_poisoned");
        }
        match fate {
            Some(Fate::Judged { allowed: false, .. }) => wrong.push("fragment_denied"),
            Some(Fate::Judged { .. } | Fate::Poisoned | Fate::Pending) => {}
            None => {
                // Answers need no rule, and come in any order as well.
                if !self.is_pair(packet) && !self.some_permit(packet) {
                    wrong.push("fragment_denied");
                }
                let of_peer =
                    |it: &&Datagram| it.remote() == packet.remote() && it.fate == Fate::Pending;
                if self.datagrams.iter().filter(of_peer).count() >= PENDING {
                    wrong.push("fragment_limit");
                }
            }
        }
        Expected::allowed("fragment", wrong)
    }

    fn is_pair(&self, packet: &Packet) -> bool {
        let pair = (packet.local(), packet.remote(), packet.protocol());
        self.pairs.iter().any(|(local, remote, protocol, _)| (*local, *remote, *protocol) == pair)
    }

    /// What its datagram's other fragments must know.
    pub(crate) fn note_fragment(
        &mut self,
        packet: &Packet,
        part: Part,
        allowed: bool,
        told: &str,
        now: u64,
    ) {
        let known = self.datagrams.iter().position(|datagram| datagram.is_of(packet, part));
        // A first that nothing could allow leaves no trace.
        let could_pass =
            told != "source_check" && (self.some_permit(packet) || self.is_pair(packet));
        if known.is_none() && part.offset == 0 && !allowed && !could_pass {
            return;
        }
        let mut datagram = known.map(|index| self.datagrams.remove(index));
        if part.offset != 0 {
            let unknown = || allowed.then(|| Datagram::new(packet, part, Fate::Pending));
            datagram = datagram.or_else(unknown);
        } else if told == "malformed" {
            // Nothing can be read of it, but that what follows it follows a dropped one.
            let fate = Fate::Judged {
                first: Vec::new(),
                protocol: packet.protocol(),
                header: 0,
                allowed: false,
            };
            let is_fragment = part.length != 0 && part.length.is_multiple_of(8);
            if is_fragment {
                let mut new =
                    datagram.unwrap_or_else(|| Datagram::new(packet, part, Fate::Pending));
                if new.fate == Fate::Pending {
                    new.fate = fate;
                }
                datagram = Some(new);
            }
        } else if told != "fragment_poisoned" {
            let header = packet.body.header();
            let fate = Fate::Judged {
                first: packet.payload(),
                protocol: packet.protocol(),
                header,
                allowed,
            };
            let mut new = datagram.unwrap_or_else(|| Datagram::new(packet, part, Fate::Pending));
            if new.is_complete() != Answer::No {
                new.passed.clear();
                new.length = None;
            }
            new.fate = fate;
            datagram = Some(new);
        }
        if told == "fragment_poisoned" {
            let mut new = datagram.unwrap_or_else(|| Datagram::new(packet, part, Fate::Poisoned));
            new.fate = Fate::Poisoned;
            datagram = Some(new);
        }
        if let Some(datagram) = &mut datagram {
            let (begin, end) = (part.offset.into(), usize::from(part.offset) + part.length);
            if allowed {
                datagram.passed.push((begin, end));
                let lowest = datagram.lowest.unwrap_or(begin).min(begin);
                datagram.lowest = Some(lowest).filter(|lowest| *lowest != 0).or(datagram.lowest);
            }
            if !part.more {
                datagram.length = Some(end);
            }
        }
        self.datagrams.extend(datagram);
        if allowed && part.offset == 0 {
            let pair = (packet.local(), packet.remote(), packet.protocol());
            self.pairs.retain(|(local, remote, protocol, _)| (*local, *remote, *protocol) != pair);
            self.pairs.push((pair.0, pair.1, pair.2, now + PAIR));
        }
    }

    /// Rule 6.
    pub(crate) fn expect_error(
        &self,
        packet: &Packet,
        kind: u8,
        quote: &Quote,
        mut wrong: Vec<&'static str>,
    ) -> Expected {
        let redirects = packet.source.is_ipv4() && kind == REDIRECT;
        let leaves_workload =
            self.interface.side == Side::Workload && packet.direction == Direction::Egress;
        if redirects && leaves_workload {
            wrong.push("forged_infrastructure");
        }
        let by_rule = self.rule_allows(packet);
        let related = self.is_related(packet, kind, quote);
        if !wrong.is_empty() || related == Answer::No && !by_rule {
            wrong.push("icmp_error");
            return Expected { allow: Vec::new(), drop: wrong };
        }
        let mut allow = Vec::new();
        if related != Answer::No {
            allow.push("related");
        }
        if by_rule {
            allow.push("rule");
        } else if related == Answer::Open {
            wrong.push("icmp_error");
        }
        Expected { allow, drop: wrong }
    }

    fn is_related(&self, packet: &Packet, kind: u8, quote: &Quote) -> Answer {
        let never = packet.source.is_ipv4() && [SOURCE_QUENCH, REDIRECT].contains(&kind);
        let has_ports =
            quote.length >= 8.min(quote.body.header()) && quote.fragment.unwrap_or_default() == 0;
        if never || !has_ports || quote.source != packet.destination {
            return Answer::No;
        }
        self.quotes_a_flow(&Packet {
            direction: packet.direction.reverse(),
            source: quote.source,
            destination: quote.destination,
            body: quote.body.as_ref().clone(),
            part: None,
        })
    }
}
