//! Outputs of retrained models, and how far their noise lets a method come.

use thiserror::Error;

use crate::base::RandomStream;
use crate::stats::spearman_correlation;

/// Seeds up to which every way to take two halves of them counts: 35 ways for eight.
const SEEDS_SPLIT_ALL_WAYS_MAX: usize = 8;

/// Ways that are drawn of more seeds. Their mean correlation is then known far better than from one.
const SPLITS_DRAWN: usize = 64;

/// Why outputs of retrained models cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TruthError {
    /// The list does not fill its shape, or a side of it is empty.
    #[error(
        "{values} outputs are none of {subsets} subsets, {seeds} seeds and {queries} queries: give one for each of \
         them, and at least one of each"
    )]
    Shape {
        /// Length of the list.
        values: usize,
        /// Subsets.
        subsets: usize,
        /// Seeds.
        seeds: usize,
        /// Queries.
        queries: usize,
    },
    /// An output is a NaN or infinite, or the mean over the seeds is.
    #[error("the output for query {query} on subset {subset} is {value}: leave models out that diverged")]
    NotFinite {
        /// The query, from 0.
        query: usize,
        /// The subset, from 0.
        subset: usize,
        /// The output.
        value: f64,
    },
}

/// What models that were trained again on subsets of the rows put out for queries.
///
/// ```
/// use ascribe::evaluation::RetrainingTruth;
/// // Two subsets, two seeds, one query.
/// let truth = RetrainingTruth::new(vec![1.0, 2.0, /* second subset */ 5.0, 4.0], 2, 2, 1)?;
/// assert_eq!(truth.query(0), [1.5, 4.5]);
/// # Ok::<(), ascribe::evaluation::TruthError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetrainingTruth {
    /// [subsets x seeds x queries]
    outputs: Vec<f64>,
    subsets: usize,
    seeds: usize,
    queries: usize,
    /// Over the seeds: [queries x subsets].
    means: Vec<f64>,
}

impl RetrainingTruth {
    /// `outputs` is [subsets x seeds x queries], row-major; higher is better for the query.
    ///
    /// # Errors
    /// See [`TruthError`].
    ///
    /// # Complexity
    /// O(outputs)
    pub fn new(outputs: Vec<f64>, subsets: usize, seeds: usize, queries: usize) -> Result<Self, TruthError> {
        let wanted = subsets.checked_mul(seeds).and_then(|models| models.checked_mul(queries));
        if outputs.is_empty() || wanted != Some(outputs.len()) {
            return Err(TruthError::Shape { values: outputs.len(), subsets, seeds, queries });
        }
        if let Some(at) = outputs.iter().position(|output| !output.is_finite()) {
            let (query, subset) = (at % queries, at / (seeds * queries));
            return Err(TruthError::NotFinite { query, subset, value: outputs[at] });
        }
        let mut truth = Self { outputs, subsets, seeds, queries, means: Vec::new() };
        let all: Vec<usize> = (0..seeds).collect();
        truth.means = (0..queries).flat_map(|query| truth.means_over(query, &all)).collect();
        match truth.means.iter().position(|mean| !mean.is_finite()) {
            Some(at) => {
                let (query, subset) = (at / subsets, at % subsets);
                Err(TruthError::NotFinite { query, subset, value: truth.means[at] })
            }
            None => Ok(truth),
        }
    }

    /// Two halves of the subsets that share none, drawn by `seed`, each in ascending order: one to choose settings by, and
    /// one to measure what was chosen. Of an odd number the first has one more.
    ///
    /// ```
    /// use ascribe::evaluation::RetrainingTruth;
    /// let truth = RetrainingTruth::new(vec![1.0, 2.0, 5.0], 3, 1, 1)?;
    /// let [first, second] = truth.halves(7);
    /// assert_eq!((first.len(), second.len()), (2, 1));
    /// assert_eq!(truth.of_subsets(&second)?.query(0).len(), 1);
    /// # Ok::<(), ascribe::evaluation::TruthError>(())
    /// ```
    pub fn halves(&self, seed: u64) -> [Vec<usize>; 2] {
        let mut order: Vec<usize> = (0..self.subsets).collect();
        RandomStream::new(seed).shuffle(&mut order);
        let mut second = order.split_off(self.subsets.div_ceil(2));
        order.sort_unstable();
        second.sort_unstable();
        [order, second]
    }

    /// What was said of some of the subsets, in the order named; those that are not there are left out.
    ///
    /// # Errors
    /// None of them is there.
    pub fn of_subsets(&self, chosen: &[usize]) -> Result<Self, TruthError> {
        let each = self.seeds * self.queries;
        let rows = chosen.iter().filter_map(|subset| self.outputs.get(subset * each..(subset + 1) * each));
        let outputs: Vec<f64> = rows.flatten().copied().collect();
        let subsets = outputs.len() / each;
        Self::new(outputs, subsets, self.seeds, self.queries)
    }

