//! Symmetric matrices, of which half is kept.

use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Mat, Side};

use super::error::CurvatureError;

/// One value of a triangle as it stands in a file: little-endian f64.
pub type TriangleValue = [u8; 8];

/// A symmetric matrix: its lower triangle, row by row.
///
/// ```
/// use ascribe::curvature::Symmetric;
/// let matrix = Symmetric::new(2, vec![2.0, 1.0, 3.0]).unwrap();
/// assert_eq!(matrix.times(&[1.0, -1.0]), [1.0, -2.0]);
/// assert_eq!(matrix.at(0, 1), 1.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    size: usize,
    values: Vec<TriangleValue>,
}

impl Symmetric {
    /// The matrix with this lower triangle; `None` if there are not `size (size + 1) / 2` values.
    pub fn new(size: usize, values: Vec<f64>) -> Option<Self> {
        let values: Vec<TriangleValue> = values.into_iter().map(f64::to_le_bytes).collect();
        (values.len() == size * (size + 1) / 2).then_some(Self { size, values })
    }

    /// The lower triangle of a matrix.
    pub(super) fn of(matrix: &Mat<f64>) -> Self {
        let size = matrix.nrows();
        let rows = (0..size).flat_map(|row| (0..=row).map(move |column| (row, column)));
        Self { size, values: rows.map(|(row, column)| matrix[(row, column)].to_le_bytes()).collect() }
    }

    /// Rows, which are as many as columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The lower triangle, row by row.
    pub fn values(&self) -> &[TriangleValue] {
        &self.values
    }

    /// One value. 0 outside of the matrix.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        triangle_at(&self.values, row, column)
    }

    /// The product with a vector.
    pub fn times(&self, vector: &[f64]) -> Vec<f64> {
        triangle_times(&self.values, vector)
    }
}

/// A value of the symmetric matrix with this lower triangle.
pub(super) fn triangle_at(triangle: &[TriangleValue], row: usize, column: usize) -> f64 {
    let (row, column) = (row.max(column), row.min(column));
    triangle.get(row * (row + 1) / 2 + column).map_or(0.0, |value| f64::from_le_bytes(*value))
}

/// The product of the symmetric matrix with this lower triangle with a vector: each value is read once.
pub(super) fn triangle_times(triangle: &[TriangleValue], vector: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; vector.len()];
    let mut start = 0;
    for row in 0..vector.len() {
        let Some(values) = triangle.get(start..=start + row) else { break };
        start += row + 1;
        let own = vector[row];
        let (before, after) = product.split_at_mut(row);
        let left = &values[..row];
        let sum = add_and_dot(left, own, &vector[..row], before);
        if let Some(place) = after.first_mut() {
            *place += sum + f64::from_le_bytes(values[row]) * own;
        }
    }
    product
}

/// Adds `own` times `values` to `into` and returns the dot product of `values` with `vector`, in eight sums.
fn add_and_dot(values: &[TriangleValue], own: f64, vector: &[f64], into: &mut [f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (vectors, vector_rest) = vector.as_chunks::<LANES>();
    let (intos, into_rest) = into.as_chunks_mut::<LANES>();
    for ((block, vector), into) in blocks.iter().zip(vectors).zip(intos) {
        for lane in 0..LANES {
            let value = f64::from_le_bytes(block[lane]);
            sums[lane] += value * vector[lane];
            into[lane] += own * value;
        }
    }
    let mut sum = sums.iter().sum::<f64>();
    for ((value, vector), into) in rest.iter().zip(vector_rest).zip(into_rest) {
        let value = f64::from_le_bytes(*value);
        sum += value * vector;
        *into += own * value;
    }
    sum
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

    #[test]
    fn products_are_those_of_the_whole_matrix() {
        for size in [0, 1, 2, 7, 8, 9, 17, 40] {
            let (whole, vector) = (matrix(size), (0..size).map(|at| at as f64 - 3.5).collect::<Vec<_>>());
            let product = Symmetric::of(&whole).times(&vector);
            for row in 0..size {
                let expected: f64 = (0..size).map(|column| whole[(row, column)] * vector[column]).sum();
                assert!((product[row] - expected).abs() < 1e-12, "{size}: {row}");
            }
        }
        assert_eq!(Symmetric::new(3, vec![0.0; 5]), None);
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
