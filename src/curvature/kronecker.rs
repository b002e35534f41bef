//! A Kronecker product for each module: K-FAC, and EK-FAC with eigenvalues of its own.

use faer::{Mat, MatRef};

use super::damping::damping_of;
use super::direction::{Direction, ModuleDirection};
use super::eigenbasis::Eigenbasis;
use super::error::CurvatureError;
use super::gradients::{MemberGradients, ModuleGradients};
use super::kronecker_factors::KroneckerFactors;

/// Where the eigenvalues of a module's curvature come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KroneckerEigenvalues {
    /// Products of those of both sides: K-FAC.
    Products,
    /// Mean squares of the rows' gradients in the eigenbasis: EK-FAC.
    Measured,
}

/// How much of a curvature's inverse is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InversePower {
    /// All of it.
    Whole,
    /// Its square root: applied on both sides of an inner product it gives that of the whole.
    Half,
}

/// One module's part of a fit.
#[derive(Clone, Debug, PartialEq)]
struct ModuleFit {
    basis: Eigenbasis,
    /// Damped eigenvalues, [out, input].
    divisors: Mat<f64>,
}

/// A curvature that knows nothing of what two modules have to do with each other, and takes each to be Q diag(Lambda) Q^T with
/// Q = Q_B (x) Q_A the eigenvectors of the Kronecker product B (x) A: (H + lambda I)^-1 V = Q_B [(Q_B^T V Q_A) / (Lambda + lambda)] Q_A^T.
///
/// ```
/// use ascribe::curvature::{Direction, KroneckerEigenvalues, KroneckerFit, MemberGradients, ModuleGradients};
/// let module = ModuleGradients::Factored { rank: 1, out: 1, input: 2, u: vec![2.0, 1.0], v: vec![1.0, 0.0, 0.0, 1.0] };
/// let rows = MemberGradients::new(2, vec![module]);
/// // Mean squares 2 and .5, to both of which .1 times their mean is added.
/// let fit = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Measured, 0.1).unwrap();
/// let score = fit.direction(&rows, 0).scores(&rows)[0];
/// assert!((score - 4.0 / 2.125).abs() < 1e-12 && fit.dampings() == [0.125]);
/// ```
///
/// # References
/// Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML 2015, section 3; George et al.,
/// "Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis", NeurIPS 2018, section 3; Grosse et al., arXiv
/// 2308.03296, section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct KroneckerFit {
    modules: Vec<ModuleFit>,
    dampings: Vec<f64>,
}

impl KroneckerFit {
    /// Fits to the gradients of all rows. `factors` are the modules' own, where activations and output gradients were seen apart; a module
    /// without them takes [what the gradients tell](KroneckerFactors::of_gradients). To each module's eigenvalues `ratio` times their
    /// mean is added.
    ///
    /// # Errors
    /// See [`CurvatureError`]; factors of other shapes are one.
    ///
    /// # Complexity
    /// For each module O(rows x (out^2 + input^2 + out x input) + out^3 + input^3).
    pub fn fit(
        gradients: &MemberGradients,
        factors: Option<&[Option<KroneckerFactors>]>,
        eigenvalues: KroneckerEigenvalues,
        ratio: f64,
    ) -> Result<Self, CurvatureError> {
        let (mut modules, mut dampings) = (Vec::new(), Vec::new());
        for (number, module) in gradients.modules().iter().enumerate() {
            let (out, input) = module.shape();
            KroneckerFactors::check_sides(out, input)?;
            let made;
            let own = match factors {
                Some(factors) => {
                    factors.get(number).ok_or(CurvatureError::OtherFactors { module: number })?
                }
                None => &None,
            };
            let factors = match own {
                Some(own) => own,
                None => {
                    made = KroneckerFactors::of_gradients(module, gradients.rows())?;
                    &made
                }
            };
            if factors.output.len() != out * out || factors.input.len() != input * input {
                return Err(CurvatureError::OtherFactors { module: number });
            }
            let output = MatRef::from_row_major_slice(&factors.output, out, out).to_owned();
            let inputs = MatRef::from_row_major_slice(&factors.input, input, input).to_owned();
            let (basis, products) = Eigenbasis::of_matrices(&output, &inputs)?;
            let mut values = match eigenvalues {
                KroneckerEigenvalues::Products => products,
                KroneckerEigenvalues::Measured => {
                    let mut sum = basis.sum_of_squares(module, gradients.rows());
                    let count = gradients.rows().max(1) as f64;
                    (0..input)
                        .for_each(|column| sum.col_mut(column).iter_mut().for_each(|value| *value /= count));
                    sum
                }
            };
            let mean = mean_of(&values);
            // A module that no gradient reaches has no scale of its own; nothing is ever multiplied by it.
            let damping = match damping_of(mean, ratio) {
                Err(CurvatureError::Zero) => 1.0,
                other => other?,
            };
            (0..input)
                .for_each(|column| values.col_mut(column).iter_mut().for_each(|value| *value += damping));
            dampings.push(damping);
            modules.push(ModuleFit { basis, divisors: values });
        }
        Ok(Self { modules, dampings })
    }

