//! Scores of all rows of a snapshot, and the rows of both ends.
//!
//! Where a segment has an index its rows are scored by their codes, each to a margin (of coarse codes first, where all live rows
//! may be chosen); those that may be among the best are then scored exactly, as are those that may lie on either side of a chosen
//! one. So scores, ranks and percentiles are those of a scan over
//! all stored values; mean and deviation are taken from scores by codes, which are off by some thousandths of a deviation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::coarse_pass::{CoarsePass, Sifted};
use super::query_error::QueryError;
use super::scanning::{Scanning, offer};
use super::segment::{ScannedCodes, ScannedColumn, SegmentView};
use super::snapshot::Snapshot;
use super::target::{Access, ENDS, Question, Target};
use super::walk::walk_targets;
use crate::attribution::{KeyLookup, Moments, RankedRows, ScoredRow, Selection};
use crate::base::limits::{RESCORE_ROWS, SCAN_CHUNK_ROWS};
use crate::base::{Cancel, RowId};
use crate::index::{
    Candidate, Candidates, CodeScorer, RowScorer, ScanError, Threshold, WalkCounts, score_rows,
};
use crate::kernels::{CodeQueries, KernelError};
use crate::storage::FileError;

/// Keys of the snapshot's rows, for ties.
pub(super) struct Keys<'a>(pub(super) &'a [SegmentView]);

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
    /// For each target one score a row, exact or by codes; none where not all rows were scored, or scores are
    /// forgotten.
    pub(super) scores: Vec<Vec<f64>>,
    /// For each target the scores by codes of some rows, where the rows of one were not all scored and its own are not kept.
    pub(super) samples: Vec<Vec<f64>>,
    /// By how much each score may be off, where a filter chooses: rows from the middle of all scores have neighbours that
    /// are no candidates.
    pub(super) margins: Vec<Vec<f64>>,
    /// Rows that may be among the best, for each end.
    candidates: [Vec<Candidate>; 2],
    /// For each target whose coarse codes were looked at the moments of its live rows, part by part.
    pub(super) moments: Vec<Vec<Moments>>,
    /// Exact scores of the rows of such targets that may be among the best, at the end where they may.
    pub(super) known: Vec<f64>,
    /// Bytes of codes of such targets that were looked at.
    code_bytes: u64,
    rescored_bytes: u64,
    rescored_rows: u64,
}

/// Rows that memory is asked for ahead of the one that is scored exactly.
const ROWS_AHEAD: usize = 4;

/// Candidates whose values memory is asked for as soon as they are known: of four questions they fit a near cache.
const ROWS_ASKED_FIRST: usize = 16;

/// Consecutive rows of a target, and where their scores go: one place for each question.
struct Part<'a> {
    number: usize,
    first: RowId,
    outs: Outs<'a>,
}

