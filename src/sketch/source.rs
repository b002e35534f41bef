//! Where the gradients of rows come from.

use thiserror::Error;

use super::schema::{SketchSchema, SketchSchemaError};
use crate::sources::{Place, SourceError};

/// A file that is no sketch file, or one whose rows cannot be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SketchFileError {
    /// Not a safetensors file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A safetensors file without what makes it a sketch file.
    #[error("{input} is no sketch file: {reason}")]
    NotOne {
        /// The file.
        input: String,
        /// What is missing.
        reason: String,
    },
    /// The schema in the file.
    #[error("{input}: {source}")]
    Schema {
        /// The file.
        input: String,
        /// What is wrong with it.
        source: SketchSchemaError,
    },
    /// A tensor that the schema calls for, or does not.
    #[error("{tensor} {reason}")]
    Tensor {
        /// File and tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A value of a row.
    #[error("{place}: {what} {reason}")]
    Value {
        /// The row.
        place: Place,
        /// Tensor or measurement.
        what: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Gradients of rows, one after the other: a file, or a model that computes them.
pub trait GradientSource: Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// The schema of its rows.
    fn schema(&self) -> &SketchSchema;

    /// Rows.
    fn rows(&self) -> usize;

    /// Whether anything was measured of its rows beside their gradients.
    fn has_outcomes(&self) -> bool;

    /// Where a row stands, for messages.
    fn place(&self, row: usize) -> Place;

    /// Appends the values of row `row` (from 0), its terms, and what was measured of it if the source says so.
    ///
    /// # Errors
    /// A probability is none, or a term is not of its table. Gradients that are not finite are left to who stores them.
    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        terms: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError>;
}
