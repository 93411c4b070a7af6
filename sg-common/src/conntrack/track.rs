//! A packet and the flow tables: which flow it belongs to, and what it does to it.

use super::{Step, adopted, datagram, reclaim, tcp, timeout};
use crate::abi::{EventKind, Flow, FlowCell, FlowFlags, FlowKey, FlowState, Permit};
use crate::conntrack::cut::Standing;
use crate::judging::Judging;
use crate::verdict::Outcome;
use crate::wire::ip;
use crate::wire::tcp::{FIN, Kind, Segment};
use crate::wire::transport::Transport;
use crate::work::Work;
use crate::{Address, AddressTables, Direction, Family, Reason, TableError, Tables};

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// The verdict for a packet of a known flow; `None` when it belongs to none.
    #[inline(always)]
    pub(crate) fn follow<A: Address>(&self, work: &mut Work<A>) -> Option<Outcome>
    where
        T: AddressTables<A>,
    {
        if let Some(outcome) = self.established(work) {
            return Some(outcome);
        }
        // A SYN speaks only for its own sender's attempt, a SYN-ACK only for the other end's.
        let (by_sender, by_other) = match &work.transport {
            Transport::Tcp(segment) => match segment.kind() {
                Kind::Syn => (true, false),
                Kind::SynAck => (false, true),
                Kind::Reset | Kind::Plain | Kind::Invalid => (true, true),
            },
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                (true, true)
            }
        };
        work.promotes = false;
        let (mut outcome, mut opener) = (None, Self::DIRECTION);
        if by_sender {
            outcome = self.opening::<A, true>(work);
        }
        if outcome.is_none() && by_other {
            opener = Self::DIRECTION.reverse();
            outcome = self.opening::<A, false>(work);
        }
        if work.promotes { Some(self.promote(work, opener)) } else { outcome }
    }

    /// Enters a new flow that a rule allows.
    #[inline(always)]
    pub(crate) fn open<A: Address>(
        &self,
        work: &mut Work<A>,
        permit: Permit,
    ) -> Result<(), TableError>
    where
        T: AddressTables<A>,
    {
        if work.replaces {
            reclaim::remove(self.tables, work);
        }
        work.flow = match &work.transport {
            Transport::Tcp(segment) => tcp::open(Self::DIRECTION, segment),
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                datagram::open(Self::DIRECTION)
            }
        };
        self.enter(work, Some(permit))
    }

    /// Enters the flow of a packet that is taken for the middle of a conversation.
    #[inline(always)]
    pub(crate) fn learn<A: Address>(
        &self,
        work: &mut Work<A>,
        permit: Option<Permit>,
    ) -> Result<(), TableError>
    where
        T: AddressTables<A>,
    {
        work.flow = match &work.transport {
            Transport::Tcp(segment) => adopted::open(Self::DIRECTION, segment),
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                datagram::open(Self::DIRECTION)
            }
        };
        work.flow.flags |= FlowFlags::ADOPTED;
        self.enter(work, permit)
    }

    /// Enters the flow in hand, which this packet opens, among those not yet established.
    #[inline(always)]
    fn enter<A: Address>(
        &self,
        work: &mut Work<A>,
        permit: Option<Permit>,
    ) -> Result<(), TableError>
    where
        T: AddressTables<A>,
    {
        let direction = Self::DIRECTION;
        work.flow.epoch = self.interface.epoch;
        if let Some(permit) = permit {
            work.flow.rule = permit.rule();
            if permit.is_untracked() {
                work.flow.flags |= FlowFlags::UNTRACKED;
            }
        }
        work.flow.tag = work.tag;
        work.flow.packets[direction.index()] = 1;
        work.flow.bytes[direction.index()] = work.length.into();
        self.refresh(work);
        self.tables.insert_opening(direction, &work.key, &work.flow)
    }

    #[inline(always)]
    fn established<A: Address>(&self, work: &mut Work<A>) -> Option<Outcome>
    where
        T: AddressTables<A>,
    {
        work.replaces = false;
        let cell = self.tables.flow(&work.key)?;
        // Another tag: the element was recycled for another flow while it was read.
        work.flow = cell.snapshot();
        work.before = work.flow;
        if work.flow.tag != work.tag {
            return None;
        }
        let state = FlowState::from_number(work.flow.state)?;
        if work.flow.deadline <= self.now {
            if !matches!(state, FlowState::Closed) {
                ended(self.tables, &work.key, &cell, self.now);
            }
            reclaim::remove(self.tables, work);
            return None;
        }
        if self.is_doubtful(&work.flow) {
            let standing = self.judge_again(work);
            if matches!(standing, Standing::Revived) && is_syn(&work.transport) {
                reclaim::remove(self.tables, work);
                return None;
            }
            self.refresh(work);
            cell.commit(&work.before, &work.flow);
            work.before = work.flow;
            if matches!(standing, Standing::Cut) {
                return Some(Outcome::without_rule(Reason::FlowCut));
            }
        }
        let state = FlowState::from_number(work.flow.state)?;
        let opener = work.flow.opening_direction();
        let step = match &work.transport {
            Transport::Tcp(segment) => match reopening(state, segment) {
                Reopening::No if matches!(state, FlowState::Closed) => Step::Ignored,
                Reopening::No => tcp::advance(&mut work.flow, Self::DIRECTION, segment),
                Reopening::ToBeJudged => return None,
                Reopening::AfterClose => {
                    work.replaces = true;
                    return None;
                }
            },
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                datagram::advance(&mut work.flow, state, opener, Self::DIRECTION)
            }
        };
        cell.count(Self::DIRECTION, work.length);
        if !matches!(step, Step::Ignored) {
            self.refresh(work);
            cell.commit(&work.before, &work.flow);
        }
        if matches!(step, Step::Close) {
            reclaim::shorten(self.tables, work);
            ended(self.tables, &work.key, &cell, self.now);
        }
        Some(Outcome::new(Reason::Flow, work.flow.rule))
    }

    /// A packet of a flow that is not yet established, opened by the packet's sender or by the other end.
    /// Off the fast path, with a stack frame of its own.
    #[inline(never)]
    fn opening<A: Address, const BY_SENDER: bool>(&self, work: &mut Work<A>) -> Option<Outcome>
    where
        T: AddressTables<A>,
    {
        let direction = Self::DIRECTION;
        let opener = if BY_SENDER { direction } else { direction.reverse() };
        let cell = self.tables.opening(opener, &work.key)?;
        work.flow = cell.snapshot();
        work.before = work.flow;
        if work.flow.tag != work.tag || work.flow.deadline <= self.now {
            return None;
        }
        if self.is_doubtful(&work.flow) {
            let standing = self.judge_again(work);
            // TCP that was cut before its handshake was complete begins again.
            if matches!(standing, Standing::Revived) && work.key.protocol == ip::TCP {
                self.tables.remove_opening(opener, &work.key);
                return None;
            }
            self.refresh(work);
            cell.commit(&work.before, &work.flow);
            work.before = work.flow;
            if matches!(standing, Standing::Cut) {
                return Some(Outcome::without_rule(Reason::FlowCut));
            }
        }
        // Another connection between the same ports is judged as new.
        if let Transport::Tcp(segment) = &work.transport
            && matches!(segment.kind(), Kind::Syn)
            && !tcp::is_sent_again(&work.flow, opener, segment)
        {
            return None;
        }
        let state = FlowState::from_number(work.flow.state)?;
        if EGRESS && work.flow.flags & FlowFlags::SOURCE_CHECKED == 0 {
            if !self.local_is_legal(work.key.local) {
                return Some(Outcome::without_rule(Reason::SourceCheck));
            }
            work.flow.flags |= FlowFlags::SOURCE_CHECKED;
        }
        // The attempt is sent again: what has closed between its ports makes room.
        if work.replaces {
            reclaim::remove(self.tables, work);
        }
        let step = match &work.transport {
            Transport::Tcp(segment) => {
                tcp::advance_opening(&mut work.flow, state, opener, direction, segment)
            }
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                datagram::advance(&mut work.flow, state, opener, direction)
            }
        };
        cell.count(direction, work.length);
        // A connection that finds no room stays what it was: half-open.
        let stays = !matches!(step, Step::Promote) || work.key.protocol != ip::TCP;
        if !matches!(step, Step::Ignored) {
            self.refresh(work);
            if stays {
                cell.commit(&work.before, &work.flow);
            }
        }
        match step {
            Step::Ignored | Step::Stay | Step::Close => {}
            Step::Promote => {
                let Flow { packets, bytes, .. } = cell.snapshot();
                work.flow.packets = packets;
                work.flow.bytes = bytes;
                work.promotes = true;
            }
            Step::Remove => {
                ended(self.tables, &work.key, &cell, self.now);
                self.tables.remove_opening(opener, &work.key);
            }
        }
        Some(Outcome::new(Reason::Flow, work.flow.rule))
    }

    /// Moves a flow from the opening table to the established ones.
    #[inline(never)]
    fn promote<A: Address>(&self, work: &mut Work<A>, opener: Direction) -> Outcome
    where
        T: AddressTables<A>,
    {
        match reclaim::insert(self.tables, work, self.now, self.interface) {
            Ok(()) => self.tables.remove_opening(opener, &work.key),
            // Refused now, so that both ends learn of it; other protocols go on where they are.
            Err(error) if work.key.protocol == ip::TCP => {
                return Outcome::without_rule(error.into());
            }
            Err(_no_room) => {}
        }
        Outcome::new(Reason::Flow, work.flow.rule)
    }

    /// Sets the deadline that the flow's state asks for.
    #[inline(always)]
    fn refresh<A: Address>(&self, work: &mut Work<A>) {
        if let Some(state) = FlowState::from_number(work.flow.state) {
            let idle = timeout(state, work.key.protocol, self.interface);
            work.flow.deadline = self.now + idle;
        }
    }
}

