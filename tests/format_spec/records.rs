//! Catalog records, their frame, tables of the catalog.

use ascribe::format::{open_record, seal_record};
use ascribe::storage::SimulatedStorage;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use twox_hash::XxHash3_64;

use super::body::decode;
use super::pages::{cut, table};
use super::sample;

/// The body in a frame, which is checked.
fn unframe(bytes: &[u8]) -> Vec<u8> {
    let frame = cut("catalog.md", "Frame", bytes);
    assert_eq!(frame.number("format version"), u64::from(ascribe::format::FORMAT_VERSION));
    assert_eq!(frame.number("least reader version"), u64::from(ascribe::format::MIN_READER_VERSION));
    assert_eq!(frame.number("body length"), frame.bytes("body").len() as u64);
    assert_eq!(frame.number("checksum"), XxHash3_64::oneshot(&bytes[..bytes.len() - 8]));
    frame.bytes("body").to_vec()
}

fn expect(kind: &str, bytes: &[u8], expected: &[&str]) {
    assert_eq!(decode(kind, &unframe(bytes)), expected, "{kind}");
}

pub(crate) const STORE_LINES: [&str; 55] = [
    "store = 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
    "commit = 7",
    "next_segment = 97",
    "next_column = 34",
    "next_counter = 35",
    "fields.count = 5",
    "fields[0].name = f-text",
    "fields[0].kind = text",
    "fields[1].name = f-integer",
    "fields[1].kind = integer",
    "fields[2].name = f-float",
    "fields[2].kind = float",
    "fields[3].name = f-boolean",
    "fields[3].kind = boolean",
    "fields[4].name = f-timestamp",
    "fields[4].kind = timestamp",
    "columns.count = 3",
    "columns[0].id = 1",
    "columns[0].name = embedding",
    "columns[0].element = int8",
    "columns[0].width = 16",
    "columns[0].kind = embedding",
    "columns[0].kind.specification = hashed:16",
    "columns[0].kind.fingerprint = abababababababababababababababababababababababababababababababab",
    "columns[0].kind.state.length = 16909060",
    "columns[0].kind.state.root = 1230066625199609624",
    "columns[1].id = 2",
    "columns[1].name = sketch",
    "columns[1].element = f16",
    "columns[1].width = 72",
    "columns[1].kind = sketch",
    "columns[1].kind.schema = {\"modules\":[]}",
    "columns[1].kind.fingerprint = cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    "columns[1].kind.head.embedding = 1",
    "columns[1].kind.head.label = f-text",
    "columns[1].kind.head.file.length = 40",
    "columns[1].kind.head.file.root = 41",
    "columns[2].id = 4",
    "columns[2].name = given",
    "columns[2].element = f32",
    "columns[2].width = 3",
    "columns[2].kind = embedding",
    "columns[2].kind.specification = vectors:3",
    "columns[2].kind.fingerprint = missing",
    "columns[2].kind.state = missing",
    "next_curvature = 36",
    "curvatures.count = 1",
    "curvatures[0].version = 33",
    "curvatures[0].column = 2",
    "curvatures[0].kind = margin",
    "curvatures[0].form = dual",
    "curvatures[0].rows = 37",
    "curvatures[0].commit = 6",
    "curvatures[0].file.length = 38",
    "curvatures[0].file.root = 39",
];

pub(crate) const SEGMENT_LINES: [&str; 12] = [
    "id = 49",
    "place = 48",
    "row_count = 50",
    "rows.length = 51",
    "rows.root = 52",
    "columns.count = 2",
    "columns[0].column = 1",
    "columns[0].file.length = 54",
    "columns[0].file.root = 55",
    "columns[1].column = 2",
    "columns[1].file.length = 57",
    "columns[1].file.root = 58",
];

pub(crate) const SOURCE_LINES: [&str; 4] = [
    "path = /data/rows.jsonl",
    "consumed_bytes = 65",
    "prefix = efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef",
    "consumed_records = 66",
];

pub(crate) const COMMIT_LINES: [&str; 5] =
    ["commit = 7", "unix_ms = 81", "operation = ingest", "rows_added = 82", "rows_deleted = 83"];

