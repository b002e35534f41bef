//! The inverse over rows through a few of them, for more rows than a matrix can be kept of.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::damping::damping_of;
use super::direction::Direction;
use super::error::CurvatureError;
use super::gradients::{MemberGradients, ModuleGradients, wide};
use super::row_weights::RowWeights;
use super::symmetric::{factorised, inverse};
use crate::base::ElementType;
use crate::kernels::{Kernels, WideQuery};

/// Rows whose whole gradients are held at a time.
const BLOCK_ROWS: usize = 256;

/// Parameters whose sums one thread adds to.
const PART_PARAMETERS: usize = 2048;

/// What is added to the diagonal of the landmarks' own kernel, as a share of its mean: keeps the factorisation of nearly
/// equal landmarks from failing.
const LANDMARK_JITTER: f64 = 1e-5;

/// One value of the matrix over landmarks as it stands in a file: little-endian f64.
pub type MixingValue = [u8; 8];

/// One value of the sums as it stands in a file: little-endian f32.
pub type SumValue = [u8; 4];

/// The damped kernel of a member's gradients as it looks from a few rows, the landmarks: with U = K_:I L^-T, where L L^T is the
/// kernel of the landmarks, (K + c I)^-1 is close to (I - U (U^T U + c I)^-1 U^T) / c.
///
/// What is kept does not grow with the number of rows: for each landmark the vector h_i = sum over rows of U_xi D_x g_x, as
/// wide as there are parameters, and a matrix over landmarks. A gradient g stands for the direction
/// (n / c) (g - sum over landmarks of b_i D_i g_i), b = L^-T (U^T U + c I)^-1 <h, g>.
///
/// # References
/// Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS 2000.
#[derive(Clone, Debug, PartialEq)]
pub struct LandmarkFit {
    /// c: what stands for the damping of the whole kernel.
    pub damping: f64,
    /// D: what each landmark's gradient is multiplied by.
    pub factors: Vec<f64>,
    /// L^-T (U^T U + c I)^-1, row by row.
    pub mixing: Vec<MixingValue>,
    /// The vectors h, one after the other.
    pub sums: Vec<SumValue>,
}

impl LandmarkFit {
    /// Fits to the gradients of all rows with their weights, through the rows named in `landmarks`; `ratio` times the trace of
    /// the whole kernel is its damping.
    ///
    /// # Errors
    /// See [`CurvatureError`].
    ///
    /// # Complexity
    /// O(rows x landmarks x parameters); memory for a value for each landmark and parameter.
    pub fn fit(
        gradients: &MemberGradients,
        weights: &[RowWeights],
        landmarks: &[usize],
        ratio: f64,
    ) -> Result<Self, CurvatureError> {
        let factor = |row: usize| weights.get(row).map_or(1.0, |weights| weights.factor);
        let norms = gradients.squared_norms();
        let trace = norms.iter().enumerate().map(|(row, norm)| factor(row).powi(2) * norm).sum();
        let damping = damping_of(trace, ratio)?;
        let chosen = gradients.subset(landmarks);
        let factors: Vec<f64> = landmarks.iter().map(|row| factor(*row)).collect();
        let count = landmarks.len();
        let lower = landmark_factor(&chosen, &factors)?;
        let (inner, sums) = sum_up(gradients, &chosen, (&factors, &lower), factor);
        let mut damped = inner;
        for row in 0..count {
            damped[(row, row)] += damping;
        }
        let mut mixing = inverse(&damped)?;
        solve_upper_triangular_in_place(lower.transpose(), mixing.as_mut(), Par::Seq);
        let rows = (0..count).flat_map(|row| (0..count).map(move |column| (row, column)));
        let mixing = rows.map(|(row, column)| mixing[(row, column)].to_le_bytes()).collect();
        Ok(Self { damping, factors, mixing, sums })
    }

    /// What each landmark's gradient counts for in the direction of a gradient: -b_i D_i.
    ///
    /// # Complexity
    /// O(landmarks x (parameters + landmarks)).
    pub fn landmark_weights(
        factors: &[f64],
        mixing: &[MixingValue],
        sums: &[SumValue],
        gradients: &MemberGradients,
        row: usize,
    ) -> Vec<f64> {
        let products = sum_products(sums, factors.len(), &gradients.subset(&[row]));
        mixing
            .par_chunks_exact(factors.len().max(1))
            .zip(factors)
            .map(|(mixing, factor)| -factor * mixed(mixing, &products))
            .collect()
    }
}

