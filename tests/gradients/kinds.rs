//! Normalised scores, layers, and what is predicted without some rows.

use ascribe::attribution::ScoreKind;
use ascribe::base::Cancel;
use ascribe::curvature::CurvatureKind;
use ascribe::engine::{Answer, GradientInput, GradientQuery, QueryInput};

use crate::formula::{Fit, Written, product};
use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, close, of_kind, raw};

fn fitted(kinds: &[CurvatureKind]) -> (Scene, Gradients) {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..30));
    kinds.iter().for_each(|kind| drop(scene.fit(*kind)));
    scene.import(&rows.of_rows(30..40));
    (scene, Gradients::of_file(QUERIES))
}

#[test]
fn cosines_of_gradients_are_those_of_the_vectors() {
    let (scene, queries) = fitted(&[CurvatureKind::Identity]);
    let (written, asked) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let rows = &written.members[0].gradients;
    let norm = |row: &Vec<Vec<f64>>| product(row, row).sqrt();
    let relatif: Vec<Vec<f64>> = asked.members[0]
        .gradients
        .iter()
        .map(|query| rows.iter().map(|row| product(query, row) / norm(row)).collect())
        .collect();
    let found = scene.scores(&queries, &of_kind(CurvatureKind::Identity, ScoreKind::Relatif));
    close(&found, &relatif, 1e-9, "relatif");
    let cosine: Vec<Vec<f64>> = relatif
        .iter()
        .zip(&asked.members[0].gradients)
        .map(|(scores, query)| scores.iter().map(|score| score / norm(query)).collect())
        .collect();
    let found = scene.scores(&queries, &of_kind(CurvatureKind::Identity, ScoreKind::Cosine));
    close(&found, &cosine, 1e-9, "cosine");
    assert!(found.iter().flatten().all(|score| score.abs() <= 1.0 + 1e-12));
}

#[test]
fn a_row_is_most_like_itself_under_every_curvature() {
    let kinds = CurvatureKind::ALL.into_iter().filter(|kind| !kind.is_weighted());
    let kinds: Vec<CurvatureKind> = kinds.collect();
    let (scene, _) = fitted(&kinds);
    for kind in kinds {
        let found = scene.scores(&Gradients::of_file(TRAIN), &of_kind(kind, ScoreKind::Cosine));
        for (row, scores) in found.iter().enumerate() {
            assert!((scores[row] - 1.0).abs() < 1e-6, "{}, row {row}: {}", kind.name(), scores[row]);
            assert!(scores.iter().all(|score| score.abs() <= 1.0 + 1e-6), "{}, row {row}", kind.name());
        }
    }
}

#[test]
fn relatif_divides_by_the_length_of_the_whitened_gradient() {
    let kinds = [CurvatureKind::Fisher, CurvatureKind::Trak, CurvatureKind::Margin];
    let (scene, queries) = fitted(&kinds);
    let written = Written::of_file(TRAIN);
    let fitted: Vec<usize> = (0..30).collect();
    for kind in kinds {
        let fit = Fit { written: &written, kind, fitted: &fitted, there: &fitted };
        let square = |row: usize| match kind.is_weighted() {
            true => fit.leverage(0, row),
            false => fit.scores(0, &written.members[0].gradients[row], &[row])[0],
        };
        let lengths: Vec<f64> = (0..40).map(|row| square(row).sqrt()).collect();
        let dot = scene.scores(&queries, &by(kind));
        let expected: Vec<Vec<f64>> =
            dot.iter().map(|scores| scores.iter().zip(&lengths).map(|(a, b)| a / b).collect()).collect();
        close(&scene.scores(&queries, &of_kind(kind, ScoreKind::Relatif)), &expected, 1e-6, kind.name());
    }
}

fn all_hits(answer: &Answer) -> impl Iterator<Item = &ascribe::engine::Hit> {
    answer.proponents.iter().chain(&answer.opponents)
}