    /// The fit with these [bases](Self::bases) and [divisors](Self::divisors), of gradients like `like`; `None` if it has none such: values
    /// that do not fit its modules or are not finite, or divisors that are not above 0.
    pub fn of_values(
        like: &MemberGradients,
        dampings: &[f64],
        bases: &[f64],
        divisors: &[f64],
    ) -> Option<Self> {
        let (mut bases, mut divisors) = (bases, divisors);
        let mut modules = Vec::with_capacity(like.modules().len());
        for module in like.modules() {
            let (out, input) = module.shape();
            let (own, rest) = bases.split_at_checked(out * out + input * input)?;
            bases = rest;
            let basis = Eigenbasis::of_values(out, input, own)?;
            let (own, rest) = divisors.split_at_checked(out * input)?;
            divisors = rest;
            if !own.iter().all(|value| *value > 0.0 && value.is_finite()) {
                return None;
            }
            let divisors = MatRef::from_row_major_slice(own, out, input).to_owned();
            modules.push(ModuleFit { basis, divisors });
        }
        let is_whole = bases.is_empty() && divisors.is_empty() && dampings.len() == modules.len();
        is_whole.then(|| Self { modules, dampings: dampings.to_vec() })
    }

    /// What was added to each module's eigenvalues.
    pub fn dampings(&self) -> &[f64] {
        &self.dampings
    }

    /// For each module Q_B and then Q_A, row by row; eigenvectors are columns.
    pub fn bases(&self) -> Vec<f64> {
        self.modules.iter().flat_map(|module| module.basis.values()).collect()
    }

    /// For each module its damped eigenvalues, [out, input], row by row.
    pub fn divisors(&self) -> Vec<f64> {
        let of_module = |module: &ModuleFit| {
            let rows = 0..module.divisors.nrows();
            rows.flat_map(|row| module.divisors.row(row).iter().copied().collect::<Vec<f64>>())
                .collect::<Vec<f64>>()
        };
        self.modules.iter().flat_map(of_module).collect()
    }

    /// The direction that a row's gradient stands for: (H + lambda I)^-1 g.
    ///
    /// # Complexity
    /// O(out x input x (out + input)) for each module.
    pub fn direction(&self, gradients: &MemberGradients, row: usize) -> Direction {
        self.applied(gradients, row, InversePower::Whole)
    }

    /// A power of (H + lambda I)^-1 times a row's gradient.
    ///
    /// # Complexity
    /// As [`direction`](Self::direction).
    pub fn applied(&self, gradients: &MemberGradients, row: usize, power: InversePower) -> Direction {
        let coordinates = self.coordinates(gradients, row, power);
        let modules = self.modules.iter().zip(coordinates).map(|(module, own)| {
            let (out, input) = module.basis.shape();
            ModuleDirection { out, input, values: module.basis.turn_back(&own) }
        });
        Direction::of_modules(modules.collect())
    }

    /// For each module the coordinates of a power of (H + lambda I)^-1 times a row's gradient in the eigenbasis, [out, input].
    fn coordinates(&self, gradients: &MemberGradients, row: usize, power: InversePower) -> Vec<Mat<f64>> {
        let of_module = |(module, gradient): (&ModuleFit, &ModuleGradients)| {
            let ModuleFit { basis, divisors } = module;
            let mut own = basis.coordinates(gradient, row);
            for column in 0..own.ncols() {
                for (value, divisor) in own.col_mut(column).iter_mut().zip(divisors.col(column).iter()) {
                    *value /= match power {
                        InversePower::Whole => *divisor,
                        InversePower::Half => divisor.sqrt(),
                    };
                }
            }
            own
        };
        self.modules.iter().zip(gradients.modules()).map(of_module).collect()
    }

    /// H^-1/2 of each gradient in the eigenbasis, row by row and module by module; inner products of two are scores.
    ///
    /// # Complexity
    /// As [`squared_lengths`](Self::squared_lengths).
    pub fn half_whitened(&self, gradients: &MemberGradients) -> Vec<f32> {
        let mut all = Vec::with_capacity(gradients.rows() * gradients.parameters() as usize);
        for row in 0..gradients.rows() {
            for own in self.coordinates(gradients, row, InversePower::Half) {
                let columns = (0..own.ncols()).flat_map(|column| own.col(column).iter());
                all.extend(columns.map(|value| *value as f32));
            }
        }
        all
    }

    /// What each gradient comes to with the direction that it stands for.
    ///
    /// # Complexity
    /// For each row and module O(out^2 + input^2 + out x input).
    pub fn squared_lengths(&self, gradients: &MemberGradients) -> Vec<f64> {
        let mut lengths = vec![0.0; gradients.rows()];
        for (module, gradient) in self.modules.iter().zip(gradients.modules()) {
            let (out, input) = module.basis.shape();
            let weights = Mat::from_fn(out, input, |row, column| 1.0 / module.divisors[(row, column)]);
            let own = module.basis.weighted_squares(gradient, gradients.rows(), &weights);
            lengths.iter_mut().zip(own).for_each(|(length, own)| *length += own);
        }
        lengths
    }
}

fn mean_of(matrix: &Mat<f64>) -> f64 {
    let sum: f64 = (0..matrix.ncols()).map(|column| matrix.col(column).iter().sum::<f64>()).sum();
    sum / (matrix.nrows() * matrix.ncols()).max(1) as f64
}
