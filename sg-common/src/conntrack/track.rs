//! A packet and the flow tables: which flow it belongs to, and what it does to it.

use super::{Step, datagram, reclaim, tcp, timeout};
use crate::abi::{EventKind, Flow, FlowFlags, FlowKey, FlowState};
use crate::judging::Judging;
use crate::wire::ip;
use crate::wire::tcp::{FIN, Kind, Segment};
use crate::wire::transport::Transport;
use crate::{Address, AddressTables, Decision, Direction, Family, Reason, TableError, Tables};

/// What the flow tables need to know of a packet.
pub(crate) struct Passage<'a, A> {
    pub(crate) key: FlowKey<A>,
    pub(crate) tag: u32,
    pub(crate) transport: &'a Transport,
    pub(crate) length: u32,
}

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// The verdict for a packet of a known flow; `None` when it belongs to none.
    #[inline(always)]
    pub(crate) fn follow<A: Address>(&self, passage: &Passage<'_, A>) -> Option<Decision>
    where
        T: AddressTables<A>,
    {
        if let Some(decision) = self.established(passage) {
            return Some(decision);
        }
        // A SYN speaks only for its own sender's attempt, a SYN-ACK only for the other end's.
        let (by_sender, by_other) = match passage.transport {
            Transport::Tcp(segment) => match segment.kind() {
                Kind::Syn => (true, false),
                Kind::SynAck => (false, true),
                Kind::Reset | Kind::Plain | Kind::Invalid => (true, true),
            },
            _ => (true, true),
        };
        if by_sender && let Some(decision) = self.opening::<A, true>(passage) {
            return Some(decision);
        }
        if by_other { self.opening::<A, false>(passage) } else { None }
    }

    /// Enters a new flow that a rule allows.
    #[inline(always)]
    pub(crate) fn open<A: Address>(
        &self,
        passage: &Passage<'_, A>,
        rule: u32,
    ) -> Result<(), TableError>
    where
        T: AddressTables<A>,
    {
        let direction = Self::DIRECTION;
        let mut flow = match passage.transport {
            Transport::Tcp(segment) => tcp::open(direction, segment),
            _ => datagram::open(direction),
        };
        flow.rule = rule;
        flow.tag = passage.tag;
        flow.packets[direction.index()] = 1;
        flow.bytes[direction.index()] = passage.length.into();
        self.refresh(&mut flow, passage.key.protocol);
        self.tables.insert_opening(direction, &passage.key, &flow)
    }

    #[inline(always)]
    fn established<A: Address>(&self, passage: &Passage<'_, A>) -> Option<Decision>
    where
        T: AddressTables<A>,
    {
        let cell = self.tables.flow(&passage.key)?;
        let old = cell.snapshot();
        // Another tag: the element was recycled for another flow while it was read.
        if old.tag != passage.tag {
            return None;
        }
        let state = FlowState::from_number(old.state)?;
        if old.deadline <= self.now {
            ended(self.tables, &passage.key, &old, self.now);
            reclaim::remove(self.tables, &passage.key);
            return None;
        }
        let mut new = old;
        let step = match passage.transport {
            Transport::Tcp(segment) => match reopening(&old, state, Self::DIRECTION, segment) {
                Reopening::No if matches!(state, FlowState::Closed) => Step::Ignored,
                Reopening::No => tcp::advance(&mut new, Self::DIRECTION, segment),
                Reopening::ByAnsweringSide => return None,
                Reopening::AfterClose => {
                    reclaim::remove(self.tables, &passage.key);
                    return None;
                }
            },
            _ => {
                let opener = old.opening_direction();
                datagram::advance(&mut new, state, opener, Self::DIRECTION)
            }
        };
        cell.count(Self::DIRECTION, passage.length);
        if !matches!(step, Step::Ignored) {
            self.refresh(&mut new, passage.key.protocol);
            cell.commit(&old, &new);
        }
        if matches!(step, Step::Close) {
            reclaim::shorten(self.tables, &passage.key, &new);
            ended(self.tables, &passage.key, &cell.snapshot(), self.now);
        }
        Some(Decision { reason: Reason::Flow, rule: old.rule })
    }

    /// A packet of a flow that is not yet established, opened by the packet's sender or by the other end.
    /// Off the fast path, with a stack frame of its own.
    #[inline(never)]
    fn opening<A: Address, const BY_SENDER: bool>(
        &self,
        passage: &Passage<'_, A>,
    ) -> Option<Decision>
    where
        T: AddressTables<A>,
    {
        let direction = Self::DIRECTION;
        let opener = if BY_SENDER { direction } else { direction.reverse() };
        let cell = self.tables.opening(opener, &passage.key)?;
        let old = cell.snapshot();
        if old.tag != passage.tag || old.deadline <= self.now {
            return None;
        }
        let state = FlowState::from_number(old.state)?;
        let mut new = old;
        if EGRESS && old.flags & FlowFlags::SOURCE_CHECKED == 0 {
            if !self.local_is_legal(passage.key.local) {
                return Some(Decision::without_rule(Reason::SourceCheck));
            }
            new.flags |= FlowFlags::SOURCE_CHECKED;
        }
        let step = match passage.transport {
            Transport::Tcp(segment) => {
                tcp::advance_opening(&mut new, state, opener, direction, segment)
            }
            _ => datagram::advance(&mut new, state, opener, direction),
        };
        cell.count(direction, passage.length);
        let decision = Decision { reason: Reason::Flow, rule: old.rule };
        match step {
            Step::Ignored => {}
            Step::Stay | Step::Close | Step::Promote => {
                self.refresh(&mut new, passage.key.protocol);
                cell.commit(&old, &new);
            }
            Step::Remove => {
                ended(self.tables, &passage.key, &cell.snapshot(), self.now);
                self.tables.remove_opening(opener, &passage.key);
            }
        }
        if !matches!(step, Step::Promote) {
            return Some(decision);
        }
        match self.promote(&passage.key, &mut cell.snapshot()) {
            Ok(()) => {
                self.tables.remove_opening(opener, &passage.key);
                Some(decision)
            }
            // Refused now, so that both ends learn of it; other protocols go on where they are.
            Err(TableError::Full) if passage.key.protocol == ip::TCP => {
                Some(Decision::without_rule(Reason::TableFull))
            }
            Err(TableError::Full) => Some(decision),
        }
    }

    /// Enters a flow among the established ones.
    #[inline(never)]
    fn promote<A: Address>(&self, key: &FlowKey<A>, flow: &mut Flow) -> Result<(), TableError>
    where
        T: AddressTables<A>,
    {
        // The cell's deadline is written by the grain; here it starts afresh.
        self.refresh(flow, key.protocol);
        reclaim::insert(self.tables, key, flow, self.now)
    }

    /// Sets the deadline that the flow's state asks for.
    #[inline(always)]
    fn refresh(&self, flow: &mut Flow, protocol: u8) {
        if let Some(state) = FlowState::from_number(flow.state) {
            flow.deadline = self.now + timeout(state, protocol, &self.interface);
        }
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
        other => datagram::opens(other, family),
    }
}

/// What a SYN means to an established flow.
enum Reopening {
    /// Nothing, or it is no SYN.
    No,
    /// A flow of its own direction, to be judged as such.
    ByAnsweringSide,
    /// The old flow has closed: a new one takes its place, if a rule allows it.
    AfterClose,
}

#[inline(always)]
fn reopening(flow: &Flow, state: FlowState, direction: Direction, segment: &Segment) -> Reopening {
    if !matches!(segment.kind(), Kind::Syn) {
        Reopening::No
    } else if matches!(state, FlowState::Closed) {
        Reopening::AfterClose
    } else if direction == flow.opening_direction() {
        Reopening::No
    } else {
        Reopening::ByAnsweringSide
    }
}

/// Reports the end of a flow with its totals.
#[inline(never)]
pub(crate) fn ended<A: Address, T: Tables>(tables: &T, key: &FlowKey<A>, flow: &Flow, now: u64) {
    tables.emit(now, EventKind::End, |event| {
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
