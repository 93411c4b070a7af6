//! Rules that go by themselves. The time is an argument: nothing here reads a clock.

use std::fmt::{self, Display, Formatter};

use sg_common::Direction;

use super::RuleId;
use super::model::{Policy, Rule};
use super::traffic::describe;

impl Rule {
    /// Whether the rule's time is over at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Policy {
    /// When the next rule goes, in seconds since 1970; one whose time is over already among them.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let groups = self.vpcs.iter().flat_map(|vpc| &vpc.groups);
        let rules = groups.flat_map(|group| group.ingress.iter().chain(&group.egress));
        rules.filter_map(|rule| rule.expires).min()
    }

    /// The policy without the rules whose time is over at `now`, and those rules.
    #[must_use]
    pub fn without_expired(mut self, now: u64) -> (Self, Vec<Expired>) {
        let mut expired = Vec::new();
        if self.next_expiry().is_none_or(|next| next > now) {
            return (self, expired);
        }
        for vpc in &self.vpcs {
            for group in &vpc.groups {
                for direction in Direction::ALL {
                    let over = group.rules(direction).iter().filter(|rule| rule.is_over(now));
                    expired.extend(over.map(|rule| Expired {
                        group: group.name.clone(),
                        direction,
                        traffic: describe(rule.traffic),
                        id: RuleId::of(vpc, group, direction, rule),
                    }));
                }
            }
        }
        for group in self.vpcs.iter_mut().flat_map(|vpc| &mut vpc.groups) {
            group.ingress.retain(|rule| !rule.is_over(now));
            group.egress.retain(|rule| !rule.is_over(now));
        }
        (self, expired)
    }
}

/// A rule whose time is over: `group web: tcp 22 ingress, sgr-0123456789abcdef0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    group: String,
    direction: Direction,
    traffic: String,
    /// What it was called.
    pub id: RuleId,
}

impl Display for Expired {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { group, direction, traffic, id } = self;
        write!(formatter, "group {group}: {traffic} {}, {id}", direction.name())
    }
}
