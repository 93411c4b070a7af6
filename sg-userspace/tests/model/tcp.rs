//! One TCP conversation as the contract tells it. The local end is believed, since nobody else can send its
//! segments; of the remote end only what follows exactly on what came before.

use sg_common::Direction;

use crate::packet::Segment;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Larger than windows are, small against the sequence space.
const FAR: i32 = 1 << 24;

/// What the local end may have had in flight before the segment that told where it stands.
const IN_FLIGHT: u32 = 1 << 19;

/// A distance in the numbers of the wire, which wrap.
pub(crate) fn modulo(number: i64) -> u32 {
    u32::try_from(number.rem_euclid(1 << 32)).expect("a remainder")
}

/// What the table of DESIGN section 2 distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Syn,
    SynAck,
    Reset,
    /// ACK or data; FIN may end it.
    Plain,
    /// NULL, Xmas, FIN alone, SYN with FIN or RST.
    Nonsense,
}

/// What a segment's flags make of it.
pub(crate) const fn kind(flags: u8) -> Kind {
    let [fin, syn, rst, ack] =
        [flags & FIN != 0, flags & SYN != 0, flags & RST != 0, flags & ACK != 0];
    match (syn, ack) {
        (true, _) if fin || rst => Kind::Nonsense,
        (true, false) => Kind::Syn,
        (true, true) => Kind::SynAck,
        (false, _) if rst && fin => Kind::Nonsense,
        (false, _) if rst => Kind::Reset,
        (false, true) => Kind::Plain,
        (false, false) => Kind::Nonsense,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The opener has sent its SYN.
    Asked,
    /// The remote end was heard in the middle of a connection.
    Middle,
    /// The other end has answered.
    Answered,
    Established,
    Closed,
}

/// What a segment does to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// The idle timeout of its phase begins anew.
    Refresh,
    /// It is over, and nothing remains.
    Gone,
}

/// What one end has sent, in numbers of the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    /// Behind what counts as sent.
    next: u32,
    /// Behind what the other end has acknowledged; in a handshake the least that it must.
    acked: u32,
    /// It has closed its half.
    fin: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) phase: Phase,
    opener: Direction,
    /// What it began with.
    syn: Option<u32>,
    remote: End,
    local: End,
    /// A FIN of the remote end has come before what it follows on; `remote.next` stands behind it.
    fin_waits: bool,
}

/// How sure the contract is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    Open,
}

/// How far the second number lies behind the first.
const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// Whether the number lies between these, both included.
const fn between(first: u32, number: u32, last: u32) -> bool {
    distance(first, number) >= 0 && distance(number, last) >= 0
}

const fn is_near(number: u32, next: u32) -> bool {
    let distance = distance(next, number);
    -FAR <= distance && distance < FAR
}

/// The number behind a segment.
const fn behind(segment: &Segment) -> u32 {
    let marks = (segment.flags & SYN != 0) as u32 + (segment.flags & FIN != 0) as u32;
    segment.sequence.wrapping_add(segment.length).wrapping_add(marks)
}

impl Conversation {
    /// The first segment: a SYN, or the middle of a connection.
    pub(crate) fn open(opener: Direction, segment: &Segment) -> Self {
        let is_syn = kind(segment.flags) == Kind::Syn;
        let mut new = Self {
            phase: if is_syn { Phase::Asked } else { Phase::Middle },
            opener,
            syn: is_syn.then_some(segment.sequence),
            remote: End::default(),
            local: End::default(),
            fin_waits: false,
        };
        *new.end(opener) =
            End { next: behind(segment), acked: segment.sequence.wrapping_add(1), fin: false };
        new
    }

    const fn end(&mut self, side: Direction) -> &mut End {
        match side {
            Direction::Ingress => &mut self.remote,
            Direction::Egress => &mut self.local,
        }
    }

    /// Whether a SYN of the opener is the one it began with, sent again.
    pub(crate) fn began_with(&self, segment: &Segment) -> bool {
        self.syn == Some(segment.sequence)
    }

    /// A further segment; a bare SYN is only the first one sent again.
    pub(crate) fn take(&mut self, sender: Direction, segment: &Segment) -> Effect {
        match self.phase {
            Phase::Closed => Effect::Nothing,
            Phase::Established => self.established(sender, segment),
            Phase::Asked | Phase::Middle | Phase::Answered if sender == self.opener => {
                self.opener_sends(segment)
            }
            Phase::Asked | Phase::Middle | Phase::Answered => self.responder_sends(sender, segment),
        }
    }

    fn opener_sends(&mut self, segment: &Segment) -> Effect {
        let me = *self.end(self.opener);
        let it = *self.end(self.opener.reverse());
        match kind(segment.flags) {
            Kind::Syn => Effect::Refresh,
            Kind::Reset if segment.sequence == me.next => Effect::Gone,
            Kind::Plain
                if self.phase == Phase::Answered
                    && between(it.acked, segment.acknowledgement, it.next) =>
            {
                self.phase = Phase::Established;
                self.end(self.opener.reverse()).acked = segment.acknowledgement;
                // Complete, even if nothing else of the segment counts.
                self.established(self.opener, segment);
                Effect::Refresh
            }
            Kind::Plain | Kind::Reset | Kind::SynAck | Kind::Nonsense => Effect::Nothing,
        }
    }

