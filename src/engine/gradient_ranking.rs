//! The rows at both ends, where scores of all rows are known nearly: candidates by these, then their scores in f64.

use rayon::prelude::*;

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_question::{AskedGradients, Precision, Wanted};
use super::gradient_rows::GradientRows;
use super::gradient_scores::{CHUNK_ROWS, QuestionScores, scores};
use super::query_error::QueryError;
use super::scan::Keys;
use super::snapshot::Snapshot;
use crate::attribution::{Moments, RankCounter, RankedRows, ScoreChunk, ScoredRow, Selection, Side};
use crate::base::limits::ANSWER_ROWS_MAX;
use crate::base::{Cancel, RowId, RowSet};

/// Candidates at each end beyond the rows that are asked for, at first.
const CANDIDATES_MORE: usize = 5;

/// Candidates at each end beyond which all rows are scored in f64 instead.
const CANDIDATES_MAX: usize = 4096;

/// How far a score of a row that is no candidate may be off, as a multiple of what the candidates are off by at most.
const ERROR_FACTOR: f64 = 4.0;

/// A question whose rows are ranked.
pub(super) struct Ranking<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) rows: &'a GradientRows<'a>,
    pub(super) curvature: &'a OpenCurvature,
    pub(super) side: Side,
    pub(super) k: usize,
    /// The gradients, and which of them is asked about.
    pub(super) asked: (&'a AskedGradients, usize),
    pub(super) cancel: &'a Cancel,
}

/// Scores of the rows of each segment.
pub(super) type SegmentScores = Vec<Vec<f64>>;

/// The strongest of the eligible rows at both ends, with their scores in f64; the scores of all rows as they are known, and their
/// mean and deviation.
///
/// Rows that may be among them are those whose near score is not below that of the last one by more than near scores are seen
/// to be off; more are looked at until that is so.
pub(super) fn rank(
    ranking: &Ranking<'_>,
    scores: &mut QuestionScores,
    eligible: &[RowSet],
) -> Result<(RankedRows, SegmentScores, Moments), GradientError> {
    let count: u64 = eligible.iter().map(RowSet::len).sum();
    let k = ranking.k;
    // Refuses a number of rows that no answer may hold before anything else.
    Selection::new(ranking.side, k).map_err(QueryError::from)?;
    let mut wanted = (k + CANDIDATES_MORE).min(ANSWER_ROWS_MAX);
    let mut all = by_segment(ranking, scores);
    // Of the scores as they are known of all rows: which of them are looked at closely depends on the filter.
    let mut moments = moments_of(ranking, &all);
    while !scores.is_exact() {
        let is_whole = count <= 4 * wanted as u64;
        let candidates =
            if is_whole { every(ranking, eligible, &all) } else { select(ranking, &all, eligible, wanted)? };
        let rows: Vec<ScoredRow> =
            candidates.proponents.iter().chain(&candidates.opponents).copied().collect();
        let places =
            rows.iter().filter_map(|row| ranking.rows.place_of(row.segment, row.row)).collect::<Vec<_>>();
        let exact = scores.exact_scores(ranking.rows, ranking.curvature, &places, ranking.cancel)?;
        let errors = exact.iter().zip(&rows).map(|(exact, row)| (exact - row.score).abs());
        let slack = ERROR_FACTOR * errors.fold(0.0, f64::max);
        let (proponents, opponents) = exact.split_at(candidates.proponents.len());
        let is_settled = |rows: &[ScoredRow], exact: &[f64]| {
            let mut sizes: Vec<f64> = exact.iter().map(|score| score.abs()).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            let (last, least) = (rows.last().map_or(0.0, |row| row.score.abs()), sizes.get(k - 1));
            rows.len() == wanted && least.is_some_and(|least| *least > last + slack)
        };
        let has = ranking.side;
        if is_whole
            || ((!has.has_proponents() || is_settled(&candidates.proponents, proponents))
                && (!has.has_opponents() || is_settled(&candidates.opponents, opponents)))
        {
            let chosen = put(ranking, &mut all, &rows, &exact);
            return Ok((select(ranking, &all, &chosen, k)?, all, moments));
        }
        wanted *= 4;
        if wanted > CANDIDATES_MAX.min(ANSWER_ROWS_MAX) {
            let (asked, number) = ranking.asked;
            let exactly = Wanted { precision: Precision::Exact, ..scores.wanted() };
            let mut found =
                self::scores(ranking.rows, ranking.curvature, &asked.one(number), exactly, ranking.cancel)?;
            let Some(found) = found.pop() else { break };
            *scores = found;
            all = by_segment(ranking, scores);
            moments = moments_of(ranking, &all);
        }
    }
    Ok((select(ranking, &all, eligible, k)?, all, moments))
}

