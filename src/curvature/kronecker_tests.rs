//! Identities of K-FAC and EK-FAC, in f64.

use faer::Mat;

use super::made_gradients::of_every_encoding;
use super::symmetric::inverse;
use super::*;
use crate::base::RandomStream;

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * largest, "{what}: {found} {expected}");
    }
}

/// The Kronecker product of two matrices, row by row, damped and inverted.
fn dense_inverse(factors: &KroneckerFactors, (out, input): (usize, usize), damping: f64) -> Mat<f64> {
    let size = out * input;
    let whole = Mat::from_fn(size, size, |row, column| {
        let outer = factors.output[row / input * out + column / input];
        let inner = factors.input[row % input * input + column % input];
        outer * inner + if row == column { damping } else { 0.0 }
    });
    inverse(&whole).unwrap()
}

fn times(matrix: &Mat<f64>, vector: &[f64]) -> Vec<f64> {
    (0..matrix.nrows()).map(|row| matrix.row(row).iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
}

#[test]
fn the_inverse_of_k_fac_is_that_of_the_whole_kronecker_product() {
    let rows = of_every_encoding(60);
    let made: Vec<KroneckerFactors> =
        rows.modules().iter().map(|module| KroneckerFactors::of_gradients(module, 60).unwrap()).collect();
    // Factors of their own, which are not those of the gradients.
    let own: Vec<KroneckerFactors> = made
        .iter()
        .zip(rows.modules())
        .map(|(factors, module)| {
            let (out, input) = module.shape();
            let damp = |values: &[f64], size: usize| {
                (0..size * size).map(|at| values[at] + if at % (size + 1) == 0 { 0.3 } else { 0.0 }).collect()
            };
            KroneckerFactors { output: damp(&factors.output, out), input: damp(&factors.input, input) }
        })
        .collect();
    let given: Vec<Option<KroneckerFactors>> = own.iter().cloned().map(Some).collect();
    // A module without factors takes those of its gradients.
    let (mut mixed, mut some) = (own.clone(), given.clone());
    (mixed[1], some[1]) = (made[1].clone(), None);
    let cases = [(&made, None), (&own, Some(given.as_slice())), (&mixed, Some(some.as_slice()))];
    for (factors, given) in cases {
        let fit = KroneckerFit::fit(&rows, given, KroneckerEigenvalues::Products, 0.1).unwrap();
        let direction = fit.direction(&rows, 7);
        let whole = Direction::of_row(&rows, 7);
        for (number, module) in rows.modules().iter().enumerate() {
            let (out, input) = module.shape();
            let trace =
                |values: &[f64], size: usize| (0..size).map(|at| values[at * (size + 1)]).sum::<f64>();
            let traces = trace(&factors[number].output, out) * trace(&factors[number].input, input);
            let damping = 0.1 * traces / (out * input) as f64;
            assert!((fit.dampings()[number] / damping - 1.0).abs() < 1e-12);
            let inverse = dense_inverse(&factors[number], (out, input), damping);
            let expected = times(&inverse, &whole.modules()[number].values);
            close(&direction.modules()[number].values, &expected, 1e-12, "direction");
        }
    }
    let one = &given[..1];
    let refused = KroneckerFit::fit(&rows, Some(one), KroneckerEigenvalues::Products, 0.1);
    assert_eq!(refused, Err(CurvatureError::OtherFactors { module: 1 }));
}

#[test]
fn factors_of_the_gradients_have_their_mean_squared_length() {
    let rows = of_every_encoding(60);
    let fit = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Products, 0.1).unwrap();
    let measured = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Measured, 0.1).unwrap();
    close(fit.dampings(), measured.dampings(), 1e-12, "mean eigenvalues");
}

#[test]
fn half_of_the_inverse_twice_is_the_inverse() {
    let rows = of_every_encoding(40);
    for eigenvalues in [KroneckerEigenvalues::Products, KroneckerEigenvalues::Measured] {
        let fit = KroneckerFit::fit(&rows, None, eigenvalues, 0.1).unwrap();
        let whole = fit.direction(&rows, 3);
        let half = fit.applied(&rows, 3, InversePower::Half);
        let again: Vec<ModuleGradients> = half
            .modules()
            .iter()
            .map(|module| ModuleGradients::Dense {
                out: module.out,
                input: module.input,
                matrix: module.values.iter().map(|value| *value as f32).collect(),
            })
            .collect();
        let twice = fit.applied(&MemberGradients::new(1, again), 0, InversePower::Half);
        for (twice, whole) in twice.modules().iter().zip(whole.modules()) {
            // Between the halves values were f32.
            close(&twice.values, &whole.values, 3e-7, "twice");
        }
        // Inner products of halves are those with the whole, in f64.
        let other = fit.applied(&rows, 5, InversePower::Half);
        let product: f64 = half
            .modules()
            .iter()
            .zip(other.modules())
            .flat_map(|(a, b)| a.values.iter().zip(&b.values))
            .map(|(a, b)| a * b)
            .sum();
        let expected: f64 = whole.parts(&rows, 5).iter().sum();
        assert!((product / expected - 1.0).abs() < 1e-11, "{product} {expected}");
    }
}

