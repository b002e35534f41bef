//! Mean and standard deviation of a population of scores, z of a score.

use super::ScoreChunk;
use crate::base::sum_of;

/// Count, mean and centred sum of squares of a population of scores, mergeable.
///
/// Take one for each chunk, on any thread, and merge them in the order of the chunks: the result then has the same bits
/// whatever the number of threads. Scores that are all equal have a standard deviation of exactly 0.
///
/// # References
/// Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, COMPSTAT 1982.
///
/// ```
/// use ascribe::attribution::{Moments, ScoreChunk};
/// use ascribe::base::RowId;
/// let mut moments = Moments::of(&ScoreChunk::all(RowId(0), &[1.0, 2.0]));
/// moments.merge(&Moments::of(&ScoreChunk::all(RowId(2), &[3.0, 6.0])));
/// assert_eq!(moments.mean(), Some(3.0));
/// assert_eq!(moments.standard_deviation(), Some(3.5_f64.sqrt()));
/// assert_eq!(moments.z(3.0), Some(0.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    centred_squares: f64,
}

impl Moments {
    /// The moments of no scores.
    pub fn new() -> Self {
        Self::default()
    }

    /// The moments of one chunk.
    ///
    /// # Complexity
    /// Two passes over the scores that count.
    pub fn of(chunk: &ScoreChunk<'_>) -> Self {
        // Distances from one of the scores, not from 0: exact where all scores are equal, and small where the mean is
        // far from 0.
        if chunk.live.is_none() {
            return Self::of_all(chunk.scores);
        }
        let mut origin = None;
        let (mut count, mut sum) = (0_u64, 0.0);
        chunk.for_each(|score| {
            sum += score - *origin.get_or_insert(score);
            count += 1;
        });
        let Some(origin) = origin else {
            return Self::new();
        };
        let mean = origin + sum / count as f64;
        let mut centred_squares = 0.0;
        chunk.for_each(|score| centred_squares += (score - mean) * (score - mean));
        Self { count, mean, centred_squares }
    }

    /// The moments of scores that all count, in sums that a processor can take side by side.
    fn of_all(scores: &[f64]) -> Self {
        let Some(&origin) = scores.first() else {
            return Self::new();
        };
        let mean = origin + sum_of([scores], |[score]| score - origin) / scores.len() as f64;
        let centred_squares = sum_of([scores], |[score]| (score - mean) * (score - mean));
        Self { count: scores.len() as u64, mean, centred_squares }
    }

