//! Scores of all rows for some gradients, member by member.

use rayon::prelude::*;

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_lengths::lengths;
use super::gradient_question::{AskedGradients, MemberQuestion, Needs, Precision, Wanted, ask_member};
use super::gradient_rows::{GradientRows, GradientSegment};
use crate::attribution::ScoreKind;
use crate::base::Cancel;
use crate::curvature::{MemberGradients, RowWeights};

/// Rows at single places whose gradients one thread holds at a time.
const PLACES_TOGETHER: usize = 64;

/// Scores that one thread goes over at a time.
pub(super) const CHUNK_ROWS: usize = 8192;

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
    wanted: Wanted,
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
    let has_others = curvature.fitted().is_none_or(|fitted| (fitted.rows() as u64) < rows.live_rows());
    let mut scores = ask(rows, curvature, asked, wanted, has_others, cancel)?;
    for question in &mut scores {
        question.raw = vec![vec![0.0; rows.places]; asked.members.len()];
    }
    fill_fitted(curvature, &mut scores);
    fill_others(rows, curvature, &mut scores, cancel)?;
    let is_finite = |raw: &Vec<f64>| raw.iter().all(|score| score.is_finite());
    if wanted.precision == Precision::Nearly
        && !scores.iter().all(|question| question.raw.iter().all(is_finite))
    {
        // Scores that f32 does not hold, or damaged values, which are then named.
        let exactly = Wanted { precision: Precision::Exact, ..wanted };
        return self::scores(rows, curvature, asked, exactly, cancel);
    }
    let live =
        if wanted.is_standardised && asked.members.len() > 1 { rows.live_places() } else { Vec::new() };
    for question in &mut scores {
        question.normalise(rows, curvature, &live, cancel)?;
    }
    Ok(scores)
}

/// What each of the asked gradients stands for; no scores yet. `has_others`: whether rows will be scored that are not of the fit.
pub(super) fn ask(
    rows: &GradientRows<'_>,
    curvature: &OpenCurvature,
    asked: &AskedGradients,
    wanted: Wanted,
    has_others: bool,
    cancel: &Cancel,
) -> Result<Vec<QuestionScores>, GradientError> {
    let members = asked.members.len();
    // Of rows of a dual fit the solution tells the score; only others need a direction as wide as the model.
    let has_direction = has_others || wanted.has_parts || curvature.fitted().is_none();
    let questions: Vec<Vec<MemberQuestion>> = (0..members)
        .into_par_iter()
        .map(|at| {
            if cancel.is_cancelled() {
                return Err(GradientError::Cancelled);
            }
            let (layout, precision) = (rows.schema.layout(), wanted.precision);
            let needs = Needs { precision, has_direction, has_length: wanted.kind == ScoreKind::Cosine };
            ask_member(curvature, layout, &asked.members[at], asked.numbers[at], needs)
        })
        .collect::<Result<_, _>>()?;
    // By question instead of by member.
    let count = asked.members.first().map_or(0, MemberGradients::rows);
    let nothing = || QuestionScores {
        numbers: asked.numbers.clone(),
        questions: Vec::with_capacity(members),
        raw: Vec::new(),
        standards: vec![Standard::none(); members],
        wanted,
    };
    let mut scores: Vec<QuestionScores> = (0..count).map(|_| nothing()).collect();
    for of_member in questions {
        scores.iter_mut().zip(of_member).for_each(|(scores, own)| scores.questions.push(own));
    }
    Ok(scores)
}

/// A score of this kind, of a query and a row whose whitened gradients have these squared lengths.
fn divided(score: f64, kind: ScoreKind, asked: f64, row: f64) -> f64 {
    let divisor = match kind {
        ScoreKind::Dot => return score,
        ScoreKind::Cosine => (asked * row).sqrt(),
        ScoreKind::Relatif => row.sqrt(),
    };
    if divisor > 0.0 { score / divisor } else { 0.0 }
}

impl Standard {
    /// Mean and deviation over the live rows at these places; those that change nothing where there are none.
    fn of(raw: &[f64], live: &[usize]) -> Self {
        if live.is_empty() { Self::none() } else { Self::of_scores(|| live.iter().map(|place| raw[*place])) }
    }

    /// Those that change nothing.
    fn none() -> Self {
        Self { mean: 0.0, deviation: 1.0 }
    }

    fn of_scores<I: ExactSizeIterator<Item = f64>>(scores: impl Fn() -> I) -> Self {
        let count = scores().len().max(1) as f64;
        let mean = scores().sum::<f64>() / count;
        let variance = scores().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
        Self { mean, deviation: variance.sqrt() }
    }

