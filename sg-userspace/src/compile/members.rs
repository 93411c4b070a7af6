//! A change of members alone, compiled by itself: it costs what the change costs, however large the group.
//!
//! A member that comes, goes or changes groups moves single addresses from class to class. Rules, policies and
//! prefixes stay as they are; a class that nobody had brings its permits, one that nobody has any more takes them
//! along. [`Members`] knows of compiled tables what such a change must find without looking for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sg_common::abi::{CLASS_NONE, InterfaceVersion};

use super::numbering::first_free_class;
use super::permits::{Claim, enter};
use super::prefixes::patterns;
use super::roles::LINK_LOCAL;
use super::rule_info::{PeerName, PeerSpec, RuleIdentity};
use super::spec::{AddressSpec, IpAddress, PermitPrefix, TableSpec};
use crate::diff::{AddressChanges, Changes, KeyChanges, Versions};

/// An address, and all groups that it is a member of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Name of the VPC.
    pub vpc: String,
    /// The address.
    pub address: IpAddr,
    /// Names of the groups; none: it has gone.
    pub groups: Vec<String>,
}

/// What is known of compiled tables.
#[derive(Debug)]
pub struct Members {
    /// Numbers of VPCs with local interfaces.
    vpcs: HashMap<String, u32>,
    /// Numbers of the groups that local rules name, by VPC.
    groups: HashMap<(u32, String), u32>,
    /// The same numbers.
    is_group: HashSet<u32>,
    /// Numbers of classes.
    classes: HashMap<Vec<u32>, u32>,
    /// How many entries of address tables lead to each.
    uses: HashMap<u32, usize>,
    /// The policies and rules that name each peer.
    named_by: HashMap<u32, BTreeMap<u32, Vec<u32>>>,
}

/// What a change of members makes of the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// IPv4: VPC, address, class before and after.
    v4: Vec<((u32, Ipv4Addr), Moved)>,
    /// IPv6.
    v6: Vec<((u32, Ipv6Addr), Moved)>,
    /// Classes that nobody had.
    add_classes: Vec<(u32, Vec<u32>)>,
    /// Classes that nobody has any more.
    remove_classes: Vec<u32>,
    /// Their permits.
    add_permits: Vec<(PermitPrefix, u32)>,
    /// Theirs.
    remove_permits: Vec<PermitPrefix>,
    /// Slots of the interfaces that see fewer peers, and their new epochs.
    epochs: Vec<(u16, u16)>,
    /// Where the search for a fresh class goes on.
    next_class: u32,
}

/// Number of a class before and after; [`CLASS_NONE`]: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    old: u32,
    new: u32,
}

impl Members {
    /// Looks through the tables once.
    #[must_use]
    pub fn of(spec: &TableSpec) -> Self {
        let mut uses = HashMap::new();
        let of_family = family_classes(&spec.v4).chain(family_classes(&spec.v6));
        of_family.for_each(|class| *uses.entry(class).or_default() += 1);
        let group = |(&number, peer): (&u32, &PeerSpec)| match &peer.name {
            PeerName::Group(name) => Some(((peer.vpc, name.clone()), number)),
            PeerName::Cidr(_) | PeerName::PrefixList(_) => None,
        };
        let groups: HashMap<_, _> = spec.peers.iter().filter_map(group).collect();
        Self {
            vpcs: spec.vpcs.iter().map(|(&number, name)| (name.clone(), number)).collect(),
            is_group: groups.values().copied().collect(),
            groups,
            classes: spec.classes.iter().map(|(&class, peers)| (peers.clone(), class)).collect(),
            uses,
            named_by: named_by(spec),
        }
    }

    /// What these memberships make of the tables. Each address is named once.
    #[must_use]
    pub fn patch(&self, spec: &TableSpec, memberships: &[Membership]) -> Patch {
        let mut draft = Draft {
            members: self,
            spec,
            patch: Patch { next_class: spec.next.class, ..Patch::default() },
            fresh: HashMap::new(),
            uses: BTreeMap::new(),
            narrowed: BTreeSet::new(),
        };
        for Membership { vpc, address, groups } in memberships {
            // Elsewhere nothing is compiled.
            let Some(&vpc) = self.vpcs.get(vpc) else { continue };
            match *address {
                IpAddr::V4(address) => {
                    let moved = draft.moved(&spec.v4, (vpc, address), groups);
                    draft.patch.v4.extend(moved.map(|moved| ((vpc, address), moved)));
                }
                IpAddr::V6(address) => {
                    let moved = draft.moved(&spec.v6, (vpc, address), groups);
                    draft.patch.v6.extend(moved.map(|moved| ((vpc, address), moved)));
                }
            }
        }
        draft.finish()
    }

