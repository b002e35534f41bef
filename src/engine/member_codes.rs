//! 8-bit codes of coordinates, row by row.

use super::gradient_error::GradientError;
use crate::curvature::{LeadingFit, MemberGradients};
use crate::kernels::{code_row_bytes, encode_int8};

/// Codes of one member's rows, and what makes those of other gradients.
pub(super) struct MemberCodes {
    pub(super) fit: LeadingFit,
    /// Each row's codes, padded with zeros.
    pub(super) codes: Vec<u8>,
    /// What each row's codes are multiplied by.
    pub(super) scales: Vec<f32>,
}

/// What makes codes of further gradients, and those of rows that came after a fit.
pub(super) struct OpenCodes {
    /// Coordinates of each row.
    pub(super) coordinates: usize,
    /// Gradients of the landmarks and their factors, member by member.
    pub(super) landmarks: Vec<(MemberGradients, Vec<f64>)>,
    /// Places of the rows that came later.
    pub(super) later: Vec<usize>,
    /// Their codes and scales, member by member.
    pub(super) later_codes: Vec<(Vec<u8>, Vec<f32>)>,
}

/// Codes and scales of rows of coordinates, each row times its factor; otherwise the row that no f32 holds.
pub(super) fn code_rows(
    mut coordinates: Vec<f32>,
    width: usize,
    factors: &[f64],
) -> Result<(Vec<u8>, Vec<f32>), usize> {
    let (mut codes, mut scales) = (Vec::new(), Vec::with_capacity(factors.len()));
    for (row, (own, factor)) in coordinates.chunks_exact_mut(width.max(1)).zip(factors).enumerate() {
        own.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
        scales.push(encode_int8(own, &mut codes).map_err(|_| row)?);
        codes.resize((row + 1) * code_row_bytes(width), 0);
    }
    Ok((codes, scales))
}

/// A row that codes cannot be made of.
pub(super) fn too_long(key: &str) -> GradientError {
    GradientError::mismatch(format!(
        "the gradient of the row with key {key:?} is too long for codes: delete the row, or fit without --codes"
    ))
}
