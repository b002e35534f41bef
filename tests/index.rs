//! Indexes make answers faster and never other: whether they are there, missing, half written, stale or damaged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Cursor;
use std::sync::Arc;

use ascribe::base::{Cancel, ElementType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, DeleteSelection, Import, OnDuplicate, OpenOptions, Query,
    QueryInput, Reader, Store, Watch, verify,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use ascribe::storage::{CheckInProcess, Failure, SimulatedStorage, Storage};

const WIDTH: usize = 40;
const SEGMENTS: usize = 3;
const SEGMENT_ROWS: usize = 1500;

fn options() -> OpenOptions {
    OpenOptions { index_rows_min: 1, ..OpenOptions::default() }
}

/// Indexes nothing by itself.
fn plain() -> OpenOptions {
    OpenOptions { index_rows_min: u32::MAX, ..OpenOptions::default() }
}

fn vectors(seed: u64) -> Vec<f32> {
    let mut stream = RandomStream::new(seed);
    (0..SEGMENT_ROWS * WIDTH).map(|_| stream.unit() as f32 - 0.5).collect()
}

fn import(store: &mut Store, segment: usize) {
    let keys: String = (0..SEGMENT_ROWS).map(|row| format!("{{\"key\":\"{segment}-{row}\"}}\n")).collect();
    let mut keys =
        from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap();
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({SEGMENT_ROWS}, {WIDTH}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(vectors(segment as u64).iter().flat_map(|value| value.to_le_bytes()));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors.npy").unwrap()),
        sketches: None,
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    store.import(import, Watch::silent(&Cancel::new())).unwrap();
}

/// A store of several segments, some rows deleted, without an index.
fn build() -> Arc<SimulatedStorage> {
    let storage = Arc::new(SimulatedStorage::new());
    let columns = vec![ColumnDefinition {
        element: ElementType::F16,
        ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })
    }];
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create(Arc::clone(&storage) as Arc<dyn Storage>, create, plain()).unwrap();
    (0..SEGMENTS).for_each(|segment| import(&mut store, segment));
    let deleted = (0..SEGMENT_ROWS).step_by(7).map(|row| format!("1-{row}")).collect();
    store.delete(&DeleteSelection::Keys(deleted)).unwrap();
    storage
}

fn index(storage: &Arc<SimulatedStorage>) {
    let store = Store::open(Arc::clone(storage) as Arc<dyn Storage>, options()).unwrap();
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
}

fn ask(reader: &Reader, exact: bool) -> Vec<Answer> {
    (0..4)
        .map(|seed| {
            let input = QueryInput::Vector(vectors(100 + seed)[..WIDTH].to_vec());
            let query = Query { exact, k: 20, ..Query::new(input) };
            reader.snapshot().query(&query, &Cancel::new()).unwrap()
        })
        .collect()
}

fn open(storage: &Arc<SimulatedStorage>) -> Reader {
    Reader::open(Arc::clone(storage) as Arc<dyn Storage>, options()).unwrap()
}

/// Keys and scores of both ends.
fn ends(answers: &[Answer]) -> Vec<(String, f64)> {
    let hits = answers.iter().flat_map(|answer| answer.proponents.iter().chain(&answer.opponents));
    hits.map(|hit| (hit.key.clone(), hit.score)).collect()
}

fn by_codes(answers: &[Answer]) -> Vec<u64> {
    answers.iter().map(|answer| answer.rows_by_codes).collect()
}

fn index_names(storage: &SimulatedStorage) -> Vec<String> {
    storage.names().into_iter().filter(|name| name.contains(".idx")).collect()
}

