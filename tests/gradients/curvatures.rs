//! Every curvature against its formula, for rows inside and outside of the fit.

use ascribe::base::Cancel;
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::FitOptions;

use crate::formula::{Fit, SHARE_OF_TRACE, Written, product};
use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, close};

/// Rows that are there when the fit is made.
const FITTED: usize = 27;

/// A store of which the first rows were fitted, all of them in two segments, and the rest came afterwards.
fn in_two_parts(kinds: &[CurvatureKind], form: Option<CurvatureForm>) -> (Scene, Gradients) {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..10));
    scene.import(&rows.of_rows(10..FITTED));
    for kind in kinds {
        let options = FitOptions { kind: Some(*kind), form, ..FitOptions::default() };
        assert_eq!(scene.try_fit(&options).unwrap().rows, FITTED as u64);
    }
    scene.import(&rows.of_rows(FITTED..40));
    assert_eq!(scene.keys(), rows.keys);
    (scene, Gradients::of_file(QUERIES))
}

#[test]
fn dual_forms_equal_their_formulas_for_all_rows() {
    let kinds = [CurvatureKind::Fisher, CurvatureKind::Trak, CurvatureKind::Margin];
    let (scene, queries) = in_two_parts(&kinds, Some(CurvatureForm::Dual));
    let (written, asked) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let (fitted, all): (Vec<usize>, Vec<usize>) = ((0..FITTED).collect(), (0..40).collect());
    for kind in kinds {
        let fit = Fit { written: &written, kind, fitted: &fitted, there: &fitted };
        let gradients = &asked.members[0].gradients;
        let expected: Vec<Vec<f64>> = gradients.iter().map(|query| fit.scores(0, query, &all)).collect();
        close(&scene.scores(&queries, &by(kind)), &expected, 1e-6, kind.name());
        // Neither part may hide behind the other.
        let part = |scores: &[Vec<f64>], first: usize, last: usize| -> Vec<Vec<f64>> {
            scores.iter().map(|row| row[first..last].to_vec()).collect()
        };
        let found = scene.scores(&queries, &by(kind));
        for (first, last) in [(0, FITTED), (FITTED, 40)] {
            close(&part(&found, first, last), &part(&expected, first, last), 1e-6, kind.name());
        }
    }
    scene.verify();
}

#[test]
fn rows_without_a_logged_course_are_weighed_by_their_checkpoint() {
    let mut rows = Gradients::of_file(TRAIN);
    let mut written = Written::of_file(TRAIN);
    for (row, outcomes) in rows.outcomes.iter_mut().enumerate() {
        outcomes[1..].fill(f32::NAN);
        written.trained[row] = 1.0 - written.members[0].own[row];
    }
    let mut scene = Scene::of_rows(&rows);
    scene.fit(CurvatureKind::Margin);
    let all: Vec<usize> = (0..40).collect();
    let fit = Fit { written: &written, kind: CurvatureKind::Margin, fitted: &all, there: &all };
    let asked = Written::of_file(QUERIES);
    let expected: Vec<Vec<f64>> =
        asked.members[0].gradients.iter().map(|query| fit.scores(0, query, &all)).collect();
    let found = scene.scores(&Gradients::of_file(QUERIES), &by(CurvatureKind::Margin));
    close(&found, &expected, 1e-6, "margin");
}

#[test]
fn the_inverse_over_rows_and_the_one_over_parameters_give_the_same_scores() {
    for kind in [CurvatureKind::Fisher, CurvatureKind::Trak, CurvatureKind::Margin] {
        let (dual, queries) = in_two_parts(&[kind], Some(CurvatureForm::Dual));
        let (primal, _) = in_two_parts(&[kind], Some(CurvatureForm::Primal));
        let expected = dual.scores(&queries, &by(kind));
        close(&primal.scores(&queries, &by(kind)), &expected, 1e-8, kind.name());
        let own = |scene: &Scene| {
            let snapshot = scene.store.snapshot();
            vec![snapshot.self_influence(None, Some(kind), &Cancel::new()).unwrap()]
        };
        // Of margin, a row of the fit has a leverage that only the form over rows knows it has counted.
        if kind == CurvatureKind::Fisher {
            close(&own(&primal), &own(&dual), 1e-8, "self-influence");
        }
    }
}

