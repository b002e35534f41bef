//! What can be wrong with a folder of another tool.

use thiserror::Error;

use super::pickle::CONVERSION;
use crate::sources::SourceError;

/// A folder of another tool that is refused whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// A file in it is not as its format demands.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file that must be there is not.
    #[error("{file} is missing; {remedy}")]
    Missing {
        /// The file, with its folder.
        file: String,
        /// What the folder may be instead, or what to do.
        remedy: String,
    },
    /// A torch pickle, which could run any program if it was loaded.
    #[error(
        "{file} is a torch pickle, which can run programs when it is loaded and is therefore not; convert it where you trust it: {CONVERSION}"
    )]
    Pickle {
        /// The file.
        file: String,
    },
    /// A file without a header whose length does not follow from what describes it.
    #[error(
        "{file} has {got_bytes} bytes, {expected_bytes} follow from {described_by}; it was cut off or added to: write it again"
    )]
    Length {
        /// The file.
        file: String,
        /// Bytes that it has to have.
        expected_bytes: u128,
        /// Bytes that it has.
        got_bytes: u64,
        /// What says so.
        described_by: String,
    },
    /// Anything else, with its place.
    #[error("{place}: {reason}")]
    Refused {
        /// File and field, row or byte.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
}
