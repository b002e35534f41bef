//! Rows of a segment with an index, where all live ones may be chosen: looked at by coarse codes first, where that pays.
//!
//! A row that its coarse score puts among the best is scored by its 8-bit codes at once, so that all know early what the best
//! reach; one that may only be among them, if its margin says so, is held back until all rows were seen, when most of those
//! are excluded. Scores of the others are kept by nobody: mean and deviation are summed up part by part, and where every row
//! may be chosen the percentile of one that was chosen follows from those that were scored exactly.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::kept_samples::{sample_step, sampled_codes};
use super::plan::is_coarse_first;
use super::query_error::QueryError;
use super::scanning::{GROUP_ROWS, Scanning, offer, reach_of};
use super::segment::{ScannedCodes, ScannedColumn};
use super::target::{ENDS, Question, Target};
use crate::attribution::{Moments, ScoreChunk};
use crate::base::RowId;
use crate::base::limits::{COARSE_ROWS_MIN, SCAN_CHUNK_ROWS};
use crate::index::{Candidate, Candidates, CoarseScorer, CodeScorer, Threshold, score_rows};
use crate::kernels::{CoarseQueries, CodeQueries, KernelError};
use crate::storage::IndexFile;

/// Candidates of both ends for one question.
#[derive(Clone, Debug)]
pub(super) struct Sifted {
    /// Scored by 8-bit codes, or exactly.
    pub(super) found: [Candidates; 2],
    /// Scored by coarse codes alone.
    held: [Candidates; 2],
}

impl Sifted {
    pub(super) fn new(none: [Candidates; 2]) -> Self {
        Self { held: none.clone(), found: none }
    }

    pub(super) fn merge(&mut self, other: Self, thresholds: &[Threshold; 2]) {
        for (own, other) in [(&mut self.found, other.found), (&mut self.held, other.held)] {
            for ((own, other), threshold) in own.iter_mut().zip(other).zip(thresholds) {
                own.merge(other, threshold);
            }
        }
    }
}

/// A scan of rows whose scores are forgotten.
pub(super) struct CoarsePass<'a> {
    scanning: Scanning<'a>,
    vectors: Vec<&'a [f32]>,
    queries: CoarseQueries,
    /// The same for 8-bit codes.
    codes: &'a CodeQueries,
    /// For each target and question whether coarse codes are looked at.
    is_coarse: Vec<Vec<bool>>,
    /// For each question the rows that were scored again by 8-bit codes.
    again: Vec<AtomicU64>,
}

impl<'a> CoarsePass<'a> {
    pub(super) fn new(scanning: Scanning<'a>, codes: &'a CodeQueries) -> Result<Self, KernelError> {
        let questions = scanning.questions;
        let vectors: Vec<&[f32]> = questions.iter().map(|question| question.vector).collect();
        let queries = CoarseQueries::new(&vectors)?;
        let again = questions.iter().map(|_| AtomicU64::new(0)).collect();
        Ok(Self { scanning, vectors, queries, codes, is_coarse: are_coarse(scanning), again })
    }

