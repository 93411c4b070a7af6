//! What a change of policy writes: the difference of two table specs, in the order in which it is safe.
//!
//! Numbers of policies and classes never change their meaning between two specs, so permits are only ever
//! added and removed. Addresses keep their element and change its word. What an added or removed prefix
//! hides or uncovers is worked out here: a longest-prefix match returns one entry, so a new entry must give
//! the old answer until the flip, and one that goes must give the new answer after it.

use std::collections::{BTreeMap, BTreeSet};

use sg_common::abi::{CLASS_NONE, InterfaceVersion};

use crate::compile::{AddressSpec, IpAddress, PermitPrefix, Prefix, TableSpec};

/// The class that an address leads to, before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Before the flip.
    pub old: u32,
    /// After the flip.
    pub new: u32,
}

/// Changes of one address table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChanges<K> {
    /// Keys that are added.
    pub insert: Vec<(K, Versions)>,
    /// Keys that stay and lead elsewhere.
    pub change: Vec<(K, Versions)>,
    /// Keys that go.
    pub remove: Vec<(K, Versions)>,
}

/// Changes of the address tables of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressChanges<A: IpAddress> {
    /// Of `hosts`.
    pub hosts: KeyChanges<(u32, A)>,
    /// Of `cidrs`.
    pub cidrs: KeyChanges<Prefix<A>>,
    /// Of `own`; the class of an own address is 1.
    pub own: KeyChanges<Prefix<A>>,
}

/// Everything that a change writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Permits to add before the flip.
    pub add_permits: Vec<(PermitPrefix, u32)>,
    /// Permits to remove when nobody can meet them any more.
    pub remove_permits: Vec<PermitPrefix>,
    /// Rules that come: their hits are counted from the flip on.
    pub add_rules: Vec<u32>,
    /// Rules that go.
    pub remove_rules: Vec<u32>,
    /// IPv4 addresses.
    pub v4: AddressChanges<std::net::Ipv4Addr>,
    /// IPv6 addresses.
    pub v6: AddressChanges<std::net::Ipv6Addr>,
    /// Interfaces whose version changes, by slot: before, after. A policy of 0 means none.
    pub interfaces: Vec<(u16, InterfaceVersion, InterfaceVersion)>,
}

impl<K> Default for KeyChanges<K> {
    fn default() -> Self {
        Self { insert: Vec::new(), change: Vec::new(), remove: Vec::new() }
    }
}

impl<K> KeyChanges<K> {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.insert.is_empty() && self.change.is_empty() && self.remove.is_empty()
    }

    fn writes(&self) -> usize {
        self.insert.len() + self.change.len() + self.remove.len()
    }
}

impl<A: IpAddress> AddressChanges<A> {
    fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.cidrs.is_empty() && self.own.is_empty()
    }

    fn writes(&self) -> usize {
        self.hosts.writes() + self.cidrs.writes() + self.own.writes()
    }

    /// How many elements of `classes` the change takes before it gives any back.
    #[must_use]
    pub fn inserts(&self) -> usize {
        self.hosts.insert.len() + self.cidrs.insert.len() + self.own.insert.len()
    }
}

impl Changes {
    /// How many elements of the kernel's tables come, change or go.
    #[must_use]
    pub fn writes(&self) -> usize {
        let rules = self.add_rules.len() + self.remove_rules.len();
        let permits = self.add_permits.len() + self.remove_permits.len();
        rules + permits + self.v4.writes() + self.v6.writes() + self.interfaces.len()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add_permits.is_empty()
            && self.remove_permits.is_empty()
            && self.add_rules.is_empty()
            && self.remove_rules.is_empty()
            && self.v4.is_empty()
            && self.v6.is_empty()
            && self.interfaces.is_empty()
    }
}

/// The changes from one spec to another.
#[must_use]
pub fn diff(old: &TableSpec, new: &TableSpec) -> Changes {
    let permits = |these: &TableSpec, those: &TableSpec| -> Vec<(PermitPrefix, u32)> {
        let missing = these.permits.iter().filter(|(key, _)| !those.permits.contains_key(key));
        missing.map(|(&key, &rule)| (key, rule)).collect()
    };
    let rules = |these: &TableSpec, those: &TableSpec| -> Vec<u32> {
        these.rules.keys().filter(|number| !those.rules.contains_key(number)).copied().collect()
    };
    Changes {
        add_permits: permits(new, old),
        remove_permits: permits(old, new).into_iter().map(|(key, _rule)| key).collect(),
        add_rules: rules(new, old),
        remove_rules: rules(old, new),
        v4: address_changes(&old.v4, &new.v4),
        v6: address_changes(&old.v6, &new.v6),
        interfaces: interface_changes(old, new),
    }
}

fn interface_changes(
    old: &TableSpec,
    new: &TableSpec,
) -> Vec<(u16, InterfaceVersion, InterfaceVersion)> {
    let slots: BTreeSet<u16> =
        old.interfaces.keys().chain(new.interfaces.keys()).copied().collect();
    let version = |spec: &TableSpec, slot| {
        spec.interfaces.get(&slot).map_or_else(InterfaceVersion::default, |one| one.version)
    };
    slots
        .into_iter()
        .map(|slot| (slot, version(old, slot), version(new, slot)))
        .filter(|(_, before, after)| before != after)
        .collect()
}

fn address_changes<A: IpAddress>(old: &AddressSpec<A>, new: &AddressSpec<A>) -> AddressChanges<A> {
    // An address that has no entry of its own in `hosts` leads nowhere.
    let nowhere = |_table: &BTreeMap<(u32, A), u32>, _key: &(u32, A)| CLASS_NONE;
    let owned = |own: &BTreeSet<Prefix<A>>| own.iter().map(|&prefix| (prefix, 1)).collect();
    AddressChanges {
        hosts: key_changes(&old.hosts, &new.hosts, nowhere),
        cidrs: key_changes(&old.cidrs, &new.cidrs, covering),
        own: key_changes(&owned(&old.own), &owned(&new.own), covering),
    }
}

/// `without` says where a key leads in a table that lacks it.
fn key_changes<K: Copy + Ord>(
    old: &BTreeMap<K, u32>,
    new: &BTreeMap<K, u32>,
    without: impl Fn(&BTreeMap<K, u32>, &K) -> u32,
) -> KeyChanges<K> {
    let mut changes = KeyChanges { insert: Vec::new(), change: Vec::new(), remove: Vec::new() };
    for (key, &class) in new {
        match old.get(key) {
            None => {
                let before = without(old, key);
                changes.insert.push((*key, Versions { old: before, new: class }));
            }
            Some(&before) if before != class => {
                changes.change.push((*key, Versions { old: before, new: class }));
            }
            Some(_same) => {}
        }
    }
    for (key, &before) in old {
        if !new.contains_key(key) {
            let after = without(new, key);
            changes.remove.push((*key, Versions { old: before, new: after }));
        }
    }
    changes
}

/// The class of the longest prefix of the table that holds the whole of `prefix`.
fn covering<A: IpAddress>(table: &BTreeMap<Prefix<A>, u32>, prefix: &Prefix<A>) -> u32 {
    if table.is_empty() {
        return CLASS_NONE;
    }
    (0..prefix.length)
        .rev()
        .find_map(|length| {
            let address = prefix.address.masked(length);
            table.get(&Prefix { length, address, ..*prefix }).copied()
        })
        .unwrap_or(CLASS_NONE)
}
