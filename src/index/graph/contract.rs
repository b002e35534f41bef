//! What recall a graph has, measured when it is made.
//!
//! Rows that are not in the graph yet are its questions. What they ought to find is taken from a scan of the same codes, so
//! that only the walk is measured: both ends apart, the best 10 and the best 100, at beam after beam. A row counts as found
//! if it scores as high as the last of the best: of rows that score the same, any will do.

use super::beam::{Nearest, Scored};
use super::column::{GraphColumn, GraphRows};
use super::draft::Draft;
use super::error::{BuildStop, GraphError};
use super::space::{CodedSpace, numbers};
use super::walk::{CoarseQuestion, Walk, Walker, step};
use super::work::GraphWork;
use crate::base::limits::{GRAPH_BEAMS, GRAPH_HELD_OUT_ROWS, GRAPH_MEASURE_ROWS, GRAPH_RECALL_WANTED};
use crate::format::GraphRecall;
use crate::kernels::{CODE_QUERIES_MAX, CodeQueries, Kernels};

/// How many of the best rows are looked for.
const BEST: [usize; 2] = [10, 100];

/// A graph that is measured before the held-out rows are put into it.
#[derive(Debug)]
pub(super) struct Measured<'a, R> {
    pub(super) rows: &'a R,
    pub(super) space: &'a CodedSpace<'a>,
    pub(super) draft: &'a Draft,
    pub(super) scanned: &'a [u32],
    /// Rows that stand in the graph, ascending.
    pub(super) placed: &'a [u32],
    /// Rows that do not yet, ascending.
    pub(super) held_out: &'a [u32],
    pub(super) kernels: Kernels,
}

/// The codes by which walks may go: coarse ones, and those of 8 bits.
const BY_COARSE: usize = 0;
const BY_CODES: usize = 1;

/// For each number of best rows how many of them the walks at each beam found, as far as beams were tried.
type FoundAt = [[u32; GRAPH_BEAMS.len()]; BEST.len()];

/// A question, what it ought to find at either end, and what it found.
#[derive(Debug)]
struct Question {
    query: CodeQueries,
    coarse: Option<CoarseQuestion>,
    best: [Nearest; 2],
    /// By end, and by the codes that walks went by.
    found: [[FoundAt; 2]; 2],
}

/// Up to four questions that one pass over the codes serves.
#[derive(Debug)]
struct Group {
    queries: CodeQueries,
    questions: Vec<Question>,
    sums: Vec<i32>,
}

impl<R: GraphRows> GraphColumn for Measured<'_, R> {
    type Rows = R;

    fn rows(&self) -> &R {
        self.rows
    }

    fn entry(&self) -> Option<u32> {
        self.draft.entry()
    }

    fn levels(&self) -> u32 {
        self.draft.top()
    }

    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), R::Error> {
        links.extend_from_slice(self.draft.links(level, row));
        Ok(())
    }

    fn scanned(&self, rows: &mut Vec<u32>) -> Result<(), R::Error> {
        rows.extend_from_slice(self.scanned);
        Ok(())
    }
}

