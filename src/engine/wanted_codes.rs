//! Which codes a curvature can keep.

use super::code_layout::CodeBits;
use super::gradient_error::GradientError;
use crate::base::limits::CODE_COORDINATES_MAX;
use crate::curvature::CurvatureKind;

/// Coordinates that are kept where their number is not named.
const CODE_COORDINATES_DEFAULT: usize = 256;

/// Checks which codes are wanted of a curvature of this kind.
///
/// # Errors
/// It has none such, which the text explains.
pub(super) fn wanted_codes(
    kind: CurvatureKind,
    (codes, bits): (Option<usize>, CodeBits),
) -> Result<Option<WantedCodes>, GradientError> {
    let name = kind.name();
    match (codes, bits) {
        (None, CodeBits::Eight) => Ok(None),
        (Some(most), _) if !(1..=CODE_COORDINATES_MAX).contains(&most) => Err(GradientError::mismatch(
            format!("codes of {most} coordinates were asked for: take 1 to {CODE_COORDINATES_MAX}"),
        )),
        (_, CodeBits::One) if kind == CurvatureKind::Identity => Err(GradientError::mismatch(
            "codes of one bit need half-whitened coordinates, and identity whitens nothing: signs of raw gradients lose most of what their products tell; take codes of 8 bits, or another curvature",
        )),
        _ if !kind.is_direct() || kind == CurvatureKind::Identity => {
            Ok(Some(WantedCodes::Leading { most: codes.unwrap_or(CODE_COORDINATES_DEFAULT), bits }))
        }
        (None, CodeBits::One) => Ok(Some(WantedCodes::SignsOfModules)),
        (Some(_), _) => Err(GradientError::mismatch(format!(
            "codes of the leading coordinates are kept with identity, fisher, trak and margin, not with {name}: of {name} codes of one bit keep all coordinates (--code-bits 1 without --codes)"
        ))),
    }
}

/// Which codes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedCodes {
    /// Of at most so many leading coordinates, over all modules.
    Leading { most: usize, bits: CodeBits },
    /// One bit for each parameter.
    SignsOfModules,
}
