//! Rows that come, leave or are replaced after a fit.

use ascribe::base::Cancel;
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, OnDuplicate, Snapshot, Watch};

use crate::formula::{Fit, Written};
use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, close};

const KINDS: [CurvatureKind; 3] = [CurvatureKind::Fisher, CurvatureKind::Trak, CurvatureKind::Margin];

/// Rows that leave: two of the first segment, one of the second, and the last of all.
const GONE: [usize; 4] = [0, 7, 21, 39];

/// A store whose 40 rows, in two segments, were all fitted.
fn fitted() -> (Scene, Gradients) {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..20));
    scene.import(&rows.of_rows(20..40));
    KINDS.into_iter().for_each(|kind| drop(scene.fit(kind)));
    (scene, rows)
}

fn scores(scene: &Scene, kind: CurvatureKind) -> Vec<Vec<f64>> {
    scene.scores(&Gradients::of_file(QUERIES), &by(kind))
}

fn all_scores(scene: &Scene) -> Vec<Vec<Vec<f64>>> {
    KINDS.map(|kind| scores(scene, kind)).to_vec()
}

fn compact(scene: &Scene) {
    let report = scene.store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert!(report.merges > 0, "{report:?}");
}

/// What the formula says where the damping comes from all rows and some of them are there.
fn expected(there: &[usize], asked: &[usize], kind: CurvatureKind) -> Vec<Vec<f64>> {
    let (written, queries) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let all: Vec<usize> = (0..40).collect();
    let fit = Fit { written: &written, kind, fitted: &all, there };
    queries.members[0].gradients.iter().map(|query| fit.scores(0, query, asked)).collect()
}

#[test]
fn deleted_rows_leave_the_fit_at_the_same_damping() {
    let (mut scene, rows) = fitted();
    let before = all_scores(&scene);
    scene.delete(&rows.of_rows(GONE).keys);
    let there: Vec<usize> = (0..40).filter(|row| !GONE.contains(row)).collect();
    assert_eq!(scene.keys(), rows.of_rows(there.iter().copied()).keys);
    for (number, kind) in KINDS.into_iter().enumerate() {
        let found = scores(&scene, kind);
        close(&found, &expected(&there, &there, kind), 1e-6, kind.name());
        let kept: Vec<Vec<f64>> =
            before[number].iter().map(|row| there.iter().map(|place| row[*place]).collect()).collect();
        let differs =
            found.iter().flatten().zip(kept.iter().flatten()).any(|(a, b)| (a / b - 1.0).abs() > 1e-2);
        assert!(differs, "{}: nothing changed", kind.name());
    }
    let answer = scene.answer(&Gradients::of_file(QUERIES), 0, &by(CurvatureKind::Margin));
    let curvature = answer.curvature.unwrap();
    assert!(curvature.ends_with("0 rows came and 4 left since it was fitted"), "{curvature}");
    scene.verify();
}

#[test]
fn leverages_without_deleted_rows_are_those_of_the_rows_that_stay() {
    let (mut scene, rows) = fitted();
    scene.delete(&rows.of_rows(GONE).keys);
    let written = Written::of_file(TRAIN);
    let all: Vec<usize> = (0..40).collect();
    let there: Vec<usize> = (0..40).filter(|row| !GONE.contains(row)).collect();
    let fit = Fit { written: &written, kind: CurvatureKind::Margin, fitted: &all, there: &there };
    let expected: Vec<f64> =
        there.iter().map(|row| fit.leverage(0, *row) * written.weights(0, *row).1.powi(2)).collect();
    let snapshot = scene.store.snapshot();
    let found = snapshot.self_influence(None, Some(CurvatureKind::Margin), &Cancel::new()).unwrap();
    close(&[found], &[expected], 1e-6, "margin");
}

