//! What the engine asks of its surroundings: lookups, inserts, counts, events.

use core::ops::Deref;

use crate::abi::{
    ClassWord, ClockEntry, Datagram, DatagramCell, Event, EventKind, Flow, FlowCell, FlowKey,
    InterfaceVersion, Permit, PermitKey,
};
use crate::{Address, Direction, Reason, V4, V6};

/// Which end of the device is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The device is the protected host's own.
    Host = 0,
    /// The device is the host's end of a workload's veth or tap.
    Workload = 1,
}

/// What a program instance knows of the device it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// Slot of the interface.
    pub slot: u16,
    /// Number of its VPC.
    pub vpc: u32,
    /// Which end of the device is protected.
    pub side: Side,
}

/// Why an entry could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// The table has no room.
    Full,
    /// The interface has as many flows as it may have.
    Limit,
    /// There is such an entry.
    Exists,
}

/// A step of the clock's hand: the element it points at is the caller's until the hand comes round again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockHand(pub u32);

/// The tables that exist once per address family.
pub trait AddressTables<A: Address> {
    /// A flow entry that stays readable while it is held.
    type FlowRef: Deref<Target = FlowCell>;
    /// The same for a datagram in fragments.
    type DatagramRef: Deref<Target = DatagramCell>;

    /// Looks an established flow up.
    fn flow(&self, key: &FlowKey<A>) -> Option<Self::FlowRef>;
    /// Adds an established flow.
    ///
    /// # Errors
    /// [`TableError::Full`] when there is no room; nothing is evicted. [`TableError::Exists`] when there is
    /// one already; nothing is replaced.
    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), TableError>;
    /// Removes an established flow; whether it was there.
    fn remove_flow(&self, key: &FlowKey<A>) -> bool;

    /// Looks a flow up that the end behind `opened` opened and that is not yet established.
    fn opening(&self, opened: Direction, key: &FlowKey<A>) -> Option<Self::FlowRef>;
    /// Adds or replaces such a flow, evicting the least recently used where it must.
    ///
    /// # Errors
    /// [`TableError::Full`] when even eviction made no room.
    fn insert_opening(
        &self,
        opened: Direction,
        key: &FlowKey<A>,
        flow: &Flow,
    ) -> Result<(), TableError>;
    /// Removes such a flow.
    fn remove_opening(&self, opened: Direction, key: &FlowKey<A>);

    /// Looks up what is known of a datagram in fragments.
    fn datagram(&self, key: &FlowKey<A>) -> Option<Self::DatagramRef>;
    /// Adds or replaces that, evicting the least recently used where it must.
    ///
    /// # Errors
    /// [`TableError::Full`] when even eviction made no room.
    fn insert_datagram(&self, key: &FlowKey<A>, datagram: &Datagram) -> Result<(), TableError>;

    /// Copies an element of the reclaiming clock, if its deadline has passed; whether it has.
    fn clock(&self, hand: ClockHand, now: u64, element: &mut ClockEntry<A>) -> bool;
    /// Writes an element of the reclaiming clock.
    fn set_clock(&self, hand: ClockHand, deadline: u64, key: &FlowKey<A>);
    /// Moves the hand of the interface in this slot by one, over its own elements, and returns where it stood.
    fn advance_clock(&self, slot: u16, interface: &InterfaceVersion) -> ClockHand;
    /// Adds to the number of established flows of other protocols than TCP and returns it as it was.
    fn add_others(&self, delta: i64) -> i64;
    /// How many established flows the table has room for.
    fn room(&self) -> u32;

    /// Class slot of one address of the attachment's VPC, from `hosts`.
    fn host_class(&self, address: A) -> Option<u32>;
    /// Class slot of the longest CIDR that holds the address, from `cidrs`.
    fn cidr_class(&self, address: A) -> Option<u32>;
    /// Class slot of the longest of the interface's own addresses and prefixes that holds the address.
    fn own(&self, address: A) -> Option<u32>;
}

/// All the tables.
pub trait Tables: AddressTables<V4> + AddressTables<V6> {
    /// The device the packet is judged at.
    fn attachment(&self) -> Attachment;
    /// When the grace time ends in which the device's flows are learnt from their packets, because sockets
    /// cannot be asked; in nanoseconds of the monotonic clock, 0: there is none.
    fn grace_until(&self) -> u64;
    /// The generation word; read once per packet.
    fn generation(&self) -> u64;
    /// The interface as the generation says it is: the version that counts is never written to.
    fn interface(&self, generation: u64) -> Option<&InterfaceVersion>;
    /// The two versions of a class.
    fn class(&self, class_slot: u32) -> ClassWord;
    /// The longest permit that covers the key.
    fn permit(&self, key: &PermitKey) -> Option<Permit>;
    /// Counts a packet.
    fn count(&self, direction: Direction, reason: Reason, length: u32);
    /// Counts a packet that passes because of a rule, unless the rule has gone.
    fn hit(&self, rule: u32, length: u32, now: u64);
    /// Hands an event on: `fill` completes a record that has its time and kind. It may be suppressed or
    /// lost, never waited for.
    fn emit(&self, time: u64, kind: EventKind, fill: impl FnOnce(&mut Event));
}
