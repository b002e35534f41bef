//! What chance alone gives: linear datamodelling scores where subsets have the outputs of others.

use super::lds::{LdsError, Orders};
use super::retraining_truth::RetrainingTruth;
use crate::base::{RandomStream, sum_of};
use crate::stats::{Interval, RankOrder, SampleError, percentile_ends};

/// How subsets are permuted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PermutationOptions {
    /// Permutations, at least 1. With fewer than 39 the ends at level 0.95 are the lowest and the highest score.
    pub permutations: usize,
    /// Part of the scores by chance that lie between the ends, above 0 and below 1.
    pub level: f64,
    /// Decides the permutations.
    pub seed: u64,
}

impl Default for PermutationOptions {
    fn default() -> Self {
        Self { permutations: 200, level: 0.95, seed: 0 }
    }
}

/// What each method scores by chance.
#[derive(Clone, Debug, PartialEq)]
pub struct PermutationNull {
    /// Permutations.
    pub permutations: usize,
    /// One for each method, in the order given: the mean of its scores over the permutations, near 0, and the ends that part
    /// of them lie between. A method is better than chance where its own score lies above.
    pub methods: Vec<Interval>,
}

/// The linear datamodelling scores of some methods where each subset has the outputs of another one (or of itself), drawn
/// anew for each permutation: what is left of a score when nothing can be predicted.
///
/// `methods` are as those of [`linear_datamodelling_score`](super::linear_datamodelling_score), and the same queries count.
/// A permutation moves the subsets of all queries and methods alike, so that what queries have in common stays in: their
/// correlations by chance rise and fall together, and the more they do, the wider the interval. It holds 0 unless the control
/// itself is broken. The ends are those of [`percentile_ends`].
///
/// # Errors
/// See [`LdsError`].
///
/// # Complexity
/// O(methods x queries x subsets x (log subsets + permutations)) time: ranks are computed once and only moved.
///
/// # References
/// Pitman: Significance tests which may be applied to samples from any populations II, Supplement to the Journal of the
/// Royal Statistical Society 4 (1937) (the correlation under all orders of one side). Good: Permutation, parametric and
/// bootstrap tests of hypotheses, 3rd edition (2005), chapter 3.
///
/// ```
/// use ascribe::evaluation::{PermutationOptions, RetrainingTruth, permutation_null};
/// // Eight subsets, one query; the method orders them as the outputs do, with a score of 1.
/// let outputs: Vec<f64> = (0..8).map(f64::from).collect();
/// let truth = RetrainingTruth::new(outputs.clone(), 8, 1, 1)?;
/// let null = permutation_null(&truth, &[&outputs], PermutationOptions::default())?;
/// let chance = null.methods[0];
/// assert!(chance.low < 0.0 && 0.0 < chance.high && chance.high < 0.9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn permutation_null(
    truth: &RetrainingTruth,
    methods: &[&[f64]],
    options: PermutationOptions,
) -> Result<PermutationNull, LdsError> {
    let PermutationOptions { permutations, level, seed } = options;
    if permutations == 0 || !(level > 0.0 && level < 1.0) {
        return Err(LdsError::PermutationOptions { level, permutations });
    }
    let orders = Orders::of_counting_queries(truth, methods)?;
    let mut stream = RandomStream::new(seed);
    let drawn = (0..permutations).map(|_| {
        let mut from: Vec<usize> = (0..truth.subsets()).collect();
        stream.shuffle(&mut from);
        from
    });
    let methods = UnitRanks::new(&orders)?.intervals(drawn, level);
    methods
        .map(|methods| PermutationNull { permutations, methods })
        .ok_or(LdsError::PermutationOptions { level, permutations })
}

/// Distances from the mean rank in units of their length: the products of two such lists add up to the Spearman correlation.
struct UnitRanks {
    subsets: usize,
    /// For each query that counts one for each subset.
    outputs: Vec<Vec<f64>>,
    /// For each method, then as `outputs`.
    scores: Vec<Vec<Vec<f64>>>,
}

