//! How long each row's whitened gradient is.

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_question::{Needs, Precision, ask_member};
use super::gradient_rows::GradientRows;
use crate::base::Cancel;
use crate::curvature::{CurvatureKind, MemberGradients};

/// Squared length of each row's whitened gradient, member by member: what a row is divided by, and its self-influence.
///
/// For `margin` it is the leverage of a row of the fit, and of another row the leverage that it would have in it (in the dual form,
/// which knows its rows).
pub(super) fn lengths<'a>(
    rows: &GradientRows<'_>,
    curvature: &'a OpenCurvature,
    cancel: &Cancel,
) -> Result<&'a [Vec<f64>], GradientError> {
    if let Some(known) = curvature.lengths.get() {
        return Ok(known);
    }
    let members = rows.schema.members() as usize;
    let all = |_: std::ops::Range<usize>| true;
    let blocks = rows.map_blocks(cancel, all, |block| {
        let mut found = Vec::with_capacity(members);
        for member in 0..members {
            let own = block.gradients(rows.schema.layout(), member);
            let mut values = Vec::with_capacity(block.count as usize);
            for row in 0..block.count as usize {
                values.push(length(rows, curvature, (&own, row), member, block.place() + row)?);
            }
            found.push(values);
        }
        Ok((block.place(), found))
    })?;
    let mut lengths = vec![vec![0.0; rows.places]; members];
    for (first, found) in blocks {
        for (lengths, values) in lengths.iter_mut().zip(found) {
            lengths[first..first + values.len()].copy_from_slice(&values);
        }
    }
    Ok(curvature.lengths.get_or_init(|| lengths))
}

fn length(
    rows: &GradientRows<'_>,
    curvature: &OpenCurvature,
    (own, row): (&MemberGradients, usize),
    member: usize,
    place: usize,
) -> Result<f64, GradientError> {
    let is_margin = curvature.kind == CurvatureKind::Margin;
    if let Some(fitted) = curvature.fitted()
        && let Some(number) = fitted.number(place)
    {
        let leverage = curvature.solver(member)?.leverage(number);
        return Ok(if is_margin { leverage } else { leverage * fitted.rows() as f64 });
    }
    let alone = own.subset(&[row]);
    let needs = Needs { precision: Precision::Exact, has_direction: false, has_length: true };
    let form = ask_member(curvature, rows.schema.layout(), &alone, member, needs)?
        .first()
        .map_or(0.0, |question| question.length);
    if !is_margin {
        return Ok(form);
    }
    let rows = curvature.fitted().map_or(curvature.record.rows as f64, |fitted| fitted.rows() as f64);
    let share = curvature.weights(member, place).factor.powi(2) * form / rows.max(1.0);
    // Only the dual form knows which rows it was fitted to; the others were, as a rule, fitted to all.
    Ok(if curvature.fitted().is_some() { share / (1.0 + share) } else { share.min(1.0) })
}
