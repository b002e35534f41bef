//! Symmetric matrices, each value in two halves.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Accum, Mat, MatRef, Par, Side};
use rayon::prelude::*;

use super::error::CurvatureError;
use crate::kernels::{KernelError, Kernels, WideQuery};

/// Half of one value as it stands in a file: little-endian f32.
pub type HalfValue = [u8; 4];

/// Rows that are written out at a time for a product with many vectors.
const STRIP_ROWS: usize = 128;

/// Parts of a product that threads share. Their number is that of no machine, so that the sums are the same on every one.
const PARTS: usize = 8;

/// Rows from which on a product is shared.
const SHARED_ROWS_MIN: usize = 1024;

/// A symmetric matrix, row by row. Each value is the sum of two f32 values, its nearest and what is left of it then, which
/// keep 48 bits of it: products that need few of them read the nearest of the lower triangle only, a quarter of the bytes. Whole
/// rows are kept, so that single values of a product read what lies side by side.
///
/// ```
/// use ascribe::curvature::Symmetric;
/// let matrix = Symmetric::new(2, &[2.0, 0.1, 0.1, 3.0]).unwrap();
/// assert!((matrix.view().at(0, 1) - 0.1).abs() < 1e-15);
/// let product = matrix.view().times(&[1.0, -1.0]);
/// assert!((product[0] - 1.9).abs() < 1e-14 && (product[1] + 2.9).abs() < 1e-14);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    size: usize,
    high: Vec<HalfValue>,
    low: Vec<HalfValue>,
}

impl Symmetric {
    /// The matrix with these values, row by row; `None` if there are not `size` x `size`, or they are not symmetric.
    pub fn new(size: usize, values: &[f64]) -> Option<Self> {
        let is_symmetric = || {
            let places = (0..size).flat_map(|row| (0..row).map(move |column| (row, column)));
            places.into_iter().all(|(row, column)| values[row * size + column] == values[column * size + row])
        };
        (values.len() == size * size && is_symmetric()).then(|| Self::of_values(size, values.iter().copied()))
    }

    /// The symmetric matrix with the lower triangle of this one, times `scale`.
    pub(super) fn of(matrix: &Mat<f64>, scale: f64) -> Self {
        let size = matrix.nrows();
        let places =
            (0..size).flat_map(|row| (0..size).map(move |column| (row.max(column), row.min(column))));
        Self::of_values(size, places.map(|place| scale * matrix[place]))
    }

    fn of_values(size: usize, values: impl Iterator<Item = f64>) -> Self {
        let (mut high, mut low) = (Vec::with_capacity(size * size), Vec::with_capacity(size * size));
        for value in values {
            let nearest = value as f32;
            high.push(nearest.to_le_bytes());
            low.push(((value - f64::from(nearest)) as f32).to_le_bytes());
        }
        Self { size, high, low }
    }

    /// Rows, which are as many as columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Both halves, as they stand in a file.
    pub fn view(&self) -> SymmetricView<'_> {
        SymmetricView { size: self.size, high: &self.high, low: &self.low }
    }
}

/// A symmetric matrix that is stored elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct SymmetricView<'a> {
    /// Rows, which are as many as columns.
    pub size: usize,
    /// The f32 values nearest to those of the matrix, row by row.
    pub high: &'a [HalfValue],
    /// What is left of them.
    pub low: &'a [HalfValue],
}

fn whole((high, low): (&HalfValue, &HalfValue)) -> f64 {
    f64::from(f32::from_le_bytes(*high)) + f64::from(f32::from_le_bytes(*low))
}

impl<'a> SymmetricView<'a> {
    /// Some neighbouring rows, both halves; nothing of rows that are not there.
    fn rows(&self, rows: Range<usize>) -> (&'a [HalfValue], &'a [HalfValue]) {
        let range = rows.start * self.size..rows.end * self.size;
        (self.high.get(range.clone()).unwrap_or_default(), self.low.get(range).unwrap_or_default())
    }

