//! How long gradients are once they are whitened.

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use crate::curvature::{CurvatureForm, CurvatureKind, DiagonalFit, MemberGradients, PrimalFit};

/// What a curvature that was fitted to `count` rows makes of the squared length of a gradient with this factor: itself, or of `trak`
/// and `margin` the leverage, which a row outside of the fit would only have once it is in it.
pub(super) fn length_of_kind(
    kind: CurvatureKind,
    squared: f64,
    (factor, count): (f64, f64),
    is_of_fit: bool,
) -> f64 {
    // Rounding may leave less than nothing of pairs that cancel out.
    let squared = squared.max(0.0);
    if !kind.is_weighted() {
        return squared;
    }
    let share = factor.powi(2) * squared / count.max(1.0);
    if is_of_fit { share.min(1.0) } else { share / (1.0 + share) }
}

/// Squared lengths of whitened gradients by any form but the dual.
pub(super) fn squared_lengths(
    curvature: &OpenCurvature,
    member: usize,
    gradients: &MemberGradients,
) -> Result<Vec<f64>, GradientError> {
    let count = curvature.record.rows as f64;
    Ok(match (curvature.kind, curvature.form) {
        (CurvatureKind::Identity, _) => gradients.squared_norms(),
        (CurvatureKind::Kfac | CurvatureKind::Ekfac, _) => {
            curvature.kronecker(member)?.squared_lengths(gradients)
        }
        (CurvatureKind::Diagonal, _) => DiagonalFit::squared_lengths(curvature.diagonal(member), gradients),
        (_, CurvatureForm::Primal) => {
            let scale = count / curvature.damping(member);
            PrimalFit::squared_lengths(curvature.inverse(member)?, scale, gradients)
        }
        _ => {
            let squared = curvature.landmark_lengths(member, gradients)?;
            squared.into_iter().map(|squared| count * squared).collect()
        }
    })
}
