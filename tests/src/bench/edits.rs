//! Edits by the thousand against traffic: how many a second, whether any packet met a wrong verdict, and what packets
//! cost meanwhile.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sg_userspace::{
    kernel::{
        Paths,
        live::Live,
        measure::{self, Runs, Timing},
        read,
    },
    policy::model::Traffic as Packets,
};

use super::{
    Measured, Options,
    editing::Gate,
    figures,
    flows::{ALLOWED, Count, STEADY, Traffic},
    member::start_serving,
};
use crate::{
    example::{Example, Side::Workload},
    net::Net,
    scenario::Scenario,
    sgctl::Sgctl,
};

/// Rounds, each quiet first and then edited for as long.
const ROUNDS: usize = 12;
/// Of a round's half: its cost is the median of so many slices.
const SLICES: usize = 10;
const SLICE: Duration = Duration::from_millis(100);

/// What the halves of the rounds have shown.
#[derive(Debug, Default)]
struct Rounds {
    /// Nanoseconds a packet: edited, quiet.
    costs: Vec<(f64, f64)>,
    answered: u64,
    editing: Duration,
}

/// What the programs have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    /// Packets that a rule allowed, and packets of flows.
    rule: u64,
    flow: u64,
    no_rule: u64,
    /// Because of the rule for members.
    hits: u64,
}

pub(super) fn run(options: Options) -> Result<Measured> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &Example::new("bench", policy()?)?, Workload)?;
    let sgctl = scenario.controller("server");
    let paths = sgctl.paths();
    let _serving = start_serving(sgctl)?;
    let traffic = Traffic::open(&net)?;
    let programs = programs(sgctl)?;
    let before = sgctl.number()?;
    let counted_before = counters(sgctl, &paths)?;
    let rounds = if options.quick { 2 } else { ROUNDS };
    let found = measure_rounds(&traffic, &paths, &programs, rounds)?;
    let counts = traffic.settle()?;
    let changes = sgctl.number()? - before;
    let counted = counters(sgctl, &paths)?;
    Ok(conclude(&found, &counts, changes, counted_before, counted))
}

fn measure_rounds(
    traffic: &Traffic<'_>,
    paths: &Paths,
    programs: &[u32],
    rounds: usize,
) -> Result<Rounds> {
    let _timing = Timing::start()?;
    let (gate, stop) = (Gate::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.flow(&stop));
        let clients = gate.clients(scope, paths);
        let mut found = Rounds::default();
        let measured = (0..rounds).try_for_each(|_| -> Result<()> {
            let quiet = cost(programs)?;
            let (edited, answered, took) = gate.during(|| cost(programs))?;
            found.costs.push((edited, quiet));
            found.answered += answered;
            found.editing += took;
            Ok(())
        });
        gate.finish();
        stop.store(true, Relaxed);
        for client in clients {
            client.join().expect("no panic in a client")?;
        }
        sender.join().expect("no panic in the sender")?;
        measured.map(|()| found)
    })
}

/// Nanoseconds a run of the programs, now.
fn cost(programs: &[u32]) -> Result<f64> {
    let mut slices = Vec::with_capacity(SLICES);
    for _ in 0..SLICES {
        let before = runs(programs)?;
        thread::sleep(SLICE);
        let after = runs(programs)?;
        slices.extend(cost_between(before, after));
    }
    ensure!(!slices.is_empty(), "no packet has met a program");
    Ok(figures::median(slices))
}

fn runs(programs: &[u32]) -> Result<Runs> {
    programs.iter().try_fold(Runs::default(), |sum, &program| {
        let one = measure::runs(program)?;
        Ok(Runs { count: sum.count + one.count, time: sum.time + one.time })
    })
}

#[expect(clippy::cast_precision_loss, reason = "the runs of a tenth of a second")]
fn cost_between(before: Runs, after: Runs) -> Option<f64> {
    let count = after.count - before.count;
    (count > 0).then(|| (after.time - before.time) as f64 / count as f64)
}

