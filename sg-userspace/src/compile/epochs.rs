//! Epochs: which interfaces a change narrows.
//!
//! A flow that was judged under another epoch is judged again, where it must be. A raise too many costs a
//! few lookups a flow; one too few lets a flow live on that the rules no longer allow. So whatever is not
//! plainly a widening counts as narrowing. What an interface can see is what its rules say and whom the peers that
//! they name hold: an address that leaves a peer of others is none of its business.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sg_common::abi::InterfaceFlags;

use super::roles::LINK_LOCAL;
use super::rule_info::{PeerName, RuleIdentity};
use super::spec::{AddressSpec, InterfaceSpec, IpAddress, Prefix, TableSpec};

/// Gives every interface the epoch of `previous`, raised where the new spec allows less.
pub(super) fn carry_on(spec: &mut TableSpec, previous: &TableSpec) {
    let mut lost = Lost::between(previous, spec);
    let mut epochs = BTreeMap::new();
    for (slot, new) in &spec.interfaces {
        let Some(old) = previous.interfaces.get(slot) else { continue };
        let epoch = old.version.epoch;
        let less = narrows(old, new)
            || loses_rules(old, new, previous, spec)
            || lost.concerns(old.version.policy);
        epochs.insert(*slot, if less { epoch.wrapping_add(1) } else { epoch });
    }
    for (slot, epoch) in epochs {
        if let Some(interface) = spec.interfaces.get_mut(&slot) {
            interface.version.epoch = epoch;
        }
    }
}

/// Whether the same rules allow less: of everybody, the link-local addresses are taken out, or what was adopted
/// against them is no longer kept.
fn narrows(old: &InterfaceSpec, new: &InterfaceSpec) -> bool {
    let gained = new.version.flags & !old.version.flags;
    gained & (InterfaceFlags::ANYONE_WITHOUT_LINK_LOCAL | InterfaceFlags::CUT_LIVE_FLOWS) != 0
}

/// Whether a rule of the interface's has gone, or AWS's tracking of a flow depends on one that has.
fn loses_rules(
    old: &InterfaceSpec,
    new: &InterfaceSpec,
    previous: &TableSpec,
    spec: &TableSpec,
) -> bool {
    if old.version.policy == new.version.policy {
        return false;
    }
    let rules = |spec: &TableSpec, policy| spec.policies.get(&policy).map(|it| it.rules.clone());
    let before = rules(previous, old.version.policy).unwrap_or_default();
    let after = rules(spec, new.version.policy).unwrap_or_default();
    // Sorted, both.
    before.iter().any(|rule| after.binary_search(rule).is_err())
}

/// Peers that some address was in and is no more, and which of the old policies name one.
struct Lost<'s> {
    previous: &'s TableSpec,
    peers: HashSet<(u32, &'s PeerName)>,
    concerned: HashMap<u32, bool>,
}

impl<'s> Lost<'s> {
    fn between(previous: &'s TableSpec, spec: &TableSpec) -> Self {
        let mut losses =
            Losses { old: previous, new: spec, seen: HashSet::new(), lost: BTreeSet::new() };
        losses.of_family(&previous.v4, &spec.v4);
        losses.of_family(&previous.v6, &spec.v6);
        let peers = losses.lost.iter().filter_map(|number| previous.peers.get(number));
        let peers = peers.map(|peer| (peer.vpc, &peer.name)).collect();
        Self { previous, peers, concerned: HashMap::new() }
    }

    /// Whether a rule of the policy names one.
    fn concerns(&mut self, policy: u32) -> bool {
        if self.peers.is_empty() {
            return false;
        }
        if let Some(&known) = self.concerned.get(&policy) {
            return known;
        }
        let concerned = self.previous.policies.get(&policy).is_some_and(|policy| {
            let rules = policy.rules.iter().filter_map(|rule| self.previous.rules.get(rule));
            rules.into_iter().any(|rule| self.is_named(policy.vpc, &rule.identity))
        });
        self.concerned.insert(policy, concerned);
        concerned
    }

    fn is_named(&self, vpc: u32, rule: &RuleIdentity) -> bool {
        self.peers.contains(&(vpc, &rule.peer))
            || rule.everybody.link_local && self.peers.contains(&(vpc, &PeerName::Cidr(LINK_LOCAL)))
    }
}

/// Numbers of peers that addresses have lost.
struct Losses<'s> {
    old: &'s TableSpec,
    new: &'s TableSpec,
    /// Classes before and after that have been compared: most addresses share theirs.
    seen: HashSet<(u32, Option<u32>)>,
    lost: BTreeSet<u32>,
}

impl Losses<'_> {
    fn of_family<A: IpAddress>(&mut self, old: &AddressSpec<A>, new: &AddressSpec<A>) {
        // In the order of their keys, both.
        let mut left = new.hosts.iter().peekable();
        for (key, &before) in &old.hosts {
            while left.next_if(|(other, _)| *other < key).is_some() {}
            let after = left.peek().filter(|(other, _)| *other == key).map(|(_, class)| **class);
            self.compare(before, after);
        }
        for (prefix, &before) in &old.cidrs {
            self.compare(before, covering(new, prefix));
        }
    }

    fn compare(&mut self, before: u32, after: Option<u32>) {
        if after == Some(before) || !self.seen.insert((before, after)) {
            return;
        }
        let peers = |spec: &'_ TableSpec, class: u32| spec.classes.get(&class).cloned();
        let before = peers(self.old, before).unwrap_or_default();
        let after = after.and_then(|class| peers(self.new, class)).unwrap_or_default();
        // Sorted, both.
        let gone = before.into_iter().filter(|peer| after.binary_search(peer).is_err());
        self.lost.extend(gone);
    }
}

/// The class that an address which leads to this prefix leads to in other tables: its own, or that of the next
/// shorter one.
fn covering<A: IpAddress>(spec: &AddressSpec<A>, prefix: &Prefix<A>) -> Option<u32> {
    (0..=prefix.length).rev().find_map(|length| {
        let address = prefix.address.masked(length);
        spec.cidrs.get(&Prefix { length, address, ..*prefix }).copied()
    })
}
