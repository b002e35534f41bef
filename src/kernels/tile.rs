//! The algorithm for vector registers, once for every instruction set: sixteen lanes, one row after the other.
//!
//! One row at a time reads memory front to back, and the processor overlaps the end of a row with the beginning of the
//! next. Two rows at once were measured and rejected: slower from cache (registers spilled) and from memory (two streams
//! instead of one).
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

    /// Sixteen times the same value.
    fn splat(self, value: f64) -> Self::Values;

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

    /// Sixteen f64 values to memory.
    fn store(self, values: Self::Values, to: &mut [f64; LANES]);

    /// Asks for the cache line that a value of memory lies in, which is needed soon. There need not be one.
    fn prefetch(self, at: *const u8);

    /// The lanes in order.
    #[inline(always)]
    fn to_array(self, values: Self::Values) -> [f64; LANES] {
        let mut array = [0.0; LANES];
        self.store(values, &mut array);
        array
    }
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

/// See [`dots`](super::scalar::dots).
#[inline(always)]
pub(super) fn dots<L: Lanes>(
    lanes: L,
    element: ElementType,
    query: &WideQuery,
    rows: &[u8],
    out: &mut [f64],
) {
    match element {
        ElementType::F32 => dots_of::<L, StoredF32>(lanes, query, rows, out),
        ElementType::F16 => dots_of::<L, StoredF16>(lanes, query, rows, out),
        ElementType::BF16 => dots_of::<L, StoredBf16>(lanes, query, rows, out),
        ElementType::I8 => dots_of::<L, StoredI8>(lanes, query, rows, out),
    }
}

/// See [`squared_norms`](super::scalar::squared_norms).
#[inline(always)]
pub(super) fn squared_norms<L: Lanes>(
    lanes: L,
    element: ElementType,
    width: usize,
    rows: &[u8],
    out: &mut [f64],
) {
    match element {
        ElementType::F32 => squared_norms_of::<L, StoredF32>(lanes, width, rows, out),
        ElementType::F16 => squared_norms_of::<L, StoredF16>(lanes, width, rows, out),
        ElementType::BF16 => squared_norms_of::<L, StoredBf16>(lanes, width, rows, out),
        ElementType::I8 => squared_norms_of::<L, StoredI8>(lanes, width, rows, out),
    }
}

#[inline(always)]
fn dots_of<L: Lanes, S: Stored>(lanes: L, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
    let query_blocks = query.blocks();
    for (score, row) in out.iter_mut().zip(rows.chunks_exact(query.width() * S::SIZE_BYTES)) {
        let (blocks, tail) = S::split(row);
        let mut sums = lanes.zero();
        for (factors, block) in query_blocks.iter().zip(blocks) {
            sums = lanes.multiply_add(sums, lanes.load(factors), S::widen(lanes, block));
        }
        if let Some(factors) = query_blocks.get(blocks.len()) {
            sums = lanes.multiply_add(sums, lanes.load(factors), S::widen(lanes, &S::padded(tail)));
        }
        *score = reduce(lanes.to_array(sums));
    }
}

#[inline(always)]
fn squared_norms_of<L: Lanes, S: Stored>(lanes: L, width: usize, rows: &[u8], out: &mut [f64]) {
    for (norm, row) in out.iter_mut().zip(rows.chunks_exact(width * S::SIZE_BYTES)) {
        let (blocks, tail) = S::split(row);
        let mut sums = lanes.zero();
        for block in blocks {
            let values = S::widen(lanes, block);
            sums = lanes.multiply_add(sums, values, values);
        }
        if !tail.is_empty() {
            let values = S::widen(lanes, &S::padded(tail));
            sums = lanes.multiply_add(sums, values, values);
        }
        *norm = reduce(lanes.to_array(sums));
    }
}
