//! Interleaved rounds: what is compared runs in turn, in another order each time, in batches of about the same time.
//! A machine that is faster now than a second ago is so for all of them.

use std::time::Duration;

use ::tests::interrupt;
use anyhow::{Context as _, Result};

use crate::stats::Spread;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds that count; one before them does not.
    pub(crate) rounds: usize,
    /// What a batch is to take.
    pub(crate) batch: Duration,
}

/// Packets by which a batch's size is found.
const TRIAL: u32 = 4096;
/// The smallest batch.
const FEW: u32 = 1024;

/// Runs a batch of so many packets and tells what each took, in nanoseconds.
type Batch<'a> = Box<dyn FnMut(u32) -> Result<f64> + 'a>;

/// One of those that are compared.
pub(crate) struct Contender<'a> {
    name: &'static str,
    most: u32,
    batch: Batch<'a>,
}

impl<'a> Contender<'a> {
    /// Batches of at most so many packets.
    pub(crate) fn new(
        name: &'static str,
        most: u32,
        batch: impl FnMut(u32) -> Result<f64> + 'a,
    ) -> Self {
        Self { name, most, batch: Box::new(batch) }
    }
}

/// Nanoseconds a packet: a line a round, a column a contender.
#[derive(Debug)]
pub(crate) struct Rounds {
    names: Vec<&'static str>,
    lines: Vec<Vec<f64>>,
}

/// Runs them all.
///
/// # Errors
/// When a batch did not do what it was to do, or somebody interrupted.
pub(crate) fn run(plan: Plan, mut contenders: Vec<Contender<'_>>) -> Result<Rounds> {
    let mut counts = Vec::new();
    for contender in &mut contenders {
        let trial = TRIAL.min(contender.most);
        let took = (contender.batch)(trial).with_context(|| contender.name.to_owned())?;
        counts.push(fitting(plan.batch, took, contender.most));
    }
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    let mut lines = Vec::new();
    for round in 0..=plan.rounds {
        let mut line = vec![0.0; contenders.len()];
        for turn in 0..contenders.len() {
            anyhow::ensure!(!interrupt::requested(), "interrupted");
            let index = (turn + round) % contenders.len();
            let contender = &mut contenders[index];
            line[index] =
                (contender.batch)(counts[index]).with_context(|| contender.name.to_owned())?;
        }
        if round > 0 {
            lines.push(line);
        }
    }
    Ok(Rounds { names, lines })
}

/// Packets that take about as long as a batch is to take.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is confined")]
fn fitting(batch: Duration, nanoseconds: f64, most: u32) -> u32 {
    let wanted = batch.as_secs_f64() * 1e9 / nanoseconds.max(1.0);
    (wanted.min(f64::from(u32::MAX)) as u32).clamp(FEW.min(most), most)
}

impl Rounds {
    /// What is worked out of every round by the columns of these names.
    fn each<const N: usize>(
        &self,
        names: [&str; N],
        of: impl Fn([f64; N]) -> f64,
    ) -> Result<Spread> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            *place = self.names.iter().position(|&one| one == name).context("no such column")?;
        }
        Ok(Spread::of(self.lines.iter().map(|line| of(places.map(|place| line[place])))))
    }

    /// One column.
    pub(crate) fn spread(&self, name: &str) -> Result<Spread> {
        self.each([name], |[one]| one)
    }

    /// One by another, round by round.
    pub(crate) fn ratio(&self, one: &str, other: &str) -> Result<Spread> {
        self.each([one, other], |[one, other]| one / other)
    }

    /// The same without what both have of a third: the stricter form, since what both have pulls a ratio to one.
    pub(crate) fn net_ratio(&self, one: &str, other: &str, less: &str) -> Result<Spread> {
        self.each([one, other, less], |[one, other, less]| (one - less) / (other - less))
    }

    /// One column without another.
    pub(crate) fn net(&self, one: &str, less: &str) -> Result<Spread> {
        self.each([one, less], |[one, less]| one - less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let lines = vec![vec![1.0, 2.0, 5.0], vec![10.0, 20.0, 50.0], vec![1.0, 2.0, 4.0]];
        let rounds = Rounds { names: vec!["driver", "floor", "ours"], lines };
        assert_eq!(rounds.ratio("ours", "floor").unwrap().median, 2.5);
        assert_eq!(rounds.net_ratio("ours", "floor", "driver").unwrap().median, 4.0);
        assert!(rounds.spread("nobody").is_err());
    }

    #[test]
    fn batches_fit_their_time() {
        let batch = Duration::from_millis(1);
        assert_eq!(fitting(batch, 100.0, 1 << 20), 10_000);
        assert_eq!(fitting(batch, 100.0, 5000), 5000);
        assert_eq!(fitting(batch, 1e9, 1 << 20), FEW);
    }

    #[test]
    fn each_contender_runs_in_every_round() {
        let plan = Plan { rounds: 3, batch: Duration::from_micros(1) };
        let mut calls = 0;
        let batch = |_count| {
            calls += 1;
            Ok(f64::from(calls))
        };
        let rounds = run(plan, vec![Contender::new("one", 10, batch)]).unwrap();
        // One to find the size, one that does not count.
        assert_eq!(rounds.spread("one").unwrap().min, 3.0);
        assert_eq!(rounds.spread("one").unwrap().rounds, 3);
    }
}
