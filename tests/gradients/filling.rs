//! Gradients of rows that are there already.

use ascribe::base::{Cancel, ElementType};
use ascribe::curvature::CurvatureKind;
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{ColumnDefinition, GradientInput, IngestOptions, OnDuplicate, Watch};
use ascribe::sources::{FieldNames, InputFormat, from_reader};

use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by};

/// A store of texts in two segments of 20 rows, with a column for gradients that holds none yet.
pub(crate) fn with_texts(rows: &Gradients) -> Scene {
    let words = ColumnDefinition::embedding(EncoderSpecification::parse("hashed:8").unwrap());
    let sketch =
        ColumnDefinition { element: ElementType::F32, ..ColumnDefinition::sketch(rows.schema.clone()) };
    let mut scene = Scene::with_columns(vec![words, sketch]);
    for keys in rows.keys.chunks(20) {
        let line = |key: &String| {
            let number: i64 = key[1..].parse().unwrap();
            let line = serde_json::json!({"key": key, "text": format!("text of {key}"), "number": number});
            format!("{line}\n")
        };
        let lines: String = keys.iter().map(line).collect();
        let fields = FieldNames { key: Some("key".into()), text: Some("text".into()), vector: None };
        let source =
            from_reader(std::io::Cursor::new(lines), "rows", InputFormat::JsonLines, &fields).unwrap();
        let cancel = Cancel::new();
        scene.store.ingest(source, &IngestOptions::default(), Watch::silent(&cancel), &mut |_| {}).unwrap();
    }
    scene
}

#[test]
fn gradients_that_come_later_are_those_of_rows_that_came_with_them() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut later = with_texts(&rows);
    later.delete(&["r3".to_owned()]);
    // In another order than that of the rows.
    let given = rows.of_rows((0..40).rev().filter(|row| *row != 3));
    let report = later.try_import(&given.keys, &given, None, OnDuplicate::Error).unwrap();
    assert_eq!((report.rows, report.rows_skipped, report.filled), (39, 0, true));
    let ordered = rows.of_rows((0..40).filter(|row| *row != 3));
    let mut together = Scene::of_rows(&ordered);
    assert_eq!(later.keys(), ordered.keys);
    for kind in CurvatureKind::ALL {
        later.fit(kind);
        together.fit(kind);
        let expected = together.scores(&queries, &by(kind));
        assert_eq!(later.scores(&queries, &by(kind)), expected, "{}", kind.name());
    }
    let answer = later.answer(&queries, 0, &by(CurvatureKind::Margin));
    let first = &answer.proponents[0];
    assert_eq!(first.text, format!("text of {}", first.key));
    later.verify();
}

#[test]
fn rows_without_gradients_are_not_scored() {
    let (rows, queries) = (Gradients::of_file(TRAIN), Gradients::of_file(QUERIES));
    let mut scene = with_texts(&rows);
    let second = rows.of_rows(20..40);
    assert!(scene.import(&second).filled);
    let report = scene.fit(CurvatureKind::Margin);
    assert_eq!(report.rows, 20);
    assert_eq!(scene.keys(), second.keys);
    let mut alone = Scene::of_rows(&second);
    alone.fit(CurvatureKind::Margin);
    let query = by(CurvatureKind::Margin);
    assert_eq!(scene.scores(&queries, &query), alone.scores(&queries, &query));
    let input = GradientInput::Key("r3");
    let error = scene.store.snapshot().query_gradients(&[input], &query, &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains("r3"), "{error}");
    // The rest later still.
    let first = rows.of_rows(0..20);
    assert!(scene.import(&first).filled);
    assert_eq!(scene.keys(), rows.keys);
    scene.verify();
}

#[test]
fn a_column_is_added_for_gradients_where_there_is_none() {
    let rows = Gradients::of_file(TRAIN);
    let words = ColumnDefinition::embedding(EncoderSpecification::parse("vectors:2").unwrap());
    let mut scene = Scene::with_columns(vec![words]);
    scene.import(&rows.of_rows(0..20));
    scene.try_import(&rows.of_rows(20..40).keys, &rows.of_rows(20..40), None, OnDuplicate::Error).unwrap();
    let statistics = scene.store.snapshot().statistics();
    let names: Vec<&str> = statistics.sketches.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["sketch"]);
    // Another schema has a column of its own, if it is named.
    let other = Gradients::of_file(&crate::tensors::several_members(1, 40, true));
    let report = scene.try_import(&rows.keys, &other, Some("other"), OnDuplicate::Error).unwrap();
    assert!(report.filled);
    let error = scene.store.snapshot().gradient_keys(None).unwrap_err().to_string();
    assert!(error.contains("sketch, other") && error.contains("--column"), "{error}");
    assert_eq!(scene.store.snapshot().gradient_keys(Some("other")).unwrap(), rows.keys);
    scene.verify();
}

#[test]
fn rows_of_zeros_are_kept_and_score_zero() {
    let mut rows = Gradients::of_file(TRAIN);
    rows.values[8].fill(0.0);
    // One side of each module is enough: 8 and 4 values of the output sides, inputs of 13 and 9 behind them.
    rows.values[9][..8].fill(0.0);
    rows.values[9][21..25].fill(0.0);
    // Nothing was measured of it: it has no label.
    rows.values[12].fill(0.0);
    rows.outcomes[12].fill(f32::NAN);
    let queries = Gradients::of_file(QUERIES);
    let mut scene = Scene::of_rows(&rows);
    for kind in CurvatureKind::ALL {
        let report = scene.fit(kind);
        assert_eq!((report.rows, report.zero_rows), (40, 3), "{}", kind.name());
        for scores in scene.scores(&queries, &by(kind)) {
            assert_eq!([scores[8], scores[9], scores[12]], [0.0; 3], "{}", kind.name());
            assert_eq!(scores.iter().filter(|score| **score == 0.0).count(), 3, "{}", kind.name());
            assert!(scores.iter().all(|score| score.is_finite()));
        }
        for score in [ascribe::attribution::ScoreKind::Cosine, ascribe::attribution::ScoreKind::Relatif] {
            for scores in scene.scores(&queries, &crate::scene::of_kind(kind, score)) {
                assert_eq!([scores[8], scores[9], scores[12]], [0.0; 3], "{}, {score:?}", kind.name());
            }
        }
        let own = scene.store.snapshot().self_influence(None, Some(kind), &Cancel::new()).unwrap();
        // A leverage is what an inverse leaves of 1, which is not rounded away everywhere.
        let largest = [own[8], own[9], own[12]].into_iter().fold(0.0_f64, f64::max);
        assert!(largest <= f64::EPSILON, "{}: {largest:e}", kind.name());
    }
    let answer = scene.answer(&queries, 0, &by(CurvatureKind::Margin));
    assert_eq!(answer.rows, 40);
    scene.verify();
}
