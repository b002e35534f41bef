//! Gradients of one module in the eigenbasis of a Kronecker product.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};

use super::error::CurvatureError;
use super::gradients::{ModuleGradients, wide};
use crate::format::SPARSE_PADDING;

/// Rows that are turned at a time.
const BLOCK_ROWS: usize = 256;

/// Orthogonal bases of both sides of a module, Q_B of outputs and Q_A of inputs: the coordinates of a gradient Z are
/// Q_B^T Z Q_A.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenbasis {
    output: Mat<f64>,
    input: Mat<f64>,
}

/// Some rows' gradients, both sides in the basis.
enum Turned {
    /// Each row the sum of `rank` products of a column of u with one of v.
    Pairs { rank: usize, u: Mat<f64>, v: Mat<f64> },
    /// Coordinates, row by row.
    Whole(Vec<Mat<f64>>),
}

impl Eigenbasis {
    /// The bases whose columns these are, [out, out] and [input, input], row by row; `None` if there are not so many values, or one is not
    /// finite.
    pub fn of_values(out: usize, input: usize, values: &[f64]) -> Option<Self> {
        let (output_values, input_values) = values.split_at_checked(out * out)?;
        let is_whole = input_values.len() == input * input && values.iter().all(|value| value.is_finite());
        is_whole.then(|| Self {
            output: MatRef::from_row_major_slice(output_values, out, out).to_owned(),
            input: MatRef::from_row_major_slice(input_values, input, input).to_owned(),
        })
    }

    /// The eigenvectors of two symmetric matrices with no negative eigenvalues, and the products of their eigenvalues,
    /// [out, input].
    pub(super) fn of_matrices(
        output: &Mat<f64>,
        input: &Mat<f64>,
    ) -> Result<(Self, Mat<f64>), CurvatureError> {
        let decomposed = |matrix: &Mat<f64>| {
            let places = (0..matrix.ncols()).flat_map(|column| matrix.col(column).iter());
            if !places.into_iter().all(|value| value.is_finite()) {
                return Err(CurvatureError::NotDecomposed);
            }
            matrix.self_adjoint_eigen(Side::Lower).map_err(|_| CurvatureError::NotDecomposed)
        };
        let (outer, inner) = (decomposed(output)?, decomposed(input)?);
        // Rounding leaves values below 0 of what has none.
        let value = |values: faer::ColRef<'_, f64>, at: usize| values[at].max(0.0);
        let products = Mat::from_fn(output.nrows(), input.nrows(), |row, column| {
            value(outer.S().column_vector(), row) * value(inner.S().column_vector(), column)
        });
        Ok((Self { output: outer.U().to_owned(), input: inner.U().to_owned() }, products))
    }

    /// The values of [`of_values`](Self::of_values).
    pub fn values(&self) -> Vec<f64> {
        let of = |matrix: &Mat<f64>| {
            (0..matrix.nrows())
                .flat_map(|row| matrix.row(row).iter().copied().collect::<Vec<f64>>())
                .collect()
        };
        let (mut output, input): (Vec<f64>, Vec<f64>) = (of(&self.output), of(&self.input));
        output.extend(input);
        output
    }