enum Outs<'a> {
    Scores(Vec<Out<'a>>),
    Moments(Vec<&'a mut Moments>),
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
        let walked = walk_targets(snapshot, targets, questions, &thresholds, cancel);
        if cancel.is_cancelled() {
            return Err(QueryError::Cancelled);
        }
        let buffers = &snapshot.inner.context.buffers;
        let is_scanned = &walked.is_scanned;
        if !may_scan && is_scanned.contains(&true) {
            return Ok(None);
        }
        let rows = |number: usize| {
            let target = &targets[number];
            if is_scanned[number] && !target.keeps_no_scores() { target.rows() as usize } else { 0 }
        };
        let parts_of = |number: usize| {
            let target = &targets[number];
            let rows = if is_scanned[number] && target.keeps_no_scores() { target.rows() } else { 0 };
            rows.div_ceil(SCAN_CHUNK_ROWS) as usize
        };
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
                moments: (0..targets.len()).map(|number| vec![Moments::new(); parts_of(number)]).collect(),
                known: Vec::new(),
                code_bytes: 0,
                rescored_bytes: 0,
                rescored_rows: 0,
            })
            .collect();
        let found = if is_scanned.contains(&true) {
            let scanning = Scanning { snapshot, targets, is_scanned, questions, thresholds: &thresholds };
            let (found, bytes) = scan_targets(scanning, parts(&mut scans), cancel)?;
            scans.iter_mut().zip(bytes).for_each(|(scan, bytes)| scan.code_bytes = bytes);
            found
        } else {
            questions.iter().map(Question::no_candidates).collect()
        };
        let ends = found.into_iter().zip(walked.candidates).zip(&thresholds);
        for (scan, ((mut found, walked), thresholds)) in scans.iter_mut().zip(ends) {
            for ((found, walked), threshold) in found.iter_mut().zip(walked).zip(thresholds) {
                found.merge(walked, threshold);
            }
            let [proponents, opponents] = found;
            scan.candidates = [proponents.into_ranked(&thresholds[0]), opponents.into_ranked(&thresholds[1])];
            scan.ask_for_first();
        }
        // Meanwhile memory answers.
        Self::take_samples(&mut scans, questions);
        Ok(Some(scans))
    }

    /// Asks memory for the values of the candidates that are scored exactly first.
    fn ask_for_first(&self) {
        for candidate in self.candidates.iter().flat_map(|end| end.iter().take(ROWS_ASKED_FIRST)) {
            let target = &self.targets[candidate.target];
            if target.index.is_some() {
                self.snapshot.inner.context.kernels.prefetch(target.column.place(candidate.row));
            }
        }
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
            let mut best = BinaryHeap::with_capacity(candidates.len().min(question.k) + 1);
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
                    if self.targets[candidate.target].keeps_no_scores() {
                        self.known.push(score);
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
            Some(_) if target.keeps_no_scores() => 0,
            Some(index) => index.header().codes_length() + 3 * index.header().numbers_length(),
            None => target.column.header().values_length(),
        };
        let row_bytes = self.targets.iter().filter_map(|target| target.index.as_ref());
        let row_bytes = row_bytes.map(|index| index.header().code_row_bytes()).max().unwrap_or(0);
        let scanned = self.targets.iter().zip(&self.is_scanned).filter(|(_, is_scanned)| **is_scanned);
        self.rescored_bytes
            + self.code_bytes
            + self.walks.rows * row_bytes
            + scanned.map(|(target, _)| of_target(target)).sum::<u64>()
    }

    /// Whether there are rows that were not scored.
    pub(super) fn is_partial(&self) -> bool {
        self.is_scanned.contains(&false)
    }

    /// How rows were found: by what leaves most of them out.
    pub(super) fn plan(&self) -> &'static str {
        let found = self.targets.iter().zip(&self.is_scanned).filter(|(_, is_scanned)| !**is_scanned);
        let names = found.map(|(target, _)| match target.access {
            Access::Graph(_) => "graph",
            Access::Prefilter | Access::Scan => "prefilter",
        });
        names.min().unwrap_or("scan")
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
    scanning: Scanning<'_>,
    parts: Vec<Part<'_>>,
    cancel: &Cancel,
) -> Result<(Vec<[Candidates; 2]>, Vec<u64>), QueryError> {
    let wrong = |error: KernelError| QueryError::Vector { reason: error.to_string() };
    let Scanning { snapshot, questions, thresholds, .. } = scanning;
    let codes = Question::joined_codes(questions).map_err(wrong)?;
    let coarse = CoarsePass::new(scanning, &codes).map_err(wrong)?;
    let none = || -> Vec<Sifted> {
        questions.iter().map(|question| Sifted::new(question.no_candidates())).collect()
    };
    snapshot.inner.context.pool.install(|| {
        let sifted = parts
            .into_par_iter()
            .try_fold(&none, |mut sifted, part| {
                if cancel.is_cancelled() {
                    return Err(QueryError::Cancelled);
                }
                if let Some(pace) = &snapshot.inner.context.pace {
                    pace.keep();
                }
                let Part { number, first, outs } = part;
                match outs {
                    Outs::Moments(mut moments) => {
                        coarse.look(number, first, &mut moments, &mut sifted)?;
                    }
                    Outs::Scores(outs) => {
                        score_part(scanning, &codes, (number, first), outs, &mut sifted)?;
                    }
                }
                Ok::<_, QueryError>(sifted)
            })
            .try_reduce(&none, |mut left, right| {
                let questions = left.iter_mut().zip(right).zip(thresholds);
                questions.for_each(|((left, right), thresholds)| left.merge(right, thresholds));
                Ok(left)
            })?;
        Ok(coarse.finish(sifted))
    })
}

