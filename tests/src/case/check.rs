//! One check for every level: each packet's verdict, reason and rule, every counter and rule hit after each packet, and the
//! events in their order.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use sg_common::abi::{Event, EventKind};
use sg_common::{Decision, Direction, Reason, Verdict};
use sg_userspace::compile::TableSpec;
use sg_userspace::kernel::read::RuleHits;
use sg_userspace::kernel::run::RunHook;
use sg_userspace::policy::model::Side;

use super::devices::{Attachment, Bench};
pub use super::judges::Folders;
pub(super) use super::judges::plain;
use super::judges::{host, programs};
use super::{Action, Case, Counters, Expected, Interface, START, Step};

/// Where a case runs.
#[derive(Clone, Copy)]
pub enum Level<'b> {
    /// The engine on the host.
    Host,
    /// The loaded programs, packet by packet (BPF_PROG_TEST_RUN).
    Run(RunHook),
    /// The attached programs on veth devices, frames from packet sockets.
    Devices(&'b Bench),
}

/// What did not come as it should.
#[derive(Debug)]
pub struct Failure {
    place: String,
    step: String,
    expected: String,
    got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, step, expected, got } = self;
        write!(f, "{place}\n    {step}\n    expected {expected}\n    got      {got}")
    }
}

/// One level, set up for the policy and the interfaces of a case.
pub(crate) trait Judge<'c> {
    /// Judges a frame at an interface, at a time of the case's own clock; `None`: the level can make no such
    /// packet.
    fn judge(
        &mut self,
        at: usize,
        way: Direction,
        frame: &[u8],
        now: u64,
    ) -> Result<Option<Decision>>;
    /// The interface's counters that are not zero.
    fn counters(&mut self, at: usize) -> Result<Vec<(Direction, Reason, u64)>>;
    /// How long the programs find a frame.
    fn length(&self, _at: usize, _way: Direction, frame: &[u8]) -> usize {
        frame.len()
    }
    /// What has passed because of each rule in force.
    fn hits(&mut self) -> Result<Vec<RuleHits>>;
    /// Events since the last call.
    fn events(&mut self) -> Result<Vec<Event>>;
    /// Puts another policy in force.
    fn change(&mut self, spec: &'c TableSpec) -> Result<()>;
    /// Another case begins: puts its policy in force and forgets every flow.
    fn begin(&mut self, spec: &'c TableSpec) -> Result<()>;
    /// Nothing more comes; what should not have come so far is an error.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What became of all cases at a level.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that ran.
    pub cases: usize,
    /// Those in which everything came as it should.
    pub passed: usize,
    /// Packets and waits of theirs.
    pub steps: usize,
    /// Cases and packets that cannot be at this level.
    pub left_out: Vec<String>,
    /// Everything that did not come as it should.
    pub failures: Vec<Failure>,
}

/// Runs cases. Those that can share a set-up do: the verifier takes a good part of a second for each.
#[must_use]
pub fn check_all<'c>(cases: &[&'c Case], level: Level<'c>) -> Report {
    let mut report = Report::default();
    let mut groups: Vec<Vec<&'c Case>> = Vec::new();
    for &case in cases {
        if !case.is_possible(level) {
            report.left_out.push(case.place(case.line));
            continue;
        }
        let shares = |group: &&mut Vec<&Case>| match level {
            Level::Run(_) => group[0].has_programs_of(case),
            Level::Host | Level::Devices(_) => group[0].has_setting_of(case),
        };
        match groups.iter_mut().find(shares) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    for group in groups {
        report.cases += group.len();
        report.steps += group.iter().map(|case| case.steps.len()).sum::<usize>();
        if let Err(error) = check_group(&group, level, &mut report) {
            report.failures.push(Failure {
                place: group[0].place(group[0].line),
                step: "the level itself".to_owned(),
                expected: "no error".to_owned(),
                got: format!("{error:#}"),
            });
        }
    }
    report
}

