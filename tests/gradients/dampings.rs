//! Dampings that are tried, beside those that are fitted.

use ascribe::base::Cancel;
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, GradientError, GradientInput, Watch};

use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by};

#[test]
fn a_damping_that_is_tried_scores_like_one_that_is_fitted_and_is_not_kept() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    for (kind, form) in [
        (CurvatureKind::Margin, CurvatureForm::Dual),
        (CurvatureKind::Fisher, CurvatureForm::Primal),
        (CurvatureKind::Margin, CurvatureForm::Landmarks),
        (CurvatureKind::Diagonal, CurvatureForm::Direct),
        (CurvatureKind::Kfac, CurvatureForm::Direct),
        (CurvatureKind::Ekfac, CurvatureForm::Direct),
    ] {
        let mut scene = Scene::of_rows(&rows);
        let ratios = [1e-4, 0.03];
        let options =
            FitOptions { kind: Some(kind), form: Some(form), landmarks: Some(20), ..FitOptions::default() };
        let before = scene.state();
        let mut tried = vec![Vec::new(); 2];
        let inputs = GradientInput::of_source(&queries);
        let (snapshot, cancel) = (scene.store.snapshot(), Cancel::new());
        let watch = Watch::silent(&cancel);
        snapshot
            .score_dampings(&options, &ratios, &inputs, &by(kind), watch, |trial, number, scores| {
                assert_eq!(number, tried[trial].len());
                tried[trial].push(scores.to_vec());
                Ok::<(), GradientError>(())
            })
            .unwrap();
        assert_eq!(scene.state(), before, "{}", kind.name());
        assert_ne!(tried[0], tried[1], "{}", kind.name());
        for (ratio, tried) in ratios.iter().zip(tried) {
            let report = scene.try_fit(&FitOptions { damping: Some(*ratio), ..options.clone() }).unwrap();
            assert_eq!(scene.scores(&queries, &by(kind)), tried, "{} {ratio}", kind.name());
            let has_error = report.landmark_error.is_some_and(|error| error > 0.0 && error.is_finite());
            assert_eq!(has_error, form == CurvatureForm::Landmarks, "{report:?}");
        }
        let bad = snapshot.score_dampings(&options, &[-1.0], &inputs, &by(kind), watch, |_, _, _| {
            Ok::<(), GradientError>(())
        });
        assert!(bad.unwrap_err().to_string().contains("damping"), "{}", kind.name());
    }
}
