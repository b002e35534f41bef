//! How far scores through landmarks are from those of the whole inverse.

use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, Par};

use super::direction::Direction;
use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::landmarks::{LandmarkFit, landmark_factor, mixed};
use super::row_weights::RowWeights;

/// What may be left of a solution's right side, as a share of its length.
const TOLERANCE: f64 = 1e-6;

/// Steps after which a solution is taken as it is.
const STEPS_MAX: usize = 200;

impl LandmarkFit {
    /// How far the scores of all rows are from those of the whole inverse, with some of the rows as questions: the root of the
    /// summed squared differences over the root of the summed squares.
    ///
    /// The whole system is solved by conjugate gradients, with this fit as preconditioner: only products of the kernel with a
    /// vector are needed, and no matrix over the rows.
    ///
    /// # Errors
    /// The landmarks' kernel cannot be factorised.
    ///
    /// # Complexity
    /// O(questions x steps x rows x parameters); some ten steps where the landmarks stand for the rows well.
    ///
    /// # References
    /// Frangella, Tropp and Udell, "Randomized Nyström Preconditioning", 2021 (arXiv 2110.02820), section 5.
    pub fn error(
        &self,
        gradients: &MemberGradients,
        weights: &[RowWeights],
        landmarks: &[usize],
        questions: &[usize],
    ) -> Result<f64, CurvatureError> {
        let factor = |row: usize| weights.get(row).map_or(1.0, |weights| weights.factor);
        let chosen = gradients.subset(landmarks);
        let system = System {
            gradients,
            factors: (0..gradients.rows()).map(factor).collect(),
            lower: landmark_factor(&chosen, &self.factors)?,
            chosen,
            fit: self,
        };
        let (mut differences, mut squares) = (0.0, 0.0);
        for question in questions {
            let asked = gradients.subset(&[*question]);
            let right = system.along(&Direction::of_row(&asked, 0));
            let exact = system.solve(&right);
            let own = Self::landmark_weights(&self.factors, &self.mixing, &self.sums, &asked, 0);
            let mut direction = Direction::of_row(&asked, 0);
            direction.add(&system.chosen, &own);
            for (exact, near) in exact.iter().zip(system.along(&direction)) {
                differences += (near / self.damping - exact).powi(2);
                squares += exact * exact;
            }
        }
        Ok(if squares > 0.0 { (differences / squares).sqrt() } else { 0.0 })
    }
}

/// (K + c I), by products of gradients.
struct System<'a> {
    gradients: &'a MemberGradients,
    /// D of all rows.
    factors: Vec<f64>,
    chosen: MemberGradients,
    lower: Mat<f64>,
    fit: &'a LandmarkFit,
}

