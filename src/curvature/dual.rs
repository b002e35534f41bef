//! The inverse in the space of rows: as large as there are rows.

use faer::Mat;
use faer::linalg::solvers::Solve;

use super::damping::damping_of;
use super::error::CurvatureError;
use super::gradients::MemberGradients;
use super::row_weights::RowWeights;
use super::symmetric::{Symmetric, SymmetricView, factorised, inverse};
use crate::kernels::KernelError;

/// The damped inverse of the kernel of a member's gradients, (D K' D + c I)^-1 with K' the inner products of the rows'
/// gradients and D their factors.
///
/// # References
/// The dual form of a damped empirical Fisher matrix: by Woodbury's identity (G^T G / n + lambda I)^-1 applied to a
/// gradient needs only inner products of gradients; c = n lambda.
#[derive(Clone, Debug, PartialEq)]
pub struct DualFit {
    /// c: what was added to the diagonal of the kernel.
    pub damping: f64,
    /// D: what each row's gradient is multiplied by.
    pub factors: Vec<f64>,
    /// Diagonal of K (K + c I)^-1: how much of its own fit a row is, 0 to 1.
    pub leverages: Vec<f64>,
    /// c (K + c I)^-1, no value of which is above 1.
    pub inverse: Symmetric,
}

impl DualFit {
    /// Fits to the gradients of all rows with their weights; `ratio` times the trace of the kernel is added to its
    /// diagonal.
    ///
    /// # Errors
    /// See [`CurvatureError`].
    ///
    /// # Complexity
    /// O(rows^2 x values of a row + rows^3); memory for three matrices of rows x rows.
    pub fn fit(
        gradients: &MemberGradients,
        weights: &[RowWeights],
        ratio: f64,
    ) -> Result<Self, CurvatureError> {
        let factors: Vec<f64> = weights.iter().map(|weights| weights.factor).collect();
        let mut kernel = gradients.kernel();
        let rows = gradients.rows().min(factors.len());
        for column in 0..rows {
            for row in 0..rows {
                kernel[(row, column)] *= factors[row] * factors[column];
            }
        }
        let trace = (0..rows).map(|row| kernel[(row, row)]).sum();
        let damping = damping_of(trace, ratio)?;
        for row in 0..rows {
            kernel[(row, row)] += damping;
        }
        let inverse = inverse(&kernel)?;
        let leverages = (0..rows).map(|row| leverage(damping * inverse[(row, row)])).collect();
        Ok(Self { damping, factors, leverages, inverse: Symmetric::of(&inverse, damping) })
    }

    /// What solves with this inverse.
    pub fn solver<'a>(&'a self, removal: Option<&'a DualRemoval>) -> DualSolver<'a> {
        DualSolver { damping: self.damping, inverse: self.inverse.view(), removal }
    }
}

/// K (K + c I)^-1 = I - c (K + c I)^-1, which is `inverse`; rounding may leave the ends.
fn leverage(inverse: f64) -> f64 {
    (1.0 - inverse).clamp(0.0, 1.0)
}

/// Rows that have left the fit, and what takes them out of its inverse: no gradient of theirs is needed.
///
/// For the rows R that stay and the rows S that left, (A_RR)^-1 = B_RR - B_RS (B_SS)^-1 B_SR with B = A^-1, or c A^-1 throughout.
#[derive(Clone, Debug)]
pub struct DualRemoval {
    rows: Vec<usize>,
    /// (B_SS)^-1.
    inverse: Mat<f64>,
}

impl DualRemoval {
    /// Takes `rows` out of the fit with this inverse.
    ///
    /// # Errors
    /// The inverse is damaged.
    ///
    /// # Complexity
    /// O(removed^3).
    pub fn new(inverse: SymmetricView<'_>, rows: Vec<usize>) -> Result<Self, CurvatureError> {
        let block = Mat::from_fn(rows.len(), rows.len(), |row, column| inverse.at(rows[row], rows[column]));
        let identity = Mat::from_fn(rows.len(), rows.len(), |row, column| f64::from(u8::from(row == column)));
        let inverse = if rows.is_empty() { block } else { factorised(&block)?.solve(&identity) };
        Ok(Self { rows, inverse })
    }

    /// Rows that have left.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// (B_SS)^-1 times a vector over the rows that left.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let size = self.rows.len();
        (0..size)
            .map(|row| (0..size).map(|column| self.inverse[(row, column)] * right[column]).sum())
            .collect()
    }
}

