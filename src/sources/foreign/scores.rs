//! Scores of rows for queries, query by query.

use super::ForeignError;
use super::files::refused;
use crate::sources::Tensor;
use crate::sources::matrix::Stored;

/// Scores of another tool, [queries, rows], converted so that a positive score is a proponent.
#[derive(Debug)]
pub struct ForeignScores<'a> {
    pub(super) name: String,
    pub(super) queries: usize,
    pub(super) rows: usize,
    pub(super) parts: ScoreParts<'a>,
    /// What scores are multiplied by.
    pub(super) factor: f64,
    pub(super) notes: Vec<String>,
}

/// How they stand in the file.
#[derive(Debug)]
pub(super) enum ScoreParts<'a> {
    /// One row a query; the sum of all tensors counts.
    Rows(Vec<Tensor<'a>>),
    /// One column a query.
    Columns { data: &'a [u8], stored: Stored },
}

impl ForeignScores<'_> {
    /// The file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queries.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Rows that each query has a score of.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What was converted, and what could not be known, for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The scores of all rows for query `query` (from 0), in `out`, which is emptied before.
    ///
    /// # Errors
    /// A score is not finite.
    pub fn read_query(&self, query: usize, out: &mut Vec<f64>) -> Result<(), ForeignError> {
        out.clear();
        out.resize(self.rows, 0.0);
        let mut values = Vec::new();
        match &self.parts {
            ScoreParts::Rows(tensors) => {
                for tensor in tensors {
                    let mut part = vec![0.0; self.rows];
                    tensor.read_row(query, &mut part);
                    out.iter_mut().zip(part).for_each(|(sum, value)| *sum += f64::from(value));
                }
            }
            ScoreParts::Columns { data, stored } => {
                let size = stored.size_bytes();
                for (row, score) in out.iter_mut().enumerate() {
                    let start = (row * self.queries + query) * size;
                    values.clear();
                    stored.append(&data[start..start + size], &mut values);
                    *score = values.first().copied().map_or(f64::NAN, f64::from);
                }
            }
        }
        if let Some(row) = out.iter().position(|score| !score.is_finite()) {
            let place = format!("{}, query {}, row {}", self.name, query + 1, row + 1);
            return Err(refused(place, "the score is not a finite number"));
        }
        out.iter_mut().for_each(|score| *score *= self.factor);
        Ok(())
    }
}
