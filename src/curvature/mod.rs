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
//! | `error.rs` | what cannot be fitted |
//! | `gradients.rs` | gradients of many rows, module by module, and their inner products |
//! | `kind.rs` | curvatures and their forms, as users name them |
//! | `landmark_error.rs` | how far scores through landmarks are from those of the whole inverse |
//! | `landmark_lengths.rs` | how long whitened gradients are, as landmarks tell it |
//! | `landmarks.rs` | the inverse over rows through a few of them |
//! | `leading.rs` | the leading coordinates of half-whitened gradients |
//! | `leave_one_out.rs` | what the other rows say of each row's label |
//! | `made_gradients.rs` | tests: made-up gradients and what they weigh |
//! | `margin.rs` | weights of the margin kernel |
//! | `packed.rs` | a direction laid out for many rows, in f32 |
//! | `primal.rs` | the inverse in the space of parameters |
//! | `sums.rs` | sums over gradients, which rows can be added to and taken away from |
//! | `symmetric.rs` | symmetric matrices, each value in two halves |

mod damping;
mod diagonal;
mod direction;
mod dual;
mod error;
mod gradients;
mod kind;
mod landmark_error;
mod landmark_lengths;
mod landmarks;
mod leading;
mod leave_one_out;
#[cfg(test)]
mod made_gradients;
mod margin;
mod packed;
mod primal;
mod sums;
mod symmetric;

pub use damping::{DAMPING_RATIO, DIAGONAL_DAMPING_RATIO};
pub use diagonal::DiagonalFit;
pub use direction::{Direction, ModuleDirection};
pub use dual::{DualFit, DualRemoval, DualSolver};
pub use error::CurvatureError;
pub use gradients::{MemberGradients, ModuleGradients};
pub use kind::{CurvatureForm, CurvatureKind};
pub use landmark_lengths::LandmarkLengths;
pub use landmarks::{LandmarkFit, MixingValue, SumValue};
pub use leading::LeadingFit;
pub use leave_one_out::leave_one_out_ridge;
pub use margin::MarginWeights;
pub use packed::PackedDirection;
pub use primal::PrimalFit;
pub use sums::GradientSums;
pub use symmetric::{HalfValue, Symmetric, SymmetricView};
