//! Sums over gradients, which rows can be added to and taken away from.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::direction::Direction;
use super::error::CurvatureError;
use super::gradients::{MemberGradients, ModuleGradients};
use super::row_weights::RowWeights;
use crate::base::limits::PRIMAL_PARAMETERS_MAX;

/// Rows whose whole gradients are held at a time.
const BLOCK_ROWS: usize = 256;

/// Rows of the triangle that one thread adds to. The number is that of no machine, so that sums are the same on every one.
const PANEL_ROWS: usize = 128;

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summed {
    OuterProducts,
    Squares,
}

/// Sums over rows of one member's gradients, not divided by anything: of their outer products, D^2 g g^T over all modules laid
/// end to end, or of their squares, D^2 g^2 for each parameter. D is the factor of a row's weights.
///
/// Sums of different rows can be merged, and rows can be taken away again, without a look at the others.
///
/// ```
/// use ascribe::curvature::{GradientSums, MemberGradients, ModuleGradients};
/// let module = ModuleGradients::Dense { out: 1, input: 2, matrix: vec![1.0, 2.0, 3.0, -1.0] };
/// let gradients = MemberGradients::new(2, vec![module]);
/// let mut sums = GradientSums::outer_products(&gradients).unwrap();
/// sums.add(&gradients, &[]);
/// assert_eq!((sums.rows(), sums.values()), (2, [10.0, -1.0, 5.0].as_slice()));
/// sums.subtract(&gradients.subset(&[1]), &[]);
/// assert_eq!((sums.rows(), sums.values()), (1, [1.0, 2.0, 4.0].as_slice()));
/// ```
///
/// # References
/// Partial sums of two samples are merged as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
/// computing sample variances" (1979), section 1; gradients are not centred, so that nothing but the sums and the number of
/// rows is needed.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientSums {
    summed: Summed,
    /// Parameters of each module.
    modules: Vec<usize>,
    rows: u64,
    values: Vec<f64>,
}

impl GradientSums {
    /// Sums of outer products over no rows yet, of gradients like these.
    ///
    /// # Errors
    /// There are more than [`PRIMAL_PARAMETERS_MAX`] parameters.
    ///
    /// # Complexity
    /// Memory for parameters x (parameters + 1) / 2 values.
    pub fn outer_products(like: &MemberGradients) -> Result<Self, CurvatureError> {
        let (parameters, most) = (like.parameters(), PRIMAL_PARAMETERS_MAX);
        if parameters > most {
            return Err(CurvatureError::TooManyParameters { parameters, most });
        }
        Ok(Self::zero(Summed::OuterProducts, like, triangle(parameters as usize)))
    }

    /// Sums of squares over no rows yet, of gradients like these.
    ///
    /// # Complexity
    /// Memory for a value a parameter.
    pub fn squares(like: &MemberGradients) -> Self {
        Self::zero(Summed::Squares, like, like.parameters() as usize)
    }

    fn zero(summed: Summed, like: &MemberGradients, values: usize) -> Self {
        let modules = like.modules().iter().map(|module| module.shape()).map(|(out, input)| out * input);
        Self { summed, modules: modules.collect(), rows: 0, values: vec![0.0; values] }
    }