impl UnitRanks {
    fn new(orders: &Orders) -> Result<Self, SampleError> {
        let subsets = orders.subsets;
        let once = vec![1; subsets];
        let unit = |order: &RankOrder| -> Result<Vec<f64>, SampleError> {
            let mut ranks = vec![0.0; subsets];
            // Queries with a constant side do not count, so that no length is 0.
            let length = order.centred_ranks(&once, &mut ranks)?.sqrt();
            ranks.iter_mut().for_each(|rank| *rank /= length);
            Ok(ranks)
        };
        let outputs = orders.kept.iter().map(|query| unit(&query.outputs)).collect::<Result<_, _>>()?;
        let of_method = |method: usize| orders.kept.iter().map(|query| unit(&query.scores[method])).collect();
        let scores = (0..orders.methods).map(of_method).collect::<Result<_, _>>()?;
        Ok(Self { subsets, outputs, scores })
    }

    /// Mean correlation of each method over the queries, where subset i has the outputs of subset `from[i]`.
    fn means(&self, from: &[usize]) -> Vec<f64> {
        let mut sums = vec![0.0; self.scores.len()];
        let mut moved = vec![0.0; self.subsets];
        for (query, outputs) in self.outputs.iter().enumerate() {
            moved.iter_mut().zip(from).for_each(|(moved, &from)| *moved = outputs[from]);
            for (scores, sum) in self.scores.iter().zip(&mut sums) {
                *sum += sum_of([&moved, &scores[query]], |[output, score]| output * score);
            }
        }
        sums.iter().map(|sum| sum / self.outputs.len() as f64).collect()
    }

