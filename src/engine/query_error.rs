//! What can keep a question from being answered.

use thiserror::Error;

use super::encoders::EncoderError;
use crate::attribution::SelectionSizeError;
use crate::filter::FilterError;
use crate::index::ScanError;
use crate::storage::FileError;

/// A question that cannot be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No rows are asked for.
    #[error("k is 0: ask for at least one row")]
    NoRows,
    /// More rows are asked for than an answer may hold.
    #[error(transparent)]
    Size(#[from] SelectionSizeError),
    /// There is no such column.
    #[error("there is no embedding column {name:?}; the columns are {known}")]
    UnknownColumn {
        /// The name given.
        name: String,
        /// Columns of the store.
        known: String,
    },
    /// There is no such row.
    #[error("no row has key {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The row has no value in the column.
    #[error(
        "the row with key {key:?} has no value in column {column:?}: import it first, or ask another column"
    )]
    NoValue {
        /// The key.
        key: String,
        /// The column.
        column: String,
    },
    /// The column was never filled, so that its encoder does not exist yet.
    #[error("the store has no rows yet: ingest some first")]
    Empty,
    /// A vector of another width, or not finite.
    #[error("{reason}")]
    Vector {
        /// What is wrong.
        reason: String,
    },
    /// The filter is refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The encoder is not there or refuses.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// Bytes on the way are damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Scores cannot be computed.
    #[error(transparent)]
    Scan(#[from] ScanError<FileError>),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}
