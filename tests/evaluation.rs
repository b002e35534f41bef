//! How good the answers are, measured on stores in memory; and drawing the rows that are asked about.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use ascribe::base::{Cancel, FieldDeclaration, FieldType, Progress, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, CreateOptions, DeleteSelection, Import, OnDuplicate, OpenOptions, QueryError, Snapshot,
    Store, Watch,
};
use ascribe::evaluation::{RecallError, RecallOptions, RecallReport, measure_recall};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use ascribe::stats::Interval;
use ascribe::storage::SimulatedStorage;

const WIDTH: usize = 8;
/// Rows of each segment.
const ROWS: [usize; 3] = [40, 10, 100];
const WHOLE: Interval = Interval { mean: 1.0, low: 1.0, high: 1.0 };

fn column(name: &str) -> ColumnDefinition {
    let specification = EncoderSpecification::Vectors { width: WIDTH };
    ColumnDefinition { name: name.to_owned(), ..ColumnDefinition::embedding(specification) }
}

fn import(store: &mut Store, column: &str, segment: usize) {
    let rows = ROWS[segment];
    let keys: String =
        (0..rows).map(|row| format!("{{\"key\":\"{segment}-{row}\",\"row\":{row}}}\n")).collect();
    let mut keys =
        from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    let mut stream = RandomStream::new(segment as u64);
    bytes.extend((0..rows * WIDTH).flat_map(|_| (stream.unit() as f32 - 0.5).to_le_bytes()));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors.npy").unwrap()),
        sketches: None,
        column: Some(column.to_owned()),
        on_duplicate: OnDuplicate::Error,
    };
    store.import(import, Watch::silent(&Cancel::new())).unwrap();
}

fn empty(index_rows_min: u32) -> Store {
    let create = CreateOptions {
        columns: vec![column("embedding")],
        fields: vec![FieldDeclaration { name: "row".to_owned(), kind: FieldType::Integer }],
    };
    let options = OpenOptions { index_rows_min, compact: false, ..OpenOptions::default() };
    Store::create(Arc::new(SimulatedStorage::new()), create, options).unwrap()
}

/// A store of three segments; every fifth row of the last one is deleted.
fn filled(index_rows_min: u32) -> Store {
    let mut store = empty(index_rows_min);
    (0..ROWS.len()).for_each(|segment| import(&mut store, "embedding", segment));
    let deleted = (0..ROWS[2]).step_by(5).map(|row| format!("2-{row}")).collect();
    store.delete(&DeleteSelection::Keys(deleted)).unwrap();
    store
}

const LIVE: usize = 130;

fn measure(snapshot: &Snapshot, options: &RecallOptions) -> Result<RecallReport, RecallError> {
    measure_recall(snapshot, options, Watch::silent(&Cancel::new()))
}

#[test]
fn answers_without_an_index_and_by_codes_miss_nothing() {
    for index_rows_min in [u32::MAX, 1] {
        let store = filled(index_rows_min);
        store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
        for filter in [None, Some("row < 3".to_owned()), Some("row < 0".to_owned())] {
            let options = RecallOptions { k: 5, queries: 30, filter, ..RecallOptions::default() };
            let report = measure(&store.snapshot(), &options).unwrap();
            assert_eq!((report.proponents, report.opponents), (WHOLE, WHOLE), "{options:?}");
            assert_eq!((report.rows, report.k, report.queries), (LIVE as u64, 5, 30));
            assert_eq!(report.plans.values().sum::<usize>(), 60, "{report:?}");
        }
    }
}

#[test]
fn there_are_no_more_questions_than_rows() {
    let report = measure(&filled(u32::MAX).snapshot(), &RecallOptions::default()).unwrap();
    assert_eq!((report.queries, report.plans["scan"]), (LIVE, 2 * LIVE));
}