/// Mean and deviation of the scores of all live rows.
fn moments_of(ranking: &Ranking<'_>, all: &[Vec<f64>]) -> Moments {
    let mut moments = Moments::new();
    let live = |number: usize| ranking.rows.segments[number].view.live.as_deref();
    for_chunks(all, live, |_, chunk| Moments::of(&chunk)).iter().for_each(|part| moments.merge(part));
    moments
}

/// Where the scores that are shown stand among those of all live rows.
pub(super) fn counted(ranking: &Ranking<'_>, all: &[Vec<f64>], shown: &[f64]) -> RankCounter {
    let mut counter = RankCounter::new(shown);
    let live = |number: usize| ranking.rows.segments[number].view.live.as_deref();
    let parts = for_chunks(all, live, |_, chunk| {
        let mut part = RankCounter::new(shown);
        part.add(&chunk);
        part
    });
    // All count the same scores, so that they can be put together.
    parts.iter().for_each(|part| drop(counter.merge(part)));
    counter
}

/// Hands scores to `work`, some thousand at a time and in parallel, with the number of their segment: of the rows that `rows`
/// names for it, or of all. The results are in the order of the rows.
fn for_chunks<'a, T: Send>(
    all: &'a [Vec<f64>],
    rows: impl Fn(usize) -> Option<&'a RowSet>,
    work: impl Fn(usize, ScoreChunk<'_>) -> T + Sync,
) -> Vec<T> {
    let mut results = Vec::new();
    for (number, own) in all.iter().enumerate() {
        let rows = rows(number);
        let chunks = own.par_chunks(CHUNK_ROWS).enumerate();
        let parts = chunks.map(|(part, scores)| {
            work(number, ScoreChunk::of_live(RowId((part * CHUNK_ROWS) as u32), scores, rows))
        });
        results.extend(parts.collect::<Vec<T>>());
    }
    results
}

/// The scores as they are known, segment by segment.
pub(super) fn by_segment(ranking: &Ranking<'_>, scores: &QuestionScores) -> SegmentScores {
    ranking.rows.segments.iter().map(|segment| scores.of_segment(segment)).collect()
}

/// The strongest rows at each end by the scores given.
pub(super) fn select(
    ranking: &Ranking<'_>,
    all: &[Vec<f64>],
    eligible: &[RowSet],
    count: usize,
) -> Result<RankedRows, GradientError> {
    let keys = Keys(&ranking.snapshot.inner.segments);
    let empty = || Selection::new(ranking.side, count).map_err(QueryError::from);
    let parts = for_chunks(
        all,
        |number| eligible.get(number),
        |number, chunk| {
            let mut selection = empty()?;
            selection.push_chunk(ranking.rows.segments[number].position, &chunk, &keys)?;
            Ok::<_, GradientError>(selection)
        },
    );
    let mut selection = empty()?;
    for part in parts {
        selection.merge(&part?, &keys)?;
    }
    Ok(selection.into_ranked(&keys)?)
}

/// All eligible rows, whatever they score.
fn every(ranking: &Ranking<'_>, eligible: &[RowSet], all: &[Vec<f64>]) -> RankedRows {
    let mut proponents = Vec::new();
    for ((segment, eligible), own) in ranking.rows.segments.iter().zip(eligible).zip(all) {
        let row = |row: RowId| ScoredRow { segment: segment.position, row, score: own[row.0 as usize] };
        proponents.extend(eligible.iter().map(row));
    }
    RankedRows { proponents, opponents: Vec::new() }
}

/// Puts the candidates' scores in f64 in place of the near ones; the rows of each segment that are candidates.
fn put(ranking: &Ranking<'_>, all: &mut [Vec<f64>], rows: &[ScoredRow], exact: &[f64]) -> Vec<RowSet> {
    let mut chosen = vec![RowSet::default(); all.len()];
    for (row, score) in rows.iter().zip(exact) {
        let number = ranking.rows.segments.iter().position(|segment| segment.position == row.segment);
        if let Some(number) = number {
            all[number][row.row.0 as usize] = *score;
            chosen[number].insert(row.row);
        }
    }
    chosen
}
