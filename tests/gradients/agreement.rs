//! Scores of other libraries, in every element type.

use ascribe::base::ElementType;
use ascribe::curvature::{CurvatureForm, CurvatureKind, KroneckerFactors};
use ascribe::engine::{FactorsOrigin, FitOptions};
use ascribe::sketch::SketchSchema;
use ascribe::sources::TensorSet;
use ascribe::stats::spearman_correlation;
use serde_json::Value;

use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, close, furthest, problems};

/// Scores that other libraries gave for the same gradients.
const EXPECTED: &str = include_str!("../fixtures/attribution/expected.json");

/// Kronecker factors that kronfluence fitted to the same rows.
const FACTORS: &[u8] = include_bytes!("../fixtures/attribution/factors.safetensors");

fn scores_of(library: &str, what: &str) -> Vec<Vec<f64>> {
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    serde_json::from_value(expected[library][what].clone()).unwrap()
}

#[test]
fn kronecker_products_with_the_same_factors_give_the_scores_of_kronfluence() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut scene = Scene::of_rows(&rows);
    let tensors = TensorSet::new(FACTORS, "factors").unwrap();
    let factors = KroneckerFactors::of_sketch_file(&tensors, &rows.schema).unwrap();
    for (kind, name) in [(CurvatureKind::Kfac, "kfac"), (CurvatureKind::Ekfac, "ekfac")] {
        // Its own damping is a tenth of each module's mean eigenvalue, which is ours.
        let options =
            FitOptions { kind: Some(kind), factors: Some(factors.clone()), ..FitOptions::default() };
        let report = scene.try_fit(&options).unwrap();
        assert_eq!(report.factors, Some(FactorsOrigin::Own));
        let found = scene.scores(&queries, &by(kind));
        close(&found, &scores_of("kronfluence", name), 1e-5, name);
        // Factors that the gradients tell are others.
        let report = scene.fit(kind);
        assert_eq!(report.factors, Some(FactorsOrigin::Sketches));
        let own = scene.scores(&queries, &by(kind));
        assert!(furthest(&own, &found) > 1e-3, "{name}");
    }
    scene.verify();
}

/// Projected gradients of traker, and those of its targets.
const TRAK: &[u8] = include_bytes!("../fixtures/attribution/trak.safetensors");
const TRAK_QUERIES: &[u8] = include_bytes!("../fixtures/attribution/trak_queries.safetensors");

#[test]
fn trak_with_nearly_no_damping_ranks_rows_as_traker_does() {
    let (rows, queries) = (Gradients::of_file(TRAK), Gradients::of_file(TRAK_QUERIES));
    let mut scene = Scene::of_rows(&rows);
    // A billionth of the mean eigenvalue, which is the trace over the number of values.
    let parameters = 16.0;
    for (form, tolerance) in [(CurvatureForm::Primal, 1e-5), (CurvatureForm::Dual, 1e-2)] {
        let damping = Some(1e-9 / parameters);
        let options = FitOptions {
            kind: Some(CurvatureKind::Trak),
            form: Some(form),
            damping,
            ..FitOptions::default()
        };
        scene.try_fit(&options).unwrap();
        let found = scene.scores(&queries, &by(CurvatureKind::Trak));
        // The scale of traker's scores is its own.
        let unit = |scores: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let length = scores.iter().flatten().map(|score| score * score).sum::<f64>().sqrt();
            scores.iter().map(|row| row.iter().map(|score| score / length).collect()).collect()
        };
        let expected = scores_of("traker", "scores");
        close(&unit(&found), &unit(&expected), tolerance, form.name());
        for (found, expected) in found.iter().zip(&expected) {
            let correlation = spearman_correlation(found, expected).unwrap().unwrap();
            assert!(correlation > 0.999, "{}: {correlation}", form.name());
        }
    }
    // Damped as is best, it is something else.
    scene.fit(CurvatureKind::Trak);
    let damped = scene.scores(&queries, &by(CurvatureKind::Trak));
    let correlation = spearman_correlation(&damped[0], &scores_of("traker", "scores")[0]).unwrap().unwrap();
    assert!(correlation < 0.999, "{correlation}");
}

