//! Scores of all rows of a snapshot, and the rows of both ends.
//!
//! Where a segment has an index its rows are scored by their codes, each to a margin; those that may be among the best are then
//! scored exactly, as are those that may lie on either side of a chosen one. So scores, ranks and percentiles are those of a scan over
//! all stored values; mean and deviation are taken from scores by codes, which are off by some thousandths of a deviation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::query_error::QueryError;
use super::segment::{ScannedCodes, ScannedColumn, SegmentView};
use super::snapshot::Snapshot;
use super::target::{ENDS, Question, Target, limits};
use super::walk::walk_targets;
use crate::attribution::{KeyLookup, RankedRows, ScoredRow, Selection};
use crate::base::limits::{RESCORE_ROWS, SCAN_CHUNK_ROWS};
use crate::base::{Cancel, RowId};
use crate::index::{
    Candidate, Candidates, CodeScorer, RowScorer, ScanError, Threshold, WalkCounts, score_rows,
};
use crate::kernels::CodeQueries;
use crate::storage::FileError;

/// Keys of the snapshot's rows, for ties.
struct Keys<'a>(&'a [SegmentView]);

impl KeyLookup for Keys<'_> {
    type Error = FileError;

    fn key(&self, segment: usize, row: RowId) -> Result<&str, FileError> {
        self.0[segment].segment.rows.key(row)
    }
}

/// Scores of all rows of the targets, deleted ones included.
pub(super) struct Scan<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) targets: &'a [Target<'a>],
    /// For each target whether all of its rows were scored.
    pub(super) is_scanned: Vec<bool>,
    walks: WalkCounts,
    /// For each target one score a row, exact or by codes; none where its graph was walked.
    pub(super) scores: Vec<Vec<f64>>,
    /// For each target the scores by codes of some rows, where its graph was walked.
    pub(super) samples: Vec<Vec<f64>>,
    /// By how much each score may be off, where a filter chooses: rows from the middle of all scores have neighbours that
    /// are no candidates.
    pub(super) margins: Vec<Vec<f64>>,
    /// Rows that may be among the best, for each end.
    candidates: [Vec<Candidate>; 2],
    rescored_bytes: u64,
    rescored_rows: u64,
}

/// Rows that memory is asked for ahead of the one that is scored exactly.
const ROWS_AHEAD: usize = 2;

/// Consecutive rows of a target, and where their scores go: one place for each question.
struct Part<'a> {
    number: usize,
    first: RowId,
    outs: Vec<Out<'a>>,
}

struct Out<'a> {
    scores: &'a mut [f64],
    margins: Option<&'a mut [f64]>,
}

