//! The engine's tables on BPF maps.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::maps::lpm_trie::Key;
use sg_common::abi::{
    AddressKey, ClassWord, ClockEntry, Counter, Datagram, DatagramCell, Event, EventKind, Flow,
    FlowCell, FlowKey, HostKey, InterfaceVersion, Permit, PermitKey, counter_index,
};
use sg_common::{
    Address, AddressTables, Attachment, ClockHand, Direction, Reason, Scratch, TableError, Tables,
    V4, V6,
};

use crate::{globals, maps, stream};

/// The maps of this program instance.
pub(crate) struct KernelTables;

/// Working memory for one packet.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    let scratch = maps::SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the element is this processor's own, programs do not nest on it, and this is the only
    // reference that one makes.
    Some(unsafe { &mut *scratch })
}

/// Tries of an insert that fails for no reason of its own.
const TRIES: u32 = 3;
/// The table holds as many as it can; nothing is evicted.
const E2BIG: i32 = -7;
const EEXIST: i32 = -17;

/// Inserts, again where the kernel gave up on a lock. It says so in several ways: EBUSY up to Linux 6.14, where a
/// bucket's lock is held by what this processor has interrupted; ETIMEDOUT and EDEADLK since, where whoever holds
/// it does not run; ENOMEM where the least recently used entry could not be taken out for such a reason. None
/// of them means that there is no room.
#[inline(always)]
fn retry(mut insert: impl FnMut() -> Result<(), i32>) -> Result<(), TableError> {
    for _ in 0..TRIES {
        match insert() {
            Ok(()) => return Ok(()),
            Err(E2BIG) => return Err(TableError::Full),
            Err(EEXIST) => return Err(TableError::Exists),
            Err(_) => {}
        }
    }
    Err(TableError::Full)
}

/// The maps of one family, given their statics: the trait's methods are the same but for those.
macro_rules! address_tables {
    ($address:ty, $index:literal, $flows:ident, $opened_in:ident, $opened_out:ident,
     $fragments:ident, $clock:ident, $hosts:ident, $cidrs:ident, $own:ident) => {
        impl AddressTables<$address> for KernelTables {
            type FlowRef = &'static FlowCell;
            type DatagramRef = &'static DatagramCell;

            #[inline(always)]
            fn flow(&self, key: &FlowKey<$address>) -> Option<&'static FlowCell> {
                let cell = maps::$flows.get_ptr(key)?;
                // SAFETY: an element of a preallocated map stays mapped; its fields are atomics, and
                // its tag tells when it was recycled.
                Some(unsafe { &*cell.cast::<FlowCell>() })
            }

            #[inline(always)]
            fn insert_flow(&self, key: &FlowKey<$address>, flow: &Flow) -> Result<(), TableError> {
                retry(|| maps::$flows.insert(key, flow, u64::from(BPF_NOEXIST)))
            }

            #[inline(always)]
            fn remove_flow(&self, key: &FlowKey<$address>) -> bool {
                maps::$flows.remove(key).is_ok()
            }

            #[inline(always)]
            fn opening(
                &self,
                opened: Direction,
                key: &FlowKey<$address>,
            ) -> Option<&'static FlowCell> {
                let cell = match opened {
                    Direction::Ingress => maps::$opened_in.get_ptr(key),
                    Direction::Egress => maps::$opened_out.get_ptr(key),
                }?;
                // SAFETY: as in `flow`.
                Some(unsafe { &*cell.cast::<FlowCell>() })
            }

            #[inline(always)]
            fn insert_opening(
                &self,
                opened: Direction,
                key: &FlowKey<$address>,
                flow: &Flow,
            ) -> Result<(), TableError> {
                retry(|| match opened {
                    Direction::Ingress => maps::$opened_in.insert(key, flow, u64::from(BPF_ANY)),
                    Direction::Egress => maps::$opened_out.insert(key, flow, u64::from(BPF_ANY)),
                })
            }

            #[inline(always)]
            fn remove_opening(&self, opened: Direction, key: &FlowKey<$address>) {
                // Gone already: evicted, or another processor was first.
                let _gone = match opened {
                    Direction::Ingress => maps::$opened_in.remove(key),
                    Direction::Egress => maps::$opened_out.remove(key),
                };
            }

            #[inline(always)]
            fn datagram(&self, key: &FlowKey<$address>) -> Option<&'static DatagramCell> {
                let cell = maps::$fragments.get_ptr(key)?;
                // SAFETY: as in `flow`.
                Some(unsafe { &*cell.cast::<DatagramCell>() })
            }

            #[inline(always)]
            fn insert_datagram(
                &self,
                key: &FlowKey<$address>,
                datagram: &Datagram,
            ) -> Result<(), TableError> {
                retry(|| maps::$fragments.insert(key, datagram, u64::from(BPF_ANY)))
            }

            #[inline(always)]
            fn clock(&self, hand: ClockHand, now: u64, element: &mut ClockEntry<$address>) -> bool {
                let Some(place) = maps::$clock.get_ptr(hand.0) else { return false };
                // SAFETY: the element is mapped, and between two rounds of the hand it is its
                // claimant's alone.
                let place = unsafe { &*place };
                if place.deadline > now {
                    return false;
                }
                element.deadline = place.deadline;
                element.key.assign(&place.key);
                true
            }

            #[inline(always)]
            fn set_clock(&self, hand: ClockHand, deadline: u64, key: &FlowKey<$address>) {
                if let Some(place) = maps::$clock.get_ptr_mut(hand.0) {
                    // SAFETY: as in `clock`.
                    let place = unsafe { &mut *place };
                    place.deadline = deadline;
                    place.key.assign(key);
                }
            }

            #[inline(always)]
            fn advance_clock(&self, slot: u16, interface: &InterfaceVersion) -> ClockHand {
                let hand = maps::HANDS
                    .get(u32::from(slot) * 2 + $index)
                    .map_or(0, |hand| hand.fetch_add(1));
                #[expect(clippy::cast_possible_truncation, reason = "of a hand that goes round")]
                let step = (hand as u32).checked_rem(interface.flow_limit).unwrap_or(0);
                ClockHand(interface.flow_base.wrapping_add(step) & globals::clock_mask())
            }

            #[inline(always)]
            fn add_others(&self, delta: i64) -> i64 {
                let delta = delta.cast_unsigned();
                maps::OTHERS
                    .get($index)
                    .map_or(i64::MAX, |others| others.fetch_add(delta).cast_signed())
            }

            #[inline(always)]
            fn room(&self) -> u32 {
                globals::clock_mask().wrapping_add(1)
            }

            #[inline(always)]
            fn host_class(&self, address: $address) -> Option<u32> {
                let key = HostKey::new(globals::vpc(), address);
                // SAFETY: the element may be recycled under the read, never unmapped; a class slot is
                // one word.
                unsafe { maps::$hosts.get(&key) }.copied()
            }

            #[inline(always)]
            fn cidr_class(&self, address: $address) -> Option<u32> {
                let data = AddressKey::new(globals::vpc(), address);
                let bits = sg_common::abi::VPC_BITS + <$address as Address>::BITS;
                maps::$cidrs.get(&Key::new(bits, data)).copied()
            }

            #[inline(always)]
            fn own(&self, address: $address) -> Option<u32> {
                let data = AddressKey::new(globals::slot().into(), address);
                let bits = sg_common::abi::VPC_BITS + <$address as Address>::BITS;
                maps::$own.get(&Key::new(bits, data)).copied()
            }
        }
    };
}