/// L, where L L^T is the landmarks' kernel with a little on its diagonal.
pub(super) fn landmark_factor(chosen: &MemberGradients, factors: &[f64]) -> Result<Mat<f64>, CurvatureError> {
    let count = factors.len();
    let mut own = chosen.kernel();
    for column in 0..count {
        for row in 0..count {
            own[(row, column)] *= factors[row] * factors[column];
        }
    }
    let mean = (0..count).map(|row| own[(row, row)]).sum::<f64>() / count.max(1) as f64;
    for row in 0..count {
        // Landmarks of zeros only have nothing to say, which is no reason to fail.
        own[(row, row)] += (LANDMARK_JITTER * mean).max(f64::MIN_POSITIVE);
    }
    Ok(factorised(&own)?.L().to_owned())
}

/// The inner product of each landmark's sum h with one row's gradient. A factored gradient is not written out: its input
/// side is compared with each row of the sums' matrices.
fn sum_products(sums: &[SumValue], landmarks: usize, gradient: &MemberGradients) -> Vec<f64> {
    let own: Vec<RowModule> = gradient.modules().iter().map(RowModule::new).collect();
    let width: usize = own.iter().map(|module| module.values).sum();
    if width == 0 {
        return vec![0.0; landmarks];
    }
    sums.par_chunks_exact(width)
        .map(|sums| {
            let (mut total, mut start) = (0.0, 0);
            for module in &own {
                total += module.product(sums[start..start + module.values].as_flattened());
                start += module.values;
            }
            total
        })
        .collect()
}

/// One module of one row's gradient, ready to be compared with matrices.
struct RowModule {
    /// Values of the whole matrix.
    values: usize,
    /// For each pair of vectors the output side, and the input side; the whole matrix as one row otherwise.
    pairs: Vec<(Vec<f64>, WideQuery)>,
}

impl RowModule {
    fn new(module: &ModuleGradients) -> Self {
        let (out, input) = module.shape();
        let pairs = match module {
            ModuleGradients::Factored { u, v, .. } => {
                u.chunks_exact(out).map(wide).zip(v.chunks_exact(input).map(WideQuery::new)).collect()
            }
            _ => {
                let direction = Direction::of_row(&MemberGradients::new(1, vec![module.clone()]), 0);
                let whole = direction.modules().iter().flat_map(|own| &own.values);
                let whole: Vec<f32> = whole.map(|value| *value as f32).collect();
                vec![(vec![1.0], WideQuery::new(&whole))]
            }
        };
        Self { values: out * input, pairs }
    }

    fn product(&self, matrix: &[u8]) -> f64 {
        let mut total = 0.0;
        for (u, v) in &self.pairs {
            let mut through = vec![0.0; u.len()];
            // The matrix has as many values as the gradient: they were counted before.
            let _ = Kernels::best().dots_wide(ElementType::F32, v, matrix, &mut through);
            total += u.iter().zip(&through).map(|(a, b)| a * b).sum::<f64>();
        }
        total
    }
}

