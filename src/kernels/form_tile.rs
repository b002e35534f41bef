//! What is handed to the inner loop of forms: some rows, panels of matrices, and what comes next.

use super::panels::{PanelRow, StoredRow};

/// Sixteen rows of a matrix, and what they stand between.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormPanel<'a> {
    pub(super) panel: &'a [StoredRow],
    /// Where in a row their places of u begin, and how many there are.
    pub(super) left: usize,
    pub(super) columns: usize,
    /// Where in a row v begins.
    pub(super) right: usize,
}

/// Some rows' part of forms.
#[derive(Debug)]
pub(super) struct FormTile<'a> {
    /// The first row, and the rows behind it.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) panels: &'a [FormPanel<'a>],
    /// What the next rows hold that is needed, to ask for.
    pub(super) ahead: Ahead<'a>,
    pub(super) out: &'a mut [f64],
}

/// Rows that are needed soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead<'a> {
    /// They, from the first value that is needed.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    /// Values from the first to the last of a row that are needed.
    pub(super) width: usize,
    /// Rows that the tile in hand should ask for.
    pub(super) count: usize,
}

impl<'a> Ahead<'a> {
    /// The lines of a row; none of one that is not asked for.
    #[inline(always)]
    pub(super) fn lines(&self, row: usize) -> &'a [PanelRow] {
        let values = if row < self.count { self.rows.get(row * self.stride..) } else { None };
        let values = values.unwrap_or_default();
        values[..self.width.min(values.len())].as_chunks().0
    }
}
