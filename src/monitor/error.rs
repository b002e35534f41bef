//! Why labels cannot be audited.

use thiserror::Error;

use crate::curvature::CurvatureError;
use crate::engine::{GradientError, QueryError};
use crate::stats::SampleError;

/// Labels that cannot be audited.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabelAuditError {
    /// No row has a label.
    #[error(
        "none of the {rows} live rows has a value in field {label:?}: name the field with the labels; the declared fields are {known}"
    )]
    NoLabels {
        /// The field.
        label: String,
        /// Live rows with an embedding.
        rows: usize,
        /// Names of the declared fields.
        known: String,
    },
    /// All rows have the same label, so that none can have another's.
    #[error(
        "all {rows} rows have the label {only:?} in field {label:?}: an audit needs at least 2 different ones"
    )]
    OneLabel {
        /// The field.
        label: String,
        /// Its only value.
        only: String,
        /// Rows with it.
        rows: usize,
    },
    /// The fit to the other rows failed.
    #[error("the kernel of the rows: {0}")]
    Ridge(#[from] CurvatureError),
    /// Something that is measured of the rows is not finite.
    #[error("the rows' signals: {0}")]
    Signals(#[from] SampleError),
    /// Embeddings or labels cannot be read.
    #[error(transparent)]
    Rows(#[from] QueryError),
    /// Gradients, or what was measured beside them, cannot be read.
    #[error(transparent)]
    Gradients(#[from] GradientError),
}
