//! Products of f32 matrices and the functions between them, once for every instruction set: sixteen lanes.
//!
//! The specification, which gives the same bits on every back-end:
//! - A value of a product is one chain of fused multiply-adds over the depth in ascending order, begun at +0; the bias is
//!   added at the end. It depends on its row and its column only, not on the other rows of the call.
//! - A sum over a row (softmax, layer norm) is taken in sixteen partial sums, value j in partial sum j mod 16, which a tree
//!   adds up: i and i + 8, then i and i + 4, i + 2, i + 1.
//! - Functions are polynomials evaluated by Horner's rule with fused multiply-adds, written down here.
//!
//! Everything is `inline(always)`, so that it is compiled inside the wrapper that enables an instruction set. A product
//! enters such a wrapper once more for each tile ([`DenseLanes::tile`]).

use super::form_tile::FormTile;
use super::panels::{PANEL_COLUMNS, PanelRow, Panels, StoredRow, StridedOutput, StridedRows};

/// Steps of the depth taken at once: sixteen columns of them, 24 KiB, stay in the first-level cache while all rows of
/// a block pass by. Fewer (128, 192, 256) cost 3 to 8% of an encoder's time, as sums are stored and loaded again.
const DEPTH_BLOCK: usize = 384;

/// Steps of the inner loop of a product between two of its tests.
const UNROLLED: usize = 4;

/// 1.5 * 2^23: adding it to a small number rounds that to an integer, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// What added to the bits of n + 1.5 * 2^23 gives n + 127, the exponent of 2^n, in the lowest eight.
pub(super) const POWER_OF_TWO_OFFSET: i32 = 127 - 0x4b40_0000;

/// Sixteen f32 lanes of one instruction set. A value of the implementing type proves that the processor has it.
pub(super) trait DenseLanes: Copy {
    /// Sixteen f32 values in registers.
    type Values: Copy;

    /// Rows that the inner loop of a product takes at once: as many as the registers hold sums for.
    const ROWS: usize;