    /// The same sums over other rows, which were added up before; `None` unless there are as many values, all of them are
    /// finite, and no sum of squares is negative.
    pub fn of_values(self, rows: u64, values: Vec<f64>) -> Option<Self> {
        let is_whole = values.len() == self.values.len() && values.iter().all(|value| value.is_finite());
        let found = Self { rows, values, ..self };
        (is_whole && found.diagonal().all(|square| square >= 0.0)).then_some(found)
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Of outer products the lower triangle, row by row; of squares one value for each parameter.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Parameters of all modules.
    pub(super) fn parameters(&self) -> usize {
        self.modules.iter().sum()
    }

    /// The sum of the outer products, symmetric.
    pub(super) fn matrix(&self) -> Result<Mat<f64>, CurvatureError> {
        if self.summed != Summed::OuterProducts {
            return Err(CurvatureError::OtherSums { needed: "outer products" });
        }
        let size = self.parameters();
        let at = |row: usize, column: usize| self.values[triangle(row.max(column)) + row.min(column)];
        Ok(Mat::from_fn(size, size, at))
    }

    /// The sums of squares of each module.
    pub(super) fn modules(&self) -> Result<Vec<&[f64]>, CurvatureError> {
        if self.summed != Summed::Squares {
            return Err(CurvatureError::OtherSums { needed: "squares" });
        }
        let mut rest = self.values.as_slice();
        let modules = self.modules.iter().map(|parameters| {
            let (own, after) = rest.split_at(*parameters);
            rest = after;
            own
        });
        Ok(modules.collect())
    }

    /// The sum of squares of each parameter.
    fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        let is_triangle = self.summed == Summed::OuterProducts;
        (0..self.parameters()).filter_map(move |parameter| {
            let place = if is_triangle { triangle(parameter) + parameter } else { parameter };
            self.values.get(place).copied()
        })
    }

    /// What a damping is a share of: the trace of outer products, or the sum over each module of squares.
    pub fn traces(&self) -> Vec<f64> {
        match self.modules() {
            Ok(modules) => modules.into_iter().map(|squares| squares.iter().sum()).collect(),
            Err(_) => vec![self.diagonal().sum()],
        }
    }

    /// Whether at least half is left of each of the traces that there were before rows were taken away. What is left of less
    /// has lost digits: it should be added up anew.
    pub fn keeps_half_of(&self, before: &[f64]) -> bool {
        self.traces().iter().zip(before).all(|(left, before)| 2.0 * left >= *before)
    }

    /// Adds rows with their weights; D is 1 for rows without any.
    ///
    /// # Complexity
    /// O(rows x parameters^2) for outer products, in parallel; O(rows x parameters) for squares.
    pub fn add(&mut self, gradients: &MemberGradients, weights: &[RowWeights]) {
        self.rows += gradients.rows() as u64;
        self.accumulate(gradients, weights, 1.0);
    }

    /// Takes rows away that were added before, with the same weights.
    ///
    /// # Complexity
    /// As [`add`](Self::add).
    pub fn subtract(&mut self, gradients: &MemberGradients, weights: &[RowWeights]) {
        self.rows = self.rows.saturating_sub(gradients.rows() as u64);
        self.accumulate(gradients, weights, -1.0);
        if self.summed == Summed::Squares {
            // What rounding leaves of a parameter that no other row reaches may be below 0.
            self.values.iter_mut().for_each(|value| *value = value.max(0.0));
        }
    }

    /// Adds the sums over other rows.
    ///
    /// # Complexity
    /// O(values).
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.values.iter_mut().zip(&other.values).for_each(|(own, other)| *own += other);
    }

    fn accumulate(&mut self, gradients: &MemberGradients, weights: &[RowWeights], sign: f64) {
        let factors: Vec<f64> =
            (0..gradients.rows()).map(|row| weights.get(row).map_or(1.0, |weights| weights.factor)).collect();
        match self.summed {
            Summed::OuterProducts => {
                add_outer_products(&mut self.values, &self.modules, gradients, &factors, sign);
            }
            Summed::Squares => {
                let scales: Vec<f64> = factors.iter().map(|factor| sign * factor * factor).collect();
                let mut rest = self.values.as_mut_slice();
                for (module, parameters) in gradients.modules().iter().zip(&self.modules) {
                    let (own, after) = rest.split_at_mut(*parameters);
                    add_squares(own, module, &scales);
                    rest = after;
                }
            }
        }
    }
}

/// Values of the lower triangle of a matrix of so many rows.
fn triangle(rows: usize) -> usize {
    rows * (rows + 1) / 2
}

