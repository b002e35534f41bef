//! What can keep segments from being merged.

use thiserror::Error;

use super::query_error::QueryError;
use super::transaction::TransactionError;
use crate::index::QuantiseError;
use crate::storage::FileError;

/// Segments that were not merged. The store is as it was before, but for merges that were committed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompactError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Rows of a column cannot be turned into codes.
    #[error(transparent)]
    Rows(#[from] QuantiseError<FileError>),
    /// Too little room to write the rows anew beside the old files.
    #[error(
        "merging segments needs {needed_bytes} bytes in {path} for a while, and {free_bytes} are free; make room and try again, or write smaller segments"
    )]
    Space {
        /// The store.
        path: String,
        /// Bytes that the new files take.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread to compare answers before and after the merge: {0}")]
    Thread(#[from] rayon::ThreadPoolBuildError),
    /// How much room there is cannot be told.
    #[error("cannot tell how much room there is in {path}: {source}")]
    FreeSpace {
        /// The store.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The new segment does not answer as the old ones do, so that it was thrown away.
    #[error(
        "merged rows do not answer as before ({reason}), so nothing was changed; run \"ascribe verify --deep\""
    )]
    Differs {
        /// What differs.
        reason: String,
    },
    /// The old or the new segment cannot be asked.
    #[error("answers before and after the merge cannot be compared: {0}")]
    Query(#[from] QueryError),
    /// The commit failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl CompactError {
    /// Whether the same merge may succeed later, without the store being mended.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Space { .. } | Self::FreeSpace { .. })
    }
}