#[test]
fn rows_without_a_value_in_the_column_are_no_questions() {
    let mut store = filled(u32::MAX);
    store.add_column(column("other"), Watch::silent(&Cancel::new())).unwrap();
    let other =
        |queries| RecallOptions { queries, column: Some("other".to_owned()), ..RecallOptions::default() };
    let error = measure(&store.snapshot(), &other(5)).unwrap_err();
    assert!(matches!(&error, RecallError::NoRows { column } if column == "other"), "{error}");
    import(&mut store, "other", 1);
    for queries in [1, 5, 10, 200] {
        let report = measure(&store.snapshot(), &other(queries)).unwrap();
        assert_eq!((report.rows, report.queries), (10, queries.min(10)));
        assert_eq!((report.proponents, report.opponents), (WHOLE, WHOLE));
    }
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let of = |store: &Store, options| measure(&store.snapshot(), &options).unwrap_err();
    let store = filled(u32::MAX);
    let options = RecallOptions::default;
    let error = of(&empty(u32::MAX), options());
    assert!(matches!(error, RecallError::NoRows { .. }), "{error}");
    let error = of(&store, RecallOptions { column: Some("x".to_owned()), ..options() });
    assert_eq!(error.to_string(), "there is no embedding column \"x\"; the columns are embedding");
    for queries in [0, usize::MAX] {
        let error = of(&store, RecallOptions { queries, ..options() });
        assert!(matches!(error, RecallError::Queries { .. }), "{error}");
    }
    let error = of(&store, RecallOptions { k: 0, ..options() });
    assert!(matches!(error, RecallError::Query(QueryError::NoRows)), "{error}");
    let error = of(&store, RecallOptions { filter: Some("year > 3".to_owned()), ..options() });
    assert!(matches!(error, RecallError::Query(QueryError::Filter(_))), "{error}");
}

/// Notes what it is told, and cancels at the third question.
#[derive(Default)]
struct Impatient {
    cancel: Cancel,
    told: Mutex<Vec<String>>,
}

impl Impatient {
    fn note(&self, text: String) {
        self.told.lock().unwrap().push(text);
    }
}

impl Progress for Impatient {
    fn begin(&self, stage: &str, unit: &str, total: Option<u64>) {
        self.note(format!("{stage}, {unit}: {total:?}"));
    }

    fn advance(&self, done: u64) {
        self.note(done.to_string());
        if done == 3 {
            self.cancel.cancel();
        }
    }

    fn end(&self) {
        self.note("end".to_owned());
    }
}

#[test]
fn progress_is_told_and_a_measurement_can_be_cancelled() {
    let impatient = Impatient::default();
    let watch = Watch { progress: &impatient, cancel: &impatient.cancel };
    let options = RecallOptions { queries: 50, ..RecallOptions::default() };
    let error = measure_recall(&filled(u32::MAX).snapshot(), &options, watch).unwrap_err();
    assert!(matches!(error, RecallError::Query(QueryError::Cancelled)), "{error}");
    assert_eq!(*impatient.told.lock().unwrap(), ["recall, queries: Some(50)", "1", "2", "3", "end"]);
}

#[test]
fn drawn_keys_are_those_of_live_rows_each_once_and_follow_the_seed() {
    let snapshot = filled(u32::MAX).snapshot();
    let all = snapshot.sample_keys(1000, 3).unwrap();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (LIVE, LIVE));
    assert!(all.iter().all(|key| snapshot.row(key).unwrap().is_some()));
    assert_eq!(snapshot.sample_keys(20, 3).unwrap(), all[..20]);
    assert_ne!(snapshot.sample_keys(20, 4).unwrap(), all[..20]);
    assert_eq!(snapshot.sample_keys(0, 3).unwrap(), [""; 0]);
    assert_eq!(empty(u32::MAX).snapshot().sample_keys(9, 3).unwrap(), [""; 0]);
}

#[test]
fn every_live_row_is_as_likely_to_be_drawn() {
    let snapshot = filled(u32::MAX).snapshot();
    let mut of_segments = [0; ROWS.len()];
    for seed in 0..200 {
        for key in snapshot.sample_keys(13, RandomStream::mix(seed)).unwrap() {
            of_segments[key[..1].parse::<usize>().unwrap()] += 1;
        }
    }
    // Of 2600, in proportion to 40, 10 and 80 live rows: 800, 200 and 1600; standard deviations below 25.
    for (count, expected) in of_segments.into_iter().zip([800_i32, 200, 1600]) {
        assert!((expected - 100..expected + 100).contains(&count), "{of_segments:?}");
    }
}
