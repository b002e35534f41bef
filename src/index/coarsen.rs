//! Coarse codes of rows: what their 8-bit codes stand for, less the centre of all rows, in 4 bits a value.
//!
//! Before a value is rounded a random part of a step is added, which is subtracted again from what the code stands for: a
//! *dither*, the same for all rows of a file. Without one the error of a row is whatever the row makes it, and the only bound
//! on its product with a query is the product of their norms, which leaves a quarter of the rows to be looked at again. With a dither
//! every error is uniform in a step and independent of row and query, so that the product is almost never more than some of
//! its standard deviations, half as far. Rejected: more bits, which are more bytes; a random rotation, which takes longer.
//!
//! Made from the 8-bit codes and not from the values, so that merged segments, which copy those, need not read values
//! again. Rows about their centre are shorter than rows about 0, and so are their steps: embeddings of many models all lie
//! in one direction.
//!
//! # References
//! Gray and Stockham, "Dithered Quantizers", IEEE Transactions on Information Theory 39(3), 1993, section III: with a
//! subtractive dither that is uniform in a step the error is uniform and independent of the input, unless that is beyond the codes.

use crate::base::RandomStream;
use crate::kernels::{COARSE_CODE_MAX, pack_coarse};

/// Sums of rows, for their centre.
///
/// ```
/// use ascribe::index::CentreSum;
/// let mut sum = CentreSum::new(2);
/// let (first, second) = ([2, 4], [0, 0xFE]); // codes 2 and 4, 0 and -2
/// sum.add(&first, 0.5);
/// sum.add(&second, 1.0);
/// assert_eq!(sum.centre(), [0.5, 0.0]);
/// ```
#[derive(Clone, Debug)]
pub struct CentreSum {
    sums: Vec<f64>,
    rows: u64,
}

impl CentreSum {
    /// No rows yet, of `width` values.
    pub fn new(width: usize) -> Self {
        Self { sums: vec![0.0; width], rows: 0 }
    }

    /// Adds a row: its codes, and the value of one step of them.
    pub fn add(&mut self, codes: &[u8], scale: f32) {
        self.rows += 1;
        for (sum, &code) in self.sums.iter_mut().zip(codes) {
            *sum += f64::from(scale) * f64::from(code as i8);
        }
    }

    /// The mean of the rows, 0 without any. A value that f32 cannot hold is 0: any centre will do.
    pub fn centre(&self) -> Vec<f32> {
        let count = self.rows.max(1) as f64;
        let mean = |sum: &f64| Some((sum / count) as f32).filter(|mean| mean.is_finite()).unwrap_or(0.0);
        self.sums.iter().map(mean).collect()
    }
}

/// A dither of `width` values in [-1/2, 1/2), in steps.
pub fn dither(width: usize, seed: u64) -> Vec<f32> {
    let mut stream = RandomStream::new(seed);
    // 24 bits, so that none is rounded to 1/2.
    (0..width).map(|_| (stream.next_u64() >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// Rows as coarse codes: row r is about the centre plus `scales[r]` times its codes less the dither.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoarseRows {
    /// Codes of each row, padded to [`coarse_row_bytes`](crate::kernels::coarse_row_bytes).
    pub codes: Vec<u8>,
    /// The value of one step of each row's codes.
    pub scales: Vec<f32>,
    /// For each row at least the Euclidean norm of scale times codes; infinity if nothing is known of the row.
    pub norms: Vec<f32>,
}

impl CoarseRows {
    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.codes.clear();
        self.scales.clear();
        self.norms.clear();
    }
}

/// Makes coarse codes.
///
/// ```
/// use ascribe::index::{CoarseRows, Coarsener};
/// let mut rows = CoarseRows::default();
/// // Codes 10 and 65 of a tenth each, about a centre of 1 and 0, without a dither: 0 and just below 6.5 steps.
/// Coarsener::new(&[1.0, 0.0], &[0.0; 2]).append(&[10, 65], 0.1, &mut rows);
/// assert_eq!((rows.codes[0], rows.codes[1]), (0x88, 0x8E));
/// assert!((rows.scales[0] - 1.0).abs() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct Coarsener<'a> {
    centre: &'a [f32],
    dither: &'a [f32],
    values: Vec<f64>,
    codes: Vec<i8>,
}

impl<'a> Coarsener<'a> {
    /// For rows about this centre, with this dither.
    pub fn new(centre: &'a [f32], dither: &'a [f32]) -> Self {
        let width = centre.len();
        Self { centre, dither, values: vec![0.0; width], codes: vec![0; width] }
    }