    fn splat(self, value: f32) -> Self::Values;
    fn load(self, values: &PanelRow) -> Self::Values;
    fn store(self, values: Self::Values, to: &mut PanelRow);
    fn add(self, left: Self::Values, right: Self::Values) -> Self::Values;
    fn subtract(self, left: Self::Values, right: Self::Values) -> Self::Values;
    fn multiply(self, left: Self::Values, right: Self::Values) -> Self::Values;
    fn divide(self, left: Self::Values, right: Self::Values) -> Self::Values;
    /// left * right + sums, rounded once.
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values;
    /// The smaller of both; `right` where one is not a number.
    fn minimum(self, left: Self::Values, right: Self::Values) -> Self::Values;
    /// The larger of both; `right` where one is not a number.
    fn maximum(self, left: Self::Values, right: Self::Values) -> Self::Values;
    /// 2 to the power n, where `values` is n + 1.5 * 2^23 and -126 <= n <= 127.
    fn power_of_two(self, values: Self::Values) -> Self::Values;
    /// [`tile`] of 1 to [`ROWS`](Self::ROWS) rows, as a function of its own.
    ///
    /// Why not inlined like the rest: in one function with everything around it, the addresses of six rows no longer fit
    /// the registers. The inner loop then has half as many instructions again, which does not show while a core has one
    /// thread and costs a third of the speed as soon as its other hardware thread is busy.
    fn tile(self, rows: usize, tile: Tile<'_>);
    /// [`form_tile`](super::bilinear::form_tile) of 1 to [`ROWS`](Self::ROWS) rows, as a function of its own.
    fn form_tile(self, rows: usize, tile: FormTile<'_>);
    /// Asks for the cache line that a value begins in, which is needed soon.
    fn prefetch<T>(self, line: &T);
}

/// Product of `rows` and `panels`, plus `bias` in every row. The lengths are checked by the caller: `rows` holds
/// `panels.depth()` values a row, `out` has room for `panels.columns()`, `bias` is as long.
#[inline(always)]
pub(super) fn product<L: DenseLanes>(
    lanes: L,
    rows: StridedRows<'_>,
    panels: &Panels,
    bias: Option<&[f32]>,
    out: &mut StridedOutput<'_>,
) {
    let depth = panels.depth();
    if depth == 0 {
        for row in 0..rows.count {
            let to = &mut out.values[row * out.stride..][..panels.columns()];
            match bias {
                Some(bias) => to.copy_from_slice(bias),
                None => to.fill(0.0),
            }
        }
        return;
    }
    let tiles = rows.count.div_ceil(L::ROWS);
    let mut begin = 0;
    while begin < depth {
        let end = depth.min(begin + DEPTH_BLOCK);
        let bias = bias.filter(|_| end == depth);
        for index in 0..panels.panel_count() {
            let first = index * PANEL_COLUMNS;
            let columns = PANEL_COLUMNS.min(panels.columns() - first);
            let next = panels.panel(index + 1, begin..end);
            let mut ahead = next.chunks(next.len().div_ceil(tiles.max(1)).max(1));
            let mut row = 0;
            for left in (1..=tiles).rev() {
                let tile = Tile {
                    rows: &rows.values[row * rows.stride + begin..],
                    row_stride: rows.stride,
                    panel: panels.panel(index, begin..end),
                    ahead: ahead.next().unwrap_or_default(),
                    resumed: begin > 0,
                    bias: bias.map(|bias| &bias[first..][..columns]),
                    out: &mut out.values[row * out.stride + first..],
                    out_stride: out.stride,
                    columns,
                };
                // Tiles of equal height: a low one waits for its own sums.
                let count = (rows.count - row).div_ceil(left);
                lanes.tile(count, tile);
                row += count;
            }
        }
        begin = end;
    }
}

/// Some rows' part of a product: one panel, over one block of the depth.
#[derive(Debug)]
pub(super) struct Tile<'a> {
    /// The first row, from the first step of the block of the depth, and the rows behind it.
    rows: &'a [f32],
    row_stride: usize,
    panel: &'a [StoredRow],
    /// Part of the next panel to ask for. Weights come from the last-level cache or from memory, and the first tile of
    /// the next panel would wait for them.
    ahead: &'a [StoredRow],
    /// Whether the output holds the sums of earlier steps of the depth.
    resumed: bool,
    /// What is added at the end, if this is the last block of the depth.
    bias: Option<&'a [f32]>,
    /// The first row's columns, and what lies behind them.
    out: &'a mut [f32],
    out_stride: usize,
    /// Columns that exist: sixteen, except of the last panel.
    columns: usize,
}

/// `R` rows of a product: their sums stay in registers while the panel passes by.
#[inline(always)]
pub(super) fn tile<L: DenseLanes, const R: usize>(lanes: L, tile: Tile<'_>) {
    let Tile { rows, row_stride, panel, ahead, resumed, bias, out, out_stride, columns } = tile;
    let rows: [&[f32]; R] = std::array::from_fn(|row| &rows[row * row_stride..][..panel.len()]);
    let mut sums = [lanes.splat(0.0); R];
    if resumed {
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = lanes.load(&padded(&out[row * out_stride..][..columns]));
        }
    }
    let mut sums = with_panel(lanes, sums, &rows, panel, ahead);
    if let Some(bias) = bias {
        let bias = lanes.load(&padded(bias));
        for sum in &mut sums {
            *sum = lanes.add(*sum, bias);
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        let to = &mut out[row * out_stride..][..columns];
        match to.as_mut_array::<PANEL_COLUMNS>() {
            Some(to) => lanes.store(sum, to),
            None => {
                let mut whole = [0.0; PANEL_COLUMNS];
                lanes.store(sum, &mut whole);
                to.copy_from_slice(&whole[..columns]);
            }
        }
    }
}

/// The sums, and the products of the rows with a panel of as many steps. Meanwhile the lines `ahead` are asked for. By value:
/// behind a reference the sums would lie in memory.
#[inline(always)]
pub(super) fn with_panel<L: DenseLanes, T, const R: usize>(
    lanes: L,
    mut sums: [L::Values; R],
    rows: &[&[f32]; R],
    panel: &[StoredRow],
    ahead: &[T],
) -> [L::Values; R] {
    let (blocks, rest) = panel.as_chunks::<UNROLLED>();
    let row_blocks: [&[[f32; UNROLLED]]; R] =
        std::array::from_fn(|row| &rows[row].as_chunks().0[..blocks.len()]);
    // One line a turn of the loop: all at once they would wait for each other. A turn has no test for it either, so that
    // there are two loops.
    let (at_once, ahead) = ahead.split_at(ahead.len().saturating_sub(blocks.len()));
    for line in at_once {
        lanes.prefetch(line);
    }
    for (index, (block, line)) in blocks.iter().zip(ahead).enumerate() {
        lanes.prefetch(line);
        sums = with_block(lanes, sums, &row_blocks, block, index);
    }
    for (index, block) in blocks.iter().enumerate().skip(ahead.len()) {
        sums = with_block(lanes, sums, &row_blocks, block, index);
    }
    for (step, right) in (panel.len() - rest.len()..).zip(rest) {
        let right = lanes.load(&right.0);
        for row in 0..R {
            sums[row] = lanes.multiply_add(sums[row], lanes.splat(rows[row][step]), right);
        }
    }
    sums
}

/// The sums, and the products of block `index` of the rows with `panel`.
#[inline(always)]
fn with_block<L: DenseLanes, const R: usize>(
    lanes: L,
    mut sums: [L::Values; R],
    rows: &[&[[f32; UNROLLED]]; R],
    panel: &[StoredRow; UNROLLED],
    index: usize,
) -> [L::Values; R] {
    for (step, right) in panel.iter().enumerate() {
        let right = lanes.load(&right.0);
        for row in 0..R {
            sums[row] = lanes.multiply_add(sums[row], lanes.splat(rows[row][index][step]), right);
        }
    }
    sums
}

/// exp(x) for x <= 0, to 2 units in the last place; below -87 it is that of -87, 1.6e-38.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2: 2^n times the Taylor polynomial of degree 7, whose remainder is below 6e-9.
#[inline(always)]
fn exponential<L: DenseLanes>(lanes: L, x: L::Values) -> L::Values {
    // ln 2 in two parts: a product of the first with an integer below 2^8 is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const TERMS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = lanes.maximum(x, lanes.splat(-87.0));
    let shifted = lanes.multiply_add(lanes.splat(ROUND), x, lanes.splat(std::f32::consts::LOG2_E));
    let n = lanes.subtract(shifted, lanes.splat(ROUND));
    let r = lanes.multiply_add(x, n, lanes.splat(-LN_2_HIGH));
    let r = lanes.multiply_add(r, n, lanes.splat(-LN_2_LOW));
    let mut sum = lanes.splat(1.0 / 5040.0);
    for term in TERMS {
        sum = lanes.multiply_add(lanes.splat(term), sum, r);
    }
    lanes.multiply(sum, lanes.power_of_two(shifted))
}

/// erf(z), to 4e-7.
///
/// z P(z^2) / Q(z^2) for |z| <= 3.9, where 1 - erf is below 4e-8; the coefficients are a least-squares fit, reweighted
/// until its largest error was least.
#[inline(always)]
fn error_function<L: DenseLanes>(lanes: L, z: L::Values) -> L::Values {
    const LIMIT: f32 = 3.9;
    #[allow(
        clippy::approx_constant,
        reason = "fitted: the last is near 2 / sqrt pi, as it must be, and not it"
    )]
    const NUMERATOR: [f32; 6] =
        [2.050_481_3e-6, 2.874_485e-4, 3.836_435_5e-3, 5.296_557e-2, 1.919_305_2e-1, 1.128_379];
    const DENOMINATOR: [f32; 6] =
        [3.823_126_5e-5, 1.181_629_7e-3, 1.510_832_4e-2, 1.147_538_95e-1, 5.034_258e-1, 1.0];
    let z = lanes.minimum(lanes.maximum(z, lanes.splat(-LIMIT)), lanes.splat(LIMIT));
    let square = lanes.multiply(z, z);
    let mut numerator = lanes.splat(NUMERATOR[0]);
    let mut denominator = lanes.splat(DENOMINATOR[0]);
    for index in 1..6 {
        numerator = lanes.multiply_add(lanes.splat(NUMERATOR[index]), numerator, square);
        denominator = lanes.multiply_add(lanes.splat(DENOMINATOR[index]), denominator, square);
    }
    let quotient = lanes.divide(lanes.multiply(z, numerator), denominator);
    lanes.minimum(lanes.maximum(quotient, lanes.splat(-1.0)), lanes.splat(1.0))
}

