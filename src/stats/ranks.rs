//! Average ranks, Pearson and Spearman correlation.

use super::rank_order::RankOrder;
use super::sample_error::{SampleError, check_finite, check_lengths};
use crate::base::sum_of;

/// The rank of each value, from 1 for the least; equal values have the mean of the ranks that they take up together.
///
/// The ranks of n values sum to n (n + 1) / 2, whatever is equal.
///
/// # Errors
/// A value is not finite.
///
/// # Complexity
/// O(n log n)
///
/// # References
/// Kendall: The treatment of ties in ranking problems, Biometrika 33 (1945), the mid-rank method.
///
/// ```
/// use ascribe::stats::average_ranks;
/// assert_eq!(average_ranks(&[0.5, -1.0, 0.5, 2.0])?, [2.5, 1.0, 2.5, 4.0]);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn average_ranks(values: &[f64]) -> Result<Vec<f64>, SampleError> {
    Ok(RankOrder::new(values)?.average_ranks())
}

/// Pearson's correlation of two lists of values for the same things, in -1..=1; `None` where one side has no two different
/// values.
///
/// # Errors
/// The lists differ in length, or a value is not finite.
///
/// # Complexity
/// O(n)
///
/// # References
/// Pearson: Notes on regression and inheritance in the case of two parents, Proceedings of the Royal Society of London
/// 58 (1895).
///
/// ```
/// use ascribe::stats::pearson_correlation;
/// assert_eq!(pearson_correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0])?, Some(1.0));
/// assert_eq!(pearson_correlation(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0])?, None);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn pearson_correlation(left: &[f64], right: &[f64]) -> Result<Option<f64>, SampleError> {
    check_lengths(left.len(), right.len())?;
    check_finite(left)?;
    check_finite(right)?;
    let (Some(left), Some(right)) = (centred(left), centred(right)) else { return Ok(None) };
    let products = sum_of([&left, &right], |[left, right]| left * right);
    let [left, right] = [left, right].map(|side| sum_of([&side], |[value]| value * value));
    Ok(Some((products / (left * right).sqrt()).clamp(-1.0, 1.0)))
}

/// Distances from the mean, in a unit in which they are neither huge nor tiny; `None` of values that are all equal.
fn centred(values: &[f64]) -> Option<Vec<f64>> {
    let origin = *values.first()?;
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    // The distance between two finite numbers can be infinite, that between their halves cannot.
    let factor = if largest > f64::MAX / 2.0 { 0.5 } else { 1.0 };
    let mut distances: Vec<f64> = values.iter().map(|value| value * factor - origin * factor).collect();
    let furthest = distances.iter().fold(0.0_f64, |furthest, distance| furthest.max(distance.abs()));
    if furthest == 0.0 {
        return None;
    }
    distances.iter_mut().for_each(|distance| *distance /= furthest);
    let mean = sum_of([&distances], |[distance]| *distance) / distances.len() as f64;
    distances.iter_mut().for_each(|distance| *distance -= mean);
    Some(distances)
}