#[test]
fn factors_that_do_not_belong_to_a_column_are_refused() {
    let rows = Gradients::of_file(TRAIN);
    let of = |bytes: &[u8], schema: &SketchSchema| {
        let tensors = TensorSet::new(bytes, "factors").unwrap();
        KroneckerFactors::of_sketch_file(&tensors, schema).map_err(|error| error.to_string())
    };
    let none = of(TRAIN, &rows.schema).unwrap_err();
    assert!(none.contains("it has no factors") && none.contains("--factors"), "{none}");
    let other = SketchSchema::parse(&rows.schema.to_json().replace("\"in\":13", "\"in\":12")).unwrap();
    let foreign = of(FACTORS, &other).unwrap_err();
    assert!(foreign.contains("not those of the column"), "{foreign}");
    let place = FACTORS.len() - 3;
    let mut broken = FACTORS.to_vec();
    broken[place..].copy_from_slice(&[0xff; 3]);
    let broken = of(&broken, &rows.schema).unwrap_err();
    assert!(broken.contains("tensor") && broken.contains("not finite"), "{broken}");

    let factors = of(FACTORS, &rows.schema).unwrap();
    let mut scene = Scene::of_rows(&rows);
    let before = scene.state();
    let fit =
        |kind, factors| FitOptions { kind: Some(kind), factors: Some(factors), ..FitOptions::default() };
    for (options, words) in [
        (fit(CurvatureKind::Fisher, factors.clone()), "factors go with kfac and ekfac, not with fisher"),
        (fit(CurvatureKind::Ekfac, vec![factors[0].clone(), factors[0].clone()]), "factors of 2 members"),
        (fit(CurvatureKind::Ekfac, vec![factors[0][..1].to_vec()]), "2 modules each are needed"),
    ] {
        let error = scene.try_fit(&options).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    let mut swapped = factors[0].clone();
    swapped.reverse();
    let error = scene.try_fit(&fit(CurvatureKind::Kfac, vec![swapped])).unwrap_err().to_string();
    assert!(error.contains("factors of module 0"), "{error}");
    assert_eq!(scene.state(), before);
}

#[test]
fn products_of_gradients_are_those_of_other_libraries() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut scene = Scene::of_rows(&rows);
    let report = scene.fit(CurvatureKind::Identity);
    assert_eq!((report.rows, report.members, report.parameters, report.zero_rows), (40, 1, 140, 0));
    assert_eq!(scene.keys(), rows.keys);
    let found = scene.scores(&queries, &by(CurvatureKind::Identity));
    for library in ["autograd", "bergson", "kronfluence"] {
        close(&found, &scores_of(library, "scores"), 1e-4, library);
    }
    // Single precision of what is stored is all that lies between.
    close(&found, &scores_of("autograd", "scores"), 1e-6, "autograd, closely");
    scene.verify();
}

/// How far scores may be from those of f32, as a share of the largest: f16 and int8 have a scale for each side of a module,
/// bf16 has eight bits of precision.
fn tolerances(element: ElementType) -> [(CurvatureKind, f64); 6] {
    let [identity, diagonal, fisher, margin] = match element {
        ElementType::F32 => [1e-12; 4],
        ElementType::F16 => [1e-3, 1e-3, 2e-3, 2e-3],
        ElementType::BF16 => [5e-3, 5e-3, 2e-2, 2e-2],
        ElementType::I8 => [1e-2, 1e-2, 4e-2, 4e-2],
    };
    [
        (CurvatureKind::Identity, identity),
        (CurvatureKind::Diagonal, diagonal),
        (CurvatureKind::Kfac, fisher),
        (CurvatureKind::Ekfac, fisher),
        (CurvatureKind::Fisher, fisher),
        (CurvatureKind::Margin, margin),
    ]
}

#[test]
fn every_element_type_stays_close_to_single_precision() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut exact = Scene::of_rows(&rows);
    for element in ElementType::ALL {
        let mut scene = Scene::of_schema(&rows, element);
        scene.import(&rows);
        for (kind, tolerance) in tolerances(element) {
            exact.fit(kind);
            scene.fit(kind);
            let (expected, found) = (exact.scores(&queries, &by(kind)), scene.scores(&queries, &by(kind)));
            let furthest = furthest(&found, &expected);
            assert!(furthest <= tolerance, "{element}, {}: {furthest:e}", kind.name());
            let is_rounded = element != ElementType::F32;
            assert!(!is_rounded || furthest > 0.0, "{element}, {}: nothing was rounded", kind.name());
        }
        scene.verify();
    }
    assert_eq!(problems(&exact.storage), Vec::<String>::new());
}
