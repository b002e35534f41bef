//! Codes of half-whitened gradients, computed with a fit and kept beside it.

use rayon::prelude::*;

use super::code_layout::CodeLayout;
use super::fit_file::{FitInput, MemberFit};
use super::gradient_error::GradientError;
use super::member_codes::{MemberCodes, too_long};
use super::wanted_codes::WantedCodes;
use crate::base::Cancel;
use crate::curvature::{CurvatureKind, DiagonalFit, LeadingFit, MemberGradients};

/// Rows that a thread takes at a time, at most.
const BLOCK_ROWS: usize = 512;

/// Coordinates of these, at most: 16 MiB.
const BLOCK_COORDINATES: usize = 1 << 22;

/// Codes of the rows of a fit, member by member.
pub(super) fn fit_codes(
    input: &FitInput,
    fits: &[MemberFit],
    wanted: WantedCodes,
    cancel: &Cancel,
) -> Result<Vec<MemberCodes>, GradientError> {
    (0..fits.len())
        .zip(fits)
        .map(|(member, fit)| member_codes(input, (member, fit), wanted, cancel))
        .collect()
}

fn member_codes(
    input: &FitInput,
    (member, fit): (usize, &MemberFit),
    wanted: WantedCodes,
    cancel: &Cancel,
) -> Result<MemberCodes, GradientError> {
    if cancel.is_cancelled() {
        return Err(GradientError::Cancelled);
    }
    let (gradients, weights) = &input.members[member];
    let (layout, leading) = match wanted {
        WantedCodes::SignsOfModules => (signs_of_modules(gradients), None),
        WantedCodes::Leading { most, bits } => {
            let damping = match input.kind {
                CurvatureKind::Identity => None,
                _ => fit.damping().first().copied(),
            };
            let leading = LeadingFit::fit(gradients, weights, &input.landmarks, damping, most)
                .map_err(|source| GradientError::Curvature { member, source })?;
            (CodeLayout::joint(bits, leading.coordinates), Some(leading))
        }
    };
    let chosen = gradients.subset(&input.landmarks);
    let coordinates = |block: &MemberGradients| match (&leading, fit) {
        (Some(leading), _) => LeadingFit::of_gradients(&leading.matrix, (&chosen, &leading.factors), block),
        (None, MemberFit::Kronecker(fit)) => fit.half_whitened(block),
        (None, MemberFit::Diagonal(fit)) => DiagonalFit::half_whitened(&fit.values, block),
        // No others have codes of all coordinates.
        _ => Vec::new(),
    };
    let together = (BLOCK_COORDINATES / layout.coordinates().max(1)).clamp(1, BLOCK_ROWS);
    let firsts: Vec<usize> = (0..gradients.rows()).step_by(together).collect();
    let blocks = firsts.into_par_iter().map(|first| {
        if cancel.is_cancelled() {
            return Err(GradientError::Cancelled);
        }
        let rows: Vec<usize> = (first..gradients.rows().min(first + together)).collect();
        let own = coordinates(&gradients.subset(&rows));
        let factors: Vec<f64> =
            rows.iter().map(|row| weights.get(*row).map_or(1.0, |weights| weights.factor)).collect();
        let key = |row: usize| input.keys.get(first + row).map(String::as_str).unwrap_or_default();
        layout.encode(own, &factors).map_err(|row| too_long(key(row)))
    });
    let blocks = blocks.collect::<Result<Vec<_>, GradientError>>()?;
    let (codes, scales): (Vec<Vec<u8>>, Vec<Vec<f32>>) = blocks.into_iter().unzip();
    Ok(MemberCodes { leading, codes: codes.concat(), scales: scales.concat(), layout })
}

/// The layout of signs of all parameters of such gradients.
pub(super) fn signs_of_modules(like: &MemberGradients) -> CodeLayout {
    let shapes = like.modules().iter().map(|module| module.shape());
    CodeLayout::signs_of_modules(shapes.map(|(out, input)| out * input))
}
