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
use sg_common::abi::{ClassWord, Interface, InterfaceVersion};

use super::address_tables::{ClassTable, Family};
use super::bpf::wait_for_programs;
use super::journal::Begun;
use super::maps::PolicyMaps;
use super::pod::Abi;
use super::{KernelError, Sizes};
use crate::compile::{Capacities, PermitPrefix, TableSpec};
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

    /// Does what a change did that took so many elements and gave these back.
    pub(super) fn follow(&mut self, taken: usize, freed: &[u32]) {
        for _ in 0..taken {
            self.take();
        }
        self.free.extend_from_slice(freed);
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
    /// Elements of `classes` that were written and stay.
    words: Vec<(u32, Versions)>,
    generation: u64,
    /// The elements of `classes` that the change gives back.
    pub(super) freed: Vec<u32>,
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
        let Changes { add_permits, add_rules, v4, v6, .. } = &changes;
        for (map, needed, room, option) in [
            ("INTERFACES", new.interface_slots(), sizes.interfaces, "interfaces"),
            ("FLOWS", new.shared_flows(), sizes.flows, "flows"),
            ("CLASSES", slots.next as usize + fresh, sizes.classes, "addresses"),
            ("RULE_HITS", before.rules + add_rules.len(), sizes.rules, "rules"),
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

    /// How many elements of `classes` it takes.
    pub(super) fn taken(&self) -> usize {
        self.changes.v4.inserts() + self.changes.v6.inserts()
    }

    /// What it writes.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Prepared {
    /// Writes everything that changes nothing yet.
    pub(super) fn write(
        _begun: &Begun,
        mut maps: PolicyMaps,
        Planned { changes }: Planned,
        slots: &Slots,
    ) -> Result<Self, KernelError> {
        let generation = maps.generation()?;
        let mut slots = slots.clone();
        let permits = changes.add_permits.iter().map(|(permit, rule)| (permit.key(), *rule));
        let (keys, rules): (Vec<_>, Vec<_>) =
            permits.map(|((bits, key), rule)| (Key::new(bits, Abi(key)), rule)).unzip();
        // A rule's counters are its own before a packet can count to it.
        maps.rules.give(&changes.add_rules)?;
        maps.batches.permits.update(&keys, &rules)?;
        let (freed, words) = (Vec::new(), Vec::new());
        let mut stage = Stage { maps: &maps, slots: &mut slots, freed, words, generation };
        stage.family::<std::net::Ipv4Addr>(&changes.v4)?;
        stage.family::<std::net::Ipv6Addr>(&changes.v6)?;
        let Stage { freed, words, .. } = stage;
        slots.free.extend_from_slice(&freed);
        for (slot, before, after) in &changes.interfaces {
            set_interface(&mut maps, *slot, versions(generation, *before, *after))?;
        }
        Ok(Self { maps, changes, words, generation, freed, slots })
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
        self.level()
    }

    /// Gives the idle version the live one's content and removes what nobody can meet.
    fn level(&mut self) -> Result<(), KernelError> {
        let Self { maps, changes, words, .. } = self;
        for (slot, _before, after) in &changes.interfaces {
            set_interface(maps, *slot, [*after, *after])?;
        }
        let both = |&(slot, Versions { new, .. }): &_| (slot, ClassWord::new([new; 2]));
        set_classes(maps, words.iter().map(both))?;
        remove_keys::<std::net::Ipv4Addr>(maps, &changes.v4)?;
        remove_keys::<std::net::Ipv6Addr>(maps, &changes.v6)?;
        let permits = changes.remove_permits.iter().map(PermitPrefix::key);
        let permits: Vec<_> = permits.map(|(bits, key)| Key::new(bits, Abi(key))).collect();
        maps.batches.permits.remove(&permits)?;
        maps.rules.take_back(&changes.remove_rules)?;
        // The freed elements of `classes` and of the rules' counters may be reused by the next change: nobody may still read them.
        wait_for_programs()
    }
}

/// Writing the inserts and the idle versions.
struct Stage<'a> {
    maps: &'a PolicyMaps,
    slots: &'a mut Slots,
    /// Elements that the change gives back: until its flip packets are judged by them, so none is taken again
    /// by the same change.
    freed: Vec<u32>,
    /// Elements that stay, and what they hold.
    words: Vec<(u32, Versions)>,
    generation: u64,
}

impl Stage<'_> {
    fn family<A: Family>(&mut self, changes: &AddressChanges<A>) -> Result<(), KernelError> {
        self.table(&changes.hosts, A::hosts(self.maps))?;
        self.table(&changes.cidrs, A::cidrs(self.maps))?;
        self.table(&changes.own, A::own(self.maps))
    }

    fn table<K: Copy, M: ClassTable<K>>(
        &mut self,
        changes: &KeyChanges<K>,
        table: &M,
    ) -> Result<(), KernelError> {
        let mut words = Vec::with_capacity(changes.insert.len());
        for (_key, versions) in &changes.insert {
            words.push((self.slots.take(), *versions));
        }
        // Before anything leads there.
        self.set_classes(&words)?;
        let keys: Vec<K> = changes.insert.iter().map(|(key, _)| *key).collect();
        let slots: Vec<u32> = words.iter().map(|(slot, _)| *slot).collect();
        table.add(&keys, &slots)?;
        let mut others = Vec::new();
        for (key, versions) in &changes.change {
            others.push((table.slot(key)?, *versions));
        }
        words.extend_from_slice(&others);
        for (key, versions) in &changes.remove {
            let slot = table.slot(key)?;
            others.push((slot, *versions));
            self.freed.push(slot);
        }
        self.set_classes(&others)?;
        self.words.append(&mut words);
        Ok(())
    }

    fn set_classes(&self, words: &[(u32, Versions)]) -> Result<(), KernelError> {
        let word = |&(slot, versions): &_| (slot, class_word(self.generation, versions));
        set_classes(self.maps, words.iter().map(word))
    }
}

fn remove_keys<A: Family>(
    maps: &PolicyMaps,
    changes: &AddressChanges<A>,
) -> Result<(), KernelError> {
    A::hosts(maps).remove(&keys(&changes.hosts.remove))?;
    A::cidrs(maps).remove(&keys(&changes.cidrs.remove))?;
    A::own(maps).remove(&keys(&changes.own.remove))
}

fn keys<K: Copy>(changes: &[(K, Versions)]) -> Vec<K> {
    changes.iter().map(|(key, _versions)| *key).collect()
}

/// `old` in the version that counts in this generation, `new` in the other.
fn versions<T>(generation: u64, old: T, new: T) -> [T; 2] {
    if generation & 1 == 0 { [old, new] } else { [new, old] }
}

fn class_word(generation: u64, class: Versions) -> ClassWord {
    ClassWord::new(versions(generation, class.old, class.new))
}

fn set_classes(
    maps: &PolicyMaps,
    mut words: impl Iterator<Item = (u32, ClassWord)>,
) -> Result<(), KernelError> {
    words.try_for_each(|(slot, word)| maps.classes.set(slot, word))
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
