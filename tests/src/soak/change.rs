//! Changes of policy that are killed, meet one another, or do not fit.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Measured, Options,
    policies::{self, Probe},
};
use crate::{scenario::Scenario, sgctl::Sgctl};

/// Changes killed for each round that was asked for: a moment is soon hit twice.
const KILLS: usize = 10;

/// What is in force by `sgctl status`, and what its history calls it.
struct Force<'s, 'net> {
    sgctl: &'s Sgctl<'net>,
    paths: Vec<String>,
}

impl<'s, 'net> Force<'s, 'net> {
    fn new(scenario: &'s Scenario<'net>) -> Result<Self> {
        let sgctl = scenario.controller("one");
        let path = |number| -> Result<String> {
            let path = sgctl.policy(&format!("{number}.yaml"), &policies::text(number))?;
            Ok(path.to_str().context("a path in UTF-8")?.to_owned())
        };
        Ok(Self { sgctl, paths: (1..=policies::COUNT).map(path).collect::<Result<_>>()? })
    }

    fn path(&self, policy: u16) -> &str {
        &self.paths[usize::from(policy) - 1]
    }

    /// Number in the history, and which policy that is.
    fn told(&self) -> Result<(u64, u16)> {
        let status = self.sgctl.json(&["status"])?;
        let number = status["number"].as_u64().context("a number")?;
        let text = self.sgctl.run(["history", &number.to_string(), "--policy"])?.ok()?.stdout;
        let policy = (1..=policies::COUNT).find(|&policy| text == policies::text(policy));
        Ok((number, policy.context("a policy that nobody has applied")?))
    }

    fn apply(&self, policy: u16) -> Result<()> {
        self.sgctl.run(["apply", self.path(policy)])?.ok()?;
        Ok(())
    }
}

/// `apply` killed at a random point.
pub(super) fn kill(options: Options) -> Result<Measured> {
    let net = policies::net()?;
    let scenario = policies::attach(&net, &[])?;
    let force = Force::new(&scenario)?;
    let probe = Probe::open(&net)?;
    let started = Instant::now();
    force.apply(2)?;
    // As late as on average half of the changes are made: one that levels what the last has left takes longer.
    let mut latest = started.elapsed();
    let (mut current, mut number) = (2, 2);
    let (mut old, mut new) = (0, 0);
    let mut random = Random(0x5eed);
    for round in 0..options.rounds * KILLS {
        // Either of the others: what a killed change to one has left must not come into force with the other.
        let step = if random.fraction() < 0.5 { 1 } else { 2 };
        let next = (current - 1 + step) % policies::COUNT + 1;
        let applying = force.sgctl.start(["apply", force.path(next)])?;
        thread::sleep(latest.mul_f64(random.fraction()));
        // Killed, and waited for.
        drop(applying);
        let found = probe.policy().with_context(|| format!("after kill {round}"))?;
        let (now, told) = force.told()?;
        ensure!(
            found == told,
            "after kill {round} policy {found} is in force and `sgctl status` says {told}"
        );
        ensure!(now == number || now == number + 1, "number {now} after {number}");
        ensure!((now == number) == (told == current), "policy {told} is number {now}");
        if now == number {
            old += 1;
            latest = latest.mul_f64(1.05);
        } else {
            new += 1;
            latest = latest.div_f64(1.05);
        }
        (number, current) = (now, told);
    }
    Ok(Measured {
        numbers: format!(
            "{} kills: {old} times the old policy, {new} times the new, 0 mixtures, `status` right each time",
            old + new
        ),
        passed: old > 0 && new > 0,
    })
}

/// Two `apply` at once.
pub(super) fn race(options: Options) -> Result<Measured> {
    let net = policies::net()?;
    let scenario = policies::attach(&net, &[])?;
    let force = Force::new(&scenario)?;
    let probe = Probe::open(&net)?;
    let mut last = [0, 0];
    for round in 0..options.rounds {
        force.apply(1)?;
        let (before, _) = force.told()?;
        let (second, third) = thread::scope(|scope| {
            let other = scope.spawn(|| force.apply(3));
            (force.apply(2), other.join().expect("no panic in an apply"))
        });
        second.and(third).with_context(|| format!("race {round}"))?;
        let (number, told) = force.told()?;
        let found = probe.policy()?;
        ensure!(found == told && found != 1, "{found} is in force, the history says {told}");
        ensure!(number == before + 2, "{number} after {before} and two changes");
        let Value::Array(entries) = force.sgctl.json(&["history"])? else {
            anyhow::bail!("history is a list");
        };
        let commands: Vec<_> = entries.iter().rev().take(2).map(|it| &it["command"]).collect();
        let names = |policy| commands[0].as_str().is_some_and(|it| it.contains(force.path(policy)));
        ensure!(names(found), "{commands:?}");
        last[usize::from(found) - 2] += 1;
    }
    Ok(Measured {
        numbers: format!(
            "{} races: {} times one last, {} times the other; history and packets agree each time",
            options.rounds, last[0], last[1]
        ),
        passed: true,
    })
}

/// A confirmation that does not come, though everything that applied is killed.
pub(super) fn unconfirmed(options: Options) -> Result<Measured> {
    let net = policies::net()?;
    let scenario = policies::attach(&net, &[])?;
    let force = Force::new(&scenario)?;
    let probe = Probe::open(&net)?;
    let within = Duration::from_secs(3);
    let mut latest = Duration::ZERO;
    let rounds = options.rounds.div_ceil(20);
    for round in 0..rounds {
        let mut session = force.sgctl.wrapped(
            &["setsid", "sh", "-c"],
            "\"$0\" \"$@\"; sleep 60",
            ["apply", force.path(2), "--confirm-within", "3s"],
        );
        let mut session = session.spawn()?;
        let begun = wait_for(&probe, 2)?;
        // The session's processes are the group of its leader.
        let killed = std::process::Command::new("pkill")
            .args(["-KILL", "-s", &session.id().to_string()])
            .status()?;
        ensure!(killed.success(), "nothing to kill in round {round}");
        session.wait()?;
        let back = wait_for(&probe, 1)?;
        latest = latest.max(back.duration_since(begun).saturating_sub(within));
        ensure!(force.told()?.1 == 1);
    }
    Ok(Measured {
        numbers: format!(
            "{rounds} killed sessions: the old policy is back at most {} ms after its deadline",
            latest.as_millis()
        ),
        passed: latest < Duration::from_secs(1),
    })
}

fn wait_for(probe: &Probe<'_>, policy: u16) -> Result<Instant> {
    let started = Instant::now();
    // In the middle of a probe the policy may change: that is no mixture.
    while probe.policy().ok() != Some(policy) {
        ensure!(started.elapsed() < Duration::from_secs(30), "policy {policy} does not come");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Instant::now())
}

/// Numbers that look random and are the same each time (Knuth's multiplier).
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bits = u32::try_from(self.0 >> 33).unwrap_or(u32::MAX);
        f64::from(bits) / f64::from(1_u32 << 31)
    }
}