    fn apply(&self, raw: f64) -> f64 {
        if self.deviation > 0.0 { (raw - self.mean) / self.deviation } else { 0.0 }
    }
}

impl QuestionScores {
    /// Makes what stands for each member's scores scores of the kind that is wanted, and takes means and deviations from the rows at the
    /// places `live`.
    fn normalise(
        &mut self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        live: &[usize],
        cancel: &Cancel,
    ) -> Result<(), GradientError> {
        if self.wanted.kind != ScoreKind::Dot {
            let lengths = lengths(rows, curvature, cancel)?;
            let members = self.questions.iter().zip(&self.numbers);
            for (raw, (own, number)) in self.raw.iter_mut().zip(members) {
                for (score, length) in raw.iter_mut().zip(&lengths[*number]) {
                    *score = divided(*score, self.wanted.kind, own.length, *length);
                }
            }
        }
        self.standards = self.raw.iter().map(|raw| Standard::of(raw, live)).collect();
        Ok(())
    }

    /// Takes what is nearly each member's scores of all places, before they are normalised.
    pub(super) fn take_raw(
        &mut self,
        raw: Vec<Vec<f64>>,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        cancel: &Cancel,
    ) -> Result<(), GradientError> {
        self.raw = raw;
        let is_standardised = self.wanted.is_standardised && self.numbers.len() > 1;
        let live = if is_standardised { rows.live_places() } else { Vec::new() };
        self.normalise(rows, curvature, &live, cancel)
    }

    /// The score of the row at a place: the mean over members.
    pub(super) fn score(&self, place: usize) -> f64 {
        let members = self.raw.iter().zip(&self.standards);
        members.map(|(raw, standard)| standard.apply(raw[place])).sum::<f64>() / self.raw.len().max(1) as f64
    }

    /// The scores of a segment's rows, deleted ones counted.
    pub(super) fn of_segment(&self, segment: &GradientSegment<'_>) -> Vec<f64> {
        let count = segment.view.segment.record.row_count as usize;
        let rows = (0..count).into_par_iter().with_min_len(CHUNK_ROWS);
        rows.map(|row| self.score(segment.first + row)).collect()
    }

    /// What was wanted.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Whether scores are known in f64.
    pub(super) fn is_exact(&self) -> bool {
        self.wanted.precision == Precision::Exact
    }

    /// The scores in f64 of the rows at some places; means and deviations of members are those of all rows as they are
    /// known.
    pub(super) fn exact_scores(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        places: &[usize],
        cancel: &Cancel,
    ) -> Result<Vec<f64>, GradientError> {
        Ok(self.means_of(&self.exact_members(rows, curvature, (places, false), cancel)?, places.len()))
    }

    /// Means over members of so many scores, each standardised.
    fn means_of(&self, members: &[Vec<f64>], count: usize) -> Vec<f64> {
        let standard = |at: usize| {
            members.iter().zip(&self.standards).map(move |(raw, standard)| standard.apply(raw[at]))
        };
        (0..count).map(|at| standard(at).sum::<f64>() / members.len().max(1) as f64).collect()
    }

    /// The scores in f64 of the rows at some places, from which means and deviations of members are taken where they are
    /// wanted.
    pub(super) fn standardise_by(
        &mut self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        places: &[usize],
        cancel: &Cancel,
    ) -> Result<Vec<f64>, GradientError> {
        let members = self.exact_members(rows, curvature, (places, true), cancel)?;
        if self.wanted.is_standardised && self.numbers.len() > 1 {
            self.standards = members.iter().map(|raw| Standard::of_scores(|| raw.iter().copied())).collect();
        }
        Ok(self.means_of(&members, places.len()))
    }

