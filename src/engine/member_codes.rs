//! Codes of half-whitened gradients, row by row.

use super::code_layout::CodeLayout;
use super::gradient_error::GradientError;
use crate::curvature::{LeadingFit, MemberGradients};

/// Codes of one member's rows, and what makes those of other gradients.
pub(super) struct MemberCodes {
    /// What makes the leading coordinates; `None` where all coordinates are kept, which the fit itself makes.
    pub(super) leading: Option<LeadingFit>,
    pub(super) layout: CodeLayout,
    /// Each row's codes.
    pub(super) codes: Vec<u8>,
    /// What each row's codes are multiplied by, block by block.
    pub(super) scales: Vec<f32>,
}

/// What makes codes of further gradients, and those of rows that came after a fit.
pub(super) struct OpenCodes {
    pub(super) layout: CodeLayout,
    /// Gradients of the landmarks and their factors, member by member; none where all coordinates are kept.
    pub(super) landmarks: Vec<(MemberGradients, Vec<f64>)>,
    /// Places of the rows that came later.
    pub(super) later: Vec<usize>,
    /// Their codes and scales, member by member.
    pub(super) later_codes: Vec<(Vec<u8>, Vec<f32>)>,
}

/// A row that codes cannot be made of.
pub(super) fn too_long(key: &str) -> GradientError {
    GradientError::mismatch(format!(
        "the gradient of the row with key {key:?} is too long for codes: delete the row, or fit without codes"
    ))
}
