//! How unusual the scores of an answer are among those of all live rows.

use rayon::prelude::*;

use super::kept_samples::{sample_step, sampled_codes};
use super::query_error::QueryError;
use super::scan::Scan;
use super::scanning::GROUP_ROWS;
use super::target::Question;
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
        if self.is_partial() {
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
        let step = sample_step(self.targets);
        let mut sample = Vec::with_capacity(SAMPLE_ROWS);
        for (number, target) in self.targets.iter().enumerate() {
            if self.is_scanned[number] && !target.keeps_no_scores() {
                let rows = target.sampled_rows(step);
                sample.extend(rows.filter_map(|row| self.scores[number].get(row as usize)));
            } else {
                sample.extend_from_slice(&self.samples[number]);
            }
        }
        sample
    }

    /// Where a graph was walked, scores the sampled rows of all targets of which not each row has a score that is kept, for all
    /// questions in one pass.
    pub(super) fn take_samples(scans: &mut [Self], questions: &[Question<'_>]) {
        let Some(first) = scans.first().filter(|first| first.is_partial()) else { return };
        let (targets, step, kernels) =
            (first.targets, sample_step(first.targets), first.snapshot.inner.context.kernels);
        for (number, target) in targets.iter().enumerate() {
            let has_scores = |scan: &&Self| scan.is_scanned[number] && !target.keeps_no_scores();
            let Some(first) = scans.first().filter(|first| !has_scores(first)) else { continue };
            let codes = sampled_codes(first.snapshot, target, step);
            let scores = codes.and_then(|codes| codes.scores(kernels, questions));
            for (scan, scores) in scans.iter_mut().zip(scores.unwrap_or_default()) {
                scan.samples[number] = scores;
            }
        }
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
        let mut counter = counter;
        counter.add(&ScoreChunk::all(RowId(0), &self.known));
        let coarse = self.targets.iter().filter(|target| target.keeps_no_scores());
        let live: u64 = coarse.map(|target| target.view.live_rows()).sum();
        // Scores of proponents are above 0 and those of opponents below, and of the other rows none reaches one of those.
        counter.add_equal(0.0, live.saturating_sub(self.known.len() as u64));
        // Merged in the order of the parts, so that sums do not depend on the number of threads.
        let mut moments = Moments::new();
        parts.iter().chain(self.moments.iter().flatten()).for_each(|part| moments.merge(part));
        (moments, counter.percentiles())
    }
}
