//! Several members with shared inputs.

use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, GradientQuery, MemberScores};

use crate::formula::{Fit, Written, mean_of, product, standardised};
use crate::gradients::Gradients;
use crate::scene::{Scene, by, close, raw};
use crate::tensors::{MEMBER_ROWS, several_members};

/// Rows that are there when the fit is made.
const FITTED: usize = 20;

/// Rows that are gone afterwards, one of the fit and one that came later.
const GONE: [usize; 2] = [4, 25];

struct Members {
    scene: Scene,
    queries: Gradients,
    written: Written,
    asked: Written,
    live: Vec<usize>,
}

fn members(shared: bool) -> Members {
    let (bytes, asked) = (several_members(11, MEMBER_ROWS, shared), several_members(12, 3, shared));
    let rows = Gradients::of_file(&bytes);
    let mut scene = Scene::of_rows(&rows.of_rows(0..FITTED));
    for kind in CurvatureKind::ALL {
        let report = scene.fit(kind);
        assert_eq!((report.members, report.parameters), (2, 3 * 4 + 2 * 3 + 2 * 2 + 2 * 6));
    }
    scene.import(&rows.of_rows(FITTED..MEMBER_ROWS));
    scene.delete(&rows.of_rows(GONE).keys);
    Members {
        scene,
        queries: Gradients::of_file(&asked),
        written: Written::of_file(&bytes),
        asked: Written::of_file(&asked),
        live: (0..MEMBER_ROWS).filter(|row| !GONE.contains(row)).collect(),
    }
}

impl Members {
    /// For each query the scores of each member, by the formula.
    fn expected(&self, kind: CurvatureKind) -> Vec<Vec<Vec<f64>>> {
        let fitted: Vec<usize> = (0..FITTED).collect();
        let there: Vec<usize> = fitted.iter().copied().filter(|row| !GONE.contains(row)).collect();
        let fit = Fit { written: &self.written, kind, fitted: &fitted, there: &there };
        let of_query = |query: usize| {
            let of_member = |member: usize| {
                let gradient = &self.asked.members[member].gradients[query];
                if kind == CurvatureKind::Identity {
                    let rows = &self.written.members[member].gradients;
                    return self.live.iter().map(|row| product(gradient, &rows[*row])).collect();
                }
                fit.scores(member, gradient, &self.live)
            };
            (0..2).map(of_member).collect()
        };
        (0..3).map(of_query).collect()
    }
}

#[test]
fn members_are_standardised_over_all_live_rows_then_averaged() {
    let members = members(true);
    for kind in [CurvatureKind::Identity, CurvatureKind::Fisher, CurvatureKind::Margin] {
        let expected = members.expected(kind);
        let mean: Vec<Vec<f64>> = expected.iter().map(|lists| mean_of(lists)).collect();
        let found = members.scene.scores(&members.queries, &raw(kind));
        close(&found, &mean, 1e-6, kind.name());
        let even: Vec<Vec<f64>> = expected
            .iter()
            .map(|lists| mean_of(&lists.iter().map(|list| standardised(list)).collect::<Vec<_>>()))
            .collect();
        close(&members.scene.scores(&members.queries, &by(kind)), &even, 1e-6, kind.name());
    }
    members.scene.verify();
}

#[test]
fn single_members_can_be_asked() {
    let members = members(true);
    for kind in [CurvatureKind::Identity, CurvatureKind::Fisher, CurvatureKind::Margin] {
        let expected = members.expected(kind);
        for member in 0..2 {
            let own: Vec<Vec<f64>> = expected.iter().map(|lists| lists[member].clone()).collect();
            let query = GradientQuery { only_members: vec![member as u32], ..by(kind) };
            close(&members.scene.scores(&members.queries, &query), &own, 1e-6, kind.name());
            let query = GradientQuery { k: 100, layers: true, ..query };
            let answer = members.scene.answer(&members.queries, 0, &query);
            for hit in answer.proponents.iter().chain(&answer.opponents) {
                let sum: f64 = hit.layers.iter().map(|(_, part)| part).sum();
                assert!((sum - hit.score).abs() <= 1e-9 * hit.score.abs().max(1e-3), "{}", hit.key);
            }
        }
        let query = GradientQuery { only_members: vec![1, 0], ..by(kind) };
        let all = members.scene.scores(&members.queries, &by(kind));
        close(&members.scene.scores(&members.queries, &query), &all, 1e-12, kind.name());
    }
}

