//! What has passed because of each rule.
//!
//! An array has an element per rule and processor, found by the low bits of the rule's number and marked with all of
//! it. An element changes hands only while it is nobody's, and has been for a grace period: a program that was about
//! to count for the owner before can no longer do so. So an element is given before the flip that brings its rule,
//! and taken back after the one that takes it away.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use serde::Serialize;
use sg_common::abi::RuleCounter;

use super::bpf::wait_for_programs;
use super::pod::Abi;
use super::{KernelError, Paths, maps, read};
use crate::compile::RuleSlots;

const MAP: &str = "RULE_HITS";

/// What has passed because of a rule: the packets that opened flows, and all that came behind them both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RuleHits {
    /// Number of the rule.
    pub rule: u32,
    /// Number of packets.
    pub packets: u64,
    /// Their bytes, link layer included.
    pub bytes: u64,
    /// When the last one came, in nanoseconds of the monotonic clock.
    pub last: Option<u64>,
    /// Since when they are counted: the rule is in force since then.
    pub since: u64,
}

/// The hits of every rule in force, in the order of their numbers.
///
/// # Errors
/// When nothing is attached, or the map cannot be read.
pub fn rule_hits(paths: &Paths) -> Result<Vec<RuleHits>, KernelError> {
    let live = super::live::Live::require(paths)?;
    RuleTable::open(&paths.maps())?.read(live.tables.rules.keys().copied())
}

/// The elements and their owners.
pub(super) struct RuleTable(PerCpuArray<MapData, Abi<RuleCounter>>);

impl RuleTable {
    pub(super) fn open(pins: &Path) -> Result<Self, KernelError> {
        maps::open(pins, MAP).map(Self)
    }

    /// Gives rules that are about to come into force their elements, which are nobody's.
    pub(super) fn give(&mut self, rules: &[u32]) -> Result<(), KernelError> {
        let now = read::monotonic() / 1_000_000_000;
        let since = u32::try_from(now).unwrap_or(u32::MAX);
        rules.iter().try_for_each(|&rule| {
            self.set(self.element(rule), RuleCounter { rule, since, ..RuleCounter::default() })
        })
    }

    /// Makes the elements of rules that have gone nobody's. They may be given again once every program that runs
    /// now has ended.
    pub(super) fn take_back(&mut self, rules: &[u32]) -> Result<(), KernelError> {
        rules.iter().try_for_each(|&rule| self.set(self.element(rule), RuleCounter::default()))
    }

    /// The counts of these rules, in force.
    pub(super) fn read(
        &self,
        rules: impl Iterator<Item = u32>,
    ) -> Result<Vec<RuleHits>, KernelError> {
        rules.map(|rule| Ok(sum(rule, &self.get(self.element(rule))?))).collect()
    }

    /// Makes these rules the only owners, whatever an interrupted change has left. Those that own their elements
    /// already lose no count.
    pub(super) fn restore(&mut self, rules: impl Iterator<Item = u32>) -> Result<(), KernelError> {
        let owners: BTreeMap<u32, u32> = rules.map(|rule| (self.element(rule), rule)).collect();
        let mut missing = Vec::new();
        for element in 0..self.0.len() {
            let owner = owners.get(&element).copied();
            let found = self.get(element)?;
            if found.iter().all(|one| one.rule == owner.unwrap_or(0)) {
                continue;
            }
            self.set(element, RuleCounter::default())?;
            missing.extend(owner);
        }
        if !missing.is_empty() {
            wait_for_programs()?;
        }
        self.give(&missing)
    }

    fn element(&self, rule: u32) -> u32 {
        RuleSlots::new(self.0.len()).of(rule)
    }

    fn get(&self, element: u32) -> Result<Vec<RuleCounter>, KernelError> {
        let values = self.0.get(&element, 0).map_err(|e| KernelError::map("read", MAP, e))?;
        Ok(values.iter().map(|Abi(one)| *one).collect())
    }

    fn set(&mut self, element: u32, value: RuleCounter) -> Result<(), KernelError> {
        let failed = |source| KernelError::Syscall { call: "per-processor values", source };
        let processors = aya::util::nr_cpus().map_err(|(_, source)| failed(source))?;
        let values = PerCpuValues::try_from(vec![Abi(value); processors]).map_err(failed)?;
        self.0.set(element, values, 0).map_err(|e| KernelError::map("write", MAP, e))
    }
}

/// One rule's counts of all processors. What another rule's flows count meanwhile is none of its.
fn sum(rule: u32, values: &[RuleCounter]) -> RuleHits {
    let own = || values.iter().filter(|one| one.rule == rule);
    let last = own().map(|one| one.last).max().filter(|&last| last != 0);
    let since = own().map(|one| u64::from(one.since) * 1_000_000_000).min().unwrap_or(0);
    RuleHits {
        rule,
        packets: own().map(|one| one.packets).sum(),
        bytes: own().map(|one| one.bytes).sum(),
        last,
        since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_the_sum_of_its_processors_and_the_latest_time() {
        let one = |rule, packets, last| RuleCounter { rule, since: 2, packets, bytes: 100, last };
        let hits = sum(7, &[one(7, 1, 5), one(7, 2, 9), one(7, 0, 0), one(8, 50, 99)]);
        let since = 2_000_000_000;
        assert_eq!(hits, RuleHits { rule: 7, packets: 3, bytes: 300, last: Some(9), since });
        assert_eq!(sum(7, &[one(7, 0, 0)]).last, None);
    }
}
