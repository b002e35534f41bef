//! What is not imported, fitted or answered, and that nothing is left of it.

use ascribe::attribution::ScoreKind;
use ascribe::base::{Cancel, ElementType};
use ascribe::curvature::{CurvatureError, CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, GradientError, GradientInput, GradientQuery, ImportError, OnDuplicate};
use ascribe::sketch::SketchFile;
use ascribe::sources::TensorSet;

use crate::filling::with_texts;
use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, scores};
use crate::tensors::{several_members, with_header, with_value};

/// Imports a file under these keys; it must be refused with all of these words, and leave nothing behind.
fn refused(scene: &mut Scene, bytes: &[u8], keys: &[String], words: &[&str]) {
    let before = scene.state();
    let tensors = TensorSet::new(bytes, "s.safetensors").unwrap();
    let error = match SketchFile::new(&tensors) {
        Err(error) => ImportError::from(error),
        Ok(file) => scene.try_import(keys, &file, None, OnDuplicate::Error).unwrap_err(),
    };
    let text = error.to_string();
    for word in words.iter().chain(&["nothing was imported"]) {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert_eq!(scene.state(), before, "{text}");
}

#[test]
fn files_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    let rows = Gradients::of_file(TRAIN);
    let new: Vec<String> = (100..140).map(|row| format!("n{row}")).collect();
    let mut unknown = rows.keys.clone();
    unknown[30] = "n130".to_owned();
    let mut twice = rows.keys.clone();
    twice[30] = "r29".to_owned();
    let other_schema = with_header(TRAIN, "\\\"epoch\\\": 6", "\\\"epoch\\\": 7");
    let not_a_number = with_value(TRAIN, "m0.2.v", 17 * 9 + 3, f32::NAN);
    let infinite = with_value(TRAIN, "m0.0.u", 39 * 8, f32::INFINITY);
    let sure = with_value(TRAIN, "m0.own", 11, 1.5);
    let course = with_value(TRAIN, "trajectory.p", 6 * 4, -0.25);
    // Rows that are there without gradients, and new ones.
    for keys in [&rows.keys, &new] {
        let mut scene = with_texts(&rows);
        let cases: [(&[u8], &[&str]); 5] = [
            (&other_schema, &["s.safetensors", "\"sketch\"", "two schemas", "--column"]),
            (&not_a_number, &["s.safetensors", "row 18", "\"2\"", "member 0"]),
            (&infinite, &["s.safetensors", "row 40", "\"0\"", "member 0"]),
            (&sure, &["s.safetensors", "row 12", "m0.own", "1.5", "between 0 and 1"]),
            (&course, &["s.safetensors", "row 5", "trajectory.p", "-0.25"]),
        ];
        for (bytes, words) in cases {
            refused(&mut scene, bytes, keys, words);
        }
        refused(&mut scene, TRAIN, &keys[..39], &["s.safetensors has 40 rows", "keys has 39"]);
        // Nothing stands in the way of what is right.
        scene.import(&Gradients { keys: keys.clone(), ..rows.clone() });
        scene.verify();
    }
    let mut scene = with_texts(&rows);
    refused(&mut scene, TRAIN, &unknown, &["line 31", "n130", "not in the store"]);
    refused(&mut scene, TRAIN, &twice, &["line 31", "r29", "came before"]);
    scene.import(&rows);
    refused(&mut scene, TRAIN, &rows.keys, &["r0"]);
    scene.verify();
}

#[test]
fn a_part_of_the_rows_of_a_segment_is_not_filled() {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = with_texts(&rows);
    let before = scene.state();
    let part = rows.of_rows((0..20).filter(|row| *row != 13));
    let error = scene.try_import(&part.keys, &part, None, OnDuplicate::Error).unwrap_err().to_string();
    assert!(error.contains("\"r13\"") && error.contains("needs all of them"), "{error}");
    assert_eq!(scene.state(), before);
    // A row that is deleted need not come.
    scene.delete(&["r13".to_owned()]);
    assert!(scene.import(&part).filled);
    scene.verify();
}

#[test]
fn what_cannot_be_fitted_is_refused_and_changes_nothing() {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows);
    let before = scene.state();
    for damping in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        for kind in CurvatureKind::ALL.into_iter().filter(|kind| *kind != CurvatureKind::Identity) {
            for form in [None, Some(CurvatureForm::Primal)] {
                let form = form.filter(|_| !kind.is_direct());
                let options =
                    FitOptions { kind: Some(kind), form, damping: Some(damping), ..FitOptions::default() };
                let error = scene.try_fit(&options).unwrap_err();
                let is_damping = matches!(
                    &error,
                    GradientError::Curvature { member: 0, source: CurvatureError::Damping { .. } }
                );
                assert!(is_damping, "{}, {damping}: {error}", kind.name());
            }
        }
    }
    for (kind, form) in [
        (CurvatureKind::Identity, CurvatureForm::Dual),
        (CurvatureKind::Diagonal, CurvatureForm::Primal),
        (CurvatureKind::Ekfac, CurvatureForm::Dual),
        (CurvatureKind::Margin, CurvatureForm::Direct),
    ] {
        let options = FitOptions { kind: Some(kind), form: Some(form), ..FitOptions::default() };
        let error = scene.try_fit(&options).unwrap_err().to_string();
        assert!(error.contains(kind.name()) && error.contains(form.name()), "{error}");
    }
    let options = FitOptions { column: Some("other".to_owned()), ..FitOptions::default() };
    let error = scene.try_fit(&options).unwrap_err().to_string();
    assert!(error.contains("\"other\"") && error.contains("sketch"), "{error}");
    assert_eq!(scene.state(), before);
    scene.verify();
}

