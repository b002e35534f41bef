//! Linear datamodelling score: group scores against retrained models, with intervals.

use thiserror::Error;

use super::retraining_truth::RetrainingTruth;
use crate::base::{RandomStream, sum_of};
use crate::stats::{Interval, RankOrder, SampleError, percentile_ends};

/// How scores are resampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LdsOptions {
    /// Resamples behind an interval, at least 1.
    pub resamples: usize,
    /// Part of the intervals that cover the score over all queries and subsets, above 0 and below 1.
    pub level: f64,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Default for LdsOptions {
    fn default() -> Self {
        Self { resamples: 1000, level: 0.95, seed: 0 }
    }
}

/// The scores of some methods, all of the same queries, subsets and resamples.
#[derive(Clone, Debug, PartialEq)]
pub struct LdsReport {
    /// The queries that count, ascending: on them neither the outputs nor the group scores of any method are constant.
    pub queries: Vec<usize>,
    /// Queries left out because all their outputs are equal.
    pub constant_outputs: usize,
    /// Resamples on which some query was defined; the intervals are of these.
    pub resamples: usize,
    /// One for each method, in the order given.
    pub methods: Vec<MethodLds>,
    /// One for each pair of methods, (0, 1), (0, 2) ... (1, 2) ...
    pub differences: Vec<PairedDifference>,
    /// Mean over the queries that count of what training noise lets a method reach
    /// ([`RetrainingTruth::noise_ceilings`]); `None` where there is but one seed.
    pub ceiling: Option<f64>,
}

/// The score of one method.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodLds {
    /// Mean over the queries that count, in -1..=1.
    pub lds: Interval,
    /// Spearman correlation of each query that counts, in the order of [`LdsReport::queries`].
    pub correlations: Vec<f64>,
    /// Queries left out because all their group scores by this method are equal, and their outputs are not.
    pub constant_scores: usize,
}

/// How much better one method is than another.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedDifference {
    /// Place of the method, from 0.
    pub method: usize,
    /// Place of the method it is compared with.
    pub other: usize,
    /// The score of the first less that of the other, on the same resamples.
    pub difference: Interval,
}

impl PairedDifference {
    /// Whether one of the two is better at the level of the intervals: 0 lies outside of this one.
    pub fn excludes_zero(&self) -> bool {
        self.difference.low > 0.0 || self.difference.high < 0.0
    }
}

/// Why the score cannot be computed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LdsError {
    /// No method is given.
    #[error("there are no group scores to compare with the outputs: give those of one method or more")]
    NoMethods,
    /// Group scores do not fill the shape of the truth.
    #[error(
        "method {method} has {values} group scores, the truth has {queries} queries and {subsets} subsets: give \
         one for each pair of them"
    )]
    Shape {
        /// Place of the method, from 0.
        method: usize,
        /// Its group scores.
        values: usize,
        /// Queries of the truth.
        queries: usize,
        /// Subsets of the truth.
        subsets: usize,
    },
    /// A group score is a NaN or infinite.
    #[error(
        "the group score of query {query} and subset {subset} by method {method} is {value}: only finite \
         scores can be ranked"
    )]
    NotFinite {
        /// Place of the method, from 0.
        method: usize,
        /// The query, from 0.
        query: usize,
        /// The subset, from 0.
        subset: usize,
        /// The group score.
        value: f64,
    },
    /// Intervals of no resamples, or of a level that is none.
    #[error(
        "no interval at level {level} from {resamples} resamples: use a level between 0 and 1, and 1 resample \
         or more"
    )]
    Options {
        /// The level given.
        level: f64,
        /// The number of resamples given.
        resamples: usize,
    },
    /// Chance of no permutations, or of a level that is none.
    #[error(
        "no interval at level {level} from {permutations} permutations: use a level between 0 and 1, and 1 \
         permutation or more"
    )]
    PermutationOptions {
        /// The level given.
        level: f64,
        /// The number of permutations given.
        permutations: usize,
    },
    /// On each query something is constant.
    #[error(
        "none of {queries} queries has outputs and group scores that differ between subsets: measure more \
         subsets, or leave a method out that scores all alike"
    )]
    NoQueries {
        /// Queries of the truth.
        queries: usize,
    },
    /// On each resample all queries became constant.
    #[error("none of {resamples} resamples of {subsets} subsets has two that differ: measure more subsets")]
    NoResamples {
        /// Resamples drawn.
        resamples: usize,
        /// Subsets of the truth.
        subsets: usize,
    },
    /// Values that cannot be ranked.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// Measures how well group scores predict what retrained models put out.