    /// Looks at rows of target `number` for each question: sifts those that may be among the best, and gives the moments of
    /// all live ones.
    pub(super) fn look(
        &self,
        number: usize,
        first: RowId,
        moments: &mut [&mut Moments],
        sifted: &mut [Sifted],
    ) -> Result<(), QueryError> {
        let (target, kernels) =
            (&self.scanning.targets[number], self.scanning.snapshot.inner.context.kernels);
        let count = SCAN_CHUNK_ROWS.min(target.rows() - first.0);
        let codes = target.index.as_deref().map(ScannedCodes::of);
        let is_coarse = &self.is_coarse[number];
        let mut by_codes = codes.as_ref().filter(|_| is_coarse.contains(&false)).and_then(|codes| {
            let mut scorer = CodeScorer::new(kernels, self.codes, codes).ok()?;
            scorer.read(first, count).ok()?;
            Some(scorer)
        });
        let mut coarse = codes.as_ref().filter(|_| is_coarse.contains(&true)).and_then(|codes| {
            let mut scorer = CoarseScorer::new(kernels, &self.queries, &self.vectors, codes).ok()?;
            scorer.read(first, count).ok()?;
            Some(scorer)
        });
        let (mut scores, mut margins) = ([0.0; SCAN_CHUNK_ROWS as usize], [0.0; SCAN_CHUNK_ROWS as usize]);
        let (scores, margins) = (&mut scores[..count as usize], &mut margins[..count as usize]);
        for (question, (moments, sifted)) in moments.iter_mut().zip(sifted).enumerate() {
            let asked = &self.scanning.questions[question];
            let is_coarse = is_coarse[question];
            let noise = if is_coarse {
                coarse.as_ref().and_then(|scorer| scorer.score(question, asked.kind, scores, margins).ok())
            } else {
                let scored =
                    by_codes.as_ref().map(|scorer| scorer.score(question, asked.kind, scores, margins));
                scored.and_then(Result::ok).map(|()| 0.0)
            };
            let is_scored = noise.is_some();
            if !is_scored {
                // An index only makes answers faster: without it the stored values are read.
                target.view.segment.indexes.give_up(target.column.header().column);
                (coarse, by_codes) = (None, None);
                margins.fill(0.0);
                let column = ScannedColumn(target.column);
                score_rows(kernels, asked.vector, asked.kind, &column, first, scores)?;
            }
            let live = ScoreChunk::of_live(first, scores, target.view.live.as_deref());
            **moments = Moments::of(&live).without_noise(noise.unwrap_or(0.0));
            if is_coarse && is_scored {
                self.sift(number, question, first, scores, margins, sifted);
            } else {
                let thresholds = &self.scanning.thresholds[question];
                offer(number, target, first, scores, margins, &mut sifted.found, thresholds);
            }
        }
        Ok(())
    }

    /// Takes the rows that coarse scores do not exclude.
    fn sift(
        &self,
        number: usize,
        question: usize,
        first: RowId,
        scores: &[f64],
        margins: &[f64],
        sifted: &mut Sifted,
    ) {
        let chosen = self.scanning.targets[number].chosen_from();
        let mut near = Vec::new();
        for (end, sign) in ENDS.into_iter().enumerate() {
            let (threshold, held) = (&self.scanning.thresholds[question][end], &mut sifted.held[end]);
            if !held.is_wanted() {
                continue;
            }
            let reached = threshold.get();
            near.clear();
            let groups = scores.chunks(GROUP_ROWS).zip(margins.chunks(GROUP_ROWS));
            for ((scores, margins), group) in groups.zip(0_u32..) {
                // Most groups have no row that reaches the end, which begins above 0.
                if reach_of(scores, margins, |score| score * sign) < reached {
                    continue;
                }
                let rows = first.0 + group * GROUP_ROWS as u32..;
                for ((score, margin), row) in scores.iter().zip(margins).zip(rows) {
                    let (score, row) = (score * sign, RowId(row));
                    let upper = score + margin;
                    if upper < reached || chosen.is_some_and(|chosen| !chosen.contains(row)) {
                        continue;
                    }
                    let candidate = Candidate { target: number, row, upper };
                    if score >= reached {
                        near.push(candidate);
                    } else {
                        held.hold(candidate, threshold);
                    }
                }
            }
            self.score_again(question, end, &near, &mut sifted.found[end]);
        }
    }

    /// Offers candidates of one target by their 8-bit codes.
    fn score_again(&self, question: usize, end: usize, rows: &[Candidate], found: &mut Candidates) {
        let Some(first) = rows.first() else { return };
        let (target, threshold) =
            (&self.scanning.targets[first.target], &self.scanning.thresholds[question][end]);
        let kernels = self.scanning.snapshot.inner.context.kernels;
        let scored = target.index.as_deref().and_then(|index| {
            let named: Vec<u32> = rows.iter().map(|candidate| candidate.row.0).collect();
            self.scanning.questions[question].score_named(kernels, &ScannedCodes::of(index), &named)
        });
        let Some((scores, margins)) = scored else {
            // Damaged: what coarse codes say of them is all that is known.
            target.view.segment.indexes.give_up(target.column.header().column);
            return rows.iter().for_each(|candidate| found.hold(*candidate, threshold));
        };
        self.again[question].fetch_add(rows.len() as u64, Ordering::Relaxed);
        for ((candidate, score), margin) in rows.iter().zip(scores).zip(margins) {
            found.offer(candidate.target, candidate.row, score * ENDS[end], margin, threshold);
        }
    }

