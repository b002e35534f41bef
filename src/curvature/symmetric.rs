//! Symmetric matrices, of which half is kept.

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

/// A symmetric matrix: its lower triangle, row by row. Each value is the sum of two f32 values, its nearest and what is left
/// of it then, which keep 48 bits of it: products that need few of them read half of the bytes.
///
/// ```
/// use ascribe::curvature::Symmetric;
/// let matrix = Symmetric::new(2, &[2.0, 0.1, 3.0]).unwrap();
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
    /// The matrix with this lower triangle; `None` if there are not `size (size + 1) / 2` values.
    pub fn new(size: usize, values: &[f64]) -> Option<Self> {
        (values.len() == size * (size + 1) / 2).then(|| Self::of_values(size, values.iter().copied()))
    }

    /// The lower triangle of a matrix times `scale`.
    pub(super) fn of(matrix: &Mat<f64>, scale: f64) -> Self {
        let size = matrix.nrows();
        let places = (0..size).flat_map(|row| (0..=row).map(move |column| (row, column)));
        Self::of_values(size, places.map(|place| scale * matrix[place]))
    }

    fn of_values(size: usize, values: impl Iterator<Item = f64>) -> Self {
        let count = size * (size + 1) / 2;
        let (mut high, mut low) = (Vec::with_capacity(count), Vec::with_capacity(count));
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
        SymmetricView { high: &self.high, low: &self.low }
    }
}

/// A symmetric matrix that is stored elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct SymmetricView<'a> {
    /// The f32 values nearest to those of the lower triangle, row by row.
    pub high: &'a [HalfValue],
    /// What is left of them.
    pub low: &'a [HalfValue],
}

fn half(values: &[HalfValue], at: usize) -> f64 {
    values.get(at).map_or(0.0, |value| f64::from(f32::from_le_bytes(*value)))
}

impl SymmetricView<'_> {
    /// One value. 0 outside of the matrix.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        let (row, column) = (row.max(column), row.min(column));
        let at = row * (row + 1) / 2 + column;
        half(self.high, at) + half(self.low, at)
    }

    /// The product with a vector, in f64.
    pub fn times(&self, vector: &[f64]) -> Vec<f64> {
        self.times_all(&[vector]).pop().unwrap_or_default()
    }

    /// The products with several vectors of one length, in f64.
    ///
    /// # Complexity
    /// Reads both halves once; O(size^2 x vectors), in parallel.
    pub fn times_all(&self, vectors: &[&[f64]]) -> Vec<Vec<f64>> {
        let (size, count) = (vectors.first().map_or(0, |vector| vector.len()), vectors.len());
        if size == 0 {
            return vec![Vec::new(); count];
        }
        let right = Mat::from_fn(size, count, |row, column| vectors[column][row]);
        let strips: Vec<usize> = (0..size).step_by(STRIP_ROWS).collect();
        let of_strip = |first: usize, product: &mut Mat<f64>| {
            let last = size.min(first + STRIP_ROWS);
            let mut strip = vec![0.0; (last - first) * last];
            for row in first..last {
                let start = row * (row + 1) / 2;
                let to = &mut strip[(row - first) * last..][..=row];
                let halves = self.high.get(start..).unwrap_or_default().iter();
                let halves = halves.zip(self.low.get(start..).unwrap_or_default());
                for (to, (high, low)) in to.iter_mut().zip(halves) {
                    *to = f64::from(f32::from_le_bytes(*high)) + f64::from(f32::from_le_bytes(*low));
                }
            }
            // The square at the end of the strip is written out whole, so that it counts once.
            for row in first..last {
                for column in row + 1..last {
                    strip[(row - first) * last + column] = strip[(column - first) * last + row];
                }
            }
            let strip = MatRef::from_row_major_slice(&strip, last - first, last);
            let rows = product.as_mut().subrows_mut(first, last - first);
            matmul(rows, Accum::Add, strip, right.as_ref().subrows(0, last), 1.0, Par::Seq);
            let before = strip.subcols(0, first).transpose();
            let rows = product.as_mut().subrows_mut(0, first);
            matmul(rows, Accum::Add, before, right.as_ref().subrows(first, last - first), 1.0, Par::Seq);
        };
        // Parts of a fixed number of strips, each with sums of its own, added up in their order.
        let parts: Vec<Mat<f64>> = strips
            .par_chunks(strips.len().div_ceil(PARTS))
            .map(|strips| {
                let mut product = Mat::zeros(size, count);
                strips.iter().for_each(|first| of_strip(*first, &mut product));
                product
            })
            .collect();
        let sum = |row: usize, column: usize| parts.iter().map(|part| part[(row, column)]).sum();
        (0..count).map(|column| (0..size).map(|row| sum(row, column)).collect()).collect()
    }

    /// The product with a vector as far as f32 values tell it: `high` and the vector are taken in f32, the sums in f64. Where
    /// no value of the matrix's rows is longer than 1, a value is off by at most 2^-23 times the vector's length.
    ///
    /// # Errors
    /// The triangle is not that of as many rows as the vector has values.
    ///
    /// # Complexity
    /// Reads one half once, in parallel.
    pub fn times_nearly(&self, vector: &[f64]) -> Result<Vec<f64>, KernelError> {
        let (size, kernels) = (vector.len(), Kernels::best());
        let narrow: Vec<f32> = vector.iter().map(|value| *value as f32).collect();
        let (triangle, wide) = (self.high.as_flattened(), WideQuery::new(&narrow));
        if size < SHARED_ROWS_MIN {
            let mut product = vec![0.0; size];
            kernels.triangle_times(triangle, 0..size, &wide, &mut product)?;
            return Ok(product);
        }
        // Parts of about as many values each.
        let end = |part: usize| (size as f64 * (part as f64 / PARTS as f64).sqrt()).round() as usize;
        let of_part = |part: usize| {
            let mut product = vec![0.0; size];
            kernels.triangle_times(triangle, end(part)..end(part + 1), &wide, &mut product)?;
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
        let mut products = vec![0.0; rows.len()];
        // Column by column: values of several rows of one column lie near each other.
        let mut start = 0;
        for (column, factor) in vector.iter().enumerate() {
            for (product, row) in products.iter_mut().zip(rows) {
                let at = if *row <= column { start + row } else { row * (row + 1) / 2 + column };
                *product += factor * (half(self.high, at) + half(self.low, at));
            }
            start += column + 1;
        }
        products
    }
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
        assert_eq!(Symmetric::new(3, &[0.0; 5]), None);
        let short = SymmetricView { high: &[[0; 4]; 5], low: &[[0; 4]; 5] };
        assert!(short.times_nearly(&[1.0; 3]).is_err());
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