///
/// Each of `methods` is [queries x subsets], row-major: what it predicts for the query where a model is trained on the
/// subset, in any unit, higher for better outputs. Its score is the mean over the queries of the Spearman correlation, over
/// the subsets, between its group scores and the outputs averaged over the seeds.
///
/// The intervals are percentile bootstrap intervals over queries AND subsets: each resample draws as many of either, with
/// replacement, and computes the correlations on the drawn subsets anew. All methods are measured on the same resamples, so
/// that what makes a resample easy falls out of their differences. What was drawn twice ties with itself, so resamples
/// correlate a little less well than the subsets do (by about 1 / subsets); the draws are moved by the difference of their
/// mean from the score. The intervals are therefore of the score to be expected with as many subsets as there are, which is
/// smaller than that of infinitely many by about as much.
///
/// Such intervals cover about as often as they say where queries have much in common, and more often where they have not.
/// A query on which the outputs or the group scores of some method are constant is left out of everything, for all methods,
/// and counted; one that becomes constant on a resample is left out of that resample.
///
/// What chance alone gives is told by [`permutation_null`](super::permutation_null).
///
/// # Errors
/// See [`LdsError`].
///
/// # Complexity
/// O(methods x queries x subsets x (log subsets + resamples)) time: no resample is sorted.
///
/// # References
/// Park, Georgiev, Ilyas, Leclerc, Madry: TRAK: attributing model behavior at scale (arXiv 2303.14186), section 2 (the
/// score). Owen: The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) (resampling two ways at once). Efron,
/// Tibshirani: An introduction to the bootstrap (1993), chapter 10 (the mean of the draws less the estimate as its bias).
///
/// ```
/// use ascribe::evaluation::{LdsOptions, RetrainingTruth, linear_datamodelling_score};
/// // Four subsets, one seed, two queries; the method orders the subsets of the first query right, of the other not quite.
/// let truth = RetrainingTruth::new(vec![1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0], 4, 1, 2)?;
/// let method = [10.0, 20.0, 30.0, 40.0, /* second query */ 0.1, 0.3, 0.2, 0.4];
/// let report = linear_datamodelling_score(&truth, &[&method], LdsOptions::default())?;
/// assert!((report.methods[0].lds.mean - 0.9).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn linear_datamodelling_score(
    truth: &RetrainingTruth,
    methods: &[&[f64]],
    options: LdsOptions,
) -> Result<LdsReport, LdsError> {
    let LdsOptions { resamples, level, seed } = options;
    if resamples == 0 || !(level > 0.0 && level < 1.0) {
        return Err(LdsError::Options { level, resamples });
    }
    let orders = Orders::of_counting_queries(truth, methods)?;
    let correlations = orders.correlations()?;
    let drawn = orders.resample(resamples, seed)?;
    let count = drawn.first().map_or(0, Vec::len);
    let unresampled = LdsError::NoResamples { resamples, subsets: truth.subsets() };
    // No score, and no difference of two, is beyond `most`.
    let interval = |mean: f64, mut draws: Vec<f64>, most: f64| {
        let bias = draws.iter().sum::<f64>() / draws.len() as f64 - mean;
        draws.iter_mut().for_each(|draw| *draw = (*draw - bias).clamp(-most, most));
        let (low, high) = percentile_ends(&mut draws, level).ok_or_else(|| unresampled.clone())?;
        Ok::<_, LdsError>(Interval { mean, low, high })
    };
    let means: Vec<f64> = correlations.iter().map(|of| of.iter().sum::<f64>() / of.len() as f64).collect();
    let mut differences = Vec::new();
    for method in 0..methods.len() {
        for other in method + 1..methods.len() {
            let draws = drawn[method].iter().zip(&drawn[other]).map(|(left, right)| left - right).collect();
            let difference = interval(means[method] - means[other], draws, 2.0)?;
            differences.push(PairedDifference { method, other, difference });
        }
    }
    let mut reports = Vec::new();
    for (place, (correlations, draws)) in correlations.into_iter().zip(drawn).enumerate() {
        let lds = interval(means[place], draws, 1.0)?;
        reports.push(MethodLds { lds, correlations, constant_scores: orders.constant_scores[place] });
    }
    let ceiling = truth.noise_ceilings(seed).map(|ceilings| {
        orders.queries.iter().map(|&query| ceilings[query]).sum::<f64>() / orders.queries.len() as f64
    });
    Ok(LdsReport {
        constant_outputs: orders.constant_outputs,
        queries: orders.queries,
        resamples: count,
        methods: reports,
        differences,
        ceiling,
    })
}

