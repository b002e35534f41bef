//! How long each row's whitened gradient is.

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_question::{Needs, Precision, ask_member};
use super::gradient_rows::{GradientBlock, GradientRows};
use super::rows_of_fit::RowsOfFit;
use super::whitened_lengths::{length_of_kind, squared_lengths};
use crate::base::Cancel;

/// Squared length of each row's whitened gradient, member by member: what a row is divided by, and its self-influence. Those of the rows
/// of the fit were kept with it; of the dual form they stand on the diagonal of its inverse. Those of rows that came later are computed
/// once.
///
/// For `trak` and `margin` it is the leverage of a row of the fit, and of another row the leverage that it would have in it (in the dual form,
/// which takes rows out that have left).
pub(super) fn lengths<'a>(
    rows: &GradientRows<'_>,
    curvature: &'a OpenCurvature,
    cancel: &Cancel,
) -> Result<&'a [Vec<f64>], GradientError> {
    if let Some(known) = curvature.lengths.get() {
        return Ok(known);
    }
    let members = rows.schema.members() as usize;
    let of_fit = curvature.rows_of_fit(rows)?;
    let stored = curvature.stored_lengths(members)?;
    let mut lengths = vec![vec![0.0; rows.places]; members];
    // Without what was kept, all rows are computed. Nobody asks about deleted ones.
    let is_kept = stored.is_some() || curvature.fitted().is_some();
    let is_known = |place: usize| (is_kept && of_fit.number(place).is_some()) || !rows.is_live(place);
    for (member, lengths) in lengths.iter_mut().enumerate() {
        let solver = curvature.fitted().map(|_| curvature.solver(member)).transpose()?;
        for (number, place) in of_fit.places().iter().enumerate() {
            let Some(place) = place else { continue };
            lengths[*place] = match (&solver, &stored) {
                (Some(solver), _) if curvature.kind.is_weighted() => solver.leverage(number),
                (Some(solver), _) => solver.leverage(number) * of_fit.rows() as f64,
                (None, Some(stored)) => stored[member][number],
                (None, None) => continue,
            };
        }
    }
    let has_others = |mut places: std::ops::Range<usize>| !places.all(is_known);
    let blocks = rows.map_blocks(cancel, has_others, |block| {
        let others: Vec<usize> =
            (0..block.count as usize).filter(|row| !is_known(block.place() + row)).collect();
        let found = (0..members).map(|member| of_others((rows, of_fit), curvature, block, (member, &others)));
        Ok((block.place(), found.collect::<Result<Vec<_>, GradientError>>()?, others))
    })?;
    for (first, found, others) in blocks {
        for (lengths, values) in lengths.iter_mut().zip(found) {
            others.iter().zip(values).for_each(|(row, value)| lengths[first + row] = value);
        }
    }
    Ok(curvature.lengths.get_or_init(|| lengths))
}

/// Lengths of some rows of a block.
fn of_others(
    (rows, of_fit): (&GradientRows<'_>, &RowsOfFit),
    curvature: &OpenCurvature,
    block: &GradientBlock<'_>,
    (member, others): (usize, &[usize]),
) -> Result<Vec<f64>, GradientError> {
    let own = block.gradients(rows.schema.layout(), member).subset(others);
    let squared = match curvature.fitted() {
        Some(_) => {
            let needs = Needs { precision: Precision::Exact, has_direction: false, has_length: true };
            let questions = ask_member(curvature, rows.schema.layout(), &own, member, needs)?;
            questions.iter().map(|question| question.length).collect()
        }
        None => squared_lengths(curvature, member, &own)?,
    };
    let count = match curvature.fitted() {
        Some(_) => of_fit.rows() as f64,
        None => curvature.record.rows as f64,
    };
    let of_row = |(row, squared): (&usize, f64)| {
        let place = block.place() + row;
        let factor = curvature.weights(member, place).factor;
        length_of_kind(curvature.kind, squared, (factor, count), of_fit.number(place).is_some())
    };
    Ok(others.iter().zip(squared).map(of_row).collect())
}
