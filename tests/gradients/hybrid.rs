//! Rows found by embeddings and scored by gradients.

use std::sync::Arc;

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::{Cancel, FieldDeclaration, FieldType, RandomStream};
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, CodeBits, ColumnDefinition, CreateOptions, FitOptions, GradientError, GradientInput,
    GradientQuery, HybridCandidates, HybridQuestion, Import, MemberScores, OnDuplicate, QueryInput, Store,
    Watch,
};
use ascribe::sources::Matrix;
use ascribe::storage::SimulatedStorage;

use crate::gradients::Gradients;
use crate::scene::{Scene, by, keys_source, options};
use crate::tensors::several_members;

const ROWS: usize = 200;
const WIDTH: usize = 4;

struct Both {
    scene: Scene,
    vectors: Vec<Vec<f32>>,
    queries: Gradients,
}

/// A store of rows with embeddings and gradients, which have nothing to do with each other.
fn both(kind: CurvatureKind, form: Option<CurvatureForm>, fitted: usize) -> Both {
    with_codes(kind, form, fitted, 1024)
}

/// The same with codes of at most so many coordinates.
fn with_codes(kind: CurvatureKind, form: Option<CurvatureForm>, fitted: usize, codes: usize) -> Both {
    let landmarks = Some(40);
    let fit = FitOptions { kind: Some(kind), form, landmarks, codes: Some(codes), ..FitOptions::default() };
    fitted_by(&fit, fitted)
}

/// The same, fitted so.
fn fitted_by(fit: &FitOptions, fitted: usize) -> Both {
    let rows = Gradients::of_file(&several_members(31, ROWS, true));
    let mut random = RandomStream::new(5);
    let vectors: Vec<Vec<f32>> =
        (0..ROWS).map(|_| (0..WIDTH).map(|_| random.unit() as f32 - 0.5).collect()).collect();
    let storage = SimulatedStorage::new();
    let fields = vec![FieldDeclaration { name: "number".to_owned(), kind: FieldType::Integer }];
    let columns = vec![
        ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH }),
        ColumnDefinition::sketch(rows.schema.clone()),
    ];
    let store =
        Store::create(Arc::new(storage.clone()), CreateOptions { fields, columns }, options()).unwrap();
    let mut scene = Scene { storage, store };
    let fill = |scene: &mut Scene, range: std::ops::Range<usize>| {
        let part = rows.of_rows(range.clone());
        let mut keys = keys_source(&part.keys);
        let values: Vec<u8> =
            vectors[range.clone()].iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {WIDTH}), }}\n", range.len());
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.bytes());
        npy.extend(values);
        let import = Import {
            keys: keys.as_mut(),
            metadata: None,
            embeddings: Some(Matrix::from_npy(&npy, "vectors.npy").unwrap()),
            sketches: Some(&part),
            column: None,
            on_duplicate: OnDuplicate::Error,
        };
        scene.store.import(import, Watch::silent(&Cancel::new())).unwrap();
    };
    fill(&mut scene, 0..fitted);
    scene.try_fit(fit).unwrap();
    if fitted < ROWS {
        fill(&mut scene, fitted..ROWS);
    }
    let queries = Gradients::of_file(&several_members(32, 3, true));
    Both { scene, vectors, queries }
}

impl Both {
    fn ask(&self, row: usize, query: &GradientQuery, candidates: usize) -> Result<Answer, GradientError> {
        let embedding = QueryInput::Vector(self.vectors[row].clone());
        let gradient = GradientInput::Source { source: &self.queries, row };
        let found_by = HybridCandidates::Embedding { input: embedding, column: None };
        let question = HybridQuestion { candidates: found_by, gradient };
        let answers =
            self.scene.store.snapshot().query_hybrid(&[question], query, candidates, &Cancel::new())?;
        Ok(answers.into_iter().next().unwrap())
    }
}

fn same(found: &Answer, expected: &[(String, f64)], what: &str) {
    let hits: Vec<_> = found.proponents.iter().collect();
    assert_eq!(hits.len(), expected.len(), "{what}");
    for (hit, (key, score)) in hits.iter().zip(expected) {
        assert_eq!(&hit.key, key, "{what}");
        assert!((hit.score - score).abs() <= 1e-6 * score.abs().max(1.0), "{what}: {} {score}", hit.score);
    }
}

