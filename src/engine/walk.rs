//! Rows of segments that need not be scanned: led to by a graph, or all that pass a filter.

use rayon::prelude::*;

use super::segment::ScannedCodes;
use super::snapshot::Snapshot;
use super::target::{Access, ENDS, GraphWalk, Question, Target};
use crate::base::{Cancel, RowId, RowSet};
use crate::index::{Candidates, CoarseQuestion, GraphColumn, Threshold, Walk, WalkCounts};
use crate::kernels::Kernels;
use crate::storage::{FileError, GraphFile, GraphLinks};

/// A graph file, and the index file of the same column, as a walk reads them.
struct WalkedColumn<'a> {
    codes: ScannedCodes<'a>,
    graph: &'a GraphFile,
    links: GraphLinks<'a>,
}

impl<'a> GraphColumn for WalkedColumn<'a> {
    type Rows = ScannedCodes<'a>;

    fn rows(&self) -> &ScannedCodes<'a> {
        &self.codes
    }

    fn entry(&self) -> Option<u32> {
        self.graph.head().entry
    }

    fn levels(&self) -> u32 {
        self.graph.head().level_rows.len() as u32
    }

    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), FileError> {
        self.links.append(level, row, links)
    }

    fn ask_for(&self, kernels: Kernels, row: u32) {
        kernels.prefetch(self.links.place(row));
    }

    fn scanned(&self, rows: &mut Vec<u32>) -> Result<(), FileError> {
        self.graph.scanned(rows)
    }
}

/// What walks found.
pub(super) struct Walked {
    /// For each question the candidates of both ends.
    pub(super) candidates: Vec<[Candidates; 2]>,
    /// For each target whether its rows have to be scanned: that was planned, or its graph or codes are damaged.
    pub(super) is_scanned: Vec<bool>,
    /// For each question what its walks did.
    pub(super) counts: Vec<WalkCounts>,
}

/// Walks the graphs of the targets where that was planned, and scores the rows that pass the filter of others, for each
/// question.
pub(super) fn walk_targets(
    snapshot: &Snapshot,
    targets: &[Target<'_>],
    questions: &[Question<'_>],
    thresholds: &[[Threshold; 2]],
    cancel: &Cancel,
) -> Walked {
    let is_scanned = targets.iter().map(Target::is_scanned).collect();
    let candidates = questions.iter().map(Question::no_candidates).collect();
    let mut walked = Walked { candidates, is_scanned, counts: vec![WalkCounts::default(); questions.len()] };
    let mut tasks = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        match &target.access {
            Access::Scan => {}
            Access::Prefilter => {
                tasks.extend((0..questions.len()).map(|place| (number, Task::Filter(place))))
            }
            Access::Graph(graph) => {
                let ends = (0..2).filter(|end| graph.beams[*end] > 0);
                tasks.extend(ends.map(|end| (number, Task::Walk(graph, end))));
            }
        }
    }
    let found: Vec<_> = tasks
        .par_iter()
        .map(|(number, task)| {
            if cancel.is_cancelled() {
                return None;
            }
            let target = &targets[*number];
            let finding = Finding { snapshot, number: *number, target, questions, thresholds, cancel };
            match task {
                Task::Walk(graph, end) => finding.walk(graph, *end),
                Task::Filter(place) => finding.prefilter(*place),
            }
        })
        .collect();
    for ((number, _), _) in tasks.iter().zip(&found).filter(|(_, found)| found.is_none()) {
        walked.is_scanned[*number] = true;
    }
    for ((number, _), found) in tasks.into_iter().zip(found) {
        // The scan finds all rows of a target that could not be walked to the end; none may be found twice.
        for FoundFor { place, candidates, counts } in
            found.filter(|_| !walked.is_scanned[number]).into_iter().flatten()
        {
            let ends = walked.candidates[place].iter_mut().zip(candidates).zip(&thresholds[place]);
            ends.for_each(|((all, found), threshold)| all.merge(found, threshold));
            walked.counts[place].hops += counts.hops;
            walked.counts[place].rows += counts.rows;
        }
    }
    walked
}

/// What is done in one target.
enum Task<'a> {
    /// Its graph is walked over, towards that end, for all questions in turns.
    Walk(&'a GraphWalk, usize),
    /// Rows that pass the filter are scored, for the question at that place.
    Filter(usize),
}

/// What was found for the question at `place`.
struct FoundFor {
    place: usize,
    candidates: [Candidates; 2],
    counts: WalkCounts,
}

/// What is looked for in one target.
struct Finding<'a> {
    snapshot: &'a Snapshot,
    number: usize,
    target: &'a Target<'a>,
    questions: &'a [Question<'a>],
    thresholds: &'a [[Threshold; 2]],
    cancel: &'a Cancel,
}

