//! Rows found by embeddings or by codes, scored by gradients.

use std::time::Instant;

use super::answer::{Answer, Query, QueryInput, QueryStages};
use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_query::{GradientInput, GradientQuery};
use super::gradient_ranking::{Ranking, by_segment, select};
use super::gradient_rows::GradientRows;
use super::gradient_scores::{QuestionScores, ask};
use super::query_error::QueryError;
use super::scan::Keys;
use super::snapshot::Snapshot;
use crate::attribution::{Moments, ScoreChunk, ScoredRow, Selection, Side};
use crate::base::{Cancel, RowId, drawn_numbers};
use crate::format::ColumnKind;

/// Rows whose scores say how far those of a question spread, where there are more than these.
const SAMPLE_ROWS: usize = 2000;

/// Decides which rows those are.
const SAMPLE_SEED: u64 = 0x7370_7265_6164;

/// How candidates are found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HybridCandidates<'a> {
    /// The rows whose embeddings have the highest dot products with one.
    Embedding {
        /// The embedding, or what it is made of.
        input: QueryInput,
        /// The embedding column; `None`: the only one.
        column: Option<&'a str>,
    },
    /// The rows at the wanted ends by 8-bit codes of their half-whitened gradients, which a fit may keep
    /// ([`FitOptions::codes`](super::FitOptions::codes)); half of them at each end where both are wanted.
    Codes,
}

/// A question: some rows are candidates, and their gradient scores decide.
#[derive(Clone)]
pub struct HybridQuestion<'a> {
    /// How candidates are found.
    pub candidates: HybridCandidates<'a>,
    /// What they are scored by.
    pub gradient: GradientInput<'a>,
}

/// The candidates of a question: their places, ascending, and scores.
struct Candidates {
    places: Vec<usize>,
    scores: Vec<f64>,
    /// Of the scores of some rows.
    moments: Moments,
    /// How they were found.
    found: String,
}

impl Snapshot {
    /// Whether a column of the store holds embeddings.
    pub fn has_embeddings(&self) -> bool {
        let mut columns = self.inner.state.store.columns.iter();
        columns.any(|column| matches!(column.kind, ColumnKind::Embedding(_)))
    }

    /// Whether the curvature that a question asks keeps codes, by which candidates can be found.
    ///
    /// # Errors
    /// There is no such curvature, or its file is damaged.
    pub fn has_codes(&self, query: &GradientQuery) -> Result<bool, GradientError> {
        let rows = self.gradient_rows(query.column.as_deref())?;
        let curvature = self.inner.context.pool.install(|| self.curvature(&rows, query.curvature))?;
        Ok(curvature.head.codes > 0)
    }

    /// The rows with the strongest influence on each question, among as many candidates as are told, of the rows that pass the
    /// filter.
    ///
    /// Candidates' scores are those of [`query_gradients`](Self::query_gradients) but for the means and deviations of members, which
    /// are those of some thousand rows drawn by a fixed seed (of all where there are no more).
    ///
    /// # Errors
    /// See [`GradientError`]; parts of layers and predicted changes are not told.
    ///
    /// # Complexity
    /// That of a learned query, or a byte for each row, member and coordinate by codes; and O(candidates x parameters) a member, in the dual
    /// form O(candidates x rows of the fit).
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
                plan_reason: format!("{} candidates by {}", found.places.len(), found.found),
                rows: live,
                eligible_rows: found.places.len() as u64,
                segments: rows.segments.len(),
                bytes: 0,
                rows_by_codes: match question.candidates {
                    HybridCandidates::Codes => live,
                    HybridCandidates::Embedding { .. } => 0,
                },
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
        let by_embedding = match &question.candidates {
            HybridCandidates::Embedding { input, column } => {
                Some(self.near_places(rows, (input, *column), query, count, cancel)?)
            }
            HybridCandidates::Codes => None,
        };
        self.inner.context.pool.install(|| {
            let curvature = self.curvature(rows, query.curvature)?;
            let asked = self.asked(rows, &[question.gradient], &query.only_members)?;
            let is_fitted =
                |place: &usize| curvature.fitted().is_some_and(|fitted| fitted.number(*place).is_some());
            let has_others = match &by_embedding {
                Some((places, _)) => !places.iter().chain(sample).all(is_fitted),
                None => curvature.fitted().is_none_or(|fitted| (fitted.rows() as u64) < rows.live_rows()),
            };
            let mut scores = ask(rows, &curvature, &asked, query.wanted(), has_others, cancel)?;
            let Some(mut scores) = scores.pop() else {
                return Err(GradientError::mismatch("nothing was asked"));
            };
            let (places, found) = match by_embedding {
                Some((places, column)) => (places, format!("embedding column {column:?}")),
                None => {
                    let (side, k) = (query.side, count);
                    let asked = (&asked, 0);
                    let curvature = &*curvature;
                    let ranking = Ranking { snapshot: self, rows, curvature, side, k, asked, cancel };
                    let coordinates = curvature.head.codes;
                    let places = by_codes(&ranking, &mut scores, query.filter.as_deref())?;
                    (places, format!("codes of {coordinates} coordinates"))
                }
            };
            let (scores, moments) = of_candidates(scores, rows, &curvature, (&places, sample), cancel)?;
            Ok((Candidates { places, scores, moments, found }, curvature.title_now(rows)?))
        })
    }

    /// Places of the rows whose embeddings are most like one, ascending, and the name of their column.
    fn near_places(
        &self,
        rows: &GradientRows<'_>,
        (input, column): (&QueryInput, Option<&str>),
        query: &GradientQuery,
        count: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<usize>, String), GradientError> {
        let learned = Query {
            k: count,
            side: Side::Proponents,
            filter: query.filter.clone(),
            column: column.map(str::to_owned),
            ..Query::new(input.clone())
        };
        let (ranked, column) = self.strongest(&learned, cancel)?;
        let place = |row: &ScoredRow| rows.place_of(row.segment, row.row);
        let mut places: Vec<usize> = ranked.proponents.iter().filter_map(place).collect();
        places.sort_unstable();
        Ok((places, column))
    }
}

/// Places of the rows at the wanted ends by their codes, ascending.
fn by_codes(
    ranking: &Ranking<'_>,
    scores: &mut QuestionScores,
    filter: Option<&str>,
) -> Result<Vec<usize>, GradientError> {
    let Ranking { snapshot, rows, curvature, side, k, asked: (asked, _), cancel } = ranking;
    let raw = curvature.code_scores(rows, asked, cancel)?;
    scores.take_raw(raw, rows, curvature, cancel)?;
    let has_both = side.has_proponents() && side.has_opponents();
    let count = if has_both { k.div_ceil(2) } else { *k };
    let eligible = snapshot.chosen_rows(rows, filter)?;
    let ranked = select(ranking, &by_segment(ranking, scores), &eligible, count)?;
    let hits = ranked.proponents.iter().chain(&ranked.opponents);
    let mut places: Vec<usize> = hits.filter_map(|row| rows.place_of(row.segment, row.row)).collect();
    places.sort_unstable();
    places.dedup();
    Ok(places)
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
