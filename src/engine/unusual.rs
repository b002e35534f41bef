//! How unusual the scores of an answer are among those of all live rows.

use std::sync::{Arc, PoisonError};

use rayon::prelude::*;

use super::query_error::QueryError;
use super::sampled_codes::SampledCodes;
use super::scan::{GROUP_ROWS, Scan};
use super::segment::ScannedCodes;
use super::target::{Question, Target};
use crate::attribution::{Moments, RankCounter, RankedRows, ScoreChunk};
use crate::base::RowId;
use crate::base::limits::{SAMPLE_ROWS, SCAN_CHUNK_ROWS};
use crate::index::Candidate;

impl Scan<'_> {
    /// The moments of all live rows, and the percentile of each chosen row (proponents first). Where a graph was walked
    /// the moments are those of a sample, and percentiles are not known.
    pub(super) fn unusual(
        &mut self,
        question: &Question<'_>,
        ranked: &RankedRows,
    ) -> Result<(Moments, Vec<Option<f64>>), QueryError> {
        let asked: Vec<f64> =
            ranked.proponents.iter().chain(&ranked.opponents).map(|row| row.score).collect();
        if self.is_scanned.contains(&false) {
            let sample = self.sample();
            let moments = Moments::of(&ScoreChunk::of_live(RowId(0), &sample, None));
            return Ok((moments, vec![None; asked.len()]));
        }
        let undecided = self.undecided(&asked);
        let exact = self.rescore(question, &undecided)?;
        for (candidate, score) in undecided.iter().zip(exact) {
            self.scores[candidate.target][candidate.row.0 as usize] = score;
        }
        Ok(self.tally(&asked))
    }

    /// Scores of live rows that are evenly spread over the targets: by codes where a graph was walked.
    fn sample(&self) -> Vec<f64> {
        let step = self.sample_step();
        let mut sample = Vec::with_capacity(SAMPLE_ROWS);
        for (number, target) in self.targets.iter().enumerate() {
            if self.is_scanned[number] {
                let rows = target.sampled_rows(step);
                sample.extend(rows.filter_map(|row| self.scores[number].get(row as usize)));
            } else {
                sample.extend_from_slice(&self.samples[number]);
            }
        }
        sample
    }

    /// Scores the sampled rows of the targets whose graph was walked, for all questions in one pass.
    pub(super) fn take_samples(scans: &mut [Self], questions: &[Question<'_>]) {
        let Some(first) = scans.first() else { return };
        let (targets, step, kernels) =
            (first.targets, first.sample_step(), first.snapshot.inner.context.kernels);
        for (number, target) in targets.iter().enumerate() {
            let Some(first) = scans.first().filter(|first| !first.is_scanned[number]) else { continue };
            let scores = first.sampled_codes(target, step).and_then(|codes| codes.scores(kernels, questions));
            for (scan, scores) in scans.iter_mut().zip(scores.unwrap_or_default()) {
                scan.samples[number] = scores;
            }
        }
    }

    fn sample_step(&self) -> usize {
        let all: u64 = self.targets.iter().map(|target| u64::from(target.rows())).sum();
        (all / SAMPLE_ROWS as u64).max(1) as usize
    }

    /// Codes of every `step`th row of a target, of those that are live: gathered at the first question, as the step is the
    /// same for all questions to a column of a snapshot. `None` if they cannot be read.
    fn sampled_codes(&self, target: &Target<'_>, step: usize) -> Option<Arc<SampledCodes>> {
        let place = (target.column.header().column, target.position);
        let samples = || self.snapshot.inner.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = samples().get(&place) {
            return Some(Arc::clone(known));
        }
        let rows: Vec<u32> = target.sampled_rows(step).collect();
        let sample = Arc::new(SampledCodes::of(&ScannedCodes::of(target.index.as_deref()?), &rows).ok()?);
        samples().insert(place, Arc::clone(&sample));
        Some(sample)
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
}
