//! Products of a symmetric matrix with a vector, of which only the lower triangle is read: each value stands for two.
//!
//! The specification, which gives the same bits on every back-end: of row r, with the values v_0 to v_r, first the sum of
//! v_j x_j over j <= r, taken as every sum of this room, is added to output r; then each v_j x_r with j < r to output j.
//! Rows are taken in ascending order. With a vector of f32 values every product is exact in f64, so that adding it is one
//! rounding, fused or not.

use std::ops::Range;

use super::scalar::reduce;
#[cfg(target_arch = "x86_64")]
use super::tile::Lanes;
use super::wide::{LANES, WideQuery};

/// Bytes of a square matrix of f32 values; `None` if none fits the memory.
pub(super) fn square_bytes(size: usize) -> Option<usize> {
    size.checked_mul(size).and_then(|values| values.checked_mul(4))
}

/// The rows of a square matrix up to its diagonal, each with its number. The length is checked by the caller.
#[inline(always)]
fn rows_of(matrix: &[u8], size: usize, rows: Range<usize>) -> impl Iterator<Item = (usize, &[u8])> {
    rows.map_while(move |row| Some((row, matrix.get(4 * row * size..)?.get(..4 * (row + 1))?)))
}

/// The back-end of machines without vector registers.
pub(super) fn scalar_times(matrix: &[u8], rows: Range<usize>, vector: &WideQuery, out: &mut [f64]) {
    let vector = vector.values();
    let wide = |bytes: [u8; 4]| f64::from(f32::from_le_bytes(bytes));
    for (row, bytes) in rows_of(matrix, vector.len(), rows) {
        let (values, _) = bytes.as_chunks::<4>();
        let own = vector[row];
        let mut sums = [0.0; LANES];
        for (column, value) in values.iter().enumerate() {
            sums[column % LANES] += wide(*value) * vector[column];
        }
        out[row] += reduce(sums);
        for (to, value) in out[..row].iter_mut().zip(values) {
            *to += wide(*value) * own;
        }
    }
}

/// The algorithm for vector registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn times<L: Lanes>(
    lanes: L,
    matrix: &[u8],
    rows: Range<usize>,
    vector: &WideQuery,
    out: &mut [f64],
) {
    let (vector, vector_blocks) = (vector.values(), vector.blocks());
    for (row, bytes) in rows_of(matrix, vector.len(), rows) {
        let own = vector[row];
        let (blocks, tail) = bytes.as_chunks::<{ 4 * LANES }>();
        let (outs, out_tail) = out[..row].as_chunks_mut::<LANES>();
        let mut sums = lanes.zero();
        // A row ends with its own value, which is added to no other output: its whole blocks are, but for that value in a
        // last one, those of the outputs before it.
        for ((block, factors), to) in blocks.iter().zip(vector_blocks).zip(outs.iter_mut()) {
            // The next row lies a whole row further on, where the processor does not look for it by itself.
            lanes.prefetch(block.as_ptr().wrapping_add(4 * vector.len()));
            let values = lanes.widen_f32(block);
            sums = lanes.multiply_add(sums, lanes.load(factors), values);
            lanes.store(lanes.multiply_add(lanes.load(to), values, lanes.splat(own)), to);
        }
        let whole = outs.len();
        if let (Some(block), Some(factors)) = (blocks.get(whole), vector_blocks.get(whole)) {
            sums = lanes.multiply_add(sums, lanes.load(factors), lanes.widen_f32(block));
        }
        if let Some(factors) = vector_blocks.get(blocks.len()).filter(|_| !tail.is_empty()) {
            let mut block = [0; 4 * LANES];
            block[..tail.len()].copy_from_slice(tail);
            sums = lanes.multiply_add(sums, lanes.load(factors), lanes.widen_f32(&block));
        }
        let rest = bytes[4 * LANES * whole..].as_chunks::<4>().0;
        for (to, value) in out_tail.iter_mut().zip(rest) {
            *to += f64::from(f32::from_le_bytes(*value)) * own;
        }
        out[row] += reduce(lanes.to_array(sums));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KernelError, Kernels};
    use super::*;
    use crate::base::RandomStream;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut stream = RandomStream::new(seed);
        (0..count).map(|_| stream.unit() as f32 - 0.4).collect()
    }

    #[test]
    fn every_back_end_gives_the_bits_of_the_specification() {
        for size in (1..70).chain([257]) {
            // What stands above the diagonal is something else, so that it shows if it is read.
            let (matrix, vector) = (values(size * size, 1), values(size, size as u64));
            let bytes: Vec<u8> = matrix.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut expected = vec![0.5; size];
            for row in size / 3..size {
                let product = |at: usize, factor: f32| f64::from(matrix[row * size + at]) * f64::from(factor);
                let mut sums = [0.0; LANES];
                (0..=row).for_each(|at| sums[at % LANES] += product(at, vector[at]));
                expected[row] += reduce(sums);
                (0..row).for_each(|at| expected[at] += product(at, vector[row]));
            }
            for kernels in Kernels::available() {
                let mut out = vec![0.5; size];
                let wide = WideQuery::new(&vector);
                kernels.symmetric_times(&bytes, size / 3..size, &wide, &mut out).unwrap();
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&out), bits(&expected), "{} {size}", kernels.name());
            }
        }
    }

    #[test]
    fn lengths_that_are_no_square_are_refused() {
        let (wide, bytes) = (WideQuery::new(&[1.0, 2.0]), [0; 16]);
        for kernels in Kernels::available() {
            let mut out = [7.0; 2];
            let error = kernels.symmetric_times(&bytes[..15], 0..2, &wide, &mut out);
            assert_eq!(error, Err(KernelError::Matrix { what: "symmetric matrix", given: 15, needed: 16 }));
            assert!(kernels.symmetric_times(&bytes, 0..3, &wide, &mut out).is_err());
            assert!(kernels.symmetric_times(&bytes, 0..2, &wide, &mut out[..1]).is_err());
            assert_eq!(out, [7.0; 2]);
            assert_eq!(kernels.symmetric_times(&bytes, 1..1, &wide, &mut out), Ok(()));
        }
        assert_eq!(square_bytes(usize::MAX), None);
    }
}
