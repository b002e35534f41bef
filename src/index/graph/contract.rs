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
use super::walk::{Walk, Walker, step};
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

/// A question, what it ought to find at either end, and what it found.
#[derive(Debug)]
struct Question {
    query: CodeQueries,
    best: [Nearest; 2],
    /// By end, number of best rows, and beam.
    found: [[[u32; GRAPH_BEAMS.len()]; BEST.len()]; 2],
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
        self.walk(&mut questions, work)?;
        let mut recall = [GraphRecall::default(); 4];
        let places = (0..2).flat_map(|end| (0..BEST.len()).map(move |best| (end, best)));
        for (measured, (end, best)) in recall.iter_mut().zip(places) {
            *measured = recall_of(&questions, end, best);
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
                let mut best = [Nearest::default(), Nearest::default()];
                best.iter_mut().for_each(|best| best.begin(BEST[1]));
                Ok(Question { query, best, found: Default::default() })
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

    /// What walks find of the best rows of each question: a walk of each thread at a time, as the widest take milliseconds.
    fn walk(&self, questions: &mut [Question], work: &GraphWork<'_>) -> Result<(), GraphError<R::Error>> {
        for slice in questions.chunks_mut(work.threads()) {
            let mut walking: Vec<(&mut Question, Walker)> =
                slice.iter_mut().map(|question| (question, Walker::default())).collect();
            for (end, place) in (0..2).flat_map(|end| (0..GRAPH_BEAMS.len()).map(move |place| (end, place))) {
                work.in_parallel(&mut walking, |(question, walker)| {
                    self.walk_once(question, end, place, walker)
                })?;
            }
        }
        Ok(())
    }

    fn walk_once(
        &self,
        question: &mut Question,
        end: usize,
        place: usize,
        walker: &mut Walker,
    ) -> Result<(), GraphError<R::Error>> {
        let Question { query, best, found: counts } = question;
        let best = best[end].rows();
        let (beam, opponents) = (GRAPH_BEAMS[place] as usize, end == 1);
        let walk = Walk { kernels: self.kernels, query, opponents, beam, eligible: None };
        walker.walk(self, &walk, &mut Vec::new())?;
        for (counts, most) in counts[end].iter_mut().zip(BEST) {
            let best = &best[..most.min(best.len())];
            let last = best.last().map_or(f32::INFINITY, |last| last.score());
            let scores = walker.best().iter().take(best.len());
            counts[place] = scores.filter(|scored| scored.score() >= last).count() as u32;
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

/// The least beam with the recall that is wanted, or the best there is.
fn recall_of(questions: &[Question], end: usize, best: usize) -> GraphRecall {
    let there: usize = questions.iter().map(|question| question.best[end].rows().len().min(BEST[best])).sum();
    let mut most = GraphRecall::default();
    for (place, &beam) in GRAPH_BEAMS.iter().enumerate() {
        let found: u32 = questions.iter().map(|question| question.found[end][best][place]).sum();
        let recall = (f64::from(found) / there.max(1) as f64) as f32;
        if recall > most.recall || most.beam == 0 {
            most = GraphRecall { beam, recall };
        }
        if f64::from(recall) >= GRAPH_RECALL_WANTED {
            break;
        }
    }
    most
}
