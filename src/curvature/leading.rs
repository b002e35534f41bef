//! The leading coordinates of half-whitened gradients: few values a row whose inner products rank rows nearly as scores do.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Accum, Mat, MatRef, Par, Side};
use rayon::prelude::*;

use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::landmarks::{SumValue, landmark_factor, scaled_products, through_landmarks};
use super::row_weights::RowWeights;

/// Rows whose products with the landmarks are held at a time.
const BLOCK_ROWS: usize = 256;

/// Landmarks up to which eight matrices over them are held.
const PARTED_LANDMARKS_MAX: usize = 4096;

/// What turns products of a gradient with those of some rows, the landmarks, into its leading coordinates.
///
/// With U = K_:I L^-T of the rows of the fit, L L^T the landmarks' kernel, and U^T U = W S W^T, a gradient with the scaled products k has the
/// coordinates y_j = sqrt(w(s_j)) W_j^T L^-1 k, for the largest s_j: w = n / (s + c) for a kernel damped by c and 1 without damping. Where the
/// landmarks span a gradient, y . y' over all j is n g (G + c I)^-1 g'; directions with small s_j, which hold little of the rows, are left away.
///
/// # References
/// Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS 2000, section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct LeadingFit {
    /// What each landmark's gradient is multiplied by.
    pub factors: Vec<f64>,
    /// Coordinates.
    pub coordinates: usize,
    /// [coordinates, landmarks], row by row.
    pub matrix: Vec<SumValue>,
    /// How much of the rows' summed squared coordinates the leading ones hold, 0 to 1.
    pub share: f64,
}

impl LeadingFit {
    /// Fits at most `most` coordinates to the gradients of all rows with their weights, through the rows named in `landmarks`; c is
    /// `damping`, `None` for none.
    ///
    /// # Errors
    /// See [`CurvatureError`].
    ///
    /// # Complexity
    /// O(rows x landmarks x (values + landmarks) + landmarks^3).
    pub fn fit(
        gradients: &MemberGradients,
        weights: &[RowWeights],
        landmarks: &[usize],
        damping: Option<f64>,
        most: usize,
    ) -> Result<Self, CurvatureError> {
        let factor = |row: usize| weights.get(row).map_or(1.0, |weights| weights.factor);
        let chosen = gradients.subset(landmarks);
        let factors: Vec<f64> = landmarks.iter().map(|row| factor(*row)).collect();
        let count = factors.len();
        let lower = landmark_factor(&chosen, &factors)?;
        let firsts: Vec<usize> = (0..gradients.rows()).step_by(BLOCK_ROWS).collect();
        // Sums of parts whose number is that of no machine, so that they are the same on every one; of many landmarks few parts fit
        // the memory.
        let parts = if count > PARTED_LANDMARKS_MAX { 2 } else { 8 };
        let parts = firsts.par_chunks(firsts.len().div_ceil(parts).max(1)).map(|firsts| {
            let mut inner: Mat<f64> = Mat::zeros(count, count);
            for first in firsts {
                let rows: Vec<usize> = (*first..gradients.rows().min(first + BLOCK_ROWS)).collect();
                let block = gradients.subset(&rows);
                let through = through_landmarks(&block, (&chosen, &factors, &lower), |row| factor(rows[row]));
                matmul(&mut inner, Accum::Add, &through, through.transpose(), 1.0, Par::Seq);
            }
            inner
        });
        let parts: Vec<Mat<f64>> = parts.collect();
        let inner = parts.iter().fold(Mat::zeros(count, count), |sum: Mat<f64>, part| sum + part);
        let eigen =
            inner.self_adjoint_eigen(Side::Lower).map_err(|_| CurvatureError::NotPositive { row: 0 })?;
        let values: Vec<f64> = eigen.S().column_vector().iter().map(|value| value.max(0.0)).collect();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        let weight = |value: f64| damping.map_or(1.0, |damping| gradients.rows() as f64 / (value + damping));
        let squares = |order: &[usize]| order.iter().map(|at| weight(values[*at]) * values[*at]).sum::<f64>();
        let leading = &order[..most.min(count)];
        let (held, whole) = (squares(leading), squares(&order));
        let mut matrix = Mat::from_fn(count, leading.len(), |row, column| {
            weight(values[leading[column]]).sqrt() * eigen.U()[(row, leading[column])]
        });
        solve_upper_triangular_in_place(lower.transpose(), matrix.as_mut(), Par::Seq);
        let values = (0..leading.len())
            .flat_map(|column| matrix.col(column).iter().map(|value| (*value as f32).to_le_bytes()));
        Ok(Self {
            factors,
            coordinates: leading.len(),
            matrix: values.collect(),
            share: if whole > 0.0 { held / whole } else { 0.0 },
        })
    }

