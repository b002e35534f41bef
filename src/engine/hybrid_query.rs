//! Rows found by embeddings, scored by gradients.

use std::time::Instant;

use super::answer::{Answer, Query, QueryInput, QueryStages};
use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_query::{GradientInput, GradientQuery};
use super::gradient_rows::GradientRows;
use super::gradient_scores::{QuestionScores, ask};
use super::query_error::QueryError;
use super::scan::Keys;
use super::snapshot::Snapshot;
use crate::attribution::{Moments, ScoreChunk, ScoredRow, Selection, Side};
use crate::base::{Cancel, RowId, drawn_numbers};

/// Rows whose scores say how far those of a question spread, where there are more than these.
const SAMPLE_ROWS: usize = 2000;

/// Decides which rows those are.
const SAMPLE_SEED: u64 = 0x7370_7265_6164;

/// A question: rows whose embeddings are most like its own are candidates, and their gradient scores decide.
#[derive(Clone)]
pub struct HybridQuestion<'a> {
    /// What candidates are found by.
    pub embedding: QueryInput,
    /// The embedding column; `None`: the only one.
    pub column: Option<&'a str>,
    /// What they are scored by.
    pub gradient: GradientInput<'a>,
}

/// The candidates of a question: their places, ascending, and scores.
struct Candidates {
    places: Vec<usize>,
    scores: Vec<f64>,
    /// Of the scores of some rows.
    moments: Moments,
    column: String,
}

