//! Floor 4: how gradients are weighed against each other before they are compared.
//!
//! All forms answer the same question: which direction in the space of parameters does a query stand for, once the
//! curvature of the loss is taken into account? What a training row contributes is the inner product of its gradient with
//! that direction.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `damping.rs` | how much is added to the diagonal |
//! | `diagonal.rs` | the mean square of each parameter's gradient |
//! | `direction.rs` | a direction in the space of parameters, and what rows contribute along it |
//! | `dual.rs` | the inverse in the space of rows: as large as there are rows |
//! | `eigenbasis.rs` | gradients of one module in the eigenbasis of a Kronecker product |
//! | `error.rs` | what cannot be fitted |
//! | `factor_file.rs` | Kronecker factors as a collector measured them |
//! | `gradients.rs` | gradients of many rows, module by module, and their inner products |
//! | `kind.rs` | curvatures and their forms, as users name them |
//! | `kronecker.rs` | a Kronecker product for each module: K-FAC and EK-FAC |
//! | `kronecker_factors.rs` | the two sides of a module's curvature |
//! | `kronecker_tests.rs` | tests: identities of K-FAC and EK-FAC |
//! | `landmark_error.rs` | how far scores through landmarks are from those of the whole inverse |
//! | `landmark_lengths.rs` | how long whitened gradients are, as landmarks tell it |
//! | `landmarks.rs` | the inverse over rows through a few of them |
//! | `leading.rs` | the leading coordinates of half-whitened gradients |
//! | `leave_one_out.rs` | what the other rows say of each row's label |
//! | `made_gradients.rs` | tests: made-up gradients and what they weigh |
//! | `packed.rs` | a direction laid out for many rows, in f32 |
//! | `primal.rs` | the inverse in the space of parameters |
//! | `row_weights.rs` | what a row weighs in a kernel, and its score |
//! | `sums.rs` | sums over gradients, which rows can be added to and taken away from |
//! | `symmetric.rs` | symmetric matrices, each value in two halves |

mod damping;
mod diagonal;
mod direction;
mod dual;
mod eigenbasis;
mod error;
mod factor_file;
mod gradients;
mod kind;
mod kronecker;
mod kronecker_factors;
#[cfg(test)]
mod kronecker_tests;
mod landmark_error;
mod landmark_lengths;
mod landmarks;
mod leading;
mod leave_one_out;
#[cfg(test)]
mod made_gradients;
mod packed;
mod primal;
mod row_weights;
mod sums;
mod symmetric;

pub use damping::{DAMPING_RATIO, MODULE_DAMPING_RATIO};
pub use diagonal::DiagonalFit;
pub use direction::{Direction, ModuleDirection};
pub use dual::{DualFit, DualRemoval, DualSolver};
pub use eigenbasis::Eigenbasis;
pub use error::CurvatureError;
pub use factor_file::MemberFactors;
pub use gradients::{MemberGradients, ModuleGradients};
pub use kind::{CurvatureForm, CurvatureKind};
pub use kronecker::{InversePower, KroneckerEigenvalues, KroneckerFit};
pub use kronecker_factors::KroneckerFactors;
pub use landmark_lengths::LandmarkLengths;
pub use landmarks::{LandmarkFit, MixingValue, SumValue};
pub use leading::LeadingFit;
pub use leave_one_out::leave_one_out_ridge;
pub use packed::PackedDirection;
pub use primal::PrimalFit;
pub use row_weights::RowWeights;
pub use sums::GradientSums;
pub use symmetric::{HalfValue, Symmetric, SymmetricView};
