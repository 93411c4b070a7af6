//! The engine's tables, backed by a compiled spec and by plain collections.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use sg_common::abi::{
    Adopted, Adoption, ClassWord, ClockEntry, Datagram, DatagramCell, Event, EventKind, Flow,
    FlowCell, FlowKey, Forgetting, Forgotten, InterfaceFlags, InterfaceVersion, Permit, PermitKey,
    RuleCounter,
};
use sg_common::{
    Address, AddressTables, Attachment, ClockHand, Context, Decision, Direction, LinkLayer, Reason,
    TableError, Tables, V4, V6,
};

use zerocopy::IntoBytes as _;

use super::state::{Counters, FamilyState, Limits, SharedFlow, State};
use crate::compile::{AddressSpec, InterfaceSpec, IpAddress, PermitPrefix, Prefix, TableSpec};

/// One interface of a compiled spec, ready to judge packets.
#[derive(Debug)]
pub struct HostTables<'s> {
    spec: &'s TableSpec,
    interface: &'s InterfaceSpec,
    attachment: Attachment,
    grace_until: u64,
    state: Rc<State>,
}

/// The spec has no such slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no interface has slot {0}")]
pub struct NoSlot(pub u16);

impl<'s> HostTables<'s> {
    /// An interface that has seen no packet.
    ///
    /// # Errors
    ///
    /// [`NoSlot`] when no interface has the slot.
    pub fn new(spec: &'s TableSpec, slot: u16, limits: Limits) -> Result<Self, NoSlot> {
        Self::with_state(spec, slot, Rc::new(State::new(limits)))
    }

    /// Another interface beside this one, or the same one under another spec: flows, counters and events
    /// are shared.
    ///
    /// # Errors
    ///
    /// [`NoSlot`] when no interface has the slot.
    pub fn with<'t>(&self, spec: &'t TableSpec, slot: u16) -> Result<HostTables<'t>, NoSlot> {
        let tables = HostTables::with_state(spec, slot, Rc::clone(&self.state))?;
        Ok(tables.in_grace(self.grace_until))
    }

    fn with_state(spec: &'s TableSpec, slot: u16, state: Rc<State>) -> Result<Self, NoSlot> {
        let interface = spec.interfaces.get(&slot).ok_or(NoSlot(slot))?;
        let attachment = interface.attachment(slot);
        Ok(Self { spec, interface, attachment, grace_until: 0, state })
    }

    /// The same, learning flows from their packets until then.
    #[must_use]
    pub fn in_grace(self, grace_until: u64) -> Self {
        Self { grace_until, ..self }
    }

    /// Enters a flow that was there before, as the adopting program does.
    #[must_use]
    pub fn adopt(&self, adoption: &Adoption, now: u64) -> Adopted {
        sg_common::adopt(adoption.as_bytes(), self, now, &mut self.state.scratch.borrow_mut())
    }

    /// Forgets a live flow, as the forgetting program does.
    #[must_use]
    pub fn forget(&self, record: &Forgetting, now: u64) -> Forgotten {
        sg_common::forget(record.as_bytes(), self, now, &mut self.state.scratch.borrow_mut())
    }

    /// Judges a packet at `now`, in nanoseconds of any clock that starts above 0.
    #[must_use]
    pub fn judge(
        &self,
        packet: &[u8],
        direction: Direction,
        link: LinkLayer,
        now: u64,
    ) -> Decision {
        let context = Context { direction, link, now };
        sg_common::decide(packet, self, &context, &mut self.state.scratch.borrow_mut())
    }

    /// The MAC address that the interface must use, where one is given.
    pub(super) fn mac(&self) -> Option<[u8; 6]> {
        let version = &self.interface.version;
        (version.flags & InterfaceFlags::MAC != 0).then_some(version.mac)
    }

    /// Every event so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.state.events.borrow().clone()
    }

    /// Every event so far, which are forgotten here.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        self.state.events.take()
    }

    /// Every counter that is not zero.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.counters.borrow().clone()
    }

    /// What has passed because of each rule in force, where anything has.
    #[must_use]
    pub fn rule_hits(&self) -> Vec<RuleCounter> {
        let hits = self.state.hits.borrow();
        hits.values().filter(|hit| self.spec.rules.contains_key(&hit.rule)).copied().collect()
    }

    /// Forgets what rules were hit, of the interfaces that share the state too.
    pub fn forget_hits(&self) {
        self.state.hits.take();
    }

    /// Forgets every flow, of the interfaces that share the state too.
    pub fn forget_flows(&self) {
        self.state.v4.forget();
        self.state.v6.forget();
    }

    /// The established flows, in the order of nothing.
    #[must_use]
    pub fn established<A: HostFamily>(&self) -> Vec<(FlowKey<A>, Flow)> {
        let flows = A::state(&self.state).flows.borrow();
        flows.iter().map(|(key, cell)| (*key, cell.snapshot())).collect()
    }

    /// The flows that this end opened and that are not yet established, in the order of nothing.
    #[must_use]
    pub fn half_open<A: HostFamily>(&self, opened: Direction) -> Vec<(FlowKey<A>, Flow)> {
        let flows = A::state(&self.state).opening[opened.index()].borrow();
        flows.iter().map(|(key, cell)| (*key, cell.snapshot())).collect()
    }
}