#[test]
fn rows_that_came_and_left_again_change_nothing() {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..25));
    KINDS.into_iter().for_each(|kind| drop(scene.fit(kind)));
    let before = all_scores(&scene);
    let later = rows.of_rows(25..40);
    scene.import(&later);
    for (number, kind) in KINDS.into_iter().enumerate() {
        let found = scores(&scene, kind);
        let first: Vec<Vec<f64>> = found.iter().map(|scores| scores[..25].to_vec()).collect();
        assert_eq!(first, before[number], "rows that come leave the scores of others alone");
        assert!(found.iter().all(|scores| scores[25..].iter().any(|score| *score != 0.0)));
    }
    scene.delete(&later.keys);
    assert_eq!(all_scores(&scene), before);
    scene.verify();
}

#[test]
fn compaction_changes_no_score() {
    let (mut scene, rows) = fitted();
    let mut later = rows.of_rows(0..5);
    later.keys = (40..45).map(|row| format!("r{row}")).collect();
    later.values.iter_mut().flatten().for_each(|value| *value *= -0.75);
    scene.import(&later);
    scene.delete(&rows.of_rows(GONE).keys);
    scene.delete(&[later.keys[2].clone()]);
    let (keys, before) = (scene.keys(), all_scores(&scene));
    compact(&scene);
    assert_eq!(scene.store.snapshot().statistics().deleted_rows, 0);
    assert_eq!((scene.keys(), all_scores(&scene)), (keys, before));
    scene.verify();
}

#[test]
fn compaction_changes_no_score_of_several_members_and_tables() {
    use crate::tensors::{MEMBER_ROWS, several_members};
    let bytes = several_members(1, MEMBER_ROWS, true);
    let rows = Gradients::of_file(&bytes);
    let mut scene = Scene::of_rows(&rows.of_rows(0..12));
    scene.import(&rows.of_rows(12..MEMBER_ROWS));
    KINDS.into_iter().for_each(|kind| drop(scene.fit(kind)));
    scene.delete(&rows.of_rows([3, 15]).keys);
    let asked = Gradients::of_file(&several_members(2, 4, true));
    let all = |scene: &Scene| KINDS.map(|kind| scene.scores(&asked, &by(kind)));
    let before = all(&scene);
    compact(&scene);
    assert_eq!(all(&scene), before);
    scene.verify();
}

#[test]
fn a_row_that_is_replaced_has_left_the_fit_and_come_anew() {
    let (mut scene, rows) = fitted();
    // Row 5 gets the gradient of row 6, and row 9 its own once more.
    let mut other = rows.of_rows([6, 9]);
    other.keys = vec!["r5".to_owned(), "r9".to_owned()];
    let report = scene.try_import(&other.keys, &other, None, OnDuplicate::Replace).unwrap();
    assert_eq!((report.rows, report.filled), (2, false));
    let there: Vec<usize> = (0..40).filter(|row| *row != 5).collect();
    // In the order of ingest the two are the last.
    let mut asked: Vec<usize> = (0..40).filter(|row| ![5, 9].contains(row)).collect();
    let inside = asked.clone();
    asked.push(9);
    for kind in KINDS {
        let found = scores(&scene, kind);
        let known: Vec<Vec<f64>> = found
            .iter()
            .map(|scores| [&scores[..inside.len()], &scores[inside.len() + 1..]].concat())
            .collect();
        // The same gradient under the same key is the same row, wherever it stands.
        close(&known, &expected(&there, &asked, kind), 1e-6, kind.name());
        let replaced: Vec<Vec<f64>> = found.iter().map(|scores| vec![scores[inside.len()]]).collect();
        close(&replaced, &outside(&there, 6, kind), 1e-6, kind.name());
    }
    let answer = scene.answer(&Gradients::of_file(QUERIES), 0, &by(CurvatureKind::Margin));
    let curvature = answer.curvature.unwrap();
    assert!(curvature.ends_with("1 rows came and 1 left since it was fitted"), "{curvature}");
    scene.verify();
}

