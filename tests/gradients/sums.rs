//! Sums of gradients that are kept for later fits: a fit is the same with them and without them, whatever happened to them.

use std::sync::Arc;

use ascribe::base::{Cancel, RandomStream};
use ascribe::curvature::{CurvatureForm, CurvatureKind, GradientSums, MemberGradients, RowWeights};
use ascribe::engine::{
    ColumnDefinition, CreateOptions, FitOptions, FitReport, FitSums, GradientError, GradientInput,
    OnDuplicate, OpenOptions, Store, Watch,
};
use ascribe::format::{ColumnHeader, FileRecord, SumsHeader, SumsKind, curvature_section};
use ascribe::sketch::SketchRows;
use ascribe::storage::{
    ColumnFile, Failure, SimulatedStorage, Storage, SumsFile, open_curvature_file, sums_file_name,
    write_sums_file,
};

use crate::damage::published;
use crate::gradients::Gradients;
use crate::scene::{Scene, by, close, options, problems};
use crate::tensors::several_members;

/// Bytes between two that are flipped.
const FLIPPED_APART: usize = 397;

/// Fits that take sums.
const FITS: [(CurvatureKind, Option<CurvatureForm>, SumsKind); 4] = [
    (CurvatureKind::Fisher, Some(CurvatureForm::Primal), SumsKind::Fisher),
    (CurvatureKind::Margin, Some(CurvatureForm::Primal), SumsKind::Margin),
    (CurvatureKind::Diagonal, None, SumsKind::Diagonal),
    (CurvatureKind::Trak, Some(CurvatureForm::Primal), SumsKind::Trak),
];

/// 160 rows of two members with 34 parameters: segments of half as many are worth a file for each kind.
fn rows() -> Gradients {
    Gradients::of_file(&several_members(21, 160, true))
}

fn open_options(sums_rows_min: u32) -> OpenOptions {
    OpenOptions { sums_rows_min, ..options() }
}

/// An empty store that keeps sums of segments from so many rows on.
fn empty(gradients: &Gradients, sums_rows_min: u32) -> Scene {
    let storage = SimulatedStorage::new();
    let columns = vec![ColumnDefinition::sketch(gradients.schema.clone())];
    let fields = vec![ascribe::base::FieldDeclaration {
        name: "number".to_owned(),
        kind: ascribe::base::FieldType::Integer,
    }];
    let medium: Arc<dyn Storage> = Arc::new(storage.clone());
    let create = CreateOptions { fields, columns };
    Scene { storage, store: Store::create(medium, create, open_options(sums_rows_min)).unwrap() }
}

/// A store with these rows, `segment_rows` in each segment.
fn scene(gradients: &Gradients, segment_rows: usize, sums_rows_min: u32) -> Scene {
    let mut scene = empty(gradients, sums_rows_min);
    let all: Vec<usize> = (0..gradients.keys.len()).collect();
    for rows in all.chunks(segment_rows) {
        scene.import(&gradients.of_rows(rows.iter().copied()));
    }
    scene
}

/// A store that keeps no sums, fitted to these rows.
fn unkept(gradients: &Gradients, segment_rows: usize, fit: Fit) -> Vec<Vec<f64>> {
    let mut scene = scene(gradients, segment_rows, u32::MAX);
    let report = fitted(&mut scene, fit);
    let sums = report.sums.clone().unwrap();
    assert_eq!((sums.kept, sums.rows_added), (0, gradients.keys.len() as u64));
    assert_eq!(sums_files(&scene), Vec::<String>::new());
    values(&scene, &report)
}

type Fit = (CurvatureKind, Option<CurvatureForm>, SumsKind);

fn fitted(scene: &mut Scene, (kind, form, _): Fit) -> FitReport {
    scene.try_fit(&FitOptions { kind: Some(kind), form, ..FitOptions::default() }).unwrap()
}