/// An address family as the host has it.
pub trait HostFamily: Address + Default + std::hash::Hash {
    /// The standard library's address.
    type Ip: IpAddress;
    /// As the standard library has it.
    fn ip(self) -> Self::Ip;
    /// The family's part of a spec.
    fn spec(spec: &TableSpec) -> &AddressSpec<Self::Ip>;
    /// The family's part of what packets left behind.
    fn state(state: &State) -> &FamilyState<Self>;
}

impl HostFamily for V4 {
    type Ip = Ipv4Addr;

    fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from(self.octets())
    }

    fn spec(spec: &TableSpec) -> &AddressSpec<Ipv4Addr> {
        &spec.v4
    }

    fn state(state: &State) -> &FamilyState<Self> {
        &state.v4
    }
}

impl HostFamily for V6 {
    type Ip = Ipv6Addr;

    fn ip(self) -> Ipv6Addr {
        Ipv6Addr::from(self.octets())
    }

    fn spec(spec: &TableSpec) -> &AddressSpec<Ipv6Addr> {
        &spec.v6
    }

    fn state(state: &State) -> &FamilyState<Self> {
        &state.v6
    }
}

/// The longest prefix that holds an address and that `find` knows.
fn longest<A: IpAddress, R>(
    space: u32,
    address: A,
    find: impl Fn(&Prefix<A>) -> Option<R>,
) -> Option<R> {
    let prefix = |length| Prefix { space, address: address.masked(length), length };
    (0..=A::MAX_LENGTH).rev().find_map(|length| find(&prefix(length)))
}