impl Snapshot {
    /// The rows with the strongest influence on each question, among as many candidates as are told: the rows with the highest
    /// dot products of embeddings, of those that pass the filter.
    ///
    /// Candidates' scores are those of [`query_gradients`](Self::query_gradients) but for the means and deviations of members, which
    /// are those of some thousand rows drawn by a fixed seed (of all where there are no more).
    ///
    /// # Errors
    /// See [`GradientError`]; parts of layers and predicted changes are not told.
    ///
    /// # Complexity
    /// That of a learned query, and O(candidates x parameters) a member; in the dual form O(candidates x rows of the fit).
    pub fn query_hybrid(
        &self,
        questions: &[HybridQuestion<'_>],
        query: &GradientQuery,
        candidates: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Answer>, GradientError> {
        let _passage = self.inner.context.traffic.enter();
        if query.k == 0 {
            return Err(QueryError::NoRows.into());
        }
        if query.layers || query.without.is_some() {
            return Err(GradientError::mismatch(
                "parts of layers and changes without rows are told of gradient scores only: leave --layers and --without away, or ask with --score gradient",
            ));
        }
        let rows = self.gradient_rows(query.column.as_deref())?;
        let sample = sampled_places(&rows);
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let begun = Instant::now();
            let mut selection = Selection::new(query.side, query.k).map_err(QueryError::from)?;
            let (found, curvature) =
                self.candidates((&rows, &sample), question, query, candidates, cancel)?;
            let keys = Keys(&self.inner.segments);
            for (place, score) in found.places.iter().zip(&found.scores) {
                let Some((segment, row)) = rows.row_at(*place) else { continue };
                selection.push(ScoredRow { segment: segment.position, row, score: *score }, &keys)?;
            }
            let ranked = selection.into_ranked(&keys)?;
            let percentiles = vec![None; ranked.proponents.len() + ranked.opponents.len()];
            let (proponents, opponents) = self.fetch(&ranked, &found.moments, &percentiles)?;
            let live = rows.live_rows();
            answers.push(Answer {
                input: question.gradient.asked(),
                score: "hybrid",
                column: rows.column.name.clone(),
                encoder: String::new(),
                curvature: Some(curvature),
                kind: query.kind,
                plan: "candidates",
                plan_reason: format!(
                    "{} candidates by embedding column {:?}",
                    found.places.len(),
                    found.column
                ),
                rows: live,
                eligible_rows: found.places.len() as u64,
                segments: rows.segments.len(),
                bytes: 0,
                rows_by_codes: 0,
                hops: 0,
                rows_exact: found.places.len() as u64,
                elapsed: begun.elapsed(),
                stages: QueryStages::default(),
                without: None,
                proponents,
                opponents,
            });
        }
        Ok(answers)
    }

    /// Hands the hybrid scores of all live rows for each question to `take`, in the order of
    /// [`gradient_keys`](Self::gradient_keys): 0 of rows that are no candidates.
    ///
    /// # Errors
    /// As [`query_hybrid`](Self::query_hybrid), and those of `take`.
    pub fn score_hybrid<E: From<GradientError>>(
        &self,
        questions: &[HybridQuestion<'_>],
        query: &GradientQuery,
        candidates: usize,
        cancel: &Cancel,
        mut take: impl FnMut(usize, &[f64]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.gradient_rows(query.column.as_deref())?;
        let (live, sample) = (rows.live_places(), sampled_places(&rows));
        for (number, question) in questions.iter().enumerate() {
            let (found, _) = self.candidates((&rows, &sample), question, query, candidates, cancel)?;
            let mut scores = vec![0.0; live.len()];
            for (place, score) in found.places.iter().zip(&found.scores) {
                if let Ok(at) = live.binary_search(place) {
                    scores[at] = *score;
                }
            }
            take(number, &scores)?;
        }
        Ok(())
    }

    fn candidates(
        &self,
        (rows, sample): (&GradientRows<'_>, &[usize]),
        question: &HybridQuestion<'_>,
        query: &GradientQuery,
        count: usize,
        cancel: &Cancel,
    ) -> Result<(Candidates, String), GradientError> {
        let learned = Query {
            k: count,
            side: Side::Proponents,
            filter: query.filter.clone(),
            column: question.column.map(str::to_owned),
            ..Query::new(question.embedding.clone())
        };
        let (ranked, column) = self.strongest(&learned, cancel)?;
        let place = |row: &ScoredRow| rows.place_of(row.segment, row.row);
        let mut places: Vec<usize> = ranked.proponents.iter().filter_map(place).collect();
        places.sort_unstable();
        self.inner.context.pool.install(|| {
            let curvature = self.curvature(rows, query.curvature)?;
            let asked = self.asked(rows, &[question.gradient], &query.only_members)?;
            let is_fitted =
                |place: &usize| curvature.fitted().is_some_and(|fitted| fitted.number(*place).is_some());
            let has_others = !places.iter().chain(sample).all(is_fitted);
            let mut scores = ask(rows, &curvature, &asked, query.wanted(), has_others, cancel)?;
            let Some(scores) = scores.pop() else {
                return Err(GradientError::mismatch("nothing was asked"));
            };
            let (scores, moments) = of_candidates(scores, rows, &curvature, (&places, sample), cancel)?;
            Ok((Candidates { places, scores, moments, column }, curvature.title_now(rows)))
        })
    }
}

/// Scores of the candidates, and moments of those of the sample.
fn of_candidates(
    mut scores: QuestionScores,
    rows: &GradientRows<'_>,
    curvature: &OpenCurvature,
    (places, sample): (&[usize], &[usize]),
    cancel: &Cancel,
) -> Result<(Vec<f64>, Moments), GradientError> {
    let of_sample = scores.standardise_by(rows, curvature, sample, cancel)?;
    let moments = Moments::of(&ScoreChunk::all(RowId(0), &of_sample));
    Ok((scores.exact_scores(rows, curvature, places, cancel)?, moments))
}

/// Places of live rows that stand for all of them, ascending.
fn sampled_places(rows: &GradientRows<'_>) -> Vec<usize> {
    let live = rows.live_places();
    if live.len() <= SAMPLE_ROWS {
        return live;
    }
    let drawn = drawn_numbers(live.len() as u64, SAMPLE_ROWS, SAMPLE_SEED);
    let mut places: Vec<usize> = drawn.filter_map(|number| live.get(number as usize).copied()).collect();
    places.sort_unstable();
    places
}