#[test]
fn hybrid_scores_are_the_gradient_scores_of_the_rows_nearest_by_embedding() {
    for (kind, form, fitted) in [
        (CurvatureKind::Margin, Some(CurvatureForm::Dual), ROWS),
        (CurvatureKind::Fisher, Some(CurvatureForm::Dual), ROWS - 50),
        (CurvatureKind::Margin, Some(CurvatureForm::Landmarks), ROWS),
        (CurvatureKind::Identity, None, ROWS),
    ] {
        let both = both(kind, form, fitted);
        let keys = both.scene.keys();
        for (score, members) in [
            (ScoreKind::Dot, MemberScores::Standardised),
            (ScoreKind::Dot, MemberScores::Raw),
            (ScoreKind::Cosine, MemberScores::Standardised),
        ] {
            let query = GradientQuery { k: 6, kind: score, members, side: Side::Proponents, ..by(kind) };
            let all = both.scene.scores(&both.queries, &query);
            for (row, scores) in all.iter().enumerate() {
                for candidates in [ROWS, 60] {
                    let dot = |other: usize| -> f64 {
                        let pairs = both.vectors[row].iter().zip(&both.vectors[other]);
                        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                    };
                    let mut near: Vec<usize> = (0..ROWS).collect();
                    near.sort_by(|a, b| dot(*b).total_cmp(&dot(*a)));
                    near.retain(|other| dot(*other) > 0.0);
                    near.truncate(candidates);
                    near.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                    let expected: Vec<(String, f64)> =
                        near.iter().take(6).map(|at| (keys[*at].clone(), scores[*at])).collect();
                    let found = both.ask(row, &query, candidates).unwrap();
                    same(&found, &expected, &format!("{} {} {candidates}", kind.name(), score.name()));
                    assert_eq!((found.score, found.plan), ("hybrid", "candidates"));
                    assert!(found.rows_exact <= candidates as u64 && found.curvature.is_some());
                }
            }
        }
    }
}

#[test]
fn filters_and_whole_rows_of_hybrid_scores() {
    let both = both(CurvatureKind::Margin, None, ROWS);
    let query = GradientQuery { filter: Some("number < 50".to_owned()), ..by(CurvatureKind::Margin) };
    let found = both.ask(0, &query, 30).unwrap();
    let number = |key: &str| key[1..].parse::<usize>().unwrap();
    assert!(!found.proponents.is_empty() && found.proponents.iter().all(|hit| number(&hit.key) < 50));
    let (embedding, gradient) = (
        QueryInput::Vector(both.vectors[0].clone()),
        GradientInput::Source { source: &both.queries, row: 0 },
    );
    let candidates = HybridCandidates::Embedding { input: embedding, column: None };
    let question = HybridQuestion { candidates, gradient };
    let query = by(CurvatureKind::Margin);
    let gradient_scores = both.scene.scores(&both.queries, &query).remove(0);
    let mut rows = 0;
    let snapshot = both.scene.store.snapshot();
    snapshot
        .score_hybrid(&[question], &query, 20, &Cancel::new(), |_, scores| {
            assert_eq!(scores.iter().filter(|score| **score != 0.0).count(), 20);
            for (score, gradient) in scores.iter().zip(&gradient_scores).filter(|(score, _)| **score != 0.0) {
                assert!((score - gradient).abs() < 1e-9, "{score} {gradient}");
            }
            rows += scores.len();
            Ok::<(), GradientError>(())
        })
        .unwrap();
    assert_eq!(rows, ROWS);
}

/// Answers by codes to all queries, of a store of which `fitted` rows were fitted.
fn by_codes(both: &Both, query: &GradientQuery, candidates: usize) -> Vec<Answer> {
    let gradients = GradientInput::of_source(&both.queries);
    let question = |gradient: &_| HybridQuestion { candidates: HybridCandidates::Codes, gradient: *gradient };
    let questions: Vec<HybridQuestion<'_>> = gradients.iter().map(question).collect();
    both.scene.store.snapshot().query_hybrid(&questions, query, candidates, &Cancel::new()).unwrap()
}