#[test]
fn auto_takes_the_better_curvature_and_the_smaller_matrix() {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows);
    let report = scene.try_fit(&FitOptions::default()).unwrap();
    assert_eq!((report.kind, report.form), (CurvatureKind::Margin, CurvatureForm::Dual));
    let all: Vec<usize> = (0..40).collect();
    let written = Written::of_file(TRAIN);
    let fit = Fit { written: &written, kind: CurvatureKind::Margin, fitted: &all, there: &all };
    assert!((report.damping[0][0] / fit.damping(0) - 1.0).abs() < 1e-9, "{report:?}");

    let mut scene = Scene::of_rows(&rows.unmeasured());
    let report = scene.try_fit(&FitOptions::default()).unwrap();
    assert_eq!((report.kind, report.form), (CurvatureKind::Fisher, CurvatureForm::Dual));
    let report = scene.try_fit(&FitOptions { damping: Some(0.25), ..FitOptions::default() }).unwrap();
    let fit = Fit { kind: CurvatureKind::Fisher, ..fit };
    let expected = fit.damping(0) * 0.25 / SHARE_OF_TRACE;
    assert!((report.damping[0][0] / expected - 1.0).abs() < 1e-9, "{report:?}");
}

#[test]
fn more_rows_than_parameters_are_fitted_over_parameters() {
    let rows = Gradients::of_file(TRAIN);
    let mut many = rows.of_rows((0..160).map(|row| row % 40));
    many.keys = (0..160).map(|row| format!("r{row}")).collect();
    let mut scene = Scene::of_rows(&many);
    let report = scene.try_fit(&FitOptions::default()).unwrap();
    assert_eq!((report.kind, report.form), (CurvatureKind::Margin, CurvatureForm::Primal));
    // Four of each row: sums four times as large, and so is what is added; n is too.
    let mut once = Scene::of_rows(&rows);
    once.fit(CurvatureKind::Margin);
    let queries = Gradients::of_file(QUERIES);
    let expected: Vec<Vec<f64>> = once
        .scores(&queries, &by(CurvatureKind::Margin))
        .into_iter()
        .map(|scores| scores.repeat(4))
        .collect();
    close(&scene.scores(&queries, &by(CurvatureKind::Margin)), &expected, 1e-8, "four times");
}

#[test]
fn the_diagonal_is_the_mean_square_of_each_parameter() {
    let (scene, queries) = in_two_parts(&[CurvatureKind::Diagonal], None);
    let (written, asked) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let gradients = &written.members[0].gradients;
    let divisors: Vec<Vec<f64>> = (0..written.modules.len())
        .map(|module| {
            let squares: Vec<f64> = (0..gradients[0][module].len())
                .map(|at| {
                    let square = |row: &Vec<Vec<f64>>| row[module][at].powi(2);
                    gradients[..FITTED].iter().map(square).sum::<f64>() / FITTED as f64
                })
                .collect();
            let mean = squares.iter().sum::<f64>() / squares.len() as f64;
            squares.iter().map(|square| square + 0.1 * mean).collect()
        })
        .collect();
    let divided = |query: &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
        let of_module = |(values, divisors): (&Vec<f64>, &Vec<f64>)| {
            values.iter().zip(divisors).map(|(value, divisor)| value / divisor).collect()
        };
        query.iter().zip(&divisors).map(of_module).collect()
    };
    let expected: Vec<Vec<f64>> = asked.members[0]
        .gradients
        .iter()
        .map(|query| gradients.iter().map(|row| product(&divided(query), row)).collect())
        .collect();
    close(&scene.scores(&queries, &by(CurvatureKind::Diagonal)), &expected, 1e-9, "diagonal");
}

#[test]
fn self_influence_is_the_quadratic_form_of_a_row_with_itself() {
    let kinds = [CurvatureKind::Identity, CurvatureKind::Fisher, CurvatureKind::Margin];
    let (scene, _) = in_two_parts(&kinds, None);
    let written = Written::of_file(TRAIN);
    let fitted: Vec<usize> = (0..FITTED).collect();
    let own = |kind| scene.store.snapshot().self_influence(None, Some(kind), &Cancel::new()).unwrap();
    let gradients = &written.members[0].gradients;
    let squares: Vec<f64> = gradients.iter().map(|row| product(row, row)).collect();
    close(&[own(CurvatureKind::Identity)], &[squares], 1e-9, "identity");

    let fit = Fit { written: &written, kind: CurvatureKind::Fisher, fitted: &fitted, there: &fitted };
    let fisher: Vec<f64> = (0..40).map(|row| fit.scores(0, &gradients[row], &[row])[0]).collect();
    close(&[own(CurvatureKind::Fisher)], &[fisher], 1e-6, "fisher");

    let fit = Fit { kind: CurvatureKind::Margin, ..fit };
    let margin: Vec<f64> =
        (0..40).map(|row| fit.leverage(0, row) * written.weights(0, row).1.powi(2)).collect();
    close(&[own(CurvatureKind::Margin)], &[margin], 1e-6, "margin");
}