#[inline(always)]
fn is_syn(transport: &Transport) -> bool {
    matches!(transport, Transport::Tcp(segment) if matches!(segment.kind(), Kind::Syn))
}

/// What a SYN means to an established flow.
enum Reopening {
    /// Nothing, or it is no SYN.
    No,
    /// A flow of its own, to be judged as such: a live connection has no use for it, and the rule that let
    /// that in may have gone. What it belongs to goes on as it was, or anybody could end it so.
    ToBeJudged,
    /// The old flow has closed: a new one takes its place, if a rule allows it.
    AfterClose,
}

#[inline(always)]
fn reopening(state: FlowState, segment: &Segment) -> Reopening {
    if !matches!(segment.kind(), Kind::Syn) {
        Reopening::No
    } else if matches!(state, FlowState::Closed) {
        Reopening::AfterClose
    } else {
        Reopening::ToBeJudged
    }
}

/// Whether a packet that belongs to no flow may open one, if a rule allows it.
#[inline(always)]
pub(crate) fn may_open(direction: Direction, transport: &Transport, family: Family) -> bool {
    match transport {
        Transport::Tcp(segment) => match segment.kind() {
            Kind::Syn => true,
            // Who may open a connection may continue one whose entry was lost. The local end may not:
            // its answers must never reopen a flow that was cut or has expired.
            Kind::Plain => matches!(direction, Direction::Ingress) && segment.flags & FIN == 0,
            Kind::SynAck | Kind::Reset | Kind::Invalid => false,
        },
        Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
            datagram::opens(transport, family)
        }
    }
}