impl<'a> Scan<'a> {
    /// Scores all rows of the targets for each of at most [`CODE_QUERIES_MAX`](crate::kernels::CODE_QUERIES_MAX)
    /// questions, in one pass over the codes, or walks over their graphs. `None` if rows have to be scanned and
    /// `may_scan` is false.
    pub(super) fn run(
        snapshot: &'a Snapshot,
        targets: &'a [Target<'a>],
        questions: &[Question<'_>],
        may_scan: bool,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Self>>, QueryError> {
        let thresholds: Vec<[Threshold; 2]> = questions.iter().map(|_| Default::default()).collect();
        let none = || -> Vec<[Candidates; 2]> {
            questions.iter().map(|question| limits(question.side, question.k).map(Candidates::new)).collect()
        };
        let walked = walk_targets(snapshot, targets, questions, none(), &thresholds, cancel);
        if cancel.is_cancelled() {
            return Err(QueryError::Cancelled);
        }
        let buffers = &snapshot.inner.context.buffers;
        let is_scanned = &walked.is_scanned;
        if !may_scan && is_scanned.contains(&true) {
            return Ok(None);
        }
        let rows = |number: usize| if is_scanned[number] { targets[number].rows() as usize } else { 0 };
        let has_margins = |number: usize| targets[number].eligible.is_some();
        let mut scans: Vec<Self> = walked
            .counts
            .iter()
            .map(|counts| Self {
                snapshot,
                targets,
                is_scanned: is_scanned.clone(),
                walks: *counts,
                scores: (0..targets.len()).map(|number| buffers.take(rows(number))).collect(),
                samples: vec![Vec::new(); targets.len()],
                margins: (0..targets.len())
                    .map(|number| vec![0.0; if has_margins(number) { rows(number) } else { 0 }])
                    .collect(),
                candidates: [Vec::new(), Vec::new()],
                rescored_bytes: 0,
                rescored_rows: 0,
            })
            .collect();
        let found = if is_scanned.contains(&true) {
            scan_targets(snapshot, targets, questions, parts(&mut scans), none, &thresholds, cancel)?
        } else {
            none()
        };
        Self::take_samples(&mut scans, questions);
        let ends = found.into_iter().zip(walked.candidates).zip(&thresholds);
        for (scan, ((mut found, walked), thresholds)) in scans.iter_mut().zip(ends) {
            for ((found, walked), threshold) in found.iter_mut().zip(walked).zip(thresholds) {
                found.merge(walked, threshold);
            }
            let [proponents, opponents] = found;
            scan.candidates = [proponents.into_ranked(&thresholds[0]), opponents.into_ranked(&thresholds[1])];
        }
        Ok(Some(scans))
    }

    /// Scores candidates exactly, and chooses among them.
    pub(super) fn choose(
        &mut self,
        question: &Question<'_>,
        empty: Selection,
        cancel: &Cancel,
    ) -> Result<RankedRows, QueryError> {
        let keys = Keys(&self.snapshot.inner.segments);
        let mut selection = empty;
        for (end, sign) in ENDS.into_iter().enumerate() {
            let candidates = std::mem::take(&mut self.candidates[end]);
            // Exact scores of the best so far, lowest on top, in the order of their bits: none is negative.
            let mut best = BinaryHeap::new();
            for batch in candidates.chunks(RESCORE_ROWS.max(question.k)) {
                if cancel.is_cancelled() {
                    return Err(QueryError::Cancelled);
                }
                let reached = |least: &Reverse<u64>| batch[0].upper >= f64::from_bits(least.0);
                if best.len() == question.k && !best.peek().is_some_and(reached) {
                    break;
                }
                let exact = self.rescore(question, batch)?;
                for (candidate, score) in batch.iter().zip(exact) {
                    if let Some(kept) = self.scores[candidate.target].get_mut(candidate.row.0 as usize) {
                        *kept = score;
                    }
                    // A row near 0 may be a candidate of both ends.
                    if score * sign <= 0.0 {
                        continue;
                    }
                    best.push(Reverse((score * sign).to_bits()));
                    if best.len() > question.k {
                        best.pop();
                    }
                    let segment = self.targets[candidate.target].position;
                    selection.push(ScoredRow { segment, row: candidate.row, score }, &keys)?;
                }
            }
        }
        Ok(selection.into_ranked(&keys)?)
    }

    pub(super) fn rescore(
        &mut self,
        question: &Question<'_>,
        rows: &[Candidate],
    ) -> Result<Vec<f64>, QueryError> {
        let (targets, scores) = (self.targets, &self.scores);
        let kernels = self.snapshot.inner.context.kernels;
        let some = |rows: &[Candidate]| {
            let columns: Vec<ScannedColumn<'_>> =
                targets.iter().map(|target| ScannedColumn(target.column)).collect();
            let mut scorers: Vec<Option<RowScorer<'_, _>>> = targets.iter().map(|_| None).collect();
            let mut exact = Vec::with_capacity(rows.len());
            for (place, candidate) in rows.iter().enumerate() {
                if let Some(later) = rows.get(place + ROWS_AHEAD) {
                    kernels.prefetch(targets[later.target].column.place(later.row));
                }
                let number = candidate.target;
                if targets[number].index.is_none() {
                    exact.push(scores[number][candidate.row.0 as usize]);
                    continue;
                }
                let scorer = match &mut scorers[number] {
                    Some(scorer) => scorer,
                    empty => empty.insert(RowScorer::new(
                        kernels,
                        question.vector,
                        question.kind,
                        &columns[number],
                    )?),
                };
                let mut score = [0.0];
                scorer.score(candidate.row, &mut score)?;
                exact.push(score[0]);
            }
            Ok::<_, ScanError<FileError>>(exact)
        };
        for candidate in rows {
            let target = &targets[candidate.target];
            if target.index.is_some() {
                self.rescored_rows += 1;
                self.rescored_bytes += target.column.header().row_size_bytes() as u64;
            }
        }
        if rows.len() <= RESCORE_ROWS {
            return Ok(some(rows)?);
        }
        let parts = self
            .snapshot
            .inner
            .context
            .pool
            .install(|| rows.par_chunks(RESCORE_ROWS).map(some).collect::<Result<Vec<_>, _>>())?;
        Ok(parts.concat())
    }

    /// Bytes of values and codes that were looked at.
    pub(super) fn bytes(&self) -> u64 {
        let of_target = |target: &Target<'_>| match &target.index {
            Some(index) => index.header().content_length(),
            None => target.column.header().values_length(),
        };
        self.rescored_bytes + self.targets.iter().map(of_target).sum::<u64>()
    }