#[test]
fn codes_find_the_rows_at_both_ends_of_all_rows() {
    for (kind, form, fitted) in [
        (CurvatureKind::Margin, Some(CurvatureForm::Dual), ROWS),
        (CurvatureKind::Fisher, Some(CurvatureForm::Dual), ROWS - 50),
        (CurvatureKind::Margin, Some(CurvatureForm::Landmarks), ROWS),
        (CurvatureKind::Fisher, Some(CurvatureForm::Primal), ROWS - 50),
        (CurvatureKind::Identity, None, ROWS),
    ] {
        let both = both(kind, form, fitted);
        for score in [ScoreKind::Dot, ScoreKind::Relatif] {
            for side in [Side::Both, Side::Opponents] {
                let what = format!("{} {form:?} {} {}", kind.name(), score.name(), side.name());
                let query = GradientQuery { k: 5, kind: score, side, ..by(kind) };
                let snapshot = both.scene.store.snapshot();
                let inputs = GradientInput::of_source(&both.queries);
                let exact = snapshot.query_gradients(&inputs, &query, &Cancel::new()).unwrap();
                let (mut shown, mut found) = (0, 0);
                // One more than is wanted at each end, by codes of as many coordinates as there are landmarks.
                for (exact, near) in exact.iter().zip(by_codes(&both, &query, 12)) {
                    assert!(near.rows_exact <= 12 && near.plan_reason.contains("codes of 40"), "{what}");
                    let near: Vec<_> = near.proponents.iter().chain(&near.opponents).collect();
                    for hit in exact.proponents.iter().chain(&exact.opponents) {
                        shown += 1;
                        if let Some(near) = near.iter().find(|near| near.key == hit.key) {
                            found += 1;
                            let error = (near.score - hit.score).abs();
                            assert!(error <= 1e-6 * hit.score.abs().max(1.0), "{what}: {}", hit.key);
                        }
                    }
                }
                assert!(shown >= 15 && found == shown, "{what}: {found} of {shown}");
            }
        }
        // As many candidates as there are rows: nothing can be missed.
        let query = GradientQuery { k: 9, ..by(kind) };
        for (row, answer) in by_codes(&both, &query, 2 * ROWS).iter().enumerate() {
            let exact = both.scene.answer(&both.queries, row, &query);
            let keys = |answer: &Answer| -> Vec<String> {
                answer.proponents.iter().chain(&answer.opponents).map(|hit| hit.key.clone()).collect()
            };
            assert_eq!(keys(answer), keys(&exact), "{} {form:?}", kind.name());
        }
        let filtered = GradientQuery { filter: Some("number < 50".to_owned()), ..by(kind) };
        let number = |key: &str| key[1..].parse::<usize>().unwrap();
        for answer in by_codes(&both, &filtered, 20) {
            assert!(answer.rows_exact <= 20 && !answer.opponents.is_empty());
            assert!(answer.opponents.iter().all(|hit| number(&hit.key) < 50));
        }
    }
}

#[test]
fn signs_find_most_of_the_rows_at_both_ends() {
    for (kind, codes) in [
        (CurvatureKind::Kfac, None),
        (CurvatureKind::Ekfac, None),
        (CurvatureKind::Diagonal, None),
        (CurvatureKind::Fisher, Some(40)),
        (CurvatureKind::Margin, None),
    ] {
        let landmarks = Some(40);
        let (kind_wanted, code_bits) = (Some(kind), CodeBits::One);
        let fit = FitOptions { kind: kind_wanted, codes, code_bits, landmarks, ..FitOptions::default() };
        // The last rows came after the fit.
        let both = fitted_by(&fit, ROWS - 50);
        let query = GradientQuery { k: 5, ..by(kind) };
        let (mut shown, mut found) = (0, 0);
        for (row, near) in by_codes(&both, &query, 60).iter().enumerate() {
            let exact = both.scene.answer(&both.queries, row, &query);
            let near: Vec<_> = near.proponents.iter().chain(&near.opponents).collect();
            for hit in exact.proponents.iter().chain(&exact.opponents) {
                shown += 1;
                if let Some(near) = near.iter().find(|near| near.key == hit.key) {
                    found += 1;
                    let error = (near.score - hit.score).abs();
                    assert!(error <= 1e-6 * hit.score.abs().max(1.0), "{}: {}", kind.name(), hit.key);
                }
            }
        }
        // Of 200 rows 30 are candidates at each end: by chance 4 of 30 would be found.
        assert!(shown == 30 && found >= 24, "{}: {found} of {shown}", kind.name());
        for (row, answer) in by_codes(&both, &query, 2 * ROWS).iter().enumerate() {
            let exact = both.scene.answer(&both.queries, row, &query);
            let keys = |answer: &Answer| -> Vec<String> {
                answer.proponents.iter().chain(&answer.opponents).map(|hit| hit.key.clone()).collect()
            };
            assert_eq!(keys(answer), keys(&exact), "{}", kind.name());
        }
        both.scene.verify();
    }
}