/// A row of the matrix over landmarks times a vector, in eight sums.
pub(super) fn mixed(mixing: &[MixingValue], vector: &[f64]) -> f64 {
    const LANES: usize = 8;
    let ((weights, weight_rest), (values, value_rest)) =
        (mixing.as_chunks::<LANES>(), vector.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (weights, values) in weights.iter().zip(values) {
        for lane in 0..LANES {
            sums[lane] += f64::from_le_bytes(weights[lane]) * values[lane];
        }
    }
    let rest = weight_rest.iter().zip(value_rest).map(|(weight, value)| f64::from_le_bytes(*weight) * value);
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// Inner products of some rows' gradients with those of the landmarks, by the factors of both: landmarks x rows.
pub(super) fn scaled_products(
    block: &MemberGradients,
    (chosen, factors): (&MemberGradients, &[f64]),
    factor: impl Fn(usize) -> f64,
) -> Mat<f64> {
    let count = factors.len();
    let products = block.inner_products(chosen);
    Mat::from_fn(count, block.rows(), |landmark, row| {
        products[row * count + landmark] * factors[landmark] * factor(row)
    })
}

/// U^T of some rows, landmarks x rows: the landmarks' factor L away from their products with the rows, by each row's factor.
pub(super) fn through_landmarks(
    block: &MemberGradients,
    (chosen, factors, lower): (&MemberGradients, &[f64], &Mat<f64>),
    factor: impl Fn(usize) -> f64,
) -> Mat<f64> {
    let mut through = scaled_products(block, (chosen, factors), factor);
    solve_lower_triangular_in_place(lower.as_ref(), through.as_mut(), Par::Seq);
    through
}

/// U^T U, and the vectors h.
fn sum_up(
    gradients: &MemberGradients,
    chosen: &MemberGradients,
    (factors, lower): (&[f64], &Mat<f64>),
    factor: impl Fn(usize) -> f64,
) -> (Mat<f64>, Vec<SumValue>) {
    let (count, width) = (factors.len(), gradients.parameters() as usize);
    let mut inner: Mat<f64> = Mat::zeros(count, count);
    let mut parts: Vec<Mat<f64>> = (0..width)
        .step_by(PART_PARAMETERS)
        .map(|first| Mat::zeros(PART_PARAMETERS.min(width - first), count))
        .collect();
    for first in (0..gradients.rows()).step_by(BLOCK_ROWS) {
        let rows: Vec<usize> = (first..gradients.rows().min(first + BLOCK_ROWS)).collect();
        let block = gradients.subset(&rows);
        let through = through_landmarks(&block, (chosen, factors, lower), |row| factor(rows[row]));
        matmul(&mut inner, Accum::Add, &through, through.transpose(), 1.0, Par::Seq);
        let mut whole = Vec::with_capacity(rows.len() * width);
        for (at, row) in rows.iter().enumerate() {
            let own = factor(*row);
            let direction = Direction::of_row(&block, at);
            let values = direction.modules().iter().flat_map(|module| &module.values);
            whole.extend(values.map(|value| own * value));
        }
        let whole = MatRef::from_row_major_slice(whole.as_slice(), rows.len(), width);
        parts.par_iter_mut().enumerate().for_each(|(part, sums)| {
            let own = whole.subcols(part * PART_PARAMETERS, sums.nrows());
            matmul(sums, Accum::Add, own.transpose(), through.transpose(), 1.0, Par::Seq);
        });
    }
    let mut sums = Vec::with_capacity(count * width);
    for landmark in 0..count {
        for part in &parts {
            sums.extend(part.col(landmark).iter().map(|value| (*value as f32).to_le_bytes()));
        }
    }
    (inner, sums)
}

#[cfg(test)]
mod tests {
    use super::super::dual::DualFit;
    use super::super::made_gradients::{factored, weights};
    use super::*;

    fn gradients(rows: usize, seed: u64) -> MemberGradients {
        factored(rows, seed, &[[4, 6], [3, 5]])
    }

    /// Largest difference to the scores of the whole inverse, of the largest score.
    fn error(landmarks: usize) -> f64 {
        let (rows, query, others) = (gradients(120, 1), gradients(1, 2), gradients(15, 3));
        let weights = weights(120);
        let dual = DualFit::fit(&rows, &weights, 1e-3).unwrap();
        let right: Vec<f64> = query
            .inner_products(&rows)
            .iter()
            .zip(&dual.factors)
            .map(|(product, factor)| product * factor)
            .collect();
        let solution = dual.solver(None).solve(&right);
        let taken: Vec<f64> =
            solution.iter().zip(&dual.factors).map(|(value, factor)| -value * factor).collect();
        let mut exact = Direction::of_row(&query, 0);
        exact.add(&rows, &taken);

        let chosen: Vec<usize> = (0..landmarks).map(|number| number * 120 / landmarks).collect();
        let fit = LandmarkFit::fit(&rows, &weights, &chosen, 1e-3).unwrap();
        assert!((fit.damping / dual.damping - 1.0).abs() < 1e-12);
        let own = LandmarkFit::landmark_weights(&fit.factors, &fit.mixing, &fit.sums, &query, 0);
        let mut direction = Direction::of_row(&query, 0);
        direction.add(&rows.subset(&chosen), &own);
        let (exact, found) = (exact.scores(&others), direction.scores(&others));
        let largest = exact.iter().fold(0.0_f64, |largest, score| largest.max(score.abs()));
        exact.iter().zip(found).fold(0.0_f64, |worst, (exact, found)| worst.max((exact - found).abs()))
            / largest
    }

    #[test]
    fn landmarks_converge_to_the_whole_inverse() {
        let errors = [10, 40, 120].map(error);
        assert!(errors[0] > errors[1] && errors[1] > errors[2] * 2.0, "{errors:?}");
        // All rows: what is left is the rounding of the sums to f32, and the jitter.
        assert!(errors[2] < 1e-2, "{errors:?}");
    }
}
