//! Manifests with right checksums and wrong content: read, checked, made the catalog by a repair, and written to.
//! Nothing of that may panic or allocate wildly.

use std::sync::Arc;

use ascribe::base::{
    Cancel, ColumnId, CommitSeq, ElementType, FieldType, Fingerprint, RowId, RowSet, SegmentId, checksum,
};
use ascribe::engine::{DeleteSelection, IngestOptions, OnDuplicate, Store, Watch};
use ascribe::format::{
    ColumnKind, DeletedRecord, FileRecord, MANIFEST_HEADER_SIZE_BYTES, Manifest, SourceRecord,
    encode_current, encode_manifest, manifest_name,
};
use ascribe::storage::{SimulatedStorage, Storage};

use crate::answers::{ask, problems, read};
use crate::cases::{Cases, READER_FLOOR_BYTES, WRITER_FLOOR_BYTES, alone};
use crate::flips::{largest_file_bytes, without_catalog};
use crate::resealed::{published, replace_manifest};
use crate::small_store::{column, declaration, lines, options};

/// The manifest's body with right checksums.
fn reseal_manifest(bytes: &mut [u8]) {
    let (header, body) = bytes.split_at_mut(MANIFEST_HEADER_SIZE_BYTES);
    let length = body.len() as u64;
    header[24..32].copy_from_slice(&length.to_le_bytes());
    header[32..40].copy_from_slice(&checksum(body).to_le_bytes());
    let sum = checksum(&header[..40]);
    header[40..].copy_from_slice(&sum.to_le_bytes());
}

/// Reads and checks a store with these bytes as its manifest.
fn endure(
    cases: &mut Cases,
    base: &SimulatedStorage,
    name: &str,
    bytes: &[u8],
    label: impl FnOnce() -> String,
) {
    let storage = base.duplicate();
    storage.overwrite_file(name, bytes).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(storage);
    cases.run(label, || {
        let _ = read(Arc::clone(&storage));
        problems(&storage);
        Ok(())
    });
}

#[test]
fn every_byte_of_a_resealed_manifest() {
    let _alone = alone();
    let base = without_catalog();
    let mut cases = Cases::new(READER_FLOOR_BYTES, largest_file_bytes(&base));
    let name = manifest_name(published(&base).store.commit);
    let whole = base.read_file(&name).unwrap();
    let mut resealed = whole.clone();
    reseal_manifest(&mut resealed);
    assert_eq!(resealed, whole);
    for position in MANIFEST_HEADER_SIZE_BYTES..whole.len() {
        for value in [whole[position] ^ 1, whole[position].wrapping_add(1), 0, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] = value;
            reseal_manifest(&mut bytes);
            endure(&mut cases, &base, &name, &bytes, || format!("byte {position} = {value:#04x}"));
        }
        for value in [1_u64 << 16, 1 << 31, 1 << 40, i64::MAX as u64, u64::MAX] {
            let mut bytes = whole.clone();
            let end = bytes.len().min(position + 8);
            bytes[position..end].copy_from_slice(&value.to_le_bytes()[..end - position]);
            reseal_manifest(&mut bytes);
            endure(&mut cases, &base, &name, &bytes, || format!("word at {position} = {value:#x}"));
        }
        let mut bytes = whole[..position].to_vec();
        reseal_manifest(&mut bytes);
        endure(&mut cases, &base, &name, &bytes, || format!("body cut at {position}"));
    }
    cases.finish(5000);
}