#[test]
fn codes_are_those_of_the_members_that_are_asked_and_of_the_rows_that_are_there() {
    for (kind, form) in [
        (CurvatureKind::Margin, Some(CurvatureForm::Dual)),
        (CurvatureKind::Fisher, Some(CurvatureForm::Landmarks)),
    ] {
        let mut both = with_codes(kind, form, ROWS - 50, 32);
        // Of the fit, and of those that came later, among them strong ones.
        let strong = both.scene.answer(&both.queries, 0, &GradientQuery { k: 3, ..by(kind) });
        let mut gone: Vec<String> = strong.proponents.iter().map(|hit| hit.key.clone()).collect();
        gone.extend(["r160".to_owned(), "r7".to_owned()]);
        gone.sort();
        gone.dedup();
        both.scene.delete(&gone);
        for member in 0..2 {
            let query = GradientQuery { k: 4, only_members: vec![member], ..by(kind) };
            let (mut shown, mut found) = (0, 0);
            for (row, near) in by_codes(&both, &query, 60).iter().enumerate() {
                assert_eq!(near.rows_by_codes, (ROWS - gone.len()) as u64);
                let exact = both.scene.answer(&both.queries, row, &query);
                let near: Vec<_> = near.proponents.iter().chain(&near.opponents).collect();
                assert!(near.iter().all(|hit| !gone.contains(&hit.key)), "{}", kind.name());
                for hit in exact.proponents.iter().chain(&exact.opponents) {
                    shown += 1;
                    if let Some(near) = near.iter().find(|near| near.key == hit.key) {
                        found += 1;
                        let error = (near.score - hit.score).abs();
                        assert!(error <= 1e-6 * hit.score.abs(), "{}: {}", kind.name(), hit.key);
                    }
                }
            }
            assert!(shown == 24 && found >= 20, "{} {member}: {found} of {shown}", kind.name());
        }
    }
}

#[test]
fn what_codes_cannot_do_is_refused() {
    let rows = Gradients::of_file(&several_members(31, 30, true));
    let mut scene = Scene::of_rows(&rows);
    let signs = |codes| FitOptions {
        kind: Some(CurvatureKind::Identity),
        codes,
        code_bits: CodeBits::One,
        ..FitOptions::default()
    };
    for codes in [None, Some(8)] {
        let error = scene.try_fit(&signs(codes)).unwrap_err().to_string();
        assert!(error.contains("half-whitened") && error.contains("identity whitens nothing"), "{error}");
    }
    let fit = |kind, codes| FitOptions { kind: Some(kind), codes, ..FitOptions::default() };
    for (kind, codes, words) in [
        (CurvatureKind::Diagonal, 8, "not with diagonal"),
        (CurvatureKind::Ekfac, 8, "not with ekfac"),
        (CurvatureKind::Margin, 0, "1 to 1024"),
        (CurvatureKind::Margin, 1025, "1 to 1024"),
    ] {
        let error = scene.try_fit(&fit(kind, Some(codes))).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    scene.try_fit(&fit(CurvatureKind::Margin, None)).unwrap();
    let gradient = GradientInput::Source { source: &rows, row: 0 };
    let question = HybridQuestion { candidates: HybridCandidates::Codes, gradient };
    let query = by(CurvatureKind::Margin);
    let snapshot = scene.store.snapshot();
    let error = snapshot.query_hybrid(&[question], &query, 10, &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("has no codes") && error.contains("--codes"), "{error}");
}

#[test]
fn what_hybrid_scores_do_not_tell_is_refused() {
    let both = both(CurvatureKind::Identity, None, ROWS);
    let query = by(CurvatureKind::Identity);
    for (query, words) in [
        (GradientQuery { k: 0, ..query.clone() }, "row"),
        (GradientQuery { layers: true, ..query.clone() }, "--score gradient"),
        (GradientQuery { without: Some("number < 3".to_owned()), ..query.clone() }, "--score gradient"),
        (GradientQuery { only_members: vec![7], ..query.clone() }, "no member 7"),
        (GradientQuery { filter: Some("colour = 1".to_owned()), ..query.clone() }, "number"),
    ] {
        let text = both.ask(0, &query, 10).unwrap_err().to_string();
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    let gradient = GradientInput::Source { source: &both.queries, row: 0 };
    let candidates = HybridCandidates::Embedding { input: QueryInput::Vector(vec![0.5; 3]), column: None };
    let question = HybridQuestion { candidates, gradient };
    let snapshot = both.scene.store.snapshot();
    let error = snapshot.query_hybrid(&[question], &query, 10, &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains("3 values"), "{error}");
}
