//! The algorithm for vector registers, once for every instruction set: sixteen lanes, several rows at once.
//!
//! Everything here is `inline(always)`, so that it is compiled inside the wrapper that enables an instruction set.

use super::scalar::reduce;
use super::wide::{LANES, WideQuery};
use crate::base::ElementType;

/// Sixteen f64 lanes of one instruction set. A value of the implementing type proves that the processor has it.
pub(super) trait Lanes: Copy {
    /// Sixteen f64 values in registers.
    type Values: Copy;

    /// Sixteen times +0.
    fn zero(self) -> Self::Values;

    /// Sixteen f64 values from memory.
    fn load(self, values: &[f64; LANES]) -> Self::Values;

    /// Sixteen little-endian f32 values, widened.
    fn widen_f32(self, bytes: &[u8; 64]) -> Self::Values;

    /// Sixteen little-endian f16 values, widened.
    fn widen_f16(self, bytes: &[u8; 32]) -> Self::Values;

    /// Sixteen little-endian bf16 values, widened.
    fn widen_bf16(self, bytes: &[u8; 32]) -> Self::Values;

    /// Sixteen i8 values, widened.
    fn widen_i8(self, bytes: &[u8; 16]) -> Self::Values;

    /// sums + left * right in each lane.
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values;

    /// The lanes in order.
    fn to_array(self, values: Self::Values) -> [f64; LANES];
}

/// How one element type lies in a row.
trait Stored {
    /// Bytes of one value.
    const SIZE_BYTES: usize;
    /// Bytes of sixteen values.
    type Block: Copy;

    /// The whole blocks of a row, and the bytes of the values after them.
    fn split(row: &[u8]) -> (&[Self::Block], &[u8]);

    /// A block that begins with the bytes of `tail`, at most a block, and goes on with zeros.
    fn padded(tail: &[u8]) -> Self::Block;

    /// A block's values.
    fn widen<L: Lanes>(lanes: L, block: &Self::Block) -> L::Values;
}

macro_rules! stored {
    ($name:ident, $size:literal, $widen:ident) => {
        struct $name;

        impl Stored for $name {
            const SIZE_BYTES: usize = $size;
            type Block = [u8; $size * LANES];

            #[inline(always)]
            fn split(row: &[u8]) -> (&[Self::Block], &[u8]) {
                row.as_chunks()
            }

            #[inline(always)]
            fn padded(tail: &[u8]) -> Self::Block {
                let mut block = [0; $size * LANES];
                for (to, from) in block.iter_mut().zip(tail) {
                    *to = *from;
                }
                block
            }

            #[inline(always)]
            fn widen<L: Lanes>(lanes: L, block: &Self::Block) -> L::Values {
                lanes.$widen(block)
            }
        }
    };
}

stored!(StoredF32, 4, widen_f32);
stored!(StoredF16, 2, widen_f16);
stored!(StoredBf16, 2, widen_bf16);
stored!(StoredI8, 1, widen_i8);

/// [`dots`](super::scalar::dots) over `ROWS` rows at once.
#[inline(always)]
pub(super) fn dots<L: Lanes, const ROWS: usize>(
    lanes: L,
    element: ElementType,
    query: &WideQuery,
    rows: &[u8],
    out: &mut [f64],
) {
    match element {
        ElementType::F32 => dots_of::<L, StoredF32, ROWS>(lanes, query, rows, out),
        ElementType::F16 => dots_of::<L, StoredF16, ROWS>(lanes, query, rows, out),
        ElementType::BF16 => dots_of::<L, StoredBf16, ROWS>(lanes, query, rows, out),
        ElementType::I8 => dots_of::<L, StoredI8, ROWS>(lanes, query, rows, out),
    }
}

/// [`squared_norms`](super::scalar::squared_norms) over `ROWS` rows at once.
#[inline(always)]
pub(super) fn squared_norms<L: Lanes, const ROWS: usize>(
    lanes: L,
    element: ElementType,
    width: usize,
    rows: &[u8],
    out: &mut [f64],
) {
    match element {
        ElementType::F32 => norms_of::<L, StoredF32, ROWS>(lanes, width, rows, out),
        ElementType::F16 => norms_of::<L, StoredF16, ROWS>(lanes, width, rows, out),
        ElementType::BF16 => norms_of::<L, StoredBf16, ROWS>(lanes, width, rows, out),
        ElementType::I8 => norms_of::<L, StoredI8, ROWS>(lanes, width, rows, out),
    }
}