    /// One value. 0 outside of the matrix.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        let (high, low) = self.rows(row..row + 1);
        high.get(column).zip(low.get(column)).map_or(0.0, whole)
    }

    /// The product with a vector, in f64.
    pub fn times(&self, vector: &[f64]) -> Vec<f64> {
        self.times_all(&[vector]).pop().unwrap_or_default()
    }

    /// The products with several vectors, in f64; values that a vector lacks are taken as 0.
    ///
    /// # Complexity
    /// Reads both halves once; O(size^2 x vectors), in parallel.
    pub fn times_all(&self, vectors: &[&[f64]]) -> Vec<Vec<f64>> {
        let value = |row: usize, column: usize| vectors[column].get(row).copied().unwrap_or(0.0);
        let right = Mat::from_fn(self.size, vectors.len(), value);
        let of_strip = |first: usize| {
            let (high, low) = self.rows(first..self.size.min(first + STRIP_ROWS));
            let strip: Vec<f64> = high.iter().zip(low).map(whole).collect();
            let rows = strip.len() / self.size;
            let mut product = Mat::zeros(rows, vectors.len());
            let strip = MatRef::from_row_major_slice(&strip, rows, self.size);
            matmul(&mut product, Accum::Replace, strip, &right, 1.0, Par::Seq);
            product
        };
        let strips: Vec<usize> = (0..self.size).step_by(STRIP_ROWS).collect();
        let products: Vec<Mat<f64>> = strips.into_par_iter().map(of_strip).collect();
        let column =
            |column: usize| products.iter().flat_map(|strip| strip.col(column).iter()).copied().collect();
        (0..vectors.len()).map(column).collect()
    }

    /// The product with a vector as far as f32 values tell it: `high` and the vector are taken in f32, the sums in f64. Where
    /// no value of the matrix's rows is longer than 1, a value is off by at most 2^-23 times the vector's length.
    ///
    /// # Errors
    /// The matrix has not as many rows as the vector has values.
    ///
    /// # Complexity
    /// Reads one half of the lower triangle once, in parallel.
    pub fn times_nearly(&self, vector: &[f64]) -> Result<Vec<f64>, KernelError> {
        let (size, kernels) = (vector.len(), Kernels::best());
        let narrow: Vec<f32> = vector.iter().map(|value| *value as f32).collect();
        let (matrix, wide) = (self.high.as_flattened(), WideQuery::new(&narrow));
        if size < SHARED_ROWS_MIN {
            let mut product = vec![0.0; size];
            kernels.symmetric_times(matrix, 0..size, &wide, &mut product)?;
            return Ok(product);
        }
        // Parts of about as many values each.
        let end = |part: usize| (size as f64 * (part as f64 / PARTS as f64).sqrt()).round() as usize;
        let of_part = |part: usize| {
            let mut product = vec![0.0; size];
            kernels.symmetric_times(matrix, end(part)..end(part + 1), &wide, &mut product)?;
            Ok(product)
        };
        let parts = (0..PARTS).into_par_iter().map(of_part).collect::<Result<Vec<_>, KernelError>>()?;
        Ok((0..size).map(|row| parts.iter().map(|part| part[row]).sum()).collect())
    }

    /// Some rows' values of the product with a vector, in f64.
    ///
    /// # Complexity
    /// O(rows x size).
    pub fn rows_times(&self, rows: &[usize], vector: &[f64]) -> Vec<f64> {
        let product = |row: &usize| {
            let (high, low) = self.rows(*row..row + 1);
            dot(high, low, vector)
        };
        rows.iter().map(product).collect()
    }
}