/// x (1 + erf(x / sqrt 2)) / 2 for each value.
#[inline(always)]
pub(super) fn gelu<L: DenseLanes>(lanes: L, values: &mut [f32]) {
    let (blocks, tail) = values.as_chunks_mut();
    for block in blocks {
        gelu_block(lanes, block);
    }
    let mut block = padded(tail);
    gelu_block(lanes, &mut block);
    tail.copy_from_slice(&block[..tail.len()]);
}

#[inline(always)]
fn gelu_block<L: DenseLanes>(lanes: L, block: &mut PanelRow) {
    let x = lanes.load(block);
    let erf = error_function(lanes, lanes.multiply(x, lanes.splat(std::f32::consts::FRAC_1_SQRT_2)));
    let half = lanes.multiply(x, lanes.splat(0.5));
    lanes.store(lanes.multiply_add(half, half, erf), block);
}

/// x (1 + tanh(y)) / 2 with y = sqrt(2 / pi) (x + 0.044715 x^3), for each value; that is x / (1 + exp(-2 y)).
#[inline(always)]
pub(super) fn gelu_tanh<L: DenseLanes>(lanes: L, values: &mut [f32]) {
    let (blocks, tail) = values.as_chunks_mut();
    for block in blocks {
        gelu_tanh_block(lanes, block);
    }
    let mut block = padded(tail);
    gelu_tanh_block(lanes, &mut block);
    tail.copy_from_slice(&block[..tail.len()]);
}

