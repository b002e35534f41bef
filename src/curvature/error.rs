//! What cannot be fitted.

use thiserror::Error;

/// Gradients that a curvature cannot be fitted to.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CurvatureError {
    /// Every gradient is zero, so that there is no scale for the damping.
    #[error("every gradient is zero: there is nothing to fit; check that the sketches are those of the loss")]
    Zero,
    /// A damping that makes nothing solvable.
    #[error("a damping of {damping} was asked for; it must be a number above 0")]
    Damping {
        /// What was asked for.
        damping: f64,
    },
    /// The matrix is not positive definite although it was damped.
    #[error(
        "the damped matrix cannot be factorised at row {row}: its gradients are not finite or differ by too many powers of ten; use a larger damping"
    )]
    NotPositive {
        /// Where the factorisation stopped.
        row: usize,
    },
    /// A kernel of another number of rows.
    #[error("a kernel of {values} values is none of {rows} rows with each other: give rows x rows of them")]
    KernelSize {
        /// Values given.
        values: usize,
        /// Rows.
        rows: usize,
    },
    /// Too many parameters for a form that needs a value for each.
    #[error(
        "{parameters} parameters are too many for this form (at most {most}): use the dual form, or landmarks"
    )]
    TooManyParameters {
        /// Parameters of all modules.
        parameters: u64,
        /// How many are possible.
        most: u64,
    },
    /// A side of a module that no matrix is made over.
    #[error(
        "a module's side of {side} values is too wide for eigenvectors (at most {most}): leave the module out of the column or project it, or fit fisher, which needs none"
    )]
    TooWide {
        /// Values of the side.
        side: usize,
        /// How many are possible.
        most: usize,
    },
    /// Kronecker factors of other shapes.
    #[error("the factors of module {module} are missing or do not fit its shape")]
    OtherFactors {
        /// Number of the module, from 0.
        module: usize,
    },
    /// A symmetric matrix without eigenvectors.
    #[error(
        "a module's factor has no eigenvectors: its values are not finite or differ by too many powers of ten"
    )]
    NotDecomposed,
    /// Sums of something else.
    #[error("sums of {needed} are needed here, other ones were given")]
    OtherSums {
        /// What is needed.
        needed: &'static str,
    },
}
