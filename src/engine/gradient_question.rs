//! What a gradient stands for once the curvature is taken into account, member by member.

use super::curvature::{FittedRows, OpenCurvature};
use super::gradient_error::GradientError;
use super::gradient_rows::GradientRows;
use super::whitened_lengths::squared_lengths;
use crate::attribution::ScoreKind;
use crate::curvature::{
    CurvatureForm, CurvatureKind, DiagonalFit, Direction, DualSolver, MemberGradients, PackedDirection,
    PrimalFit,
};
use crate::sketch::{SketchLayout, SketchRows};

/// Gradients that are asked about: some or all members of some rows, which need not be rows of the store.
pub(super) struct AskedGradients {
    /// Numbers of the members that are asked.
    pub(super) numbers: Vec<usize>,
    pub(super) members: Vec<MemberGradients>,
}

/// How well scores of all rows are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// In f64.
    Exact,
    /// As far as f32 tells them: enough to find the rows that matter.
    Nearly,
}

/// Which scores are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) kind: ScoreKind,
    /// Whether members are centred and divided by their standard deviation before they are averaged.
    pub(super) is_standardised: bool,
    /// Whether parts of layers will be asked for.
    pub(super) has_parts: bool,
    pub(super) precision: Precision,
}

/// What is to be known of a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) precision: Precision,
    /// Whether rows are asked about that the solution does not tell of, or parts of layers.
    pub(super) has_direction: bool,
    /// Whether scores are divided by the length of the question.
    pub(super) has_length: bool,
}

/// What one gradient stands for at one member's checkpoint.
pub(super) struct MemberQuestion {
    /// The direction in the space of parameters, before `scale`; `None` where the solution says all that is asked for.
    pub(super) direction: Option<Direction>,
    /// The same for many rows, where scores are wanted nearly.
    pub(super) packed: Option<PackedDirection>,
    /// For each row of a dual fit its inner product with the gradient, times the row's factor.
    pub(super) right: Vec<f64>,
    /// For each row of a dual fit its share of the solution.
    pub(super) solution: Vec<f64>,
    /// What scores along the direction are multiplied by.
    pub(super) scale: f64,
    /// Squared length of the whitened gradient.
    pub(super) length: f64,
}

impl AskedGradients {
    /// Takes rows of gradients, `count` of them, of some members; of all if none is named.
    ///
    /// # Errors
    /// There is no such member, or one is named twice.
    pub(super) fn new(
        rows: &GradientRows<'_>,
        asked: &SketchRows,
        count: usize,
        only: &[u32],
    ) -> Result<Self, GradientError> {
        let layout = rows.schema.layout();
        let known = layout.members();
        for (at, member) in only.iter().enumerate() {
            if *member >= known {
                return Err(GradientError::mismatch(format!(
                    "there is no member {member}: those of column {:?} are 0 to {}",
                    rows.column.name,
                    known.saturating_sub(1)
                )));
            }
            if only[..at].contains(member) {
                return Err(GradientError::mismatch(format!("member {member} is named twice")));
            }
        }
        let numbers: Vec<u32> = if only.is_empty() { (0..known).collect() } else { only.to_vec() };
        let members = numbers.iter().map(|member| {
            let mut gradients = MemberGradients::empty(layout);
            (0..count).for_each(|row| gradients.push(layout, *member, asked, row));
            gradients
        });
        let members = members.collect();
        Ok(Self { numbers: numbers.into_iter().map(|number| number as usize).collect(), members })
    }

    /// Gradient `row` alone.
    pub(super) fn one(&self, row: usize) -> Self {
        let members = self.members.iter().map(|gradients| gradients.subset(&[row])).collect();
        Self { numbers: self.numbers.clone(), members }
    }
}

