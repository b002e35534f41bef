//! Rows at both ends are those of the scores of all rows in f64, whatever was computed in f32 on the way.

use ascribe::attribution::{ScoreKind, Side};
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, GradientQuery, MemberScores};

use crate::gradients::Gradients;
use crate::scene::{Scene, by};
use crate::tensors::several_members;

/// Enough that a few rows at each end are candidates, and the others are not.
const ROWS: usize = 400;

const FORMS: [(CurvatureKind, Option<CurvatureForm>); 11] = [
    (CurvatureKind::Identity, None),
    (CurvatureKind::Diagonal, None),
    (CurvatureKind::Kfac, None),
    (CurvatureKind::Ekfac, None),
    (CurvatureKind::Fisher, Some(CurvatureForm::Dual)),
    (CurvatureKind::Fisher, Some(CurvatureForm::Primal)),
    (CurvatureKind::Fisher, Some(CurvatureForm::Landmarks)),
    (CurvatureKind::Trak, Some(CurvatureForm::Dual)),
    (CurvatureKind::Margin, Some(CurvatureForm::Dual)),
    (CurvatureKind::Margin, Some(CurvatureForm::Primal)),
    (CurvatureKind::Margin, Some(CurvatureForm::Landmarks)),
];

fn check(scene: &Scene, queries: &Gradients, query: &GradientQuery, what: &str) {
    let (keys, all) = (scene.keys(), scene.scores(queries, query));
    for (row, scores) in all.iter().enumerate() {
        let largest = scores.iter().fold(0.0_f64, |largest, score| largest.max(score.abs()));
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(keys[*a].cmp(&keys[*b])));
        let answer = scene.answer(queries, row, query);
        let mut last = order.clone();
        last.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(keys[*a].cmp(&keys[*b])));
        for (hits, expected) in [(&answer.proponents, &order), (&answer.opponents, &last)] {
            for (hit, expected) in hits.iter().zip(expected) {
                assert_eq!(hit.key, keys[*expected], "{what}, query {row}");
                // Means and deviations of members are of near scores; what is divided by them is not.
                let tolerance = if query.members == MemberScores::Raw { 1e-11 } else { 1e-6 };
                let error = (hit.score - scores[*expected]).abs();
                assert!(error <= tolerance * largest, "{what}, query {row}: {error}");
            }
        }
        let sizes = [answer.proponents.len(), answer.opponents.len()];
        let there = [1.0, -1.0].map(|sign| scores.iter().filter(|score| sign * **score > 0.0).count());
        let asked = [query.side.has_proponents(), query.side.has_opponents()];
        for side in 0..2 {
            let expected = if asked[side] { query.k.min(there[side]) } else { 0 };
            assert_eq!(sizes[side], expected, "{what}, query {row}");
        }
    }
}

#[test]
fn answers_hold_the_rows_and_scores_of_the_whole_matrix() {
    let rows = Gradients::of_file(&several_members(21, ROWS, true));
    let queries = Gradients::of_file(&several_members(22, 3, true));
    for (kind, form) in FORMS {
        let mut scene = Scene::of_rows(&rows.of_rows(0..ROWS - 60));
        let landmarks = Some(50);
        scene.try_fit(&FitOptions { kind: Some(kind), form, landmarks, ..FitOptions::default() }).unwrap();
        scene.import(&rows.of_rows(ROWS - 60..ROWS));
        scene.delete(&rows.of_rows([3, 40, ROWS - 5]).keys);
        for (score, members, side, k) in [
            (ScoreKind::Dot, MemberScores::Standardised, Side::Both, 5),
            (ScoreKind::Dot, MemberScores::Raw, Side::Opponents, 1),
            (ScoreKind::Cosine, MemberScores::Raw, Side::Both, 3),
            (ScoreKind::Relatif, MemberScores::Standardised, Side::Proponents, 70),
        ] {
            let query = GradientQuery { kind: score, members, side, k, ..by(kind) };
            let form = form.map_or("", CurvatureForm::name);
            let what = format!("{} {form} {} {}", kind.name(), score.name(), side.name());
            check(&scene, &queries, &query, &what);
        }
    }
}

#[test]
fn rows_that_score_alike_are_told_in_the_order_of_their_keys() {
    // The same gradient 200 times: no score in f32 or f64 tells them apart, so that all of them are looked at.
    let rows = Gradients::of_file(&several_members(23, 2, true));
    let mut many = rows.of_rows((0..200).map(|row| usize::from(row % 100 == 7)));
    many.keys = (0..200).map(|row| format!("r{row:03}")).collect();
    let mut scene = Scene::of_rows(&many);
    scene.fit(CurvatureKind::Fisher);
    let query = GradientQuery { k: 4, ..by(CurvatureKind::Fisher) };
    check(&scene, &rows, &query, "alike");
}

#[test]
fn scores_that_no_f32_holds_are_told_all_the_same() {
    let mut rows = Gradients::of_file(&several_members(24, ROWS, true));
    let queries = rows.of_rows(0..2);
    for values in &mut rows.values {
        values.iter_mut().for_each(|value| *value *= 1e25);
    }
    let mut scene = Scene::of_rows(&rows);
    scene.fit(CurvatureKind::Identity);
    let mut large = queries.clone();
    large.values.iter_mut().flatten().for_each(|value| *value *= 1e15);
    check(&scene, &large, &GradientQuery { k: 4, ..by(CurvatureKind::Identity) }, "large");
}
