//! Matrices laid out for products.

use std::ops::Range;

/// Columns of one panel: sixteen f32 values fill two AVX2 registers or one of AVX-512.
pub(super) const PANEL_COLUMNS: usize = 16;

/// One row of a panel: sixteen neighbouring columns.
pub(super) type PanelRow = [f32; PANEL_COLUMNS];

/// A row of a panel where it is stored: one cache line, so that no load takes from two.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(super) struct StoredRow(pub(super) PanelRow);

/// The right factor of products, in panels of sixteen columns: the values that one step of the inner loop needs lie
/// side by side, and a panel is read front to back. Columns beyond the last are zero.
///
/// ```
/// use ascribe::kernels::Panels;
/// // Two output columns with three inputs each, as a linear layer stores its weights.
/// let panels = Panels::of_weights(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
/// assert_eq!((panels.depth(), panels.columns()), (3, 2));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Panels {
    rows: Vec<StoredRow>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// Packs the weights of a linear layer, `columns` rows of `depth` values: column j of the factor is row j of
    /// `weights`. Values that are missing at the end of `weights` are zero.
    ///
    /// # Complexity
    /// O(columns x depth); the result holds 4 bytes a value, columns rounded up to sixteen.
    pub fn of_weights(weights: &[f32], columns: usize, depth: usize) -> Self {
        let mut panels = Self::default();
        panels.pack_transposed(weights, depth, columns, depth);
        panels
    }

    /// Length of the sums: rows of the factor.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the factor: values of a row of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Packs the factor whose column j is `values[j * stride..][..depth]`, in place of what was there.
    pub fn pack_transposed(&mut self, values: &[f32], stride: usize, columns: usize, depth: usize) {
        self.resize(depth, columns);
        for (panel, first) in self.rows.chunks_exact_mut(depth.max(1)).zip((0..).step_by(PANEL_COLUMNS)) {
            for lane in 0..PANEL_COLUMNS.min(columns - first) {
                let column = values.get((first + lane) * stride..).unwrap_or_default();
                for (row, value) in panel.iter_mut().zip(column) {
                    row.0[lane] = *value;
                }
            }
        }
    }

    /// Packs the factor whose row i is `values[i * stride..][..columns]`, in place of what was there.
    pub fn pack_rows(&mut self, values: &[f32], stride: usize, columns: usize, depth: usize) {
        self.resize(depth, columns);
        for (panel, first) in self.rows.chunks_exact_mut(depth.max(1)).zip((0..).step_by(PANEL_COLUMNS)) {
            let lanes = PANEL_COLUMNS.min(columns - first);
            for (index, row) in panel.iter_mut().enumerate() {
                let from = values.get(index * stride + first..).unwrap_or_default();
                for (to, value) in row.0[..lanes].iter_mut().zip(from) {
                    *to = *value;
                }
            }
        }
    }

    fn resize(&mut self, depth: usize, columns: usize) {
        self.rows.clear();
        self.rows.resize(columns.div_ceil(PANEL_COLUMNS) * depth, StoredRow([0.0; PANEL_COLUMNS]));
        (self.depth, self.columns) = (depth, columns);
    }

    /// Rows `steps` of a panel, counted from the left; none of one that does not exist.
    pub(super) fn panel(&self, index: usize, steps: Range<usize>) -> &[StoredRow] {
        let first = index * self.depth;
        self.rows.get(first + steps.start..first + steps.end).unwrap_or_default()
    }

    /// Number of panels.
    pub(super) fn panel_count(&self) -> usize {
        self.columns.div_ceil(PANEL_COLUMNS)
    }
}

/// The left factor of products: `count` rows, the first value of row i at `values[i * stride]`.
#[derive(Clone, Copy, Debug)]
pub struct StridedRows<'a> {
    /// The rows and what lies between them.
    pub values: &'a [f32],
    /// Values from the beginning of a row to that of the next.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

/// Where a product goes: row i to `values[i * stride..][..columns]`.
#[derive(Debug)]
pub struct StridedOutput<'a> {
    /// The rows and what lies between them.
    pub values: &'a mut [f32],
    /// Values from the beginning of a row to that of the next.
    pub stride: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_packed_by_rows_or_by_columns_is_the_same() {
        for (depth, columns) in [(1, 1), (3, 16), (5, 17), (2, 40), (0, 3), (4, 0)] {
            let by_rows: Vec<f32> = (0..depth * columns).map(|value| value as f32).collect();
            let by_columns: Vec<f32> = (0..columns)
                .flat_map(|column| (0..depth).map(move |row| (row * columns + column) as f32))
                .collect();
            let (mut left, mut right) = (Panels::default(), Panels::of_weights(&[9.0; 99], 9, 11));
            left.pack_rows(&by_rows, columns, columns, depth);
            right.pack_transposed(&by_columns, depth, columns, depth);
            assert_eq!(left.rows, right.rows, "{depth} x {columns}");
            assert_eq!((right.depth(), right.columns()), (depth, columns));
            let padding = left.rows.iter().skip(columns / PANEL_COLUMNS * depth);
            assert!(padding.flat_map(|row| &row.0[columns % PANEL_COLUMNS..]).all(|value| *value == 0.0));
        }
    }
}