/// What a fit found: its dampings, and each member's inverse or diagonal.
fn values(scene: &Scene, report: &FitReport) -> Vec<Vec<f64>> {
    let curvatures = published(&scene.storage).store.curvatures;
    let record = curvatures.iter().find(|record| record.version == report.version).unwrap();
    let file = open_curvature_file(&scene.storage, record.version, record.column, record.file).unwrap();
    let section = |tag: u32| {
        let section = file.section(tag)?;
        Some(file.read(section, 0..section.length).unwrap().to_vec())
    };
    let halves = |bytes: Vec<u8>| -> Vec<f64> {
        bytes.chunks(4).map(|half| f64::from(f32::from_le_bytes(half.try_into().unwrap()))).collect()
    };
    let found: Vec<f64> = match section(curvature_section::DIAGONAL) {
        Some(bytes) => bytes.chunks(8).map(|value| f64::from_le_bytes(value.try_into().unwrap())).collect(),
        None => {
            let [high, low] = [curvature_section::INVERSE, curvature_section::INVERSE_REST]
                .map(|tag| halves(section(tag).unwrap()));
            high.iter().zip(low).map(|(high, low)| high + low).collect()
        }
    };
    // Each module and member has its own size: none may hide behind another one.
    let members = found.chunks(found.len() / 2).map(<[f64]>::to_vec);
    members.chain(report.damping.iter().flatten().map(|damping| vec![*damping])).collect()
}

fn alike(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(found, expected)| {
        close(std::slice::from_ref(found), std::slice::from_ref(expected), tolerance, what);
    });
}

fn sums_files(scene: &Scene) -> Vec<String> {
    scene.storage.names().into_iter().filter(|name| name.contains(".sums")).collect()
}

fn report(segments: usize, kept: usize, rows_added: u64, rows_taken_away: u64) -> Option<FitSums> {
    Some(FitSums { segments, kept, rows_added, rows_taken_away, unwritten: None })
}

/// What each column file says of itself, in the order of ingest.
fn columns(storage: &SimulatedStorage) -> Vec<(ColumnHeader, FileRecord)> {
    let segments = published(storage).segments.into_iter().map(|segment| {
        let record = &segment.columns[0];
        let opened =
            ColumnFile::open(storage, segment.id, record.column, segment.row_count, record.file).unwrap();
        (opened.header().clone(), record.file)
    });
    segments.collect()
}

/// What is to be expected of the sums of a member over some rows.
fn expected(gradients: &Gradients, rows: &[usize], member: u32, kind: SumsKind) -> GradientSums {
    let layout = gradients.schema.layout();
    let (mut own, mut weights) = (MemberGradients::empty(layout), Vec::new());
    for row in rows {
        let decoded = SketchRows {
            values: gradients.values[*row].clone(),
            terms: gradients.terms[*row].clone(),
            outcomes: gradients.outcomes[*row].clone(),
        };
        own.push(layout, member, &decoded, 0);
        let outcome = decoded.outcome(layout, 0).unwrap();
        weights.push(match kind {
            SumsKind::Margin => RowWeights::margin(outcome.own[member as usize], outcome.trained),
            SumsKind::Trak => RowWeights::trak(outcome.own[member as usize]),
            _ => RowWeights::none(),
        });
    }
    let mut sums = match kind {
        SumsKind::Diagonal => GradientSums::squares(&own),
        _ => GradientSums::outer_products(&own).unwrap(),
    };
    sums.add(&own, &weights);
    sums
}

#[test]
fn files_hold_the_sums_of_all_rows_of_their_segment_deleted_or_not() {
    let gradients = rows();
    let mut scene = scene(&gradients, 80, 1);
    // Before the first fit and after it.
    scene.delete(&gradients.of_rows([3, 90]).keys);
    FITS.into_iter().for_each(|fit| drop(fitted(&mut scene, fit)));
    scene.delete(&gradients.of_rows([4, 91]).keys);
    FITS.into_iter().for_each(|fit| drop(fitted(&mut scene, fit)));
    for (number, (header, origin)) in columns(&scene.storage).into_iter().enumerate() {
        for (.., kind) in FITS {
            let header = SumsHeader::of_column(&header, kind, 34);
            let file = SumsFile::open(&scene.storage, &header, origin).unwrap().unwrap();
            let of_segment: Vec<usize> = (number * 80..(number + 1) * 80).collect();
            for member in 0..2 {
                let whole = expected(&gradients, &of_segment, member, kind);
                let what = format!("{} of segment {number}", kind.name());
                alike(&[file.member(member).unwrap()], &[whole.values().to_vec()], 1e-12, &what);
            }
            assert!(file.member(2).is_err());
        }
    }
    assert_eq!(sums_files(&scene).len(), 2 * FITS.len());
    scene.verify();
}

