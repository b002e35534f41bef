//! The rows whose exact score may be among the k best of one end, from scores that are known up to a margin.
//!
//! A row's exact score is at least `score - margin` and at most `score + margin`. Of k rows each has at least the k-th highest lower
//! end; a row whose upper end lies below that cannot be among the best k. What remains is scored exactly, highest upper end
//! first, until no upper end reaches the k-th exact score.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::RowId;

/// The highest score that the k-th best row of an end is known to have, shared by all that look for it.
#[derive(Debug)]
pub struct Threshold(AtomicU64);

impl Threshold {
    /// Only scores above 0 are at an end.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The score, at least 0.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Raises it to `score`, if that is higher.
    pub fn raise(&self, score: f64) {
        // The bits of numbers that are not negative are in the order of the numbers.
        if score > 0.0 {
            self.0.fetch_max(score.to_bits(), Ordering::Relaxed);
        }
    }
}

impl Default for Threshold {
    fn default() -> Self {
        Self::new()
    }
}

/// A row that may be among the best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which of the columns that are scanned together the row is in.
    pub target: usize,
    /// The row.
    pub row: RowId,
    /// At least the row's exact score, towards the end that is looked at.
    pub upper: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Lower(f64);

impl Eq for Lower {}

impl PartialOrd for Lower {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Lower {
    fn cmp(&self, other: &Self) -> Order {
        self.0.total_cmp(&other.0)
    }
}

/// Candidates of one end among the rows offered so far. Scores are towards the end: of opponents their negatives.
///
/// ```
/// use ascribe::base::RowId;
/// use ascribe::index::{Candidates, Threshold};
/// let threshold = Threshold::new();
/// let mut candidates = Candidates::new(1);
/// for (row, score) in [(0, 0.5), (1, 1.0), (2, 0.75), (3, 0.875)] {
///     candidates.offer(0, RowId(row), score, 0.125, &threshold);
/// }
/// // Row 1 scores at least 0.875, row 2 at most 0.875, row 3 at most 1.
/// let rows: Vec<u32> = candidates.into_ranked(&threshold).iter().map(|candidate| candidate.row.0).collect();
/// assert_eq!(rows, [1, 3, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct Candidates {
    limit: usize,
    /// The `limit` highest lower ends, lowest on top.
    lowers: BinaryHeap<Reverse<Lower>>,
    rows: Vec<Candidate>,
    /// Rows from which those are dropped that have fallen below the threshold.
    sweep_at: usize,
}

/// Candidates that may wait to be swept beside twice those that are needed.
const SWEEP_ROWS_MIN: usize = 1024;

impl Candidates {
    /// For the `limit` best rows.
    pub fn new(limit: usize) -> Self {
        Self { limit, lowers: BinaryHeap::new(), rows: Vec::new(), sweep_at: SWEEP_ROWS_MIN }
    }

