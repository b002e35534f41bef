//! What can go wrong while a graph is made or walked.

use std::error::Error;

use thiserror::Error;

use crate::kernels::KernelError;

/// A graph that cannot be made or walked. Queries scan instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GraphError<E: Error + 'static> {
    /// Codes, numbers or links could not be read.
    #[error("cannot read the index: {0}")]
    Read(#[source] E),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A link, or the list of rows that every walk scores, names a row that is not there.
    #[error("the graph names row {row}, the column has {rows}; remove the graph file, it is built again")]
    NoSuchRow {
        /// The row.
        row: u32,
        /// Rows of the column.
        rows: u32,
    },
    /// The query has another width than the column.
    #[error(
        "the query has {query} values, but the column has {column}; query with a vector of the column's encoder"
    )]
    Width {
        /// Values of the query.
        query: usize,
        /// Values of a row.
        column: usize,
    },
    /// Codes or numbers are not one of each a row.
    #[error("the {what} of {rows} rows have {bytes} bytes; remove the index file, it is built again")]
    Length {
        /// `codes`, `scales` or `norms`.
        what: &'static str,
        /// Rows of the column.
        rows: u32,
        /// Bytes found.
        bytes: usize,
    },
    /// The sums could not be taken.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A builder refuses the rows.
    #[error("the graph cannot be built: {reason}; build it with the native builder")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// What stops a builder: everything in [`GraphError`] that is not about reading.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildStop {
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The sums could not be taken.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A builder refuses the rows.
    #[error("the graph cannot be built: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl<E: Error + 'static> From<BuildStop> for GraphError<E> {
    fn from(stop: BuildStop) -> Self {
        match stop {
            BuildStop::Cancelled => Self::Cancelled,
            BuildStop::Kernel(source) => Self::Kernel(source),
            BuildStop::Refused { reason } => Self::Refused { reason },
        }
    }
}