/// Adds the outer products of all rows, each scaled by its factor, to a lower triangle.
fn add_outer_products(
    values: &mut [f64],
    modules: &[usize],
    gradients: &MemberGradients,
    factors: &[f64],
    sign: f64,
) {
    let size = modules.iter().sum();
    for first in (0..factors.len()).step_by(BLOCK_ROWS) {
        let count = BLOCK_ROWS.min(factors.len() - first);
        let mut block: Mat<f64> = Mat::zeros(size, count);
        for row in 0..count {
            let direction = Direction::of_row(gradients, first + row);
            let whole = direction.modules().iter().flat_map(|module| &module.values);
            for (at, value) in whole.take(size).enumerate() {
                block[(at, row)] = factors[first + row] * value;
            }
        }
        let mut panels = Vec::with_capacity(size.div_ceil(PANEL_ROWS));
        let mut rest = &mut *values;
        for first in (0..size).step_by(PANEL_ROWS) {
            let last = size.min(first + PANEL_ROWS);
            let (own, after) = rest.split_at_mut(triangle(last) - triangle(first));
            panels.push((first, last, own));
            rest = after;
        }
        panels.into_par_iter().for_each(|(first, last, own)| {
            let mut product: Mat<f64> = Mat::zeros(last, last - first);
            let (all, some) = (block.as_ref().subrows(0, last), block.as_ref().subrows(first, last - first));
            matmul(&mut product, Accum::Replace, all, some.transpose(), sign, Par::Seq);
            let mut rest = own;
            for row in first..last {
                let (own, after) = rest.split_at_mut(row + 1);
                for (column, place) in own.iter_mut().enumerate() {
                    *place += product[(column, row - first)];
                }
                rest = after;
            }
        });
    }
}

