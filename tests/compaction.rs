//! Merging segments: answers stay, deleted rows go, and whatever happens in the middle leaves the old state.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Cursor;
use std::sync::Arc;

use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, ColumnEncoder, CompactError, CreateOptions, DeleteSelection, IngestOptions,
    OnDuplicate, OpenOptions, Query, QueryInput, Reader, Snapshot, Store, Watch, verify,
};
use ascribe::sources::{FieldNames, InputFormat, Source, from_reader};
use ascribe::storage::{CheckInProcess, Failure, SimulatedStorage, Storage};

const WIDTH: usize = 24;
const SEGMENTS: usize = 5;
const SEGMENT_ROWS: usize = 60;

/// Everything is done when it is asked for.
fn by_hand() -> OpenOptions {
    OpenOptions { index_rows_min: 100, compact: false, ..OpenOptions::default() }
}

fn medium(storage: &Arc<SimulatedStorage>) -> Arc<dyn Storage> {
    Arc::clone(storage) as Arc<dyn Storage>
}

fn rows(keys: std::ops::Range<usize>, salt: u64) -> Box<dyn Source> {
    let mut random = RandomStream::new(salt + keys.start as u64);
    let mut lines = String::new();
    for key in keys {
        let vector: Vec<f32> = (0..WIDTH).map(|_| random.unit() as f32 - 0.5).collect();
        let line = serde_json::json!({
            "id": format!("r{key}"), "text": format!("row {key} of {salt}"), "v": vector,
            "year": 1990 + random.below(7), "late": key % 5, "note": format!("note {key}"),
        });
        lines += &format!("{line}\n");
    }
    let fields = FieldNames { key: Some("id".into()), text: None, vector: Some("v".into()) };
    from_reader(Cursor::new(lines), "rows", InputFormat::JsonLines, &fields).unwrap()
}

fn ingest(store: &mut Store, source: Box<dyn Source>) {
    let options = IngestOptions {
        on_duplicate: OnDuplicate::Replace,
        column: Some("ready".into()),
        ..IngestOptions::default()
    };
    store.ingest(source, &options, Watch::silent(&Cancel::new()), &mut |_| {}).unwrap();
}

fn columns() -> Vec<ColumnDefinition> {
    let column = |name: &str, element, specification: &str| ColumnDefinition {
        name: name.to_owned(),
        element,
        encoder: ColumnEncoder::BuiltIn(EncoderSpecification::parse(specification).unwrap()),
    };
    vec![
        column("ready", ElementType::F16, &format!("vectors:{WIDTH}")),
        column("words", ElementType::I8, "hashed:16"),
    ]
}

/// Several segments with two columns, replaced and deleted rows, and a field that was declared after half of them.
fn build() -> Arc<SimulatedStorage> {
    let storage = Arc::new(SimulatedStorage::new());
    let field = |name: &str| FieldDeclaration { name: name.to_owned(), kind: FieldType::Integer };
    let create = CreateOptions { columns: columns(), fields: vec![field("year")] };
    let mut store = Store::create(medium(&storage), create, by_hand()).unwrap();
    for segment in 0..SEGMENTS {
        let first = segment * SEGMENT_ROWS;
        ingest(&mut store, rows(first..first + SEGMENT_ROWS, 1));
        if segment == SEGMENTS / 2 {
            store.add_field(field("late")).unwrap();
        }
    }
    ingest(&mut store, rows(50..80, 2));
    store.delete(&DeleteSelection::Where("year = 1993".into())).unwrap();
    storage
}