/// The inner product of a row in two halves with a vector, in eight sums.
fn dot(high: &[HalfValue], low: &[HalfValue], vector: &[f64]) -> f64 {
    const LANES: usize = 8;
    let ((highs, high_rest), (lows, low_rest)) = (high.as_chunks::<LANES>(), low.as_chunks::<LANES>());
    let (vectors, vector_rest) = vector.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for ((high, low), vector) in highs.iter().zip(lows).zip(vectors) {
        for lane in 0..LANES {
            sums[lane] += whole((&high[lane], &low[lane])) * vector[lane];
        }
    }
    let rest =
        high_rest.iter().zip(low_rest).map(whole).zip(vector_rest).map(|(value, factor)| value * factor);
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// The inverse of a symmetric positive matrix.
pub(super) fn inverse(matrix: &Mat<f64>) -> Result<Mat<f64>, CurvatureError> {
    Ok(factorised(matrix)?.inverse())
}

/// The Cholesky factorisation of a symmetric positive matrix.
pub(super) fn factorised(matrix: &Mat<f64>) -> Result<Llt<f64>, CurvatureError> {
    let not_positive = |row| CurvatureError::NotPositive { row };
    // A value that is not finite passes some comparisons inside the factorisation: it would come out as one.
    if let Some(row) = (0..matrix.nrows()).find(|row| !matrix[(*row, *row)].is_finite()) {
        return Err(not_positive(row));
    }
    Llt::new(matrix.as_ref(), Side::Lower).map_err(|error| match error {
        faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index } => not_positive(index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(size: usize) -> Mat<f64> {
        Mat::from_fn(size, size, |row, column| {
            let base = 1.0 / (1.0 + row.abs_diff(column) as f64);
            if row == column { base + 1.0 } else { base }
        })
    }

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} and {expected}");
    }

    #[test]
    fn products_are_those_of_the_whole_matrix() {
        for size in [0, 1, 2, 7, 8, 9, 17, 40, 127, 128, 129, 300, 1200] {
            let whole = matrix(size);
            let vectors: Vec<Vec<f64>> = (0..3)
                .map(|seed| (0..size).map(|at| (at as f64 * 0.7 + seed as f64).sin()).collect())
                .collect();
            let kept = Symmetric::of(&whole, 2.0);
            let expected = |vector: &[f64], row: usize| -> f64 {
                (0..size).map(|column| 2.0 * whole[(row, column)] * vector[column]).sum()
            };
            let views: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
            let products = kept.view().times_all(&views);
            assert_eq!(products.len(), 3);
            let rows: Vec<usize> = (0..size).step_by(3).collect();
            for (vector, product) in vectors.iter().zip(&products) {
                let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
                let nearly = kept.view().times_nearly(vector).unwrap();
                let some = kept.view().rows_times(&rows, vector);
                for row in 0..size {
                    let expected = expected(vector, row);
                    close(product[row], expected, 1e-12);
                    let norm = (0..size).map(|column| 4.0 * whole[(row, column)].powi(2)).sum::<f64>().sqrt();
                    close(nearly[row], expected, norm * length * 2.0_f64.powi(-23) + 1e-12);
                    if row % 3 == 0 {
                        close(some[row / 3], expected, 1e-12);
                    }
                }
            }
        }
        assert_eq!(Symmetric::new(3, &[0.0; 8]), None);
        assert_eq!(Symmetric::new(2, &[1.0, 2.0, 3.0, 1.0]), None);
        let short = SymmetricView { size: 3, high: &[[0; 4]; 8], low: &[[0; 4]; 8] };
        assert!(short.times_nearly(&[1.0; 3]).is_err());
        assert_eq!(short.at(2, 2), 0.0);
    }

    #[test]
    fn an_inverse_undoes_its_matrix() {
        let (whole, inverse) = (matrix(30), inverse(&matrix(30)).unwrap());
        let product = &whole * &inverse;
        for row in 0..30 {
            for column in 0..30 {
                let expected = if row == column { 1.0 } else { 0.0 };
                assert!((product[(row, column)] - expected).abs() < 1e-12);
            }
        }
        let bad = Mat::from_fn(2, 2, |row, column| if row == column { 1.0 } else { 2.0 });
        assert_eq!(super::inverse(&bad).unwrap_err(), CurvatureError::NotPositive { row: 1 });
        let bad = Mat::from_fn(2, 2, |_, _| f64::NAN);
        assert!(super::inverse(&bad).is_err());
    }
}
