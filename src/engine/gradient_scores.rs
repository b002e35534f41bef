//! Scores of all rows for some gradients, member by member.

use rayon::prelude::*;

use super::curvature::{FittedRows, OpenCurvature};
use super::gradient_error::GradientError;
use super::gradient_rows::{GradientBlock, GradientRows};
use crate::attribution::ScoreKind;
use crate::base::Cancel;
use crate::curvature::{
    CurvatureForm, CurvatureKind, DiagonalFit, Direction, DualSolver, MarginWeights, MemberGradients,
    PrimalFit,
};
use crate::sketch::SketchRows;

/// Gradients that are asked about: all members of some rows, which need not be rows of the store.
pub(super) struct AskedGradients {
    /// Numbers of the members that are asked.
    numbers: Vec<usize>,
    members: Vec<MemberGradients>,
}

/// What one gradient stands for at one member's checkpoint.
struct MemberQuestion {
    /// The direction in the space of parameters, before `scale`; `None` where the solution says all that is asked for.
    direction: Option<Direction>,
    /// For each row of a dual fit its share of the solution.
    solution: Vec<f64>,
    /// What scores along the direction are multiplied by.
    scale: f64,
    /// Squared length of the whitened gradient.
    length: f64,
}

/// Which scores are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) kind: ScoreKind,
    /// Whether members are centred and divided by their standard deviation before they are averaged.
    pub(super) is_standardised: bool,
    /// Whether parts of layers will be asked for.
    pub(super) has_parts: bool,
}

/// How one member's scores of one question become part of the mean.
#[derive(Clone, Copy, Debug)]
struct Standard {
    mean: f64,
    deviation: f64,
}

/// The scores of all places for one question.
pub(super) struct QuestionScores {
    /// Numbers of the members that were asked.
    numbers: Vec<usize>,
    questions: Vec<MemberQuestion>,
    /// Scores of all places, member by member.
    raw: Vec<Vec<f64>>,
    standards: Vec<Standard>,
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
}

/// Scores of all places for each of the asked gradients.
///
/// # Complexity
/// Dual form: reads each member's inverse once a gradient; other forms, and rows that came after the fit: O(rows x
/// parameters) a gradient and member.
pub(super) fn scores(
    rows: &GradientRows<'_>,
    curvature: &OpenCurvature,
    asked: &AskedGradients,
    wanted: Wanted,
    cancel: &Cancel,
) -> Result<Vec<QuestionScores>, GradientError> {
    let members = asked.members.len();
    // Of rows of a dual fit the solution tells the score; only others need a direction as wide as the model.
    let has_others = curvature.fitted().is_none_or(|fitted| (fitted.rows() as u64) < rows.live_rows());
    let has_direction = has_others || wanted.has_parts;
    let questions: Vec<Vec<MemberQuestion>> = (0..members)
        .into_par_iter()
        .map(|at| {
            if cancel.is_cancelled() {
                return Err(GradientError::Cancelled);
            }
            ask_member(curvature, &asked.members[at], asked.numbers[at], has_direction)
        })
        .collect::<Result<_, _>>()?;
    // By question instead of by member.
    let count = asked.members.first().map_or(0, MemberGradients::rows);
    let mut scores: Vec<QuestionScores> = (0..count)
        .map(|_| {
            let raw = vec![vec![0.0; rows.places]; members];
            let questions = Vec::with_capacity(members);
            QuestionScores { numbers: asked.numbers.clone(), questions, raw, standards: Vec::new() }
        })
        .collect();
    for of_member in questions {
        scores.iter_mut().zip(of_member).for_each(|(scores, own)| scores.questions.push(own));
    }
    fill_fitted(curvature, &mut scores);
    fill_others(rows, curvature, &mut scores, cancel)?;
    if wanted.kind != ScoreKind::Dot {
        let lengths = lengths(rows, curvature, cancel)?;
        for question in &mut scores {
            let members = question.questions.iter().zip(&question.numbers);
            for (raw, (own, number)) in question.raw.iter_mut().zip(members) {
                let own = if wanted.kind == ScoreKind::Cosine { own.length } else { 1.0 };
                for (score, length) in raw.iter_mut().zip(&lengths[*number]) {
                    let divisor = (own * length).sqrt();
                    *score = if divisor > 0.0 { *score / divisor } else { 0.0 };
                }
            }
        }
    }
    let live = if wanted.is_standardised && members > 1 { rows.live_places() } else { Vec::new() };
    for question in &mut scores {
        question.standards = question.raw.iter().map(|raw| Standard::of(raw, &live)).collect();
    }
    Ok(scores)
}