    /// Subsets of the rows, at least 1.
    pub fn subsets(&self) -> usize {
        self.subsets
    }

    /// Models that were trained on each subset, at least 1.
    pub fn seeds(&self) -> usize {
        self.seeds
    }

    /// Queries, at least 1.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// The outputs for a query on each subset, mean over the seeds; empty of a query that is not there.
    pub fn query(&self, query: usize) -> &[f64] {
        self.means.chunks_exact(self.subsets).nth(query).unwrap_or_default()
    }

    /// For each query, the correlation that a method without any error can be expected to reach with these outputs, in
    /// 0..=1, because training noise remains in their means; `None` where there is but one seed.
    ///
    /// With r the Spearman correlation, over the subsets, between the outputs averaged over one half of the seeds and over
    /// the other, and of S seeds h in each half, the means over all seeds have the reliability R = k r / (1 + (k - 1) r),
    /// k = S / h, and the ceiling is sqrt(R): sqrt(2 r / (1 + r)) of an even number of seeds. An odd number leaves one
    /// out of the halves. r is the mean over all ways to split up to eight seeds; of more seeds, over 64 ways drawn by
    /// `seed`. A half without two different outputs has r = 0, and a negative mean counts as 0.
    ///
    /// # Complexity
    /// O(queries x splits x subsets x (seeds + log subsets))
    ///
    /// # References
    /// Spearman: Correlation calculated from faulty data, and Brown: Some experimental results in the correlation of mental
    /// abilities, both British Journal of Psychology 3 (1910).
    ///
    /// ```
    /// use ascribe::evaluation::RetrainingTruth;
    /// // Three subsets, two seeds, one query. The seeds order the subsets 1 2 3 and 1 3 2: r = 0.5.
    /// let truth = RetrainingTruth::new(vec![1.0, 1.0, 2.0, 3.0, 3.0, 2.0], 3, 2, 1)?;
    /// let ceilings = truth.noise_ceilings(0).expect("two seeds");
    /// assert!((ceilings[0] - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    /// # Ok::<(), ascribe::evaluation::TruthError>(())
    /// ```
    pub fn noise_ceilings(&self, seed: u64) -> Option<Vec<f64>> {
        let half = self.seeds / 2;
        if half == 0 {
            return None;
        }
        let splits = splits(self.seeds, seed);
        let times = self.seeds as f64 / half as f64;
        let ceiling = |query| {
            let sum: f64 = splits.iter().map(|halves| self.agreement(query, halves)).sum();
            let reliable = (sum / splits.len() as f64).clamp(0.0, 1.0);
            (times * reliable / (1.0 + (times - 1.0) * reliable)).sqrt()
        };
        Some((0..self.queries).map(ceiling).collect())
    }

    /// Spearman correlation of the means over two halves of the seeds, 0 where it is not defined.
    fn agreement(&self, query: usize, halves: &[Vec<usize>; 2]) -> f64 {
        let [left, right] = halves.each_ref().map(|half| self.means_over(query, half));
        spearman_correlation(&left, &right).ok().flatten().unwrap_or_default()
    }

    /// The outputs for a query on each subset, mean over some of the seeds.
    fn means_over(&self, query: usize, seeds: &[usize]) -> Vec<f64> {
        let output =
            |subset: usize, seed: usize| self.outputs[(subset * self.seeds + seed) * self.queries + query];
        let sum = |subset| seeds.iter().map(|&seed| output(subset, seed)).sum::<f64>();
        (0..self.subsets).map(|subset| sum(subset) / seeds.len() as f64).collect()
    }
}

