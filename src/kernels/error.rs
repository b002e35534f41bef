//! What a caller can get wrong.

use thiserror::Error;

use crate::base::ElementType;

/// Bytes or values of the wrong length for a sum.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The bytes are not the rows that were asked for.
    #[error(
        "{given} bytes are not {rows} rows of {width} {element} values; check the column's width and row count"
    )]
    RowBytes {
        /// How a value is stored.
        element: ElementType,
        /// Values of a row.
        width: usize,
        /// Number of rows asked for.
        rows: usize,
        /// Bytes given.
        given: usize,
    },
    /// Two vectors of different lengths have no dot product.
    #[error(
        "a vector of {left} values and one of {right} values have no dot product; give vectors of one width"
    )]
    Widths {
        /// Values of the first vector.
        left: usize,
        /// Values of the second vector.
        right: usize,
    },
    /// No queries, or more than one pass over codes serves.
    #[error("{given} queries for one pass over codes; give 1 to {most}")]
    Queries {
        /// Queries given.
        given: usize,
        /// Queries that one pass serves.
        most: usize,
    },
    /// The bytes are not the rows of codes that were asked for.
    #[error(
        "{given} bytes are not {rows} rows of {width} codes; check the width and the row count of the index"
    )]
    CodeBytes {
        /// Codes of a row, without the padding.
        width: usize,
        /// Number of rows asked for.
        rows: usize,
        /// Bytes given.
        given: usize,
    },
    /// A row of codes that is not there.
    #[error("row {row} of codes was asked for, there are {rows}; build the index anew")]
    CodeRow {
        /// The row.
        row: u32,
        /// Rows of codes.
        rows: usize,
    },
    /// Not one place for each sum.
    #[error("{places} places for the sums of {named} rows; give one place a row")]
    Places {
        /// Rows named.
        named: usize,
        /// Places for sums.
        places: usize,
    },
    /// A matrix that is shorter or longer than its shape.
    #[error("{what}: {given} values given, {needed} needed; check the shapes")]
    Matrix {
        /// Which of the matrices.
        what: &'static str,
        /// Values given.
        given: usize,
        /// Values that the shapes need.
        needed: usize,
    },
}