#[test]
fn records_are_as_documented() {
    expect("StoreRecord", &seal_record(&sample::store_record(7)).unwrap(), &STORE_LINES);
    expect("SegmentRecord", &seal_record(&sample::segment_record()).unwrap(), &SEGMENT_LINES);
    expect("SourceRecord", &seal_record(&sample::source_record()).unwrap(), &SOURCE_LINES);
    expect("CommitRecord", &seal_record(&sample::commit_record(7)).unwrap(), &COMMIT_LINES);
    let deleted = decode("DeletedRecord", &unframe(&seal_record(&sample::deleted_record()).unwrap()));
    assert_eq!(deleted[0], "segment = 49");
    // Cookie 12346, one container: high bits 0, 3 values less one, at offset 16, then 1, 2 and 40.
    assert_eq!(deleted[1], "rows = 3a300000010000000000020010000000010002002800");
}

#[test]
fn a_body_with_anything_behind_it_or_missing_is_refused() {
    let body = unframe(&seal_record(&sample::commit_record(7)).unwrap());
    for length in [body.len() - 1, body.len() + 1] {
        let mut changed = body.clone();
        changed.resize(length, 0);
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&changed);
        let sum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        assert!(open_record::<ascribe::format::CommitRecord>(&bytes).is_err(), "{length}");
    }
}

/// The catalog of a store, opened without ascribe.
fn database(storage: &SimulatedStorage) -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    std::fs::write(&path, storage.read_file("catalog.redb").unwrap()).unwrap();
    let database = Database::open(path).unwrap();
    (folder, database)
}

#[test]
fn tables_of_the_catalog_are_as_documented() {
    let (storage, state) = sample::store();
    let (_folder, database) = database(&storage);
    let reading = database.begin_read().unwrap();
    let mut names: Vec<String> =
        reading.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.sort();
    let documented = table("catalog.md", "Tables");
    let types = documented.map("table", "key type");
    assert_eq!(names, types.keys().cloned().collect::<Vec<_>>());
    let mut entries = Vec::new();
    for row in &documented.rows {
        let name = documented.cell(row, "table");
        let record = documented.cell(row, "value").split(';').next().unwrap();
        let mut add =
            |key: String, bytes: &[u8]| entries.push((name.to_owned(), key, decode(record, &unframe(bytes))));
        match documented.cell(row, "key type") {
            "&str" => {
                let table = reading.open_table(TableDefinition::<&str, &[u8]>::new(name)).unwrap();
                for entry in table.iter().unwrap() {
                    let (key, value) = entry.unwrap();
                    add(key.value().to_owned(), value.value());
                }
            }
            "u64" => {
                let table = reading.open_table(TableDefinition::<u64, &[u8]>::new(name)).unwrap();
                for entry in table.iter().unwrap() {
                    let (key, value) = entry.unwrap();
                    add(key.value().to_string(), value.value());
                }
            }
            other => panic!("no such key type: {other}"),
        }
    }
    let found: Vec<(&str, &str, &str)> = entries
        .iter()
        .map(|(table, key, lines)| {
            (table.as_str(), key.as_str(), lines[usize::from(table == "store")].as_str())
        })
        .collect();
    let expected = [
        ("store", "store", "commit = 2"),
        ("segments", "1", "id = 1"),
        ("deleted", "1", "segment = 1"),
        ("sources", "/data/rows.jsonl", "path = /data/rows.jsonl"),
        ("commits", "1", "commit = 1"),
        ("commits", "2", "commit = 2"),
    ];
    assert_eq!(found, expected);
    assert_eq!(state.store.commit.0, 2);
}

#[test]
fn catalog_sum_is_as_documented() {
    let (storage, _) = sample::store();
    let catalog = storage.read_file("catalog.redb").unwrap();
    let line = format!("catalog.redb {} {:016x}\n", catalog.len(), XxHash3_64::oneshot(&catalog));
    assert_eq!(storage.read_file("catalog.sum").unwrap(), line.as_bytes());
}
