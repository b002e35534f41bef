//! How well scores tell positives from the rest, and a ranking the best rows.

use std::cmp::Ordering;

use super::ranks::average_ranks;
use super::sample_error::{SampleError, check_finite, check_lengths};

/// Places of `scores` from the highest score to the lowest; equal ones by place.
///
/// # Errors
/// A score is not finite.
///
/// # Complexity
/// O(n log n)
///
/// ```
/// use ascribe::stats::descending_order;
/// assert_eq!(descending_order(&[0.5, 2.0, 0.5, -1.0])?, [1, 0, 2, 3]);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn descending_order(scores: &[f64]) -> Result<Vec<usize>, SampleError> {
    check_finite(scores)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&left, &right| scores[right].partial_cmp(&scores[left]).unwrap_or(Ordering::Equal));
    Ok(order)
}

/// The area under the receiver operating characteristic: the probability that a random positive scores higher than a
/// random negative, a tie counted half; in 0..=1, 0.5 of scores that tell nothing. `None` without a positive or without a
/// negative.
///
/// # Errors
/// The lists differ in length, or a score is not finite.
///
/// # Complexity
/// O(n log n)
///
/// # References
/// Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic (ROC) curve, Radiology 143
/// (1982), the equality with the statistic of Mann and Whitney, Annals of Mathematical Statistics 18 (1947).
///
/// ```
/// use ascribe::stats::roc_auc;
/// assert_eq!(roc_auc(&[0.9, 0.4, 0.4, 0.1], &[true, true, false, false])?, Some(0.875));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn roc_auc(scores: &[f64], positives: &[bool]) -> Result<Option<f64>, SampleError> {
    check_lengths(scores.len(), positives.len())?;
    let ranks = average_ranks(scores)?;
    let found = positives.iter().filter(|positive| **positive).count();
    let others = positives.len() - found;
    if found == 0 || others == 0 {
        return Ok(None);
    }
    let (found, others) = (found as f64, others as f64);
    let sum: f64 = ranks.iter().zip(positives).filter(|(_, positive)| **positive).map(|(rank, _)| rank).sum();
    Ok(Some((sum - found * (found + 1.0) / 2.0) / (found * others)))
}

/// What inspecting the rows with the highest scores finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inspection {
    /// Rows that are looked at.
    pub inspected: usize,
    /// Positives among them.
    pub found: usize,
    /// Part of all positives that are among them, in 0..=1.
    pub recall: f64,
    /// Part of them that are positives, in 0..=1.
    pub precision: f64,
}

/// What is found when the rows with the highest scores are inspected, `fraction` of all rows, rounded up to a whole number
/// of them; of equal scores the first rows. `None` without a positive.
///
/// # Errors
/// The lists differ in length, a score is not finite, or `fraction` is not above 0 and at most 1.
///
/// # Complexity
/// O(n log n)
///
/// ```
/// use ascribe::stats::inspect_top;
/// let scores = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
/// let positives = [true, false, false, true, false, false, false, false, false, false];
/// let top = inspect_top(&scores, &positives, 0.2)?.expect("there are positives");
/// assert_eq!((top.inspected, top.found, top.recall, top.precision), (2, 1, 0.5, 0.5));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn inspect_top(
    scores: &[f64],
    positives: &[bool],
    fraction: f64,
) -> Result<Option<Inspection>, SampleError> {
    check_lengths(scores.len(), positives.len())?;
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(SampleError::Fraction { fraction });
    }
    let order = descending_order(scores)?;
    let all = positives.iter().filter(|positive| **positive).count();
    if all == 0 {
        return Ok(None);
    }
    // A tenth of thirty rows is three: what rounding adds must not become a row.
    let inspected = ((fraction * order.len() as f64 * (1.0 - 1e-12)).ceil() as usize).clamp(1, order.len());
    let found = order[..inspected].iter().filter(|&&row| positives[row]).count();
    let recall = found as f64 / all as f64;
    let precision = found as f64 / inspected as f64;
    Ok(Some(Inspection { inspected, found, recall, precision }))
}