#[test]
fn margin_is_not_fitted_to_rows_of_which_nothing_was_measured() {
    let rows = Gradients::of_file(TRAIN);
    let margin = FitOptions { kind: Some(CurvatureKind::Margin), ..FitOptions::default() };
    let mut scene = Scene::of_rows(&rows.clone().unmeasured());
    let before = scene.state();
    let error = scene.try_fit(&margin).unwrap_err().to_string();
    assert!(error.contains("\"own\"") && error.contains("fisher"), "{error}");
    assert_eq!(scene.state(), before);

    let mut one = rows.clone();
    one.outcomes[14].fill(f32::NAN);
    let mut scene = Scene::of_rows(&one);
    let before = scene.state();
    let error = scene.try_fit(&margin).unwrap_err().to_string();
    assert!(error.contains("\"r14\"") && error.contains("\"own\""), "{error}");
    assert_eq!(scene.state(), before);

    // One that comes after the fit is named too.
    let mut scene = Scene::of_rows(&rows.of_rows(0..30));
    scene.fit(CurvatureKind::Margin);
    scene.fit(CurvatureKind::Fisher);
    scene.import(&rows.of_rows(30..40).unmeasured());
    let queries = Gradients::of_file(QUERIES);
    let error = scores(&scene.store.snapshot(), &queries, &by(CurvatureKind::Margin)).unwrap_err();
    assert!(error.to_string().contains("\"r30\""), "{error}");
    scores(&scene.store.snapshot(), &queries, &by(CurvatureKind::Fisher)).unwrap();
}

#[test]
fn gradients_of_which_all_are_zero_are_not_fitted() {
    let mut rows = Gradients::of_file(TRAIN);
    rows.values.iter_mut().for_each(|values| values.fill(0.0));
    let mut scene = Scene::of_rows(&rows);
    let before = scene.state();
    for kind in [CurvatureKind::Fisher, CurvatureKind::Margin] {
        let options = FitOptions { kind: Some(kind), ..FitOptions::default() };
        let error = scene.try_fit(&options).unwrap_err();
        assert!(matches!(error, GradientError::Curvature { source: CurvatureError::Zero, .. }), "{error}");
    }
    assert_eq!(scene.state(), before);
    let mut empty = Scene::of_schema(&rows, ElementType::F32);
    let error = empty.try_fit(&FitOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no gradients yet"), "{error}");
}

#[test]
fn a_cancelled_fit_or_import_leaves_nothing_behind() {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..20));
    let before = scene.state();
    let cancel = Cancel::new();
    cancel.cancel();
    let watch = ascribe::engine::Watch::silent(&cancel);
    let fitted = scene.store.fit(&FitOptions::default(), watch);
    assert!(matches!(fitted, Err(GradientError::Cancelled)), "{fitted:?}");
    let later = rows.of_rows(20..40);
    let mut keys = crate::scene::keys_source(&later.keys);
    let import = ascribe::engine::Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: None,
        sketches: Some(&later),
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    let imported = scene.store.import(import, watch);
    assert!(matches!(imported, Err(ImportError::Cancelled)), "{imported:?}");
    assert_eq!(scene.state(), before);
    scene.verify();
}

/// Asks about a gradient; the reason why there is no answer.
fn reason(scene: &Scene, input: GradientInput<'_>, query: &GradientQuery) -> String {
    let asked = scene.store.snapshot().query_gradients(&[input], query, &Cancel::new());
    asked.unwrap_err().to_string()
}

#[test]
fn questions_that_cannot_be_answered_say_why() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut scene = Scene::of_rows(&rows);
    let source = GradientInput::Source { source: &queries, row: 0 };
    let query = GradientQuery::default();
    let no_fit = reason(&scene, source, &query);
    assert!(no_fit.contains("no curvature") && no_fit.contains("ascribe fit"), "{no_fit}");
    scene.fit(CurvatureKind::Identity);
    let before = scene.state();
    let other_kind = reason(&scene, source, &by(CurvatureKind::Margin));
    assert!(other_kind.contains("no margin curvature") && other_kind.contains("ascribe fit"), "{other_kind}");
    let mut broken = queries.clone();
    broken.values[0][2] = f32::NAN;
    let other = Gradients::of_file(&several_members(1, 3, true));
    let asked = ascribe::engine::QueryInput::Key(String::new());
    for (input, query, words) in [
        (source, GradientQuery { k: 0, ..query.clone() }, "row"),
        (source, GradientQuery { column: Some("no".to_owned()), ..query.clone() }, "\"no\""),
        (source, GradientQuery { filter: Some("colour = 1".to_owned()), ..query.clone() }, "number"),
        (source, GradientQuery { without: Some("number <".to_owned()), ..query.clone() }, "column 9"),
        (source, GradientQuery { only_members: vec![0, 1], ..query.clone() }, "no member 1"),
        (source, GradientQuery { only_members: vec![0, 0], ..query.clone() }, "named twice"),
        (
            source,
            GradientQuery { layers: true, kind: ScoreKind::Cosine, ..query.clone() },
            "for the kind dot only",
        ),
        (
            source,
            GradientQuery {
                without: Some("number < 7".to_owned()),
                kind: ScoreKind::Relatif,
                ..query.clone()
            },
            "predicted for the kind dot only",
        ),
        (GradientInput::Key("nobody"), query.clone(), "nobody"),
        (GradientInput::Source { source: &broken, row: 0 }, query.clone(), "row 1: value 2 is not finite"),
        (GradientInput::Source { source: &other, row: 0 }, query.clone(), "cannot be compared"),
        (GradientInput::Values { asked: &asked, values: &[0.0; 3] }, query.clone(), "3 values"),
    ] {
        let text = reason(&scene, input, &query);
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    assert_eq!(scene.state(), before);
}