    /// Makes room for `rows` more rows, which spares moving those that are there.
    pub fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.lowers.reserve(rows.min(self.limit.saturating_sub(self.lowers.len())));
    }

    /// For as many rows, without any yet.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::new(self.limit)
    }

    /// Whether any rows are looked for.
    pub fn is_wanted(&self) -> bool {
        self.limit > 0
    }

    /// Offers a row.
    ///
    /// # Complexity
    /// O(log limit), O(1) for a row below the threshold.
    #[inline]
    pub fn offer(&mut self, target: usize, row: RowId, score: f64, margin: f64, threshold: &Threshold) {
        let upper = score + margin;
        if self.limit > 0 && upper > 0.0 && upper >= threshold.get() {
            self.keep(Candidate { target, row, upper }, score - margin, threshold);
        }
    }

    /// Keeps a row of which it is only known that it may be among the best.
    ///
    /// # Complexity
    /// O(1) on average.
    #[inline]
    pub fn hold(&mut self, candidate: Candidate, threshold: &Threshold) {
        if self.limit > 0 && candidate.upper > 0.0 && candidate.upper >= threshold.get() {
            self.push(candidate, threshold);
        }
    }

    fn keep(&mut self, candidate: Candidate, lower: f64, threshold: &Threshold) {
        self.keep_lower(Lower(lower), threshold);
        self.push(candidate, threshold);
    }

    fn push(&mut self, candidate: Candidate, threshold: &Threshold) {
        self.rows.push(candidate);
        if self.rows.len() >= self.sweep_at {
            let least = threshold.get();
            self.rows.retain(|candidate| candidate.upper >= least);
            self.sweep_at = 2 * self.rows.len() + SWEEP_ROWS_MIN;
        }
    }

    fn keep_lower(&mut self, lower: Lower, threshold: &Threshold) {
        if self.lowers.len() < self.limit {
            self.lowers.push(Reverse(lower));
        } else if self.lowers.peek().is_some_and(|least| lower > least.0) {
            self.lowers.pop();
            self.lowers.push(Reverse(lower));
        } else {
            return;
        }
        if self.lowers.len() == self.limit
            && let Some(least) = self.lowers.peek()
        {
            threshold.raise(least.0.0);
        }
    }

    /// Takes over the candidates of other rows.
    ///
    /// # Complexity
    /// O(other log limit)
    pub fn merge(&mut self, other: Self, threshold: &Threshold) {
        if self.rows.is_empty() && self.lowers.is_empty() && self.limit == other.limit {
            *self = other;
            return;
        }
        other.lowers.into_iter().for_each(|lower| self.keep_lower(lower.0, threshold));
        let least = threshold.get();
        self.rows.extend(other.rows.into_iter().filter(|candidate| candidate.upper >= least));
    }

    /// The rows that may be among the best, in no order.
    ///
    /// # Complexity
    /// O(n) of n candidates.
    pub fn into_reaching(mut self, threshold: &Threshold) -> Vec<Candidate> {
        let least = threshold.get();
        self.rows.retain(|candidate| candidate.upper >= least);
        self.rows
    }

    /// The rows that may be among the best, highest upper end first; the same whatever the order in which rows were
    /// offered and merged.
    ///
    /// # Complexity
    /// O(n log n) of n candidates.
    pub fn into_ranked(self, threshold: &Threshold) -> Vec<Candidate> {
        let mut rows = self.into_reaching(threshold);
        rows.sort_by(|left, right| {
            let place = |candidate: &Candidate| (candidate.target, candidate.row);
            right.upper.total_cmp(&left.upper).then_with(|| place(left).cmp(&place(right)))
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the exact scores within the margins, the best rows are among the candidates; and the candidates are
        /// the same in any order and in any parts.
        #[test]
        fn the_best_rows_are_candidates(
            rows in prop::collection::vec((-20..20_i32, 0..4_i32, -1.0..1.0_f64), 0..300),
            limit in 1..12_usize,
            parts in 1..5_usize,
        ) {
            let scores: Vec<(f64, f64)> =
                rows.iter().map(|&(score, margin, _)| (f64::from(score) / 4.0, f64::from(margin) / 4.0)).collect();
            let exact: Vec<f64> =
                rows.iter().zip(&scores).map(|(row, (score, margin))| score + margin * row.2).collect();
            let gather = |parts: usize, reversed: bool| {
                let threshold = Threshold::new();
                let mut whole = Candidates::new(limit);
                for part in 0..parts {
                    let mut candidates = Candidates::new(limit);
                    let mut offered: Vec<usize> = (part..scores.len()).step_by(parts).collect();
                    if reversed {
                        offered.reverse();
                    }
                    for row in offered {
                        let (score, margin) = scores[row];
                        candidates.offer(0, RowId(row as u32), score, margin, &threshold);
                    }
                    whole.merge(candidates, &threshold);
                }
                whole.into_ranked(&threshold)
            };
            let candidates = gather(1, false);
            prop_assert_eq!(&gather(parts, true), &candidates);
            let mut best: Vec<usize> = (0..exact.len()).filter(|row| exact[*row] > 0.0).collect();
            best.sort_by(|left, right| exact[*right].total_cmp(&exact[*left]));
            if let Some(&last) = best.get(limit.min(best.len()).wrapping_sub(1)) {
                for row in best.iter().take_while(|row| exact[**row] >= exact[last]) {
                    prop_assert!(candidates.iter().any(|candidate| candidate.row.0 as usize == *row));
                }
            }
            prop_assert!(candidates.is_sorted_by(|left, right| left.upper >= right.upper));
        }
    }

    #[test]
    fn rows_of_which_nothing_is_known_stay() {
        let threshold = Threshold::new();
        let mut candidates = Candidates::new(1);
        candidates.offer(0, RowId(0), 5.0, 0.0, &threshold);
        candidates.offer(0, RowId(1), 0.0, f64::INFINITY, &threshold);
        candidates.offer(0, RowId(2), -1.0, 0.5, &threshold);
        assert_eq!(threshold.get(), 5.0);
        assert_eq!(candidates.into_ranked(&threshold).len(), 2);
    }

    #[test]
    fn no_rows_are_kept_for_an_end_that_nobody_asked_for() {
        let threshold = Threshold::new();
        let mut candidates = Candidates::new(0);
        candidates.offer(0, RowId(0), 5.0, 0.0, &threshold);
        assert!(candidates.into_ranked(&threshold).is_empty());
    }
}
