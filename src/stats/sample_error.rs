//! Values that nothing can be computed of.

use thiserror::Error;

/// Why a statistic of some values cannot be computed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A value is a NaN or infinite.
    #[error("value {index} is {value}: only finite numbers can be ranked or averaged; leave such values out")]
    NotFinite {
        /// Its place, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Two lists that belong together differ in length.
    #[error("{left} values on one side, {right} on the other: give one of each for the same things")]
    Lengths {
        /// Length of the list that is named first.
        left: usize,
        /// Length of the other.
        right: usize,
    },
    /// A part of a whole that is not one.
    #[error("a fraction of {fraction} cannot be inspected: use a number above 0, at most 1")]
    Fraction {
        /// The number given.
        fraction: f64,
    },
    /// A ranking names what is not there.
    #[error("the ranking names row {row}, of {rows} rows (counted from 0): rank the rows that have scores")]
    UnknownRow {
        /// The row named.
        row: usize,
        /// Rows that have a score.
        rows: usize,
    },
    /// A ranking names a row again.
    #[error("the ranking names row {row} twice: a row has one rank")]
    RepeatedRow {
        /// The row.
        row: usize,
    },
}

/// Refuses values of which one is not finite.
pub(super) fn check_finite(values: &[f64]) -> Result<(), SampleError> {
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, &value)) => Err(SampleError::NotFinite { index, value }),
    }
}

/// Refuses lists of different lengths.
pub(super) fn check_lengths(left: usize, right: usize) -> Result<(), SampleError> {
    if left == right { Ok(()) } else { Err(SampleError::Lengths { left, right }) }
}
