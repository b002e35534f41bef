//! The specification of every sum in this room, and the back-end of machines without vector registers.
//!
//! The sum of a row of `width` products p_0, p_1, ...:
//! 1. Sixteen partial sums in f64 start at +0. In ascending order of j, product p_j is added to partial sum j mod 16;
//!    so are the products of an incomplete last block.
//! 2. A tree adds them up: sum i and sum i + 8 for i < 8, then i and i + 4, then i and i + 2, then the last two.
//!
//! p_j is q_j x_j in a dot product and x_j x_j in a squared norm, x_j the stored value (int8: the code) in f64. With
//! f32 factors p_j is exact, so adding it is one rounding, fused or not. A partial sum is never -0 (it starts at +0, and
//! only -0 + -0 gives -0), so that padding a block with zero products changes no bit.

use half::{bf16, f16};

use super::wide::{LANES, WideQuery};
use crate::base::ElementType;

/// The tree of step 2.
#[inline(always)]
pub(super) fn reduce(mut sums: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for index in 0..half {
            sums[index] += sums[index + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Dot products of `query` with each row. The lengths are checked: `rows` holds `out.len()` rows, none of zero bytes.
pub(super) fn dots(element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
    let query = query.values();
    match element {
        ElementType::F32 => dots_of(query, rows, out, f32_value),
        ElementType::F16 => dots_of(query, rows, out, f16_value),
        ElementType::BF16 => dots_of(query, rows, out, bf16_value),
        ElementType::I8 => dots_of(query, rows, out, i8_value),
    }
}

/// Sums of squares of each row, with the same duties as [`dots`].
pub(super) fn squared_norms(element: ElementType, width: usize, rows: &[u8], out: &mut [f64]) {
    match element {
        ElementType::F32 => squared_norms_of(width, rows, out, f32_value),
        ElementType::F16 => squared_norms_of(width, rows, out, f16_value),
        ElementType::BF16 => squared_norms_of(width, rows, out, bf16_value),
        ElementType::I8 => squared_norms_of(width, rows, out, i8_value),
    }
}

fn f32_value(bytes: [u8; 4]) -> f64 {
    f64::from(f32::from_le_bytes(bytes))
}

fn f16_value(bytes: [u8; 2]) -> f64 {
    f64::from(f16::from_le_bytes(bytes).to_f32())
}

fn bf16_value(bytes: [u8; 2]) -> f64 {
    f64::from(bf16::from_le_bytes(bytes).to_f32())
}

fn i8_value(bytes: [u8; 1]) -> f64 {
    f64::from(i8::from_le_bytes(bytes))
}

fn dots_of<const SIZE: usize>(
    query: &[f64],
    rows: &[u8],
    out: &mut [f64],
    value: impl Fn([u8; SIZE]) -> f64 + Copy,
) {
    let (query_blocks, query_tail) = query.as_chunks::<LANES>();
    for (score, row) in out.iter_mut().zip(rows.chunks_exact(query.len() * SIZE)) {
        let (values, _) = row.as_chunks::<SIZE>();
        let (blocks, tail) = values.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (factors, block) in query_blocks.iter().zip(blocks) {
            for lane in 0..LANES {
                sums[lane] += factors[lane] * value(block[lane]);
            }
        }
        for ((sum, factor), &stored) in sums.iter_mut().zip(query_tail).zip(tail) {
            *sum += factor * value(stored);
        }
        *score = reduce(sums);
    }
}

fn squared_norms_of<const SIZE: usize>(
    width: usize,
    rows: &[u8],
    out: &mut [f64],
    value: impl Fn([u8; SIZE]) -> f64 + Copy,
) {
    for (norm, row) in out.iter_mut().zip(rows.chunks_exact(width * SIZE)) {
        let (values, _) = row.as_chunks::<SIZE>();
        let (blocks, tail) = values.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for block in blocks {
            for lane in 0..LANES {
                let stored = value(block[lane]);
                sums[lane] += stored * stored;
            }
        }
        for (sum, &bytes) in sums.iter_mut().zip(tail) {
            let stored = value(bytes);
            *sum += stored * stored;
        }
        *norm = reduce(sums);
    }
}