fn conclude(
    found: &Rounds,
    counts: &[Count; 4],
    changes: u64,
    before: Counters,
    after: Counters,
) -> Measured {
    let sum = |allowed: bool| -> (u64, u64) {
        let of = counts.iter().filter(|one| one.is_allowed() == allowed);
        of.fold((0, 0), |(sent, wrong), one| (sent + one.sent, wrong + one.wrong()))
    };
    let ((allowed, lost), (denied, passed)) = (sum(true), sum(false));
    let (opened, followed) = (after.rule - before.rule, after.flow - before.flow);
    let (refused, hits) = (after.no_rule - before.no_rule, after.hits - before.hits);
    let seconds = found.editing.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let by_second = found.answered as f64 / seconds;
    let mut measured = Measured::begin();
    measured.add(by_second >= 1000.0, format!("{by_second:.0} edits a second"));
    measured.add(
        lost == 0 && passed == 0 && counts.iter().all(|one| one.sent > 0),
        format!("{lost} of {allowed} allowed lost, {passed} of {denied} denied passed"),
    );
    measured.add(
        opened + followed == allowed && refused == denied && hits == allowed,
        format!("counted {opened}+{followed} by rule and flow, {hits} hits, {refused} no_rule"),
    );
    measured.at_most(1.1, figures::median_ratio(&found.costs), "packets");
    let (edited, quiet) = figures::medians(&found.costs);
    measured.context(format!("{} edits in {changes} changes in {seconds:.1} s", found.answered));
    measured.context(format!("{edited:.0} ns a packet against {quiet:.0} ns"));
    measured
}

fn counters(sgctl: &Sgctl<'_>, paths: &Paths) -> Result<Counters> {
    let status = sgctl.json(&["status"])?;
    let listed = status["interfaces"][0]["counters"].as_array().context("counters")?;
    let of = |reason: &str| {
        let found =
            listed.iter().find(|one| one["direction"] == "ingress" && one["reason"] == reason);
        found.and_then(|one| one["packets"].as_u64()).unwrap_or_default()
    };
    let rules = Live::require(paths)?.tables.rules;
    let is_ours =
        |traffic: Packets| matches!(traffic, Packets::Ports { first, .. } if first == ALLOWED);
    let number = rules.iter().find(|(_, rule)| is_ours(rule.identity.traffic));
    let (&number, _) = number.context("the members' rule")?;
    let hits = read::rule_hits(paths)?.into_iter().find(|one| one.rule == number);
    let hits = hits.map(|one| one.packets).unwrap_or_default();
    Ok(Counters { rule: of("rule"), flow: of("flow"), no_rule: of("no_rule"), hits })
}

fn programs(sgctl: &Sgctl<'_>) -> Result<Vec<u32>> {
    let status = sgctl.json(&["status"])?;
    let hooks = status["devices"][0]["hooks"].as_array().context("hooks")?;
    let programs = hooks.iter().filter_map(|hook| hook["program"].as_u64());
    programs.map(|program| Ok(u32::try_from(program)?)).collect()
}

fn policy() -> Result<String> {
    let mut text = format!(
        "vpcs:\n  - name: lab\n    cidrs: [10.77.0.0/16, 10.78.0.0/16]\n    security_groups:\n      \
         - {{name: edited, egress: []}}\n      - {{name: also, egress: []}}\n      - name: guarded\n        \
         ingress:\n          - {{protocol: udp, ports: {ALLOWED}, from: {{group: edited}}}}\n          \
         - {{protocol: udp, ports: 7999, from: {{group: also}}}}\n        egress: []\n    interfaces:\n      \
         - {{name: server, addresses: [10.77.2.10], groups: [guarded], device: to-server, side: workload}}\n      \
         - {{name: steady, addresses: [{STEADY}], groups: [edited]}}\n"
    );
    for number in 0..=255 {
        let address = format!("10.77.100.{number}");
        writeln!(text, "      - {{name: m-{number}, addresses: [{address}], groups: [edited]}}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_by_the_run() {
        let runs = |count, time| Runs { count, time };
        assert_eq!(cost_between(runs(10, 1000), runs(14, 1600)), Some(150.0));
        assert_eq!(cost_between(runs(10, 1000), runs(10, 1000)), None);
    }

    #[test]
    fn the_policy_is_one() {
        Example::new("bench", policy().expect("a text")).expect("a policy");
    }
}