fn check_group<'c>(group: &[&'c Case], level: Level<'c>, report: &mut Report) -> Result<()> {
    let mut judge: Box<dyn Judge<'c> + 'c> = match level {
        Level::Host => Box::new(host(group[0])?),
        Level::Run(hook) => Box::new(programs(group[0], hook)?),
        Level::Devices(bench) => Box::new(Attachment::new(bench, group[0], None)?),
    };
    for case in group {
        judge.begin(&case.spec)?;
        let before = report.failures.len();
        check(case, judge.as_mut(), report).with_context(|| case.place(case.line))?;
        report.passed += usize::from(report.failures.len() == before);
    }
    judge.finish()
}

/// Runs one case at one level.
fn check<'c>(case: &'c Case, judge: &mut (dyn Judge<'c> + 'c), report: &mut Report) -> Result<()> {
    let Report { left_out, failures, .. } = report;
    let mut differ = |line: u64, step: &str, expected: String, got: String| {
        failures.push(Failure { place: case.place(line), step: step.to_owned(), expected, got });
    };
    let mut now = START;
    let before = counters(case, judge)?;
    let mut counted = Counters::new();
    let (hits_before, mut hits) = (hits_of(judge)?, Hits::new());
    let mut spec = &case.spec;
    let mut expected_counters = case.counters.clone();
    let mut kinds = Vec::new();
    for Step { line, text, action } in &case.steps {
        let (at, direction, frame, expected) = match action {
            Action::Wait(pause) => {
                now += pause;
                continue;
            }
            Action::Change(next) => {
                judge.change(next)?;
                spec = next;
                hits.retain(|rule, _| spec.rules.contains_key(rule));
                continue;
            }
            Action::Packet { at, direction, frame, expected } => (*at, *direction, frame, expected),
        };
        let decision = judge
            .judge(at, direction, frame, now)
            .with_context(|| format!("line {line}: {text}, expected {expected}"))?;
        let Some(decision) = decision else {
            left_out.push(format!("{}: {text}", case.place(*line)));
            let uncounted = expected_counters.entry((at, direction, expected.reason));
            uncounted.and_modify(|packets| *packets -= 1);
            continue;
        };
        let got = case.found(decision);
        if got.reason != expected.reason || expected.rule.is_some() && got.rule != expected.rule {
            differ(*line, text, expected.to_string(), got.to_string());
        }
        *counted.entry((at, direction, decision.reason)).or_default() += 1;
        kinds.extend(kind(decision));
        let found = since(counters(case, judge)?, &before);
        if found != counted {
            differ(*line, text, format!("{counted:?}"), format!("{found:?}"));
            counted = found;
        }
        if spec.rules.contains_key(&decision.rule) {
            let (packets, bytes, last) = hits.entry(decision.rule).or_default();
            *packets += 1;
            *bytes += u64::try_from(judge.length(at, direction, frame))?;
            *last = now;
        }
        let found = hits_since(hits_of(judge)?, &hits_before);
        if found != hits {
            differ(*line, text, format!("hits {hits:?}"), format!("{found:?}"));
            hits = found;
        }
    }
    if let Some(expected) = &case.hits {
        let named = |(&rule, &(packets, ..)): (&u32, &(u64, u64, u64))| {
            Some((spec.rules.get(&rule)?.to_string(), packets))
        };
        let found: BTreeMap<String, u64> = hits.iter().filter_map(named).collect();
        if *expected != found {
            differ(case.line, "hits", format!("{expected:?}"), format!("{found:?}"));
        }
    }
    expected_counters.retain(|_, packets| *packets != 0);
    if counted != expected_counters {
        differ(case.line, "counters", format!("{expected_counters:?}"), format!("{counted:?}"));
    }
    let events = judge.events()?;
    let found: Option<Vec<_>> = events.iter().map(|it| EventKind::from_number(it.kind)).collect();
    let mut found = found.context("an event of no kind")?;
    if case.events.is_none() {
        found.retain(|kind| *kind != EventKind::End);
    }
    let expected = case.events.as_ref().unwrap_or(&kinds);
    if *expected != found {
        differ(case.line, "events", format!("{expected:?}"), format!("{found:?}"));
    }
    Ok(())
}