    /// The candidates of all questions, once all rows were seen; and the bytes of codes that were looked at for each.
    pub(super) fn finish(self, sifted: Vec<Sifted>) -> (Vec<[Candidates; 2]>, Vec<u64>) {
        let mut all = Vec::with_capacity(sifted.len());
        for (question, Sifted { mut found, held }) in sifted.into_iter().enumerate() {
            for (end, held) in held.into_iter().enumerate() {
                let threshold = &self.scanning.thresholds[question][end];
                let mut rows = held.into_reaching(threshold);
                // In the order in which they lie in memory.
                rows.par_sort_unstable_by_key(|candidate| (candidate.target, candidate.row));
                let of_targets: Vec<&[Candidate]> =
                    rows.chunk_by(|left, right| left.target == right.target).collect();
                let chunks =
                    of_targets.par_iter().flat_map_iter(|rows| rows.chunks(SCAN_CHUNK_ROWS as usize));
                let none = || found[end].emptied();
                let scored = chunks.fold(none, |mut found, rows| {
                    self.score_again(question, end, rows, &mut found);
                    found
                });
                let scored = scored.reduce(none, |mut left, right| {
                    left.merge(right, threshold);
                    left
                });
                found[end].merge(scored, threshold);
            }
            all.push(found);
        }
        let again = self.again.iter().map(|rows| rows.load(Ordering::Relaxed));
        let bytes = again.enumerate().map(|(question, again)| self.bytes(question, again)).collect();
        (all, bytes)
    }

    /// About the bytes of the codes that one question was answered with, `again` rows of it by 8-bit codes in the end: fewer
    /// where threads told each other early what the best reach.
    fn bytes(&self, question: usize, again: u64) -> u64 {
        let (mut bytes, mut row_bytes) = (0, 0);
        for ((target, is_coarse), is_scanned) in
            self.scanning.targets.iter().zip(&self.is_coarse).zip(self.scanning.is_scanned)
        {
            let index = target.index.as_deref().filter(|_| *is_scanned && target.keeps_no_scores());
            let Some(header) = index.map(IndexFile::header) else { continue };
            let codes = header.codes_length() + 3 * header.numbers_length();
            let coarse = header.coarse_length() + header.numbers_length();
            bytes += if is_coarse[question] { coarse } else { codes };
            row_bytes = header.code_row_bytes() + 12;
        }
        bytes + again * row_bytes
    }
}

/// For each target and question whether coarse codes are looked at. That is the same for the same question to the same rows,
/// as mean and deviation of scores are those of the codes that were looked at.
fn are_coarse(scanning: Scanning<'_>) -> Vec<Vec<bool>> {
    let Scanning { snapshot, targets, is_scanned, questions, .. } = scanning;
    let is_large = |(target, is_scanned): (&Target<'_>, &bool)| {
        *is_scanned && target.keeps_no_scores() && target.rows() >= COARSE_ROWS_MIN
    };
    let large: Vec<bool> = targets.iter().zip(is_scanned).map(is_large).collect();
    let wanted = targets.iter().zip(&large).filter(|(_, is_large)| **is_large);
    let step = sample_step(targets);
    let samples: Vec<_> = wanted.filter_map(|(target, _)| sampled_codes(snapshot, target, step)).collect();
    let margins: Vec<f64> =
        samples.iter().flat_map(|sample| sample.coarse_margins.iter().flatten().copied()).collect();
    let margin = margins.iter().sum::<f64>() / margins.len() as f64;
    let all: u64 = targets.iter().map(|target| target.view.live_rows()).sum();
    let pays = |question: &Question<'_>| {
        let kernels = snapshot.inner.context.kernels;
        let products = samples.iter().filter_map(|sample| sample.products(kernels, question));
        let products: Vec<f64> = products.flatten().collect();
        let deviation = Moments::of(&ScoreChunk::all(RowId(0), &products)).standard_deviation()?;
        let norm = question.codes.queries().first()?.norm;
        Some(is_coarse_first(question.k, all, norm * margin / deviation))
    };
    let pays: Vec<bool> = questions.iter().map(|question| pays(question).unwrap_or(false)).collect();
    large.iter().map(|is_large| pays.iter().map(|pays| *is_large && *pays).collect()).collect()
}