    /// Adds the scores of `other`, those of a later chunk.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (left, right) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        self.mean += distance * (right / (left + right));
        self.centred_squares += other.centred_squares + distance * distance * (left * right / (left + right));
        self.count += other.count;
    }

    /// The same without errors of the scores that are independent of them, of which the mean square is known.
    ///
    /// ```
    /// use ascribe::attribution::{Moments, ScoreChunk};
    /// use ascribe::base::RowId;
    /// let noisy = Moments::of(&ScoreChunk::all(RowId(0), &[-5.0, 5.0]));
    /// assert_eq!(noisy.without_noise(9.0).standard_deviation(), Some(4.0));
    /// assert_eq!(noisy.without_noise(99.0).standard_deviation(), Some(0.0));
    /// ```
    #[must_use]
    pub fn without_noise(&self, mean_square: f64) -> Self {
        let centred_squares = (self.centred_squares - mean_square * self.count as f64).max(0.0);
        Self { centred_squares, ..*self }
    }

    /// Number of scores.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of the scores; `None` of no scores.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Standard deviation of the scores as a whole population (divided by n, not n - 1); `None` of no scores.
    pub fn standard_deviation(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.centred_squares / self.count as f64).sqrt())
    }

    /// How many standard deviations `score` lies above the mean; `None` where that means nothing: no scores, a standard
    /// deviation of 0, or a number that is not finite.
    pub fn z(&self, score: f64) -> Option<f64> {
        let deviation =
            self.standard_deviation().filter(|deviation| deviation.is_finite() && *deviation > 0.0)?;
        Some((score - self.mean) / deviation).filter(|z| z.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RandomStream, RowId, RowSet};

    fn scores(count: usize, seed: u64, shift: f64) -> Vec<f64> {
        let mut stream = RandomStream::new(seed);
        (0..count).map(|_| shift + stream.unit() - stream.unit()).collect()
    }

    fn by_chunks(scores: &[f64], size: usize) -> Vec<Moments> {
        scores.chunks(size).map(|part| Moments::of(&ScoreChunk::all(RowId(0), part))).collect()
    }

    fn merged(parts: &[Moments]) -> Moments {
        let mut whole = Moments::new();
        parts.iter().for_each(|part| whole.merge(part));
        whole
    }

    #[test]
    fn merged_chunks_agree_with_the_whole_population_even_far_from_zero() {
        for shift in [0.0, 1e6, -1e9] {
            let scores = scores(10_000, 3, shift);
            let count = scores.len() as f64;
            // Distances from the shift are exact here, so that this is an independent sum of small numbers.
            let mean = scores.iter().map(|score| score - shift).sum::<f64>() / count;
            let variance = scores.iter().map(|score| (score - shift - mean).powi(2)).sum::<f64>() / count;
            for size in [1, 13, 1024, 20_000] {
                let whole = merged(&by_chunks(&scores, size));
                assert_eq!(whole.count(), 10_000);
                // Each merge may round the mean once, at the size of the shift.
                let tolerance = 1e-12 + shift.abs() * 1e-13;
                assert!((whole.mean().unwrap() - shift - mean).abs() < tolerance, "{shift} {size}");
                let deviation = whole.standard_deviation().unwrap();
                assert!((deviation / variance.sqrt() - 1.0).abs() < 1e-8, "{shift} {size}");
            }
        }
    }

    #[test]
    fn threads_that_take_chunks_give_the_bits_of_one_thread() {
        let scores = scores(20_000, 4, 0.25);
        let chunks: Vec<&[f64]> = scores.chunks(1024).collect();
        let alone = merged(&by_chunks(&scores, 1024));
        let halves: Vec<Vec<Moments>> = std::thread::scope(|scope| {
            let half = |part: &'_ [&[f64]]| {
                part.iter().map(|scores| Moments::of(&ScoreChunk::all(RowId(0), scores))).collect::<Vec<_>>()
            };
            let (left, right) = chunks.split_at(7);
            let right = scope.spawn(move || half(right));
            vec![half(left), right.join().unwrap()]
        });
        assert_eq!(merged(&halves.concat()), alone);
    }

    #[test]
    fn equal_scores_have_no_z() {
        for size in [1, 7, 1024] {
            let moments = merged(&by_chunks(&[0.1; 3000], size));
            assert_eq!(moments.standard_deviation(), Some(0.0));
            assert_eq!(moments.mean(), Some(0.1));
            assert_eq!(moments.z(0.1), None);
            assert_eq!(moments.z(5.0), None);
        }
        assert_eq!(Moments::new().mean(), None);
        assert_eq!(Moments::new().z(1.0), None);
        let unbounded = Moments::of(&ScoreChunk::all(RowId(0), &[1.0, f64::INFINITY]));
        assert_eq!(unbounded.z(1.0), None);
    }

    #[test]
    fn only_live_rows_count() {
        let live: RowSet = [RowId(11), RowId(13), RowId(99)].into_iter().collect();
        let chunk = ScoreChunk { first: RowId(10), scores: &[50.0, 1.0, 50.0, 3.0], live: Some(&live) };
        let moments = Moments::of(&chunk);
        assert_eq!((moments.count(), moments.mean()), (2, Some(2.0)));
        assert_eq!(moments.z(4.0), Some(2.0));
    }
}
