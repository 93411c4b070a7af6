//! A table that forgets what was used least recently: the host's stand-in for the kernel's LRU hash.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `capacity` entries.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    capacity: usize,
    /// Value and when it was last used.
    entries: HashMap<K, (V, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let (value, used) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(value.clone())
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        while self.entries.len() >= self.capacity.max(1) {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        self.uses += 1;
        self.entries.insert(key, (value, self.uses));
        self.by_use.insert(self.uses, key);
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((_, used)) = self.entries.remove(key) {
            self.by_use.remove(&used);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(2);
        lru.insert('a', 1);
        lru.insert('b', 2);
        assert_eq!(lru.get(&'a'), Some(1));
        lru.insert('c', 3);
        assert_eq!(['a', 'b', 'c'].map(|key| lru.get(&key)), [Some(1), None, Some(3)]);
        lru.insert('c', 4);
        assert_eq!((lru.get(&'a'), lru.get(&'c')), (Some(1), Some(4)), "replacing evicts nobody");
        lru.remove(&'a');
        lru.insert('d', 5);
        assert_eq!(lru.iter().count(), 2);
    }
}