/// Ways to take two halves of the seeds, of seeds / 2 each; each way once where all are taken.
fn splits(seeds: usize, seed: u64) -> Vec<[Vec<usize>; 2]> {
    let half = seeds / 2;
    if seeds > SEEDS_SPLIT_ALL_WAYS_MAX {
        let mut stream = RandomStream::new(seed);
        let mut draw = || {
            let mut order: Vec<usize> = (0..seeds).collect();
            stream.shuffle(&mut order);
            [order[..half].to_vec(), order[half..2 * half].to_vec()]
        };
        return (0..SPLITS_DRAWN).map(|_| draw()).collect();
    }
    // Seeds as bits.
    let halves: Vec<u32> = (0..1_u32 << seeds).filter(|set| set.count_ones() as usize == half).collect();
    let members = |set: u32| (0..seeds).filter(|bit| set >> bit & 1 == 1).collect::<Vec<usize>>();
    let pairs = halves.iter().flat_map(|&left| halves.iter().map(move |&right| (left, right)));
    let apart = pairs.filter(|(left, right)| left & right == 0 && left < right);
    apart.map(|(left, right)| [members(left), members(right)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About normal, mean 0, variance 1.
    fn noise(stream: &mut RandomStream) -> f64 {
        (0..12).map(|_| stream.unit()).sum::<f64>() - 6.0
    }

    /// Outputs that all queries have a signal in of variance 1, and noise of variance `variance` in each training.
    fn noisy(subsets: usize, seeds: usize, queries: usize, variance: f64) -> (RetrainingTruth, Vec<f64>) {
        let mut stream = RandomStream::new(21);
        let mut outputs = vec![0.0; subsets * seeds * queries];
        let mut signals = vec![0.0; queries * subsets];
        for subset in 0..subsets {
            for query in 0..queries {
                let signal = noise(&mut stream);
                signals[query * subsets + subset] = signal;
                for seed in 0..seeds {
                    let at = (subset * seeds + seed) * queries + query;
                    outputs[at] = signal + variance.sqrt() * noise(&mut stream);
                }
            }
        }
        (RetrainingTruth::new(outputs, subsets, seeds, queries).unwrap(), signals)
    }

    /// The signal itself is a method without error: what it reaches is what the ceiling says, for even and odd numbers of
    /// seeds, few and many.
    #[test]
    fn the_ceiling_is_what_the_signal_reaches() {
        for (seeds, variance) in [(2, 0.5), (3, 1.0), (4, 1.0), (5, 3.0), (12, 4.0)] {
            let (truth, signals) = noisy(300, seeds, 20, variance);
            let ceilings = truth.noise_ceilings(1).unwrap();
            let ceiling = ceilings.iter().sum::<f64>() / 20.0;
            let reached: Vec<f64> = signals
                .chunks(300)
                .enumerate()
                .map(|(query, signal)| spearman_correlation(signal, truth.query(query)).unwrap().unwrap())
                .collect();
            let reached = reached.iter().sum::<f64>() / 20.0;
            assert!((ceiling - reached).abs() < 0.02, "{seeds} seeds: ceiling {ceiling}, reached {reached}");
        }
    }

    #[test]
    fn no_noise_has_the_ceiling_one_and_only_noise_a_low_one() {
        let (same, _) = noisy(50, 4, 3, 0.0);
        for ceiling in same.noise_ceilings(0).unwrap() {
            assert!((ceiling - 1.0).abs() < 1e-12, "{ceiling}");
        }
        // The seeds order the subsets in opposite ways.
        let opposite = RetrainingTruth::new(vec![1.0, 3.0, 2.0, 2.0, 3.0, 1.0], 3, 2, 1).unwrap();
        assert_eq!(opposite.noise_ceilings(0), Some(vec![0.0]));
        let constant = RetrainingTruth::new(vec![1.0; 8], 2, 4, 1).unwrap();
        assert_eq!(constant.noise_ceilings(0), Some(vec![0.0]));
        assert_eq!(RetrainingTruth::new(vec![1.0, 2.0], 2, 1, 1).unwrap().noise_ceilings(0), None);
    }

    #[test]
    fn all_ways_to_split_few_seeds_and_some_of_many() {
        assert_eq!(splits(2, 0), [[vec![0], vec![1]]]);
        assert_eq!([3, 4, 5, 6, 7, 8].map(|seeds| splits(seeds, 0).len()), [3, 3, 15, 10, 70, 35]);
        for seeds in [7, 8, 9, 20] {
            for [left, right] in splits(seeds, 3) {
                let mut all = [left.clone(), right.clone()].concat();
                all.sort_unstable();
                all.dedup();
                assert_eq!((left.len(), right.len(), all.len()), (seeds / 2, seeds / 2, seeds / 2 * 2));
            }
        }
        assert_eq!(splits(20, 3), splits(20, 3));
        assert_ne!(splits(20, 3), splits(20, 4));
    }

    #[test]
    fn means_are_taken_over_seeds() {
        // [2 subsets x 2 seeds x 2 queries]
        let truth = RetrainingTruth::new(vec![1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 90.0], 2, 2, 2).unwrap();
        assert_eq!(
            (truth.query(0), truth.query(1), truth.query(2)),
            (&[2.0, 6.0][..], &[20.0, 70.0][..], &[][..])
        );
        assert_eq!((truth.subsets(), truth.seeds(), truth.queries()), (2, 2, 2));
    }

    #[test]
    fn bad_input_is_refused() {
        for (values, subsets, seeds, queries) in
            [(0, 0, 1, 1), (0, 0, 0, 0), (5, 2, 1, 2), (4, 2, 2, 2), (1, usize::MAX, 2, 1)]
        {
            let expected = TruthError::Shape { values, subsets, seeds, queries };
            assert_eq!(RetrainingTruth::new(vec![0.5; values], subsets, seeds, queries), Err(expected));
        }
        let infinite = TruthError::NotFinite { query: 1, subset: 1, value: f64::INFINITY };
        assert_eq!(RetrainingTruth::new(vec![0.0, 1.0, 2.0, f64::INFINITY], 2, 1, 2), Err(infinite));
        assert!(RetrainingTruth::new(vec![f64::NAN], 1, 1, 1).is_err());
        assert!(RetrainingTruth::new(vec![f64::MAX, f64::MAX], 1, 2, 1).is_err());
    }
}
