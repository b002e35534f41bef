//! Damaged curvature files: whatever stands there, an answer is a typed error, and the store lives on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ascribe::base::Cancel;
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{
    CodeBits, FitOptions, GradientError, GradientInput, HybridCandidates, HybridQuestion, QueryError, Reader,
    Store, TransactionError,
};
use ascribe::format::{
    CurvatureRecord, Manifest, curvature_section, decode_current, decode_manifest, encode_manifest,
    manifest_name,
};
use ascribe::storage::{
    SimulatedStorage, Storage, curvature_file_name, open_curvature_file, write_curvature_file,
};

use crate::gradients::Gradients;
use crate::scene::{QUERIES, Scene, TRAIN, by, options, problems, scores};

/// Bytes between two that are flipped, beside the first of each section.
const FLIPPED_APART: usize = 61;

const FITS: [(CurvatureKind, Option<CurvatureForm>, &[u32]); 8] = [
    (CurvatureKind::Identity, None, &[1, 2, 3, LENGTHS]),
    (CurvatureKind::Diagonal, None, &[1, 2, 3, curvature_section::DIAGONAL, LENGTHS]),
    (CurvatureKind::Kfac, None, &KRONECKER_SECTIONS),
    (
        CurvatureKind::Ekfac,
        None,
        &[
            1,
            2,
            3,
            curvature_section::DIAGONAL,
            LENGTHS,
            curvature_section::CODES,
            curvature_section::CODE_SCALES,
            curvature_section::BASES,
        ],
    ),
    (CurvatureKind::Fisher, Some(CurvatureForm::Dual), &DUAL_SECTIONS),
    (CurvatureKind::Margin, Some(CurvatureForm::Dual), &DUAL_SECTIONS),
    (
        CurvatureKind::Fisher,
        Some(CurvatureForm::Primal),
        &[1, 2, 3, curvature_section::INVERSE, curvature_section::INVERSE_REST, LENGTHS],
    ),
    (
        CurvatureKind::Margin,
        Some(CurvatureForm::Landmarks),
        &[
            1,
            2,
            3,
            curvature_section::WEIGHTS,
            curvature_section::LANDMARKS,
            curvature_section::MIXING,
            curvature_section::SUMS,
            LENGTHS,
            curvature_section::CODE_FACTORS,
            curvature_section::CODE_MATRIX,
            curvature_section::CODES,
            curvature_section::CODE_SCALES,
        ],
    ),
];

const LENGTHS: u32 = curvature_section::LENGTHS;

const KRONECKER_SECTIONS: [u32; 6] =
    [1, 2, 3, curvature_section::DIAGONAL, LENGTHS, curvature_section::BASES];

/// Beginning with head, keys and prints, as all do.
const DUAL_SECTIONS: [u32; 6] = [
    curvature_section::HEAD,
    curvature_section::KEYS,
    curvature_section::PRINTS,
    curvature_section::WEIGHTS,
    curvature_section::INVERSE,
    curvature_section::INVERSE_REST,
];

fn medium(storage: &SimulatedStorage) -> Arc<dyn Storage> {
    Arc::new(storage.clone())
}

/// The newest state that readers see.
pub(crate) fn published(storage: &SimulatedStorage) -> Manifest {
    let commit = decode_current(&storage.read_file("CURRENT").unwrap()).unwrap();
    decode_manifest(&storage.read_file(&manifest_name(commit)).unwrap(), commit).unwrap()
}

fn publish(storage: &SimulatedStorage, manifest: &Manifest) {
    let name = manifest_name(manifest.store.commit);
    storage.overwrite_file(&name, &encode_manifest(manifest).unwrap()).unwrap();
}

/// A closed store with one curvature, to which some rows came and of which some left.
fn closed(kind: CurvatureKind, form: Option<CurvatureForm>) -> (SimulatedStorage, CurvatureRecord) {
    let rows = Gradients::of_file(TRAIN);
    let mut scene = Scene::of_rows(&rows.of_rows(0..14));
    let codes = (form == Some(CurvatureForm::Landmarks)).then_some(5);
    let code_bits = if kind == CurvatureKind::Ekfac { CodeBits::One } else { CodeBits::Eight };
    let fit = FitOptions { kind: Some(kind), form, codes, code_bits, ..FitOptions::default() };
    scene.try_fit(&fit).unwrap();
    scene.import(&rows.of_rows(14..20));
    scene.delete(&rows.of_rows([2, 16]).keys);
    let storage = scene.verify();
    let record = published(&storage).store.curvatures.remove(0);
    (storage, record)
}

/// Whether codes are kept beside a fit: one has every section there is.
fn has_codes(record: &CurvatureRecord) -> bool {
    record.form == CurvatureForm::Landmarks.name() || record.kind == CurvatureKind::Ekfac.name()
}

