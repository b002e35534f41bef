//! Scores of rows summed over subsets of them.

use thiserror::Error;

use crate::base::sum_of;

/// Values that are summed together: a part of a query's scores and of a subset that both stay in the fastest cache.
const BLOCK_ROWS: usize = 1024;

/// Why scores cannot be summed over subsets.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GroupScoresError {
    /// A list is not a matrix with a value for each row.
    #[error(
        "{values} {matrix} are no matrix of {rows} rows of training data: give so many for each query and subset"
    )]
    Shape {
        /// "scores" or "marks of subsets".
        matrix: &'static str,
        /// Length of the list.
        values: usize,
        /// Training rows.
        rows: usize,
    },
    /// A score is a NaN or infinite.
    #[error("the score of query {query} and row {row} is {value}: only finite scores can be summed")]
    NotFinite {
        /// The query, from 0.
        query: usize,
        /// The training row, from 0.
        row: usize,
        /// The score.
        value: f64,
    },
    /// A mark says neither "in" nor "out".
    #[error("row {row} of subset {subset} is marked {mark}: use 1 for rows of the subset, 0 for the others")]
    Mark {
        /// The subset, from 0.
        subset: usize,
        /// The training row, from 0.
        row: usize,
        /// The mark.
        mark: u8,
    },
    /// Finite scores have a sum that no f64 holds.
    #[error("the scores of query {query} over subset {subset} have no finite sum: scale the scores down")]
    Overflow {
        /// The query, from 0.
        query: usize,
        /// The subset, from 0.
        subset: usize,
    },
}

/// The sum of each query's scores over the rows of each subset: [queries x subsets].
///
/// `scores` is [queries x rows], `subsets` [subsets x rows] with 1 for the rows that are in, 0 for the others; all
/// row-major. Sums are taken in one order, whatever the machine.
///
/// # Errors
/// See [`GroupScoresError`].
///
/// # Complexity
/// O(queries x subsets x rows) time.
///
/// # References
/// Ilyas, Park, Engstrom, Leclerc, Madry: Datamodels: predicting predictions from training data (arXiv 2202.00622):
/// a subset's prediction is the sum over its rows.
///
/// ```
/// use ascribe::evaluation::group_sums;
/// let scores = [1.0, 2.0, 4.0, /* second query */ -1.0, 0.5, 0.0];
/// let subsets = [1, 0, 1, /* second subset */ 1, 1, 0];
/// assert_eq!(group_sums(&scores, &subsets, 3)?, [5.0, 3.0, -1.0, -0.5]);
/// # Ok::<(), ascribe::evaluation::GroupScoresError>(())
/// ```
pub fn group_sums(scores: &[f64], subsets: &[u8], rows: usize) -> Result<Vec<f64>, GroupScoresError> {
    check_shapes(scores, subsets, rows)?;
    let (query_count, subset_count) = (scores.len() / rows, subsets.len() / rows);
    let mut sums = vec![0.0; query_count * subset_count];
    let mut marks = vec![0.0; BLOCK_ROWS.min(rows) * subset_count];
    for start in (0..rows).step_by(BLOCK_ROWS) {
        let end = rows.min(start + BLOCK_ROWS);
        let width = end - start;
        for (subset, marks) in subsets.chunks_exact(rows).zip(marks.chunks_exact_mut(width)) {
            marks.iter_mut().zip(&subset[start..end]).for_each(|(mark, &bit)| *mark = f64::from(bit));
        }
        for (query, sums) in scores.chunks_exact(rows).zip(sums.chunks_exact_mut(subset_count.max(1))) {
            for (marks, sum) in marks.chunks_exact(width).zip(sums) {
                *sum += sum_of([&query[start..end], marks], |[score, mark]| score * mark);
            }
        }
    }
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(at) => Err(GroupScoresError::Overflow { query: at / subset_count, subset: at % subset_count }),
        None => Ok(sums),
    }
}