#[test]
fn lengths_are_scores_of_rows_with_themselves() {
    let rows = of_every_encoding(300);
    for eigenvalues in [KroneckerEigenvalues::Products, KroneckerEigenvalues::Measured] {
        let fit = KroneckerFit::fit(&rows, None, eigenvalues, 0.1).unwrap();
        let lengths = fit.squared_lengths(&rows);
        let expected: Vec<f64> =
            (0..300).map(|row| fit.direction(&rows, row).parts(&rows, row).iter().sum()).collect();
        close(&lengths, &expected, 1e-12, "lengths");
    }
}

/// Rows that lie each along one of the products of two orthogonal bases.
fn along_a_basis(out: usize, input: usize) -> MemberGradients {
    let basis = |size: usize, seed: u64| {
        let mut random = RandomStream::new(seed);
        let matrix = Mat::from_fn(size, size, |_, _| random.unit() - 0.5);
        let gram = &matrix * matrix.transpose();
        gram.self_adjoint_eigen(faer::Side::Lower).unwrap().U().to_owned()
    };
    let (outer, inner) = (basis(out, 1), basis(input, 2));
    let mut random = RandomStream::new(3);
    let mut matrix = Vec::new();
    for (row, column) in (0..out).flat_map(|row| (0..input).map(move |column| (row, column))) {
        for _ in 0..2 {
            let length = 0.5 + random.unit();
            let gradient = (0..out * input)
                .map(|at| (length * outer[(at / input, row)] * inner[(at % input, column)]) as f32);
            matrix.extend(gradient);
        }
    }
    MemberGradients::new(2 * out * input, vec![ModuleGradients::Dense { out, input, matrix }])
}

#[test]
fn ek_fac_is_the_exact_fisher_where_its_eigenbasis_is() {
    let rows = along_a_basis(3, 4);
    let fit = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Measured, 0.1).unwrap();
    // The whole sum of outer products, to which n times the same is added.
    let mut sums = GradientSums::outer_products(&rows).unwrap();
    sums.add(&rows, &[]);
    let trace: f64 = sums.traces().iter().sum();
    let ratio = fit.dampings()[0] * rows.rows() as f64 / trace;
    let exact = PrimalFit::of_sums(&sums, ratio).unwrap();
    let query = of_every_encoding(1);
    let query = match &query.modules()[1] {
        ModuleGradients::Factored { rank, u, v, .. } => ModuleGradients::Factored {
            rank: *rank,
            out: 3,
            input: 4,
            u: u[..6].to_vec(),
            v: [v.as_slice(), v.as_slice()].concat()[..8].to_vec(),
        },
        _ => unreachable!(),
    };
    let query = MemberGradients::new(1, vec![query]);
    let (found, expected) = (fit.direction(&query, 0), exact.direction(&query, 0));
    // Rows are f32, and so they lie along the basis to seven digits.
    close(&found.modules()[0].values, &expected.modules()[0].values, 1e-6, "direction");
    // K-FAC is not: rows have other lengths than products of sides tell.
    let products = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Products, 0.1).unwrap();
    let apart = products.direction(&query, 0).modules()[0].values[0] / expected.modules()[0].values[0];
    assert!((apart - 1.0).abs() > 1e-3, "{apart}");
}

#[test]
fn values_of_a_fit_give_it_back_and_others_none() {
    let rows = of_every_encoding(30);
    let fit = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Measured, 0.1).unwrap();
    let (bases, divisors) = (fit.bases(), fit.divisors());
    let of = |dampings: &[f64], bases: &[f64], divisors: &[f64]| {
        KroneckerFit::of_values(&rows, dampings, bases, divisors)
    };
    assert_eq!(of(fit.dampings(), &bases, &divisors), Some(fit.clone()));
    assert_eq!(of(&fit.dampings()[1..], &bases, &divisors), None);
    assert_eq!(of(fit.dampings(), &bases[1..], &divisors), None);
    assert_eq!(of(fit.dampings(), &[bases.as_slice(), &[0.0]].concat(), &divisors), None);
    assert_eq!(of(fit.dampings(), &bases, &divisors[1..]), None);
    let mut broken = bases.clone();
    broken[2] = f64::NAN;
    assert_eq!(of(fit.dampings(), &broken, &divisors), None);
    for value in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        let mut divisors = divisors.clone();
        divisors[2] = value;
        assert_eq!(of(fit.dampings(), &bases, &divisors), None, "divisor {value}");
    }
}

#[test]
fn modules_that_no_gradient_reaches_score_nothing() {
    let module = ModuleGradients::Factored { rank: 1, out: 2, input: 2, u: vec![0.0; 6], v: vec![1.0; 6] };
    let rows = MemberGradients::new(3, vec![module]);
    for eigenvalues in [KroneckerEigenvalues::Products, KroneckerEigenvalues::Measured] {
        let fit = KroneckerFit::fit(&rows, None, eigenvalues, 0.1).unwrap();
        assert_eq!(fit.direction(&rows, 0).scores(&rows), [0.0; 3]);
    }
    let wrong = KroneckerFit::fit(&rows, None, KroneckerEigenvalues::Products, f64::NAN);
    assert!(matches!(wrong, Err(CurvatureError::Damping { .. })));
}
