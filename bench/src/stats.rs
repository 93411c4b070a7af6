//! What many rounds come to: medians, spread, ratios of what was measured in the same round.

use serde::Serialize;

/// The middle of many rounds, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The one in the middle.
    pub(crate) median: f64,
    /// A quarter of the rounds lies below.
    pub(crate) low: f64,
    /// A quarter lies above.
    pub(crate) high: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) rounds: usize,
}

impl Spread {
    /// Of any numbers; of none, not a number.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| quantile(&sorted, quarter);
        Self {
            median: at(2),
            low: at(1),
            high: at(3),
            min: at(0),
            max: at(4),
            rounds: sorted.len(),
        }
    }
}

/// The number behind so many quarters of a sorted list, between two of them where it falls so.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last * quarters;
    let (index, rest) = (place / 4, place % 4);
    let next = sorted[(index + 1).min(last)];
    sorted[index] + (next - sorted[index]) * number(rest) / 4.0
}

/// What so many of a hundred of a sorted list are not beyond; of none, not a number.
pub(crate) fn share(sorted: &[f64], of_hundred: usize) -> f64 {
    let place = (sorted.len() * of_hundred).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// A count as a number to calculate with; beyond 2^53 not exact.
#[expect(clippy::cast_precision_loss, reason = "counts are small, and a ratio needs no more")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_those_that_are_there() {
        let hundred: Vec<f64> = (1..=100).map(number).collect();
        assert_eq!((share(&hundred, 50), share(&hundred, 99)), (50.0, 99.0));
        assert_eq!(share(&[7.0], 99), 7.0);
        assert!(share(&[], 50).is_nan());
    }

    #[test]
    fn a_spread_has_its_quarters() {
        let Spread { median, low, high, min, max, rounds } = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((min, low, median, high, max, rounds), (1.0, 2.0, 3.0, 4.0, 5.0, 5));
        let even = Spread::of([1.0, 2.0]);
        assert_eq!((even.low, even.median, even.high), (1.25, 1.5, 1.75));
        assert!(Spread::of([]).median.is_nan());
    }
}
