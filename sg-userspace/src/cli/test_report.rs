//! What came of a policy file's `tests:`, for people and for programs.

use std::path::Path;

use serde::Serialize;
use sg_common::Verdict;

use crate::compile::TrafficText;
use crate::engine::{End, Outcome, TestResult};
use crate::policy::model::{Endpoint, Expect, Policy};

/// One line of `tests:` in JSON.
#[derive(Debug, Serialize)]
pub(super) struct TestReport {
    /// Line in the file.
    line: usize,
    /// Interface or address.
    from: String,
    /// Interface or address.
    to: String,
    /// `tcp/80`, `icmp type 8 code 0`.
    traffic: String,
    /// `allow` or `drop`.
    expected: &'static str,
    /// `allow` or `drop`; null where no packet could be judged.
    got: Option<&'static str>,
    /// `passed`, `failed`, or `skipped` where addresses are not known yet.
    result: Status,
    /// What each end that is an interface said, the sender's first.
    ends: Vec<EndReport>,
    /// Why no packet could be judged.
    problem: Option<String>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// What was expected came out.
    Passed,
    /// Something else did.
    Failed,
    /// An interface with `addresses: auto` has none that are known here.
    Skipped,
}

/// What one end of a test said.
#[derive(Debug, Serialize)]
struct EndReport {
    /// Its name.
    interface: String,
    /// Which of its rules were asked.
    direction: &'static str,
    /// `allow` or `drop`.
    verdict: &'static str,
    /// Why.
    reason: &'static str,
    /// The rule that allowed it.
    rule: Option<String>,
}

impl TestReport {
    pub(super) fn new(policy: &Policy, result: &TestResult) -> Self {
        let test = &result.test;
        let ends = match &result.outcome {
            Outcome::Judged(ends) => ends.iter().map(EndReport::new).collect(),
            Outcome::NoCommonFamily | Outcome::Failed(_) => Vec::new(),
        };
        Self {
            line: test.line,
            from: endpoint(policy, test.from),
            to: endpoint(policy, test.to),
            traffic: TrafficText(test.traffic).to_string(),
            expected: match test.expect {
                Expect::Allow => Verdict::Allow.name(),
                Expect::Drop => Verdict::Drop.name(),
            },
            got: result.verdict().map(Verdict::name),
            result: status(policy, result),
            ends,
            problem: problem(result),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.result
    }

    /// `tests, line 3: alb -> web tcp/22: expected drop, got allow`, and what each end said.
    pub(super) fn text(&self, file: &Path) -> String {
        let Self { line, from, to, traffic, expected, .. } = self;
        let file = file.display();
        let got = match (self.got, &self.problem) {
            (Some(got), _) => format!("got {got}"),
            (None, Some(problem)) => problem.clone(),
            (None, None) => "got nothing".to_owned(),
        };
        let result = match self.result {
            Status::Passed => "test passed",
            Status::Failed => "test failed",
            Status::Skipped => "test skipped",
        };
        let mut text = format!(
            "{file}:{line}: {result}: {from} -> {to} {traffic}: expected {expected}, {got}\n"
        );
        for end in &self.ends {
            let EndReport { interface, direction, verdict, reason, rule } = end;
            let rule = rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
            text += &format!("  {interface} {direction}: {verdict}, {reason}{rule}\n");
        }
        text
    }
}

impl EndReport {
    fn new(end: &End) -> Self {
        let decision = end.answer.decision;
        Self {
            interface: end.interface.clone(),
            direction: end.direction.name(),
            verdict: decision.verdict().name(),
            reason: decision.reason.name(),
            rule: end.answer.rule.as_ref().map(ToString::to_string),
        }
    }
}

fn status(policy: &Policy, result: &TestResult) -> Status {
    let ends = [result.test.from, result.test.to];
    let is_auto = |end| match end {
        Endpoint::Interface { vpc, interface } => {
            policy.vpcs[vpc].interfaces[interface].auto_addresses
        }
        Endpoint::Address(_) => false,
    };
    match &result.outcome {
        Outcome::NoCommonFamily if ends.into_iter().any(is_auto) => Status::Skipped,
        _ if result.passed() => Status::Passed,
        Outcome::Judged(_) | Outcome::NoCommonFamily | Outcome::Failed(_) => Status::Failed,
    }
}

fn problem(result: &TestResult) -> Option<String> {
    match &result.outcome {
        Outcome::Judged(_) => None,
        Outcome::NoCommonFamily => {
            Some("the ends have no addresses of one family that such a packet exists in".to_owned())
        }
        Outcome::Failed(error) => Some(error.to_string()),
    }
}

fn endpoint(policy: &Policy, end: Endpoint) -> String {
    match end {
        Endpoint::Interface { vpc, interface } => {
            policy.vpcs[vpc].interfaces[interface].name.clone()
        }
        Endpoint::Address(address) => address.to_string(),
    }
}

/// Tells on standard error which tests failed or could not be run; how many failed.
pub(super) fn tell_failures(policy: &Policy, file: &Path, results: &[TestResult]) -> usize {
    let reports = results.iter().map(|result| TestReport::new(policy, result));
    let mut failed = 0;
    for report in reports.filter(|report| report.status() != Status::Passed) {
        eprint!("{}", report.text(file));
        failed += usize::from(report.status() == Status::Failed);
    }
    failed
}
