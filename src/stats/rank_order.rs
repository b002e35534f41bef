//! An order that ranks resamples of its values without sorting again.

use std::cmp::Ordering;

use super::sample_error::{SampleError, check_finite, check_lengths};

/// The ascending order of some values, and which of them are equal (-0 and 0 are).
///
/// A resample of the values, drawn with replacement, is told by how often each of them was drawn. Its ranks follow from
/// the order of the values: no resample has to be sorted.
///
/// ```
/// use ascribe::stats::RankOrder;
/// let order = RankOrder::new(&[7.0, 5.0, 9.0])?;
/// // Drawn: 7, 9, 9, with ranks 1, 2.5 and 2.5. The mean rank is 2.
/// let mut ranks = [0.0; 3];
/// let squares = order.centred_ranks(&[1, 0, 2], &mut ranks)?;
/// assert_eq!((ranks[0], ranks[2]), (-2.0, 1.0));
/// assert_eq!(squares, 6.0);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankOrder {
    /// Places of the values, ascending by value; equal ones by place.
    order: Vec<usize>,
    /// In `order`, one past the last of each group of equal values.
    ends: Vec<usize>,
}

impl RankOrder {
    /// The order of `values`.
    ///
    /// # Errors
    /// A value is not finite.
    ///
    /// # Complexity
    /// O(n log n)
    pub fn new(values: &[f64]) -> Result<Self, SampleError> {
        check_finite(values)?;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&left, &right| values[left].partial_cmp(&values[right]).unwrap_or(Ordering::Equal));
        let mut ends: Vec<usize> =
            (1..order.len()).filter(|&place| values[order[place - 1]] != values[order[place]]).collect();
        if !order.is_empty() {
            ends.push(order.len());
        }
        Ok(Self { order, ends })
    }

    /// Whether fewer than two of the values differ: then nothing correlates with them.
    pub fn is_constant(&self) -> bool {
        self.ends.len() < 2
    }

    /// The average rank of each value, from 1; equal values have the mean of the ranks that they take up together.
    ///
    /// # Complexity
    /// O(n)
    pub fn average_ranks(&self) -> Vec<f64> {
        let mut ranks = vec![0.0; self.order.len()];
        for (start, end) in self.groups() {
            let rank = (start + 1 + end) as f64 / 2.0;
            self.order[start..end].iter().for_each(|&place| ranks[place] = rank);
        }
        ranks
    }

    /// For the resample that has value i `counts[i]` times: writes twice the distance of each value's average rank from the
    /// mean rank to `ranks[i]`, and gives the sum of their squares over all draws; 0 where fewer than two of the drawn
    /// values differ. What stands for values that were not drawn means nothing.
    ///
    /// With d and e such distances of two orders, sum(counts d e) / sqrt(sum(counts d d) sum(counts e e)) is the Spearman
    /// correlation of the resample. All these numbers are whole, and exact up to 2^17 draws.
    ///
    /// # Errors
    /// `counts` or `ranks` is not of the length of the values; nothing is written then.
    ///
    /// # Complexity
    /// O(n), no allocation.
    pub fn centred_ranks(&self, counts: &[u32], ranks: &mut [f64]) -> Result<f64, SampleError> {
        check_lengths(self.order.len(), counts.len())?;
        check_lengths(self.order.len(), ranks.len())?;
        let draws: i64 = counts.iter().map(|&count| i64::from(count)).sum();
        let (mut below, mut squares) = (0_i64, 0.0);
        for (start, end) in self.groups() {
            let group = &self.order[start..end];
            let count: i64 = group.iter().map(|&place| i64::from(counts[place])).sum();
            // The group's draws have ranks below + 1 to below + count; the mean rank is (draws + 1) / 2.
            let distance = (2 * below + count - draws) as f64;
            group.iter().for_each(|&place| ranks[place] = distance);
            squares += count as f64 * distance * distance;
            below += count;
        }
        Ok(squares)
    }

    /// Start and end of each group of equal values in `order`.
    fn groups(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::spearman_correlation;

    /// What is drawn, spelled out.
    fn drawn(values: &[f64], counts: &[u32]) -> Vec<f64> {
        values
            .iter()
            .zip(counts)
            .flat_map(|(&value, &count)| std::iter::repeat_n(value, count as usize))
            .collect()
    }

    fn correlation(left: &[f64], right: &[f64], counts: &[u32]) -> Option<f64> {
        let (mut d, mut e) = (vec![0.0; counts.len()], vec![0.0; counts.len()]);
        let squares = RankOrder::new(left).unwrap().centred_ranks(counts, &mut d).unwrap()
            * RankOrder::new(right).unwrap().centred_ranks(counts, &mut e).unwrap();
        let products: f64 =
            counts.iter().zip(d.iter().zip(&e)).map(|(&count, (d, e))| f64::from(count) * d * e).sum();
        (squares > 0.0).then(|| products / squares.sqrt())
    }

    proptest! {
        #[test]
        fn a_resample_ranks_as_its_draws_spelled_out(
            rows in prop::collection::vec((-4..4_i32, -4..4_i32, 0..4_u32), 0..30),
        ) {
            let left: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let right: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let counts: Vec<u32> = rows.iter().map(|row| row.2).collect();
            let spelled = spearman_correlation(&drawn(&left, &counts), &drawn(&right, &counts)).unwrap();
            match (correlation(&left, &right, &counts), spelled) {
                (Some(resampled), Some(spelled)) => prop_assert!((resampled - spelled).abs() < 1e-12),
                (resampled, spelled) => prop_assert_eq!(resampled, spelled),
            }
        }
    }

    #[test]
    fn groups_are_of_equal_values() {
        let order = RankOrder::new(&[2.0, -0.0, 2.0, 0.0, 1.0]).unwrap();
        assert_eq!(order.average_ranks(), [4.5, 1.5, 4.5, 1.5, 3.0]);
        assert!(!order.is_constant());
        for constant in [&[][..], &[1.0], &[3.0, 3.0, 3.0], &[0.0, -0.0]] {
            assert!(RankOrder::new(constant).unwrap().is_constant(), "{constant:?}");
        }
    }

    #[test]
    fn a_resample_of_one_value_has_no_spread() {
        let order = RankOrder::new(&[1.0, 2.0, 3.0]).unwrap();
        let mut ranks = [9.0; 3];
        assert_eq!(order.centred_ranks(&[0, 3, 0], &mut ranks), Ok(0.0));
        assert_eq!(ranks[1], 0.0);
        assert_eq!(order.centred_ranks(&[0, 0, 0], &mut ranks), Ok(0.0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_written() {
        let order = RankOrder::new(&[1.0, 2.0]).unwrap();
        let mut ranks = [9.0; 2];
        assert_eq!(order.centred_ranks(&[1], &mut ranks), Err(SampleError::Lengths { left: 2, right: 1 }));
        assert_eq!(ranks, [9.0, 9.0]);
        assert!(order.centred_ranks(&[1, 1], &mut ranks[..1]).is_err());
        assert!(matches!(RankOrder::new(&[0.0, f64::NAN]), Err(SampleError::NotFinite { index: 1, .. })));
    }
}