    fn responder_sends(&mut self, sender: Direction, segment: &Segment) -> Effect {
        let (me, it) = (*self.end(sender), *self.end(self.opener));
        let acknowledges = between(it.acked, segment.acknowledgement, it.next);
        let fin = segment.flags & FIN != 0;
        match (kind(segment.flags), self.phase) {
            (Kind::SynAck, Phase::Asked | Phase::Answered) if acknowledges => {
                let acked = segment.sequence.wrapping_add(1);
                *self.end(sender) = End { next: behind(segment), acked, fin: false };
            }
            // RFC 9293, section 3.10.7.3.
            (Kind::Reset, Phase::Asked) if acknowledges && segment.flags & ACK != 0 => {
                return Effect::Gone;
            }
            (Kind::Reset, Phase::Answered) if segment.sequence == me.next => return Effect::Gone,
            // The local end knows nothing of it.
            (Kind::Reset, Phase::Middle) => return Effect::Gone,
            (Kind::Plain, Phase::Middle) => {
                // The first segment may have been forged: the local end says where it stands.
                let stands = segment.acknowledgement;
                self.syn = Some(stands.wrapping_sub(1));
                self.remote = End { next: stands, acked: stands, fin: false };
                self.local = End { next: behind(segment), acked: segment.sequence, fin };
            }
            (Kind::Plain, Phase::Answered) if segment.sequence == me.next => {
                self.end(sender).next = behind(segment);
                self.end(sender).fin |= fin;
            }
            _ => return Effect::Nothing,
        }
        self.phase = Phase::Answered;
        Effect::Refresh
    }

    fn established(&mut self, sender: Direction, segment: &Segment) -> Effect {
        let effect = match (sender, kind(segment.flags)) {
            (Direction::Egress, Kind::SynAck) => self.believe(segment),
            (Direction::Egress, Kind::Plain) if !is_near(segment.sequence, self.local.next) => {
                self.believe(segment)
            }
            (Direction::Egress, Kind::Plain) => self.local_sends(segment),
            (Direction::Ingress, Kind::Plain) => self.remote_sends(segment),
            (_, Kind::Reset) if self.is_exact(sender, segment.sequence) => {
                self.phase = Phase::Closed;
                Effect::Refresh
            }
            (_, Kind::Syn | Kind::SynAck | Kind::Reset | Kind::Nonsense) => Effect::Nothing,
        };
        if self.remote.fin && self.local.fin {
            self.phase = Phase::Closed;
        }
        effect
    }

    /// Whether the number is the next one of its sender, who may be where it was or where it was acknowledged.
    const fn is_exact(&self, sender: Direction, number: u32) -> bool {
        let end = match sender {
            Direction::Ingress => self.remote,
            Direction::Egress => self.local,
        };
        let waits = matches!(sender, Direction::Ingress) && self.fin_waits;
        number == end.acked || !waits && number == end.next
    }

    /// The local end is elsewhere: another connection between the same ports.
    const fn believe(&mut self, segment: &Segment) -> Effect {
        let acked = segment.sequence.wrapping_sub(IN_FLIGHT);
        self.local = End { next: behind(segment), acked, fin: segment.flags & FIN != 0 };
        let stands = segment.acknowledgement;
        self.remote = End { next: stands, acked: stands, fin: false };
        self.fin_waits = false;
        Effect::Refresh
    }

    const fn local_sends(&mut self, segment: &Segment) -> Effect {
        let (behind, acknowledged) = (behind(segment), segment.acknowledgement);
        if distance(self.local.next, behind) > 0 {
            self.local.next = behind;
        }
        self.local.fin |= segment.flags & FIN != 0 && behind == self.local.next;
        if distance(self.remote.acked, acknowledged) > 0 {
            self.remote.acked = acknowledged;
            let to_next = distance(self.remote.next, acknowledged);
            self.remote.fin |= self.fin_waits && to_next == 0;
            self.fin_waits &= to_next < 0;
            if to_next > 0 {
                self.remote.next = acknowledged;
            }
        }
        Effect::Refresh
    }

    const fn remote_sends(&mut self, segment: &Segment) -> Effect {
        let next = if self.fin_waits { self.remote.acked } else { self.remote.next };
        if !is_near(segment.sequence, next) {
            return Effect::Nothing;
        }
        let (exact, fin) =
            (self.is_exact(Direction::Ingress, segment.sequence), segment.flags & FIN != 0);
        let goes_on = distance(next, behind(segment)) > 0;
        if fin && (exact || goes_on) {
            self.remote.next = behind(segment);
            self.remote.fin |= exact;
            self.fin_waits = !exact;
        } else if exact && goes_on && !self.fin_waits {
            self.remote.next = behind(segment);
        }
        // Forged perhaps, so it counts up to what the local end has sent.
        let acknowledged = segment.acknowledgement;
        if distance(self.local.acked, acknowledged) > 0
            && distance(acknowledged, self.local.next) >= 0
        {
            self.local.acked = acknowledged;
        }
        Effect::Refresh
    }

    /// Whether a segment of the sender with this number may be quoted by an ICMP error: it was sent, and is not
    /// yet acknowledged.
    pub(crate) fn quotes(&self, sender: Direction, number: u32) -> Answer {
        let end = match sender {
            Direction::Ingress => self.remote,
            Direction::Egress => self.local,
        };
        let in_flight = between(end.acked, number, end.next);
        let syn = number == end.acked.wrapping_sub(1);
        match self.phase {
            Phase::Middle => Answer::No,
            Phase::Asked if sender != self.opener => Answer::No,
            Phase::Asked if syn => Answer::Yes,
            // Answered, but not yet known to be.
            Phase::Answered if syn => Answer::Open,
            // Neither live nor half-open, and not yet gone.
            Phase::Closed if in_flight => Answer::Open,
            Phase::Asked | Phase::Answered | Phase::Established if in_flight => Answer::Yes,
            Phase::Asked | Phase::Answered | Phase::Established | Phase::Closed => Answer::No,
        }
    }
}
