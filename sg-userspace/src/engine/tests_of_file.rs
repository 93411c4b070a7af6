//! The policy file's `tests:`, judged by the engine before the policy is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use sg_common::wire::ip;
use sg_common::{Direction, Verdict};

use super::packets::Probe;
use super::reach::{Answer, ReachError, reach};
use crate::compile::{CompileError, Surroundings, TableSpec, compile};
use crate::policy::Policy;
use crate::policy::model::{Endpoint, Expect, ReachabilityTest, Traffic};

/// What became of one line of `tests:`.
#[derive(Debug)]
pub struct TestResult {
    /// The line.
    pub test: ReachabilityTest,
    /// What came out.
    pub outcome: Outcome,
}

/// How far a test got.
#[derive(Debug)]
pub enum Outcome {
    /// Judged at each end that is an interface, the sender's first.
    Judged(Vec<End>),
    /// The ends have no addresses of one family that the traffic exists in. With `addresses: auto` they
    /// may not be known yet.
    NoCommonFamily,
    /// No packet could be made of it.
    Failed(ReachError),
}

/// One end of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Name of the interface.
    pub interface: String,
    /// Which of its rules were asked.
    pub direction: Direction,
    /// Its address.
    pub local: IpAddr,
    /// The other end's.
    pub remote: IpAddr,
    /// What it said.
    pub answer: Answer,
}

impl TestResult {
    /// Allow only if every end allows; `None` where nothing was judged.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        match &self.outcome {
            Outcome::Judged(_) if self.dropped_by().is_some() => Some(Verdict::Drop),
            Outcome::Judged(_) => Some(Verdict::Allow),
            Outcome::NoCommonFamily | Outcome::Failed(_) => None,
        }
    }

    /// The first end that drops.
    #[must_use]
    pub fn dropped_by(&self) -> Option<&End> {
        let Outcome::Judged(ends) = &self.outcome else { return None };
        ends.iter().find(|end| end.answer.decision.verdict() == Verdict::Drop)
    }

    /// Whether what was expected came out.
    #[must_use]
    pub fn passed(&self) -> bool {
        let expected = match self.test.expect {
            Expect::Allow => Verdict::Allow,
            Expect::Drop => Verdict::Drop,
        };
        self.verdict() == Some(expected)
    }
}

/// Judges every line of `tests:`; `auto` are the addresses of interfaces that take their devices'.
///
/// # Errors
///
/// [`CompileError`] when the policy cannot be compiled for the interfaces under test.
pub fn run_tests(
    policy: &Policy,
    auto: &BTreeMap<String, Vec<IpNet>>,
) -> Result<Vec<TestResult>, CompileError> {
    let ends = policy.tests.iter().flat_map(|test| [test.from, test.to]);
    let local: BTreeSet<String> =
        ends.filter_map(|end| name(policy, end)).map(str::to_owned).collect();
    let surroundings = Surroundings { local, addresses: auto.clone() };
    let spec = compile(policy, &surroundings, None)?;
    let slots = spec.interfaces.iter().map(|(&slot, it)| (it.name.as_str(), slot)).collect();
    let bench = Bench { policy, spec: &spec, slots, auto };
    Ok(policy.tests.iter().map(|test| bench.run(test)).collect())
}

fn name(policy: &Policy, end: Endpoint) -> Option<&str> {
    match end {
        Endpoint::Interface { vpc, interface } => {
            Some(policy.vpcs[vpc].interfaces[interface].name.as_str())
        }
        Endpoint::Address(_) => None,
    }
}

struct Bench<'p> {
    policy: &'p Policy,
    spec: &'p TableSpec,
    slots: BTreeMap<&'p str, u16>,
    auto: &'p BTreeMap<String, Vec<IpNet>>,
}

impl Bench<'_> {
    fn run(&self, test: &ReachabilityTest) -> TestResult {
        let outcome = match self.addresses(test) {
            Some((from, to)) => self.judge(test, from, to),
            None => Outcome::NoCommonFamily,
        };
        TestResult { test: test.clone(), outcome }
    }

    fn judge(&self, test: &ReachabilityTest, from: IpAddr, to: IpAddr) -> Outcome {
        let mut ends = Vec::new();
        for (end, direction, local, remote) in
            [(test.from, Direction::Egress, from, to), (test.to, Direction::Ingress, to, from)]
        {
            let Some(name) = name(self.policy, end) else { continue };
            let Some(&slot) = self.slots.get(name) else { continue };
            let probe = Probe::new(direction, local, remote, test.traffic);
            match reach(self.spec, slot, &probe) {
                Ok(answer) => {
                    ends.push(End { interface: name.to_owned(), direction, local, remote, answer });
                }
                Err(error) => return Outcome::Failed(error),
            }
        }
        Outcome::Judged(ends)
    }

    /// An address of each end, of one family that the traffic exists in; IPv4 where both would do.
    fn addresses(&self, test: &ReachabilityTest) -> Option<(IpAddr, IpAddr)> {
        let (from, to) = (self.candidates(test.from), self.candidates(test.to));
        let of = |candidates: &[IpAddr], v4| candidates.iter().copied().find(|a| a.is_ipv4() == v4);
        let families = [true, false].into_iter().filter(|&v4| fits(test.traffic, v4));
        families.filter_map(|v4| of(&from, v4).zip(of(&to, v4))).next()
    }

    /// Addresses of an end, link-local ones last.
    fn candidates(&self, end: Endpoint) -> Vec<IpAddr> {
        let (vpc, interface) = match end {
            Endpoint::Address(address) => return vec![address],
            Endpoint::Interface { vpc, interface } => (vpc, interface),
        };
        let interface = &self.policy.vpcs[vpc].interfaces[interface];
        let known = if interface.auto_addresses {
            self.auto.get(&interface.name)
        } else {
            Some(&interface.addresses)
        };
        let mut addresses: Vec<IpAddr> = known.into_iter().flatten().map(representative).collect();
        addresses.sort_by_key(is_link_local);
        addresses
    }
}

/// The address of a host, or one of those that a prefix stands for.
fn representative(net: &IpNet) -> IpAddr {
    if net.addr() != net.network() {
        return net.addr();
    }
    net.hosts().next().unwrap_or(net.addr())
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn fits(traffic: Traffic, v4: bool) -> bool {
    match traffic {
        Traffic::Icmp { protocol, .. } => (protocol == ip::ICMP) == v4,
        Traffic::All | Traffic::Ports { .. } | Traffic::Protocol(_) => true,
    }
}
