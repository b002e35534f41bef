//! Codes of the leading coordinates of half-whitened gradients, computed with a fit and kept beside it.

use rayon::prelude::*;

use super::fit_file::{FitInput, MemberFit};
use super::gradient_error::GradientError;
use super::member_codes::{MemberCodes, code_rows, too_long};
use crate::base::Cancel;
use crate::curvature::{CurvatureKind, LeadingFit};

/// Rows that a thread takes at a time.
const BLOCK_ROWS: usize = 512;

/// Codes of at most `most` coordinates for the rows of a fit, member by member.
pub(super) fn fit_codes(
    input: &FitInput,
    fits: &[MemberFit],
    most: usize,
    cancel: &Cancel,
) -> Result<Vec<MemberCodes>, GradientError> {
    (0..fits.len()).zip(fits).map(|(member, fit)| member_codes(input, (member, fit), most, cancel)).collect()
}

fn member_codes(
    input: &FitInput,
    (member, fit): (usize, &MemberFit),
    most: usize,
    cancel: &Cancel,
) -> Result<MemberCodes, GradientError> {
    let (gradients, weights) = &input.members[member];
    let damping = match input.kind {
        CurvatureKind::Identity => None,
        _ => fit.damping().first().copied(),
    };
    if cancel.is_cancelled() {
        return Err(GradientError::Cancelled);
    }
    let fit = LeadingFit::fit(gradients, weights, &input.landmarks, damping, most)
        .map_err(|source| GradientError::Curvature { member, source })?;
    let chosen = gradients.subset(&input.landmarks);
    let firsts: Vec<usize> = (0..gradients.rows()).step_by(BLOCK_ROWS).collect();
    let blocks = firsts.into_par_iter().map(|first| {
        if cancel.is_cancelled() {
            return Err(GradientError::Cancelled);
        }
        let rows: Vec<usize> = (first..gradients.rows().min(first + BLOCK_ROWS)).collect();
        let own = LeadingFit::of_gradients(&fit.matrix, (&chosen, &fit.factors), &gradients.subset(&rows));
        let factors: Vec<f64> =
            rows.iter().map(|row| weights.get(*row).map_or(1.0, |weights| weights.factor)).collect();
        let key = |row: usize| input.keys.get(first + row).map(String::as_str).unwrap_or_default();
        code_rows(own, fit.coordinates, &factors).map_err(|row| too_long(key(row)))
    });
    let blocks = blocks.collect::<Result<Vec<_>, GradientError>>()?;
    let (codes, scales): (Vec<Vec<u8>>, Vec<Vec<f32>>) = blocks.into_iter().unzip();
    Ok(MemberCodes { fit, codes: codes.concat(), scales: scales.concat() })
}