/// Whether a packet that neither belongs to a flow nor may open one is taken for the middle of a
/// conversation in the grace time. A datagram of the remote end is not: nothing tells it from an attack on
/// a port that no rule opens, whereas the stack behind refuses a segment of no connection.
#[inline(always)]
pub(crate) fn may_be_learnt(direction: Direction, transport: &Transport, family: Family) -> bool {
    match (transport, direction) {
        (Transport::Tcp(segment), Direction::Ingress) => {
            matches!(segment.kind(), Kind::Plain) && segment.flags & FIN == 0
        }
        (Transport::Tcp(segment), Direction::Egress) => matches!(segment.kind(), Kind::Plain),
        (Transport::Udp(..) | Transport::Icmp(_) | Transport::Other, Direction::Egress) => {
            datagram::opens(transport, family)
        }
        (Transport::Sctp(_), Direction::Egress) => !datagram::opens(transport, family),
        (
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other,
            Direction::Ingress,
        ) => false,
    }
}

/// Reports the end of a flow with its totals.
#[inline(never)]
pub(crate) fn ended<A: Address, T: Tables>(
    tables: &T,
    key: &FlowKey<A>,
    cell: &FlowCell,
    now: u64,
) {
    tables.emit(now, EventKind::End, |event| {
        let flow = cell.snapshot();
        event.packets = flow.packets;
        event.bytes = flow.bytes;
        event.local = key.local.widen();
        event.remote = key.remote.widen();
        event.rule = flow.rule;
        event.slot = key.slot.get();
        event.local_port = key.local_port.get();
        event.remote_port = key.remote_port.get();
        event.protocol = key.protocol;
        event.family = A::FAMILY.number();
        event.reason = Reason::Flow as u8;
        event.direction = flow.opening_direction() as u8;
    });
}
