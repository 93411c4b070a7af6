//! What packets leave behind: flows, clock, counters, events.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use sg_common::abi::{ClockEntry, Counter, DatagramCell, Event, FlowCell, FlowKey, RuleCounter};
use sg_common::{Direction, Reason, Scratch, V4, V6};

use super::lru::Lru;

/// Room for flows, per address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements of the reclaiming clock, a power of two: no more flows are established at a time. A
    /// quarter of them may be of other protocols than TCP.
    pub clock: u32,
    /// Entries of the table of established flows.
    pub flows: usize,
    /// Entries of each of the two tables of flows that are not yet established.
    pub opening: usize,
    /// Entries of the table of datagrams in fragments.
    pub fragments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clock: 1 << 10, flows: 1 << 10, opening: 1 << 10, fragments: 1 << 10 }
    }
}

/// What one interface's packets of one direction came to, by reason.
pub type Counters = BTreeMap<(u16, Direction, Reason), Counter>;

/// Everything that judging changes. One may serve several interfaces, and several specs in turn.
#[derive(Debug)]
pub struct State {
    pub(super) v4: FamilyState<V4>,
    pub(super) v6: FamilyState<V6>,
    pub(super) counters: RefCell<Counters>,
    /// By the rule's number, which no other rule ever has here.
    pub(super) hits: RefCell<BTreeMap<u32, RuleCounter>>,
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) scratch: RefCell<Scratch>,
}

/// A flow table's entry.
pub(super) type SharedFlow = Rc<FlowCell>;

/// The flows of one address family.
#[derive(Debug)]
pub struct FamilyState<A> {
    pub(super) limits: Limits,
    pub(super) flows: RefCell<HashMap<FlowKey<A>, SharedFlow>>,
    /// Opened by the remote end, by the local end.
    pub(super) opening: [RefCell<Lru<FlowKey<A>, SharedFlow>>; 2],
    pub(super) fragments: RefCell<Lru<FlowKey<A>, Rc<DatagramCell>>>,
    pub(super) clock: RefCell<Vec<ClockEntry<A>>>,
    /// Where the hand of each interface stands, by its slot.
    pub(super) hands: RefCell<HashMap<u16, u32>>,
    pub(super) others: Cell<i64>,
}

impl State {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            v4: FamilyState::new(limits),
            v6: FamilyState::new(limits),
            counters: RefCell::default(),
            hits: RefCell::default(),
            events: RefCell::default(),
            scratch: RefCell::default(),
        }
    }
}

impl<A: Copy + Eq + std::hash::Hash + Default> FamilyState<A> {
    fn new(limits: Limits) -> Self {
        let limits = Limits { clock: limits.clock.next_power_of_two(), ..limits };
        let opening = || RefCell::new(Lru::new(limits.opening));
        let elements = usize::try_from(limits.clock).unwrap_or(usize::MAX);
        let nobody = ClockEntry { deadline: 0, key: FlowKey::default() };
        Self {
            limits,
            flows: RefCell::default(),
            opening: [opening(), opening()],
            fragments: RefCell::new(Lru::new(limits.fragments)),
            clock: RefCell::new(vec![nobody; elements]),
            hands: RefCell::default(),
            others: Cell::new(0),
        }
    }

    pub(super) fn forget(&self) {
        let Self { flows, opening, fragments, clock, hands, others, .. } = Self::new(self.limits);
        self.flows.swap(&flows);
        self.opening.iter().zip(&opening).for_each(|(own, empty)| own.swap(empty));
        self.fragments.swap(&fragments);
        self.clock.swap(&clock);
        self.hands.swap(&hands);
        self.others.swap(&others);
    }

    /// The clock's element at a position of the hand.
    pub(super) fn element(&self, hand: u32) -> usize {
        usize::try_from(hand & (self.limits.clock - 1)).unwrap_or_default()
    }
}