address_tables!(
    V4,
    0,
    FLOWS_V4,
    OPENED_IN_V4,
    OPENED_OUT_V4,
    FRAGMENTS_V4,
    CLOCK_V4,
    HOSTS_V4,
    CIDRS_V4,
    OWN_V4
);
address_tables!(
    V6,
    1,
    FLOWS_V6,
    OPENED_IN_V6,
    OPENED_OUT_V6,
    FRAGMENTS_V6,
    CLOCK_V6,
    HOSTS_V6,
    CIDRS_V6,
    OWN_V6
);

impl Tables for KernelTables {
    #[inline(always)]
    fn attachment(&self) -> Attachment {
        Attachment { slot: globals::slot(), vpc: globals::vpc(), side: globals::side() }
    }

    #[inline(always)]
    fn grace_until(&self) -> u64 {
        globals::grace_until()
    }

    #[inline(always)]
    fn generation(&self) -> u64 {
        maps::GENERATION.get_ptr(0).map_or(0, |generation| {
            // SAFETY: a mapped word; volatile, because userspace writes it at any moment.
            unsafe { generation.read_volatile() }
        })
    }

    #[inline(always)]
    fn interface(&self, generation: u64) -> Option<&InterfaceVersion> {
        let interface = maps::INTERFACES.get(globals::slot().into())?;
        // Userspace writes the other one only, until no program reads this one any more. By index and not by
        // a branch: behind a branch the verifier would follow all the rest twice.
        #[expect(clippy::cast_possible_truncation, reason = "one bit")]
        interface.versions.get(generation as usize & 1)
    }

    #[inline(always)]
    fn class(&self, class_slot: u32) -> ClassWord {
        maps::CLASSES.get_ptr(class_slot).map_or(ClassWord(0), |word| {
            // SAFETY: as in `generation`.
            unsafe { word.read_volatile() }
        })
    }

    #[inline(always)]
    fn permit(&self, key: &PermitKey) -> Option<Permit> {
        maps::PERMITS.get(Key::new(PermitKey::BITS, *key)).copied()
    }

    #[inline(always)]
    fn count(&self, direction: Direction, reason: Reason, length: u32) {
        let index = counter_index(globals::slot(), direction, reason);
        if let Some(counter) = maps::COUNTERS.get_ptr_mut(index) {
            // SAFETY: the element is this processor's own, and programs do not nest on it.
            let Counter { packets, bytes } = unsafe { &mut *counter };
            *packets += 1;
            *bytes += u64::from(length);
        }
    }

    #[inline(always)]
    fn hit(&self, rule: u32, length: u32, now: u64) {
        if let Some(counter) = maps::RULE_HITS.get_ptr_mut(rule & globals::rule_mask()) {
            // SAFETY: as in `count`. Userspace gives the element to another rule only where a grace period
            // ago it was nobody's already.
            unsafe { &mut *counter }.add(rule, length, now);
        }
    }

    #[inline(always)]
    fn emit(&self, time: u64, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        stream::emit(time, kind, fill);
    }
}
