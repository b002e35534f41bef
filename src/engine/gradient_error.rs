//! What can keep gradients from being fitted or asked about.

use thiserror::Error;

use super::query_error::QueryError;
use super::transaction::TransactionError;
use crate::curvature::CurvatureError;
use crate::storage::FileError;

/// A fit that cannot be made, or a question about gradients that cannot be answered. Nothing changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GradientError {
    /// There is no such sketch column.
    #[error("{reason}")]
    Column {
        /// What is wrong and what to do.
        reason: String,
    },
    /// What is asked for does not fit what the column holds.
    #[error("{reason}")]
    Mismatch {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The gradients cannot be fitted.
    #[error("member {member}: {source}")]
    Curvature {
        /// The member, from 0.
        member: usize,
        /// Why.
        source: CurvatureError,
    },
    /// The rest of the question.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Files are damaged, or the commit failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The work was cancelled.
    #[error("cancelled; nothing changed")]
    Cancelled,
}

impl From<FileError> for GradientError {
    fn from(error: FileError) -> Self {
        Self::Query(error.into())
    }
}

impl GradientError {
    pub(super) fn mismatch(reason: impl Into<String>) -> Self {
        Self::Mismatch { reason: reason.into() }
    }
}