#[test]
fn a_fit_is_the_same_with_kept_sums_and_without() {
    let gradients = rows();
    for fit in FITS {
        let mut scene = scene(&gradients, 80, 1);
        let first = fitted(&mut scene, fit);
        assert_eq!((first.sums.clone(), first.rows), (report(2, 0, 160, 0), 160));
        let before = values(&scene, &first);
        alike(&before, &unkept(&gradients, 80, fit), 1e-12, &format!("{fit:?}"));
        let again = fitted(&mut scene, fit);
        assert_eq!((again.sums.clone(), again.rows), (report(2, 2, 0, 0), 160));
        // Not even a bit differs as long as no row is deleted.
        assert!(values(&scene, &again) == before, "{fit:?}");
        let gone: Vec<usize> = (0..160).filter(|row| row % 5 == 2).collect();
        let live: Vec<usize> = (0..160).filter(|row| row % 5 != 2).collect();
        scene.delete(&gradients.of_rows(gone).keys);
        let less = fitted(&mut scene, fit);
        assert_eq!((less.sums.clone(), less.rows), (report(2, 2, 0, 32), 128));
        let expected = unkept(&gradients.of_rows(live), 160, fit);
        alike(&values(&scene, &less), &expected, 1e-9, &format!("{fit:?}"));
        scene.verify();
    }
}

#[test]
fn only_rows_that_came_or_left_are_added_up() {
    let gradients = rows();
    for fit in FITS {
        let mut scene = scene(&gradients.of_rows(0..80), 80, 1);
        assert_eq!(fitted(&mut scene, fit).sums, report(1, 0, 80, 0));
        scene.import(&gradients.of_rows(80..160));
        assert_eq!(fitted(&mut scene, fit).sums, report(2, 1, 80, 0));
        scene.delete(&gradients.of_rows(100..108).keys);
        assert_eq!(fitted(&mut scene, fit).sums, report(2, 2, 0, 8));
        // Half of a segment may go; where more do, the rows that stay are added up.
        scene.delete(&gradients.of_rows(0..41).keys);
        let left = fitted(&mut scene, fit);
        assert_eq!(left.sums, report(2, 1, 39, 8));
        let live: Vec<usize> = (41..100).chain(108..160).collect();
        let expected = unkept(&gradients.of_rows(live), 111, fit);
        alike(&values(&scene, &left), &expected, 1e-9, &format!("{fit:?}"));
        scene.delete(&gradients.of_rows(41..80).keys);
        assert_eq!(fitted(&mut scene, fit).sums, report(1, 1, 0, 8));
        scene.verify();
    }
}

#[test]
fn rows_that_came_and_left_again_leave_the_fit_as_it_was() {
    let gradients = rows();
    let mut random = RandomStream::new(5);
    for fit in FITS {
        let mut scene = scene(&gradients, 80, 1);
        let report = fitted(&mut scene, fit);
        let before = values(&scene, &report);
        for turn in 0..3 {
            // Some rows get the gradients of others and then their own again, from another segment.
            let chosen: Vec<usize> = (0..160).filter(|_| random.below(8) == 0).collect();
            let mut other = gradients.of_rows(chosen.iter().map(|row| (row + 7) % 160));
            other.keys = gradients.of_rows(chosen.iter().copied()).keys;
            scene.try_import(&other.keys, &other, None, OnDuplicate::Replace).unwrap();
            let changed = fitted(&mut scene, fit);
            assert_ne!(values(&scene, &changed), before, "{fit:?}");
            let own = gradients.of_rows(chosen.iter().copied());
            scene.try_import(&own.keys, &own, None, OnDuplicate::Replace).unwrap();
            let mut new = gradients.of_rows(0..40);
            new.keys = (200..240).map(|row| format!("r{row}")).collect();
            scene.import(&new);
            fitted(&mut scene, fit);
            scene.delete(&new.keys);
            let again = fitted(&mut scene, fit);
            assert_eq!(again.rows, 160);
            assert!(again.sums.as_ref().unwrap().kept >= 1, "{again:?}");
            alike(&values(&scene, &again), &before, 1e-9, &format!("{fit:?}, turn {turn}"));
        }
        scene.verify();
    }
}