#[inline(always)]
fn dots_of<L: Lanes, S: Stored, const ROWS: usize>(
    lanes: L,
    query: &WideQuery,
    rows: &[u8],
    out: &mut [f64],
) {
    let row_bytes = query.width() * S::SIZE_BYTES;
    let (groups, singles) = out.as_chunks_mut::<ROWS>();
    let mut group_rows = rows.chunks_exact(row_bytes * ROWS);
    for (scores, bytes) in groups.iter_mut().zip(&mut group_rows) {
        *scores = dot_group::<L, S, ROWS>(lanes, query.blocks(), row_bytes, bytes);
    }
    for (score, row) in singles.iter_mut().zip(group_rows.remainder().chunks_exact(row_bytes)) {
        [*score] = dot_group::<L, S, 1>(lanes, query.blocks(), row_bytes, row);
    }
}

#[inline(always)]
fn norms_of<L: Lanes, S: Stored, const ROWS: usize>(lanes: L, width: usize, rows: &[u8], out: &mut [f64]) {
    let row_bytes = width * S::SIZE_BYTES;
    let (groups, singles) = out.as_chunks_mut::<ROWS>();
    let mut group_rows = rows.chunks_exact(row_bytes * ROWS);
    for (norms, bytes) in groups.iter_mut().zip(&mut group_rows) {
        *norms = norm_group::<L, S, ROWS>(lanes, row_bytes, bytes);
    }
    for (norm, row) in singles.iter_mut().zip(group_rows.remainder().chunks_exact(row_bytes)) {
        [*norm] = norm_group::<L, S, 1>(lanes, row_bytes, row);
    }
}

/// The dot products of `ROWS` rows that lie one after the other in `bytes`.
#[inline(always)]
fn dot_group<L: Lanes, S: Stored, const ROWS: usize>(
    lanes: L,
    query: &[[f64; LANES]],
    row_bytes: usize,
    bytes: &[u8],
) -> [f64; ROWS] {
    let (blocks, tails) = split_group::<S, ROWS>(row_bytes, bytes);
    let whole = blocks[0].len();
    let mut sums = [lanes.zero(); ROWS];
    for (index, factors) in query.iter().take(whole).enumerate() {
        let factors = lanes.load(factors);
        for row in 0..ROWS {
            sums[row] = lanes.multiply_add(sums[row], factors, S::widen(lanes, &blocks[row][index]));
        }
    }
    if let Some(factors) = query.get(whole) {
        let factors = lanes.load(factors);
        for row in 0..ROWS {
            let padded = S::padded(tails[row]);
            sums[row] = lanes.multiply_add(sums[row], factors, S::widen(lanes, &padded));
        }
    }
    reduce_group(lanes, sums)
}

/// The sums of squares of `ROWS` rows that lie one after the other in `bytes`.
#[inline(always)]
fn norm_group<L: Lanes, S: Stored, const ROWS: usize>(
    lanes: L,
    row_bytes: usize,
    bytes: &[u8],
) -> [f64; ROWS] {
    let (blocks, tails) = split_group::<S, ROWS>(row_bytes, bytes);
    let whole = blocks[0].len();
    let mut sums = [lanes.zero(); ROWS];
    for index in 0..whole {
        for row in 0..ROWS {
            let values = S::widen(lanes, &blocks[row][index]);
            sums[row] = lanes.multiply_add(sums[row], values, values);
        }
    }
    if !tails[0].is_empty() {
        for row in 0..ROWS {
            let values = S::widen(lanes, &S::padded(tails[row]));
            sums[row] = lanes.multiply_add(sums[row], values, values);
        }
    }
    reduce_group(lanes, sums)
}

/// Blocks and tail of each row; all rows have the same number of blocks.
#[inline(always)]
fn split_group<S: Stored, const ROWS: usize>(
    row_bytes: usize,
    bytes: &[u8],
) -> ([&[S::Block]; ROWS], [&[u8]; ROWS]) {
    let mut blocks: [&[S::Block]; ROWS] = [&[]; ROWS];
    let mut tails: [&[u8]; ROWS] = [&[]; ROWS];
    let whole = row_bytes / (S::SIZE_BYTES * LANES);
    for (row, bytes) in bytes.chunks_exact(row_bytes).take(ROWS).enumerate() {
        let (row_blocks, tail) = S::split(bytes);
        // Of this length already; said again so that the compiler drops the checks in the loops.
        blocks[row] = &row_blocks[..whole];
        tails[row] = tail;
    }
    (blocks, tails)
}

#[inline(always)]
fn reduce_group<L: Lanes, const ROWS: usize>(lanes: L, sums: [L::Values; ROWS]) -> [f64; ROWS] {
    let mut totals = [0.0; ROWS];
    for row in 0..ROWS {
        totals[row] = reduce(lanes.to_array(sums[row]));
    }
    totals
}