    /// Follows a change of the tables, which is still to come: they have the classes that are about to go.
    pub fn follow(&mut self, spec: &TableSpec, patch: &Patch) {
        for moved in patch.v4.iter().map(|(_, it)| it).chain(patch.v6.iter().map(|(_, it)| it)) {
            if let Some(uses) = self.uses.get_mut(&moved.old) {
                *uses -= 1;
            }
            if moved.new != CLASS_NONE {
                *self.uses.entry(moved.new).or_default() += 1;
            }
        }
        self.classes.extend(patch.add_classes.iter().map(|(class, of)| (of.clone(), *class)));
        for class in &patch.remove_classes {
            self.uses.remove(class);
            if let Some(peers) = spec.classes.get(class) {
                self.classes.remove(peers);
            }
        }
    }
}

fn family_classes<A: IpAddress>(family: &AddressSpec<A>) -> impl Iterator<Item = u32> {
    family.hosts.values().chain(family.cidrs.values()).copied()
}

fn named_by(spec: &TableSpec) -> HashMap<u32, BTreeMap<u32, Vec<u32>>> {
    let numbers: HashMap<&PeerSpec, u32> =
        spec.peers.iter().map(|(&number, peer)| (peer, number)).collect();
    let mut named_by: HashMap<u32, BTreeMap<u32, Vec<u32>>> = HashMap::new();
    for (&policy, content) in &spec.policies {
        for &rule in &content.rules {
            let Some(info) = spec.rules.get(&rule) else { continue };
            let RuleIdentity { peer, everybody, .. } = &info.identity;
            let link_local = everybody.link_local.then_some(PeerName::Cidr(LINK_LOCAL));
            for name in std::iter::once(peer.clone()).chain(link_local) {
                let peer = PeerSpec { vpc: content.vpc, name };
                if let Some(&number) = numbers.get(&peer) {
                    named_by.entry(number).or_default().entry(policy).or_default().push(rule);
                }
            }
        }
    }
    named_by
}

/// A patch in the making.
struct Draft<'a> {
    members: &'a Members,
    spec: &'a TableSpec,
    patch: Patch,
    /// Classes that the patch brings.
    fresh: HashMap<Vec<u32>, u32>,
    /// How many more, or fewer, entries lead to a class.
    uses: BTreeMap<u32, i64>,
    /// Peers that an address has lost.
    narrowed: BTreeSet<u32>,
}

