//! The two sides of a module's curvature.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::error::CurvatureError;
use super::gradients::{ModuleGradients, wide};
use crate::base::limits::KRONECKER_SIDE_MAX;
use crate::format::SPARSE_PADDING;

/// Rows whose vectors are held in f64 at a time.
const BLOCK_ROWS: usize = 256;

/// Two symmetric matrices whose Kronecker product stands for a module's curvature: B over outputs and A over inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct KroneckerFactors {
    /// B, [out, out], row by row.
    pub output: Vec<f64>,
    /// A, [input, input], row by row.
    pub input: Vec<f64>,
}

impl KroneckerFactors {
    /// What the gradients Z of all rows tell of them: A = mean of Z^T Z, and B = sum of Z Z^T over its trace, so that the trace of
    /// their product is the mean squared length of a gradient. Without a module's activations and output gradients apart, this
    /// is the product that has the same sums over either side.
    ///
    /// # Errors
    /// A side is wider than [`KRONECKER_SIDE_MAX`].
    ///
    /// # Complexity
    /// O(rows x rank x (out^2 + input^2)); memory for both matrices.
    pub fn of_gradients(module: &ModuleGradients, rows: usize) -> Result<Self, CurvatureError> {
        let (out, input) = module.shape();
        Self::check_sides(out, input)?;
        let (mut outer, mut inner) = (Mat::zeros(out, out), Mat::zeros(input, input));
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(rows - first);
            match module {
                ModuleGradients::Factored { rank, u, v, .. } => {
                    let (left, right) =
                        (vectors(u, first, count, (*rank, out)), vectors(v, first, count, (*rank, input)));
                    add_side(&mut outer, &left, &mixed(&left, &right, *rank));
                    add_side(&mut inner, &right, &mixed(&right, &left, *rank));
                }
                ModuleGradients::Sparse { rank, terms, u, v, places, .. } => {
                    let left = vectors(u, first, count, (*rank, out));
                    let mut right = vectors(v, first, count, (*rank, *terms));
                    let places = &places[first * terms..(first + count) * terms];
                    clear_padding(&mut right, places, *rank);
                    add_side(&mut outer, &left, &mixed(&left, &right, *rank));
                    add_places(&mut inner, (places, *rank), &right, &mixed(&right, &left, *rank));
                }
                ModuleGradients::Dense { matrix, .. } => {
                    let values = wide(&matrix[first * out * input..(first + count) * out * input]);
                    for gradient in values.chunks_exact(out * input) {
                        let gradient = MatRef::from_row_major_slice(gradient, out, input);
                        matmul(&mut outer, Accum::Add, gradient, gradient.transpose(), 1.0, Par::Seq);
                    }
                    let all = MatRef::from_row_major_slice(&values, count * out, input);
                    matmul(&mut inner, Accum::Add, all.transpose(), all, 1.0, Par::Seq);
                }
            }
        }
        let trace: f64 = (0..out).map(|at| outer[(at, at)]).sum();
        let scale = if trace > 0.0 { 1.0 / trace } else { 0.0 };
        Ok(Self { output: scaled(&outer, scale), input: scaled(&inner, 1.0 / rows.max(1) as f64) })
    }

    /// Refuses sides over which no matrix is made.
    pub(super) fn check_sides(out: usize, input: usize) -> Result<(), CurvatureError> {
        let side = out.max(input);
        match side > KRONECKER_SIDE_MAX {
            true => Err(CurvatureError::TooWide { side, most: KRONECKER_SIDE_MAX }),
            false => Ok(()),
        }
    }
}

/// The vectors of some rows, one a column.
fn vectors(values: &[f32], first: usize, count: usize, (rank, width): (usize, usize)) -> Mat<f64> {
    let values = wide(&values[first * rank * width..(first + count) * rank * width]);
    MatRef::from_column_major_slice(&values, width, count * rank).to_owned()
}