impl<A: HostFamily> AddressTables<A> for HostTables<'_> {
    type FlowRef = SharedFlow;
    type DatagramRef = Rc<DatagramCell>;

    fn flow(&self, key: &FlowKey<A>) -> Option<SharedFlow> {
        A::state(&self.state).flows.borrow().get(key).cloned()
    }

    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), TableError> {
        let state = A::state(&self.state);
        let mut flows = state.flows.borrow_mut();
        if flows.contains_key(key) {
            return Err(TableError::Exists);
        }
        if flows.len() >= state.limits.flows {
            return Err(TableError::Full);
        }
        flows.insert(*key, Rc::new(FlowCell::new(flow)));
        Ok(())
    }

    fn remove_flow(&self, key: &FlowKey<A>) -> bool {
        A::state(&self.state).flows.borrow_mut().remove(key).is_some()
    }

    fn opening(&self, opened: Direction, key: &FlowKey<A>) -> Option<SharedFlow> {
        A::state(&self.state).opening[opened.index()].borrow_mut().get(key)
    }

    fn insert_opening(
        &self,
        opened: Direction,
        key: &FlowKey<A>,
        flow: &Flow,
    ) -> Result<(), TableError> {
        let cell = Rc::new(FlowCell::new(flow));
        A::state(&self.state).opening[opened.index()].borrow_mut().insert(*key, cell);
        Ok(())
    }

    fn remove_opening(&self, opened: Direction, key: &FlowKey<A>) {
        A::state(&self.state).opening[opened.index()].borrow_mut().remove(key);
    }

    fn datagram(&self, key: &FlowKey<A>) -> Option<Rc<DatagramCell>> {
        A::state(&self.state).fragments.borrow_mut().get(key)
    }

    fn insert_datagram(&self, key: &FlowKey<A>, datagram: &Datagram) -> Result<(), TableError> {
        let cell = Rc::new(DatagramCell::new(datagram));
        A::state(&self.state).fragments.borrow_mut().insert(*key, cell);
        Ok(())
    }

    fn clock(&self, hand: ClockHand, now: u64, element: &mut ClockEntry<A>) -> bool {
        let state = A::state(&self.state);
        let found = state.clock.borrow()[state.element(hand.0)];
        if found.deadline > now {
            return false;
        }
        *element = found;
        true
    }

    fn set_clock(&self, hand: ClockHand, deadline: u64, key: &FlowKey<A>) {
        let state = A::state(&self.state);
        let element = state.element(hand.0);
        state.clock.borrow_mut()[element] = ClockEntry { deadline, key: *key };
    }

    fn advance_clock(&self, slot: u16, interface: &InterfaceVersion) -> ClockHand {
        let state = A::state(&self.state);
        let mut hands = state.hands.borrow_mut();
        let hand = hands.entry(slot).or_default();
        let step = *hand % interface.flow_limit.clamp(1, state.limits.clock);
        *hand = hand.wrapping_add(1);
        ClockHand(interface.flow_base.wrapping_add(step) & (state.limits.clock - 1))
    }

    fn add_others(&self, delta: i64) -> i64 {
        let others = &A::state(&self.state).others;
        others.replace(others.get() + delta)
    }

    fn room(&self) -> u32 {
        A::state(&self.state).limits.clock
    }

    fn host_class(&self, address: A) -> Option<u32> {
        A::spec(self.spec).hosts.get(&(self.attachment.vpc, address.ip())).copied()
    }

    fn cidr_class(&self, address: A) -> Option<u32> {
        let cidrs = &A::spec(self.spec).cidrs;
        longest(self.attachment.vpc, address.ip(), |prefix| cidrs.get(prefix).copied())
    }

    fn own(&self, address: A) -> Option<u32> {
        let own = &A::spec(self.spec).own;
        longest(self.attachment.slot.into(), address.ip(), |prefix| {
            own.contains(prefix).then_some(1)
        })
    }
}

impl Tables for HostTables<'_> {
    fn attachment(&self) -> Attachment {
        self.attachment
    }

    fn grace_until(&self) -> u64 {
        self.grace_until
    }

    fn generation(&self) -> u64 {
        0
    }

    fn interface(&self, _generation: u64) -> Option<&InterfaceVersion> {
        Some(&self.interface.version)
    }

    /// Class slots are a matter of the kernel's maps: here a class is its own slot.
    fn class(&self, class_slot: u32) -> ClassWord {
        ClassWord::new([class_slot; 2])
    }

    fn permit(&self, key: &PermitKey) -> Option<Permit> {
        let opens = key.direction & !PermitKey::SOME_PORT;
        let direction = Direction::ALL.into_iter().find(|it| *it as u8 == opens)?;
        let at = |protocol, port, bits| PermitPrefix {
            policy: key.policy,
            class: key.class,
            direction,
            some_port: key.direction != opens,
            protocol,
            port,
            bits,
        };
        let any_protocol = at(0, 0, 72);
        let ports = (0..=16).rev().map(|length: u8| {
            let mask = u16::MAX.checked_shl(16 - u32::from(length)).unwrap_or(0);
            at(key.protocol, key.port.get() & mask, 80 + length)
        });
        ports
            .chain([any_protocol])
            .find_map(|prefix| self.spec.permits.get(&prefix))
            .map(|&it| Permit(it))
    }

    fn count(&self, direction: Direction, reason: Reason, length: u32) {
        let mut counters = self.state.counters.borrow_mut();
        let counter = counters.entry((self.attachment.slot, direction, reason)).or_default();
        counter.packets += 1;
        counter.bytes += u64::from(length);
    }

    fn hit(&self, rule: u32, length: u32, now: u64) {
        if self.spec.rules.contains_key(&rule) {
            let mut hits = self.state.hits.borrow_mut();
            let fresh = RuleCounter { rule, ..RuleCounter::default() };
            hits.entry(rule).or_insert(fresh).add(rule, length, now);
        }
    }

    fn emit(&self, time: u64, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        let mut event = Event { time, kind: kind as u8, ..Event::default() };
        fill(&mut event);
        self.state.events.borrow_mut().push(event);
    }
}
