//! One TCP conversation as the contract tells it, in positions that never wrap: 0 is the SYN, or the byte
//! before the first that was seen.
//!
//! Where the contract leaves open which number "the expected one" is (the end of what was sent, of what was
//! sent without a gap, of what the other end has acknowledged), the model asks what became of the flow
//! instead of guessing; a number that is none of them must change nothing.

use sg_common::Direction;

use crate::known;
use crate::packet::Segment;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Larger than windows are, small against the sequence space.
const FAR: i64 = 1 << 24;

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
    /// See the head of this file; it refreshes or not.
    Ask {
        refresh: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) phase: Phase,
    opener: Direction,
    /// Picked up without a SYN.
    middle: bool,
    /// By sender: the sequence number of position 0; unknown until it speaks.
    start: [Option<u32>; 2],
    /// By sender: behind what it has sent without a gap.
    next: [i64; 2],
    /// By sender: behind everything it has sent.
    sent: [i64; 2],
    /// By sender: how much of it the other end has acknowledged.
    acked: [i64; 2],
    /// By sender: whether it has closed its half.
    fin: [bool; 2],
}

/// How sure the contract is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    Open,
}

impl Conversation {
    /// The first segment: a SYN, or the middle of a connection.
    pub(crate) fn open(opener: Direction, segment: &Segment) -> Self {
        let is_syn = kind(segment.flags) == Kind::Syn;
        let mut new = Self {
            phase: if is_syn { Phase::Asked } else { Phase::Middle },
            opener,
            middle: !is_syn,
            start: [None; 2],
            next: [0; 2],
            sent: [0; 2],
            acked: [0; 2],
            fin: [false; 2],
        };
        new.hear_first(opener, segment);
        new
    }

    /// Sender's numbers begin here.
    fn hear_first(&mut self, sender: Direction, segment: &Segment) {
        let is_syn = segment.flags & SYN != 0;
        let first = if is_syn { segment.sequence } else { segment.sequence.wrapping_sub(1) };
        let me = sender.index();
        self.start[me] = Some(first);
        let fin = i64::from(segment.flags & FIN);
        self.next[me] = 1 + i64::from(segment.length) + fin;
        self.sent[me] = self.next[me];
        self.acked[me] = self.next[me];
    }

    /// The position nearest to where the sender is.
    fn position(&self, sender: usize, number: u32) -> Option<i64> {
        let near = self.next[sender];
        let at_near = self.start[sender]?.wrapping_add(modulo(near));
        Some(near + i64::from(number.wrapping_sub(at_near).cast_signed()))
    }

