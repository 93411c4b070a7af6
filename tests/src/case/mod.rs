//! Cases: policy text and packets, with what must come of each. One set serves every level: the engine on the
//! host, the programs in a test run, the programs on real devices.
//!
//! A file of `tests/cases` is a list of cases:
//!
//! ```yaml
//! - name: who may open a connection may go on
//!   why: one sentence, and the rule of DESIGN.md
//!   policy: |           # as `sgctl` reads it
//!     ...
//!   grace: 30s          # flows are learnt so long; none unless given
//!   interface: web      # or several, [web, db]; a step names another than the first with `at:`
//!   steps:
//!     - in: tcp 198.51.100.7:40000 > 10.0.0.5:80 S seq=100
//!       is: allow rule "group web ingress tcp/80 from 0.0.0.0/0"
//!     - out: tcp 10.0.0.5:80 > 198.51.100.7:40000 SA seq=500 ack=101
//!       is: allow flow
//!     - wait: 31s
//!     - policy: |         # another one, from here on
//!         ...
//!   counters: {ingress: {rule: 1}, egress: {flow: 1}}   # `web ingress` where there are several
//!   hits: {"group web ingress tcp/80 from 0.0.0.0/0": 2}   # packets by rule in force at the end, if given
//!   events: [allow]     # kinds in order, where ends of flows matter
//! ```
//!
//! [`packet`] describes the language of the packets.

pub mod check;
pub(crate) mod devices;
pub(crate) mod judges;
pub mod packet;
mod text;
mod transport;
mod words;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use sg_common::abi::{EventKind, InterfaceFlags};
use sg_common::{Direction, Reason};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::policy::{self, Policy};

pub use devices::Bench;
pub use text::{File, files};

/// A case, ready to run.
#[derive(Debug)]
pub struct Case {
    /// The file it stands in.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// Line of its name.
    pub line: u64,
    pub(crate) policy_text: String,
    pub(crate) policy: Policy,
    pub(crate) spec: TableSpec,
    pub(crate) interfaces: Vec<Interface>,
    /// The interfaces are there but have no policy yet.
    pub(crate) without_policy: bool,
    /// When the grace time ends in which flows are learnt; 0: there is none.
    pub(crate) grace_until: u64,
    pub(crate) steps: Vec<Step>,
    counters: Counters,
    /// Packets by rule in force at the end; `None`: they follow from the steps.
    hits: Option<BTreeMap<String, u64>>,
    /// Kinds in order; `None`: ends of flows do not matter.
    events: Option<Vec<EventKind>>,
}

/// An interface that judges packets.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) slot: u16,
    pub(crate) mac: Option<[u8; 6]>,
}

/// When a case begins, in nanoseconds: any time but zero, which means "free" to the clock of flows.
const START: u64 = 1_000_000_000_000;

/// Packets by interface, direction and reason.
type Counters = BTreeMap<(usize, Direction, Reason), u64>;

/// One line of a case.
#[derive(Debug)]
pub(crate) struct Step {
    line: u64,
    pub(crate) text: String,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Nanoseconds pass.
    Wait(u64),
    /// A packet comes.
    Packet { at: usize, direction: Direction, frame: Vec<u8>, expected: Expected },
    /// Another policy is put in force.
    Change(Box<TableSpec>),
}

/// What must become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    reason: Reason,
    /// The rule in words, where it matters.
    rule: Option<String>,
}

impl Case {
    /// A case without steps: a policy and the interface that judges, for packets from elsewhere.
    pub(crate) fn without_steps(name: &str, policy: &str, interface: &str) -> Result<Self> {
        let case = text::Case {
            name: name.to_owned(),
            policy: policy.to_owned(),
            interface: text::OneOrMany::One(interface.to_owned()),
            ..text::Case::default()
        };
        Self::from_text(name, 1, case)
    }

    fn from_text(file: &str, line: u64, case: text::Case) -> Result<Self> {
        let loaded = policy::load(&case.name, &case.policy).map_err(|rejected| {
            anyhow::anyhow!("{}", rejected.diagnostics.render(policy::Style::OneLine))
        })?;
        let names = case.interface.names();
        let surroundings = Surroundings::of(names.iter().map(String::as_str));
        let mut spec = compile(&loaded.policy, &surroundings, None)?;
        if case.without_policy {
            spec.interfaces.values_mut().for_each(|interface| interface.version.policy = 0);
        }
        let interfaces =
            names.into_iter().map(|name| interface(&spec, name)).collect::<Result<Vec<_>>>()?;
        let mut steps: Vec<Step> = Vec::new();
        let mut current = spec.clone();
        for step in case.steps {
            let line = step.referenced.line();
            let step = match &step.value.policy {
                Some(text) => changed(text, &surroundings, &current).map(|spec| {
                    current = spec;
                    let action = Action::Change(Box::new(current.clone()));
                    Step { line, text: "policy".to_owned(), action }
                }),
                None => Step::from_text(line, step.value, &interfaces),
            };
            steps.push(step.with_context(|| format!("line {line}"))?);
        }
        let counters = counters(case.counters, &interfaces)?;
        let kind = |name: &String| {
            let kinds = [EventKind::Allow, EventKind::Drop, EventKind::End];
            let found = kinds.into_iter().find(|kind| kind.name() == name);
            found.with_context(|| format!("no event is {name}"))
        };
        let events = case.events.map(|kinds| kinds.iter().map(kind).collect()).transpose()?;
        Ok(Self {
            file: file.to_owned(),
            line,
            name: case.name,
            policy_text: case.policy,
            policy: loaded.policy,
            spec,
            interfaces,
            without_policy: case.without_policy,
            grace_until: case
                .grace
                .map_or(Ok(0), |time| nanoseconds(&time).map(|it| START + it))?,
            steps,
            counters,
            hits: case.hits,
            events,
        })
    }