impl<R: GraphRows> Measured<'_, R> {
    /// Recall of the 10 and of the 100 best proponents, then of the opponents. Nothing is measured in an empty graph.
    ///
    /// # Complexity
    /// O(rows x width) for each held-out row.
    pub(super) fn recall(&self, work: &GraphWork<'_>) -> Result<[GraphRecall; 4], GraphError<R::Error>> {
        if self.placed.is_empty() {
            return Ok([GraphRecall::default(); 4]);
        }
        let mut groups = self.groups()?;
        self.scan(&mut groups, work)?;
        let mut questions: Vec<Question> = groups.into_iter().flat_map(|group| group.questions).collect();
        let tried = self.walk(&mut questions, work)?;
        let mut recall = [GraphRecall::default(); 4];
        let places = (0..2).flat_map(|end| (0..BEST.len()).map(move |best| (end, best)));
        for (measured, (end, best)) in recall.iter_mut().zip(places) {
            let by = |codes| recall_of(&questions, end, codes, best, tried[end][codes]);
            *measured = cheaper(by(BY_COARSE), by(BY_CODES));
        }
        Ok(recall)
    }

    fn groups(&self) -> Result<Vec<Group>, GraphError<R::Error>> {
        // A graph of duplicates, or a small one, is asked for rows that it holds.
        let rows = if self.held_out.is_empty() { self.placed } else { self.held_out };
        let count = rows.len().min(GRAPH_HELD_OUT_ROWS);
        let asked: Vec<Vec<f32>> =
            (0..count).map(|place| self.question(rows[place * rows.len() / count])).collect();
        let mut groups = Vec::new();
        for values in asked.chunks(CODE_QUERIES_MAX) {
            let borrowed: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            let question = |values: &&[f32]| -> Result<Question, GraphError<R::Error>> {
                let query = CodeQueries::new(&[values])?;
                let coarse = CoarseQuestion::new(self.kernels, values, self.rows)?;
                let mut best = [Nearest::default(), Nearest::default()];
                best.iter_mut().for_each(|best| best.begin(BEST[1]));
                Ok(Question { query, coarse, best, found: Default::default() })
            };
            let questions = borrowed.iter().map(question).collect::<Result<_, _>>()?;
            groups.push(Group { queries: CodeQueries::new(&borrowed)?, questions, sums: Vec::new() });
        }
        Ok(groups)
    }

    /// The values of a row, in units of the largest norm.
    fn question(&self, row: u32) -> Vec<f32> {
        let mut values = self.space.values(row);
        values.truncate(self.space.width());
        values
    }

    /// The best rows of each question, by a scan of the codes of all rows that the graph holds.
    fn scan(&self, groups: &mut [Group], work: &GraphWork<'_>) -> Result<(), GraphError<R::Error>> {
        let row_count = self.rows.row_count();
        let scales = self.rows.scales_at(&[]).map_err(GraphError::Read)?;
        let scales = numbers("scales", scales, row_count)?;
        for first in (0..row_count).step_by(GRAPH_MEASURE_ROWS as usize) {
            let end = row_count.min(first + GRAPH_MEASURE_ROWS);
            let scales = &scales[first as usize..end as usize];
            let held_out = &self.held_out[self.held_out.partition_point(|row| *row < first)..];
            let held_out = &held_out[..held_out.partition_point(|row| *row < end)];
            work.in_parallel(groups, |group| group.scan(self.space, first, scales, held_out))?;
        }
        Ok(())
    }

    /// What walks find of the best rows of each question, at wider and wider beams until both numbers of best rows have the
    /// recall that is wanted. Gives how many beams were tried, by end and codes.
    fn walk(
        &self,
        questions: &mut [Question],
        work: &GraphWork<'_>,
    ) -> Result<[[usize; 2]; 2], GraphError<R::Error>> {
        let mut walkers: Vec<Walker> = (0..work.threads()).map(|_| Walker::default()).collect();
        let mut tried = [[0; 2]; 2];
        for (end, codes) in [(0, BY_COARSE), (0, BY_CODES), (1, BY_COARSE), (1, BY_CODES)] {
            if codes == BY_COARSE && questions.iter().any(|question| question.coarse.is_none()) {
                continue;
            }
            for place in 0..GRAPH_BEAMS.len() {
                // A walk of each thread at a time, as the widest take milliseconds.
                for slice in questions.chunks_mut(work.threads()) {
                    let mut walking: Vec<_> = slice.iter_mut().zip(&mut walkers).collect();
                    work.in_parallel(&mut walking, |(question, walker)| {
                        self.walk_once(question, [end, codes], place, walker)
                    })?;
                }
                tried[end][codes] = place + 1;
                let reaches = |best| {
                    let measured = recall_of(questions, end, codes, best, place + 1);
                    f64::from(measured.recall) >= GRAPH_RECALL_WANTED
                };
                if (0..BEST.len()).all(reaches) {
                    break;
                }
            }
        }
        Ok(tried)
    }

    fn walk_once(
        &self,
        question: &mut Question,
        [end, codes]: [usize; 2],
        place: usize,
        walker: &mut Walker,
    ) -> Result<(), GraphError<R::Error>> {
        let Question { query, coarse, best, found: counts } = question;
        let best = best[end].rows();
        let (beam, opponents) = (GRAPH_BEAMS[place] as usize, end == 1);
        let (kernels, coarse) = (self.kernels, coarse.as_ref().filter(|_| codes == BY_COARSE));
        let walk = Walk { kernels, query, coarse, opponents, beam, eligible: None };
        let found = walker.walk(self, &[walk])?;
        let rows: Vec<u32> = found.iter().flat_map(|found| &found.rows).map(|(row, _)| row.0).collect();
        // Whoever asks scores what the beam holds again.
        let mut scores = walker.scores_of_codes(self, &walk, &rows)?.to_vec();
        scores.sort_unstable_by(|left, right| right.total_cmp(left));
        for (counts, most) in counts[end][codes].iter_mut().zip(BEST) {
            let best = &best[..most.min(best.len())];
            let last = best.last().map_or(f32::INFINITY, |last| last.score());
            let scores = scores.iter().take(best.len());
            counts[place] = scores.filter(|score| **score >= last).count() as u32;
        }
        Ok(())
    }
}