/// What came on top of `before`.
fn since(mut counters: Counters, before: &Counters) -> Counters {
    for (key, packets) in &mut counters {
        *packets -= before.get(key).copied().unwrap_or_default();
    }
    counters.retain(|_, packets| *packets != 0);
    counters
}

/// Packets, bytes and last use by rule, where there were any.
type Hits = BTreeMap<u32, (u64, u64, u64)>;

fn hits_of<'c>(judge: &mut (dyn Judge<'c> + 'c)) -> Result<Hits> {
    let used = |hit: RuleHits| Some((hit.rule, (hit.packets, hit.bytes, hit.last?)));
    Ok(judge.hits()?.into_iter().filter_map(used).collect())
}

/// What came on top of `before`.
fn hits_since(mut hits: Hits, before: &Hits) -> Hits {
    for (rule, (packets, bytes, _)) in &mut hits {
        let (old_packets, old_bytes, _) = before.get(rule).copied().unwrap_or_default();
        *packets -= old_packets;
        *bytes -= old_bytes;
    }
    hits.retain(|_, (packets, ..)| *packets != 0);
    hits
}

/// The event that goes with a decision.
fn kind(decision: Decision) -> Option<EventKind> {
    match decision.verdict() {
        Verdict::Drop => Some(EventKind::Drop),
        Verdict::Allow => {
            matches!(decision.reason, Reason::Rule | Reason::Adopted).then_some(EventKind::Allow)
        }
    }
}

fn counters<'c>(case: &Case, judge: &mut (dyn Judge<'c> + 'c)) -> Result<Counters> {
    let mut all = Counters::new();
    for at in 0..case.interfaces.len() {
        let found = judge.counters(at)?.into_iter();
        all.extend(found.map(|(direction, reason, packets)| ((at, direction, reason), packets)));
    }
    Ok(all)
}

impl Case {
    /// Programs are attached only once there is a policy, which stays; XDP judges only what arrives at a host.
    fn is_possible(&self, level: Level<'_>) -> bool {
        match level {
            Level::Host | Level::Run(RunHook::Tc) => true,
            Level::Run(RunHook::Xdp) => !self.has_workload(),
            Level::Devices(bench) => {
                let changes = self.specs().count() > 1;
                !(self.without_policy || changes || bench.needs_host() && self.has_workload())
            }
        }
    }

    /// Whether one of its interfaces is a workload's.
    fn has_workload(&self) -> bool {
        let mut slots = self.interfaces.iter().map(|interface| interface.slot);
        slots.any(|slot| self.spec.interfaces[&slot].side == Side::Workload)
    }

    /// Whether the same loaded programs serve both, each under its own policy.
    pub(crate) fn has_programs_of(&self, other: &Self) -> bool {
        let attachments = |case: &Self| -> Vec<_> {
            let of = |it: &Interface| case.spec.interfaces[&it.slot].attachment(it.slot);
            case.interfaces.iter().map(of).collect()
        };
        attachments(self) == attachments(other) && self.grace_until == other.grace_until
    }

    /// Whether one set-up serves both.
    #[must_use]
    pub fn has_setting_of(&self, other: &Self) -> bool {
        let names =
            |case: &Self| case.interfaces.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        self.policy_text == other.policy_text
            && self.without_policy == other.without_policy
            && self.grace_until == other.grace_until
            && names(self) == names(other)
    }

    pub(crate) fn place(&self, line: u64) -> String {
        format!("{}:{line}: {}", self.file, self.name)
    }

    fn found(&self, decision: Decision) -> Expected {
        let known = || self.rule(decision.rule).unwrap_or_else(|| format!("{}", decision.rule));
        let rule = (decision.rule != 0).then(known);
        Expected { reason: decision.reason, rule }
    }
}