fn check_shapes(scores: &[f64], subsets: &[u8], rows: usize) -> Result<(), GroupScoresError> {
    for (matrix, values) in [("scores", scores.len()), ("marks of subsets", subsets.len())] {
        if rows == 0 || !values.is_multiple_of(rows) {
            return Err(GroupScoresError::Shape { matrix, values, rows });
        }
    }
    if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
        return Err(GroupScoresError::NotFinite { query: at / rows, row: at % rows, value: scores[at] });
    }
    match subsets.iter().position(|mark| *mark > 1) {
        Some(at) => Err(GroupScoresError::Mark { subset: at / rows, row: at % rows, mark: subsets[at] }),
        None => Ok(()),
    }
}

/// Sets the scores of all rows with another label than their query's to 0: `scores` has a row for each of `queries`' labels and
/// a value for each of `rows`' labels.
///
/// ```
/// let mut scores = [vec![1.0, 2.0, 3.0]];
/// ascribe::evaluation::keep_same_label(&mut scores, ["a"], &[Some("a"), None, Some("b")]);
/// assert_eq!(scores[0], [1.0, 0.0, 0.0]);
/// ```
pub fn keep_same_label<'a>(
    scores: &mut [Vec<f64>],
    queries: impl IntoIterator<Item = &'a str>,
    rows: &[Option<&str>],
) {
    for (scores, query) in scores.iter_mut().zip(queries) {
        for (score, _) in scores.iter_mut().zip(rows).filter(|(_, label)| **label != Some(query)) {
            *score = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    /// Sizes at the edges of the blocks; whole numbers, whose sums are exact in any order.
    #[test]
    fn sums_are_those_of_adding_one_row_after_another() {
        let mut stream = RandomStream::new(5);
        for rows in [1, 7, 8, 1023, 1024, 1025, 3000] {
            let scores: Vec<f64> = (0..3 * rows).map(|_| stream.below(2001) as f64 - 1000.0).collect();
            let subsets: Vec<u8> = (0..4 * rows).map(|_| stream.below(2) as u8).collect();
            let mut expected = Vec::new();
            for query in scores.chunks(rows) {
                for subset in subsets.chunks(rows) {
                    let kept = query.iter().zip(subset).filter(|(_, mark)| **mark == 1);
                    expected.push(kept.map(|(score, _)| score).sum::<f64>());
                }
            }
            assert_eq!(group_sums(&scores, &subsets, rows).unwrap(), expected, "{rows} rows");
        }
    }

    #[test]
    fn empty_subsets_sum_to_nothing_and_no_queries_to_no_sums() {
        assert_eq!(group_sums(&[3.0, 4.0], &[0, 0, 1, 1], 2), Ok(vec![0.0, 7.0]));
        assert_eq!(group_sums(&[], &[0, 1], 2), Ok(vec![]));
        assert_eq!(group_sums(&[3.0, 4.0], &[], 2), Ok(vec![]));
    }

    #[test]
    fn bad_input_is_refused() {
        let shape = |matrix, values, rows| Err(GroupScoresError::Shape { matrix, values, rows });
        assert_eq!(group_sums(&[1.0, 2.0, 3.0], &[1, 0], 2), shape("scores", 3, 2));
        assert_eq!(group_sums(&[1.0, 2.0], &[1], 2), shape("marks of subsets", 1, 2));
        assert_eq!(group_sums(&[], &[], 0), shape("scores", 0, 0));
        let mark = GroupScoresError::Mark { subset: 1, row: 0, mark: 2 };
        assert_eq!(group_sums(&[1.0, 2.0], &[1, 0, 2, 0], 2), Err(mark));
        let infinite = GroupScoresError::NotFinite { query: 1, row: 1, value: f64::INFINITY };
        assert_eq!(group_sums(&[1.0, 2.0, 3.0, f64::INFINITY], &[1, 0], 2), Err(infinite));
        assert!(group_sums(&[f64::NAN], &[0], 1).is_err());
        let overflow = GroupScoresError::Overflow { query: 0, subset: 1 };
        assert_eq!(group_sums(&[f64::MAX, f64::MAX], &[1, 0, 1, 1], 2), Err(overflow));
    }
}
