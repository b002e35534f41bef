//! How well rankings agree with exact scores: NDCG over many queries, one query at a time.

use crate::stats::{Interval, SampleError, mean_interval, ndcg};

/// The rows with the `k` highest scores, the highest first; of equal scores the first rows.
///
/// # Errors
/// A score is not finite.
///
/// # Complexity
/// O(rows + k log k)
///
/// ```
/// use ascribe::evaluation::highest_rows;
/// assert_eq!(highest_rows(&[0.5, 2.0, 0.5, -1.0], 2)?, [1, 0]);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn highest_rows(scores: &[f64], k: usize) -> Result<Vec<usize>, SampleError> {
    if let Some((index, &value)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
        return Err(SampleError::NotFinite { index, value });
    }
    // 0 and -0 are equal scores.
    let before = |left: &usize, right: &usize| {
        (scores[*right] + 0.0).total_cmp(&(scores[*left] + 0.0)).then_with(|| left.cmp(right))
    };
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    if k < rows.len() {
        rows.select_nth_unstable_by(k, before);
        rows.truncate(k);
    }
    rows.sort_unstable_by(before);
    Ok(rows)
}

/// What the rankings of some methods come to, beside exact scores.
#[derive(Clone, Debug, PartialEq)]
pub struct NdcgReport {
    /// Rows of each ranking that are looked at.
    pub k: usize,
    /// Queries that count.
    pub queries: usize,
    /// Queries left out because no exact score of theirs is positive.
    pub without_proponents: usize,
    /// One for each method: the mean over the queries that count, in 0..=1, with its bootstrap interval over these queries.
    pub methods: Vec<Interval>,
}

/// How well the rankings of some methods agree with exact scores, told query after query, so that nobody has to hold the
/// scores of all queries.
///
/// For each query the first `k` rows that a method ranks give [`ndcg`]: gains are the exact scores, 0 where these are
/// negative, so that only proponents count. This costs no retraining. It says how near a cheaper or rougher score comes to the
/// exact one, not whether that one is right: for that there is
/// [`linear_datamodelling_score`](super::linear_datamodelling_score).
///
/// # References
/// Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques, ACM Transactions on Information Systems 20
/// (2002), section 2. As a measure of attribution, beside linear datamodelling scores: EOGP (arXiv 2609.37842).
///
/// ```
/// use ascribe::evaluation::{RankingAgreement, highest_rows};
/// let mut agreement = RankingAgreement::new(2, 1);
/// let exact = [3.0, 1.0, -2.0];
/// let [first, other] = [highest_rows(&[0.9, 0.5, 0.1], 1)?, highest_rows(&[0.1, 0.5, 0.3], 1)?];
/// agreement.add(&[&first, &other], &exact)?;
/// let report = agreement.report(0.95, 1000, 0).expect("a query with a proponent");
/// assert_eq!((report.methods[0].mean, report.methods[1].mean), (1.0, 1.0 / 3.0));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RankingAgreement {
    k: usize,
    /// For each method one for each query that counts.
    values: Vec<Vec<f64>>,
    without_proponents: usize,
}

impl RankingAgreement {
    /// No queries yet, of so many methods, whose first `k` rows will be looked at.
    pub fn new(methods: usize, k: usize) -> Self {
        Self { k, values: vec![Vec::new(); methods], without_proponents: 0 }
    }

    /// Takes in a query: for each method the rows that it ranks first, and the exact score of each row.
    ///
    /// # Errors
    /// An exact score is not finite, a ranking names a row twice or one without an exact score, or there are not as many
    /// rankings as methods. Nothing is taken in then.
    ///
    /// # Complexity
    /// O(methods x rows)
    pub fn add(&mut self, rankings: &[&[usize]], exact: &[f64]) -> Result<(), SampleError> {
        if rankings.len() != self.values.len() {
            return Err(SampleError::Lengths { left: rankings.len(), right: self.values.len() });
        }
        let found = rankings.iter().map(|ranking| ndcg(ranking, exact, self.k));
        // Whether there are gains does not depend on the ranking.
        match found.collect::<Result<Option<Vec<f64>>, _>>()? {
            Some(found) => self.values.iter_mut().zip(found).for_each(|(values, found)| values.push(found)),
            None => self.without_proponents += 1,
        }
        Ok(())
    }