    /// A further segment.
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
        let (me, it) = (self.opener.index(), 1 - self.opener.index());
        match kind(segment.flags) {
            Kind::Syn
                if !known::SYN_AGAIN_TAKES_ANSWER_BACK
                    && self.phase == Phase::Answered
                    && self.start[me] == Some(segment.sequence) =>
            {
                // Sent again, or doubled by the network: the answer stands.
                Effect::Refresh
            }
            Kind::Syn => {
                *self = Self::open(self.opener, segment);
                Effect::Refresh
            }
            Kind::Reset => self.reset(me, segment, Effect::Gone),
            Kind::Plain if self.phase == Phase::Answered => {
                match self.position(it, segment.acknowledgement) {
                    Some(acked) if (1..=self.sent[it]).contains(&acked) => {
                        self.phase = Phase::Established;
                        self.acked[it] = acked;
                        let fin = self.fin;
                        let effect = self.established(self.opener, segment);
                        if known::FIN_OF_HANDSHAKE_IS_LOST {
                            (self.fin, self.phase) = (fin, Phase::Established);
                        }
                        match effect {
                            Effect::Nothing => Effect::Refresh,
                            Effect::Refresh | Effect::Gone | Effect::Ask { .. } => effect,
                        }
                    }
                    _ => Effect::Nothing,
                }
            }
            Kind::Plain | Kind::SynAck | Kind::Nonsense => Effect::Nothing,
        }
    }

    fn responder_sends(&mut self, sender: Direction, segment: &Segment) -> Effect {
        let (me, it) = (sender.index(), 1 - sender.index());
        let acked = self.position(it, segment.acknowledgement).expect("the opener has spoken");
        let acknowledges = (1..=self.next[it]).contains(&acked);
        match (kind(segment.flags), self.phase) {
            (Kind::SynAck, Phase::Asked | Phase::Answered) if acknowledges => {
                self.hear_first(sender, segment);
                self.acked[it] = acked;
                self.phase = Phase::Answered;
                Effect::Refresh
            }
            // RFC 9293, section 3.10.7.3.
            (Kind::Reset, Phase::Asked)
                if acknowledges
                    && (segment.flags & ACK != 0 || known::RESET_WITHOUT_ACK_ENDS_ATTEMPT) =>
            {
                Effect::Gone
            }
            (Kind::Reset, Phase::Answered) => self.reset(me, segment, Effect::Gone),
            // The local end knows nothing of it.
            (Kind::Reset, Phase::Middle) => Effect::Gone,
            (Kind::Plain, Phase::Middle) => {
                self.hear_first(sender, segment);
                // Not known to be right before the remote end has confirmed it.
                self.acked[it] = acked;
                self.phase = Phase::Answered;
                if segment.flags & FIN != 0 {
                    Effect::Ask { refresh: true }
                } else {
                    Effect::Refresh
                }
            }
            (Kind::Plain, Phase::Answered)
                if self.position(me, segment.sequence) == Some(self.next[me]) =>
            {
                self.next[me] += i64::from(segment.length) + i64::from(segment.flags & FIN);
                self.sent[me] = self.sent[me].max(self.next[me]);
                if segment.flags & FIN != 0 {
                    Effect::Ask { refresh: true }
                } else {
                    Effect::Refresh
                }
            }
            _ => Effect::Nothing,
        }
    }

    /// Whether the number is the one expected of the sender.
    fn expected(&self, me: usize, number: u32) -> Answer {
        let Some(position) = self.position(me, number) else { return Answer::No };
        let could_be = [self.next[me], self.sent[me], self.acked[me]];
        if could_be.iter().all(|it| *it == position) {
            Answer::Yes
        } else if could_be.contains(&position) {
            Answer::Open
        } else {
            Answer::No
        }
    }

    fn reset(&mut self, me: usize, segment: &Segment, then: Effect) -> Effect {
        match self.expected(me, segment.sequence) {
            Answer::Yes => {
                self.phase = Phase::Closed;
                then
            }
            Answer::No => Effect::Nothing,
            Answer::Open => Effect::Ask { refresh: false },
        }
    }

    fn established(&mut self, sender: Direction, segment: &Segment) -> Effect {
        let me = sender.index();
        match kind(segment.flags) {
            Kind::Reset => return self.reset(me, segment, Effect::Refresh),
            Kind::Plain => {}
            Kind::Syn | Kind::SynAck | Kind::Nonsense => return Effect::Nothing,
        }
        let Some(begin) = self.position(me, segment.sequence) else { return Effect::Nothing };
        if !(-FAR..FAR).contains(&(begin - self.next[me])) {
            return Effect::Nothing;
        }
        let exact = self.expected(me, segment.sequence);
        let end = begin + i64::from(segment.length) + i64::from(segment.flags & FIN);
        if begin <= self.next[me] {
            self.next[me] = self.next[me].max(end);
        }
        self.sent[me] = self.sent[me].max(end);
        self.acknowledge(sender, segment);
        let mut effect = Effect::Refresh;
        if segment.flags & FIN != 0 {
            match exact {
                Answer::Yes => self.fin[me] = true,
                Answer::Open => effect = Effect::Ask { refresh: true },
                Answer::No => {}
            }
        }
        if self.fin == [true; 2] {
            self.phase = Phase::Closed;
        }
        effect
    }

    /// The local end knows what it has; the remote's word counts up to what the local end has sent.
    fn acknowledge(&mut self, sender: Direction, segment: &Segment) {
        let it = 1 - sender.index();
        let Some(acked) = self.position(it, segment.acknowledgement) else { return };
        let can_be = (-FAR..FAR).contains(&(acked - self.next[it]));
        if acked <= self.acked[it] || !can_be {
            return;
        }
        match sender {
            Direction::Ingress if acked > self.next[it] => {}
            Direction::Ingress => self.acked[it] = acked,
            Direction::Egress => {
                self.acked[it] = acked;
                self.next[it] = self.next[it].max(acked);
                self.sent[it] = self.sent[it].max(acked);
            }
        }
    }

    /// Whether the local end contradicts itself: it answers a SYN that it went on from.
    pub(crate) fn is_contradiction(&self, sender: Direction, segment: &Segment) -> bool {
        self.middle && sender != self.opener && kind(segment.flags) == Kind::SynAck
    }

    /// What became of the flow where the contract leaves it open.
    pub(crate) fn learn(&mut self, closed: bool, fin: [bool; 2]) {
        self.fin = fin;
        if closed {
            self.phase = Phase::Closed;
        }
    }

    /// Whether a segment of the sender with this number may be quoted by an ICMP error.
    pub(crate) fn quotes(&self, sender: Direction, number: u32) -> Answer {
        let me = sender.index();
        // Picked up in the middle: what the local end has acknowledged so far was not seen.
        let unknown = self.middle && matches!(self.phase, Phase::Middle | Phase::Answered);
        if unknown || self.acked[me] > self.next[me] {
            return Answer::Open;
        }
        let Some(position) = self.position(me, number) else {
            return if known::SILENT_END_IS_QUOTED { Answer::Open } else { Answer::No };
        };
        let (first, last) = match self.phase {
            Phase::Established | Phase::Closed => (self.acked[me], self.next[me]),
            Phase::Asked | Phase::Middle | Phase::Answered => (0, self.next[me]),
        };
        if (first..=last).contains(&position) {
            match self.phase {
                // Neither live nor half-open, and not yet gone.
                Phase::Closed => Answer::Open,
                // The SYN of an attempt that was answered.
                Phase::Answered if position < self.acked[me] => Answer::Open,
                Phase::Asked | Phase::Middle | Phase::Answered | Phase::Established => Answer::Yes,
            }
        } else if (last..=self.sent[me]).contains(&position) {
            Answer::Open
        } else {
            Answer::No
        }
    }
}