    /// Outputs and inputs.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.output.nrows(), self.input.nrows())
    }

    /// The coordinates of one row's gradient, [out, input].
    ///
    /// # Complexity
    /// O(rank x (out^2 + input^2 + out x input)), for a whole matrix O(out x input x (out + input)).
    pub(super) fn coordinates(&self, module: &ModuleGradients, row: usize) -> Mat<f64> {
        self.turn(module, row, 1).coordinates(0)
    }

    /// The matrix with these coordinates, [out, input], row by row.
    pub(super) fn turn_back(&self, coordinates: &Mat<f64>) -> Vec<f64> {
        let (out, input) = self.shape();
        let mut half = Mat::zeros(out, input);
        matmul(&mut half, Accum::Replace, &self.output, coordinates, 1.0, Par::Seq);
        // Transposed, so that its columns are the rows that are asked for.
        let mut matrix: Mat<f64> = Mat::zeros(input, out);
        matmul(&mut matrix, Accum::Replace, &self.input, half.transpose(), 1.0, Par::Seq);
        (0..out).flat_map(|row| matrix.col(row).iter().copied().collect::<Vec<f64>>()).collect()
    }

    /// The sum over all rows of the squared coordinates, [out, input].
    pub(super) fn sum_of_squares(&self, module: &ModuleGradients, rows: usize) -> Mat<f64> {
        let (out, input) = self.shape();
        let mut sum: Mat<f64> = Mat::zeros(out, input);
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(rows - first);
            match self.turn(module, first, count) {
                Turned::Pairs { rank: 1, u, v } => {
                    let (u, v) = (squared(&u), squared(&v));
                    matmul(&mut sum, Accum::Add, &u, v.transpose(), 1.0, Par::Seq);
                }
                turned => (0..count).for_each(|row| sum += squared(&turned.coordinates(row))),
            }
        }
        sum
    }

    /// For each row the sum of its squared coordinates, each times its weight, [out, input].
    pub(super) fn weighted_squares(
        &self,
        module: &ModuleGradients,
        rows: usize,
        weights: &Mat<f64>,
    ) -> Vec<f64> {
        let (out, _) = self.shape();
        let mut found = Vec::with_capacity(rows);
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(rows - first);
            match self.turn(module, first, count) {
                Turned::Pairs { rank: 1, u, v } => {
                    let (u, v) = (squared(&u), squared(&v));
                    let mut through = Mat::zeros(out, count);
                    matmul(&mut through, Accum::Replace, weights, &v, 1.0, Par::Seq);
                    found.extend((0..count).map(|row| products(u.col(row), through.col(row))));
                }
                turned => found.extend((0..count).map(|row| {
                    let own = squared(&turned.coordinates(row));
                    (0..own.ncols()).map(|column| products(own.col(column), weights.col(column))).sum::<f64>()
                })),
            }
        }
        found
    }

    fn turn(&self, module: &ModuleGradients, first: usize, count: usize) -> Turned {
        match module {
            ModuleGradients::Factored { rank, u, v, .. } => Turned::Pairs {
                rank: *rank,
                u: turned_side(&self.output, u, first * rank, count * rank),
                v: turned_side(&self.input, v, first * rank, count * rank),
            },
            ModuleGradients::Sparse { rank, terms, u, v, places, .. } => {
                let mut turned: Mat<f64> = Mat::zeros(self.input.nrows(), count * rank);
                for pair in 0..count * rank {
                    let row = first + pair / rank;
                    let values = &v[(first * rank + pair) * terms..(first * rank + pair + 1) * terms];
                    for (place, value) in places[row * terms..(row + 1) * terms].iter().zip(values) {
                        if *place == SPARSE_PADDING {
                            continue;
                        }
                        let basis = self.input.row(*place as usize);
                        for (sum, basis) in turned.col_mut(pair).iter_mut().zip(basis.iter()) {
                            *sum += f64::from(*value) * basis;
                        }
                    }
                }
                let u = turned_side(&self.output, u, first * rank, count * rank);
                Turned::Pairs { rank: *rank, u, v: turned }
            }
            ModuleGradients::Dense { out, input, matrix } => {
                let of_row = |row: usize| {
                    let values = wide(&matrix[row * out * input..(row + 1) * out * input]);
                    let gradient = MatRef::from_row_major_slice(&values, *out, *input);
                    let mut half = Mat::zeros(*out, *input);
                    matmul(&mut half, Accum::Replace, self.output.transpose(), gradient, 1.0, Par::Seq);
                    let mut own = Mat::zeros(*out, *input);
                    matmul(&mut own, Accum::Replace, &half, &self.input, 1.0, Par::Seq);
                    own
                };
                Turned::Whole((first..first + count).map(of_row).collect())
            }
        }
    }
}

impl Turned {
    fn coordinates(&self, row: usize) -> Mat<f64> {
        match self {
            Self::Whole(rows) => rows.get(row).cloned().unwrap_or_else(Mat::new),
            Self::Pairs { rank, u, v } => {
                let mut own = Mat::zeros(u.nrows(), v.nrows());
                let (u, v) = (u.subcols(row * rank, *rank), v.subcols(row * rank, *rank));
                matmul(&mut own, Accum::Replace, u, v.transpose(), 1.0, Par::Seq);
                own
            }
        }
    }
}

/// Some vectors in a basis, one a column.
fn turned_side(basis: &Mat<f64>, vectors: &[f32], first: usize, count: usize) -> Mat<f64> {
    let width = basis.nrows();
    let values = wide(&vectors[first * width..(first + count) * width]);
    // Vectors stand side by side: as columns they need not be moved.
    let values = MatRef::from_column_major_slice(&values, width, count);
    let mut turned = Mat::zeros(width, count);
    matmul(&mut turned, Accum::Replace, basis.transpose(), values, 1.0, Par::Seq);
    turned
}

fn squared(matrix: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |row, column| matrix[(row, column)].powi(2))
}

fn products(left: faer::ColRef<'_, f64>, right: faer::ColRef<'_, f64>) -> f64 {
    left.iter().zip(right.iter()).map(|(left, right)| left * right).sum()
}