/// Answers of both columns at both ends, filtered and not, and every row as it is shown.
fn seen(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = Vec::new();
    let mut ask = |query: Query| {
        let answer: Answer = snapshot.query(&query, &Cancel::new()).unwrap();
        let hits = answer.proponents.iter().chain(&answer.opponents);
        seen.push(format!("{} of {}", answer.eligible_rows, answer.rows));
        seen.extend(
            hits.map(|hit| format!("{} {} {:?} {:?}", hit.key, hit.score, hit.percentile, hit.metadata)),
        );
    };
    let mut random = RandomStream::new(9);
    for filter in [None, Some("late = 2 AND year > 1991"), Some("late IS NULL")] {
        for exact in [false, true] {
            let vector = (0..WIDTH).map(|_| random.unit() as f32 - 0.5).collect();
            let filter = filter.map(str::to_owned);
            let query =
                Query { filter: filter.clone(), exact, k: 15, ..Query::new(QueryInput::Vector(vector)) };
            ask(query);
            ask(Query { filter, exact, column: Some("words".into()), ..Query::text("row 7 of 2") });
        }
    }
    for key in 0..SEGMENTS * SEGMENT_ROWS {
        seen.push(format!("{:?}", snapshot.row(&format!("r{key}")).unwrap()));
    }
    seen
}

fn reader(storage: &Arc<SimulatedStorage>) -> Reader {
    Reader::open(medium(storage), by_hand()).unwrap()
}

fn compact(storage: &Arc<SimulatedStorage>) -> Result<(), CompactError> {
    let store = Store::open(medium(storage), by_hand()).unwrap();
    store.compact(Watch::silent(&Cancel::new())).map(drop)
}

fn assert_sound(storage: &Arc<SimulatedStorage>) {
    let report = verify(&medium(storage), true, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn answers_stay_and_deleted_bytes_go() {
    let storage = build();
    let before = reader(&storage);
    let expected = seen(&before.snapshot());
    let statistics = before.snapshot().statistics();
    assert_eq!((statistics.segments, statistics.index.files), (SEGMENTS + 1, 0));
    assert!(statistics.deleted_rows > 40);

    let store = Store::open(medium(&storage), by_hand()).unwrap();
    let report = store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!((report.merges, report.segments_merged), (1, SEGMENTS + 1));
    assert_eq!((report.rows, report.rows_erased), (statistics.rows, statistics.deleted_rows));
    assert!(report.bytes_after < report.bytes_before, "{report:?}");
    let after = store.snapshot();
    assert!(seen(&after) == expected);
    let statistics = after.statistics();
    assert_eq!((statistics.segments, statistics.deleted_rows, statistics.index.files), (1, 0, 2));
    assert_eq!(statistics.commit_operation, "compact");
    // Who holds the old state still reads it; its files go when nobody does.
    assert!(seen(&before.snapshot()) == expected);
    assert!(storage.names().contains(&"segments/1.rows".to_owned()));
    drop(before);
    assert_eq!(store.compact(Watch::silent(&Cancel::new())).unwrap().merges, 0, "nothing is left to do");
    drop(store);
    drop(Store::open(medium(&storage), by_hand()).unwrap());
    let segment_files: Vec<String> =
        storage.names().into_iter().filter(|name| name.starts_with("segments/")).collect();
    let name = segment_files[0].split('.').next().unwrap().to_owned();
    assert_eq!(segment_files.len(), 5, "{segment_files:?}");
    assert!(segment_files.iter().all(|file| file.starts_with(&name)), "{segment_files:?}");
    let erased = "row 51 of 1";
    let bytes = storage.read_file(&format!("{name}.rows")).unwrap();
    assert!(!bytes.windows(erased.len()).any(|window| window == erased.as_bytes()));
    assert_sound(&storage);
    // And it goes on.
    let mut store = Store::open(medium(&storage), by_hand()).unwrap();
    ingest(&mut store, rows(1000..1010, 3));
    store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!(store.snapshot().statistics().segments, 1);
    assert_eq!(store.snapshot().row("r1003").unwrap().unwrap().text, "row 1003 of 3");
}

#[test]
fn a_store_without_a_live_row_becomes_empty() {
    let storage = build();
    let mut store = Store::open(medium(&storage), by_hand()).unwrap();
    store.delete(&DeleteSelection::Where("year > 0 OR year IS NULL".into())).unwrap();
    let report = store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!((report.merges, report.rows, report.bytes_after), (0, 0, 0));
    let statistics = store.snapshot().statistics();
    assert_eq!((statistics.rows, statistics.segments, statistics.deleted_rows), (0, 0, 0));
    drop(store);
    assert_sound(&storage);
}

#[test]
fn segments_that_lack_a_column_are_merged_apart() {
    let storage = build();
    let mut store = Store::open(medium(&storage), by_hand()).unwrap();
    let more = ColumnDefinition {
        name: "more".into(),
        ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width: 3 })
    };
    store.add_column(more, Watch::silent(&Cancel::new())).unwrap();
    let lines: String =
        (0..4).map(|row| format!("{{\"id\":\"m{row}\",\"text\":\"x\",\"v\":[1,2,{row}]}}\n")).collect();
    for line in lines.lines() {
        let fields = FieldNames { key: Some("id".into()), text: None, vector: Some("v".into()) };
        let source =
            from_reader(Cursor::new(line.to_owned()), "rows", InputFormat::JsonLines, &fields).unwrap();
        let options = IngestOptions { column: Some("more".into()), ..IngestOptions::default() };
        store.ingest(source, &options, Watch::silent(&Cancel::new()), &mut |_| {}).unwrap();
    }
    let expected = seen(&store.snapshot());
    let report = store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!((report.merges, report.segments_merged), (2, SEGMENTS + 1 + 4));
    assert_eq!(store.snapshot().statistics().segments, 2);
    assert!(seen(&store.snapshot()) == expected);
}

