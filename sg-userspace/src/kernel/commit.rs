//! Writing a policy into the maps: all interfaces at once, or not at all.
//!
//! One generation word selects between two versions of every class and interface. A change adds the permits
//! of new policies and classes, writes the idle version of what differs, and flips the word with one write:
//! a packet meets the old policy or the new one. After a grace period the idle version is levelled, so that
//! both say the same until the next change, and what nobody can meet any more is removed. No step replaces
//! an element of a hash table: such an element may be reused under a reader.

use std::collections::BTreeSet;

use aya::maps::lpm_trie::Key;
use serde::{Deserialize, Serialize};
use sg_common::abi::{AddressKey, ClassWord, HostKey, Interface, InterfaceVersion};

use super::bpf::wait_for_programs;
use super::maps::{Hash, Lpm, PolicyMaps};
use super::pod::Abi;
use super::{KernelError, Sizes};
use crate::compile::{Capacities, IpAddress, Prefix, TableSpec};
use crate::diff::{AddressChanges, Changes, KeyChanges, Versions, diff};

/// Which elements of `classes` are free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Every element from here on is.
    next: u32,
    /// And these before it.
    free: Vec<u32>,
}

impl Slots {
    /// With exactly these elements taken.
    pub(super) fn from_used(used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(0, |last| last + 1);
        Self { next, free: (0..next).filter(|slot| !used.contains(slot)).collect() }
    }

    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

/// A change that is written but does not count yet.
pub(super) struct Prepared {
    maps: PolicyMaps,
    changes: Changes,
    generation: u64,
    /// The elements of `classes` as they are after the change.
    pub(super) slots: Slots,
}

/// A change that fits: what it writes, known before the first write.
pub(super) struct Planned {
    changes: Changes,
}

impl Planned {
    /// The change from one spec to another, unless it does not fit.
    pub(super) fn between(
        old: &TableSpec,
        new: &TableSpec,
        slots: &Slots,
        sizes: &Sizes,
    ) -> Result<Self, KernelError> {
        Self::of(diff(old, new), &old.capacities(), new, slots, sizes)
    }

    /// These changes of tables that hold `before`, unless they do not fit. Additions come first and removals
    /// last, so both must fit together.
    pub(super) fn of(
        changes: Changes,
        before: &Capacities,
        new: &TableSpec,
        slots: &Slots,
        sizes: &Sizes,
    ) -> Result<Self, KernelError> {
        let inserts = changes.v4.inserts() + changes.v6.inserts();
        let fresh = inserts.saturating_sub(slots.free.len());
        let Changes { add_permits, v4, v6, .. } = &changes;
        for (map, needed, room, option) in [
            ("INTERFACES", new.interface_slots(), sizes.interfaces, "interfaces"),
            ("FLOWS", new.shared_flows(), sizes.flows, "flows"),
            ("CLASSES", slots.next as usize + fresh, sizes.classes, "addresses"),
            ("PERMITS", before.permits + add_permits.len(), sizes.permits, "permits"),
            ("HOSTS_V4", before.hosts_v4 + v4.hosts.insert.len(), sizes.hosts, "members"),
            ("HOSTS_V6", before.hosts_v6 + v6.hosts.insert.len(), sizes.hosts, "members"),
            ("CIDRS_V4", before.cidrs_v4 + v4.cidrs.insert.len(), sizes.cidrs, "cidrs"),
            ("CIDRS_V6", before.cidrs_v6 + v6.cidrs.insert.len(), sizes.cidrs, "cidrs"),
            ("OWN_V4", before.own_v4 + v4.own.insert.len(), sizes.own, "own-addresses"),
            ("OWN_V6", before.own_v6 + v6.own.insert.len(), sizes.own, "own-addresses"),
        ] {
            if needed > room as usize {
                return Err(KernelError::Capacity { map, needed: needed as u64, room, option });
            }
        }
        Ok(Self { changes })
    }

    /// What it writes.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Prepared {
    /// Writes everything that changes nothing yet.
    pub(super) fn write(
        mut maps: PolicyMaps,
        Planned { changes }: Planned,
        slots: &Slots,
    ) -> Result<Self, KernelError> {
        let generation = maps.generation()?;
        let mut slots = slots.clone();
        for (permit, rule) in &changes.add_permits {
            let (bits, key) = permit.key();
            maps.permits
                .insert(&Key::new(bits, Abi(key)), rule, 0)
                .map_err(|e| KernelError::map("write", "PERMITS", e))?;
        }
        let mut stage = Stage { maps: &mut maps, slots: &mut slots, freed: Vec::new(), generation };
        stage.family::<std::net::Ipv4Addr>(&changes.v4)?;
        stage.family::<std::net::Ipv6Addr>(&changes.v6)?;
        let Stage { freed, .. } = stage;
        slots.free.extend(freed);
        for (slot, before, after) in &changes.interfaces {
            set_interface(&mut maps, *slot, versions(generation, *before, *after))?;
        }
        Ok(Self { maps, changes, generation, slots })
    }

