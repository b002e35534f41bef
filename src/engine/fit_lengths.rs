//! Lengths of whitened gradients, computed with a fit and kept beside it.

use rayon::prelude::*;

use super::fit_file::{FitInput, MemberFit};
use super::gradient_error::GradientError;
use super::whitened_lengths::length_of_kind;
use crate::base::Cancel;
use crate::curvature::{DiagonalFit, LandmarkLengths, PrimalFit};

/// Rows that a thread takes at a time.
const BLOCK_ROWS: usize = 512;

/// Squared lengths of the whitened gradients of the rows of a fit, member by member; nothing of the dual form, on the diagonal of
/// whose inverse they stand.
pub(super) fn fit_lengths(
    input: &FitInput,
    fits: &[MemberFit],
    cancel: &Cancel,
) -> Result<Vec<Vec<f64>>, GradientError> {
    if fits.iter().any(|fit| matches!(fit, MemberFit::Dual(_))) {
        return Ok(Vec::new());
    }
    (0..fits.len()).zip(fits).map(|(member, fit)| member_lengths(input, member, fit, cancel)).collect()
}

fn member_lengths(
    input: &FitInput,
    member: usize,
    fit: &MemberFit,
    cancel: &Cancel,
) -> Result<Vec<f64>, GradientError> {
    let (gradients, weights) = &input.members[member];
    let count = gradients.rows() as f64;
    let landmarks = match fit {
        MemberFit::Landmarks(fit) => {
            let chosen = gradients.subset(&input.landmarks);
            let lengths = LandmarkLengths::new(&chosen, &fit.factors, &fit.mixing, fit.damping);
            let lengths = lengths.map_err(|source| GradientError::Curvature { member, source })?;
            Some((lengths, chosen, &fit.factors))
        }
        _ => None,
    };
    let firsts: Vec<usize> = (0..gradients.rows()).step_by(BLOCK_ROWS).collect();
    let blocks = firsts.into_par_iter().map(|first| {
        if cancel.is_cancelled() {
            return Err(GradientError::Cancelled);
        }
        let rows: Vec<usize> = (first..gradients.rows().min(first + BLOCK_ROWS)).collect();
        let block = gradients.subset(&rows);
        let squared = match (fit, &landmarks) {
            (MemberFit::Kronecker(fit), _) => fit.squared_lengths(&block),
            (MemberFit::Diagonal(fit), _) => DiagonalFit::squared_lengths(&fit.values, &block),
            (MemberFit::Primal(fit), _) => {
                PrimalFit::squared_lengths(fit.inverse().view(), count / fit.damping(), &block)
            }
            (_, Some((lengths, chosen, factors))) => {
                let squared = lengths.squared((chosen, factors), &block);
                squared.into_iter().map(|squared| count * squared).collect()
            }
            _ => block.squared_norms(),
        };
        let of_row = |(row, squared): (&usize, f64)| {
            let factor = weights.get(*row).map_or(1.0, |weights| weights.factor);
            length_of_kind(input.kind, squared, (factor, count), true)
        };
        Ok(rows.iter().zip(squared).map(of_row).collect::<Vec<f64>>())
    });
    Ok(blocks.collect::<Result<Vec<Vec<f64>>, GradientError>>()?.concat())
}