#[test]
fn what_is_left_of_much_larger_rows_is_added_up_anew() {
    let mut gradients = rows();
    for row in [5, 6] {
        gradients.values[row].iter_mut().for_each(|value| *value *= 1e6);
    }
    for fit in FITS {
        let mut scene = scene(&gradients, 160, 1);
        fitted(&mut scene, fit);
        scene.delete(&gradients.of_rows([5, 6]).keys);
        let left = fitted(&mut scene, fit);
        assert_eq!(left.sums, report(1, 0, 158, 0));
        let live = gradients.of_rows((0..160).filter(|row| ![5, 6].contains(row)));
        assert_eq!(values(&scene, &left), unkept(&live, 158, fit), "{fit:?}");
        scene.verify();
    }
}

#[test]
fn rows_of_zeros_are_counted_whatever_was_kept() {
    let mut gradients = rows();
    for row in [1, 2, 90] {
        gradients.values[row].fill(0.0);
        gradients.outcomes[row].fill(f32::NAN);
    }
    for fit in FITS {
        let mut scene = scene(&gradients, 80, 1);
        assert_eq!(fitted(&mut scene, fit).zero_rows, 3);
        let again = fitted(&mut scene, fit);
        assert_eq!((again.zero_rows, again.sums), (3, report(2, 2, 0, 0)));
        scene.delete(&gradients.of_rows([2, 3]).keys);
        let less = fitted(&mut scene, fit);
        assert_eq!((less.zero_rows, less.sums), (2, report(2, 2, 0, 2)));
        scene.verify();
    }
}

#[test]
fn deleted_rows_without_an_outcome_keep_nobody_from_a_fit() {
    let mut gradients = rows();
    gradients.outcomes[9].fill(f32::NAN);
    let margin = FITS[1];
    let mut scene = scene(&gradients, 160, 1);
    let options = FitOptions { kind: Some(margin.0), form: margin.1, ..FitOptions::default() };
    let error = scene.try_fit(&options).unwrap_err().to_string();
    assert!(error.contains("\"r9\"") && error.contains("\"own\""), "{error}");
    scene.delete(&gradients.of_rows([9]).keys);
    for _ in 0..2 {
        assert_eq!(fitted(&mut scene, margin).sums, report(1, 0, 159, 0));
    }
    assert_eq!(sums_files(&scene), Vec::<String>::new());
    // The other kinds do not ask for it.
    assert_eq!(fitted(&mut scene, FITS[0]).sums, report(1, 0, 159, 0));
    assert_eq!(fitted(&mut scene, FITS[0]).sums, report(1, 1, 0, 1));
    scene.verify();
}

/// A closed store with a file of sums for each of two segments, the name of the first one's, and what was fitted without any.
fn closed(fit: Fit) -> (SimulatedStorage, String, Vec<Vec<f64>>) {
    let gradients = rows();
    let mut scene = scene(&gradients, 80, 1);
    let report = fitted(&mut scene, fit);
    let expected = values(&scene, &report);
    let (header, _) = &columns(&scene.storage)[0];
    let name = sums_file_name(header.segment, header.column, fit.2);
    (scene.verify(), name, expected)
}

/// Fits a copy of a store whose file of sums holds `bytes`: the same must be found, and the file be whole again.
fn fits_all_the_same(
    storage: &SimulatedStorage,
    name: &str,
    bytes: Option<&[u8]>,
    (fit, expected): (Fit, &[Vec<f64>]),
    what: &str,
) {
    let what = format!("{fit:?}, {what}");
    let (changed, whole) = (storage.duplicate(), storage.read_file(name).unwrap());
    match bytes {
        Some(bytes) => changed.overwrite_file(name, bytes).unwrap(),
        None => changed.remove(name).unwrap(),
    }
    let found = problems(&changed);
    match bytes {
        None => assert_eq!(found, Vec::<String>::new(), "{what}"),
        Some(_) => {
            assert!(found.len() == 1 && found[0].contains(name), "{what}: {found:?}");
            assert!(found[0].contains("nothing is lost") && found[0].contains("ascribe fit"), "{found:?}");
        }
    }
    let store = Store::open(Arc::new(changed.clone()) as Arc<dyn Storage>, open_options(1)).unwrap();
    let mut scene = Scene { storage: changed, store };
    let again = fitted(&mut scene, fit);
    assert_eq!(again.sums, report(2, 1, 80, 0), "{what}");
    assert!(values(&scene, &again) == expected, "{what}: another answer");
    assert_eq!(scene.storage.read_file(name).unwrap(), whole, "{what}");
    scene.verify();
}

