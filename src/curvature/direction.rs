//! A direction in the space of parameters, and what rows contribute along it.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::gradients::{MemberGradients, ModuleGradients, wide};
use crate::format::SPARSE_PADDING;

/// The part of a direction that belongs to one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleDirection {
    /// Rows of the matrix.
    pub out: usize,
    /// Columns of the matrix.
    pub input: usize,
    /// The matrix, row by row.
    pub values: Vec<f64>,
}

/// A direction in the space of all modules' parameters.
///
/// ```
/// use ascribe::curvature::{Direction, MemberGradients, ModuleGradients};
/// let module = ModuleGradients::Factored { rank: 1, out: 1, input: 2, u: vec![2.0, 3.0], v: vec![1.0, 0.0, 1.0, 1.0] };
/// let rows = MemberGradients::new(2, vec![module]);
/// let mut direction = Direction::zero(&rows);
/// direction.add(&rows, &[1.0, 10.0]);
/// assert_eq!(direction.modules()[0].values, [32.0, 30.0]);
/// assert_eq!(direction.scores(&rows), [64.0, 186.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    modules: Vec<ModuleDirection>,
}

impl Direction {
    /// The zero direction in the space of these gradients.
    ///
    /// # Complexity
    /// Memory for a value a parameter.
    pub fn zero(gradients: &MemberGradients) -> Self {
        let modules = gradients.modules().iter().map(|module| {
            let (out, input) = module.shape();
            ModuleDirection { out, input, values: vec![0.0; out * input] }
        });
        Self { modules: modules.collect() }
    }

    /// A direction of these modules.
    pub fn of_modules(modules: Vec<ModuleDirection>) -> Self {
        Self { modules }
    }

    /// Its modules.
    pub fn modules(&self) -> &[ModuleDirection] {
        &self.modules
    }

    /// Its modules, to be changed.
    pub fn modules_mut(&mut self) -> &mut [ModuleDirection] {
        &mut self.modules
    }

    /// Adds the gradients of all rows, each times its weight.
    ///
    /// # Complexity
    /// O(rows x parameters).
    pub fn add(&mut self, gradients: &MemberGradients, weights: &[f64]) {
        self.add_rows(gradients, 0, weights);
    }

    /// Adds the gradients of as many rows from `first` on as there are weights.
    ///
    /// # Complexity
    /// O(weights x parameters).
    pub fn add_rows(&mut self, gradients: &MemberGradients, first: usize, weights: &[f64]) {
        if first + weights.len() > gradients.rows() {
            return;
        }
        for (own, module) in self.modules.iter_mut().zip(gradients.modules()) {
            add_module(own, module, first, weights);
        }
    }

    /// The gradient of row `row` itself.
    pub fn of_row(gradients: &MemberGradients, row: usize) -> Self {
        let mut direction = Self::zero(gradients);
        direction.add_rows(gradients, row, &[1.0]);
        direction
    }

    /// What each row contributes: the inner product of its gradient with this direction.
    ///
    /// # Complexity
    /// O(rows x parameters) multiply-adds.
    pub fn scores(&self, gradients: &MemberGradients) -> Vec<f64> {
        let mut scores = vec![0.0; gradients.rows()];
        for (own, module) in self.modules.iter().zip(gradients.modules()) {
            for (score, part) in scores.iter_mut().zip(module_scores(own, module, gradients.rows())) {
                *score += part;
            }
        }
        scores
    }

    /// What row `row` contributes through each module, in the order of the modules; added up in that order they are its
    /// score, with the same bits on every machine.
    pub fn parts(&self, gradients: &MemberGradients, row: usize) -> Vec<f64> {
        self.modules.iter().zip(gradients.modules()).map(|(own, module)| part(own, module, row)).collect()
    }
}

/// A row of a matrix that is stored row by row.
fn row_of<T>(values: &[T], row: usize, width: usize) -> &[T] {
    &values[row * width..(row + 1) * width]
}

/// Rows whose gradients are written out in f64 at a time.
const BLOCK_ROWS: usize = 256;

