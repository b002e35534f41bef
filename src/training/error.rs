//! Why a training fails.

use thiserror::Error;

use crate::base::limits::TRUTH_TRAININGS_MAX;
use crate::encoder::HeadError;

/// A training that cannot begin, fails or was stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A feature that is NaN or infinite.
    #[error("feature {column} of row {row} is not finite; remove the row, or encode it again")]
    FeatureNotFinite {
        /// The row, from 0.
        row: usize,
        /// The feature, from 0.
        column: usize,
    },
    /// The store cannot give what is trained on, or take what comes of it.
    #[error("{reason}")]
    Store {
        /// What is wrong and what to do.
        reason: String,
    },
    /// No rows to train on.
    #[error("there are no rows to train on; give rows with labels")]
    NoRows,
    /// Too few rows for halves.
    #[error("{rows} rows have no halves to train on; give at least 2")]
    TooFewRows {
        /// Rows given.
        rows: usize,
    },
    /// A row of the subset that does not exist.
    #[error("row {row} is to be trained on, but there are {rows}, counted from 0")]
    SubsetRow {
        /// The row.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// Rows with other features or classes than those they are used with.
    #[error(
        "the queries have {found} {what}, the training rows {expected}; both need the same embedding and labels"
    )]
    Unlike {
        /// What differs.
        what: &'static str,
        /// That of the queries.
        found: String,
        /// That of the training rows.
        expected: String,
    },
    /// A first epoch that is the last one too.
    #[error("{epochs} epochs have no first one apart from the last; train for at least 2")]
    OneEpoch {
        /// Number of epochs.
        epochs: usize,
    },
    /// No trainings, or more than are ever made.
    #[error("{found} trainings in all; use a number from 1 to {TRUTH_TRAININGS_MAX}")]
    Trainings {
        /// Number asked for.
        found: usize,
    },
    /// Known outputs that belong to something else.
    #[error("{found} known outputs where {expected} are due; they belong to another measurement: begin anew")]
    Known {
        /// Number given.
        found: usize,
        /// Number of the plan.
        expected: usize,
    },
    /// The training went out of bounds.
    #[error("the training failed in epoch {epoch}: the loss is not finite; lower the learning rate")]
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
    },
    /// A request to stop.
    #[error("stopped as requested; finished trainings are kept where the caller stored them")]
    Cancelled,
    /// The head cannot be made or asked.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The library of the training failed.
    #[error("the arithmetic of the training failed: {reason}")]
    Arithmetic {
        /// Why.
        reason: String,
    },
}

impl From<candle_core::Error> for TrainingError {
    fn from(error: candle_core::Error) -> Self {
        Self::Arithmetic { reason: error.to_string() }
    }
}

impl TrainingError {
    pub(super) fn store(error: impl std::error::Error) -> Self {
        Self::Store { reason: error.to_string() }
    }
}