/// A crash just before each sync, in several outcomes.
#[test]
fn a_crash_in_the_middle_leaves_the_old_state_or_the_new_one() {
    let whole = build();
    let expected = seen(&reader(&whole).snapshot());
    for sync in 1.. {
        let storage = Arc::new(whole.duplicate());
        storage.crash_at_sync(sync);
        let done =
            Store::open(medium(&storage), by_hand()).map_err(|error| error.to_string()).and_then(|store| {
                store.compact(Watch::silent(&Cancel::new())).map_err(|error| error.to_string())
            });
        if !storage.has_crashed() {
            assert!(done.is_ok() && sync > 15, "{done:?} after {sync} syncs");
            break;
        }
        for seed in 0..4 {
            let survivor = Arc::new(storage.crash(seed));
            assert!(seen(&reader(&survivor).snapshot()) == expected, "sync {sync}, outcome {seed}");
            drop(Store::open(medium(&survivor), by_hand()).unwrap());
            assert_sound(&survivor);
            compact(&survivor).unwrap();
            let merged = reader(&survivor);
            assert_eq!(merged.snapshot().statistics().segments, 1);
            assert!(seen(&merged.snapshot()) == expected, "sync {sync}, outcome {seed}");
        }
    }
}

#[test]
fn every_operation_may_fail() {
    let whole = build();
    let expected = seen(&reader(&whole).snapshot());
    let mut failed = 0;
    for failure in [Failure::Once, Failure::Forever] {
        for count in 1.. {
            let storage = Arc::new(whole.duplicate());
            let store = Store::open(medium(&storage), by_hand()).unwrap();
            storage.fail_operation(count, failure);
            let before = storage.operations();
            let done = store.compact(Watch::silent(&Cancel::new()));
            failed += usize::from(done.is_err());
            assert!(seen(&store.snapshot()) == expected, "{failure:?} of operation {count}");
            let is_over = storage.operations() - before < count;
            drop(store);
            let survivor = Arc::new(storage.duplicate());
            assert!(seen(&reader(&survivor).snapshot()) == expected, "{failure:?} of operation {count}");
            if failure == Failure::Once {
                drop(Store::open(medium(&survivor), by_hand()).unwrap());
                assert_sound(&survivor);
            }
            if is_over {
                assert!(done.is_ok(), "{done:?}");
                break;
            }
        }
    }
    assert!(failed > 40, "{failed}");
}

