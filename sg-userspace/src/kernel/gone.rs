//! Rules that are no longer in force, by their numbers: flows that they let in live on, and events tell of them
//! when they are read. The history knows policies, not the numbers that rules had on this machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::compile::{RuleInfo, TableSpec};

/// How many are remembered: a state that is written at each change must stay small.
const KEPT: usize = 1000;

/// Those that went last, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRules(Vec<(u32, RuleInfo)>);

impl GoneRules {
    /// With those that go where tables are replaced by others.
    pub(super) fn after(&self, old: &TableSpec, new: &TableSpec) -> Self {
        let gone = old.rules.iter().filter(|(number, _)| !new.rules.contains_key(number));
        let gone: Vec<_> = gone.map(|(&number, rule)| (number, rule.clone())).collect();
        let numbers: BTreeSet<u32> = gone.iter().map(|&(number, _)| number).collect();
        // A number may be another rule's in the end; then it is that one's.
        let is_known = |number| numbers.contains(&number) || new.rules.contains_key(&number);
        let before = self.0.iter().filter(|&&(number, _)| !is_known(number)).cloned();
        let mut all: Vec<_> = before.chain(gone).collect();
        all.drain(..all.len().saturating_sub(KEPT));
        Self(all)
    }

    /// Each with the number that it had.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &RuleInfo)> {
        self.0.iter().map(|(number, rule)| (*number, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Surroundings, compile};

    /// The tables of a policy whose group has so many rules, from `first` on.
    fn tables(first: u16, count: u16, previous: Option<&TableSpec>) -> TableSpec {
        let ports: Vec<_> = (first..first + count).map(|port| port.to_string()).collect();
        let ports = ports.join(", ");
        let text = format!(
            "quotas: {{rules_per_direction: 1000, groups_per_interface: 1}}\n\
             vpcs: [{{name: v, cidrs: 10.0.0.0/8, security_groups: [{{name: g, ingress: \
             [{{protocol: tcp, ports: [{ports}], from: 10.0.0.0/8}}]}}], \
             interfaces: [{{name: i, addresses: 10.0.0.1, groups: [g]}}]}}]"
        );
        let policy = crate::policy::load("test", &text).expect("a policy").policy;
        compile(&policy, &Surroundings::of(["i"]), previous).expect("tables")
    }

    #[test]
    fn the_latest_are_remembered() {
        let mut old = tables(1, 400, None);
        let mut gone = GoneRules::default();
        for first in [401, 801, 1201, 1601] {
            let new = tables(first, 400, Some(&old));
            gone = gone.after(&old, &new);
            assert!(gone.iter().all(|(number, _)| !new.rules.contains_key(&number)));
            let latest: Vec<_> = gone.iter().map(|(_, rule)| rule.clone()).collect();
            let mut went =
                old.rules.values().filter(|rule| rule.to_string().starts_with("group g ingress"));
            assert!(went.all(|rule| latest.contains(rule)));
            old = new;
        }
        assert_eq!(gone.iter().count(), KEPT);
        assert_eq!(gone.after(&old, &old), gone, "nothing goes where nothing changes");
    }
}
