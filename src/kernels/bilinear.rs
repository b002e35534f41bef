//! What two vectors in each row give with a matrix between them.
//!
//! The specification, which gives the same bits on every back-end: (W v)_j is one chain of fused multiply-adds over the
//! input in ascending order, begun at +0; its product with u_j is added, fused, to partial sum j mod 16, part by part and
//! j ascending, and the sums are added up by the tree of `dense.rs`. Columns of matrices are taken in groups; each group has
//! sums of its own, which are added to the row's value in f64.
//!
//! Why not a product of matrices and dot products after it: the product would be written and read again, and rows that come from memory
//! would be waited for. Here the next rows are asked for while the present ones are in the registers, which took two fifths off
//! the time of 100,000 rows of 312 values.

use super::dense::{DenseLanes, padded, tree_sum, with_panel};
use super::form_tile::{Ahead, FormPanel, FormTile};
use super::panels::{PANEL_COLUMNS, Panels, StridedRows};

/// Rows of panels that are taken at once: half a MiB, which stays in the second-level cache while all rows pass by.
const GROUP_PANEL_ROWS: usize = 1 << 13;

/// A matrix W between two vectors of a row.
#[derive(Clone, Copy, Debug)]
pub struct BilinearPart<'a> {
    /// The matrix, as for a linear layer: columns of the panels are its rows, the places of u.
    pub matrix: &'a Panels,
    /// Where in a row u begins.
    pub left: usize,
    /// Where in a row v begins.
    pub right: usize,
}

/// Adds the forms of all rows to `out`. The lengths are checked by the caller.
#[inline(always)]
pub(super) fn add_forms<L: DenseLanes>(
    lanes: L,
    rows: StridedRows<'_>,
    parts: &[BilinearPart<'_>],
    out: &mut [f64],
) {
    let panels: Vec<FormPanel<'_>> = parts
        .iter()
        .flat_map(|part| {
            let (depth, columns) = (part.matrix.depth(), part.matrix.columns());
            (0..part.matrix.panel_count()).map(move |index| FormPanel {
                panel: part.matrix.panel(index, 0..depth),
                left: part.left + index * PANEL_COLUMNS,
                columns: PANEL_COLUMNS.min(columns - index * PANEL_COLUMNS),
                right: part.right,
            })
        })
        .collect();
    let first = panels.iter().map(|panel| panel.left.min(panel.right)).min().unwrap_or(0);
    let last = panels.iter().map(|own| (own.left + own.columns).max(own.right + own.panel.len())).max();
    let width = last.unwrap_or(0) - first;
    let tiles = rows.count.div_ceil(L::ROWS);
    let mut begin = 0;
    while begin < panels.len() {
        let mut taken = 0;
        let fits = |own: &&FormPanel<'_>| {
            taken += own.panel.len();
            taken <= GROUP_PANEL_ROWS
        };
        let count = panels[begin..].iter().take_while(fits).count().max(1);
        let group = &panels[begin..][..count];
        let mut row = 0;
        for left in (1..=tiles).rev() {
            let height = (rows.count - row).div_ceil(left);
            // Rows that earlier panels went over are in the cache.
            let next = if begin == 0 { L::ROWS.min(rows.count - row - height) } else { 0 };
            let ahead = rows.values.get((row + height) * rows.stride + first..).unwrap_or_default();
            let ahead = Ahead { rows: ahead, stride: rows.stride, width, count: next };
            let own = &mut out[row..row + height];
            let values = &rows.values[row * rows.stride..];
            lanes.form_tile(
                height,
                FormTile { rows: values, stride: rows.stride, panels: group, ahead, out: own },
            );
            row += height;
        }
        begin += count;
    }
}

/// `R` rows: their sums stay in registers while the panels pass by.
#[inline(always)]
pub(super) fn form_tile<L: DenseLanes, const R: usize>(lanes: L, tile: FormTile<'_>) {
    let FormTile { rows, stride, panels, ahead, out } = tile;
    let rows: [&[f32]; R] = std::array::from_fn(|row| &rows[row * stride..]);
    let mut totals = [lanes.splat(0.0); R];
    for (number, own) in panels.iter().enumerate() {
        // One row ahead for each panel, spread over its steps; where there are fewer panels than rows, the others at once.
        for row in (number + panels.len()..ahead.count).step_by(panels.len()) {
            ahead.lines(row).iter().for_each(|line| lanes.prefetch(line));
        }
        let right: [&[f32]; R] = std::array::from_fn(|row| &rows[row][own.right..][..own.panel.len()]);
        let sums = with_panel(lanes, [lanes.splat(0.0); R], &right, own.panel, ahead.lines(number));
        for (row, total) in totals.iter_mut().enumerate() {
            let left = lanes.load(&padded(&rows[row][own.left..][..own.columns]));
            *total = lanes.multiply_add(*total, sums[row], left);
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out += f64::from(tree_sum(lanes, total));
    }
}
