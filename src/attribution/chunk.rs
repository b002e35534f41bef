//! The scores of a range of rows, and which of them count.

use crate::base::{RowId, RowSet};

/// Scores of consecutive rows of one segment.
#[derive(Clone, Copy, Debug)]
pub struct ScoreChunk<'a> {
    /// Row of the first score.
    pub first: RowId,
    /// One score a row.
    pub scores: &'a [f64],
    /// The rows of the segment that count; `None` if all do.
    pub live: Option<&'a RowSet>,
}

impl<'a> ScoreChunk<'a> {
    /// A chunk in which every row counts.
    pub fn all(first: RowId, scores: &'a [f64]) -> Self {
        Self { first, scores, live: None }
    }

    /// Consecutive scores of which those of the rows in `live` count; all if it is `None`.
    ///
    /// # Complexity
    /// That of finding out whether `live` has all of the rows, so that nobody needs to ask for each.
    pub fn of_live(first: RowId, scores: &'a [f64], live: Option<&'a RowSet>) -> Self {
        let count = u32::try_from(scores.len()).unwrap_or(u32::MAX);
        Self { first, scores, live: live.filter(|live| !live.contains_range(first, count)) }
    }

    /// Calls `visit` with each row that counts and its score, in ascending order of rows, until an error.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn try_for_each<E>(&self, mut visit: impl FnMut(RowId, f64) -> Result<(), E>) -> Result<(), E> {
        let Some(live) = self.live else {
            return self
                .scores
                .iter()
                .zip(self.first.0..)
                .try_for_each(|(&score, row)| visit(RowId(row), score));
        };
        let count = u32::try_from(self.scores.len()).unwrap_or(u32::MAX);
        for row in live.range(self.first, count) {
            if let Some(&score) = self.scores.get((row.0 - self.first.0) as usize) {
                visit(row, score)?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the score of each row that counts, in ascending order of rows.
    pub(super) fn for_each(&self, mut visit: impl FnMut(f64)) {
        match self.live {
            None => self.scores.iter().for_each(|&score| visit(score)),
            Some(_) => {
                let ended: Result<(), std::convert::Infallible> = self.try_for_each(|_, score| {
                    visit(score);
                    Ok(())
                });
                ended.unwrap_or_else(|never| match never {})
            }
        }
    }
}
