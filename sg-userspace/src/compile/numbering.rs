//! Numbers that keep their meaning from one compilation to the next.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use sg_common::abi::{CLASS_FIRST_FREE, Permit};

use super::rule_info::{PeerSpec, RuleIdentity};
use super::spec::{NextNumbers, PolicySpec, TableSpec};

/// Elements of the rules' counters: a rule's is its number modulo theirs, a power of two. So that no two rules in
/// force share one, a fresh number is one whose element is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleSlots(u32);

impl RuleSlots {
    /// At least so many elements.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number.next_power_of_two())
    }

    /// How many they are.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// A rule's.
    #[must_use]
    pub const fn of(self, rule: u32) -> u32 {
        rule & (self.0 - 1)
    }
}

impl Default for RuleSlots {
    fn default() -> Self {
        Self::new(1 << 14)
    }
}

/// Elements that numbers in use occupy.
#[derive(Debug)]
struct Elements {
    slots: RuleSlots,
    taken: HashSet<u32>,
}

impl Elements {
    /// Where none is free any more, numbers share them: what does not fit is refused when it is to be loaded, and
    /// may be looked at as before.
    fn is_taken(&self, number: u32) -> bool {
        self.taken.len() < self.slots.number() as usize
            && self.taken.contains(&self.slots.of(number))
    }
}

/// Numbers of one kind of content. Fresh ones rise, so that a number comes back only when all others
/// have been used, and never while the previous spec holds it.
#[derive(Debug)]
pub(super) struct Numbering<K> {
    known: HashMap<K, u32>,
    taken: HashSet<u32>,
    /// Where numbers must differ in their low bits too.
    elements: Option<Elements>,
    first: u32,
    next: u32,
}

impl<K: Eq + Hash> Numbering<K> {
    fn new(first: u32, next: u32, previous: impl Iterator<Item = (u32, K)>) -> Self {
        let known: HashMap<K, u32> = previous.map(|(number, content)| (content, number)).collect();
        let taken = known.values().copied().collect();
        Self { known, taken, elements: None, first, next: next.max(first) }
    }

    /// The same, giving no two numbers in use the same element.
    fn in_elements(self, slots: RuleSlots) -> Self {
        let taken = self.taken.iter().map(|&number| slots.of(number)).collect();
        Self { elements: Some(Elements { slots, taken }), ..self }
    }

    /// The number of this content.
    pub(super) fn of(&mut self, content: K) -> u32 {
        if let Some(&number) = self.known.get(&content) {
            return number;
        }
        let number = self.fresh();
        self.known.insert(content, number);
        number
    }

    /// The number of content that is asked for once a compilation, and therefore not kept.
    pub(super) fn of_once<Q: Eq + Hash + ?Sized>(&mut self, content: &Q) -> u32
    where
        K: Borrow<Q>,
    {
        let known = self.known.get(content).copied();
        known.unwrap_or_else(|| self.fresh())
    }

    fn fresh(&mut self) -> u32 {
        while self.is_taken(self.next) {
            self.next = after(self.next, self.first);
        }
        let number = self.next;
        self.next = after(number, self.first);
        self.taken.insert(number);
        if let Some(Elements { slots, taken }) = &mut self.elements {
            taken.insert(slots.of(number));
        }
        number
    }

    fn is_taken(&self, number: u32) -> bool {
        self.taken.contains(&number)
            || self.elements.as_ref().is_some_and(|elements| elements.is_taken(number))
    }
}

/// The first number from `next` on that is not taken by a class, and where the search for the next one goes on.
pub(super) fn first_free_class(next: u32, is_taken: impl Fn(u32) -> bool) -> (u32, u32) {
    let mut number = next.max(CLASS_FIRST_FREE);
    while is_taken(number) {
        number = after(number, CLASS_FIRST_FREE);
    }
    (number, after(number, CLASS_FIRST_FREE))
}

fn after(number: u32, first: u32) -> u32 {
    if number >= Permit::MAX_RULE { first } else { number + 1 }
}

/// Slots of interfaces: an array's indices, so the lowest free one.
#[derive(Debug)]
pub(super) struct Slots {
    known: HashMap<(u32, String), u16>,
    taken: HashSet<u16>,
    next: u32,
}