fn check_methods(truth: &RetrainingTruth, methods: &[&[f64]]) -> Result<(), LdsError> {
    let (queries, subsets) = (truth.queries(), truth.subsets());
    if methods.is_empty() {
        return Err(LdsError::NoMethods);
    }
    for (method, scores) in methods.iter().enumerate() {
        if scores.len() != queries * subsets {
            return Err(LdsError::Shape { method, values: scores.len(), queries, subsets });
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let (query, subset) = (at / subsets, at % subsets);
            return Err(LdsError::NotFinite { method, query, subset, value: scores[at] });
        }
    }
    Ok(())
}

/// How outputs and group scores order the subsets, for the queries that count.
pub(super) struct Orders {
    queries: Vec<usize>,
    /// One for each of `queries`.
    pub(super) kept: Vec<QueryOrders>,
    pub(super) subsets: usize,
    pub(super) methods: usize,
    constant_outputs: usize,
    constant_scores: Vec<usize>,
}

/// How one query orders the subsets.
pub(super) struct QueryOrders {
    pub(super) outputs: RankOrder,
    /// One for each method.
    pub(super) scores: Vec<RankOrder>,
}

/// Room for the correlations of one query on one resample.
struct Room {
    /// Distances from the mean rank by the outputs, then these times how often a subset was drawn; one for each subset.
    outputs: Vec<f64>,
    /// Distances by one method.
    scores: Vec<f64>,
    /// One for each method.
    correlations: Vec<f64>,
}

impl Orders {
    /// Orders of at least one query.
    ///
    /// # Errors
    /// The methods do not fit the truth, or no query counts.
    pub(super) fn of_counting_queries(truth: &RetrainingTruth, methods: &[&[f64]]) -> Result<Self, LdsError> {
        check_methods(truth, methods)?;
        let orders = Self::new(truth, methods)?;
        if orders.kept.is_empty() {
            return Err(LdsError::NoQueries { queries: truth.queries() });
        }
        Ok(orders)
    }