/// For each row's pairs `own` the sums of them, each times the product of its other side with that of the one in whose place it
/// stands: Z Z^T is the sum of u_j m_j^T with m_j = sum_k (v_j . v_k) u_k.
fn mixed(own: &Mat<f64>, other: &Mat<f64>, rank: usize) -> Mat<f64> {
    let mut mixed = Mat::zeros(own.nrows(), own.ncols());
    for first in (0..own.ncols()).step_by(rank.max(1)) {
        for pair in first..first + rank {
            for with in first..first + rank {
                let product: f64 =
                    other.col(pair).iter().zip(other.col(with).iter()).map(|(a, b)| a * b).sum();
                let column = own.col(with);
                mixed
                    .col_mut(pair)
                    .iter_mut()
                    .zip(column.iter())
                    .for_each(|(sum, own)| *sum += product * own);
            }
        }
    }
    mixed
}

fn add_side(sum: &mut Mat<f64>, own: &Mat<f64>, mixed: &Mat<f64>) {
    matmul(sum, Accum::Add, own, mixed.transpose(), 1.0, Par::Seq);
}

/// Nothing is meant by a value without a place.
fn clear_padding(vectors: &mut Mat<f64>, places: &[u32], rank: usize) {
    for pair in 0..vectors.ncols() {
        let places = &places[pair / rank.max(1) * vectors.nrows()..];
        for (value, place) in vectors.col_mut(pair).iter_mut().zip(places) {
            if *place == SPARSE_PADDING {
                *value = 0.0;
            }
        }
    }
}

/// [`add_side`] of vectors that name their places, so many columns for each row.
fn add_places(sum: &mut Mat<f64>, (places, rank): (&[u32], usize), own: &Mat<f64>, mixed: &Mat<f64>) {
    let terms = own.nrows();
    for pair in 0..own.ncols() {
        let places = &places[pair / rank.max(1) * terms..][..terms];
        for (row, place) in places.iter().enumerate() {
            for (column, other) in places.iter().enumerate() {
                if *place != SPARSE_PADDING && *other != SPARSE_PADDING {
                    sum[(*place as usize, *other as usize)] += own[(row, pair)] * mixed[(column, pair)];
                }
            }
        }
    }
}

/// Values of a symmetric matrix, row by row; rounding may have left both triangles apart, of which the lower one counts.
fn scaled(matrix: &Mat<f64>, scale: f64) -> Vec<f64> {
    let size = matrix.nrows();
    let places = (0..size).flat_map(|row| (0..size).map(move |column| (row.max(column), row.min(column))));
    places.map(|place| scale * matrix[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::made_gradients::of_every_encoding;
    use crate::curvature::{Direction, MemberGradients};

    #[test]
    fn factors_of_every_encoding_are_those_of_whole_gradients() {
        let rows = 300;
        for module in of_every_encoding(rows).modules() {
            let (out, input) = module.shape();
            let (mut outer, mut inner) = (vec![0.0; out * out], vec![0.0; input * input]);
            let alone = MemberGradients::new(rows, vec![module.clone()]);
            for row in 0..rows {
                let direction = Direction::of_row(&alone, row);
                let z = &direction.modules()[0].values;
                for (i, j) in (0..out).flat_map(|i| (0..out).map(move |j| (i, j))) {
                    outer[i * out + j] +=
                        (0..input).map(|k| z[i * input + k] * z[j * input + k]).sum::<f64>();
                }
                for (i, j) in (0..input).flat_map(|i| (0..input).map(move |j| (i, j))) {
                    inner[i * input + j] +=
                        (0..out).map(|k| z[k * input + i] * z[k * input + j]).sum::<f64>();
                }
            }
            let trace: f64 = (0..out).map(|at| outer[at * out + at]).sum();
            let found = KroneckerFactors::of_gradients(module, rows).unwrap();
            for (found, expected) in found.output.iter().zip(&outer) {
                assert!((found - expected / trace).abs() < 1e-12, "{found} {expected}");
            }
            for (found, expected) in found.input.iter().zip(&inner) {
                assert!((found - expected / rows as f64).abs() < 1e-12, "{found} {expected}");
            }
        }
    }

    #[test]
    fn sides_that_no_matrix_is_made_over_are_refused() {
        let module = ModuleGradients::Sparse {
            rank: 1,
            out: 1,
            terms: 1,
            input: KRONECKER_SIDE_MAX + 1,
            u: Vec::new(),
            v: Vec::new(),
            places: Vec::new(),
        };
        let refused = KroneckerFactors::of_gradients(&module, 0);
        assert_eq!(
            refused,
            Err(CurvatureError::TooWide { side: KRONECKER_SIDE_MAX + 1, most: KRONECKER_SIDE_MAX })
        );
    }
}
