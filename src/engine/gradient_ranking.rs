//! The rows at both ends, where scores of all rows are known nearly: candidates by these, then their scores in f64.

use super::gradient_error::GradientError;
use super::gradient_query::Asker;
use super::gradient_question::{Precision, Wanted};
use super::gradient_scores::{QuestionScores, scores};
use super::query_error::QueryError;
use super::scan::Keys;
use crate::attribution::{RankedRows, ScoreChunk, ScoredRow, Selection};
use crate::base::limits::ANSWER_ROWS_MAX;
use crate::base::{RowId, RowSet};

/// Candidates at each end beyond the rows that are asked for, at first.
const CANDIDATES_MORE: usize = 5;

/// Candidates at each end beyond which all rows are scored in f64 instead.
const CANDIDATES_MAX: usize = 4096;

/// How far a score of a row that is no candidate may be off, as a multiple of what the candidates are off by at most.
const ERROR_FACTOR: f64 = 4.0;

/// Scores of the rows of each segment.
type SegmentScores = Vec<Vec<f64>>;

/// The strongest of the eligible rows at both ends, with their scores in f64, and the scores of all rows as they are known.
///
/// Rows that may be among them are those whose near score is not below that of the last one by more than near scores are seen
/// to be off; more are looked at until that is so.
pub(super) fn rank(
    asker: &Asker<'_>,
    scores: &mut QuestionScores,
    eligible: &[RowSet],
) -> Result<(RankedRows, SegmentScores), GradientError> {
    let count: u64 = eligible.iter().map(RowSet::len).sum();
    let k = asker.query.k;
    // Refuses a number of rows that no answer may hold before anything else.
    Selection::new(asker.query.side, k).map_err(QueryError::from)?;
    let mut wanted = k.saturating_add(CANDIDATES_MORE);
    let mut all = by_segment(asker, scores);
    while !scores.is_exact() {
        let is_whole = count <= 4 * wanted as u64;
        let candidates =
            if is_whole { every(asker, eligible, &all) } else { select(asker, &all, eligible, wanted)? };
        let rows: Vec<ScoredRow> =
            candidates.proponents.iter().chain(&candidates.opponents).copied().collect();
        let places =
            rows.iter().filter_map(|row| asker.rows.place_of(row.segment, row.row)).collect::<Vec<_>>();
        let exact = scores.exact_scores(asker.rows, asker.curvature, &places, asker.cancel)?;
        let errors = exact.iter().zip(&rows).map(|(exact, row)| (exact - row.score).abs());
        let slack = ERROR_FACTOR * errors.fold(0.0, f64::max);
        let (proponents, opponents) = exact.split_at(candidates.proponents.len());
        let is_settled = |rows: &[ScoredRow], exact: &[f64]| {
            let mut sizes: Vec<f64> = exact.iter().map(|score| score.abs()).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            let (last, least) = (rows.last().map_or(0.0, |row| row.score.abs()), sizes.get(k - 1));
            rows.len() == wanted && least.is_some_and(|least| *least > last + slack)
        };
        let has = asker.query.side;
        if is_whole
            || ((!has.has_proponents() || is_settled(&candidates.proponents, proponents))
                && (!has.has_opponents() || is_settled(&candidates.opponents, opponents)))
        {
            let chosen = put(asker, &mut all, &rows, &exact);
            return Ok((select(asker, &all, &chosen, k)?, all));
        }
        wanted *= 4;
        if wanted > CANDIDATES_MAX.min(ANSWER_ROWS_MAX) {
            let (asked, number) = asker.asked;
            let exactly = Wanted { precision: Precision::Exact, ..scores.wanted() };
            let mut found =
                self::scores(asker.rows, asker.curvature, &asked.one(number), exactly, asker.cancel)?;
            let Some(found) = found.pop() else { break };
            *scores = found;
            all = by_segment(asker, scores);
        }
    }
    Ok((select(asker, &all, eligible, k)?, all))
}

fn by_segment(asker: &Asker<'_>, scores: &QuestionScores) -> SegmentScores {
    asker.rows.segments.iter().map(|segment| scores.of_segment(segment)).collect()
}

/// The strongest rows at each end by the scores given.
fn select(
    asker: &Asker<'_>,
    all: &[Vec<f64>],
    eligible: &[RowSet],
    count: usize,
) -> Result<RankedRows, GradientError> {
    let mut selection = Selection::new(asker.query.side, count).map_err(QueryError::from)?;
    let keys = Keys(&asker.snapshot.inner.segments);
    for ((segment, eligible), own) in asker.rows.segments.iter().zip(eligible).zip(all) {
        selection.push_chunk(segment.position, &ScoreChunk::of_live(RowId(0), own, Some(eligible)), &keys)?;
    }
    Ok(selection.into_ranked(&keys)?)
}

/// All eligible rows, whatever they score.
fn every(asker: &Asker<'_>, eligible: &[RowSet], all: &[Vec<f64>]) -> RankedRows {
    let mut proponents = Vec::new();
    for ((segment, eligible), own) in asker.rows.segments.iter().zip(eligible).zip(all) {
        let row = |row: RowId| ScoredRow { segment: segment.position, row, score: own[row.0 as usize] };
        proponents.extend(eligible.iter().map(row));
    }
    RankedRows { proponents, opponents: Vec::new() }
}

/// Puts the candidates' scores in f64 in place of the near ones; the rows of each segment that are candidates.
fn put(asker: &Asker<'_>, all: &mut [Vec<f64>], rows: &[ScoredRow], exact: &[f64]) -> Vec<RowSet> {
    let mut chosen = vec![RowSet::default(); all.len()];
    for (row, score) in rows.iter().zip(exact) {
        let number = asker.rows.segments.iter().position(|segment| segment.position == row.segment);
        if let Some(number) = number {
            all[number][row.row.0 as usize] = *score;
            chosen[number].insert(row.row);
        }
    }
    chosen
}