    /// Its packets in order, each with the nanoseconds that pass before it.
    pub fn packets(&self) -> impl Iterator<Item = (u64, Direction, &[u8])> {
        let mut pause = 0;
        self.steps.iter().filter_map(move |step| match &step.action {
            Action::Wait(nanoseconds) => {
                pause += nanoseconds;
                None
            }
            Action::Change(_) => None,
            Action::Packet { direction, frame, .. } => {
                Some((std::mem::take(&mut pause), *direction, frame.as_slice()))
            }
        })
    }

    /// Every spec that is in force at some time.
    fn specs(&self) -> impl Iterator<Item = &TableSpec> {
        let later = self.steps.iter().filter_map(|step| match &step.action {
            Action::Change(spec) => Some(spec.as_ref()),
            Action::Wait(_) | Action::Packet { .. } => None,
        });
        std::iter::once(&self.spec).chain(later)
    }

    /// A rule in the words of the cases. Its number means the same under every policy.
    fn rule(&self, number: u32) -> Option<String> {
        self.specs().find_map(|spec| spec.rules.get(&number)).map(ToString::to_string)
    }
}

/// The spec of another policy for the same interfaces.
fn changed(text: &str, surroundings: &Surroundings, current: &TableSpec) -> Result<TableSpec> {
    let loaded = policy::load("changed", text).map_err(|rejected| {
        anyhow::anyhow!("{}", rejected.diagnostics.render(policy::Style::OneLine))
    })?;
    Ok(compile(&loaded.policy, surroundings, Some(current))?)
}

fn interface(spec: &TableSpec, name: String) -> Result<Interface> {
    let slot = spec.slot(&name).with_context(|| format!("no interface {name}"))?;
    let version = spec.interfaces.get(&slot).context("its slot")?.version;
    let mac = (version.flags & InterfaceFlags::MAC != 0).then_some(version.mac);
    Ok(Interface { name, slot, mac })
}

impl Step {
    fn from_text(line: u64, step: text::Step, interfaces: &[Interface]) -> Result<Self> {
        let (direction, packet) = match (step.ingress, step.egress, step.wait) {
            (Some(text), None, None) => (Direction::Ingress, text),
            (None, Some(text), None) => (Direction::Egress, text),
            (None, None, Some(text)) if step.is.is_none() && step.at.is_none() => {
                let action = Action::Wait(nanoseconds(&text)?);
                return Ok(Self { line, text: format!("wait: {text}"), action });
            }
            _ => bail!("a step is one of in, out, wait and policy"),
        };
        let at = step.at.map_or(Ok(0), |name| index(interfaces, &name))?;
        let expected = Expected::from_text(&step.is.context("`is` is missing")?)?;
        let frame = packet::frame(&packet, direction, interfaces[at].mac)
            .with_context(|| packet.clone())?;
        let way = match direction {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        };
        let action = Action::Packet { at, direction, frame, expected };
        Ok(Self { line, text: format!("{way}: {packet}"), action })
    }
}

impl Expected {
    /// `allow rule "..."`, `allow flow`, `drop no_rule`
    fn from_text(text: &str) -> Result<Self> {
        let (verdict, rest) = text.split_once(' ').context("verdict and reason")?;
        let (reason, rule) = match rest.split_once(' ') {
            Some((reason, rule)) => {
                let rule = rule.strip_prefix('"').and_then(|rule| rule.strip_suffix('"'));
                (reason, Some(rule.context("a rule stands in quotation marks")?.to_owned()))
            }
            None => (rest, None),
        };
        let reason = reason_of(reason)?;
        ensure!(reason.verdict().name() == verdict, "{} is no {verdict}", reason.name());
        ensure!((reason == Reason::Rule) <= rule.is_some(), "which rule?");
        Ok(Self { reason, rule })
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.reason.verdict().name(), self.reason.name())?;
        self.rule.as_ref().map_or(Ok(()), |rule| write!(f, " {rule:?}"))
    }
}

fn reason_of(name: &str) -> Result<Reason> {
    let found = Reason::ALL.iter().copied().find(|reason| reason.name() == name);
    found.with_context(|| format!("no reason is {name}"))
}

fn index(interfaces: &[Interface], name: &str) -> Result<usize> {
    let found = interfaces.iter().position(|interface| interface.name == name);
    found.with_context(|| format!("the case has no interface {name}"))
}

/// `31s`
fn nanoseconds(text: &str) -> Result<u64> {
    let seconds = text.strip_suffix('s').context("seconds, as in 31s")?;
    Ok(seconds.parse::<u64>()? * 1_000_000_000)
}

/// `ingress` of the only interface, `web ingress` of one of several.
fn counters(text: text::Counters, interfaces: &[Interface]) -> Result<Counters> {
    let mut counters = Counters::new();
    for (key, reasons) in text {
        let (at, direction) = match key.rsplit_once(' ') {
            Some((name, direction)) => (index(interfaces, name)?, direction),
            None => (0, key.as_str()),
        };
        let direction = Direction::ALL.into_iter().find(|it| it.name() == direction);
        let direction = direction.with_context(|| format!("no direction in {key}"))?;
        for (reason, packets) in reasons {
            counters.insert((at, direction, reason_of(&reason)?), packets);
        }
    }
    Ok(counters)
}