#[test]
fn missing_cut_changed_and_exchanged_files_change_nothing_and_are_made_anew() {
    for fit in FITS {
        let (storage, name, expected) = closed(fit);
        let whole = storage.read_file(&name).unwrap();
        let check = |bytes: Option<&[u8]>, what: &str| {
            fits_all_the_same(&storage, &name, bytes, (fit, &expected), what);
        };
        check(None, "missing");
        for length in [0, 1, 63, 64, 576, whole.len() / 2, whole.len() - 1] {
            check(Some(&whole[..length]), &format!("cut at {length}"));
        }
        for place in (0..whole.len()).step_by(FLIPPED_APART) {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            check(Some(&bytes), &format!("byte {place}"));
        }
        let others =
            storage.names().into_iter().filter(|other| other.starts_with("segments/") && *other != name);
        for other in others {
            check(Some(&storage.read_file(&other).unwrap()), &other);
        }
    }
}

#[test]
fn files_that_someone_wrote_on_purpose_are_believed_only_where_they_can_be_right() {
    for fit in FITS {
        let (storage, name, expected) = closed(fit);
        let (header, origin) = columns(&storage).swap_remove(0);
        let header = SumsHeader::of_column(&header, fit.2, 34);
        let file = SumsFile::open(&storage, &header, origin).unwrap().unwrap();
        let sums = [file.member(0).unwrap(), file.member(1).unwrap()];
        drop(file);
        let written = |header: &SumsHeader, origin: FileRecord, sums: &[Vec<f64>; 2]| {
            let made = storage.duplicate();
            made.remove(&name).unwrap();
            write_sums_file(&made, header, origin, &sums.each_ref().map(Vec::as_slice)).unwrap();
            made.read_file(&name).unwrap()
        };
        assert!(written(&header, origin, &sums) == storage.read_file(&name).unwrap());
        let check = |bytes: &[u8], what: &str| {
            fits_all_the_same(&storage, &name, Some(bytes), (fit, &expected), what);
        };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for place in [0, 5, sums[1].len() - 1] {
                let mut other = sums.clone();
                other[1][place] = value;
                check(&written(&header, origin, &other), &format!("{value} at {place}"));
            }
        }
        check(
            &written(&header, FileRecord { root: origin.root ^ 1, ..origin }, &sums),
            "another column file",
        );
        let fewer = SumsHeader { row_count: 79, ..header.clone() };
        check(&written(&fewer, origin, &sums), "fewer rows");
        let other = SumsHeader { parameters: 33, ..header.clone() };
        let short = sums.clone().map(|sums| sums[..other.values_a_member().unwrap() as usize].to_vec());
        check(&written(&other, origin, &short), "fewer parameters");
        let refused =
            write_sums_file(&storage, &header, origin, &short.each_ref().map(Vec::as_slice)).unwrap_err();
        assert!(refused.to_string().contains(&name), "{refused}");
    }
}

#[test]
fn sums_that_cannot_be_written_keep_nobody_from_a_fit() {
    for fit in FITS {
        let gradients = rows();
        let mut scene = scene(&gradients, 160, 1);
        scene.storage.fail_operation(0, Failure::Once);
        let first = fitted(&mut scene, fit);
        let sums = first.sums.clone().unwrap();
        assert!(sums.unwritten.is_some_and(|reason| reason.contains(".sums")), "{first:?}");
        assert_eq!(values(&scene, &first), unkept(&gradients, 160, fit));
        assert_eq!(fitted(&mut scene, fit).sums, report(1, 0, 160, 0));
        assert_eq!(fitted(&mut scene, fit).sums, report(1, 1, 0, 0));
        scene.verify();
    }
}