/// Solves with the inverse of a dual fit, as if the rows that left had never been in it (at the same damping).
#[derive(Clone, Copy, Debug)]
pub struct DualSolver<'a> {
    /// c: what was added to the diagonal of the kernel.
    pub damping: f64,
    /// c times the inverse.
    pub inverse: SymmetricView<'a>,
    /// Rows that have left.
    pub removal: Option<&'a DualRemoval>,
}

impl DualSolver<'_> {
    /// (K + c I)^-1 times each of several vectors over the rows of the fit, in f64; 0 at rows that left, whatever stands
    /// there in `rights`.
    ///
    /// # Complexity
    /// Reads the inverse once; O(rows^2 x vectors).
    pub fn solve_all(&self, rights: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let rights: Vec<Vec<f64>> = rights.iter().map(|right| self.without_removed(right)).collect();
        let views: Vec<&[f64]> = rights.iter().map(Vec::as_slice).collect();
        let mut solutions = self.inverse.times_all(&views);
        solutions.iter_mut().for_each(|solution| self.finish(solution));
        solutions
    }

    /// [`solve_all`](Self::solve_all) of one vector.
    pub fn solve(&self, right: &[f64]) -> Vec<f64> {
        self.solve_all(&[right.to_vec()]).pop().unwrap_or_default()
    }

    /// [`solve`](Self::solve) as far as f32 values tell it: enough to find the rows that matter.
    ///
    /// # Errors
    /// The inverse is not that of as many rows as there are values.
    ///
    /// # Complexity
    /// Reads half of the bytes of the inverse once.
    pub fn solve_nearly(&self, right: &[f64]) -> Result<Vec<f64>, KernelError> {
        let mut solution = self.inverse.times_nearly(&self.without_removed(right))?;
        self.finish(&mut solution);
        Ok(solution)
    }

    /// What [`solve`](Self::solve) gives for some rows of the fit.
    ///
    /// # Complexity
    /// O((rows asked for + removed) x rows of the fit).
    pub fn solve_rows(&self, right: &[f64], rows: &[usize]) -> Vec<f64> {
        let right = self.without_removed(right);
        let removed = self.removed();
        let asked: Vec<usize> = rows.iter().chain(removed).copied().collect();
        let mut products = self.inverse.rows_times(&asked, &right);
        let at_removed = products.split_off(rows.len());
        let weights = self.removal.map_or_else(Vec::new, |removal| removal.solve(&at_removed));
        for (row, value) in rows.iter().zip(&mut products) {
            let taken = removed.iter().zip(&weights);
            *value -= taken.map(|(column, weight)| self.inverse.at(*row, *column) * weight).sum::<f64>();
            *value = if removed.contains(row) { 0.0 } else { *value / self.damping };
        }
        products
    }

    fn removed(&self) -> &[usize] {
        self.removal.map_or(&[], |removal| &removal.rows)
    }

    fn without_removed(&self, right: &[f64]) -> Vec<f64> {
        let mut right = right.to_vec();
        self.removed().iter().for_each(|row| right[*row] = 0.0);
        right
    }

    /// From a product with the stored inverse to the solution: rows that left are taken out, and c divided away.
    fn finish(&self, product: &mut [f64]) {
        let removed = self.removed();
        let at_removed: Vec<f64> = removed.iter().map(|row| product[*row]).collect();
        let weights = self.removal.map_or_else(Vec::new, |removal| removal.solve(&at_removed));
        for (row, value) in product.iter_mut().enumerate() {
            let taken = removed.iter().zip(&weights);
            *value -= taken.map(|(column, weight)| self.inverse.at(row, *column) * weight).sum::<f64>();
            *value /= self.damping;
        }
        removed.iter().for_each(|row| product[*row] = 0.0);
    }

    /// The leverage of a row of the fit.
    ///
    /// # Complexity
    /// O(removed^2).
    pub fn leverage(&self, row: usize) -> f64 {
        let mut own = self.inverse.at(row, row);
        if let Some(removal) = self.removal {
            let column: Vec<f64> =
                removal.rows.iter().map(|removed| self.inverse.at(row, *removed)).collect();
            own -= removal.solve(&column).iter().zip(&column).map(|(a, b)| a * b).sum::<f64>();
        }
        leverage(own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::direction::Direction;
    use super::super::gradients::ModuleGradients;
    use super::super::primal::PrimalFit;
    use super::*;
    use crate::base::RandomStream;

    const RATIO: f64 = 1e-3;

    pub(crate) fn gradients(rows: usize, seed: u64) -> MemberGradients {
        let mut random = RandomStream::new(seed);
        let mut values = |count: usize| (0..count).map(|_| (random.unit() - 0.4) as f32).collect::<Vec<_>>();
        let factored =
            ModuleGradients::Factored { rank: 2, out: 3, input: 4, u: values(rows * 6), v: values(rows * 8) };
        let dense = ModuleGradients::Dense { out: 2, input: 2, matrix: values(rows * 4) };
        let sparse = ModuleGradients::Sparse {
            rank: 1,
            out: 2,
            terms: 2,
            input: 3,
            u: values(rows * 2),
            v: values(rows * 2),
            places: (0..rows * 2)
                .map(|at| if at % 7 == 0 { u32::MAX } else { (at as u32 * 5) % 3 })
                .collect(),
        };
        MemberGradients::new(rows, vec![factored, dense, sparse])
    }

    fn weights(rows: usize) -> Vec<RowWeights> {
        let own = |row: usize| (row % 5 + 1) as f32 / 7.0;
        (0..rows).map(|row| RowWeights::margin(own(row), Some(0.3 + (row % 3) as f32 * 0.2))).collect()
    }

    fn close(left: &[f64], right: &[f64], tolerance: f64) {
        let scale = right.iter().fold(1e-300_f64, |largest, value| largest.max(value.abs()));
        for (at, (a, b)) in left.iter().zip(right).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "value {at}: {a} and {b}");
        }
        assert_eq!(left.len(), right.len());
    }

    /// Scores of one query by the inverse in the space of rows: of rows of the fit, then of others.
    fn dual_scores(
        fit: &DualFit,
        solver: DualSolver<'_>,
        rows: usize,
        (fitted, query): (&MemberGradients, &MemberGradients),
        others: &MemberGradients,
    ) -> (Vec<f64>, Vec<f64>) {
        let products = query.inner_products(fitted);
        let right: Vec<f64> =
            products.iter().zip(&fit.factors).map(|(product, factor)| product * factor).collect();
        let solution = solver.solve(&right);
        let inside = solution.iter().map(|value| rows as f64 * value).collect();
        let mut direction = Direction::zero(query);
        direction.add(query, &[1.0]);
        let weights: Vec<f64> =
            solution.iter().zip(&fit.factors).map(|(value, factor)| -value * factor).collect();
        direction.add(fitted, &weights);
        let scale = rows as f64 / fit.damping;
        let outside = direction.scores(others).into_iter().map(|score| scale * score).collect();
        (inside, outside)
    }

    #[test]
    fn dual_equals_primal_for_rows_inside_and_outside_of_the_fit() {
        let (rows, query, others) = (gradients(30, 1), gradients(1, 2), gradients(9, 3));
        let weights = weights(30);
        let dual = DualFit::fit(&rows, &weights, RATIO).unwrap();
        let primal = PrimalFit::fit(&rows, &weights, RATIO).unwrap();
        let (inside, outside) = dual_scores(&dual, dual.solver(None), 30, (&rows, &query), &others);
        let direction = primal.direction(&query, 0);
        let expected: Vec<f64> =
            direction.scores(&rows).iter().zip(&dual.factors).map(|(score, factor)| score * factor).collect();
        close(&inside, &expected, 1e-9);
        close(&outside, &direction.scores(&others), 1e-9);
        assert!((dual.damping / primal.damping() - 1.0).abs() < 1e-12);
        // In the fit, the leverage is the quadratic form.
        let form = |row: usize| {
            let direction = primal.direction(&rows, row);
            direction.scores(&rows)[row] * dual.factors[row].powi(2) / 30.0
        };
        let forms: Vec<f64> = (0..30).map(form).collect();
        close(&dual.leverages, &forms, 1e-9);
    }

    #[test]
    fn a_row_that_left_is_as_if_it_had_never_been_there() {
        let (rows, query) = (gradients(24, 5), gradients(1, 6));
        let all = DualFit::fit(&rows, &weights(24), RATIO).unwrap();
        let gone = vec![3, 10, 23];
        let removal = DualRemoval::new(all.inverse.view(), gone.clone()).unwrap();
        let right: Vec<f64> = query
            .inner_products(&rows)
            .iter()
            .zip(&all.factors)
            .map(|(product, factor)| product * factor)
            .collect();
        let found = all.solver(Some(&removal)).solve(&right);

        // The same rows fitted without them, at the same damping.
        let stays: Vec<usize> = (0..24).filter(|row| !gone.contains(row)).collect();
        let kernel = rows.kernel();
        let system = Mat::from_fn(21, 21, |row, column| {
            let (row, column) = (stays[row], stays[column]);
            let damping = if row == column { all.damping } else { 0.0 };
            kernel[(row, column)] * all.factors[row] * all.factors[column] + damping
        });
        let inverse = inverse(&system).unwrap();
        for (at, row) in stays.iter().enumerate() {
            let expected: f64 = (0..21).map(|other| inverse[(at, other)] * right[stays[other]]).sum();
            assert!((found[*row] - expected).abs() < 1e-9 * expected.abs().max(1e-3), "row {row}");
            let expected = 1.0 - all.damping * inverse[(at, at)];
            assert!((all.solver(Some(&removal)).leverage(*row) - expected).abs() < 1e-9);
        }
        assert!(gone.iter().all(|row| found[*row] == 0.0));
        // Some rows, and all of them in f32.
        let solver = all.solver(Some(&removal));
        let some = [23, 0, 11, 3];
        for (row, value) in some.iter().zip(solver.solve_rows(&right, &some)) {
            assert!((value - found[*row]).abs() <= 1e-12 * found[*row].abs(), "row {row}");
        }
        let largest = found.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        for (nearly, exact) in solver.solve_nearly(&right).unwrap().iter().zip(&found) {
            assert!((nearly - exact).abs() <= 1e-4 * largest, "{nearly} {exact}");
        }
        let nobody = DualRemoval::new(all.inverse.view(), Vec::new()).unwrap();
        assert_eq!(all.solver(Some(&nobody)).solve(&right), all.solver(None).solve(&right));
    }

    #[test]
    fn kernels_are_the_inner_products_of_whole_gradients() {
        let (rows, others) = (gradients(7, 8), gradients(3, 9));
        let whole = |gradients: &MemberGradients, row: usize| {
            let mut direction = Direction::zero(gradients);
            let mut weights = vec![0.0; gradients.rows()];
            weights[row] = 1.0;
            direction.add(gradients, &weights);
            direction.modules().iter().flat_map(|module| module.values.clone()).collect::<Vec<_>>()
        };
        let products = rows.inner_products(&others);
        for row in 0..7 {
            for other in 0..3 {
                let expected: f64 =
                    whole(&rows, row).iter().zip(whole(&others, other)).map(|(a, b)| a * b).sum();
                assert!((products[row * 3 + other] - expected).abs() < 1e-12);
            }
            let norm: f64 = whole(&rows, row).iter().map(|value| value * value).sum();
            assert!((rows.squared_norms()[row] - norm).abs() < 1e-12);
            assert!((rows.kernel()[(row, row)] - norm).abs() < 1e-12);
        }
    }

    #[test]
    fn parts_of_modules_add_up_to_the_score() {
        let (rows, query) = (gradients(11, 12), gradients(1, 13));
        let direction = PrimalFit::fit(&rows, &weights(11), RATIO).unwrap().direction(&query, 0);
        let scores = direction.scores(&rows);
        for (row, score) in scores.iter().enumerate() {
            let sum: f64 = direction.parts(&rows, row).iter().sum();
            assert!((sum - score).abs() < 1e-12 * score.abs().max(1.0), "row {row}");
        }
    }

    #[test]
    fn gradients_that_are_all_zero_are_refused() {
        let module = ModuleGradients::Dense { out: 1, input: 1, matrix: vec![0.0; 3] };
        let zero = MemberGradients::new(3, vec![module]);
        assert_eq!(DualFit::fit(&zero, &weights(3), RATIO).unwrap_err(), CurvatureError::Zero);
        let fit = |ratio| DualFit::fit(&gradients(3, 1), &weights(3), ratio);
        assert!(matches!(fit(0.0), Err(CurvatureError::Damping { .. })));
        assert!(matches!(fit(-1.0), Err(CurvatureError::Damping { .. })));
    }
}