/// The rows of all targets in parts of [`SCAN_CHUNK_ROWS`].
fn parts<'a>(scans: &'a mut [Scan<'_>]) -> Vec<Part<'a>> {
    let size = SCAN_CHUNK_ROWS as usize;
    let mut chunks: Vec<Vec<_>> = scans
        .iter_mut()
        .map(|scan| {
            let scores = scan.scores.iter_mut().map(|scores| scores.chunks_mut(size));
            let margins = scan.margins.iter_mut().map(|margins| margins.chunks_mut(size));
            scores.zip(margins).zip(scan.moments.iter_mut().map(|moments| moments.iter_mut())).collect()
        })
        .collect();
    let mut parts = Vec::new();
    for number in 0..chunks.first().map_or(0, Vec::len) {
        for chunk in 0.. {
            let (mut scored, mut moments) = (Vec::new(), Vec::new());
            for targets in &mut chunks {
                let ((scores, margins), of_parts) = &mut targets[number];
                scored.extend(scores.next().map(|scores| Out { scores, margins: margins.next() }));
                moments.extend(of_parts.next());
            }
            if scored.is_empty() && moments.is_empty() {
                break;
            }
            let outs = if scored.is_empty() { Outs::Moments(moments) } else { Outs::Scores(scored) };
            parts.push(Part { number, first: RowId(chunk * SCAN_CHUNK_ROWS), outs });
        }
    }
    parts
}

/// Scores a part for each question, and offers its rows to both ends.
fn score_part(
    scanning: Scanning<'_>,
    codes: &CodeQueries,
    (number, first): (usize, RowId),
    outs: Vec<Out<'_>>,
    sifted: &mut [Sifted],
) -> Result<(), QueryError> {
    let Scanning { snapshot, targets, questions, thresholds, .. } = scanning;
    let (target, kernels) = (&targets[number], snapshot.inner.context.kernels);
    let count = outs.first().map_or(0, |out| out.scores.len());
    let scanned = target.index.as_deref().map(ScannedCodes::of);
    let mut scorer = scanned.as_ref().and_then(|scanned| {
        let mut scorer = CodeScorer::new(kernels, codes, scanned).ok()?;
        scorer.read(first, count as u32).ok()?;
        Some(scorer)
    });
    for (place, (question, out)) in questions.iter().zip(outs).enumerate() {
        let mut margins = [0.0; SCAN_CHUNK_ROWS as usize];
        let margins = &mut margins[..count];
        let by_codes = scorer.as_ref().map(|scorer| scorer.score(place, question.kind, out.scores, margins));
        if !matches!(by_codes, Some(Ok(()))) {
            // An index only makes answers faster: without it the stored values are read.
            if target.index.is_some() {
                target.view.segment.indexes.give_up(target.column.header().column);
                scorer = None;
            }
            margins.fill(0.0);
            let column = ScannedColumn(target.column);
            score_rows(kernels, question.vector, question.kind, &column, first, out.scores)?;
        }
        offer(number, target, first, out.scores, margins, &mut sifted[place].found, &thresholds[place]);
        if let Some(kept) = out.margins {
            kept.copy_from_slice(margins);
        }
    }
    Ok(())
}