#[test]
fn a_full_medium_leaves_the_old_state_and_no_litter() {
    let whole = build();
    let expected = seen(&reader(&whole).snapshot());
    let bytes = |storage: &SimulatedStorage| -> u64 {
        storage.names().iter().map(|name| storage.read_file(name).unwrap().len() as u64).sum()
    };
    let (mut refused, mut filled, mut done) = (0, 0, 0);
    for room in (0..200_000).step_by(3989) {
        let storage = Arc::new(whole.duplicate());
        let store = Store::open(medium(&storage), by_hand()).unwrap();
        let used = bytes(&storage);
        storage.set_capacity_bytes(Some(used + room));
        match store.compact(Watch::silent(&Cancel::new())) {
            Ok(report) => done += usize::from(report.merges == 1),
            Err(CompactError::Space { needed_bytes, free_bytes, .. }) => {
                assert!(free_bytes == room && needed_bytes > room);
                assert_eq!(bytes(&storage), used);
                refused += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("full"), "{error}");
                filled += 1;
            }
        }
        assert!(seen(&store.snapshot()) == expected);
        storage.set_capacity_bytes(None);
        drop(store);
        assert!(seen(&reader(&storage).snapshot()) == expected);
        drop(Store::open(medium(&storage), by_hand()).unwrap());
        assert_sound(&storage);
    }
    assert!(refused > 5 && done > 5, "{refused} {filled} {done}");
}

#[test]
fn a_cancelled_compaction_changes_nothing() {
    let storage = build();
    let store = Store::open(medium(&storage), by_hand()).unwrap();
    let (expected, names) = (seen(&store.snapshot()), storage.names());
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(store.compact(Watch::silent(&cancel)), Err(CompactError::Cancelled)));
    // Waits until what was begun has stopped.
    let _ = store.finish_compaction(Watch::silent(&Cancel::new()));
    assert!(seen(&store.snapshot()) == expected);
    assert!(storage.names() == names);
    assert_eq!(store.compact(Watch::silent(&Cancel::new())).unwrap().merges, 1);
}

/// A damaged row would be carried over, so the segments are left as they are.
#[test]
fn damaged_segments_are_not_merged() {
    let storage = build();
    let name = "segments/3.1.col";
    let mut bytes = storage.read_file(name).unwrap();
    bytes[300] ^= 1;
    storage.overwrite_file(name, &bytes).unwrap();
    let error = compact(&storage).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    assert_eq!(reader(&storage).snapshot().statistics().segments, SEGMENTS + 1);
    assert!(storage.names().iter().all(|name| !name.contains("/8.")), "{:?}", storage.names());
}

/// Commits go on while segments are merged beside them, and deletes that come in the middle of a merge count.
#[test]
fn the_background_merges_while_rows_come_and_go() {
    let options = OpenOptions { index_rows_min: 500, ..OpenOptions::default() };
    let storage = Arc::new(SimulatedStorage::new());
    let create = CreateOptions { columns: columns(), fields: Vec::new() };
    let mut store = Store::create(medium(&storage), create, options.clone()).unwrap();
    let mut expected = std::collections::BTreeMap::new();
    let mut random = RandomStream::new(4);
    let mut most_segments = 0;
    for batch in 0..160_usize {
        let first = batch * 20 % 2600;
        ingest(&mut store, rows(first..first + 20, batch as u64));
        expected.extend((first..first + 20).map(|key| (format!("r{key}"), format!("row {key} of {batch}"))));
        let gone: Vec<String> = expected.keys().filter(|_| random.below(100) < 3).cloned().collect();
        store.delete(&DeleteSelection::Keys(gone.clone())).unwrap();
        gone.iter().for_each(|key| drop(expected.remove(key)));
        most_segments = most_segments.max(store.snapshot().statistics().segments);
    }
    store.finish_compaction(Watch::silent(&Cancel::new())).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.row_count(), expected.len() as u64);
    for key in 0..2620 {
        let key = format!("r{key}");
        assert_eq!(snapshot.row(&key).unwrap().map(|row| row.text).as_ref(), expected.get(&key), "{key}");
    }
    assert!(snapshot.statistics().segments < 25, "{}", snapshot.statistics().segments);
    assert!(snapshot.statistics().segments < 160 / 4 && most_segments <= 160);
    drop(store);
    assert_sound(&storage);
}