/// Adds the squares of the entries of all rows' gradients, each times the row's scale. Of factored gradients of rank 1 the
/// factors are squared; others are written out.
fn add_squares(sums: &mut [f64], module: &ModuleGradients, scales: &[f64]) {
    if let ModuleGradients::Factored { rank: 1, out, input, u, v } = module {
        let square = |value: &f32| f64::from(*value).powi(2);
        let blocks = u.chunks(BLOCK_ROWS * out).zip(v.chunks(BLOCK_ROWS * input));
        for ((u, v), scales) in blocks.zip(scales.chunks(BLOCK_ROWS)) {
            let scaled =
                u.chunks(*out).zip(scales).flat_map(|(u, scale)| u.iter().map(move |u| scale * square(u)));
            let (u, v): (Vec<f64>, Vec<f64>) = (scaled.collect(), v.iter().map(square).collect());
            let u = MatRef::from_row_major_slice(&u, scales.len(), *out);
            let v = MatRef::from_row_major_slice(&v, scales.len(), *input);
            let into = MatMut::from_row_major_slice_mut(sums, *out, *input);
            matmul(into, Accum::Add, u.transpose(), v, 1.0, Par::Seq);
        }
        return;
    }
    let alone = MemberGradients::new(scales.len(), vec![module.clone()]);
    for (row, scale) in scales.iter().enumerate() {
        let direction = Direction::of_row(&alone, row);
        let own = direction.modules().iter().flat_map(|own| &own.values);
        sums.iter_mut().zip(own).for_each(|(sum, value)| *sum += scale * value * value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    /// Rows of a factored, a dense and a sparse module, and what each weighs.
    fn rows(count: usize, out: usize) -> (MemberGradients, Vec<RowWeights>) {
        let mut random = RandomStream::new(7);
        let mut draw =
            |values: usize| (0..count * values).map(|_| random.unit() as f32 - 0.4).collect::<Vec<f32>>();
        let places = (0..count as u32 * 2).map(|at| at % 3).collect();
        let modules = vec![
            ModuleGradients::Factored { rank: 1, out, input: 3, u: draw(out), v: draw(3) },
            ModuleGradients::Dense { out: 2, input: 2, matrix: draw(4) },
            ModuleGradients::Sparse { rank: 1, out: 1, terms: 2, input: 3, u: draw(1), v: draw(2), places },
        ];
        let weights = (0..count).map(|row| RowWeights { factor: 0.5 + row as f64 / 7.0, score: 1.0 });
        (MemberGradients::new(count, modules), weights.collect())
    }

    fn both(like: &MemberGradients) -> [GradientSums; 2] {
        [GradientSums::outer_products(like).unwrap(), GradientSums::squares(like)]
    }

    /// The largest difference, as a share of the largest value.
    fn furthest(found: &[f64], expected: &[f64]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        apart.fold(0.0_f64, f64::max) / largest
    }

    #[test]
    fn sums_are_those_of_whole_gradients_one_by_one() {
        // More parameters than a panel has rows, and more rows than a block.
        let (gradients, weights) = rows(300, 50);
        let [mut outer, mut squares] = both(&gradients);
        let size = gradients.parameters() as usize;
        let (mut triangle, mut diagonal) = (vec![0.0; size * (size + 1) / 2], vec![0.0; size]);
        for (row, weights) in weights.iter().enumerate() {
            let direction = Direction::of_row(&gradients, row);
            let whole: Vec<f64> = direction.modules().iter().flat_map(|own| own.values.clone()).collect();
            let places = (0..size).flat_map(|row| (0..=row).map(move |column| (row, column)));
            for ((row, column), place) in places.zip(&mut triangle) {
                *place += weights.factor.powi(2) * whole[row] * whole[column];
            }
            for (value, place) in whole.iter().zip(&mut diagonal) {
                *place += weights.factor.powi(2) * value * value;
            }
        }
        outer.add(&gradients, &weights);
        squares.add(&gradients, &weights);
        assert!(furthest(outer.values(), &triangle) < 1e-13);
        assert!(furthest(squares.values(), &diagonal) < 1e-13);
        let matrix = outer.matrix().unwrap();
        assert_eq!((matrix[(5, 2)], matrix[(2, 5)]), (outer.values()[17], outer.values()[17]));
        let traces = [&diagonal[..150], &diagonal[150..154], &diagonal[154..]];
        let traces = traces.map(|module| module.iter().sum::<f64>());
        assert!(furthest(&squares.traces(), &traces) < 1e-13);
        assert!(furthest(&outer.traces(), &[traces.iter().sum()]) < 1e-13);
        assert!(outer.modules().is_err() && squares.matrix().is_err());
    }

    #[test]
    fn merged_sums_are_those_of_all_rows_and_rows_can_be_taken_away() {
        let (gradients, weights) = rows(60, 4);
        for empty in both(&gradients) {
            let of = |range: std::ops::Range<usize>| {
                let mut sums = empty.clone();
                sums.add(&gradients.subset(&range.clone().collect::<Vec<usize>>()), &weights[range]);
                sums
            };
            let (all, mut merged) = (of(0..60), of(0..25));
            merged.merge(&of(25..60));
            assert_eq!(merged.rows(), 60);
            assert!(furthest(merged.values(), all.values()) < 1e-14);
            merged.subtract(&gradients.subset(&(25..60).collect::<Vec<usize>>()), &weights[25..]);
            assert_eq!(merged.rows(), 25);
            assert!(furthest(merged.values(), of(0..25).values()) < 1e-13);
            assert!(!merged.keeps_half_of(&all.traces()) && all.keeps_half_of(&of(0..25).traces()));
        }
    }

    #[test]
    fn values_that_no_rows_sum_up_to_are_refused() {
        let (gradients, weights) = rows(9, 2);
        for empty in both(&gradients) {
            let mut sums = empty.clone();
            sums.add(&gradients, &weights);
            let again = empty.clone().of_values(9, sums.values().to_vec());
            assert_eq!(again, Some(sums.clone()));
            for (place, value) in [(1, f64::NAN), (1, f64::INFINITY), (0, -1.0)] {
                let mut values = sums.values().to_vec();
                values[place] = value;
                assert_eq!(empty.clone().of_values(9, values), None, "{value}");
            }
            assert_eq!(empty.clone().of_values(9, sums.values()[1..].to_vec()), None);
        }
        let module = ModuleGradients::Dense { out: 1, input: 4097, matrix: vec![0.0; 4097] };
        let wide = MemberGradients::new(1, vec![module]);
        assert!(matches!(
            GradientSums::outer_products(&wide),
            Err(CurvatureError::TooManyParameters { parameters: 4097, most: 4096 })
        ));
    }
}