fn problems(storage: &Arc<SimulatedStorage>) -> Vec<String> {
    let storage: Arc<dyn Storage> = Arc::clone(storage) as Arc<dyn Storage>;
    let report = verify(&storage, true, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
    report.problems.into_iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect()
}

const ALL_ROWS: u64 = (SEGMENTS * SEGMENT_ROWS) as u64;

#[test]
fn an_index_is_found_when_it_is_there_and_not_missed_before() {
    let storage = build();
    assert!(index_names(&storage).is_empty());
    let reader = open(&storage);
    let exact = ends(&ask(&reader, true));
    assert_eq!(exact.len(), 4 * 40);
    let answers = ask(&reader, false);
    assert_eq!((ends(&answers), by_codes(&answers)), (exact.clone(), vec![0; 4]));
    index(&storage);
    assert_eq!(index_names(&storage), ["segments/1.1.idx", "segments/2.1.idx", "segments/3.1.idx"]);
    // The same reader, without a new commit.
    let answers = ask(&reader, false);
    assert_eq!((ends(&answers), by_codes(&answers)), (exact.clone(), vec![ALL_ROWS; 4]));
    for answer in &answers {
        assert!(answer.rows_exact > 0 && answer.rows_exact < ALL_ROWS / 2, "{}", answer.rows_exact);
        assert_eq!(answer.plan, "scan");
    }
    storage.remove("segments/2.1.idx").unwrap();
    let answers = ask(&open(&storage), false);
    assert_eq!((ends(&answers), by_codes(&answers)), (exact, vec![ALL_ROWS / 3 * 2; 4]));
    assert!(problems(&storage).is_empty());
}

#[test]
fn damaged_and_foreign_indexes_are_left_alone_told_and_built_anew() {
    let storage = build();
    let exact = ends(&ask(&open(&storage), true));
    index(&storage);
    let name = "segments/2.1.idx";
    let sound = storage.read_file(name).unwrap();
    let other = storage.read_file("segments/3.1.idx").unwrap();
    let mut damaged: Vec<Vec<u8>> =
        [0, 64, 700, 1024 * 64].iter().map(|length| sound[..*length].to_vec()).collect();
    damaged.push(other);
    for position in (0..sound.len()).step_by(997).chain([3, 70, 200, sound.len() - 5, sound.len() - 600]) {
        let mut bytes = sound.clone();
        bytes[position] ^= 0x40;
        damaged.push(bytes);
    }
    for bytes in damaged {
        storage.overwrite_file(name, &bytes).unwrap();
        assert!(ends(&ask(&open(&storage), false)) == exact);
        let told = problems(&storage);
        assert!(told.len() == 1 && told[0].contains(name) && told[0].contains("nothing is lost"), "{told:?}");
    }
    // What the report says to do.
    storage.remove(name).unwrap();
    index(&storage);
    let answers = ask(&open(&storage), false);
    assert_eq!(by_codes(&answers), [ALL_ROWS; 4]);
    assert!(ends(&answers) == exact && problems(&storage).is_empty());
}

/// Damage that shows when a file is opened, or in a query of the writing process, is mended at once.
#[test]
fn damage_that_was_seen_is_mended() {
    let storage = build();
    let exact = ends(&ask(&open(&storage), true));
    index(&storage);
    let sound = storage.read_file("segments/2.1.idx").unwrap();
    storage.overwrite_file("segments/2.1.idx", &sound[..sound.len() - 1]).unwrap();
    index(&storage);
    assert!(storage.read_file("segments/2.1.idx").unwrap() == sound);
    let mut damaged = sound.clone();
    // Not in the block that is read when the file is opened.
    damaged[70_000] ^= 1;
    storage.overwrite_file("segments/2.1.idx", &damaged).unwrap();
    let store = Store::open(Arc::clone(&storage) as Arc<dyn Storage>, options()).unwrap();
    let input = QueryInput::Vector(vectors(100)[..WIDTH].to_vec());
    let query = Query { k: 20, ..Query::new(input) };
    for rows_by_codes in [ALL_ROWS, ALL_ROWS / 3 * 2] {
        let answer = store.snapshot().query(&query, &Cancel::new()).unwrap();
        assert_eq!(answer.rows_by_codes, rows_by_codes);
        assert!(exact.starts_with(&ends(&[answer])));
    }
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    assert!(storage.read_file("segments/2.1.idx").unwrap() == sound);
}

#[test]
fn an_index_that_was_never_finished_is_no_obstacle() {
    let storage = build();
    let left = "segments/1.1.idx.unfinished";
    storage.create(left).unwrap().write(b"half an index").unwrap();
    let exact = ends(&ask(&open(&storage), true));
    assert_eq!(ends(&ask(&open(&storage), false)), exact);
    index(&storage);
    assert_eq!(index_names(&storage).len(), SEGMENTS);
    assert_eq!(ends(&ask(&open(&storage), false)), exact);
}

#[test]
fn every_operation_may_fail_and_a_crash_may_come_while_indexes_are_built() {
    let whole = build();
    let exact = ends(&ask(&open(&whole), true));
    let mut failed = 0;
    for failure in [Failure::Once, Failure::Forever] {
        for count in 1.. {
            let storage = Arc::new(whole.duplicate());
            storage.fail_operation(count, failure);
            let before = storage.operations();
            let built = Store::open(Arc::clone(&storage) as Arc<dyn Storage>, options())
                .map_err(|error| error.to_string())
                .and_then(|store| {
                    let built = store.build_indexes(Watch::silent(&Cancel::new()));
                    built.map_err(|error| error.to_string())
                });
            failed += usize::from(built.is_err());
            for survivor in [storage.duplicate(), storage.crash(count), storage.crash(count + 1)] {
                let survivor = Arc::new(survivor);
                assert_eq!(ends(&ask(&open(&survivor), false)), exact, "{failure:?} of operation {count}");
                index(&survivor);
                let answers = ask(&open(&survivor), false);
                assert_eq!((ends(&answers), by_codes(&answers)), (exact.clone(), vec![ALL_ROWS; 4]));
            }
            if storage.operations() - before < count {
                assert!(built.is_ok(), "{built:?}");
                break;
            }
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn the_index_of_a_column_goes_with_it() {
    let storage = build();
    index(&storage);
    let mut store = Store::open(Arc::clone(&storage) as Arc<dyn Storage>, options()).unwrap();
    let more = ColumnDefinition {
        name: "other".to_owned(),
        ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })
    };
    store.add_column(more, Watch::silent(&Cancel::new())).unwrap();
    store.drop_column("embedding").unwrap();
    drop(store);
    drop(Store::open(Arc::clone(&storage) as Arc<dyn Storage>, options()).unwrap());
    assert!(index_names(&storage).is_empty());
}