impl Standard {
    /// Mean and deviation over the live rows at these places; those that change nothing where there are none.
    fn of(raw: &[f64], live: &[usize]) -> Self {
        if live.is_empty() {
            return Self { mean: 0.0, deviation: 1.0 };
        }
        let scores = || live.iter().map(|place| raw[*place]);
        let mean = scores().sum::<f64>() / live.len() as f64;
        let variance = scores().map(|score| (score - mean).powi(2)).sum::<f64>() / live.len() as f64;
        Self { mean, deviation: variance.sqrt() }
    }

    fn apply(&self, raw: f64) -> f64 {
        if self.deviation > 0.0 { (raw - self.mean) / self.deviation } else { 0.0 }
    }
}

impl QuestionScores {
    /// The score of the row at a place: the mean over members.
    pub(super) fn score(&self, place: usize) -> f64 {
        let members = self.raw.iter().zip(&self.standards);
        members.map(|(raw, standard)| standard.apply(raw[place])).sum::<f64>() / self.raw.len().max(1) as f64
    }

    /// The plain mean over members, whatever was asked for: what the predicted change of the query's loss is made of.
    pub(super) fn raw_score(&self, place: usize) -> f64 {
        self.raw.iter().map(|raw| raw[place]).sum::<f64>() / self.raw.len().max(1) as f64
    }

    /// What each module contributes to the score of the row at a place. Each part is centred by its own mean and divided by
    /// the deviation of the whole, so that the parts add up to the score; of `dot` only.
    pub(super) fn parts(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        place: usize,
        means: &[Vec<f64>],
    ) -> Result<Vec<f64>, GradientError> {
        let layout = rows.schema.layout();
        let mut total = vec![0.0; layout.modules().len()];
        let Some(decoded) = rows.row(place)? else { return Ok(total) };
        for (at, (question, standard)) in self.questions.iter().zip(&self.standards).enumerate() {
            let mut own = MemberGradients::empty(layout);
            own.push(layout, self.numbers[at] as u32, &decoded, 0);
            let weight = question.scale * row_weight(curvature, self.numbers[at], place);
            let Some(direction) = &question.direction else { continue };
            let parts = direction.parts(&own, 0);
            for ((total, part), mean) in total.iter_mut().zip(parts).zip(&means[at]) {
                if standard.deviation > 0.0 {
                    *total += (weight * part - mean) / standard.deviation / self.questions.len() as f64;
                }
            }
        }
        Ok(total)
    }

    /// For each member the mean over live rows of what each module contributes; zeros where scores are not standardised.
    pub(super) fn part_means(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        is_standardised: bool,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f64>>, GradientError> {
        let layout = rows.schema.layout();
        let modules = layout.modules().len();
        let mut means = vec![vec![0.0; modules]; self.questions.len()];
        if !is_standardised || self.questions.len() < 2 {
            return Ok(means);
        }
        let all = |_: std::ops::Range<usize>| true;
        let blocks = rows.map_blocks(cancel, all, |block| {
            let mut sums = vec![vec![0.0; modules]; self.questions.len()];
            for (at, question) in self.questions.iter().enumerate() {
                let Some(direction) = &question.direction else { continue };
                let own = block_gradients(rows, block, self.numbers[at]);
                for row in 0..block.count as usize {
                    if block.segment.view.deleted.contains(crate::base::RowId(block.first.0 + row as u32)) {
                        continue;
                    }
                    let weight =
                        question.scale * row_weight(curvature, self.numbers[at], block.place() + row);
                    for (sum, part) in sums[at].iter_mut().zip(direction.parts(&own, row)) {
                        *sum += weight * part;
                    }
                }
            }
            Ok(sums)
        })?;
        let count = rows.live_rows().max(1) as f64;
        for sums in blocks {
            for (means, sums) in means.iter_mut().zip(sums) {
                means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / count);
            }
        }
        Ok(means)
    }
}

/// What a row's inner product with a direction is multiplied by: its factor in the kernel, and that of its score.
fn row_weight(curvature: &OpenCurvature, member: usize, place: usize) -> f64 {
    let MarginWeights { factor, score } = curvature.weights(member, place);
    factor * score
}

/// What the gradients stand for at one member's checkpoint.
fn ask_member(
    curvature: &OpenCurvature,
    asked: &MemberGradients,
    member: usize,
    has_direction: bool,
) -> Result<Vec<MemberQuestion>, GradientError> {
    match curvature.fitted() {
        Some(fitted) => Ok(ask_fitted(fitted, curvature.solver(member)?, asked, member, has_direction)),
        None => (0..asked.rows()).map(|row| ask_direction(curvature, asked, row, member)).collect(),
    }
}