#[test]
fn a_filter_does_not_change_what_members_are_divided_by() {
    let members = members(true);
    let all =
        members.scene.answer(&members.queries, 0, &GradientQuery { k: 100, ..by(CurvatureKind::Margin) });
    let query = GradientQuery { k: 100, filter: Some("number < 9".to_owned()), ..by(CurvatureKind::Margin) };
    let few = members.scene.answer(&members.queries, 0, &query);
    assert_eq!(few.eligible_rows, 8);
    for hit in few.proponents.iter().chain(&few.opponents) {
        let same = all.proponents.iter().chain(&all.opponents).find(|other| other.key == hit.key).unwrap();
        assert_eq!((hit.score, hit.z), (same.score, same.z), "{}", hit.key);
    }
}

#[test]
fn layers_add_up_whether_members_are_standardised_or_not() {
    let members = members(true);
    for kind in CurvatureKind::ALL {
        for way in [MemberScores::Standardised, MemberScores::Raw] {
            let query = GradientQuery { k: 100, layers: true, members: way, ..by(kind) };
            let answer = members.scene.answer(&members.queries, 0, &query);
            let hits: Vec<_> = answer.proponents.iter().chain(&answer.opponents).collect();
            assert_eq!(hits.len(), members.live.len());
            let largest = hits.iter().fold(0.0_f64, |largest, hit| largest.max(hit.score.abs()));
            for hit in hits {
                let names: Vec<&str> = hit.layers.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["first", "pairs", "whole", "table"]);
                let sum: f64 = hit.layers.iter().map(|(_, part)| part).sum();
                let what = format!("{}, {way:?}, {}: {sum} for {}", kind.name(), hit.key, hit.score);
                assert!((sum - hit.score).abs() <= 1e-9 * largest, "{what}");
            }
        }
    }
}

#[test]
fn what_is_predicted_without_rows_uses_the_plain_mean() {
    let members = members(true);
    let query = GradientQuery { without: Some("number < 3".to_owned()), ..by(CurvatureKind::Margin) };
    let answer = members.scene.answer(&members.queries, 1, &query);
    let scores = &members.scene.scores(&members.queries, &raw(CurvatureKind::Margin))[1];
    let expected = scores[..3].iter().sum::<f64>() / 28.0;
    let without = answer.without.unwrap();
    assert_eq!(without.rows, 3);
    assert!((without.change - expected).abs() <= 1e-12 * expected.abs(), "{without:?}, {expected}");
}

#[test]
fn shared_inputs_give_the_scores_of_inputs_that_stand_twice() {
    let (once, twice) = (members(true), members(false));
    for kind in [CurvatureKind::Identity, CurvatureKind::Fisher, CurvatureKind::Margin] {
        let expected = twice.scene.scores(&twice.queries, &by(kind));
        assert_eq!(once.scene.scores(&once.queries, &by(kind)), expected, "{}", kind.name());
    }
    let bytes = |members: &Members| members.scene.store.snapshot().statistics().bytes_on_disk;
    assert!(bytes(&once) <= bytes(&twice));
}

#[test]
fn forms_agree_for_every_encoding() {
    let bytes = several_members(11, MEMBER_ROWS, true);
    let (rows, queries) = (Gradients::of_file(&bytes), Gradients::of_file(&several_members(12, 3, true)));
    for kind in [CurvatureKind::Fisher, CurvatureKind::Margin] {
        let scores = [CurvatureForm::Dual, CurvatureForm::Primal].map(|form| {
            let mut scene = Scene::of_rows(&rows.of_rows(0..FITTED));
            scene
                .try_fit(&FitOptions { kind: Some(kind), form: Some(form), ..FitOptions::default() })
                .unwrap();
            scene.import(&rows.of_rows(FITTED..MEMBER_ROWS));
            scene.scores(&queries, &by(kind))
        });
        close(&scores[1], &scores[0], 1e-8, kind.name());
    }
}