/// Scores of a row with the gradient of `row`, which is in the fit itself, as if it were another one.
fn outside(there: &[usize], row: usize, kind: CurvatureKind) -> Vec<Vec<f64>> {
    let (mut written, queries) = (Written::of_file(TRAIN), Written::of_file(QUERIES));
    let copy = written.members[0].gradients[row].clone();
    let own = written.members[0].own[row];
    written.members[0].gradients.push(copy);
    written.members[0].own.push(own);
    written.trained.push(written.trained[row]);
    let all: Vec<usize> = (0..40).collect();
    let fit = Fit { written: &written, kind, fitted: &all, there };
    queries.members[0].gradients.iter().map(|query| fit.scores(0, query, &[40])).collect()
}

#[test]
fn an_older_snapshot_keeps_its_rows_and_its_curvature() {
    let (mut scene, rows) = fitted();
    let queries = Gradients::of_file(QUERIES);
    // One that was asked before, and one that opens its curvature only afterwards.
    let (asked, silent) = (scene.store.snapshot(), scene.store.snapshot());
    let ask = |snapshot: &Snapshot| {
        KINDS.map(|kind| crate::scene::scores(snapshot, &queries, &by(kind)).unwrap()).to_vec()
    };
    let before = ask(&asked);
    scene.delete(&rows.of_rows(GONE).keys);
    KINDS.into_iter().for_each(|kind| drop(scene.fit(kind)));
    compact(&scene);
    assert_eq!(ask(&asked), before);
    assert_eq!(ask(&silent), before);
    assert_ne!(all_scores(&scene)[0][0].len(), before[0][0].len());
    drop((asked, silent));
    scene.verify();
}

#[test]
fn a_new_fit_takes_the_place_of_the_old_one_with_its_file() {
    let (mut scene, _) = fitted();
    let files = |scene: &Scene| {
        let names = scene.storage.names();
        names.into_iter().filter(|name| name.ends_with(".cur")).collect::<Vec<String>>()
    };
    assert_eq!(files(&scene), ["curvature/1.cur", "curvature/2.cur", "curvature/3.cur"]);
    let before = scores(&scene, CurvatureKind::Margin);
    drop(scene.fit(CurvatureKind::Margin));
    assert_eq!(files(&scene), ["curvature/1.cur", "curvature/2.cur", "curvature/4.cur"]);
    assert_eq!(scores(&scene, CurvatureKind::Margin), before);
}

#[test]
fn answers_say_what_came_and_left_and_which_forms_need_a_new_fit() {
    let rows = Gradients::of_file(TRAIN);
    for (kind, form, needs) in [
        (CurvatureKind::Identity, None, false),
        (CurvatureKind::Diagonal, None, true),
        (CurvatureKind::Ekfac, None, true),
        (CurvatureKind::Fisher, Some(CurvatureForm::Dual), false),
        (CurvatureKind::Fisher, Some(CurvatureForm::Primal), true),
        (CurvatureKind::Margin, Some(CurvatureForm::Landmarks), true),
    ] {
        let mut scene = Scene::of_rows(&rows.of_rows(0..38));
        scene.try_fit(&FitOptions { kind: Some(kind), form, ..FitOptions::default() }).unwrap();
        let queries = Gradients::of_file(QUERIES);
        let title = |scene: &Scene| scene.answer(&queries, 0, &by(kind)).curvature.unwrap();
        assert!(title(&scene).ends_with("version 1"), "{}", title(&scene));
        scene.import(&rows.of_rows(38..39));
        assert!(title(&scene).ends_with("1 rows came and 0 left since it was fitted"), "{}", title(&scene));
        // As many as before, but others.
        scene.delete(&rows.of_rows([4]).keys);
        let found = title(&scene);
        assert!(found.contains("1 rows came and 1 left since it was fitted"), "{found}");
        assert_eq!(found.ends_with("fit again"), needs, "{found}");
    }
}