/// Normalised discounted cumulative gain of the first `k` rows of `ranking` against the `exact` score of each row, in
/// 0..=1: 1 where they are the rows with the `k` highest exact scores, in that order.
///
/// The gain of a row is its exact score, 0 where that is negative. The gain at rank i, from 1, is divided by log2(i + 1);
/// the sum is divided by that of the best ranking. A ranking shorter than `k` has nothing at the ranks it lacks. `None` where no ranking has a
/// gain: `k` is 0, or no exact score is positive.
///
/// For opponents, give negated exact scores.
///
/// # Errors
/// An exact score is not finite, or the first `k` rows of the ranking are not different rows that have one.
///
/// # Complexity
/// O(rows + k log k)
///
/// # References
/// Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques, ACM Transactions on Information Systems 20
/// (2002), section 2; with logarithms of rank + 1, so that the first two ranks differ too.
///
/// ```
/// use ascribe::stats::ndcg;
/// let exact = [3.0, 1.0, 2.0, -5.0];
/// assert_eq!(ndcg(&[0, 2], &exact, 2)?, Some(1.0));
/// let swapped = ndcg(&[2, 0], &exact, 2)?.expect("there are gains");
/// let discount = 1.0 / 3.0_f64.log2();
/// assert!((swapped - (2.0 + 3.0 * discount) / (3.0 + 2.0 * discount)).abs() < 1e-15);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn ndcg(ranking: &[usize], exact: &[f64], k: usize) -> Result<Option<f64>, SampleError> {
    check_finite(exact)?;
    let ranking = &ranking[..k.min(ranking.len())];
    check_ranking(ranking, exact.len())?;
    let best = highest(exact, k);
    let Some(first) = best.first().copied().filter(|first| *first > 0.0) else { return Ok(None) };
    // In parts of the highest gain, so that no sum of gains is infinite.
    let gain = |score: f64| score.max(0.0) / first;
    let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        gains.enumerate().map(|(place, gain)| gain / (place as f64 + 2.0).log2()).sum()
    };
    let reached = discounted(&mut ranking.iter().map(|&row| gain(exact[row])));
    let possible = discounted(&mut best.iter().map(|&score| gain(score)));
    Ok(Some((reached / possible).min(1.0)))
}

/// The `k` highest scores, the highest first.
fn highest(scores: &[f64], k: usize) -> Vec<f64> {
    let mut scores = scores.to_vec();
    let descending = |left: &f64, right: &f64| right.total_cmp(left);
    if k < scores.len() {
        scores.select_nth_unstable_by(k, descending);
        scores.truncate(k);
    }
    scores.sort_unstable_by(descending);
    scores
}