/// Scores of a store as readers see it, and of candidates by codes where there are some.
fn ask(storage: &SimulatedStorage, kind: CurvatureKind) -> Result<Vec<Vec<f64>>, GradientError> {
    let reader = Reader::open(medium(storage), options()).unwrap();
    let query = ascribe::engine::GradientQuery { kind: ascribe::attribution::ScoreKind::Cosine, ..by(kind) };
    let (snapshot, queries) = (reader.snapshot(), Gradients::of_file(QUERIES));
    let mut found = scores(&snapshot, &queries, &query)?;
    if has_codes(&published(storage).store.curvatures[0]) {
        let gradient = GradientInput::Source { source: &queries, row: 0 };
        let question = HybridQuestion { candidates: HybridCandidates::Codes, gradient };
        snapshot.score_hybrid(&[question], &query, 7, &Cancel::new(), |_, scores| {
            found.push(scores.to_vec());
            Ok::<(), GradientError>(())
        })?;
    }
    Ok(found)
}

fn is_of_file(error: &GradientError) -> bool {
    matches!(
        error,
        GradientError::Query(QueryError::File(_)) | GradientError::Transaction(TransactionError::File(_))
    )
}

#[test]
fn a_flipped_byte_of_any_section_is_an_error_and_is_found() {
    for (kind, form, tags) in FITS {
        let (storage, record) = closed(kind, form);
        let expected = ask(&storage, kind).unwrap();
        let name = curvature_file_name(record.version);
        let whole = storage.read_file(&name).unwrap();
        let file = open_curvature_file(&storage, record.version, record.column, record.file).unwrap();
        let known: Vec<u32> = (0..20).filter(|tag| file.section(*tag).is_some()).collect();
        assert_eq!(known, tags, "{}", kind.name());
        let firsts: Vec<usize> = tags.iter().map(|tag| file.section(*tag).unwrap().offset as usize).collect();
        for (is_first, place) in firsts
            .into_iter()
            .map(|place| (true, place))
            .chain((0..whole.len()).step_by(FLIPPED_APART).map(|place| (false, place)))
        {
            let damaged = storage.duplicate();
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            damaged.overwrite_file(&name, &bytes).unwrap();
            let what = format!("{}, byte {place}", kind.name());
            match ask(&damaged, kind) {
                Err(error) => {
                    assert!(is_of_file(&error), "{what}: {error:?}");
                    assert!(error.to_string().contains(&name), "{what}: {error}");
                }
                // What lies between sections is not read.
                Ok(found) => assert!(!is_first && found == expected, "{what}: another answer"),
            }
            let found = problems(&damaged);
            assert!(found.len() == 1 && found[0].contains(&name), "{what}: {found:?}");
        }
    }
}

#[test]
fn a_file_of_any_other_length_is_an_error_and_is_found() {
    for (kind, form, _) in FITS {
        let (storage, record) = closed(kind, form);
        let name = curvature_file_name(record.version);
        let whole = storage.read_file(&name).unwrap();
        for length in (0..whole.len()).step_by(211).chain([whole.len() - 1]) {
            let damaged = storage.duplicate();
            damaged.overwrite_file(&name, &whole[..length]).unwrap();
            let error = ask(&damaged, kind).unwrap_err();
            assert!(is_of_file(&error), "{}, cut at {length}: {error:?}", kind.name());
            assert_eq!(problems(&damaged).len(), 1, "{}, cut at {length}", kind.name());
        }
        let damaged = storage.duplicate();
        damaged.remove(&name).unwrap();
        assert!(is_of_file(&ask(&damaged, kind).unwrap_err()));
        assert_eq!(problems(&damaged).len(), 1);
    }
}

#[test]
fn a_store_with_a_damaged_curvature_opens_and_is_fitted_anew() {
    for (kind, form, _) in FITS {
        let (storage, record) = closed(kind, form);
        let name = curvature_file_name(record.version);
        let mut bytes = storage.read_file(&name).unwrap();
        bytes[700..].iter_mut().for_each(|byte| *byte ^= 0x55);
        storage.overwrite_file(&name, &bytes).unwrap();
        let store = Store::open(medium(&storage), options()).unwrap();
        let mut scene = Scene { storage, store };
        assert_eq!(scene.keys().len(), 18);
        let queries = Gradients::of_file(QUERIES);
        assert!(scores(&scene.store.snapshot(), &queries, &by(kind)).is_err(), "{}", kind.name());
        let report = scene.try_fit(&FitOptions { kind: Some(kind), form, ..FitOptions::default() }).unwrap();
        assert_eq!((report.version, report.rows), (record.version + 1, 18));
        let live = Gradients::of_file(TRAIN).of_rows((0..20).filter(|row| ![2, 16].contains(row)));
        let mut fresh = Scene::of_rows(&live);
        fresh.try_fit(&FitOptions { kind: Some(kind), form, ..FitOptions::default() }).unwrap();
        let expected = fresh.scores(&queries, &by(kind));
        crate::scene::close(&scene.scores(&queries, &by(kind)), &expected, 1e-9, kind.name());
        scene.verify();
    }
}

