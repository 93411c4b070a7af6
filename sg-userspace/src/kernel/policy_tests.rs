//! The policy's `tests:` for changes that no verb looks at, such as those of whoever talks to `sgctl serve` directly.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use super::addresses;
use super::live::Live;
use super::transaction::Review;
use crate::engine::{Outcome, TestResult, run_tests};
use crate::policy::Policy;
use crate::policy::model::{Endpoint, Interface};

/// Refuses a change under which a test of the policy would fail.
pub(super) fn hold(review: &Review<'_>) -> Result<(), String> {
    let auto = auto_addresses(review.live, review.policy);
    let results = run_tests(review.policy, &auto).map_err(|error| error.to_string())?;
    let mut failed = results.iter().filter(|result| fails(review.policy, result)).peekable();
    if failed.peek().is_none() {
        return Ok(());
    }
    let mut text = "tests of the policy would fail; nothing has changed".to_owned();
    for result in failed {
        let got = result.verdict().map_or("no verdict", sg_common::Verdict::name);
        // Writing to a `String` does not fail.
        let _ = write!(text, "; `tests`, line {}: got {got}", result.test.line);
    }
    Err(text)
}

/// What the tables say of interfaces that take their devices' addresses.
fn auto_addresses(live: &Live, policy: &Policy) -> BTreeMap<String, Vec<IpNet>> {
    let interfaces = policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
    interfaces
        .filter(|interface| interface.auto_addresses)
        .map(|interface| (interface.name.clone(), addresses::known(live, &interface.name)))
        .filter(|(_, addresses)| !addresses.is_empty())
        .collect()
}

/// Addresses that are not known yet fail no test.
fn fails(policy: &Policy, result: &TestResult) -> bool {
    let is_auto = |end: Endpoint| match end {
        Endpoint::Interface { vpc, interface } => {
            let Interface { auto_addresses, .. } = &policy.vpcs[vpc].interfaces[interface];
            *auto_addresses
        }
        Endpoint::Address(_) => false,
    };
    let is_unknown = matches!(result.outcome, Outcome::NoCommonFamily)
        && [result.test.from, result.test.to].into_iter().any(is_auto);
    !is_unknown && !result.passed()
}
