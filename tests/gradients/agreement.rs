//! Scores of other libraries, in every element type.

use ascribe::base::ElementType;
use ascribe::curvature::CurvatureKind;
use serde_json::Value;

use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, close, furthest, problems};

/// Scores that other libraries gave for the same gradients.
const EXPECTED: &str = include_str!("../fixtures/attribution/expected.json");

fn scores_of(library: &str) -> Vec<Vec<f64>> {
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    serde_json::from_value(expected[library]["scores"].clone()).unwrap()
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
        close(&found, &scores_of(library), 1e-4, library);
    }
    // Single precision of what is stored is all that lies between.
    close(&found, &scores_of("autograd"), 1e-6, "autograd, closely");
    scene.verify();
}

/// How far scores may be from those of f32, as a share of the largest: f16 and int8 have a scale for each side of a module,
/// bf16 has eight bits of precision.
fn tolerances(element: ElementType) -> [(CurvatureKind, f64); 4] {
    let [identity, diagonal, fisher, margin] = match element {
        ElementType::F32 => [1e-12; 4],
        ElementType::F16 => [1e-3, 1e-3, 2e-3, 2e-3],
        ElementType::BF16 => [5e-3, 5e-3, 2e-2, 2e-2],
        ElementType::I8 => [1e-2, 1e-2, 4e-2, 4e-2],
    };
    [
        (CurvatureKind::Identity, identity),
        (CurvatureKind::Diagonal, diagonal),
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