    /// Appends a row.
    ///
    /// # Complexity
    /// O(width), no allocation but that of `rows`.
    pub fn append(&mut self, codes: &[u8], scale: f32, rows: &mut CoarseRows) {
        for ((value, &code), &centre) in self.values.iter_mut().zip(codes).zip(self.centre) {
            *value = f64::from(scale) * f64::from(code as i8) - f64::from(centre);
        }
        let largest = self.values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        // No value with its dither may be beyond the codes: its error would be larger than half a step.
        let step = (largest / (f64::from(COARSE_CODE_MAX) - 0.5)) as f32;
        let step = if largest == 0.0 { 0.0 } else { step.next_up() };
        let mut squares = 0.0;
        for ((code, &value), &dither) in self.codes.iter_mut().zip(&self.values).zip(self.dither) {
            // Of a row that is the centre all are 0 / 0, which the cast takes to 0.
            let steps = value / f64::from(step) + f64::from(dither);
            *code = (steps + 0.5_f64.copysign(steps)) as i8;
            squares += f64::from(*code) * f64::from(*code);
        }
        let norm = (f64::from(step) * squares.sqrt()) as f32;
        let is_known = step.is_finite() && norm.is_finite();
        pack_coarse(&self.codes, &mut rows.codes);
        rows.scales.push(if is_known { step } else { 0.0 });
        rows.norms.push(if is_known { norm.next_up() } else { f32::INFINITY });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{COARSE_OFFSET, coarse_row_bytes};

    /// The codes of a packed row.
    fn unpacked(row: &[u8], width: usize) -> Vec<i8> {
        let half = |place: usize| {
            let byte = row[place / 64 * 32 + place % 32];
            (if place % 64 < 32 { byte & 0x0F } else { byte >> 4 }) as i8 - COARSE_OFFSET as i8
        };
        (0..width).map(half).collect()
    }

    #[test]
    fn centre_and_codes_are_within_half_a_step_of_each_value() {
        let mut stream = RandomStream::new(51);
        for (width, size) in [(1, 1.0), (31, 1e-30), (64, 1.0), (65, 1e30), (384, 0.01), (384, 1e36)] {
            let codes: Vec<u8> = (0..width).map(|_| stream.next_u64() as u8).collect();
            let centre: Vec<f32> = (0..width).map(|_| size * (stream.unit() - 0.5) as f32).collect();
            let (scale, dither) = (size / 50.0, dither(width, 7));
            let mut rows = CoarseRows::default();
            Coarsener::new(&centre, &dither).append(&codes, scale, &mut rows);
            assert_eq!(rows.codes.len(), coarse_row_bytes(width));
            let step = f64::from(rows.scales[0]);
            assert!(step > 0.0);
            let own = unpacked(&rows.codes, width);
            for place in 0..width {
                let value = f64::from(scale) * f64::from(codes[place] as i8) - f64::from(centre[place]);
                let left = value - step * (f64::from(own[place]) - f64::from(dither[place]));
                assert!(left.abs() <= step * 0.500_001, "{width} {size} {place}: {left} of {step}");
            }
            let norm = own.iter().map(|code| (step * f64::from(*code)).powi(2)).sum::<f64>().sqrt();
            let stored = f64::from(rows.norms[0]);
            assert!(norm <= stored && stored <= norm * 1.000_001, "{width} {size}: {norm} {stored}");
        }
    }

    /// Of one row under many dithers, the mean error of each value is 0 and its variance a twelfth of a squared step, and errors
    /// of two values do not go together: so the error of a product has the deviation that its margin is a multiple of.
    #[test]
    fn errors_are_uniform_and_independent_whatever_the_row() {
        let codes: Vec<u8> = [0, 0, 1, 5, 64, 127, 0x81, 0xFF, 33].to_vec();
        let (width, draws) = (codes.len(), 20_000);
        let (mut sums, mut squares, mut product) = (vec![0.0; width], vec![0.0; width], 0.0);
        for seed in 0..draws {
            let dither = dither(width, RandomStream::mix(seed));
            let mut rows = CoarseRows::default();
            Coarsener::new(&vec![0.0; width], &dither).append(&codes, 1.0, &mut rows);
            let step = f64::from(rows.scales[0]);
            let own = unpacked(&rows.codes, width);
            let error = |place: usize| {
                f64::from(codes[place] as i8) / step - f64::from(own[place]) + f64::from(dither[place])
            };
            for place in 0..width {
                sums[place] += error(place);
                squares[place] += error(place).powi(2);
            }
            product += error(0) * error(3);
        }
        let count = draws as f64;
        for place in 0..width {
            // Of the mean the deviation is .29 over the root of the draws, .002.
            assert!((sums[place] / count).abs() < 0.01, "{place}");
            assert!((squares[place] / count * 12.0 - 1.0).abs() < 0.03, "{place}");
        }
        assert!((product / count).abs() < 0.003);
    }

    #[test]
    fn a_dither_is_less_than_half_a_step() {
        let values = dither(100_000, 3);
        let (least, most) = values
            .iter()
            .fold((1.0_f32, -1.0_f32), |(least, most), value| (least.min(*value), most.max(*value)));
        assert!((-0.5..-0.4999).contains(&least) && (0.4999..0.5).contains(&most), "{least} {most}");
        assert_ne!(values[..5], dither(5, 4));
        assert_eq!(values[..5], dither(5, 3));
    }

    #[test]
    fn rows_that_f32_cannot_hold_are_not_known() {
        let mut rows = CoarseRows::default();
        let mut coarsener = Coarsener::new(&[f32::MAX, -f32::MAX], &[0.25; 2]);
        coarsener.append(&[0x81, 127], f32::MAX / 8.0, &mut rows);
        assert_eq!((rows.scales[0], rows.norms[0]), (0.0, f32::INFINITY));
        // A row that is its centre.
        rows.clear();
        Coarsener::new(&[0.5, 1.0], &[0.25; 2]).append(&[1, 2], 0.5, &mut rows);
        assert_eq!((rows.scales[0], rows.codes[0]), (0.0, 0x88));
        assert!(rows.norms[0] < 1e-40);
    }
}