/// Spearman's rank correlation of two lists of values for the same things: Pearson's of their average ranks, in -1..=1;
/// `None` where one side has no two different values.
///
/// # Errors
/// The lists differ in length, or a value is not finite.
///
/// # Complexity
/// O(n log n)
///
/// # References
/// Spearman: The proof and measurement of association between two things, American Journal of Psychology 15 (1904).
///
/// ```
/// use ascribe::stats::spearman_correlation;
/// assert_eq!(spearman_correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 1e6])?, Some(1.0));
/// assert_eq!(spearman_correlation(&[1.0, 2.0, 3.0], &[2.0, 1.0, 0.0])?, Some(-1.0));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn spearman_correlation(left: &[f64], right: &[f64]) -> Result<Option<f64>, SampleError> {
    check_lengths(left.len(), right.len())?;
    pearson_correlation(&average_ranks(left)?, &average_ranks(right)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEFT: [f64; 8] = [2.0, 7.5, -1.0, 2.0, 0.0, 9.0, 2.0, 4.25];
    const RIGHT: [f64; 8] = [1.0, 3.0, 1.0, -2.0, 0.5, 8.0, 3.0, 2.0];

    /// Few distinct values, so that many are equal.
    fn values(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![(-4..5_i32).prop_map(f64::from), -4.0..4.0_f64], length)
    }

    fn naive_rank(values: &[f64], value: f64) -> f64 {
        let below = values.iter().filter(|other| **other < value).count() as f64;
        let equal = values.iter().filter(|other| **other == value).count() as f64;
        below + (equal + 1.0) / 2.0
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_counting(values in values(0..60)) {
            let expected: Vec<f64> = values.iter().map(|value| naive_rank(&values, *value)).collect();
            prop_assert_eq!(average_ranks(&values).unwrap(), expected);
        }

        #[test]
        fn correlations_are_symmetric_and_bounded(pairs in prop::collection::vec((-9..9_i32, -9..9_i32), 0..40)) {
            let left: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0) / 7.0).collect();
            let right: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1) / 3.0).collect();
            for of in [pearson_correlation, spearman_correlation] {
                let found = of(&left, &right).unwrap();
                prop_assert_eq!(found, of(&right, &left).unwrap());
                prop_assert!(found.is_none_or(|found| (-1.0..=1.0).contains(&found)));
                let negated: Vec<f64> = left.iter().map(|value| -value).collect();
                match (found, of(&negated, &right).unwrap()) {
                    (Some(found), Some(negated)) => prop_assert!((found + negated).abs() < 1e-12),
                    (found, negated) => prop_assert_eq!(found, negated),
                }
            }
        }

        #[test]
        fn rising_maps_change_no_rank_correlation(left in values(2..40), seed in any::<u64>()) {
            let mut stream = crate::base::RandomStream::new(seed);
            let right: Vec<f64> = left.iter().map(|value| value + 4.0 * stream.unit()).collect();
            let mapped: Vec<f64> = left.iter().map(|value| value.powi(3) + 2.0 * value - 5.0).collect();
            prop_assert_eq!(spearman_correlation(&left, &right).unwrap(), spearman_correlation(&mapped, &right).unwrap());
        }

        #[test]
        fn a_line_has_correlation_one(left in values(2..40), slope in 0.1..9.0_f64, shift in -9.0..9.0_f64) {
            let right: Vec<f64> = left.iter().map(|value| slope * value + shift).collect();
            let found = pearson_correlation(&left, &right).unwrap();
            prop_assert!(found.is_none_or(|found| (found - 1.0).abs() < 1e-9), "{:?}", found);
        }
    }

    /// Computed with scipy 1.17: `rankdata`, `pearsonr`, `spearmanr`.
    #[test]
    fn known_values() {
        assert_eq!(average_ranks(&LEFT).unwrap(), [4.0, 7.0, 1.0, 4.0, 2.0, 8.0, 4.0, 6.0]);
        assert_eq!(average_ranks(&RIGHT).unwrap(), [3.5, 6.5, 3.5, 1.0, 2.0, 8.0, 6.5, 5.0]);
        let pearson = pearson_correlation(&LEFT, &RIGHT).unwrap().unwrap();
        assert!((pearson - 0.749_968_205_130_407_5).abs() < 1e-12, "{pearson}");
        let spearman = spearman_correlation(&LEFT, &RIGHT).unwrap().unwrap();
        assert!((spearman - 0.716_103_957_570_952_5).abs() < 1e-12, "{spearman}");
    }

    #[test]
    fn too_few_or_equal_values_have_no_correlation() {
        for of in [pearson_correlation, spearman_correlation] {
            assert_eq!(of(&[], &[]), Ok(None));
            assert_eq!(of(&[1.0], &[2.0]), Ok(None));
            assert_eq!(of(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), Ok(None));
            assert_eq!(of(&[1.0, 2.0], &[0.0, -0.0]), Ok(None));
        }
        assert_eq!(average_ranks(&[]), Ok(vec![]));
        assert_eq!(average_ranks(&[-3.0]), Ok(vec![1.0]));
    }

    #[test]
    fn huge_tiny_and_close_values_correlate() {
        let line = [0.0, 1.0, 2.0, 5.0];
        for side in [
            line.map(|value| (value - 2.5) * (f64::MAX / 2.5)),
            line.map(|value| value * f64::from_bits(1)),
            line.map(|value| 1.0 + value * f64::EPSILON),
        ] {
            let found = pearson_correlation(&line, &side).unwrap().unwrap();
            assert!((found - 1.0).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn bad_input_is_refused() {
        for of in [pearson_correlation, spearman_correlation] {
            assert_eq!(of(&[1.0], &[]), Err(SampleError::Lengths { left: 1, right: 0 }));
            assert!(matches!(
                of(&[1.0, f64::NAN], &[1.0, 2.0]),
                Err(SampleError::NotFinite { index: 1, .. })
            ));
            let infinite = SampleError::NotFinite { index: 0, value: f64::INFINITY };
            assert_eq!(of(&[1.0, 2.0], &[f64::INFINITY, 2.0]), Err(infinite));
        }
        assert!(average_ranks(&[f64::NEG_INFINITY]).is_err());
    }
}