/// A length inside a large manifest may not ask for much more memory than the manifest has bytes: values in memory are
/// a few times wider than in the file, hence eight times.
#[test]
fn a_wild_length_in_a_large_manifest() {
    let _alone = alone();
    let base = without_catalog();
    for sources in [10_usize, 100, 1000, 10_000, 100_000] {
        let mut manifest = published(&base);
        manifest.sources = (0..sources)
            .map(|number| SourceRecord {
                path: format!("/{number:06}"),
                consumed_bytes: 0,
                prefix: Fingerprint([0; 32]),
                consumed_records: 0,
            })
            .collect();
        let name = manifest_name(manifest.store.commit);
        let mut bytes = encode_manifest(&manifest).unwrap();
        let mut cases = Cases::new(READER_FLOOR_BYTES, 8 * bytes.len());
        endure(&mut cases, &base, &name, &bytes, || format!("{sources} sources"));
        // The last length of the file is that of the operation's name; two counts of eight bytes follow the name.
        let at = bytes.len() - 16 - manifest.last.operation.len() - 8;
        for value in [1_u64 << 12, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 100_000_000, 200_000_000] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            reseal_manifest(&mut bytes);
            endure(&mut cases, &base, &name, &bytes, || format!("{sources} sources, length {value}"));
        }
        cases.finish(9);
    }
}