#[test]
fn sums_leave_with_their_segment_and_their_column() {
    let gradients = rows();
    for fit in FITS {
        let mut scene = scene(&gradients, 80, 1);
        fitted(&mut scene, fit);
        let before = sums_files(&scene);
        assert_eq!(before.len(), 2);
        scene.delete(&gradients.of_rows([11, 99]).keys);
        let first = fitted(&mut scene, fit);
        let expected = values(&scene, &first);
        assert_eq!(sums_files(&scene), before);
        assert_eq!(scene.store.compact(Watch::silent(&Cancel::new())).unwrap().merges, 1);
        assert_eq!(sums_files(&scene), Vec::<String>::new());
        let merged = fitted(&mut scene, fit);
        assert_eq!(merged.sums, report(1, 0, 158, 0));
        alike(&values(&scene, &merged), &expected, 1e-9, &format!("{fit:?}"));
        assert_eq!(sums_files(&scene).len(), 1);
        assert_eq!(fitted(&mut scene, fit).sums, report(1, 1, 0, 0));
        let other = ColumnDefinition {
            name: "other".to_owned(),
            ..ColumnDefinition::sketch(gradients.schema.clone())
        };
        scene.store.add_column(other, Watch::silent(&Cancel::new())).unwrap();
        assert_eq!(sums_files(&scene).len(), 1);
        scene.store.drop_column("sketch").unwrap();
        assert_eq!(sums_files(&scene), Vec::<String>::new());
        scene.verify();
    }
}

#[test]
fn fits_that_need_the_gradients_themselves_and_dampings_that_are_tried_keep_no_sums() {
    let gradients = rows();
    let mut scene = scene(&gradients, 80, 1);
    for (kind, form) in [
        (CurvatureKind::Identity, None),
        (CurvatureKind::Fisher, Some(CurvatureForm::Dual)),
        (CurvatureKind::Margin, Some(CurvatureForm::Landmarks)),
    ] {
        let report = scene.try_fit(&FitOptions { kind: Some(kind), form, ..FitOptions::default() }).unwrap();
        assert_eq!(report.sums, None);
    }
    let asked = gradients.of_rows([0]);
    let mut tried = Vec::new();
    for is_kept in [false, true] {
        for (kind, form, _) in FITS {
            let options = FitOptions { kind: Some(kind), form, ..FitOptions::default() };
            let inputs = GradientInput::of_source(&asked);
            let (cancel, snapshot) = (Cancel::new(), scene.store.snapshot());
            let watch = Watch::silent(&cancel);
            let scored =
                snapshot.score_dampings(&options, &[0.01], &inputs, &by(kind), watch, |_, _, scores| {
                    tried.push(scores.to_vec());
                    Ok::<(), GradientError>(())
                });
            scored.unwrap();
        }
        if !is_kept {
            assert_eq!(sums_files(&scene), Vec::<String>::new());
            FITS.into_iter().for_each(|fit| drop(fitted(&mut scene, fit)));
            assert_eq!(sums_files(&scene).len(), 2 * FITS.len());
        }
    }
    // They take what is there.
    assert_eq!(tried[..FITS.len()], tried[FITS.len()..]);
    scene.verify();
}

#[test]
fn small_segments_are_added_up_each_time() {
    let gradients = rows();
    for fit in FITS {
        let mut scene = scene(&gradients, 80, 81);
        for _ in 0..2 {
            assert_eq!(fitted(&mut scene, fit).sums, report(2, 0, 160, 0));
        }
        assert_eq!(sums_files(&scene), Vec::<String>::new());
        scene.verify();
    }
    // As many rows as parameters are not worth their outer products.
    for (segment_rows, kept) in [(34, 0), (35, 2)] {
        let mut scene = scene(&gradients.of_rows(0..2 * segment_rows), segment_rows, 1);
        fitted(&mut scene, FITS[0]);
        assert_eq!(fitted(&mut scene, FITS[0]).sums.unwrap().kept, kept);
        scene.verify();
    }
}