impl Draft<'_> {
    fn moved<A: IpAddress>(
        &mut self,
        family: &AddressSpec<A>,
        key: (u32, A),
        groups: &[String],
    ) -> Option<Moved> {
        let number = |name: &String| self.members.groups.get(&(key.0, name.clone())).copied();
        let old = family.hosts.get(&key).copied().unwrap_or(CLASS_NONE);
        let before = self.spec.classes.get(&old).map_or(&[][..], Vec::as_slice);
        // That rules name the address itself does not depend on its groups.
        let named = before.iter().copied().filter(|peer| !self.members.is_group.contains(peer));
        let peers: BTreeSet<u32> = groups.iter().filter_map(number).chain(named).collect();
        self.narrowed.extend(before.iter().filter(|peer| !peers.contains(peer)));
        let new =
            if peers.is_empty() { CLASS_NONE } else { self.class(peers.into_iter().collect()) };
        if old == new {
            return None;
        }
        for (class, by) in [(old, -1), (new, 1)] {
            if class != CLASS_NONE {
                *self.uses.entry(class).or_default() += by;
            }
        }
        Some(Moved { old, new })
    }

    /// The class of these peers, sorted.
    fn class(&mut self, peers: Vec<u32>) -> u32 {
        let known = self.members.classes.get(&peers).or_else(|| self.fresh.get(&peers));
        if let Some(&class) = known {
            return class;
        }
        let is_taken = |class| {
            self.spec.classes.contains_key(&class)
                || self.patch.add_classes.iter().any(|(taken, _)| *taken == class)
        };
        let (class, next) = first_free_class(self.patch.next_class, is_taken);
        self.patch.next_class = next;
        self.patch.add_classes.push((class, peers.clone()));
        self.fresh.insert(peers, class);
        class
    }

    fn finish(mut self) -> Patch {
        // One that came and went within the change has no entry left, and needs none.
        self.patch.add_classes.retain(|(class, _)| self.uses.get(class).is_some_and(|&by| by > 0));
        for (class, peers) in &self.patch.add_classes {
            let permits = self.permits(*class, peers);
            self.patch.add_permits.extend(permits);
        }
        for (&class, &by) in &self.uses {
            let now = self.members.uses.get(&class).copied().unwrap_or_default();
            if by < 0 && i64::try_from(now).is_ok_and(|now| now + by == 0) {
                self.patch.remove_classes.push(class);
                let peers = self.spec.classes.get(&class).map_or(&[][..], Vec::as_slice);
                let permits = self.permits(class, peers).into_iter().map(|(key, _rule)| key);
                self.patch.remove_permits.extend(permits);
            }
        }
        self.patch.epochs = self.epochs();
        self.patch
    }

    /// What each policy allows of a class.
    fn permits(&self, class: u32, peers: &[u32]) -> Vec<(PermitPrefix, u32)> {
        let mut rules: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for peer in peers {
            for (&policy, of_peer) in self.members.named_by.get(peer).into_iter().flatten() {
                rules.entry(policy).or_default().extend(of_peer);
            }
        }
        let mut permits = Vec::new();
        for (policy, numbers) in rules {
            let mut claims: Vec<Claim> = Vec::new();
            for number in numbers {
                let Some(info) = self.spec.rules.get(&number) else { continue };
                let RuleIdentity { direction, traffic, .. } = info.identity;
                let patterns = patterns(traffic);
                claims.extend(patterns.iter().map(|&it| (class, direction, it, number)));
            }
            claims.sort_unstable();
            claims.dedup();
            enter(policy, &claims, &mut permits);
        }
        permits
    }

    fn epochs(&self) -> Vec<(u16, u16)> {
        let policies: BTreeSet<u32> = self
            .narrowed
            .iter()
            .filter_map(|peer| self.members.named_by.get(peer))
            .flat_map(BTreeMap::keys)
            .copied()
            .collect();
        let interfaces = self.spec.interfaces.iter();
        let narrowed = interfaces.filter(|(_, spec)| policies.contains(&spec.version.policy));
        narrowed.map(|(&slot, spec)| (slot, spec.version.epoch.wrapping_add(1))).collect()
    }
}

impl Patch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// What the kernel's tables must be told.
    #[must_use]
    pub fn changes(&self, spec: &TableSpec) -> Changes {
        let version = |&(slot, epoch): &(u16, u16)| {
            let before = spec.interfaces.get(&slot)?.version;
            Some((slot, before, InterfaceVersion { epoch, ..before }))
        };
        Changes {
            add_permits: self.add_permits.clone(),
            remove_permits: self.remove_permits.clone(),
            v4: address_changes(&self.v4),
            v6: address_changes(&self.v6),
            interfaces: self.epochs.iter().filter_map(version).collect(),
            add_rules: Vec::new(),
            remove_rules: Vec::new(),
        }
    }

    /// Changes the tables. Whoever knows [`Members`] of them has these follow first.
    pub fn apply(&self, spec: &mut TableSpec) {
        apply_to(&mut spec.v4, &self.v4);
        apply_to(&mut spec.v6, &self.v6);
        spec.classes.extend(self.add_classes.iter().cloned());
        self.remove_classes.iter().for_each(|class| _ = spec.classes.remove(class));
        spec.permits.extend(self.add_permits.iter().copied());
        self.remove_permits.iter().for_each(|permit| _ = spec.permits.remove(permit));
        for (slot, epoch) in &self.epochs {
            if let Some(interface) = spec.interfaces.get_mut(slot) {
                interface.version.epoch = *epoch;
            }
        }
        spec.next.class = self.next_class;
    }
}

fn address_changes<A: IpAddress>(moves: &[((u32, A), Moved)]) -> AddressChanges<A> {
    let mut hosts = KeyChanges::default();
    for &(key, Moved { old, new }) in moves {
        let change = (key, Versions { old, new });
        match (old, new) {
            (CLASS_NONE, _) => hosts.insert.push(change),
            (_, CLASS_NONE) => hosts.remove.push(change),
            _ => hosts.change.push(change),
        }
    }
    AddressChanges { hosts, cidrs: KeyChanges::default(), own: KeyChanges::default() }
}

fn apply_to<A: IpAddress>(family: &mut AddressSpec<A>, moves: &[((u32, A), Moved)]) {
    for (key, moved) in moves {
        if moved.new == CLASS_NONE {
            family.hosts.remove(key);
        } else {
            family.hosts.insert(*key, moved.new);
        }
    }
}
