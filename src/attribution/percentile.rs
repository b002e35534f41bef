//! Exact percentiles of a batch of scores among a population.

use thiserror::Error;

use super::ScoreChunk;

/// Two counters of different asked scores.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "counters of {left} and {right} asked scores were not made for the same scores; start both from one counter"
)]
pub struct UnlikeCounters {
    /// Asked scores of the counter that was to grow.
    pub left: usize,
    /// Asked scores of the counter that was to be added.
    pub right: usize,
}

/// Scores that are compared with a gap together: most of a population lies between the same two asked ones.
const GROUP_SCORES: usize = 16;

/// Counts, for each of a batch of asked scores, the scores of a population below it and equal to it.
///
/// Counts are whole numbers: counters of parts of the population, taken on any thread, add up to the same in any order.
///
/// ```
/// use ascribe::attribution::{RankCounter, ScoreChunk};
/// use ascribe::base::RowId;
/// let mut counter = RankCounter::new(&[3.0, -1.0]);
/// let mut other = counter.clone();
/// counter.add(&ScoreChunk::all(RowId(0), &[-1.0, 0.0]));
/// other.add(&ScoreChunk::all(RowId(2), &[1.0, 3.0]));
/// counter.merge(&other)?;
/// assert_eq!(counter.percentiles(), [Some(87.5), Some(12.5)]);
/// # Ok::<(), ascribe::attribution::UnlikeCounters>(())
/// ```
#[derive(Clone, Debug)]
pub struct RankCounter {
    /// As asked.
    asked: Vec<f64>,
    /// The asked scores that are numbers, ascending, each once.
    sorted: Vec<f64>,
    /// Of the population: `counts[2 i]` between `sorted[i - 1]` and `sorted[i]`, `counts[2 i + 1]` equal to `sorted[i]`.
    counts: Vec<u64>,
}

