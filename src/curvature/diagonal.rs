//! The mean square of each parameter's gradient.

use super::damping::damping_of;
use super::direction::Direction;
use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::sums::GradientSums;

/// For each parameter the mean over rows of its squared gradient, damped module by module.
#[derive(Clone, Debug, PartialEq)]
pub struct DiagonalFit {
    /// Mean squares and damping, all modules laid end to end.
    pub values: Vec<f64>,
    /// What was added for each module.
    pub damping: Vec<f64>,
}

impl DiagonalFit {
    /// Fits to the gradients of all rows; to each module's values `ratio` times their mean is added.
    ///
    /// # Errors
    /// See [`CurvatureError`].
    ///
    /// # Complexity
    /// O(rows x parameters).
    pub fn fit(gradients: &MemberGradients, ratio: f64) -> Result<Self, CurvatureError> {
        let mut sums = GradientSums::squares(gradients);
        sums.add(gradients, &[]);
        Self::of_sums(&sums, ratio)
    }

    /// Fits to the sums of the squares of all rows.
    ///
    /// # Errors
    /// See [`CurvatureError`]; the sums are those of outer products.
    ///
    /// # Complexity
    /// O(parameters).
    pub fn of_sums(sums: &GradientSums, ratio: f64) -> Result<Self, CurvatureError> {
        let rows = sums.rows().max(1) as f64;
        let (mut values, mut damping) = (Vec::new(), Vec::new());
        for module in sums.modules()? {
            let squares: Vec<f64> = module.iter().map(|sum| sum / rows).collect();
            let mean = squares.iter().sum::<f64>() / squares.len().max(1) as f64;
            // A module that no gradient reaches has no scale of its own; nothing is ever multiplied by it.
            let own = match damping_of(mean, ratio) {
                Err(CurvatureError::Zero) => 1.0,
                other => other?,
            };
            damping.push(own);
            values.extend(squares.iter().map(|value| value + own));
        }
        Ok(Self { values, damping })
    }

    /// Divides a query's gradient by `values`: the direction that it stands for.
    pub fn direction(values: &[f64], gradients: &MemberGradients, row: usize) -> Direction {
        let mut direction = Direction::of_row(gradients, row);
        let mut divisors = values.iter();
        for module in direction.modules_mut() {
            for (value, divisor) in module.values.iter_mut().zip(divisors.by_ref()) {
                *value /= divisor;
            }
        }
        direction
    }

    /// Each gradient divided by the roots of `values`, row by row; inner products of two are scores.
    ///
    /// # Complexity
    /// O(rows x parameters).
    pub fn half_whitened(values: &[f64], gradients: &MemberGradients) -> Vec<f32> {
        let mut all = Vec::with_capacity(gradients.rows() * values.len());
        for row in 0..gradients.rows() {
            let whole = Direction::of_row(gradients, row);
            let own = whole.modules().iter().flat_map(|module| &module.values);
            all.extend(own.zip(values).map(|(value, divisor)| (value / divisor.sqrt()) as f32));
        }
        all
    }

    /// What each gradient comes to with itself once it is divided by `values`.
    ///
    /// # Complexity
    /// O(rows x parameters).
    pub fn squared_lengths(values: &[f64], gradients: &MemberGradients) -> Vec<f64> {
        let own = |row: usize| Self::direction(values, gradients, row).parts(gradients, row).iter().sum();
        (0..gradients.rows()).map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::ModuleGradients;

    #[test]
    fn squares_of_every_encoding_are_those_of_whole_gradients() {
        let factored = ModuleGradients::Factored {
            rank: 1,
            out: 2,
            input: 2,
            u: vec![1.0, 2.0, 3.0, 0.0],
            v: vec![1.0, -1.0, 2.0, 1.0],
        };
        let pairs = ModuleGradients::Factored {
            rank: 2,
            out: 1,
            input: 1,
            u: vec![1.0, 2.0, 3.0, 4.0],
            v: vec![1.0, 1.0, -1.0, 1.0],
        };
        let gradients = MemberGradients::new(2, vec![factored, pairs]);
        let fit = DiagonalFit::fit(&gradients, 1.0).unwrap();
        let mean = [(1.0 + 36.0) / 2.0, (1.0 + 9.0) / 2.0, 4.0 / 2.0, 4.0 / 2.0];
        let own = mean.iter().sum::<f64>() / 4.0;
        for (found, expected) in fit.values.iter().zip(mean) {
            assert!((found - expected - own).abs() < 1e-12, "{found} {expected}");
        }
        assert!((fit.values[4] - 2.0 * (9.0 + 1.0) / 2.0).abs() < 1e-12);
        let direction = DiagonalFit::direction(&fit.values, &gradients, 0);
        assert!((direction.modules()[0].values[1] + 1.0 / fit.values[1]).abs() < 1e-12);
        assert!(DiagonalFit::fit(&gradients, 0.0).is_err());
    }
}
