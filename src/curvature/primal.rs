//! The inverse in the space of parameters.

use super::damping::damping_of;
use super::direction::{Direction, ModuleDirection};
use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::row_weights::RowWeights;
use super::sums::GradientSums;
use super::symmetric::{Symmetric, SymmetricView, inverse};

/// Rows whose whole gradients are held at a time.
const BLOCK_ROWS: usize = 256;

/// The damped inverse of the sum of a member's outer products of gradients, (sum of D^2 g g^T + c I)^-1.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimalFit {
    rows: usize,
    damping: f64,
    inverse: Symmetric,
}

impl PrimalFit {
    /// Fits to the gradients of all rows with their weights; `ratio` times the trace is added to the diagonal, which is
    /// what [`DualFit`](super::DualFit) adds.
    ///
    /// # Errors
    /// See [`CurvatureError`]; there are too many parameters.
    ///
    /// # Complexity
    /// O(rows x parameters^2 + parameters^3).
    pub fn fit(
        gradients: &MemberGradients,
        weights: &[RowWeights],
        ratio: f64,
    ) -> Result<Self, CurvatureError> {
        let mut sums = GradientSums::outer_products(gradients)?;
        sums.add(gradients, weights);
        Self::of_sums(&sums, ratio)
    }

    /// Fits to the sums of the outer products of all rows.
    ///
    /// # Errors
    /// See [`CurvatureError`]; the sums are those of squares.
    ///
    /// # Complexity
    /// O(parameters^3).
    pub fn of_sums(sums: &GradientSums, ratio: f64) -> Result<Self, CurvatureError> {
        let mut sum = sums.matrix()?;
        let trace = sums.traces().iter().sum();
        let damping = damping_of(trace, ratio)?;
        for at in 0..sums.parameters() {
            sum[(at, at)] += damping;
        }
        let inverse = Symmetric::of(&inverse(&sum)?, damping);
        Ok(Self { rows: sums.rows() as usize, damping, inverse })
    }

    /// c: what was added to the diagonal.
    pub fn damping(&self) -> f64 {
        self.damping
    }

    /// c times the inverse.
    pub fn inverse(&self) -> &Symmetric {
        &self.inverse
    }

    /// The direction of a row of gradients: n (sum + c I)^-1 g.
    pub fn direction(&self, gradients: &MemberGradients, row: usize) -> Direction {
        Self::direction_of(self.inverse.view(), self.rows as f64 / self.damping, gradients, row)
    }

    /// [`direction`](Self::direction) by c times the inverse; `scale` is n / c.
    pub fn direction_of(
        inverse: SymmetricView<'_>,
        scale: f64,
        gradients: &MemberGradients,
        row: usize,
    ) -> Direction {
        let mut solution = inverse.times(&whole(gradients, row)).into_iter();
        let modules = gradients.modules().iter().map(|module| {
            let (out, input) = module.shape();
            let values = solution.by_ref().take(out * input).map(|value| scale * value).collect();
            ModuleDirection { out, input, values }
        });
        Direction::of_modules(modules.collect())
    }

    /// What each gradient comes to with the direction that it stands for, by c times the inverse; `scale` is n / c.
    ///
    /// # Complexity
    /// O(rows x parameters^2).
    pub fn squared_lengths(inverse: SymmetricView<'_>, scale: f64, gradients: &MemberGradients) -> Vec<f64> {
        let mut found = Vec::with_capacity(gradients.rows());
        for first in (0..gradients.rows()).step_by(BLOCK_ROWS) {
            let block: Vec<Vec<f64>> =
                (first..gradients.rows().min(first + BLOCK_ROWS)).map(|row| whole(gradients, row)).collect();
            let rows: Vec<&[f64]> = block.iter().map(Vec::as_slice).collect();
            let solved = inverse.times_all(&rows);
            found.extend(block.iter().zip(&solved).map(|(own, solved)| {
                (scale * own.iter().zip(solved).map(|(a, b)| a * b).sum::<f64>()).max(0.0)
            }));
        }
        found
    }
}

/// A row's whole gradient: all modules' matrices laid end to end.
fn whole(gradients: &MemberGradients, row: usize) -> Vec<f64> {
    let direction = Direction::of_row(gradients, row);
    direction.modules().iter().flat_map(|module| module.values.iter().copied()).collect()
}
