//! Scores of all rows of a snapshot, and the rows of both ends.
//!
//! Where a segment has an index its rows are scored by their codes, each to a margin; those that may be among the best are then
//! scored exactly, as are those that may lie on either side of a chosen one. So scores, ranks and percentiles are those of a scan over
//! all stored values; mean and deviation are taken from scores by codes, which are off by some thousandths of a deviation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rayon::prelude::*;

use super::query_error::QueryError;
use super::segment::{ScannedCodes, ScannedColumn, SegmentView};
use super::snapshot::Snapshot;
use crate::attribution::{
    KeyLookup, Moments, RankCounter, RankedRows, ScoreChunk, ScoredRow, Selection, Side,
};
use crate::base::limits::{RESCORE_ROWS, SCAN_CHUNK_ROWS};
use crate::base::{Cancel, RowId, RowSet};
use crate::index::{
    Candidate, Candidates, CodeScorer, RowScore, RowScorer, ScanError, Threshold, score_rows,
};
use crate::kernels::CodeQueries;
use crate::storage::{ColumnFile, FileError, IndexFile};

/// A segment that has the column.
pub(super) struct Target<'a> {
    pub(super) position: usize,
    pub(super) view: &'a SegmentView,
    pub(super) column: &'a ColumnFile,
    /// Its index, if it is to be used.
    pub(super) index: Option<Arc<IndexFile>>,
    /// Rows that may be chosen; `None` if all live rows may.
    pub(super) eligible: Option<RowSet>,
}

impl Target<'_> {
    /// Rows that count for the choice.
    fn chosen_from(&self) -> Option<&RowSet> {
        self.eligible.as_ref().or(self.view.live.as_deref())
    }

    fn rows(&self) -> u32 {
        self.column.header().row_count
    }
}

/// What is asked of a scan.
pub(super) struct Question<'a> {
    pub(super) vector: &'a [f32],
    pub(super) kind: RowScore,
    pub(super) side: Side,
    /// Rows wanted at each end.
    pub(super) k: usize,
}

/// Keys of the snapshot's rows, for ties.
struct Keys<'a>(&'a [SegmentView]);

impl KeyLookup for Keys<'_> {
    type Error = FileError;

    fn key(&self, segment: usize, row: RowId) -> Result<&str, FileError> {
        self.0[segment].segment.rows.key(row)
    }
}

/// The ends of the scores, as signs: of opponents the negatives are compared.
const ENDS: [f64; 2] = [1.0, -1.0];