#[inline(always)]
fn gelu_tanh_block<L: DenseLanes>(lanes: L, block: &mut PanelRow) {
    // 2 sqrt(2 / pi).
    const TWICE: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    let (x, zero) = (lanes.load(block), lanes.splat(0.0));
    let cubic = lanes.multiply_add(lanes.splat(1.0), lanes.multiply(x, x), lanes.splat(0.044_715));
    let y = lanes.multiply(lanes.multiply(x, cubic), lanes.splat(TWICE));
    // 1 / (1 + exp(-y)) for y >= 0, exp(y) / (1 + exp(y)) below: no power is above 1.
    let below = exponential(lanes, lanes.minimum(y, zero));
    let minus_absolute = lanes.minimum(y, lanes.subtract(zero, y));
    let power = exponential(lanes, minus_absolute);
    let quotient = lanes.divide(lanes.multiply(x, below), lanes.add(lanes.splat(1.0), power));
    lanes.store(quotient, block);
}

/// exp(scale x_j) / sum of exp(scale x_i), for a row of at least one value; `scale` is positive.
#[inline(always)]
pub(super) fn softmax<L: DenseLanes>(lanes: L, row: &mut [f32], scale: f32) {
    let (blocks, tail) = row.as_chunks_mut();
    let mut last = padded_with(tail, f32::NEG_INFINITY);
    let mut largest = lanes.load(&last);
    for block in blocks.iter() {
        largest = lanes.maximum(largest, lanes.load(block));
    }
    let mut array = [0.0; PANEL_COLUMNS];
    lanes.store(largest, &mut array);
    let largest = lanes.splat(array.into_iter().fold(f32::NEG_INFINITY, f32::max));
    let scale = lanes.splat(scale);
    let mut sums = lanes.splat(0.0);
    for block in blocks.iter_mut() {
        let powers = exponential(lanes, lanes.multiply(lanes.subtract(lanes.load(block), largest), scale));
        lanes.store(powers, block);
        sums = lanes.add(sums, powers);
    }
    let powers = exponential(lanes, lanes.multiply(lanes.subtract(lanes.load(&last), largest), scale));
    lanes.store(powers, &mut last);
    // The padding is no part of the sum.
    last[tail.len()..].fill(0.0);
    sums = lanes.add(sums, lanes.load(&last));
    let share = lanes.splat(1.0 / tree_sum(lanes, sums));
    for block in blocks.iter_mut() {
        lanes.store(lanes.multiply(lanes.load(block), share), block);
    }
    lanes.store(lanes.multiply(lanes.load(&last), share), &mut last);
    tail.copy_from_slice(&last[..tail.len()]);
}