impl System<'_> {
    /// D_x <g_x, direction> for all rows.
    fn along(&self, direction: &Direction) -> Vec<f64> {
        let scores = direction.scores(self.gradients);
        scores.iter().zip(&self.factors).map(|(score, factor)| score * factor).collect()
    }

    /// The sum over rows of v_x D_x g_x.
    fn sum(&self, vector: &[f64]) -> Direction {
        let weights: Vec<f64> =
            vector.iter().zip(&self.factors).map(|(value, factor)| value * factor).collect();
        let mut direction = Direction::zero(self.gradients);
        direction.add(self.gradients, &weights);
        direction
    }

    /// (K + c I) v.
    fn times(&self, vector: &[f64]) -> Vec<f64> {
        let product = self.along(&self.sum(vector));
        product.iter().zip(vector).map(|(product, value)| product + self.fit.damping * value).collect()
    }

    /// What the inverse through landmarks makes of a vector.
    fn precondition(&self, vector: &[f64]) -> Vec<f64> {
        let products = self.sum(vector).scores(&self.chosen);
        let mut through = Mat::from_fn(products.len(), 1, |row, _| products[row] * self.fit.factors[row]);
        solve_lower_triangular_in_place(self.lower.as_ref(), through.as_mut(), Par::Seq);
        let through: Vec<f64> = through.col(0).iter().copied().collect();
        let count = self.fit.factors.len().max(1);
        let rows = self.fit.mixing.chunks_exact(count).zip(&self.fit.factors);
        let weights: Vec<f64> = rows.map(|(mixing, factor)| factor * mixed(mixing, &through)).collect();
        let mut direction = Direction::zero(self.gradients);
        direction.add(&self.chosen, &weights);
        let taken = self.along(&direction);
        vector.iter().zip(taken).map(|(value, taken)| (value - taken) / self.fit.damping).collect()
    }

    /// (K + c I)^-1 times a vector, by conjugate gradients.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
        let add = |to: &mut [f64], scale: f64, from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += scale * from);
        };
        let (mut solution, mut left) = (vec![0.0; right.len()], right.to_vec());
        let enough = TOLERANCE * dot(right, right).sqrt();
        let mut conditioned = self.precondition(&left);
        let mut step = conditioned.clone();
        let mut length = dot(&left, &conditioned);
        for _ in 0..STEPS_MAX {
            if dot(&left, &left).sqrt() <= enough || length <= 0.0 {
                break;
            }
            let product = self.times(&step);
            let scale = length / dot(&step, &product);
            add(&mut solution, scale, &step);
            add(&mut left, -scale, &product);
            conditioned = self.precondition(&left);
            let next = dot(&left, &conditioned);
            step.iter_mut().zip(&conditioned).for_each(|(step, own)| *step = own + next / length * *step);
            length = next;
        }
        solution
    }
}

#[cfg(test)]
mod tests {
    use super::super::dual::DualFit;
    use super::super::gradients::ModuleGradients;
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn the_error_is_that_of_the_whole_inverse() {
        let mut random = RandomStream::new(4);
        let mut values = |count: usize| (0..count).map(|_| (random.unit() - 0.4) as f32).collect::<Vec<_>>();
        let first = ModuleGradients::Factored { rank: 1, out: 4, input: 6, u: values(480), v: values(720) };
        let second = ModuleGradients::Dense { out: 3, input: 5, matrix: values(1800) };
        let rows = MemberGradients::new(120, vec![first, second]);
        let weights: Vec<RowWeights> =
            (0..120).map(|row| RowWeights::margin((row % 5 + 1) as f32 / 7.0, Some(0.4))).collect();
        let dual = DualFit::fit(&rows, &weights, 1e-3).unwrap();
        let questions = [3, 77];
        let mut errors = Vec::new();
        for count in [10, 60, 120] {
            let landmarks: Vec<usize> = (0..count).map(|number| number * 120 / count).collect();
            let fit = LandmarkFit::fit(&rows, &weights, &landmarks, 1e-3).unwrap();
            let (mut differences, mut squares) = (0.0, 0.0);
            for question in questions {
                let asked = rows.subset(&[question]);
                let right = asked.inner_products(&rows);
                let right: Vec<f64> = right.iter().zip(&dual.factors).map(|(a, b)| a * b).collect();
                let exact = dual.solver(None).solve(&right);
                let own = LandmarkFit::landmark_weights(&fit.factors, &fit.mixing, &fit.sums, &asked, 0);
                let mut direction = Direction::of_row(&asked, 0);
                direction.add(&rows.subset(&landmarks), &own);
                for (row, (near, exact)) in direction.scores(&rows).iter().zip(&exact).enumerate() {
                    differences += (near * dual.factors[row] / fit.damping - exact).powi(2);
                    squares += exact * exact;
                }
            }
            let expected = (differences / squares).sqrt();
            let found = fit.error(&rows, &weights, &landmarks, &questions).unwrap();
            assert!((found - expected).abs() <= 1e-4 * expected + 1e-6, "{count}: {found} {expected}");
            errors.push(found);
        }
        assert!(errors[0] > 2.0 * errors[1] && errors[1] > 2.0 * errors[2], "{errors:?}");
    }
}