    fn new(truth: &RetrainingTruth, methods: &[&[f64]]) -> Result<Self, SampleError> {
        let subsets = truth.subsets();
        let (mut queries, mut kept) = (Vec::new(), Vec::new());
        let (mut constant_outputs, mut constant_scores) = (0, vec![0; methods.len()]);
        for query in 0..truth.queries() {
            let outputs = RankOrder::new(truth.query(query))?;
            if outputs.is_constant() {
                constant_outputs += 1;
                continue;
            }
            let of_method = |scores: &&[f64]| RankOrder::new(&scores[query * subsets..][..subsets]);
            let scores = methods.iter().map(of_method).collect::<Result<Vec<_>, _>>()?;
            for (count, order) in constant_scores.iter_mut().zip(&scores) {
                *count += usize::from(order.is_constant());
            }
            if !scores.iter().any(RankOrder::is_constant) {
                queries.push(query);
                kept.push(QueryOrders { outputs, scores });
            }
        }
        Ok(Self { queries, kept, subsets, methods: methods.len(), constant_outputs, constant_scores })
    }

    fn room(&self) -> Room {
        let (outputs, scores) = (vec![0.0; self.subsets], vec![0.0; self.subsets]);
        Room { outputs, scores, correlations: vec![0.0; self.methods] }
    }

    /// [methods x queries that count], on the subsets as they are.
    fn correlations(&self) -> Result<Vec<Vec<f64>>, SampleError> {
        let (mut room, once) = (self.room(), vec![1; self.subsets]);
        let mut correlations = vec![Vec::with_capacity(self.kept.len()); self.methods];
        for query in &self.kept {
            query.correlate(&once, &mut room)?;
            correlations.iter_mut().zip(&room.correlations).for_each(|(of, found)| of.push(*found));
        }
        Ok(correlations)
    }

    /// [methods x resamples]: mean correlation on each resample that has one.
    fn resample(&self, resamples: usize, seed: u64) -> Result<Vec<Vec<f64>>, SampleError> {
        let (mut stream, mut room) = (RandomStream::new(seed), self.room());
        let (mut subset_counts, mut query_counts) = (vec![0; self.subsets], vec![0; self.kept.len()]);
        let mut means = vec![Vec::with_capacity(resamples); self.methods];
        let mut sums = vec![0.0; self.methods];
        for _ in 0..resamples {
            draw(&mut subset_counts, &mut stream);
            draw(&mut query_counts, &mut stream);
            sums.fill(0.0);
            let mut defined = 0;
            for (query, &count) in self.kept.iter().zip(&query_counts) {
                if count > 0 && query.correlate(&subset_counts, &mut room)? {
                    defined += count;
                    let found = sums.iter_mut().zip(&room.correlations);
                    found.for_each(|(sum, found)| *sum += f64::from(count) * found);
                }
            }
            if defined > 0 {
                let each = means.iter_mut().zip(&sums);
                each.for_each(|(means, sum)| means.push(sum / f64::from(defined)));
            }
        }
        Ok(means)
    }
}

impl QueryOrders {
    /// Spearman correlation of each method with the outputs, where subset i was drawn `counts[i]` times; false where one of
    /// them is not defined.
    fn correlate(&self, counts: &[u32], room: &mut Room) -> Result<bool, SampleError> {
        let of_outputs = self.outputs.centred_ranks(counts, &mut room.outputs)?;
        let drawn = room.outputs.iter_mut().zip(counts);
        drawn.for_each(|(distance, &count)| *distance *= f64::from(count));
        for (order, correlation) in self.scores.iter().zip(&mut room.correlations) {
            let squares = of_outputs * order.centred_ranks(counts, &mut room.scores)?;
            if squares == 0.0 {
                return Ok(false);
            }
            let products = sum_of([&room.outputs, &room.scores], |[output, score]| output * score);
            *correlation = (products / squares.sqrt()).clamp(-1.0, 1.0);
        }
        Ok(true)
    }
}

/// Draws as many things as there are, with replacement: how often each of them.
fn draw(counts: &mut [u32], stream: &mut RandomStream) {
    counts.fill(0);
    for _ in 0..counts.len() {
        let place = stream.below(counts.len() as u64) as usize;
        counts[place] += 1;
    }
}

#[cfg(test)]
#[path = "lds_tests.rs"]
mod tests;