    /// The generation that the change brings.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Makes the change count, and levels what it leaves behind.
    pub(super) fn flip(mut self) -> Result<(), KernelError> {
        let next = self.next_generation();
        self.maps
            .generation
            .set(0, next, 0)
            .map_err(|e| KernelError::map("write", "GENERATION", e))?;
        if self.changes.is_empty() {
            return Ok(());
        }
        wait_for_programs()?;
        level(&mut self.maps, &self.changes)
    }
}

/// Gives the idle version the live one's content and removes what nobody can meet.
fn level(maps: &mut PolicyMaps, changes: &Changes) -> Result<(), KernelError> {
    for (slot, _before, after) in &changes.interfaces {
        set_interface(maps, *slot, [*after, *after])?;
    }
    level_family::<std::net::Ipv4Addr>(maps, &changes.v4)?;
    level_family::<std::net::Ipv6Addr>(maps, &changes.v6)?;
    for permit in &changes.remove_permits {
        let (bits, key) = permit.key();
        maps.permits
            .remove(&Key::new(bits, Abi(key)))
            .map_err(|e| KernelError::map("write", "PERMITS", e))?;
    }
    // The freed elements of `classes` may be reused by the next change: nobody may still read them.
    wait_for_programs()
}

/// Writing the inserts and the idle versions.
struct Stage<'a> {
    maps: &'a mut PolicyMaps,
    slots: &'a mut Slots,
    /// Elements that the change gives back: until its flip packets are judged by them, so none is taken again
    /// by the same change.
    freed: Vec<u32>,
    generation: u64,
}

impl Stage<'_> {
    fn family<A: Family>(&mut self, changes: &AddressChanges<A>) -> Result<(), KernelError> {
        self.table(&changes.hosts, A::hosts)?;
        self.table(&changes.cidrs, A::cidrs)?;
        self.table(&changes.own, A::own)
    }

    fn table<K: Copy, M: ClassTable<K>>(
        &mut self,
        changes: &KeyChanges<K>,
        table: fn(&mut PolicyMaps) -> &mut M,
    ) -> Result<(), KernelError> {
        for (key, versions) in &changes.insert {
            let slot = self.slots.take();
            set_class(self.maps, slot, class_word(self.generation, *versions))?;
            table(self.maps).add(key, slot)?;
        }
        for (key, versions) in &changes.change {
            let slot = table(self.maps).slot(key)?;
            set_class(self.maps, slot, class_word(self.generation, *versions))?;
        }
        for (key, versions) in &changes.remove {
            let slot = table(self.maps).slot(key)?;
            set_class(self.maps, slot, class_word(self.generation, *versions))?;
            self.freed.push(slot);
        }
        Ok(())
    }
}

fn level_family<A: Family>(
    maps: &mut PolicyMaps,
    changes: &AddressChanges<A>,
) -> Result<(), KernelError> {
    level_table(maps, &changes.hosts, A::hosts)?;
    level_table(maps, &changes.cidrs, A::cidrs)?;
    level_table(maps, &changes.own, A::own)
}

fn level_table<K: Copy, M: ClassTable<K>>(
    maps: &mut PolicyMaps,
    changes: &KeyChanges<K>,
    table: fn(&mut PolicyMaps) -> &mut M,
) -> Result<(), KernelError> {
    for (key, versions) in changes.insert.iter().chain(&changes.change) {
        let slot = table(maps).slot(key)?;
        set_class(maps, slot, ClassWord::new([versions.new; 2]))?;
    }
    for (key, _versions) in &changes.remove {
        table(maps).take(key)?;
    }
    Ok(())
}

/// `old` in the version that counts in this generation, `new` in the other.
fn versions<T>(generation: u64, old: T, new: T) -> [T; 2] {
    if generation & 1 == 0 { [old, new] } else { [new, old] }
}

fn class_word(generation: u64, class: Versions) -> ClassWord {
    ClassWord::new(versions(generation, class.old, class.new))
}