/// Scores of all rows of the targets, deleted ones included.
pub(super) struct Scan<'a> {
    snapshot: &'a Snapshot,
    targets: &'a [Target<'a>],
    /// For each target one score a row: exact, or by codes.
    scores: Vec<Vec<f64>>,
    /// By how much each score may be off, where a filter chooses: rows from the middle of all scores have neighbours that
    /// are no candidates.
    margins: Vec<Vec<f64>>,
    /// Rows that may be among the best, for each end.
    candidates: [Vec<Candidate>; 2],
    rescored_bytes: u64,
    rescored_rows: u64,
}

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
    /// questions, in one pass over the codes.
    pub(super) fn run(
        snapshot: &'a Snapshot,
        targets: &'a [Target<'a>],
        questions: &[Question<'_>],
        cancel: &Cancel,
    ) -> Result<Vec<Self>, QueryError> {
        let vectors: Vec<&[f32]> = questions.iter().map(|question| question.vector).collect();
        let codes =
            CodeQueries::new(&vectors).map_err(|error| QueryError::Vector { reason: error.to_string() })?;
        let buffers = &snapshot.inner.context.buffers;
        let rows = |target: &Target<'_>| target.rows() as usize;
        let mut scans: Vec<Self> = questions
            .iter()
            .map(|_| Self {
                snapshot,
                targets,
                scores: targets.iter().map(|target| buffers.take(rows(target))).collect(),
                margins: targets
                    .iter()
                    .map(|target| vec![0.0; if target.eligible.is_some() { rows(target) } else { 0 }])
                    .collect(),
                candidates: [Vec::new(), Vec::new()],
                rescored_bytes: 0,
                rescored_rows: 0,
            })
            .collect();
        let thresholds: Vec<[Threshold; 2]> = questions.iter().map(|_| Default::default()).collect();
        let limits = |question: &Question<'_>| {
            let sides = [question.side.has_proponents(), question.side.has_opponents()];
            sides.map(|wanted| if wanted { question.k } else { 0 })
        };
        let none = || -> Vec<[Candidates; 2]> {
            questions.iter().map(|question| limits(question).map(Candidates::new)).collect()
        };
        let found = snapshot.inner.context.pool.install(|| {
            parts(&mut scans)
                .into_par_iter()
                .try_fold(none, |mut candidates, part| {
                    if cancel.is_cancelled() {
                        return Err(QueryError::Cancelled);
                    }
                    let target = &targets[part.number];
                    score_part(snapshot, target, questions, &codes, part, &mut candidates, &thresholds)?;
                    Ok(candidates)
                })
                .try_reduce(none, |mut left, right| {
                    for (question, ends) in right.into_iter().enumerate() {
                        for (end, candidates) in ends.into_iter().enumerate() {
                            left[question][end].merge(candidates, &thresholds[question][end]);
                        }
                    }
                    Ok(left)
                })
        })?;
        for ((scan, [proponents, opponents]), thresholds) in scans.iter_mut().zip(found).zip(&thresholds) {
            scan.candidates = [proponents.into_ranked(&thresholds[0]), opponents.into_ranked(&thresholds[1])];
        }
        Ok(scans)
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
                    self.scores[candidate.target][candidate.row.0 as usize] = score;
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

    fn rescore(&mut self, question: &Question<'_>, rows: &[Candidate]) -> Result<Vec<f64>, QueryError> {
        let (targets, scores) = (self.targets, &self.scores);
        let kernels = self.snapshot.inner.context.kernels;
        let some = |rows: &[Candidate]| {
            let columns: Vec<ScannedColumn<'_>> =
                targets.iter().map(|target| ScannedColumn(target.column)).collect();
            let mut scorers: Vec<Option<RowScorer<'_, _>>> = targets.iter().map(|_| None).collect();
            let mut exact = Vec::with_capacity(rows.len());
            for candidate in rows {
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

    /// The moments of all live rows, and the percentile of each chosen row (proponents first).
    pub(super) fn unusual(
        &mut self,
        question: &Question<'_>,
        ranked: &RankedRows,
    ) -> Result<(Moments, Vec<Option<f64>>), QueryError> {
        let asked: Vec<f64> =
            ranked.proponents.iter().chain(&ranked.opponents).map(|row| row.score).collect();
        let undecided = self.undecided(&asked);
        let exact = self.rescore(question, &undecided)?;
        for (candidate, score) in undecided.iter().zip(exact) {
            self.scores[candidate.target][candidate.row.0 as usize] = score;
        }
        Ok(self.tally(&asked))
    }

    /// Live rows of which the codes do not tell on which side of an asked score they are.
    fn undecided(&self, asked: &[f64]) -> Vec<Candidate> {
        let mut sorted = asked.to_vec();
        sorted.sort_by(f64::total_cmp);
        let of_target = |number: usize| {
            let (target, scores, margins) =
                (&self.targets[number], &self.scores[number], &self.margins[number]);
            let sorted = &sorted;
            let has_between = move |low: f64, high: f64| {
                sorted.get(sorted.partition_point(|asked| *asked < low)).is_some_and(|asked| *asked <= high)
            };
            let groups = margins.par_chunks(GROUP_ROWS).zip(scores.par_chunks(GROUP_ROWS)).enumerate();
            groups.with_min_len(SCAN_CHUNK_ROWS as usize / GROUP_ROWS).flat_map_iter(
                move |(group, (margins, scores))| {
                    let ends = scores.iter().zip(margins);
                    let (low, high) = ends
                        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (score, margin)| {
                            (low.min(score - margin), high.max(score + margin))
                        });
                    // Of most groups all rows lie between the two ends.
                    let count = if has_between(low, high) { scores.len() } else { 0 };
                    let first = (group * GROUP_ROWS) as u32;
                    let rows = scores.iter().zip(margins).zip(first..).take(count);
                    rows.filter_map(move |((&score, &margin), row)| {
                        let row = RowId(row);
                        let is_live = target.view.live.as_deref().is_none_or(|live| live.contains(row));
                        let is_undecided = margin > 0.0 && has_between(score - margin, score + margin);
                        let candidate = Candidate { target: number, row, upper: score + margin };
                        (is_undecided && is_live).then_some(candidate)
                    })
                },
            )
        };
        self.snapshot
            .inner
            .context
            .pool
            .install(|| (0..self.targets.len()).into_par_iter().flat_map(of_target).collect())
    }

    fn tally(&self, asked: &[f64]) -> (Moments, Vec<Option<f64>>) {
        let chunks: Vec<ScoreChunk<'_>> = self
            .targets
            .iter()
            .zip(&self.scores)
            .flat_map(|(target, scores)| {
                let live = target.view.live.as_deref();
                let chunks = scores.chunks(SCAN_CHUNK_ROWS as usize).enumerate();
                chunks.map(move |(chunk, scores)| {
                    ScoreChunk::of_live(RowId(chunk as u32 * SCAN_CHUNK_ROWS), scores, live)
                })
            })
            .collect();
        let empty_counter = RankCounter::new(asked);
        let pool = &self.snapshot.inner.context.pool;
        let (parts, counter) = pool.install(|| {
            let parts: Vec<Moments> = chunks.par_iter().map(Moments::of).collect();
            let counter = chunks
                .par_iter()
                .fold(
                    || empty_counter.clone(),
                    |mut counter, chunk| {
                        counter.add(chunk);
                        counter
                    },
                )
                .reduce(
                    || empty_counter.clone(),
                    |mut left, right| {
                        // Counters of the same question always merge.
                        let _ = left.merge(&right);
                        left
                    },
                );
            (parts, counter)
        });
        // Merged in the order of the chunks, so that sums do not depend on the number of threads.
        let mut moments = Moments::new();
        parts.iter().for_each(|part| moments.merge(part));
        (moments, counter.percentiles())
    }

    /// Bytes of values and codes that were looked at.
    pub(super) fn bytes(&self) -> u64 {
        let of_target = |target: &Target<'_>| match &target.index {
            Some(index) => index.header().content_length(),
            None => target.column.header().values_length(),
        };
        self.rescored_bytes + self.targets.iter().map(of_target).sum::<u64>()
    }

    /// Rows that were scored by their codes.
    pub(super) fn rows_by_codes(&self) -> u64 {
        let coded = self.targets.iter().filter(|target| target.index.is_some());
        coded.map(|target| u64::from(target.rows())).sum()
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
    let scanned = target.index.as_deref().map(ScannedCodes);
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
                target.view.segment.give_up_index(target.column.header().column);
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
const GROUP_ROWS: usize = 16;

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