impl RankCounter {
    /// A counter for the scores `asked`, with nothing counted.
    pub fn new(asked: &[f64]) -> Self {
        let mut sorted: Vec<f64> = asked.iter().copied().filter(|score| !score.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        // -0 and 0 compare equal and are neighbours in this order: one of them stays.
        sorted.dedup();
        let counts = vec![0; 2 * sorted.len() + 1];
        Self { asked: asked.to_vec(), sorted, counts }
    }

    /// Counts the scores of a chunk. A NaN is not counted.
    ///
    /// # Complexity
    /// O(log asked) a score; O(1) while scores fall between the same two asked ones, as most do where the asked ones
    /// are the ends of the population.
    pub fn add(&mut self, chunk: &ScoreChunk<'_>) {
        let Self { sorted, counts, .. } = self;
        // The gap that the last score fell into: (low, high), open at both ends.
        let (mut gap, mut low, mut high) = (0, f64::NAN, f64::NAN);
        let mut count = |scores: &[f64]| {
            let inside = scores.iter().fold(true, |inside, &score| inside & (low < score) & (score < high));
            if inside {
                counts[gap] += scores.len() as u64;
                return;
            }
            for &score in scores {
                if low < score && score < high {
                    counts[gap] += 1;
                    continue;
                }
                if score.is_nan() {
                    continue;
                }
                let place = sorted.partition_point(|asked| *asked < score);
                if sorted.get(place) == Some(&score) {
                    counts[2 * place + 1] += 1;
                    continue;
                }
                gap = 2 * place;
                counts[gap] += 1;
                low = if place == 0 { f64::NEG_INFINITY } else { sorted[place - 1] };
                high = sorted.get(place).copied().unwrap_or(f64::INFINITY);
            }
        };
        match chunk.live {
            None => chunk.scores.chunks(GROUP_SCORES).for_each(count),
            Some(_) => chunk.for_each(|score| count(&[score])),
        }
    }

    /// Counts so many scores that are all equal to `score`; NaNs are not counted.
    ///
    /// # Complexity
    /// O(log asked)
    ///
    /// ```
    /// use ascribe::attribution::RankCounter;
    /// let mut counter = RankCounter::new(&[0.0, 1.0]);
    /// counter.add_equal(0.0, 8);
    /// counter.add_equal(2.0, 2);
    /// assert_eq!(counter.percentiles(), [Some(40.0), Some(80.0)]);
    /// ```
    pub fn add_equal(&mut self, score: f64, count: u64) {
        let place = self.sorted.partition_point(|asked| *asked < score);
        let is_asked = self.sorted.get(place) == Some(&score);
        if let Some(counted) =
            self.counts.get_mut(2 * place + usize::from(is_asked)).filter(|_| !score.is_nan())
        {
            *counted += count;
        }
    }

    /// Adds what `other` has counted.
    ///
    /// # Errors
    /// `other` was made for other scores; nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<(), UnlikeCounters> {
        if self.sorted != other.sorted {
            return Err(UnlikeCounters { left: self.asked.len(), right: other.asked.len() });
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        Ok(())
    }

    /// For each asked score, in the order asked, 100 (count lower + 0.5 count equal) / n, in 0..=100; `None` of an
    /// empty population or a NaN.
    ///
    /// # Complexity
    /// O(asked log asked)
    pub fn percentiles(&self) -> Vec<Option<f64>> {
        let total: u64 = self.counts.iter().sum();
        let mut halves = Vec::with_capacity(self.sorted.len());
        let mut lower = 0;
        for pair in self.counts.chunks_exact(2) {
            lower += pair[0];
            // Twice the count, so that a half stays a whole number.
            halves.push(2 * lower + pair[1]);
            lower += pair[1];
        }
        let percentile = |score: &f64| {
            let place = self.sorted.partition_point(|asked| asked < score);
            let halves = halves.get(place).filter(|_| !score.is_nan() && total > 0)?;
            Some(100.0 * (*halves as f64 / (2.0 * total as f64)))
        };
        self.asked.iter().map(percentile).collect()
    }
}

/// [`RankCounter`] over a whole population on one thread.
///
/// ```
/// use ascribe::attribution::{ScoreChunk, percentiles};
/// use ascribe::base::RowId;
/// let population = [ScoreChunk::all(RowId(0), &[1.0, 2.0, 2.0, 4.0])];
/// assert_eq!(percentiles(population, &[2.0, 9.0]), [Some(50.0), Some(100.0)]);
/// ```
pub fn percentiles<'a>(
    population: impl IntoIterator<Item = ScoreChunk<'a>>,
    scores: &[f64],
) -> Vec<Option<f64>> {
    let mut counter = RankCounter::new(scores);
    population.into_iter().for_each(|chunk| counter.add(&chunk));
    counter.percentiles()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{RowId, RowSet};

    fn naive(population: &[f64], score: f64) -> Option<f64> {
        let lower = population.iter().filter(|other| **other < score).count() as f64;
        let equal = population.iter().filter(|other| **other == score).count() as f64;
        (!population.is_empty()).then(|| 100.0 * ((lower + 0.5 * equal) / population.len() as f64))
    }

    /// Few distinct values, so that many are equal; both zeros and the infinities among them.
    fn score() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (-6..7_i32).prop_map(|value| f64::from(value) / 2.0),
            2 => -2.0..2.0_f64,
            1 => prop_oneof![Just(-0.0), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
        ]
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_counting(
            population in prop::collection::vec(score(), 0..200),
            asked in prop::collection::vec(score(), 0..20),
            live_rows in prop::collection::vec(any::<bool>(), 200),
            size in 1..50_usize,
        ) {
            let live: RowSet = (0..200).filter(|row| live_rows[*row as usize]).map(RowId).collect();
            let kept: Vec<f64> = (0..population.len()).filter(|row| live_rows[*row]).map(|row| population[row]).collect();
            for (live, kept) in [(None, &population), (Some(&live), &kept)] {
                let expected: Vec<Option<f64>> = asked.iter().map(|score| naive(kept, *score)).collect();
                let chunks: Vec<ScoreChunk<'_>> = population.chunks(size).enumerate()
                    .map(|(index, scores)| ScoreChunk { first: RowId((index * size) as u32), scores, live })
                    .collect();
                prop_assert_eq!(percentiles(chunks.iter().copied(), &asked), expected.clone());
                let mut merged = RankCounter::new(&asked);
                for chunk in chunks.iter().rev() {
                    let mut part = RankCounter::new(&asked);
                    part.add(chunk);
                    merged.merge(&part).unwrap();
                }
                prop_assert_eq!(merged.percentiles(), expected);
            }
        }
    }

    #[test]
    fn a_nan_has_no_percentile_and_is_not_counted() {
        let population = [ScoreChunk::all(RowId(0), &[f64::NAN, 1.0])];
        assert_eq!(percentiles(population, &[f64::NAN, 2.0]), [None, Some(100.0)]);
    }

    #[test]
    fn counters_of_other_scores_do_not_mix() {
        let mut counter = RankCounter::new(&[1.0]);
        assert_eq!(counter.merge(&RankCounter::new(&[2.0, 3.0])), Err(UnlikeCounters { left: 1, right: 2 }));
        assert!(counter.merge(&RankCounter::new(&[2.0])).is_err());
    }
}