    /// Whether a graph was walked.
    pub(super) fn has_walked(&self) -> bool {
        self.is_scanned.contains(&false)
    }

    /// Rows whose links were followed.
    pub(super) fn hops(&self) -> u64 {
        self.walks.hops
    }

    /// Rows that were scored by their codes.
    pub(super) fn rows_by_codes(&self) -> u64 {
        let scanned = self.targets.iter().zip(&self.is_scanned).filter(|(_, is_scanned)| **is_scanned);
        let coded = scanned.filter(|(target, _)| target.index.is_some());
        self.walks.rows + coded.map(|(target, _)| u64::from(target.rows())).sum::<u64>()
    }

    /// Rows that were scored exactly.
    pub(super) fn rows_exact(&self) -> u64 {
        let plain = self.targets.iter().filter(|target| target.index.is_none());
        self.rescored_rows + plain.map(|target| u64::from(target.rows())).sum::<u64>()
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        let buffers = &self.snapshot.inner.context.buffers;
        self.scores.drain(..).for_each(|scores| buffers.give_back(scores));
    }
}

/// Scores the parts, and gives the candidates of both ends for each question.
fn scan_targets(
    snapshot: &Snapshot,
    targets: &[Target<'_>],
    questions: &[Question<'_>],
    parts: Vec<Part<'_>>,
    none: impl Fn() -> Vec<[Candidates; 2]> + Sync,
    thresholds: &[[Threshold; 2]],
    cancel: &Cancel,
) -> Result<Vec<[Candidates; 2]>, QueryError> {
    let codes = Question::joined_codes(questions)
        .map_err(|error| QueryError::Vector { reason: error.to_string() })?;
    snapshot.inner.context.pool.install(|| {
        parts
            .into_par_iter()
            .try_fold(&none, |mut candidates, part| {
                if cancel.is_cancelled() {
                    return Err(QueryError::Cancelled);
                }
                if let Some(pace) = &snapshot.inner.context.pace {
                    pace.keep();
                }
                let target = &targets[part.number];
                score_part(snapshot, target, questions, &codes, part, &mut candidates, thresholds)?;
                Ok(candidates)
            })
            .try_reduce(&none, |mut left, right| {
                for (question, ends) in right.into_iter().enumerate() {
                    for (end, candidates) in ends.into_iter().enumerate() {
                        left[question][end].merge(candidates, &thresholds[question][end]);
                    }
                }
                Ok(left)
            })
    })
}

/// The rows of all targets in parts of [`SCAN_CHUNK_ROWS`].
fn parts<'a>(scans: &'a mut [Scan<'_>]) -> Vec<Part<'a>> {
    let size = SCAN_CHUNK_ROWS as usize;
    let mut chunks: Vec<Vec<_>> = scans
        .iter_mut()
        .map(|scan| {
            let scores = scan.scores.iter_mut().map(|scores| scores.chunks_mut(size));
            scores.zip(scan.margins.iter_mut().map(|margins| margins.chunks_mut(size))).collect()
        })
        .collect();
    let mut parts = Vec::new();
    for number in 0..chunks.first().map_or(0, Vec::len) {
        for chunk in 0.. {
            let outs: Vec<Out<'a>> = chunks
                .iter_mut()
                .filter_map(|targets| {
                    let (scores, margins) = &mut targets[number];
                    Some(Out { scores: scores.next()?, margins: margins.next() })
                })
                .collect();
            if outs.is_empty() {
                break;
            }
            parts.push(Part { number, first: RowId(chunk * SCAN_CHUNK_ROWS), outs });
        }
    }
    parts
}

/// Scores a part for each question, and offers its rows to both ends.
fn score_part(
    snapshot: &Snapshot,
    target: &Target<'_>,
    questions: &[Question<'_>],
    codes: &CodeQueries,
    part: Part<'_>,
    candidates: &mut [[Candidates; 2]],
    thresholds: &[[Threshold; 2]],
) -> Result<(), QueryError> {
    let kernels = snapshot.inner.context.kernels;
    let count = part.outs.first().map_or(0, |out| out.scores.len());
    let scanned = target.index.as_deref().map(ScannedCodes::of);
    let mut scorer = scanned.as_ref().and_then(|scanned| {
        let mut scorer = CodeScorer::new(kernels, codes, scanned).ok()?;
        scorer.read(part.first, count as u32).ok()?;
        Some(scorer)
    });
    for (number, (question, out)) in questions.iter().zip(part.outs).enumerate() {
        let mut margins = [0.0; SCAN_CHUNK_ROWS as usize];
        let margins = &mut margins[..count];
        let by_codes = scorer.as_ref().map(|scorer| scorer.score(number, question.kind, out.scores, margins));
        if !matches!(by_codes, Some(Ok(()))) {
            // An index only makes answers faster: without it the stored values are read.
            if target.index.is_some() {
                target.view.segment.indexes.give_up(target.column.header().column);
                scorer = None;
            }
            margins.fill(0.0);
            let column = ScannedColumn(target.column);
            score_rows(kernels, question.vector, question.kind, &column, part.first, out.scores)?;
        }
        offer(
            part.number,
            target,
            part.first,
            out.scores,
            margins,
            &mut candidates[number],
            &thresholds[number],
        );
        if let Some(kept) = out.margins {
            kept.copy_from_slice(margins);
        }
    }
    Ok(())
}

/// Rows that are looked at together before any is looked at alone.
pub(super) const GROUP_ROWS: usize = 16;

/// Offers the rows that may be chosen to both ends.
fn offer(
    number: usize,
    target: &Target<'_>,
    first: RowId,
    scores: &[f64],
    margins: &[f64],
    candidates: &mut [Candidates; 2],
    thresholds: &[Threshold; 2],
) {
    let [proponents, opponents] = candidates;
    let chosen = target.chosen_from();
    let groups = scores.chunks(GROUP_ROWS).zip(margins.chunks(GROUP_ROWS));
    for ((scores, margins), group) in groups.zip(0_u32..) {
        let reach = scores.iter().zip(margins).fold(0.0, |most: f64, (score, margin)| {
            let reach = score.abs() + margin;
            if reach > most { reach } else { most }
        });
        let wanted = |end: usize, candidates: &Candidates| {
            if candidates.is_wanted() { thresholds[end].get() } else { f64::INFINITY }
        };
        // Most groups have no row that reaches either end.
        if reach < wanted(0, proponents).min(wanted(1, opponents)) {
            continue;
        }
        let rows = first.0 + group * GROUP_ROWS as u32..;
        for ((&score, &margin), row) in scores.iter().zip(margins).zip(rows) {
            let row = RowId(row);
            let reaches = score + margin >= thresholds[0].get() || margin - score >= thresholds[1].get();
            if reaches && chosen.is_none_or(|chosen| chosen.contains(row)) {
                proponents.offer(number, row, score, margin, &thresholds[0]);
                opponents.offer(number, row, -score, margin, &thresholds[1]);
            }
        }
    }
}