/// The sections of a curvature file.
type Sections = Vec<(u32, Vec<u8>)>;

/// Sections that someone wrote on purpose, with right checksums.
fn hostile(sections: &Sections) -> Vec<(String, Sections)> {
    let mut all = Vec::new();
    for (number, (tag, bytes)) in sections.iter().enumerate() {
        let mut add = |what: &str, changed: Option<Vec<u8>>| {
            let mut own = sections.clone();
            match changed {
                Some(bytes) => own[number].1 = bytes,
                None => drop(own.remove(number)),
            }
            all.push((format!("section {tag}, {what}"), own));
        };
        add("missing", None);
        add("empty", Some(Vec::new()));
        add("half of it", Some(bytes[..bytes.len() / 2].to_vec()));
        add("one value less", Some(bytes[..bytes.len() - 8].to_vec()));
        add("twice", Some(bytes.repeat(2)));
        add("ones", Some(vec![0xff; bytes.len()]));
        add("zeros", Some(vec![0; bytes.len()]));
        for value in [f64::NAN, f64::INFINITY, -1.0, 1e300, 5e-324] {
            add(&format!("all {value}"), Some(value.to_le_bytes().repeat(bytes.len() / 8)));
            let mut first = bytes.clone();
            first[..8].copy_from_slice(&value.to_le_bytes());
            add(&format!("first {value}"), Some(first));
        }
        if *tag == curvature_section::HEAD {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let damping = text.find("\"damping\":").unwrap();
            let schema = text.find(",\"schema\"").unwrap();
            for other in ["[]", "[[]]", "[[],[],[],[]]", "[[0.0]]", "[[-1.0]]", "[[1e300],[1.0]]"] {
                let changed = format!("{}\"damping\":{other}{}", &text[..damping], &text[schema..]);
                add(&format!("damping {other}"), Some(changed.into_bytes()));
            }
            for kind in ["identity", "diagonal", "fisher", "margin", "other"] {
                for form in ["direct", "dual", "primal", "other"] {
                    let changed = serde_json::from_str::<serde_json::Value>(&text).map(|mut head| {
                        head["kind"] = kind.into();
                        head["form"] = form.into();
                        head.to_string()
                    });
                    add(&format!("{kind} {form}"), Some(changed.unwrap().into_bytes()));
                }
            }
        }
    }
    all
}

/// Asks a store whose curvature holds these sections: anything but a panic will do.
fn endure(storage: &SimulatedStorage, record: &CurvatureRecord, sections: &Sections, what: &str) {
    let name = curvature_file_name(record.version);
    let changed = storage.duplicate();
    changed.remove(&name).unwrap();
    let pieces: Vec<(u32, Vec<&[u8]>)> =
        sections.iter().map(|(tag, bytes)| (*tag, vec![bytes.as_slice()])).collect();
    let file = write_curvature_file(&changed, record.version, record.column, &pieces).unwrap();
    let mut manifest = published(&changed);
    manifest.store.curvatures[0].file = file;
    publish(&changed, &manifest);
    without_panic(&changed, record, what);
}

fn without_panic(storage: &SimulatedStorage, record: &CurvatureRecord, what: &str) {
    let kind = CurvatureKind::from_name(&record.kind).unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _ = ask(storage, kind);
        let Ok(reader) = Reader::open(medium(storage), options()) else { return };
        let snapshot = reader.snapshot();
        let _ = snapshot.self_influence(None, Some(kind), &Cancel::new());
        let queries = Gradients::of_file(QUERIES);
        let query = ascribe::engine::GradientQuery {
            layers: true,
            without: Some("number < 5".to_owned()),
            ..by(kind)
        };
        let input = ascribe::engine::GradientInput::Source { source: &queries, row: 0 };
        let _ = snapshot.query_gradients(&[input], &query, &Cancel::new());
        let _ = problems(storage);
    }));
    assert!(outcome.is_ok(), "{} {}, {what}: panicked", record.kind, record.form);
}

#[test]
fn hostile_sections_never_panic() {
    for (kind, form, tags) in FITS {
        let (storage, record) = closed(kind, form);
        let file = open_curvature_file(&storage, record.version, record.column, record.file).unwrap();
        let sections: Sections = tags
            .iter()
            .map(|tag| {
                let section = file.section(*tag).unwrap();
                (*tag, file.read(section, 0..section.length).unwrap().to_vec())
            })
            .collect();
        drop(file);
        for (what, changed) in hostile(&sections) {
            endure(&storage, &record, &changed, &what);
        }
    }
}

#[test]
fn hostile_records_never_panic() {
    for (kind, form, _) in FITS {
        let (storage, record) = closed(kind, form);
        for rows in [0, 1, 13, 15, 1 << 20, 1 << 61, u64::MAX] {
            let changed = storage.duplicate();
            let mut manifest = published(&changed);
            manifest.store.curvatures[0].rows = rows;
            publish(&changed, &manifest);
            without_panic(&changed, &record, &format!("{rows} rows"));
        }
    }
}
