//! Rounds in which every contender has its turn, in another order each time, and what is worked out of them: ratios
//! are of the same round, because the machine is faster in one than in the next.

use ::tests::interrupt;
use anyhow::{Context as _, Result, ensure};

use crate::stats::Spread;

/// Measures once.
type Turn<'a, S> = Box<dyn FnMut() -> Result<S> + 'a>;

/// One of those that are compared.
pub(crate) struct Contender<'a, S> {
    name: &'static str,
    turn: Turn<'a, S>,
}

impl<'a, S> Contender<'a, S> {
    /// `turn` measures it once.
    pub(crate) fn new(name: &'static str, turn: impl FnMut() -> Result<S> + 'a) -> Self {
        Self { name, turn: Box::new(turn) }
    }
}

/// What was measured: a line a round, a column a contender.
#[derive(Debug)]
pub(crate) struct Paired<S> {
    names: Vec<&'static str>,
    lines: Vec<Vec<S>>,
}

/// Runs so many rounds, and one before them that does not count.
///
/// # Errors
/// When a turn fails, or somebody interrupted.
pub(crate) fn run<S>(rounds: usize, mut contenders: Vec<Contender<'_, S>>) -> Result<Paired<S>> {
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    let mut lines = Vec::new();
    for round in 0..=rounds {
        let mut line: Vec<_> = contenders.iter().map(|_| None).collect();
        for turn in 0..contenders.len() {
            ensure!(!interrupt::requested(), "interrupted");
            let index = (turn + round) % contenders.len();
            let contender = &mut contenders[index];
            line[index] = Some((contender.turn)().with_context(|| contender.name.to_owned())?);
        }
        if round > 0 {
            lines.push(line.into_iter().flatten().collect());
        }
    }
    Ok(Paired { names, lines })
}

impl<S> Paired<S> {
    fn place(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|&one| one == name).context("no such column")
    }

    /// A number of one contender.
    pub(crate) fn spread(&self, name: &str, of: impl Fn(&S) -> f64) -> Result<Spread> {
        let place = self.place(name)?;
        Ok(Spread::of(self.lines.iter().map(|line| of(&line[place]))))
    }

    /// A number of one by that of another, round by round.
    pub(crate) fn ratio(&self, one: &str, other: &str, of: impl Fn(&S) -> f64) -> Result<Spread> {
        let (one, other) = (self.place(one)?, self.place(other)?);
        Ok(Spread::of(self.lines.iter().map(|line| of(&line[one]) / of(&line[other]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count_and_ratios_are_of_the_same_round() {
        let counter = |factor: f64| {
            let mut turns = 0.0;
            move || {
                turns += 1.0;
                Ok(turns * factor)
            }
        };
        let contenders =
            vec![Contender::new("one", counter(3.0)), Contender::new("other", counter(2.0))];
        let paired = run(3, contenders).unwrap();
        assert_eq!(paired.spread("other", |&it| it).unwrap().min, 4.0);
        assert_eq!(paired.spread("other", |&it| it).unwrap().rounds, 3);
        let ratio = paired.ratio("one", "other", |&it| it).unwrap();
        assert_eq!((ratio.min, ratio.max), (1.5, 1.5));
        assert!(paired.spread("nobody", |&it| it).is_err());
    }
}