type Change = (&'static str, fn(&mut Manifest));

/// A row set of a few bytes a container that names every row there could be.
fn all_rows() -> Vec<u8> {
    const CONTAINERS: u32 = 65_536;
    let mut bytes = ((CONTAINERS - 1) << 16 | 12_347).to_le_bytes().to_vec();
    bytes.resize(4 + CONTAINERS as usize / 8, 0xff);
    for key in 0..CONTAINERS {
        bytes.extend((key as u16).to_le_bytes());
        bytes.extend([0xff, 0xff]);
    }
    bytes.resize(bytes.len() + 4 * CONTAINERS as usize, 0);
    for _ in 0..CONTAINERS {
        bytes.extend([1, 0, 0, 0, 0xff, 0xff]);
    }
    bytes
}

fn encoder(manifest: &mut Manifest, column: usize) -> &mut ascribe::format::EncoderRecord {
    match &mut manifest.store.columns[column].kind {
        ColumnKind::Embedding(encoder) => encoder,
        ColumnKind::Sketch { .. } => panic!("the small store has no sketches"),
    }
}

const SEGMENT_CHANGES: [Change; 19] = [
    ("most rows", |m| m.segments[0].row_count = u32::MAX),
    ("no rows", |m| m.segments[0].row_count = 0),
    ("one row more", |m| m.segments[1].row_count += 1),
    ("segments unsorted", |m| m.segments.reverse()),
    ("segment twice", |m| m.segments.push(m.segments[0].clone())),
    ("segment two thousand times", |m| m.segments = vec![m.segments[0].clone(); 2000]),
    ("last segment number", |m| m.segments[0].id = SegmentId(u64::MAX)),
    ("no segments", |m| m.segments.clear()),
    ("column twice in a segment", |m| {
        let column = m.segments[0].columns[0].clone();
        m.segments[0].columns.push(column);
    }),
    ("columns of a segment unsorted", |m| m.segments[0].columns.reverse()),
    ("unknown column in a segment", |m| m.segments[0].columns[0].column = ColumnId(77)),
    ("longest file", |m| m.segments[0].rows = FileRecord { length: u64::MAX, root: 0 }),
    ("longest column file", |m| m.segments[0].columns[0].file.length = u64::MAX),
    ("deletes unsorted", |m| m.deleted.reverse()),
    ("deletes twice", |m| m.deleted.push(m.deleted[0].clone())),
    ("deletes of no segment", |m| m.deleted[0].segment = SegmentId(99)),
    ("deletes that are none", |m| m.deleted[0].rows = vec![0xff; 100]),
    ("deletes of all rows there could be", |m| {
        m.deleted = vec![DeletedRecord { segment: m.segments[0].id, rows: all_rows() }];
    }),
    ("deletes of rows past the end", |m| {
        m.deleted[0].rows = [RowId(4), RowId(u32::MAX)].into_iter().collect::<RowSet>().to_bytes();
    }),
];

const COLUMN_CHANGES: [Change; 17] = [
    ("width 0", |m| m.store.columns[0].width = 0),
    ("width 0 of vectors", |m| m.store.columns[1].width = 0),
    ("width 0 of an empty column", |m| m.store.columns[2].width = 0),
    ("widest", |m| m.store.columns[0].width = u32::MAX),
    ("widest vectors", |m| {
        m.store.columns[2].width = u32::MAX;
        encoder(m, 2).specification = format!("vectors:{}", u32::MAX);
    }),
    ("column of another element", |m| m.store.columns[1].element = ElementType::I8),
    ("column number twice", |m| m.store.columns[1].id = m.store.columns[0].id),
    ("column name twice", |m| m.store.columns[1].name = m.store.columns[0].name.clone()),
    ("column without a name", |m| m.store.columns[1].name = String::new()),
    ("column with a hostile name", |m| m.store.columns[1].name = "../\u{0}\n".repeat(1000)),
    ("no columns", |m| m.store.columns.clear()),
    ("a thousand columns", |m| m.store.columns = vec![m.store.columns[0].clone(); 1000]),
    ("specification that is none", |m| encoder(m, 0).specification = "hashed:\u{0}9".to_owned()),
    ("text encoder with vectors' name", |m| encoder(m, 0).specification = "vectors:16".to_owned()),
    ("vectors with a text encoder's name", |m| encoder(m, 1).specification = "hashed:8".to_owned()),
    ("longest encoder file", |m| {
        encoder(m, 0).state = Some(FileRecord { length: u64::MAX, root: 7 });
        encoder(m, 3).state = Some(FileRecord { length: u64::MAX, root: 7 });
    }),
    ("encoder not fitted", |m| (encoder(m, 0).fingerprint, encoder(m, 0).state) = (None, None)),
];

const STORE_CHANGES: [Change; 13] = [
    ("field twice", |m| m.store.fields.push(m.store.fields[0].clone())),
    ("field twice with another type", |m| m.store.fields[5].name = "label".to_owned()),
    ("field of another type", |m| m.store.fields[0].kind = FieldType::Timestamp),
    ("field without a name", |m| m.store.fields[5].name = String::new()),
    ("field with a hostile name", |m| m.store.fields[5].name = "\"'; \u{0}".to_owned()),
    ("no fields", |m| m.store.fields.clear()),
    ("twenty thousand fields", |m| {
        let fields = (0..20_000).map(|number| declaration(&format!("f{number}"), FieldType::Text));
        m.store.fields.extend(fields);
    }),
    ("last segment to come", |m| m.store.next_segment = SegmentId(u64::MAX)),
    ("next segment is there already", |m| m.store.next_segment = SegmentId(0)),
    ("last column to come", |m| m.store.next_column = ColumnId(u32::MAX)),
    ("next column is there already", |m| m.store.next_column = ColumnId(0)),
    ("last counter", |m| m.store.next_counter = u64::MAX),
    ("last commit", |m| {
        m.store.commit = CommitSeq(u64::MAX);
        m.last.commit = CommitSeq(u64::MAX);
    }),
];

fn with_state(base: &SimulatedStorage, manifest: &Manifest) -> SimulatedStorage {
    let storage = base.duplicate();
    replace_manifest(&storage, manifest);
    storage.overwrite_file("CURRENT", &encode_current(manifest.store.commit)).unwrap();
    storage
}

const MORE: &str = r#"{"key":"k","text":"cat","vector":[1,0,0.5,-1],"label":"x","late":3}
"#;

/// Equal rows without a key: theirs are counted.
const MORE_WITHOUT_KEYS: &str = r#"{"text":"dog","vector":[1,0,0.5,-1]}
{"text":"dog","vector":[1,0,0.5,-1]}
{"text":"dog","vector":[1,0,0.5,-1]}
"#;

/// Everything that changes a store; the texts of what is refused.
fn change(store: &mut Store) -> Vec<String> {
    let cancel = Cancel::new();
    let watch = Watch::silent(&cancel);
    let mut refused = Vec::new();
    for name in ["ready", "other"] {
        let inputs = [
            (MORE, OnDuplicate::Error),
            (MORE, OnDuplicate::Replace),
            (MORE_WITHOUT_KEYS, OnDuplicate::Error),
        ];
        for (rows, on_duplicate) in inputs {
            let options =
                IngestOptions { column: Some(name.to_owned()), on_duplicate, ..IngestOptions::default() };
            let ingested = store.ingest(lines(rows), &options, watch, &mut |_| {});
            refused.extend(ingested.err().map(|error| error.to_string()));
        }
    }
    let keys = DeleteSelection::Keys(vec!["a".to_owned(), "h".to_owned()]);
    let chosen = DeleteSelection::Where("late > 1 OR label LIKE 'g%'".to_owned());
    for selection in [keys, chosen] {
        refused.extend(store.delete(&selection).err().map(|error| error.to_string()));
    }
    let field = declaration("page", FieldType::Integer);
    refused.extend(store.add_field(field).err().map(|error| error.to_string()));
    for definition in
        [column("more", "hashed:8", ElementType::F16), column("vectors", "vectors:2", ElementType::F32)]
    {
        refused.extend(store.add_column(definition, watch).err().map(|error| error.to_string()));
    }
    refused.extend(store.drop_column("embedding").err().map(|error| error.to_string()));
    ask(&store.snapshot());
    refused
}

fn endure_changes(changes: &[Change]) {
    let _alone = alone();
    let base = without_catalog();
    let untouched = published(&base);
    for (label, change_state) in changes {
        let mut manifest = untouched.clone();
        change_state(&mut manifest);
        assert_ne!(manifest, untouched, "{label}");
        let storage = with_state(&base, &manifest);
        let largest = 8 * largest_file_bytes(&storage);
        let mut reading = Cases::new(READER_FLOOR_BYTES, largest);
        let bytes = encode_manifest(&manifest).unwrap();
        let name = manifest_name(manifest.store.commit);
        endure(&mut reading, &storage, &name, &bytes, || format!("{label}, read"));
        reading.finish(1);
        // Fitting an encoder takes 4 MiB of counts and 8 MiB while they grow to a list.
        let mut writing = Cases::new(4 * WRITER_FLOOR_BYTES, largest);
        writing.run(
            || format!("{label}, written"),
            || {
                let storage: Arc<dyn Storage> = Arc::new(storage.duplicate());
                if let Ok(mut store) = Store::repair(Arc::clone(&storage), options()) {
                    change(&mut store);
                }
                if let Ok(mut store) = Store::open(Arc::clone(&storage), options()) {
                    change(&mut store);
                }
                let _ = read(storage);
                Ok(())
            },
        );
        writing.finish(1);
    }
}

#[test]
fn hostile_segments_and_deletes() {
    endure_changes(&SEGMENT_CHANGES);
}

#[test]
fn hostile_columns() {
    endure_changes(&COLUMN_CHANGES);
}

#[test]
fn hostile_fields_and_numbers() {
    endure_changes(&STORE_CHANGES);
}

/// The changes above work on a sound state too, so that they do change something.
#[test]
fn a_sound_state_takes_the_changes() {
    let _alone = alone();
    let storage: Arc<dyn Storage> = Arc::new(without_catalog());
    let mut store = Store::repair(storage, options()).unwrap();
    let before = store.snapshot();
    let refused = change(&mut store);
    let after = store.snapshot();
    // A key that is there by then, and vectors of another width than the column's.
    assert!(refused.len() == 3 && refused[0].contains("\"k\" is in the store already"), "{refused:?}");
    assert!(refused[1..].iter().all(|text| text.contains("has 4 values")), "{refused:?}");
    // Three ingests, two deletes, a field, two columns, a column dropped.
    assert_eq!(after.commit().0, before.commit().0 + 9);
    // Of nine rows `a`, `h`, `f` and `g` went; `k` came and went; three without keys came.
    assert_eq!((before.row_count(), after.row_count()), (9, 8));
}
