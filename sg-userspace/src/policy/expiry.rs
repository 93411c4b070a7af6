//! Rules that go by themselves. The time is an argument: nothing here reads a clock.

use super::RuleId;
use super::edit::{Edit, Editor};
use super::model::{Policy, Rule};

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

    /// The policy without the rules whose time is over at `now`, and what they were called.
    #[must_use]
    pub fn without_expired(self, now: u64) -> (Self, Vec<RuleId>) {
        if self.next_expiry().is_none_or(|next| next > now) {
            return (self, Vec::new());
        }
        let mut editor = Editor::new(self);
        match editor.apply(&Edit::Expire { at: now }) {
            Ok(done) => (editor.into_policy(), done.rules),
            // An expiry refuses nothing.
            Err(_) => (editor.into_policy(), Vec::new()),
        }
    }
}