    /// Means over the queries with intervals that cover `level` of what they estimate, from `resamples` resamples of the
    /// queries, the same for all methods. `None` where no query counts, or nothing can be resampled ([`mean_interval`]).
    ///
    /// # Complexity
    /// O(methods x queries x resamples)
    pub fn report(&self, level: f64, resamples: usize, seed: u64) -> Option<NdcgReport> {
        let intervals = self.values.iter().map(|values| mean_interval(values, level, resamples, seed));
        Some(NdcgReport {
            k: self.k,
            queries: self.values.first()?.len(),
            without_proponents: self.without_proponents,
            methods: intervals.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;
    use crate::stats::descending_order;

    #[test]
    fn the_highest_rows_are_the_first_of_all_in_order() {
        let mut stream = RandomStream::new(2);
        for rows in [0, 1, 5, 40, 300] {
            // Many ties, and both zeros.
            let scores: Vec<f64> = (0..rows)
                .map(|row| (stream.below(9) as f64 - 4.0) * if row % 2 == 0 { 1.0 } else { -1.0 })
                .collect();
            let all = descending_order(&scores).unwrap();
            for k in [0, 1, 7, 20, 300, 400] {
                assert_eq!(highest_rows(&scores, k).unwrap(), all[..k.min(rows)], "{k} of {rows}");
            }
        }
        assert_eq!(highest_rows(&[0.0, -0.0, 0.0], 2).unwrap(), [0, 1]);
        let infinite = SampleError::NotFinite { index: 1, value: f64::INFINITY };
        assert_eq!(highest_rows(&[0.0, f64::INFINITY], 0), Err(infinite));
    }

    /// By hand: gains 4, 2, 0 (of -1), 1; the best two are 4 and 2 / log2 3.
    #[test]
    fn means_are_over_the_queries_that_have_proponents() {
        let mut agreement = RankingAgreement::new(2, 2);
        let discount = 1.0 / 3.0_f64.log2();
        let best = 4.0 + 2.0 * discount;
        agreement.add(&[&[0, 1, 3], &[3, 2]], &[4.0, 2.0, -1.0, 1.0]).unwrap();
        agreement.add(&[&[0, 1], &[1, 0]], &[-4.0, 0.0]).unwrap();
        agreement.add(&[&[0, 1], &[1, 0]], &[4.0, 2.0]).unwrap();
        let report = agreement.report(0.95, 500, 1).unwrap();
        assert_eq!((report.k, report.queries, report.without_proponents), (2, 2, 1));
        assert_eq!(report.methods[0], Interval { mean: 1.0, low: 1.0, high: 1.0 });
        let expected = f64::midpoint(1.0 / best, (2.0 + 4.0 * discount) / best);
        let other = report.methods[1];
        assert!((other.mean - expected).abs() < 1e-12, "{other:?}");
        assert!((other.low - 1.0 / best).abs() < 1e-12 && other.high > expected, "{other:?}");
    }

    #[test]
    fn random_rankings_agree_little_and_near_ones_much() {
        let mut stream = RandomStream::new(8);
        let mut agreement = RankingAgreement::new(2, 20);
        for _ in 0..40 {
            let exact: Vec<f64> = (0..500).map(|_| stream.unit().powi(4) - 0.2).collect();
            let near: Vec<f64> = exact.iter().map(|score| score + 0.05 * stream.unit()).collect();
            let random: Vec<f64> = exact.iter().map(|_| stream.unit()).collect();
            let [near, random] = [near, random].map(|scores| highest_rows(&scores, 20).unwrap());
            agreement.add(&[&near, &random], &exact).unwrap();
        }
        let report = agreement.report(0.95, 500, 0).unwrap();
        assert!(report.methods[0].low > 0.95 && report.methods[1].high < 0.35, "{report:?}");
    }

    #[test]
    fn bad_input_is_refused_and_counts_for_nothing() {
        let mut agreement = RankingAgreement::new(1, 3);
        let lengths = SampleError::Lengths { left: 2, right: 1 };
        assert_eq!(agreement.add(&[&[0], &[0]], &[1.0]), Err(lengths));
        assert!(agreement.add(&[&[0]], &[f64::NAN]).is_err());
        assert_eq!(agreement.add(&[&[1]], &[1.0]), Err(SampleError::UnknownRow { row: 1, rows: 1 }));
        assert_eq!(agreement.add(&[&[0, 0]], &[1.0]), Err(SampleError::RepeatedRow { row: 0 }));
        assert_eq!(agreement, RankingAgreement::new(1, 3));
        assert_eq!(agreement.report(0.95, 100, 0), None);
        agreement.add(&[&[0]], &[0.0]).unwrap();
        assert_eq!(agreement.report(0.95, 100, 0), None);
        agreement.add(&[&[0]], &[2.0]).unwrap();
        assert_eq!(agreement.report(0.95, 0, 0), None);
        assert!(agreement.report(0.95, 100, 0).is_some());
    }
}