/// (x - mean) / sqrt(variance + epsilon) * gain + shift, for each row of `gain.len()` values of x = `values` +
/// `residual`, the variance that of the whole row (divided by its length). `shift` is as long as `gain`, `residual` as
/// `values` or empty.
#[inline(always)]
pub(super) fn layer_norm<L: DenseLanes>(
    lanes: L,
    values: &mut [f32],
    residual: &[f32],
    gain: &[f32],
    shift: &[f32],
    epsilon: f32,
) {
    let width = gain.len();
    for (index, row) in values.chunks_exact_mut(width.max(1)).enumerate() {
        if !residual.is_empty() {
            for (value, other) in row.iter_mut().zip(&residual[index * width..]) {
                *value += other;
            }
        }
        let mean = row_sum(lanes, row, 0.0, false) / width as f32;
        let variance = row_sum(lanes, row, mean, true) / width as f32;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        let (mean, inverse) = (lanes.splat(mean), lanes.splat(inverse));
        let (blocks, tail) = row.as_chunks_mut::<PANEL_COLUMNS>();
        let (gains, gain_tail) = gain.as_chunks();
        let (shifts, shift_tail) = shift.as_chunks();
        for ((block, gain), shift) in blocks.iter_mut().zip(gains).zip(shifts) {
            scale_block(lanes, block, mean, inverse, gain, shift);
        }
        let mut last = padded(tail);
        scale_block(lanes, &mut last, mean, inverse, &padded(gain_tail), &padded(shift_tail));
        tail.copy_from_slice(&last[..tail.len()]);
    }
}

#[inline(always)]
fn scale_block<L: DenseLanes>(
    lanes: L,
    block: &mut PanelRow,
    mean: L::Values,
    inverse: L::Values,
    gain: &PanelRow,
    shift: &PanelRow,
) {
    let normal = lanes.multiply(lanes.subtract(lanes.load(block), mean), inverse);
    lanes.store(lanes.multiply_add(lanes.load(shift), normal, lanes.load(gain)), block);
}

/// Sum of x - `mean`, or of its squares, over a row.
#[inline(always)]
fn row_sum<L: DenseLanes>(lanes: L, row: &[f32], mean: f32, squared: bool) -> f32 {
    let (blocks, tail) = row.as_chunks::<PANEL_COLUMNS>();
    let mean_lanes = lanes.splat(mean);
    let mut sums = lanes.splat(0.0);
    for block in blocks {
        let value = lanes.subtract(lanes.load(block), mean_lanes);
        sums = if squared { lanes.multiply_add(sums, value, value) } else { lanes.add(sums, value) };
    }
    // Padded with the mean, the padding adds nothing.
    let value = lanes.subtract(lanes.load(&padded_with(tail, mean)), mean_lanes);
    sums = if squared { lanes.multiply_add(sums, value, value) } else { lanes.add(sums, value) };
    tree_sum(lanes, sums)
}

#[inline(always)]
pub(super) fn tree_sum<L: DenseLanes>(lanes: L, sums: L::Values) -> f32 {
    let mut array = [0.0; PANEL_COLUMNS];
    lanes.store(sums, &mut array);
    let mut half = PANEL_COLUMNS / 2;
    while half > 0 {
        for index in 0..half {
            array[index] += array[index + half];
        }
        half /= 2;
    }
    array[0]
}

/// At most sixteen values, and zeros behind them.
#[inline(always)]
pub(super) fn padded(values: &[f32]) -> PanelRow {
    padded_with(values, 0.0)
}

#[inline(always)]
fn padded_with(values: &[f32], padding: f32) -> PanelRow {
    match values.as_array::<PANEL_COLUMNS>() {
        Some(whole) => *whole,
        None => {
            let mut block = [padding; PANEL_COLUMNS];
            for (to, from) in block.iter_mut().zip(values) {
                *to = *from;
            }
            block
        }
    }
}