/// Refuses a ranking that names a row twice, or one that is not there.
fn check_ranking(ranking: &[usize], rows: usize) -> Result<(), SampleError> {
    let mut sorted = ranking.to_vec();
    sorted.sort_unstable();
    if let Some(&row) = sorted.last().filter(|row| **row >= rows) {
        return Err(SampleError::UnknownRow { row, rows });
    }
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SampleError::RepeatedRow { row: pair[0] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCORES: [f64; 12] = [0.9, 0.8, 0.8, 0.8, 0.6, 0.5, 0.5, 0.3, 0.1, 0.1, -0.2, -1.0];
    const POSITIVES: [bool; 12] =
        [true, false, true, true, false, true, false, false, true, false, false, false];

    fn rows() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
        let row = ((-5..6_i32).prop_map(f64::from), any::<bool>());
        prop::collection::vec(row, 0..50).prop_map(|rows| rows.into_iter().unzip())
    }

    /// Every positive against every negative.
    fn naive_auc(scores: &[f64], positives: &[bool]) -> Option<f64> {
        let of = |wanted| {
            scores.iter().zip(positives).filter(move |(_, is)| **is == wanted).map(|(score, _)| *score)
        };
        let pairs = of(true).flat_map(|left| of(false).map(move |right| (left, right)));
        let (mut won, mut count) = (0.0, 0.0);
        for (left, right) in pairs {
            count += 1.0;
            won += if left > right { 1.0 } else { f64::from(u8::from(left == right)) / 2.0 };
        }
        (count > 0.0).then(|| won / count)
    }

    proptest! {
        #[test]
        fn the_area_is_that_of_comparing_pairs((scores, positives) in rows()) {
            let found = roc_auc(&scores, &positives).unwrap();
            match (found, naive_auc(&scores, &positives)) {
                (Some(found), Some(naive)) => prop_assert!((found - naive).abs() < 1e-12),
                (found, naive) => prop_assert_eq!(found, naive),
            }
        }

        #[test]
        fn the_area_ignores_rising_maps_and_mirrors((scores, positives) in rows()) {
            let found = roc_auc(&scores, &positives).unwrap();
            let mapped: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
            prop_assert_eq!(roc_auc(&mapped, &positives).unwrap(), found);
            let others: Vec<bool> = positives.iter().map(|positive| !positive).collect();
            let mirrored = roc_auc(&scores, &others).unwrap();
            prop_assert!(found.zip(mirrored).is_none_or(|(found, mirrored)| (found + mirrored - 1.0).abs() < 1e-12));
        }

        #[test]
        fn more_inspection_finds_more((scores, positives) in rows(), parts in (1..100_u32, 1..100_u32)) {
            let at = |part| inspect_top(&scores, &positives, f64::from(part) / 100.0).unwrap();
            let (low, high) = (parts.0.min(parts.1), parts.0.max(parts.1));
            if let (Some(few), Some(many)) = (at(low), at(high)) {
                prop_assert!(few.found <= many.found && few.inspected <= many.inspected);
                prop_assert!(few.recall <= many.recall && (0.0..=1.0).contains(&few.precision));
                prop_assert_eq!(at(100).map(|all| (all.inspected, all.recall)), Some((scores.len(), 1.0)));
            }
        }

        /// The exact ranking is the best one, and swapping a pair of it into the wrong order makes it no better.
        #[test]
        fn no_ranking_is_better_than_the_exact_one(
            exact in prop::collection::vec(-3..6_i32, 1..30),
            k in 1..12_usize,
            swap in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let exact: Vec<f64> = exact.into_iter().map(f64::from).collect();
            let mut ranking = descending_order(&exact).unwrap();
            let best = ndcg(&ranking, &exact, k).unwrap();
            prop_assert_eq!(best, exact.iter().any(|score| *score > 0.0).then_some(1.0));
            ranking.swap(swap.0.index(exact.len()), swap.1.index(exact.len()));
            let swapped = ndcg(&ranking, &exact, k).unwrap();
            prop_assert!(swapped <= best && swapped.is_none_or(|swapped| swapped >= 0.0));
        }
    }

    /// Computed with scikit-learn 1.9, `roc_auc_score`.
    #[test]
    fn a_known_area() {
        let area = roc_auc(&SCORES, &POSITIVES).unwrap().unwrap();
        assert!((area - 27.0 / 35.0).abs() < 1e-15, "{area}");
        assert_eq!(roc_auc(&[1.0, 1.0, 1.0], &[true, false, false]), Ok(Some(0.5)));
        assert_eq!(roc_auc(&[2.0, 1.0], &[true, false]), Ok(Some(1.0)));
        assert_eq!(roc_auc(&[1.0, 2.0], &[true, false]), Ok(Some(0.0)));
    }

    #[test]
    fn one_class_has_no_area_and_no_positives_are_not_found() {
        assert_eq!(roc_auc(&[], &[]), Ok(None));
        assert_eq!(roc_auc(&[1.0, 2.0], &[true, true]), Ok(None));
        assert_eq!(roc_auc(&[1.0, 2.0], &[false, false]), Ok(None));
        assert_eq!(inspect_top(&[], &[], 0.1), Ok(None));
        assert_eq!(inspect_top(&[1.0], &[false], 0.1), Ok(None));
        let one = Inspection { inspected: 1, found: 1, recall: 1.0, precision: 1.0 };
        assert_eq!(inspect_top(&[1.0], &[true], 0.1), Ok(Some(one)));
    }

    #[test]
    fn of_equal_scores_the_first_rows_are_inspected() {
        let top = |fraction| inspect_top(&SCORES, &POSITIVES, fraction).unwrap().unwrap();
        // 12 rows: a tenth is 1.2 of them, a fifth 2.4, a quarter 3.
        let found = [0.1, 0.2, 0.25, 1.0].map(|fraction| (top(fraction).inspected, top(fraction).found));
        assert_eq!(found, [(2, 1), (3, 2), (3, 2), (12, 5)]);
        assert_eq!((top(0.2).recall, top(0.2).precision), (0.4, 2.0 / 3.0));
        assert_eq!(descending_order(&[0.0, -0.0, 0.0]), Ok(vec![0, 1, 2]));
        // 0.1 times 30 is above 3 in binary.
        let scores: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(inspect_top(&scores, &[true; 30], 0.1).unwrap().unwrap().inspected, 3);
    }

    #[test]
    fn gains_are_the_exact_scores_of_proponents() {
        let exact = [5.0, 4.0, 3.0, 2.0];
        let second = 1.0 / 3.0_f64.log2();
        let best = 5.0 + 4.0 * second;
        for (ranking, gained) in [([2, 0], 3.0 + 5.0 * second), ([2, 3], 3.0 + 2.0 * second)] {
            let found = ndcg(&ranking, &exact, 2).unwrap().unwrap();
            assert!((found - gained / best).abs() < 1e-15, "{found}");
        }
        assert_eq!(ndcg(&[1, 2], &[5.0, 0.0, -4.0], 2), Ok(Some(0.0)));
        // What ties with the last is as good as it; what is negative has no gain.
        assert_eq!(ndcg(&[0, 2], &[5.0, 4.0, 4.0], 2), Ok(Some(1.0)));
        assert_eq!(ndcg(&[0, 2], &[5.0, -4.0, -7.0], 3), Ok(Some(1.0)));
        // A ranking that stops early, and one that is longer than is looked at.
        assert_eq!(ndcg(&[0], &exact, 2), Ok(Some(5.0 / best)));
        assert_eq!(ndcg(&[0, 1, 3, 3], &exact, 2), Ok(Some(1.0)));
        assert_eq!(ndcg(&[0, 1], &[f64::MAX, f64::MAX], 9), Ok(Some(1.0)));
    }

    #[test]
    fn without_gains_nothing_is_said() {
        assert_eq!(ndcg(&[], &[], 5), Ok(None));
        assert_eq!(ndcg(&[0], &[1.0], 0), Ok(None));
        assert_eq!(ndcg(&[0, 1], &[0.0, -1.0], 2), Ok(None));
        assert_eq!(ndcg(&[], &[1.0], 2), Ok(Some(0.0)));
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(roc_auc(&[1.0], &[]), Err(SampleError::Lengths { left: 1, right: 0 }));
        assert!(roc_auc(&[f64::NAN, 1.0], &[true, false]).is_err());
        assert!(descending_order(&[f64::INFINITY]).is_err());
        for fraction in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(matches!(inspect_top(&[1.0], &[true], fraction), Err(SampleError::Fraction { .. })));
        }
        assert!(inspect_top(&[1.0], &[true, false], 0.5).is_err());
        assert_eq!(ndcg(&[0, 7], &[1.0], 2), Err(SampleError::UnknownRow { row: 7, rows: 1 }));
        assert_eq!(ndcg(&[1, 0, 1], &[1.0, 2.0], 3), Err(SampleError::RepeatedRow { row: 1 }));
        assert!(ndcg(&[0], &[f64::NAN], 1).is_err());
    }
}