/// What some gradients stand for at one member's checkpoint.
pub(super) fn ask_member(
    curvature: &OpenCurvature,
    layout: &SketchLayout,
    asked: &MemberGradients,
    member: usize,
    needs: Needs,
) -> Result<Vec<MemberQuestion>, GradientError> {
    let mut questions = match curvature.fitted() {
        Some(fitted) => {
            let solver = curvature.solver(member)?;
            ask_fitted(fitted, solver, asked, member, needs)?
        }
        None => (0..asked.rows())
            .map(|row| ask_direction(curvature, asked, row, member, needs.has_length))
            .collect::<Result<_, _>>()?,
    };
    if needs.precision == Precision::Nearly {
        for question in &mut questions {
            question.packed =
                question.direction.as_ref().map(|direction| PackedDirection::new(direction, layout));
        }
    }
    Ok(questions)
}

/// By the rows of a dual fit.
fn ask_fitted(
    fitted: &FittedRows,
    solver: DualSolver<'_>,
    asked: &MemberGradients,
    member: usize,
    needs: Needs,
) -> Result<Vec<MemberQuestion>, GradientError> {
    let (factors, norms) = (fitted.factors(member), asked.squared_norms());
    let products = asked.inner_products(fitted.gradients(member));
    let rights: Vec<Vec<f64>> = products
        .chunks(factors.len().max(1))
        .map(|products| products.iter().zip(factors).map(|(product, factor)| product * factor).collect())
        .collect();
    let solutions = match needs.precision {
        Precision::Exact => solver.solve_all(&rights),
        Precision::Nearly => rights
            .iter()
            .map(|right| solver.solve_nearly(right))
            .collect::<Result<_, _>>()
            .map_err(|error| GradientError::mismatch(error.to_string()))?,
    };
    let scale = fitted.rows() as f64 / solver.damping;
    let ask = |(row, (right, solution)): (usize, (Vec<f64>, Vec<f64>))| {
        // A length and rows that came after the fit are told by a difference: in f32 little would be left of it.
        let is_exact = needs.precision == Precision::Exact || !(needs.has_direction || needs.has_length);
        let solved = if is_exact { None } else { Some(solver.solve(&right)) };
        let exact = solved.as_ref().unwrap_or(&solution);
        let taken: f64 = exact.iter().zip(&right).map(|(a, b)| a * b).sum();
        let direction = needs.has_direction.then(|| {
            let weights = exact.iter().zip(factors);
            let weights: Vec<f64> = weights.map(|(solution, factor)| -solution * factor).collect();
            let mut direction = Direction::of_row(asked, row);
            direction.add(fitted.gradients(member), &weights);
            direction
        });
        let length = (scale * (norms[row] - taken)).max(0.0);
        MemberQuestion { direction, packed: None, right, solution, scale, length }
    };
    Ok(rights.into_iter().zip(solutions).enumerate().map(ask).collect())
}

/// By the direction that one of the gradients stands for.
fn ask_direction(
    curvature: &OpenCurvature,
    asked: &MemberGradients,
    row: usize,
    member: usize,
    has_length: bool,
) -> Result<MemberQuestion, GradientError> {
    let rows = curvature.record.rows;
    let mut scale = 1.0;
    let direction = match (curvature.kind, curvature.form) {
        (CurvatureKind::Kfac | CurvatureKind::Ekfac, _) => curvature.kronecker(member)?.direction(asked, row),
        (CurvatureKind::Diagonal, _) => DiagonalFit::direction(curvature.diagonal(member), asked, row),
        (_, CurvatureForm::Primal) => {
            let scale = rows as f64 / curvature.damping(member);
            PrimalFit::direction_of(curvature.inverse(member)?, scale, asked, row)
        }
        _ => {
            let mut direction = Direction::of_row(asked, row);
            if let Some((landmarks, weights)) = curvature.landmark_weights(member, asked, row)? {
                direction.add(landmarks, &weights);
                scale = rows as f64 / curvature.damping(member);
            }
            direction
        }
    };
    let length = match curvature.form {
        _ if !has_length => 0.0,
        CurvatureForm::Landmarks => {
            squared_lengths(curvature, member, &asked.subset(&[row]))?.first().copied().unwrap_or(0.0)
        }
        _ => (scale * direction.parts(asked, row).iter().sum::<f64>()).max(0.0),
    };
    let (packed, right, solution) = (None, Vec::new(), Vec::new());
    Ok(MemberQuestion { direction: Some(direction), packed, right, solution, scale, length })
}