impl Slots {
    /// The slot of an interface of a VPC; `None` when all are taken.
    pub(super) fn of(&mut self, vpc: u32, name: &str) -> Option<u16> {
        let key = (vpc, name.to_owned());
        if let Some(&slot) = self.known.get(&key) {
            return Some(slot);
        }
        loop {
            let slot = u16::try_from(self.next).ok()?;
            self.next += 1;
            if self.taken.insert(slot) {
                self.known.insert(key, slot);
                return Some(slot);
            }
        }
    }
}

/// Every kind of number.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) vpcs: Numbering<String>,
    pub(super) peers: Numbering<PeerSpec>,
    pub(super) classes: Numbering<Vec<u32>>,
    pub(super) policies: Numbering<PolicySpec>,
    pub(super) rules: Numbering<RuleIdentity>,
    pub(super) slots: Slots,
}

impl Numbers {
    /// Numbers as `previous` has them, and fresh ones for the rest.
    pub(super) fn following(previous: &TableSpec) -> Self {
        let next = previous.next;
        let identities = previous.rules.iter().map(|(&n, rule)| (n, rule.identity.clone()));
        let slots: HashMap<_, _> = previous
            .interfaces
            .iter()
            .map(|(&slot, interface)| ((interface.vpc, interface.name.clone()), slot))
            .collect();
        Self {
            vpcs: Numbering::new(1, next.vpc, contents(&previous.vpcs)),
            peers: Numbering::new(1, next.peer, contents(&previous.peers)),
            classes: Numbering::new(CLASS_FIRST_FREE, next.class, contents(&previous.classes)),
            policies: Numbering::new(1, next.policy, contents(&previous.policies)),
            rules: Numbering::new(1, next.rule, identities).in_elements(previous.rule_slots),
            slots: Slots { taken: slots.values().copied().collect(), known: slots, next: 0 },
        }
    }

    /// Where the next compilation goes on.
    pub(super) fn next(&self) -> NextNumbers {
        NextNumbers {
            vpc: self.vpcs.next,
            peer: self.peers.next,
            class: self.classes.next,
            policy: self.policies.next,
            rule: self.rules.next,
        }
    }
}

fn contents<V: Clone>(table: &BTreeMap<u32, V>) -> impl Iterator<Item = (u32, V)> {
    table.iter().map(|(&number, content)| (number, content.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_contents_keep_their_numbers_and_new_ones_get_fresh_ones() {
        let mut numbers = Numbering::new(3, 8, [(4, "a"), (8, "b")].into_iter());
        assert_eq!(["b", "c", "a", "d", "c"].map(|name| numbers.of(name)), [8, 9, 4, 10, 9]);
        assert_eq!(numbers.next, 11);
    }

    #[test]
    fn what_is_asked_for_once_has_its_number_and_is_not_kept() {
        let mut numbers = Numbering::new(3, 8, [(4, "a".to_owned())].into_iter());
        assert_eq!(["a", "b", "b"].map(|name| numbers.of_once(name)), [4, 8, 9]);
    }

    #[test]
    fn numbers_wrap_around_to_the_first_free_one() {
        let mut numbers = Numbering::new(3, Permit::MAX_RULE, [(3, "a")].into_iter());
        assert_eq!(["b", "c"].map(|name| numbers.of(name)), [Permit::MAX_RULE, 4]);
    }

    #[test]
    fn no_two_numbers_in_use_share_an_element() {
        let known = [(5, "a"), (6, "b")].into_iter();
        let mut numbers = Numbering::new(1, 8, known).in_elements(RuleSlots::new(4));
        assert_eq!(["c", "d"].map(|name| numbers.of(name)), [8, 11], "9 and 10 are 5's and 6's");
        assert_eq!(["e", "f"].map(|name| numbers.of(name)), [12, 13], "there is no more room");
    }

    #[test]
    fn slots_are_the_lowest_free_ones() {
        let known = HashMap::from([((1, "b".to_owned()), 1)]);
        let mut slots = Slots { known, taken: HashSet::from([1]), next: 0 };
        assert_eq!(
            ["a", "b", "c", "a"].map(|name| slots.of(1, name)),
            [Some(0), Some(1), Some(2), Some(0)]
        );
        assert_eq!(slots.of(2, "b"), Some(3), "another VPC's interface is another one");
    }

    #[test]
    fn slots_run_out() {
        let mut slots = Slots { known: HashMap::new(), taken: HashSet::new(), next: 0xffff };
        assert_eq!(slots.of(1, "a"), Some(0xffff));
        assert_eq!(slots.of(1, "b"), None);
    }
}
