//! What is asked, and of which rows.

use std::sync::Arc;

use super::segment::{ScannedCodes, SegmentView};
use crate::attribution::Side;
use crate::base::{RowId, RowSet};
use crate::index::{Candidates, CodeScorer, RowScore};
use crate::kernels::{CodeQueries, KernelError, Kernels};
use crate::storage::{ColumnFile, GraphFile, IndexFile};

/// How the rows of a segment are found.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// All are scored.
    Scan,
    /// Those that may be chosen are scored by their codes, the others are not looked at.
    Prefilter,
    /// Those that a walk is led to.
    Graph(GraphWalk),
}

/// A graph to walk.
#[derive(Clone, Debug)]
pub(super) struct GraphWalk {
    pub(super) graph: Arc<GraphFile>,
    /// The beam for each end, 0 at one that is not asked for.
    pub(super) beams: [usize; 2],
}

/// A segment that has the column.
pub(super) struct Target<'a> {
    pub(super) position: usize,
    pub(super) view: &'a SegmentView,
    pub(super) column: &'a ColumnFile,
    /// Its index, if it is to be used.
    pub(super) index: Option<Arc<IndexFile>>,
    pub(super) access: Access,
    /// Rows that may be chosen; `None` if all live rows may.
    pub(super) eligible: Option<RowSet>,
}

impl Target<'_> {
    /// Whether a scan forgets the scores of rows that are none of the best. With a filter the rows of an answer come from the
    /// middle of all scores, and their places among those have to be counted.
    pub(super) fn keeps_no_scores(&self) -> bool {
        self.index.is_some() && self.eligible.is_none()
    }

    pub(super) fn is_scanned(&self) -> bool {
        matches!(self.access, Access::Scan)
    }

    /// Rows that count for the choice.
    pub(super) fn chosen_from(&self) -> Option<&RowSet> {
        self.eligible.as_ref().or(self.view.live.as_deref())
    }

    /// Every `step`th row, of those that are live.
    pub(super) fn sampled_rows(&self, step: usize) -> impl Iterator<Item = u32> {
        let live = self.view.live.as_deref();
        (0..self.rows())
            .step_by(step.max(1))
            .filter(move |row| live.is_none_or(|live| live.contains(RowId(*row))))
    }

    pub(super) fn rows(&self) -> u32 {
        self.column.header().row_count
    }
}

/// What is asked of a scan.
pub(super) struct Question<'a> {
    pub(super) vector: &'a [f32],
    /// The same in steps, for codes.
    pub(super) codes: CodeQueries,
    pub(super) kind: RowScore,
    pub(super) side: Side,
    /// Rows wanted at each end.
    pub(super) k: usize,
}

impl Question<'_> {
    /// No rows yet, of as many as are wanted at each end.
    pub(super) fn no_candidates(&self) -> [Candidates; 2] {
        limits(self.side, self.k).map(Candidates::new)
    }

    /// Scores of some rows by their 8-bit codes, and by how much each may be off; `None` if these cannot be read.
    pub(super) fn score_named(
        &self,
        kernels: Kernels,
        codes: &ScannedCodes<'_>,
        rows: &[u32],
    ) -> Option<(Vec<f64>, Vec<f64>)> {
        let mut scorer = CodeScorer::new(kernels, &self.codes, codes).ok()?;
        scorer.read_at(rows).ok()?;
        let (mut scores, mut margins) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        scorer.score(0, self.kind, &mut scores, &mut margins).ok()?;
        Some((scores, margins))
    }

    /// The codes of at most four questions, for one pass.
    pub(super) fn joined_codes(questions: &[Self]) -> Result<CodeQueries, KernelError> {
        let codes: Vec<&CodeQueries> = questions.iter().map(|question| &question.codes).collect();
        CodeQueries::join(&codes)
    }
}

/// Rows wanted at each end, 0 at one that is not asked for.
pub(super) fn limits(side: Side, k: usize) -> [usize; 2] {
    [side.has_proponents(), side.has_opponents()].map(|wanted| if wanted { k } else { 0 })
}

/// The ends of the scores, as signs: of opponents the negatives are compared.
pub(super) const ENDS: [f64; 2] = [1.0, -1.0];