impl Finding<'_> {
    /// Walks towards one end; `None` if the graph cannot be walked, and is then left alone.
    fn walk(&self, graph: &GraphWalk, end: usize) -> Option<Vec<FoundFor>> {
        let found = self.walk_over(graph, end);
        if found.is_none() {
            self.target.view.segment.graphs.give_up(self.target.column.header().column);
        }
        found
    }

    fn walk_over(&self, walk: &GraphWalk, end: usize) -> Option<Vec<FoundFor>> {
        let Self { target, questions, .. } = self;
        let context = &self.snapshot.inner.context;
        let graph = &walk.graph;
        let codes = ScannedCodes::of(target.index.as_deref()?);
        let column = WalkedColumn { codes, graph, links: graph.links() };
        let coarse = |question: &Question<'_>| {
            if !graph.head().measured(end, question.k).is_coarse {
                return Some(None);
            }
            CoarseQuestion::new(context.kernels, question.vector, &column.codes).ok()
        };
        let coarse: Vec<_> = questions.iter().map(coarse).collect::<Option<_>>()?;
        let wanted = questions.iter().zip(&coarse).map(|(question, coarse)| Walk {
            kernels: context.kernels,
            query: &question.codes,
            coarse: coarse.as_ref(),
            opponents: end == 1,
            beam: walk.beams[end],
            eligible: target.chosen_from(),
        });
        let wanted: Vec<Walk<'_>> = wanted.collect();
        let mut walker = context.walkers.take();
        let found = walker.walk(&column, &wanted);
        context.walkers.give_back(walker);
        let mut all = Vec::with_capacity(questions.len());
        for (place, found) in found.ok()?.into_iter().enumerate() {
            let rows: Vec<u32> = found.rows.iter().map(|(row, _)| row.0).collect();
            let mut candidates = questions[place].no_candidates();
            self.offer(&column.codes, place, &rows, &mut candidates[end..=end], end)?;
            all.push(FoundFor { place, candidates, counts: found.counts });
        }
        Some(all)
    }

    /// Scores the rows that pass the filter, for both ends; `None` if their codes cannot be read, and are then left alone.
    fn prefilter(&self, place: usize) -> Option<Vec<FoundFor>> {
        let rows: Vec<u32> =
            self.target.eligible.as_ref().into_iter().flat_map(RowSet::iter).map(|row| row.0).collect();
        let codes = ScannedCodes::of(self.target.index.as_deref()?);
        let none = || self.questions[place].no_candidates();
        let offered = rows.par_chunks(PREFILTER_CHUNK_ROWS).try_fold(none, |mut found, rows| {
            if let Some(pace) = &self.snapshot.inner.context.pace {
                pace.keep();
            }
            // Whoever cancelled takes no answer.
            if self.cancel.is_cancelled() {
                return Some(found);
            }
            self.offer(&codes, place, rows, &mut found, 0).map(|()| found)
        });
        let offered = offered.try_reduce(none, |mut left, right| {
            for ((left, right), threshold) in left.iter_mut().zip(right).zip(&self.thresholds[place]) {
                left.merge(right, threshold);
            }
            Some(left)
        });
        if offered.is_none() {
            self.target.view.segment.indexes.give_up(self.target.column.header().column);
        }
        let counts = WalkCounts { hops: 0, rows: rows.len() as u64 };
        Some(vec![FoundFor { place, candidates: offered?, counts }])
    }

    /// Offers some rows by their codes, for the question at `place`, to the ends from `first_end` on; `None` if these cannot be read.
    fn offer(
        &self,
        codes: &ScannedCodes<'_>,
        place: usize,
        rows: &[u32],
        candidates: &mut [Candidates],
        first_end: usize,
    ) -> Option<()> {
        let kernels = self.snapshot.inner.context.kernels;
        let (scores, margins) = self.questions[place].score_named(kernels, codes, rows)?;
        candidates.iter_mut().for_each(|end| end.reserve(rows.len()));
        for ((&row, score), margin) in rows.iter().zip(scores).zip(margins) {
            let ends =
                candidates.iter_mut().zip(ENDS.into_iter().zip(&self.thresholds[place]).skip(first_end));
            for (end, (sign, threshold)) in ends {
                end.offer(self.number, RowId(row), score * sign, margin, threshold);
            }
        }
        Some(())
    }
}

/// Rows that pass a filter and are scored together: their sums and numbers stay near.
const PREFILTER_CHUNK_ROWS: usize = 1024;
