//! How sure a mean is: intervals from resampling.

use super::percentile_ends::ranked_ends;
use crate::base::RandomStream;

/// A mean, and the interval that is to cover what it estimates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean of the values.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The percentile bootstrap interval of the mean of `values`, which must be independent of each other.
///
/// `resamples` times as many values as there are, are drawn from them with replacement; with K = (`resamples` + 1)
/// (1 - `level`) / 2, rounded down but at least 1, the interval goes from the K-th smallest to the K-th largest mean of
/// the draws. About `level` of such intervals, between 0 and 1, cover the true mean; at 0.95 a thousand resamples
/// are enough. Equal values give a point, however few they are: no resampling knows of values that never came.
///
/// `None` where there is nothing to say: no values, no resamples, a level that is not between 0 and 1, a value that is
/// not finite, or values whose sum is not.
///
/// # Complexity
/// O(values x resamples) time, O(resamples) memory.
///
/// # References
/// Efron: Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979). Efron, Tibshirani: An
/// introduction to the bootstrap (1993), sections 12.5 (the rank K) and 13.3 (the percentile interval).
///
/// ```
/// use ascribe::stats::mean_interval;
/// let found = [1.0, 1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.5];
/// let recall = mean_interval(&found, 0.9, 999, 7).expect("finite values");
/// assert_eq!(recall.mean, 0.75);
/// assert_eq!((recall.low, recall.high), (0.5625, 0.9375));
/// ```
pub fn mean_interval(values: &[f64], level: f64, resamples: usize, seed: u64) -> Option<Interval> {
    if values.is_empty() || resamples == 0 || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if !mean.is_finite() {
        return None;
    }
    let mut stream = RandomStream::new(seed);
    let mut draw = || values.get(stream.below(values.len() as u64) as usize).copied().unwrap_or_default();
    let mut means: Vec<f64> =
        (0..resamples).map(|_| (0..values.len()).map(|_| draw()).sum::<f64>() / count).collect();
    let (low, high) = ranked_ends(&mut means, level)?;
    (low.is_finite() && high.is_finite()).then_some(Interval { mean, low, high })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_interval_contains_the_mean_and_lies_within_the_values(
            values in prop::collection::vec(-100.0..100.0_f64, 2..40),
            level in 0.8..0.99_f64,
            seed in any::<u64>(),
        ) {
            let interval = mean_interval(&values, level, 400, seed).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(interval.low <= interval.mean && interval.mean <= interval.high, "{interval:?}");
            prop_assert!(least - 1e-9 <= interval.low && interval.high <= most + 1e-9, "{interval:?}");
        }

        #[test]
        fn equal_values_give_a_point(value in -1e3..1e3_f64, count in 1..50_usize, seed in any::<u64>()) {
            let interval = mean_interval(&vec![value; count], 0.95, 50, seed).unwrap();
            prop_assert_eq!((interval.low, interval.high), (interval.mean, interval.mean));
            prop_assert!((interval.mean - value).abs() <= 1e-9 * value.abs());
        }

        #[test]
        fn a_seed_gives_one_interval_and_a_higher_level_a_wider_one(
            values in prop::collection::vec(0.0..1.0_f64, 2..40),
            seed in any::<u64>(),
        ) {
            let at = |level, seed| mean_interval(&values, level, 200, seed).unwrap();
            prop_assert_eq!(at(0.9, seed), at(0.9, seed));
            let (narrow, wide) = (at(0.5, seed), at(0.95, seed));
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        }
    }

    #[test]
    fn different_seeds_draw_differently() {
        let values: Vec<f64> = (0..30).map(|value| f64::from(value * value)).collect();
        let lows: Vec<f64> =
            (0..4).filter_map(|seed| mean_interval(&values, 0.9, 99, seed)).map(|i| i.low).collect();
        assert!(lows.iter().any(|low| *low != lows[0]), "{lows:?}");
    }

    /// Of three hundred samples of fifty values each, about as many intervals as promised cover the mean they are drawn
    /// around, and those that do not miss it at both ends.
    #[test]
    fn intervals_cover_the_truth_about_as_often_as_they_say() {
        let mut stream = RandomStream::new(11);
        let (mut below, mut above) = (0, 0);
        for seed in 0..300 {
            let values: Vec<f64> = (0..50).map(|_| stream.unit()).collect();
            let interval = mean_interval(&values, 0.9, 499, seed).unwrap();
            below += usize::from(interval.high < 0.5);
            above += usize::from(interval.low > 0.5);
        }
        assert!((5..=30).contains(&below) && (5..=30).contains(&above), "{below} below, {above} above");
        assert!((15..=48).contains(&(below + above)), "{below} below, {above} above");
    }

    #[test]
    fn the_ends_are_the_ranks_of_the_book() {
        // One value of two, drawn twice: means 0, 0.5 and 1 in parts of 1/4, 1/2, 1/4.
        let at = |level| mean_interval(&[0.0, 1.0], level, 1999, 3).map(|i| (i.low, i.high)).unwrap();
        assert_eq!(at(0.6), (0.0, 1.0));
        assert_eq!(at(0.4), (0.5, 0.5));
        let one = mean_interval(&[0.0, 1.0], 0.9, 1, 3).unwrap();
        assert_eq!(one.low, one.high);
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        let values = [1.0, 2.0];
        assert_eq!(mean_interval(&[], 0.95, 10, 0), None);
        assert_eq!(mean_interval(&values, 0.95, 0, 0), None);
        for level in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert_eq!(mean_interval(&values, level, 10, 0), None, "{level}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert_eq!(mean_interval(&[value, value], 0.95, 10, 0), None, "{value}");
        }
        // The values sum to a finite number, twice the larger one does not.
        assert_eq!(mean_interval(&[f64::MAX, -f64::MAX], 0.95, 50, 0), None);
    }
}
