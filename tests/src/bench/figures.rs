//! Arithmetic of measurements: medians and ratios.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

/// The middle one; of an even number, the mean of the two in the middle. Of none, not a number.
pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => f64::midpoint(numbers[middle - 1], numbers[middle]),
        _ => numbers[middle],
    }
}

/// The median of the ratios of pairs, each measured one after the other.
pub(super) fn median_ratio(pairs: &[(f64, f64)]) -> f64 {
    median(pairs.iter().map(|(one, other)| one / other).collect())
}

/// The median of one side of pairs.
pub(super) fn medians(pairs: &[(f64, f64)]) -> (f64, f64) {
    let side = |of: fn(&(f64, f64)) -> f64| median(pairs.iter().map(of).collect());
    (side(|pair| pair.0), side(|pair| pair.1))
}

/// Seconds that work took, and its result.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed().as_secs_f64(), result)
}

/// Seconds that this thread has run while it did the work, whatever else the machine did, and the result.
pub(super) fn worked<T>(work: impl FnOnce() -> T) -> Result<(f64, T)> {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = now()?;
    let result = work();
    Ok(((now()? - before).as_secs_f64(), result))
}

/// A count as a number to calculate with; beyond 2^53 not exact.
#[expect(clippy::cast_precision_loss, reason = "counts are small, and a ratio needs no more")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![9.0, 1.0, 5.0, 6.0]), 5.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // A machine that became ten times slower half-way tells nothing of the pairs.
        let pairs = [(2.0, 1.0), (20.0, 10.0), (60.0, 20.0)];
        assert_eq!(median_ratio(&pairs), 2.0);
        assert_eq!(medians(&pairs), (20.0, 10.0));
    }
}