/// By the rows of a dual fit.
fn ask_fitted(
    fitted: &FittedRows,
    solver: DualSolver<'_>,
    asked: &MemberGradients,
    member: usize,
    has_direction: bool,
) -> Vec<MemberQuestion> {
    let (factors, norms) = (fitted.factors(member), asked.squared_norms());
    let products = asked.inner_products(fitted.gradients(member));
    let scale = fitted.rows() as f64 / solver.damping;
    let ask = |(row, products): (usize, &[f64])| {
        let right: Vec<f64> =
            products.iter().zip(factors).map(|(product, factor)| product * factor).collect();
        let solution = solver.solve(&right);
        let taken: f64 = solution.iter().zip(&right).map(|(a, b)| a * b).sum();
        let direction = has_direction.then(|| {
            let weights: Vec<f64> =
                solution.iter().zip(factors).map(|(solution, factor)| -solution * factor).collect();
            let mut direction = Direction::of_row(asked, row);
            direction.add(fitted.gradients(member), &weights);
            direction
        });
        let length = (scale * (norms[row] - taken)).max(0.0);
        MemberQuestion { direction, solution, scale, length }
    };
    products.chunks(factors.len().max(1)).enumerate().map(ask).collect()
}

/// By the direction that one of the gradients stands for.
fn ask_direction(
    curvature: &OpenCurvature,
    asked: &MemberGradients,
    row: usize,
    member: usize,
) -> Result<MemberQuestion, GradientError> {
    let rows = curvature.record.rows;
    let mut scale = 1.0;
    let direction = match (curvature.kind, curvature.form) {
        (CurvatureKind::Diagonal, _) => DiagonalFit::direction(curvature.diagonal(member), asked, row),
        (_, CurvatureForm::Primal) => {
            PrimalFit::direction_of(curvature.triangle(member)?, rows as usize, asked, row)
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
    let length = (scale * direction.parts(asked, row).iter().sum::<f64>()).max(0.0);
    Ok(MemberQuestion { direction: Some(direction), solution: Vec::new(), scale, length })
}

/// Scores of the rows of a dual fit: they stand in the solution.
fn fill_fitted(curvature: &OpenCurvature, scores: &mut [QuestionScores]) {
    let Some(fitted) = curvature.fitted() else { return };
    for question in scores {
        let members = question.numbers.iter().zip(&question.questions);
        for ((member, own), raw) in members.zip(&mut question.raw) {
            for (solution, place) in own.solution.iter().zip(fitted.places()) {
                if let Some(place) = place {
                    let weight = curvature.weights(*member, *place).score;
                    raw[*place] = fitted.rows() as f64 * solution * weight;
                }
            }
        }
    }
}

/// Scores of all other rows: by their inner products with the directions.
fn fill_others(
    rows: &GradientRows<'_>,
    curvature: &OpenCurvature,
    scores: &mut [QuestionScores],
    cancel: &Cancel,
) -> Result<(), GradientError> {
    let asked: Vec<&[MemberQuestion]> = scores.iter().map(|scores| scores.questions.as_slice()).collect();
    let numbers = scores.first().map(|scores| scores.numbers.clone()).unwrap_or_default();
    let is_fitted = |place: usize| curvature.fitted().is_some_and(|fitted| fitted.number(place).is_some());
    let has_others = |mut places: std::ops::Range<usize>| !places.all(is_fitted);
    let blocks = rows.map_blocks(cancel, has_others, |block| {
        let others: Vec<usize> =
            (0..block.count as usize).filter(|row| !is_fitted(block.place() + row)).collect();
        let mut found = vec![Vec::new(); asked.len()];
        for (at, member) in numbers.iter().copied().enumerate() {
            let own = block_gradients(rows, block, member);
            for (found, questions) in found.iter_mut().zip(&asked) {
                let question = &questions[at];
                let all =
                    question.direction.as_ref().map(|direction| direction.scores(&own)).unwrap_or_default();
                let scores = others.iter().map(|row| {
                    let along = all.get(*row).copied().unwrap_or(0.0);
                    question.scale * row_weight(curvature, member, block.place() + row) * along
                });
                found.push(scores.collect::<Vec<f64>>());
            }
        }
        Ok((block.place(), others, found))
    })?;
    for (first, others, found) in blocks {
        for (question, members) in scores.iter_mut().zip(found) {
            for (raw, values) in question.raw.iter_mut().zip(members) {
                for (row, value) in others.iter().zip(values) {
                    raw[first + row] = value;
                }
            }
        }
    }
    Ok(())
}

fn block_gradients(rows: &GradientRows<'_>, block: &GradientBlock<'_>, member: usize) -> MemberGradients {
    let layout = rows.schema.layout();
    let mut own = MemberGradients::empty(layout);
    (0..block.count as usize).for_each(|row| own.push(layout, member as u32, &block.rows, row));
    own
}

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
            let own = block_gradients(rows, block, member);
            let mut values = Vec::with_capacity(block.count as usize);
            for row in 0..block.count as usize {
                values.push(length(curvature, &own, row, member, block.place() + row)?);
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
    curvature: &OpenCurvature,
    own: &MemberGradients,
    row: usize,
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
    let form = ask_member(curvature, &own.subset(&[row]), member, false)?
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
