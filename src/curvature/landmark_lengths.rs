//! How long whitened gradients are, as landmarks tell it.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, Par};

use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::landmarks::{MixingValue, landmark_factor, scaled_products};

/// Rows whose products with the landmarks are held at a time.
const BLOCK_ROWS: usize = 256;

/// Lengths of gradients once they are whitened by the kernel as landmarks tell it.
///
/// With k the scaled inner products of a gradient g with the landmarks' and u = L^-1 k, the part of g that the landmarks span,
/// g (G + c I)^-1 g is taken to be (g g - u u) / c + u (U^T U + c I)^-1 u: the first is what the landmarks do not see, the second
/// what they do, and neither is ever negative. Scores keep the exact inner products at the query's side instead, and so are no quadratic
/// form: lengths that were taken from them could not be trusted to have a sign.
///
/// # References
/// Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS 2000, with the residual of g kept.
#[derive(Debug)]
pub struct LandmarkLengths {
    damping: f64,
    /// L.
    lower: Mat<f64>,
    /// L^-T (U^T U + c I)^-1.
    mixing: Mat<f64>,
}

impl LandmarkLengths {
    /// For landmarks with these gradients and factors, a fit's mixing matrix and its damping c.
    ///
    /// # Errors
    /// The landmarks' kernel cannot be factorised.
    ///
    /// # Complexity
    /// O(landmarks^3).
    pub fn new(
        chosen: &MemberGradients,
        factors: &[f64],
        mixing: &[MixingValue],
        damping: f64,
    ) -> Result<Self, CurvatureError> {
        let count = factors.len();
        let lower = landmark_factor(chosen, factors)?;
        let value = |row: usize, column: usize| mixing.get(row * count + column);
        let mixing = Mat::from_fn(count, count, |row, column| {
            value(row, column).map_or(0.0, |value| f64::from_le_bytes(*value))
        });
        Ok(Self { damping, lower, mixing })
    }

    /// g (G + c I)^-1 g of each gradient g, where G is the sum of the outer products of the fit's scaled gradients; by the landmarks'
    /// gradients and factors.
    ///
    /// # Complexity
    /// O(rows x landmarks x (values + landmarks)).
    pub fn squared(
        &self,
        (chosen, factors): (&MemberGradients, &[f64]),
        gradients: &MemberGradients,
    ) -> Vec<f64> {
        let norms = gradients.squared_norms();
        let mut found = Vec::with_capacity(norms.len());
        for first in (0..norms.len()).step_by(BLOCK_ROWS) {
            let rows: Vec<usize> = (first..norms.len().min(first + BLOCK_ROWS)).collect();
            let count = factors.len();
            let scaled = scaled_products(&gradients.subset(&rows), (chosen, factors), |_| 1.0);
            let mut through = scaled.clone();
            solve_lower_triangular_in_place(self.lower.as_ref(), through.as_mut(), Par::Seq);
            let mut mixed = Mat::zeros(count, rows.len());
            matmul(&mut mixed, Accum::Replace, &self.mixing, &through, 1.0, Par::Seq);
            for (at, row) in rows.iter().enumerate() {
                let seen: f64 = through.col(at).iter().map(|value| value * value).sum();
                // (U^T U + c I)^-1 u is L^T times the mixed u, and L u is k.
                let within: f64 = scaled.col(at).iter().zip(mixed.col(at).iter()).map(|(a, b)| a * b).sum();
                found.push((norms[*row] - seen).max(0.0) / self.damping + within.max(0.0));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::dual::DualFit;
    use super::super::landmarks::LandmarkFit;
    use super::super::made_gradients::{factored, weights};
    use super::*;

    /// Largest difference of lengths through so many landmarks to those of the whole inverse, and the largest length.
    fn error(landmarks: usize) -> (f64, f64) {
        let (rows, others) = (factored(90, 1, &[[4, 6]]), factored(13, 2, &[[4, 6]]));
        let weights = weights(90);
        let dual = DualFit::fit(&rows, &weights, 1e-3).unwrap();
        let products = others.inner_products(&rows);
        let exact = others.squared_norms().into_iter().zip(products.chunks(90)).map(|(norm, products)| {
            let right: Vec<f64> = products.iter().zip(&dual.factors).map(|(a, b)| a * b).collect();
            let solved = dual.solver(None).solve(&right);
            // The inverse times c, so that the solution is c times the wanted one over c.
            (norm - solved.iter().zip(&right).map(|(a, b)| a * b).sum::<f64>()) / dual.damping
        });
        let chosen: Vec<usize> = (0..landmarks).map(|number| number * 90 / landmarks).collect();
        let fit = LandmarkFit::fit(&rows, &weights, &chosen, 1e-3).unwrap();
        let chosen = rows.subset(&chosen);
        let lengths = LandmarkLengths::new(&chosen, &fit.factors, &fit.mixing, fit.damping).unwrap();
        let found = lengths.squared((&chosen, &fit.factors), &others);
        assert!(found.iter().all(|length| *length > 0.0));
        exact.zip(found).fold((0.0, 0.0), |(worst, largest): (f64, f64), (exact, found)| {
            (worst.max((exact - found).abs()), largest.max(exact))
        })
    }

    #[test]
    fn lengths_converge_to_those_of_the_whole_inverse() {
        let errors = [4, 12, 90].map(|landmarks| {
            let (worst, largest) = error(landmarks);
            worst / largest
        });
        assert!(errors[0] > errors[1] && errors[1] > errors[2], "{errors:?}");
        assert!(errors[2] < 1e-2, "{errors:?}");
    }
}