fn set_class(maps: &mut PolicyMaps, slot: u32, word: ClassWord) -> Result<(), KernelError> {
    maps.classes.set(slot, Abi(word), 0).map_err(|e| KernelError::map("write", "CLASSES", e))
}

fn set_interface(
    maps: &mut PolicyMaps,
    slot: u16,
    versions: [InterfaceVersion; 2],
) -> Result<(), KernelError> {
    let failed = |e| KernelError::map("write", "INTERFACES", e);
    let interface = Interface { versions };
    maps.interfaces.set(slot.into(), Abi(interface), 0).map_err(failed)
}

/// A table that leads from addresses to elements of `classes`.
trait ClassTable<K> {
    fn add(&mut self, key: &K, slot: u32) -> Result<(), KernelError>;
    fn slot(&self, key: &K) -> Result<u32, KernelError>;
    fn take(&mut self, key: &K) -> Result<(), KernelError>;
}

impl<A: IpAddress> ClassTable<Prefix<A>> for Lpm<AddressKey<A::Wire>>
where
    Abi<AddressKey<A::Wire>>: aya::Pod,
{
    fn add(&mut self, key: &Prefix<A>, slot: u32) -> Result<(), KernelError> {
        let (bits, data) = key.key();
        self.insert(&Key::new(bits, Abi(data)), slot, 0)
            .map_err(|e| KernelError::map("write", "an address table", e))
    }

    fn slot(&self, key: &Prefix<A>) -> Result<u32, KernelError> {
        let (bits, data) = key.key();
        self.get(&Key::new(bits, Abi(data)), 0)
            .map_err(|e| KernelError::map("read", "an address table", e))
    }

    fn take(&mut self, key: &Prefix<A>) -> Result<(), KernelError> {
        let (bits, data) = key.key();
        self.remove(&Key::new(bits, Abi(data)))
            .map_err(|e| KernelError::map("write", "an address table", e))
    }
}

impl<A: IpAddress> ClassTable<(u32, A)> for Hash<HostKey<A::Wire>, u32>
where
    Abi<HostKey<A::Wire>>: aya::Pod,
{
    fn add(&mut self, key: &(u32, A), slot: u32) -> Result<(), KernelError> {
        let key = HostKey { vpc: key.0, address: key.1.wire() };
        self.insert(Abi(key), slot, 0).map_err(|e| KernelError::map("write", "a host table", e))
    }

    fn slot(&self, key: &(u32, A)) -> Result<u32, KernelError> {
        let key = HostKey { vpc: key.0, address: key.1.wire() };
        self.get(&Abi(key), 0).map_err(|e| KernelError::map("read", "a host table", e))
    }

    fn take(&mut self, key: &(u32, A)) -> Result<(), KernelError> {
        let key = HostKey { vpc: key.0, address: key.1.wire() };
        self.remove(&Abi(key)).map_err(|e| KernelError::map("write", "a host table", e))
    }
}

/// The tables of an address family.
trait Family: IpAddress {
    type Hosts: ClassTable<(u32, Self)>;
    type Prefixes: ClassTable<Prefix<Self>>;

    fn hosts(maps: &mut PolicyMaps) -> &mut Self::Hosts;
    fn cidrs(maps: &mut PolicyMaps) -> &mut Self::Prefixes;
    fn own(maps: &mut PolicyMaps) -> &mut Self::Prefixes;
}

impl Family for std::net::Ipv4Addr {
    type Hosts = Hash<HostKey<sg_common::V4>, u32>;
    type Prefixes = Lpm<AddressKey<sg_common::V4>>;

    fn hosts(maps: &mut PolicyMaps) -> &mut Self::Hosts {
        &mut maps.hosts_v4
    }

    fn cidrs(maps: &mut PolicyMaps) -> &mut Self::Prefixes {
        &mut maps.cidrs_v4
    }

    fn own(maps: &mut PolicyMaps) -> &mut Self::Prefixes {
        &mut maps.own_v4
    }
}

impl Family for std::net::Ipv6Addr {
    type Hosts = Hash<HostKey<sg_common::V6>, u32>;
    type Prefixes = Lpm<AddressKey<sg_common::V6>>;

    fn hosts(maps: &mut PolicyMaps) -> &mut Self::Hosts {
        &mut maps.hosts_v6
    }

    fn cidrs(maps: &mut PolicyMaps) -> &mut Self::Prefixes {
        &mut maps.cidrs_v6
    }

    fn own(maps: &mut PolicyMaps) -> &mut Self::Prefixes {
        &mut maps.own_v6
    }
}