    /// For each method the mean of its scores over some permutations, and their percentiles.
    fn intervals(&self, permutations: impl Iterator<Item = Vec<usize>>, level: f64) -> Option<Vec<Interval>> {
        let mut scores = vec![Vec::new(); self.scores.len()];
        for from in permutations {
            scores.iter_mut().zip(self.means(&from)).for_each(|(scores, mean)| scores.push(mean));
        }
        let interval = |mut scores: Vec<f64>| {
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            let (low, high) = percentile_ends(&mut scores, level)?;
            Some(Interval { mean, low, high })
        };
        scores.into_iter().map(interval).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lds::{LdsOptions, linear_datamodelling_score};
    use super::*;

    const SUBSETS: usize = 50;

    /// About normal, mean 0, variance 1.
    fn noise(stream: &mut RandomStream) -> f64 {
        (0..12).map(|_| stream.unit()).sum::<f64>() - 6.0
    }

    /// Outputs of 12 queries that have half of their variance in common, and two methods: one that follows them, one of noise.
    fn correlated() -> (RetrainingTruth, Vec<Vec<f64>>) {
        let queries = 12;
        let mut stream = RandomStream::new(17);
        let mut outputs = vec![0.0; SUBSETS * queries];
        let mut methods = vec![vec![0.0; queries * SUBSETS]; 2];
        for subset in 0..SUBSETS {
            let shared = noise(&mut stream);
            for query in 0..queries {
                let signal = shared + noise(&mut stream);
                outputs[subset * queries + query] = signal;
                methods[0][query * SUBSETS + subset] = signal + noise(&mut stream);
                methods[1][query * SUBSETS + subset] = noise(&mut stream);
            }
        }
        (RetrainingTruth::new(outputs, SUBSETS, 1, queries).unwrap(), methods)
    }

    fn slices(methods: &[Vec<f64>]) -> Vec<&[f64]> {
        methods.iter().map(Vec::as_slice).collect()
    }

    fn holds_zero(chance: &Interval) -> bool {
        chance.low < 0.0 && 0.0 < chance.high
    }

    #[test]
    fn chance_is_centred_on_zero_below_a_method_that_sees_something() {
        let (truth, methods) = correlated();
        let report = linear_datamodelling_score(&truth, &slices(&methods), LdsOptions::default()).unwrap();
        for seed in 0..20 {
            let options = PermutationOptions { seed, ..PermutationOptions::default() };
            let null = permutation_null(&truth, &slices(&methods), options).unwrap();
            assert_eq!((null.permutations, null.methods.len()), (200, 2));
            for chance in &null.methods {
                assert!(holds_zero(chance) && chance.mean.abs() < 0.03, "{seed}: {chance:?}");
            }
            assert!(report.methods[0].lds.mean > 2.0 * null.methods[0].high, "{seed}: {null:?}");
            let [blind, chance] = [report.methods[1].lds.mean, null.methods[1].high];
            assert!(blind < chance, "{seed}: {blind} {chance}");
            // What the queries have in common moves with the subsets: it widens the chance of a method that sees it.
            assert!(null.methods[0].high > 1.2 * null.methods[1].high, "{seed}: {null:?}");
        }
    }

    /// A control that leaves the subsets where they are, or moves them but little, is no control: its interval is not around 0.
    #[test]
    fn a_control_that_moves_nothing_shows() {
        let (truth, methods) = correlated();
        let slices = slices(&methods);
        let report = linear_datamodelling_score(&truth, &slices, LdsOptions::default()).unwrap();
        let ranks = UnitRanks::new(&Orders::of_counting_queries(&truth, &slices).unwrap()).unwrap();
        let identity: Vec<usize> = (0..SUBSETS).collect();
        let still = ranks.intervals((0..200).map(|_| identity.clone()), 0.95).unwrap();
        for (chance, method) in still.iter().zip(&report.methods) {
            assert!((chance.mean - method.lds.mean).abs() < 1e-12 && chance.high - chance.low < 1e-12);
        }
        assert!(!holds_zero(&still[0]), "{still:?}");
        let mut stream = RandomStream::new(1);
        let swapped = (0..200).map(|_| {
            let mut from = identity.clone();
            from.swap(stream.below(SUBSETS as u64) as usize, stream.below(SUBSETS as u64) as usize);
            from
        });
        assert!(!holds_zero(&ranks.intervals(swapped, 0.95).unwrap()[0]));
    }

    /// Of three subsets each order comes about as often as any other: the mean of all of them is exactly 0.
    #[test]
    fn all_orders_of_few_subsets_come_with_their_correlation() {
        let truth = RetrainingTruth::new(vec![1.0, 2.0, 3.0], 3, 1, 1).unwrap();
        let ranks =
            UnitRanks::new(&Orders::of_counting_queries(&truth, &[&[1.0, 2.0, 3.0]]).unwrap()).unwrap();
        for (from, expected) in [([0, 1, 2], 1.0), ([0, 2, 1], 0.5), ([1, 2, 0], -0.5), ([2, 1, 0], -1.0)] {
            assert!((ranks.means(&from)[0] - expected).abs() < 1e-12, "{from:?}");
        }
        let options = PermutationOptions { permutations: 999, ..PermutationOptions::default() };
        let null = permutation_null(&truth, &[&[1.0, 2.0, 3.0]], options).unwrap();
        let chance = null.methods[0];
        assert!(chance.mean.abs() < 0.1 && (chance.low + 1.0).abs() < 1e-12, "{chance:?}");
        assert!((chance.high - 1.0).abs() < 1e-12, "{chance:?}");
    }

    #[test]
    fn a_seed_gives_one_null_and_bad_input_none() {
        let (truth, methods) = correlated();
        let slices = slices(&methods);
        let with = |permutations, level, seed| {
            permutation_null(&truth, &slices, PermutationOptions { permutations, level, seed })
        };
        assert_eq!(with(50, 0.95, 3), with(50, 0.95, 3));
        assert_ne!(with(50, 0.95, 3), with(50, 0.95, 4));
        assert!(matches!(with(0, 0.95, 0), Err(LdsError::PermutationOptions { permutations: 0, .. })));
        for level in [0.0, 1.0, f64::NAN] {
            assert!(matches!(with(9, level, 0), Err(LdsError::PermutationOptions { .. })), "{level}");
        }
        let options = PermutationOptions::default();
        assert_eq!(permutation_null(&truth, &[], options), Err(LdsError::NoMethods));
        assert!(matches!(permutation_null(&truth, &[&[1.0]], options), Err(LdsError::Shape { .. })));
        let constant = vec![1.0; methods[0].len()];
        assert_eq!(permutation_null(&truth, &[&constant], options), Err(LdsError::NoQueries { queries: 12 }));
    }
}
