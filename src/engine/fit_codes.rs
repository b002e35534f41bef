//! Codes of the leading coordinates of half-whitened gradients, computed with a fit and kept beside it.

use rayon::prelude::*;

use super::fit_file::{FitInput, MemberFit};
use super::gradient_error::GradientError;
use super::member_codes::{MemberCodes, code_rows};
use crate::curvature::{CurvatureError, CurvatureKind, LeadingFit, MemberGradients};

/// Rows that a thread takes at a time.
const BLOCK_ROWS: usize = 512;

/// Codes of at most `most` coordinates for the rows of a fit, member by member.
pub(super) fn fit_codes(
    input: &FitInput,
    fits: &[MemberFit],
    most: usize,
) -> Result<Vec<MemberCodes>, GradientError> {
    let of_member = |(member, ((gradients, weights), fit)): (usize, (&_, &MemberFit))| {
        let damping = match input.kind {
            CurvatureKind::Identity => None,
            _ => fit.damping().first().copied(),
        };
        let weights: &Vec<_> = weights;
        let coded = LeadingFit::fit(gradients, weights, &input.landmarks, damping, most).and_then(|fit| {
            let chosen = gradients.subset(&input.landmarks);
            let factor = |row: usize| weights.get(row).map_or(1.0, |weights| weights.factor);
            let (codes, scales) = coded_rows(&fit, &chosen, gradients, factor)?;
            Ok(MemberCodes { fit, codes, scales })
        });
        coded.map_err(|source| GradientError::Curvature { member, source })
    };
    input.members.iter().zip(fits).enumerate().map(of_member).collect()
}

/// Codes and scales of all rows.
fn coded_rows(
    fit: &LeadingFit,
    chosen: &MemberGradients,
    gradients: &MemberGradients,
    factor: impl Fn(usize) -> f64 + Sync,
) -> Result<(Vec<u8>, Vec<f32>), CurvatureError> {
    let firsts: Vec<usize> = (0..gradients.rows()).step_by(BLOCK_ROWS).collect();
    let blocks = firsts.into_par_iter().map(|first| {
        let rows: Vec<usize> = (first..gradients.rows().min(first + BLOCK_ROWS)).collect();
        let own = LeadingFit::of_gradients(&fit.matrix, (chosen, &fit.factors), &gradients.subset(&rows));
        let factors: Vec<f64> = rows.iter().map(|row| factor(*row)).collect();
        code_rows(own, fit.coordinates, &factors).map_err(|row| CurvatureError::Codes { row: first + row })
    });
    let blocks = blocks.collect::<Result<Vec<_>, CurvatureError>>()?;
    let (codes, scales): (Vec<Vec<u8>>, Vec<Vec<f32>>) = blocks.into_iter().unzip();
    Ok((codes.concat(), scales.concat()))
}