    /// The coordinates of gradients, row by row, by a matrix as a file holds it and the landmarks' gradients and factors.
    ///
    /// # Complexity
    /// O(rows x landmarks x (values + coordinates)).
    pub fn of_gradients(
        matrix: &[SumValue],
        (chosen, factors): (&MemberGradients, &[f64]),
        gradients: &MemberGradients,
    ) -> Vec<f32> {
        let count = factors.len().max(1);
        let coordinates = matrix.len() / count;
        let matrix: Vec<f64> = matrix.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect();
        let matrix = MatRef::from_row_major_slice(&matrix[..coordinates * count], coordinates, count);
        let mut found = Vec::with_capacity(gradients.rows() * coordinates);
        for first in (0..gradients.rows()).step_by(BLOCK_ROWS) {
            let rows: Vec<usize> = (first..gradients.rows().min(first + BLOCK_ROWS)).collect();
            let scaled = scaled_products(&gradients.subset(&rows), (chosen, factors), |_| 1.0);
            let mut own = Mat::zeros(coordinates, rows.len());
            matmul(&mut own, Accum::Replace, matrix, &scaled, 1.0, Par::Seq);
            for row in 0..rows.len() {
                found.extend(own.col(row).iter().map(|value| *value as f32));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::dual::DualFit;
    use super::super::made_gradients::factored;
    use super::*;

    /// Largest difference between products of coordinates and scores, over the largest score.
    fn error(damping: Option<f64>, most: usize) -> f64 {
        let (rows, query) = (factored(80, 1, &[[4, 6]]), factored(1, 2, &[[4, 6]]));
        let weights = vec![RowWeights::none(); 80];
        let products = query.inner_products(&rows);
        let exact: Vec<f64> = match damping {
            Some(ratio) => {
                let dual = DualFit::fit(&rows, &weights, ratio).unwrap();
                dual.solver(None).solve(&products).iter().map(|solved| 80.0 * solved).collect()
            }
            None => products,
        };
        let damping = damping.map(|ratio| DualFit::fit(&rows, &weights, ratio).unwrap().damping);
        let landmarks: Vec<usize> = (0..80).step_by(2).collect();
        let fit = LeadingFit::fit(&rows, &weights, &landmarks, damping, most).unwrap();
        assert_eq!(fit.coordinates, most.min(40));
        assert!((0.0..=1.0 + 1e-9).contains(&fit.share));
        let chosen = rows.subset(&landmarks);
        let of = |gradients: &MemberGradients| {
            LeadingFit::of_gradients(&fit.matrix, (&chosen, &fit.factors), gradients)
        };
        let (asked, all) = (of(&query), of(&rows));
        let found = all
            .chunks(fit.coordinates)
            .map(|own| own.iter().zip(&asked).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>());
        let largest = exact.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        exact.iter().zip(found).fold(0.0_f64, |worst, (exact, found)| worst.max((exact - found).abs()))
            / largest
    }

    #[test]
    fn products_of_all_coordinates_are_scores_and_fewer_are_near() {
        // 24 parameters, which 40 landmarks span.
        for damping in [None, Some(1e-2)] {
            let errors = [40, 20, 6].map(|most| error(damping, most));
            assert!(errors[0] < 1e-3 && errors[1] > errors[0] && errors[2] > errors[1], "{errors:?}");
        }
    }
}
