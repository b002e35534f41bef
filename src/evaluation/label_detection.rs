//! How well scores find wrong labels.

use crate::base::RandomStream;
use crate::stats::{Inspection, Interval, RankOrder, SampleError, inspect_top, percentile_ends, roc_auc};

/// Part of the intervals that cover the AUC over all rows.
const LEVEL: f64 = 0.95;

/// Resamples behind an interval. One more times 0.05 / 2 is a whole rank.
const RESAMPLES: usize = 1999;

/// Decides the resamples: there is nothing to choose.
const SEED: u64 = 0;

/// How well scores find wrong labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelDetection {
    /// Rows.
    pub rows: usize,
    /// Rows with a wrong label.
    pub flipped: usize,
    /// The probability that a wrong label scores higher than a right one, with its 95% interval over the rows.
    pub auc: Interval,
    /// What is found when the highest tenth of the rows is inspected.
    pub top_tenth: Inspection,
    /// What is found in the highest fifth.
    pub top_fifth: Inspection,
    /// Resamples behind the interval: those with wrong and right labels.
    pub resamples: usize,
    /// What decided them.
    pub seed: u64,
}

/// Compares scores, high for suspicious rows, with which labels are wrong. `None` where all are, or none is.
///
/// The interval is that of a percentile bootstrap over rows, always of the same resamples.
///
/// # Errors
/// The lists differ in length, or a score is not finite.
///
/// # Complexity
/// O(rows log rows + 1,999 x rows)
///
/// # References
/// Efron, Tibshirani: An introduction to the bootstrap (1993), section 13.3 (the percentile interval).
///
/// ```
/// use ascribe::evaluation::label_detection;
/// let scores = [9.0, 8.0, 7.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];
/// let flipped = [true, false, true, false, false, false, false, false, false, false];
/// let found = label_detection(&scores, &flipped)?.expect("two wrong labels of ten");
/// assert_eq!((found.auc.mean, found.top_tenth.recall, found.top_fifth.precision), (0.9375, 0.5, 0.5));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn label_detection(scores: &[f64], flipped: &[bool]) -> Result<Option<LabelDetection>, SampleError> {
    let (Some(auc), Some(top_tenth), Some(top_fifth)) =
        (roc_auc(scores, flipped)?, inspect_top(scores, flipped, 0.1)?, inspect_top(scores, flipped, 0.2)?)
    else {
        return Ok(None);
    };
    let mut draws = resampled(scores, flipped)?;
    // A handful of rows may never draw both kinds: then nothing is known of the spread.
    let (low, high) = percentile_ends(&mut draws, LEVEL).unwrap_or((0.0, 1.0));
    Ok(Some(LabelDetection {
        rows: scores.len(),
        flipped: flipped.iter().filter(|flipped| **flipped).count(),
        auc: Interval { mean: auc, low, high },
        top_tenth,
        top_fifth,
        resamples: draws.len(),
        seed: SEED,
    }))
}

/// The AUC of each resample of the rows that has wrong and right labels.
fn resampled(scores: &[f64], flipped: &[bool]) -> Result<Vec<f64>, SampleError> {
    let order = RankOrder::new(scores)?;
    let mut stream = RandomStream::new(SEED);
    let (mut counts, mut distances) = (vec![0_u32; scores.len()], vec![0.0; scores.len()]);
    let mut draws = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        counts.fill(0);
        for _ in 0..scores.len() {
            if let Some(count) = counts.get_mut(stream.below(scores.len() as u64) as usize) {
                *count += 1;
            }
        }
        order.centred_ranks(&counts, &mut distances)?;
        let drawn = || counts.iter().zip(flipped).filter(|(_, flipped)| **flipped).map(|(count, _)| *count);
        let wrong: f64 = drawn().map(f64::from).sum();
        let right = scores.len() as f64 - wrong;
        if wrong == 0.0 || right == 0.0 {
            continue;
        }
        let places = distances.iter().zip(&counts).zip(flipped).filter(|(_, flipped)| **flipped);
        let sum: f64 = places.map(|((distance, count), _)| distance * f64::from(*count)).sum();
        // Distances are twice those of the ranks from their mean.
        draws.push(0.5 + sum / 2.0 / (wrong * right));
    }
    Ok(draws)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_have_the_auc_of_their_rows() {
        let mut stream = RandomStream::new(3);
        let scores: Vec<f64> = (0..40).map(|_| stream.below(12) as f64).collect();
        let flipped: Vec<bool> = scores.iter().map(|score| stream.below(12) < *score as u64 / 2).collect();
        let draws = resampled(&scores, &flipped).unwrap();
        let mut stream = RandomStream::new(SEED);
        assert_eq!(draws.len(), RESAMPLES);
        for draw in draws {
            let rows: Vec<usize> = (0..40).map(|_| stream.below(40) as usize).collect();
            let of = |row: &usize| (scores[*row], flipped[*row]);
            let (scores, flipped): (Vec<f64>, Vec<bool>) = rows.iter().map(of).unzip();
            let expected = roc_auc(&scores, &flipped).unwrap().unwrap();
            assert!((draw - expected).abs() < 1e-12, "{draw} {expected}");
        }
    }

    #[test]
    fn intervals_hold_the_auc_and_shrink_with_the_rows() {
        let mut widths = Vec::new();
        for rows in [60, 600] {
            let mut stream = RandomStream::new(rows);
            let flipped: Vec<bool> = (0..rows).map(|row| row % 10 == 0).collect();
            let scores: Vec<f64> =
                flipped.iter().map(|flipped| stream.unit() + if *flipped { 0.4 } else { 0.0 }).collect();
            let found = label_detection(&scores, &flipped).unwrap().unwrap();
            assert_eq!((found.rows as u64, found.flipped as u64), (rows, rows / 10));
            assert!(found.auc.low <= found.auc.mean && found.auc.mean <= found.auc.high, "{found:?}");
            widths.push(found.auc.high - found.auc.low);
        }
        assert!(widths[1] < widths[0] / 2.0, "{widths:?}");
    }

    #[test]
    fn without_wrong_or_right_labels_nothing_is_measured() {
        assert_eq!(label_detection(&[1.0, 2.0], &[false, false]), Ok(None));
        assert_eq!(label_detection(&[1.0, 2.0], &[true, true]), Ok(None));
        assert_eq!(label_detection(&[], &[]), Ok(None));
        assert!(label_detection(&[1.0], &[true, false]).is_err());
        assert!(label_detection(&[1.0, f64::NAN], &[true, false]).is_err());
    }
}
