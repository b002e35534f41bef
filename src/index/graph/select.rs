//! Which of the rows near a row become its links.
//!
//! A candidate is kept if it is nearer to the row than to any candidate kept before it: links then lead in all
//! directions, and not only into the nearest crowd. Candidates that are as near to both are kept; rows that are the
//! same are not in the graph twice (`duplicates.rs`).
//!
//! References: Malkov and Yashunin 2018, algorithm 4, without extending and without keeping what was dropped.

use super::beam::Scored;
use super::draft::Draft;
use super::error::BuildStop;
use super::space::CodedSpace;

/// Kept rows that a candidate is compared with at once: most candidates fall to one of the first.
const COMPARED_ROWS: usize = 4;

/// Memory of a selection, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Kept rows that candidates are compared with.
    compared: Vec<u32>,
    sums: Vec<i32>,
    similarities: Vec<f32>,
}

impl Selection {
    /// Appends at most `most` of `candidates`, which are sorted, nearest first. Rows attached to the row itself stay, and
    /// take part in no comparison: they are the only way to the rows behind them.
    pub(super) fn select(
        &mut self,
        space: &CodedSpace<'_>,
        draft: &Draft,
        candidates: &[Scored],
        most: usize,
        kept: &mut Vec<u32>,
    ) -> Result<(), BuildStop> {
        self.compared.clear();
        let end = kept.len() + most;
        for candidate in candidates {
            if kept.len() >= end {
                break;
            }
            let row = candidate.row();
            if draft.is_attached(row) {
                kept.push(row);
            } else if self.is_apart(space, *candidate)? {
                kept.push(row);
                self.compared.push(row);
            }
        }
        Ok(())
    }

    fn is_apart(&mut self, space: &CodedSpace<'_>, candidate: Scored) -> Result<bool, BuildStop> {
        for compared in self.compared.chunks(COMPARED_ROWS) {
            space.similarities(candidate.row(), compared, &mut self.sums, &mut self.similarities)?;
            if self.similarities.iter().any(|similarity| *similarity > candidate.score()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