fn add_module(own: &mut ModuleDirection, module: &ModuleGradients, first: usize, weights: &[f64]) {
    let rows = first..first + weights.len();
    let ModuleDirection { out, input, values } = own;
    match module {
        ModuleGradients::Factored { rank, u, v, .. } => {
            let u = u[rows.start * rank * *out..rows.end * rank * *out].chunks(BLOCK_ROWS * rank * *out);
            let v =
                v[rows.start * rank * *input..rows.end * rank * *input].chunks(BLOCK_ROWS * rank * *input);
            for ((u, v), weights) in u.zip(v).zip(weights.chunks(BLOCK_ROWS)) {
                let vectors = weights.len() * rank;
                let scaled: Vec<f64> = u
                    .chunks_exact(rank * *out)
                    .zip(weights)
                    .flat_map(|(u, weight)| u.iter().map(move |value| f64::from(*value) * weight))
                    .collect();
                let scaled = MatRef::from_row_major_slice(&scaled, vectors, *out);
                let v = wide(v);
                let v = MatRef::from_row_major_slice(&v, vectors, *input);
                let into = MatMut::from_row_major_slice_mut(values.as_mut_slice(), *out, *input);
                matmul(into, Accum::Add, scaled.transpose(), v, 1.0, Par::Seq);
            }
        }
        ModuleGradients::Dense { matrix, .. } => {
            let width = *out * *input;
            let matrix = &matrix[rows.start * width..rows.end * width];
            for (matrix, weight) in matrix.chunks_exact(width).zip(weights) {
                values.iter_mut().zip(matrix).for_each(|(to, from)| *to += weight * f64::from(*from));
            }
        }
        ModuleGradients::Sparse { rank, terms, u, v, places, .. } => {
            for (row, weight) in rows.zip(weights) {
                for pair in row * rank..(row + 1) * rank {
                    for (place, value) in
                        places[row * terms..(row + 1) * terms].iter().zip(row_of(v, pair, *terms))
                    {
                        if *place == SPARSE_PADDING {
                            continue;
                        }
                        for (output, u) in row_of(u, pair, *out).iter().enumerate() {
                            values[output * *input + *place as usize] +=
                                weight * f64::from(*u) * f64::from(*value);
                        }
                    }
                }
            }
        }
    }
}

fn module_scores(own: &ModuleDirection, module: &ModuleGradients, rows: usize) -> Vec<f64> {
    let ModuleDirection { out, input, values } = own;
    match module {
        ModuleGradients::Factored { rank, u, v, .. } => {
            let mut scores = vec![0.0; rows];
            let matrix = MatRef::from_row_major_slice(values.as_slice(), *out, *input);
            let blocks = u.chunks(BLOCK_ROWS * rank * out).zip(v.chunks(BLOCK_ROWS * rank * input));
            for ((u, v), scores) in blocks.zip(scores.chunks_mut(BLOCK_ROWS)) {
                let (u, v, vectors) = (wide(u), wide(v), scores.len() * rank);
                let mut through = Mat::zeros(*out, vectors);
                let v = MatRef::from_row_major_slice(v.as_slice(), vectors, *input);
                matmul(&mut through, Accum::Replace, matrix, v.transpose(), 1.0, Par::Seq);
                for (vector, u) in u.chunks_exact(*out).enumerate() {
                    let column = through.col(vector);
                    scores[vector / rank] += u.iter().zip(column.iter()).map(|(a, b)| a * b).sum::<f64>();
                }
            }
            scores
        }
        _ => (0..rows).map(|row| part(own, module, row)).collect(),
    }
}

fn dot(left: &[f64], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * f64::from(*b)).sum()
}

/// The inner product of one row's gradient with a direction, in a fixed order of sums.
fn part(own: &ModuleDirection, module: &ModuleGradients, row: usize) -> f64 {
    let ModuleDirection { out, input, values } = own;
    match module {
        ModuleGradients::Factored { rank, u, v, .. } => {
            let pairs = row * rank..(row + 1) * rank;
            let of_pair = |pair: usize| {
                let v = row_of(v, pair, *input);
                let outputs = row_of(u, pair, *out).iter().enumerate();
                outputs.map(|(output, u)| f64::from(*u) * dot(row_of(values, output, *input), v)).sum::<f64>()
            };
            pairs.map(of_pair).sum()
        }
        ModuleGradients::Dense { matrix, .. } => dot(values, row_of(matrix, row, out * input)),
        ModuleGradients::Sparse { rank, terms, u, v, places, .. } => {
            let mut sum = 0.0;
            for pair in row * rank..(row + 1) * rank {
                for (place, value) in
                    places[row * terms..(row + 1) * terms].iter().zip(row_of(v, pair, *terms))
                {
                    if *place == SPARSE_PADDING {
                        continue;
                    }
                    let outputs = row_of(u, pair, *out).iter().enumerate();
                    sum += outputs
                        .map(|(output, u)| {
                            f64::from(*u) * f64::from(*value) * values[output * input + *place as usize]
                        })
                        .sum::<f64>();
                }
            }
            sum
        }
    }
}