impl Group {
    /// Offers the rows from `first` of which the scales are `scales` to the questions.
    fn scan(
        &mut self,
        space: &CodedSpace<'_>,
        first: u32,
        scales: &[[u8; 4]],
        held_out: &[u32],
    ) -> Result<(), BuildStop> {
        let count = self.queries.queries().len();
        self.sums.resize(scales.len() * count, 0);
        space.sums(&self.queries, first, &mut self.sums)?;
        for (place, question) in self.questions.iter_mut().enumerate() {
            let step = step(&self.queries, place);
            let sums = self.sums.iter().skip(place).step_by(count);
            for ((row, scale), sum) in (first..).zip(scales).zip(sums) {
                if held_out.binary_search(&row).is_ok() {
                    continue;
                }
                let score = (f64::from(*sum) * (f64::from(f32::from_le_bytes(*scale)) * step)) as f32;
                question.best[0].offer(Scored::new(score, row));
                question.best[1].offer(Scored::new(-score, row));
            }
        }
        Ok(())
    }
}

/// The least of the beams that were tried with the recall that is wanted, or the best there is.
fn recall_of(questions: &[Question], end: usize, codes: usize, best: usize, tried: usize) -> GraphRecall {
    let there: usize = questions.iter().map(|question| question.best[end].rows().len().min(BEST[best])).sum();
    let mut most = GraphRecall::default();
    for (place, &beam) in GRAPH_BEAMS.iter().enumerate().take(tried) {
        let found: u32 = questions.iter().map(|question| question.found[end][codes][best][place]).sum();
        let recall = (f64::from(found) / there.max(1) as f64) as f32;
        if recall > most.recall || most.beam == 0 {
            most = GraphRecall { beam, recall, is_coarse: codes == BY_COARSE };
        }
        if f64::from(recall) >= GRAPH_RECALL_WANTED {
            break;
        }
    }
    most
}

/// The walks to make: by coarse codes, of which a row takes some two thirds of the time, where these find as much with at most
/// the next wider beam. Where rows are so near to each other that coarse codes do not part them, it takes beams that hold all of
/// them.
fn cheaper(by_coarse: GraphRecall, by_codes: GraphRecall) -> GraphRecall {
    let step = |measured: GraphRecall| GRAPH_BEAMS.iter().position(|beam| *beam == measured.beam);
    let wanted = by_codes.recall.min(GRAPH_RECALL_WANTED as f32);
    match (step(by_coarse), step(by_codes)) {
        (Some(coarse), Some(codes)) if by_coarse.recall >= wanted && coarse <= codes + 1 => by_coarse,
        _ => by_codes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_go_by_the_codes_that_take_less_time() {
        let of = |beam, recall, is_coarse| GraphRecall { beam, recall, is_coarse };
        let codes = of(48, 0.992, false);
        let cases = [
            (of(48, 0.99, true), true),
            (of(64, 0.999, true), true),
            // Too wide, too few found, and not measured.
            (of(96, 0.999, true), false),
            (of(48, 0.989, true), false),
            (of(0, 0.0, false), false),
        ];
        for (coarse, is_coarse) in cases {
            assert_eq!(cheaper(coarse, codes).is_coarse, is_coarse, "{coarse:?}");
        }
        // Where neither finds what is wanted, the better.
        let codes = of(2048, 0.8, false);
        assert!(cheaper(of(2048, 0.81, true), codes).is_coarse);
        assert_eq!(cheaper(of(2048, 0.79, true), codes), codes);
    }
}
