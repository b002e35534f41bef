//! Scores of all rows of a snapshot, and the rows of both ends.
//!
//! Where a segment has an index its rows are scored by their codes, each to a margin; those that may be among the best are then
//! scored exactly, as are those that may lie on either side of a chosen one. So scores, ranks and percentiles are those of a scan over
//! all stored values; mean and deviation are taken from scores by codes, which are off by some thousandths of a deviation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
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

impl<'a> Scan<'a> {
    pub(super) fn run(
        snapshot: &'a Snapshot,
        targets: &'a [Target<'a>],
        question: &Question<'_>,
        cancel: &Cancel,
    ) -> Result<Self, QueryError> {
        let codes = CodeQueries::new(&[question.vector])
            .map_err(|error| QueryError::Vector { reason: error.to_string() })?;
        let buffers = &snapshot.inner.context.buffers;
        let mut scores: Vec<Vec<f64>> =
            targets.iter().map(|target| buffers.take(target.rows() as usize)).collect();
        let mut margins: Vec<Vec<f64>> = targets
            .iter()
            .map(|target| vec![0.0; if target.eligible.is_some() { target.rows() as usize } else { 0 }])
            .collect();
        let mut tasks = Vec::new();
        for (number, (scores, margins)) in scores.iter_mut().zip(&mut margins).enumerate() {
            let mut kept = margins.chunks_mut(SCAN_CHUNK_ROWS as usize);
            for (chunk, out) in scores.chunks_mut(SCAN_CHUNK_ROWS as usize).enumerate() {
                tasks.push((number, RowId(chunk as u32 * SCAN_CHUNK_ROWS), out, kept.next()));
            }
        }
        let thresholds = [Threshold::new(), Threshold::new()];
        let limits = [question.side.has_proponents(), question.side.has_opponents()]
            .map(|wanted| if wanted { question.k } else { 0 });
        let none = || limits.map(Candidates::new);
        let found = snapshot.inner.context.pool.install(|| {
            tasks
                .into_par_iter()
                .try_fold(none, |mut candidates, (number, first, out, kept)| {
                    if cancel.is_cancelled() {
                        return Err(QueryError::Cancelled);
                    }
                    let target = &targets[number];
                    let mut margins = [0.0; SCAN_CHUNK_ROWS as usize];
                    let margins = &mut margins[..out.len()];
                    score_chunk(snapshot, target, question, &codes, first, out, margins)?;
                    offer(number, target, first, out, margins, &mut candidates, &thresholds);
                    if let Some(kept) = kept {
                        kept.copy_from_slice(margins);
                    }
                    Ok(candidates)
                })
                .try_reduce(none, |mut left, right| {
                    for (end, candidates) in right.into_iter().enumerate() {
                        left[end].merge(candidates, &thresholds[end]);
                    }
                    Ok(left)
                })
        })?;
        let [proponents, opponents] = found;
        let candidates = [proponents.into_ranked(&thresholds[0]), opponents.into_ranked(&thresholds[1])];
        Ok(Self { snapshot, targets, scores, margins, candidates, rescored_bytes: 0, rescored_rows: 0 })
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
            let mut scorers = BTreeMap::new();
            let mut exact = Vec::with_capacity(rows.len());
            for candidate in rows {
                let number = candidate.target;
                if targets[number].index.is_none() {
                    exact.push(scores[number][candidate.row.0 as usize]);
                    continue;
                }
                let mut scorer = match scorers.remove(&number) {
                    Some(scorer) => scorer,
                    None => RowScorer::new(kernels, question.vector, question.kind, &columns[number])?,
                };
                let mut score = [0.0];
                scorer.score(candidate.row, &mut score)?;
                scorers.insert(number, scorer);
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
            Some(index) => {
                let header = index.header();
                header.codes_length() + 3 * header.numbers_length()
            }
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

/// Scores of consecutive rows of a target, and by how much each may be off.
fn score_chunk(
    snapshot: &Snapshot,
    target: &Target<'_>,
    question: &Question<'_>,
    codes: &CodeQueries,
    first: RowId,
    out: &mut [f64],
    margins: &mut [f64],
) -> Result<(), QueryError> {
    let kernels = snapshot.inner.context.kernels;
    if let Some(index) = &target.index {
        let scanned = ScannedCodes(index);
        let scored = CodeScorer::new(kernels, codes, &scanned).and_then(|mut scorer| {
            scorer.read(first, out.len() as u32)?;
            scorer.score(0, question.kind, out, margins)
        });
        match scored {
            Ok(()) => return Ok(()),
            // An index only makes answers faster: without it the stored values are read.
            Err(_) => target.view.segment.give_up_index(target.column.header().column),
        }
    }
    margins.fill(0.0);
    Ok(score_rows(kernels, question.vector, question.kind, &ScannedColumn(target.column), first, out)?)
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
