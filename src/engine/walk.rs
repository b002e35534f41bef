//! Rows of segments with a graph, found by walking it.

use rayon::prelude::*;

use super::segment::ScannedCodes;
use super::snapshot::Snapshot;
use super::target::{ENDS, Question, Target};
use crate::base::{Cancel, RowId};
use crate::index::{Candidates, CodeScorer, GraphColumn, Threshold, Walk, WalkCounts};
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
    /// For each target whether its rows have to be scanned: it has no graph to walk, or a damaged one.
    pub(super) is_scanned: Vec<bool>,
    /// For each question what its walks did.
    pub(super) counts: Vec<WalkCounts>,
}

/// Walks the graphs of the targets that have one, for each question.
pub(super) fn walk_targets(
    snapshot: &Snapshot,
    targets: &[Target<'_>],
    questions: &[Question<'_>],
    candidates: Vec<[Candidates; 2]>,
    thresholds: &[[Threshold; 2]],
    cancel: &Cancel,
) -> Walked {
    let is_scanned = targets.iter().map(|target| target.walk.is_none()).collect();
    let mut walked = Walked { candidates, is_scanned, counts: vec![WalkCounts::default(); questions.len()] };
    let mut tasks = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let Some(walk) = &target.walk else { continue };
        for question in 0..questions.len() {
            tasks.extend((0..2).filter(|end| walk.beams[*end] > 0).map(|end| (number, question, end)));
        }
    }
    let found: Vec<_> = tasks
        .par_iter()
        .map(|&(number, question, end)| {
            if cancel.is_cancelled() {
                return None;
            }
            let mut candidates = walked.candidates[question][end].emptied();
            let threshold = &thresholds[question][end];
            let counts = walk(
                snapshot,
                number,
                &targets[number],
                &questions[question],
                end,
                &mut candidates,
                threshold,
            );
            counts.map(|counts| (candidates, counts))
        })
        .collect();
    for ((number, ..), _) in tasks.iter().zip(&found).filter(|(_, found)| found.is_none()) {
        walked.is_scanned[*number] = true;
    }
    for ((number, question, end), found) in tasks.into_iter().zip(found) {
        // The scan finds all rows of a target that could not be walked to the end; none may be found twice.
        let Some((candidates, counts)) = found.filter(|_| !walked.is_scanned[number]) else { continue };
        walked.candidates[question][end].merge(candidates, &thresholds[question][end]);
        walked.counts[question].hops += counts.hops;
        walked.counts[question].rows += counts.rows;
    }
    walked
}

/// Walks towards one end; `None` if the graph cannot be walked, and is then left alone.
fn walk(
    snapshot: &Snapshot,
    number: usize,
    target: &Target<'_>,
    question: &Question<'_>,
    end: usize,
    candidates: &mut Candidates,
    threshold: &Threshold,
) -> Option<WalkCounts> {
    let context = &snapshot.inner.context;
    let (walk, codes) = (target.walk.as_ref()?, target.index.as_deref()?);
    let graph = &walk.graph;
    let column = WalkedColumn { codes: ScannedCodes::of(codes), graph, links: graph.links() };
    let mut walker = context.walkers.take();
    let mut found = Vec::new();
    let wanted = Walk {
        kernels: context.kernels,
        query: &question.codes,
        opponents: end == 1,
        beam: walk.beams[end],
        eligible: target.chosen_from(),
    };
    let counts = walker.walk(&column, &wanted, &mut found);
    context.walkers.give_back(walker);
    let scored = counts.ok().and_then(|counts| {
        let rows: Vec<u32> = found.iter().map(|(row, _)| row.0).collect();
        let (scores, margins) = score_at(snapshot, question, &column.codes, &rows)?;
        for ((&row, score), margin) in rows.iter().zip(scores).zip(margins) {
            candidates.offer(number, RowId(row), score * ENDS[end], margin, threshold);
        }
        Some(counts)
    });
    if scored.is_none() {
        target.view.segment.graphs.give_up(target.column.header().column);
    }
    scored
}

/// Scores of some rows by their codes, and by how much each may be off.
fn score_at(
    snapshot: &Snapshot,
    question: &Question<'_>,
    codes: &ScannedCodes<'_>,
    rows: &[u32],
) -> Option<(Vec<f64>, Vec<f64>)> {
    let mut scorer = CodeScorer::new(snapshot.inner.context.kernels, &question.codes, codes).ok()?;
    scorer.read_at(rows).ok()?;
    let (mut scores, mut margins) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
    scorer.score(0, question.kind, &mut scores, &mut margins).ok()?;
    Some((scores, margins))
}