    /// Each member's scores in f64 of the rows at some places; see [`along_directions`](Self::along_directions).
    fn exact_members(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        (places, by_product): (&[usize], bool),
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f64>>, GradientError> {
        let fitted = |place: usize| curvature.fitted().and_then(|fitted| fitted.number(place));
        let others: Vec<usize> = (0..places.len()).filter(|at| fitted(places[*at]).is_none()).collect();
        let in_fit: Vec<(usize, usize)> =
            places.iter().enumerate().filter_map(|(at, place)| Some((at, fitted(*place)?))).collect();
        let outside: Vec<usize> = others.iter().map(|at| places[*at]).collect();
        let along = self.along_directions(rows, curvature, &outside, by_product)?;
        let lengths =
            if self.wanted.kind == ScoreKind::Dot { None } else { Some(lengths(rows, curvature, cancel)?) };
        let members = (0..self.numbers.len()).into_par_iter().map(|at| {
            let (number, question) = (self.numbers[at], &self.questions[at]);
            let mut scores = vec![0.0; places.len()];
            if !in_fit.is_empty() {
                let solver = curvature.solver(number)?;
                let rows: Vec<usize> = in_fit.iter().map(|(_, row)| *row).collect();
                let scale = curvature.fitted().map_or(0.0, |fitted| fitted.rows() as f64);
                for ((at, _), solution) in in_fit.iter().zip(solver.solve_rows(&question.right, &rows)) {
                    scores[*at] = scale * solution * curvature.weights(number, places[*at]).score;
                }
            }
            for (own, scores_at) in along.iter().zip(&others) {
                scores[*scores_at] = own[at];
            }
            for (score, place) in scores.iter_mut().zip(places) {
                let length = lengths.map_or(1.0, |lengths| lengths[number][*place]);
                *score = divided(*score, self.wanted.kind, question.length, length);
            }
            Ok(scores)
        });
        members.collect()
    }

    /// Scores of the rows at some places along each member's direction, place by place; `by_product`: by products of matrices, which is
    /// faster and rounds otherwise.
    fn along_directions(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        places: &[usize],
        by_product: bool,
    ) -> Result<Vec<Vec<f64>>, GradientError> {
        let layout = rows.schema.layout();
        let of_places = |places: &[usize]| {
            let mut found = vec![Vec::with_capacity(self.numbers.len()); places.len()];
            let decoded = rows.rows_at(places)?;
            for (number, question) in self.numbers.iter().zip(&self.questions) {
                let mut own = MemberGradients::empty(layout);
                (0..places.len()).for_each(|row| own.push(layout, *number as u32, &decoded, row));
                let along: Vec<f64> = match &question.direction {
                    Some(direction) if by_product => direction.scores(&own),
                    Some(direction) => {
                        (0..own.rows()).map(|row| direction.parts(&own, row).iter().sum()).collect()
                    }
                    None => vec![0.0; places.len()],
                };
                for ((found, place), along) in found.iter_mut().zip(places).zip(along) {
                    found.push(question.scale * row_weight(curvature, *number, *place) * along);
                }
            }
            Ok(found)
        };
        let parts = places.par_chunks(PLACES_TOGETHER).map(of_places);
        Ok(parts.collect::<Result<Vec<_>, GradientError>>()?.concat())
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
                let own = block.gradients(layout, self.numbers[at]);
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
    let RowWeights { factor, score } = curvature.weights(member, place);
    factor * score
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

/// The inner products of a block's rows with the direction of a question, of the member at a position.
type Along<'a> = dyn Fn(usize, &MemberQuestion) -> Result<Vec<f64>, GradientError> + 'a;

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
    let layout = rows.schema.layout();
    let is_exact = scores.iter().all(QuestionScores::is_exact);
    // Of each question, the scores of each member of a block's rows that are not of the fit.
    let score = |place: usize, count: u32, along: &Along<'_>| {
        let others: Vec<usize> = (0..count as usize).filter(|row| !is_fitted(place + row)).collect();
        let mut found = vec![Vec::new(); asked.len()];
        for (at, member) in numbers.iter().copied().enumerate() {
            for (found, questions) in found.iter_mut().zip(&asked) {
                let question = &questions[at];
                let all = along(at, question)?;
                let scores = others.iter().map(|row| {
                    let along = all.get(*row).copied().unwrap_or(0.0);
                    question.scale * row_weight(curvature, member, place + row) * along
                });
                found.push(scores.collect::<Vec<f64>>());
            }
        }
        Ok((place, others, found))
    };
    let blocks = if is_exact {
        rows.map_blocks(cancel, has_others, |block| {
            let own: Vec<MemberGradients> =
                numbers.iter().map(|member| block.gradients(layout, *member)).collect();
            let along = |at: usize, question: &MemberQuestion| {
                Ok(question
                    .direction
                    .as_ref()
                    .map(|direction| direction.scores(&own[at]))
                    .unwrap_or_default())
            };
            score(block.place(), block.count, &along)
        })?
    } else {
        rows.map_stored(cancel, has_others, |block| {
            let along = |at: usize, question: &MemberQuestion| match &question.packed {
                Some(packed) => packed
                    .scores(layout, numbers[at] as u32, (block.values, block.terms))
                    .map_err(|error| GradientError::mismatch(error.to_string())),
                None => Ok(Vec::new()),
            };
            score(block.place, block.count, &along)
        })?
    };
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