#[test]
fn layers_add_up_to_the_score_of_every_row() {
    let kinds = CurvatureKind::ALL;
    let (scene, queries) = fitted(&kinds);
    for kind in kinds {
        let answer = scene.answer(&queries, 1, &GradientQuery { k: 100, layers: true, ..by(kind) });
        assert_eq!(all_hits(&answer).count(), 40, "{}", kind.name());
        let largest = answer.proponents[0].score.max(-answer.opponents[0].score);
        for hit in all_hits(&answer) {
            let names: Vec<&str> = hit.layers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["0", "2"]);
            let sum: f64 = hit.layers.iter().map(|(_, part)| part).sum();
            let what = format!("{}, {}: {sum} for {}", kind.name(), hit.key, hit.score);
            assert!((sum - hit.score).abs() <= 1e-9 * largest, "{what}");
        }
    }
    // Without a curvature a part is the product of that module's gradients.
    let (written, asked) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let query = GradientQuery { k: 100, layers: true, ..by(CurvatureKind::Identity) };
    for hit in all_hits(&scene.answer(&queries, 1, &query)) {
        let row = Gradients::of_file(TRAIN).row(&hit.key);
        for (module, (_, part)) in hit.layers.iter().enumerate() {
            let pair = [&asked.members[0].gradients[1][module], &written.members[0].gradients[row][module]];
            let expected = product(&[pair[0].clone()], &[pair[1].clone()]);
            assert!((part - expected).abs() < 1e-9, "{}, module {module}: {part} for {expected}", hit.key);
        }
    }
}

#[test]
fn the_change_without_rows_is_the_sum_of_their_scores_over_all_rows() {
    let kinds = [CurvatureKind::Fisher, CurvatureKind::Trak, CurvatureKind::Margin];
    let (mut scene, queries) = fitted(&kinds);
    scene.delete(&["r3".to_owned()]);
    for kind in kinds {
        // Only rows that are shown are filtered by `filter`.
        let query = GradientQuery {
            without: Some("number < 7 OR number = 35".to_owned()),
            filter: Some("number > 20".to_owned()),
            ..by(kind)
        };
        let answer = scene.answer(&queries, 2, &query);
        let scores = &scene.scores(&queries, &raw(kind))[2];
        let keys = scene.keys();
        let is_left_out = |key: &str| ["r0", "r1", "r2", "r4", "r5", "r6", "r35"].contains(&key);
        let sum: f64 =
            keys.iter().zip(scores).filter(|(key, _)| is_left_out(key)).map(|(_, score)| score).sum();
        let without = answer.without.unwrap();
        assert_eq!(without.rows, 7);
        assert!((without.change - sum / 39.0).abs() < 1e-12 * sum.abs(), "{without:?}, {sum}");
        assert!(answer.proponents.iter().all(|hit| hit.metadata["number"].as_i64() > Some(20)));
    }
}

#[test]
fn answers_hold_the_strongest_rows_of_both_ends() {
    let (scene, queries) = fitted(&[CurvatureKind::Margin]);
    let answer = scene.answer(&queries, 4, &GradientQuery { k: 3, ..by(CurvatureKind::Margin) });
    let mut ranked: Vec<(f64, String)> =
        scene.scores(&queries, &by(CurvatureKind::Margin))[4].iter().copied().zip(scene.keys()).collect();
    ranked.sort_by(|left, right| right.0.total_cmp(&left.0));
    let ends = [&ranked[..3], &[ranked[39].clone(), ranked[38].clone(), ranked[37].clone()]].concat();
    assert_eq!(all_hits(&answer).count(), ends.len());
    for (hit, (score, key)) in all_hits(&answer).zip(&ends) {
        assert_eq!(&hit.key, key);
        // Asked about alone or together with others: sums may be taken in another order.
        assert!((hit.score - score).abs() <= 1e-12 * score.abs(), "{key}: {} for {score}", hit.score);
    }
    assert_eq!((answer.score, answer.rows, answer.plan), ("gradient", 40, "scan"));
    assert_eq!(answer.input, QueryInput::Sketch { source: "gradients".to_owned(), row: 4 });
    let curvature = answer.curvature.unwrap();
    assert_eq!(curvature, "margin (dual), version 1; 10 rows came and 0 left since it was fitted");
}

#[test]
fn a_row_of_the_store_is_asked_about_by_its_key() {
    let (scene, _) = fitted(&[CurvatureKind::Margin]);
    let query = by(CurvatureKind::Margin);
    let input = GradientInput::Key("r33");
    let by_key = scene.store.snapshot().query_gradients(&[input], &query, &Cancel::new()).unwrap();
    let rows = Gradients::of_file(TRAIN);
    let by_values = scene.answer(&rows, 33, &query);
    assert_eq!(by_key[0].input, QueryInput::Key("r33".to_owned()));
    assert_eq!((&by_key[0].proponents, &by_key[0].opponents), (&by_values.proponents, &by_values.opponents));
}
