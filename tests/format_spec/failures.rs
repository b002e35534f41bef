//! Changed, cut, missing and exchanged files, and the error that each leads to.

use std::sync::Arc;

use ascribe::base::{ColumnId, Fingerprint, SegmentId};
use ascribe::format::{Manifest, encode_current, seal_record};
use ascribe::storage::{
    CatalogError, CheckInProcess, ColumnFile, FileError, OpenWriterError, PublishedError, RowFile,
    SimulatedStorage, Storage, Writer, pin_current, read_encoder_file,
};

use super::pages::table;
use super::sample;
use super::sealed::take_apart;

const MANIFEST: &str = "MANIFEST-00000000000000000002";

fn encoder_name() -> String {
    format!("encoders/1.{}.enc", Fingerprint([0xab; 32]))
}

/// When a file error shows, and which it is.
fn use_sealed(storage: &SimulatedStorage, state: &Manifest, name: &str) -> (&'static str, String) {
    let segment = &state.segments[0];
    let (open, touch) = match name {
        "segments/1.rows" => match RowFile::open(storage, SegmentId(1), 3, segment.rows) {
            Err(error) => (Some(error), None),
            Ok(file) => (None, file.verify(&state.store.fields).err()),
        },
        "segments/1.1.col" | "segments/1.2.col" => {
            let column = &segment.columns[usize::from(name.contains(".2."))];
            match ColumnFile::open(storage, SegmentId(1), column.column, 3, column.file) {
                Err(error) => (Some(error), None),
                Ok(file) => (None, file.verify().err()),
            }
        }
        _ => panic!("{name}"),
    };
    match (open, touch) {
        (Some(error), _) => ("when it is opened", file_error(&error)),
        (None, Some(error)) => ("when the block is first touched", file_error(&error)),
        (None, None) => ("never", "none".to_owned()),
    }
}

fn file_error(error: &FileError) -> String {
    let name = match error {
        FileError::Io { .. } => "Io",
        FileError::Damaged { .. } => "Damaged",
        FileError::NotAsRecorded { .. } => "NotAsRecorded",
        FileError::Content { .. } => "Content",
        _ => "another",
    };
    format!("FileError::{name}")
}

fn read(storage: &SimulatedStorage) -> String {
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let name = match pin_current(&shared) {
        Ok(_) => return "none".to_owned(),
        Err(PublishedError::NotAStore { .. }) => "NotAStore",
        Err(PublishedError::Io { .. }) => "Io",
        Err(PublishedError::Damaged { .. }) => "Damaged",
        Err(_) => "another",
    };
    format!("PublishedError::{name}")
}

fn write(storage: &SimulatedStorage) -> String {
    let name = match Writer::open(Arc::new(storage.clone()), &CheckInProcess) {
        Ok(_) => return "none".to_owned(),
        Err(OpenWriterError::NotAStore { .. }) => "NotAStore",
        Err(OpenWriterError::Catalog(CatalogError::Damaged { .. } | CatalogError::Database { .. })) => {
            "Catalog"
        }
        Err(OpenWriterError::CatalogMissing { .. }) => "CatalogMissing",
        Err(OpenWriterError::Contradiction { .. }) => "Contradiction",
        Err(OpenWriterError::Locked { .. }) => "Locked",
        Err(_) => "another",
    };
    format!("OpenWriterError::{name}")
}

fn change(storage: &SimulatedStorage, name: &str, work: impl FnOnce(&mut Vec<u8>)) -> SimulatedStorage {
    let changed = storage.duplicate();
    let mut bytes = changed.read_file(name).unwrap();
    work(&mut bytes);
    changed.overwrite_file(name, &bytes).unwrap();
    changed
}

/// Error and moment in the row of this file and place.
fn documented(file: &str, place: &str) -> (String, String) {
    let table = table("commit-sequence.md", "A changed byte");
    let row = table
        .rows
        .iter()
        .find(|row| table.cell(row, "file") == file && table.cell(row, "where") == place)
        .unwrap_or_else(|| panic!("no row for {place} of {file}"));
    (table.cell(row, "found").to_owned(), table.cell(row, "error").to_owned())
}

#[test]
fn a_changed_byte_of_a_sealed_file_is_found() {
    let (storage, state) = sample::store();
    for name in ["segments/1.rows", "segments/1.1.col", "segments/1.2.col"] {
        let mut met = std::collections::BTreeSet::new();
        for (place, range) in take_apart(&storage.read_file(name).unwrap()).regions {
            met.insert(place);
            let (found, error) = documented("sealed file", place);
            // The module table of a sketch column is read at once, and here stands in the only block.
            let moment = match found.as_str() {
                "when any block is first touched" | "when the block is first touched" => {
                    if name == "segments/1.2.col" {
                        "when it is opened"
                    } else {
                        "when the block is first touched"
                    }
                }
                other => other,
            };
            for position in range.step_by(5) {
                let changed = change(&storage, name, |bytes| bytes[position] ^= 0x40);
                let outcome = use_sealed(&changed, &state, name);
                assert_eq!(outcome, (moment, error.clone()), "byte {position} of {name}, {place}");
            }
        }
        assert_eq!(met.len(), 5, "{name}: {met:?}");
    }
    let changed = change(&storage, &encoder_name(), |bytes| bytes[70] ^= 1);
    let record = take_apart(&storage.read_file(&encoder_name()).unwrap())
        .record(&storage.read_file(&encoder_name()).unwrap());
    let error = read_encoder_file(&changed, ColumnId(1), &Fingerprint([0xab; 32]), record).unwrap_err();
    assert_eq!(file_error(&error), documented("sealed file", "section").1);
}

#[test]
fn a_changed_byte_of_what_readers_go_by_is_found() {
    let (storage, _) = sample::store();
    let length = storage.read_file(MANIFEST).unwrap().len();
    for (file, name, place, range) in [
        ("manifest", MANIFEST, "header", 0..48),
        ("manifest", MANIFEST, "body", 48..length),
        ("CURRENT", "CURRENT", "anywhere", 0..47),
    ] {
        let (found, error) = documented(file, place);
        assert_eq!(found, "when it is read");
        for position in range {
            let changed = change(&storage, name, |bytes| bytes[position] ^= 0x01);
            assert_eq!(read(&changed), error, "byte {position} of {name}");
        }
        // The remedy: opening for writing publishes again.
        let changed = change(&storage, name, |bytes| bytes[40] ^= 0x10);
        assert_eq!((write(&changed), read(&changed)), ("none".to_owned(), "none".to_owned()), "{name}");
    }
}

#[test]
fn a_changed_byte_of_the_catalog_is_found_or_harmless() {
    let (storage, state) = sample::store();
    let (_, error) = documented("catalog.sum", "anywhere");
    assert!(error.starts_with(&write(&change(&storage, "catalog.sum", |bytes| bytes[20] ^= 1))), "{error}");

    let (_, error) = documented("catalog.redb", "pages in use");
    let record = seal_record(&state.store).unwrap();
    let catalog = storage.read_file("catalog.redb").unwrap();
    let places: Vec<usize> =
        (0..catalog.len() - record.len()).filter(|at| catalog[*at..].starts_with(&record)).collect();
    let [place] = places.as_slice() else { panic!("the record lies at {places:?}") };
    for position in [0, 8, 30, record.len() - 1] {
        let changed = change(&storage, "catalog.redb", |bytes| bytes[place + position] ^= 0x02);
        assert_eq!(write(&changed), error, "byte {position} of the record");
        assert_eq!(read(&changed), "none", "readers go on");
    }

    let (_, error) = documented("catalog.redb", "pages not in use");
    let last = catalog.len() - 1;
    let changed = change(&storage, "catalog.redb", |bytes| bytes[last] ^= 0x02);
    assert!(error.starts_with(&write(&changed)), "{error}");
}

#[test]
fn cut_missing_and_exchanged_files_are_found() {
    let (storage, state) = sample::store();
    let rows = "segments/1.rows";
    let missing = |name: &str| {
        let left = storage.duplicate();
        left.remove(name).unwrap();
        left
    };
    let sealed = |changed: &SimulatedStorage| use_sealed(changed, &state, rows).1;
    let cut = |name: &str| change(&storage, name, |bytes| bytes.truncate(bytes.len() - 1));
    let longer = |name: &str| change(&storage, name, |bytes| bytes.push(0));
    let exchanged = change(&storage, rows, |bytes| *bytes = storage.read_file("segments/1.1.col").unwrap());
    let other_moment = change(&storage, rows, |bytes| *bytes = rows_of_another_moment(bytes.len()));
    let earlier_manifest = change(&storage, MANIFEST, |bytes| {
        *bytes = ascribe::format::encode_manifest(&sample::first_state()).unwrap();
    });
    let mut found = vec![
        ("sealed file cut off or longer", vec![sealed(&cut(rows)), sealed(&longer(rows))]),
        (
            "sealed file shorter than 576 bytes",
            vec![sealed(&change(&storage, rows, |bytes| bytes.truncate(575)))],
        ),
        ("sealed file missing", vec![sealed(&missing(rows))]),
        (
            "sealed file of another segment, column, kind or moment in its place",
            vec![sealed(&exchanged), sealed(&other_moment)],
        ),
        ("manifest cut off or longer", vec![read(&cut(MANIFEST)), read(&longer(MANIFEST))]),
        ("manifest missing", vec![read(&missing(MANIFEST))]),
        ("manifest of another commit in its place", vec![read(&earlier_manifest)]),
        ("CURRENT cut off or longer", vec![read(&cut("CURRENT")), read(&longer("CURRENT"))]),
        ("CURRENT missing", vec![read(&missing("CURRENT"))]),
        ("catalog.redb missing", vec![write(&missing("catalog.redb"))]),
    ];
    found.push(("catalog.redb of an earlier moment in its place", vec![write(&with_earlier_catalog())]));
    let table = table("commit-sequence.md", "Truncated, missing, exchanged").map("what", "error");
    assert_eq!(table.len(), found.len());
    for (what, errors) in found {
        for error in errors {
            assert!(table[what].split(" or ").any(|documented| documented == error), "{what}: {error}");
        }
    }
}

/// A row file of segment 1 with the given length and other bytes, its checksums right.
fn rows_of_another_moment(length: usize) -> Vec<u8> {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    let mut content = sample::row_content();
    content.texts[0] = "the dog sat".into();
    ascribe::storage::write_row_file(&storage, SegmentId(1), &content).unwrap();
    let bytes = storage.read_file("segments/1.rows").unwrap();
    assert_eq!(bytes.len(), length);
    bytes
}

/// The store of [`sample::store`] with the catalog that it had, closed cleanly, at commit 1.
fn with_earlier_catalog() -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    let first = sample::first_state();
    drop(Writer::create(Arc::new(storage.clone()), first.clone()).unwrap());
    let (catalog, sum) =
        (storage.read_file("catalog.redb").unwrap(), storage.read_file("catalog.sum").unwrap());
    let mut writer = Writer::open(Arc::new(storage.clone()), &CheckInProcess).unwrap();
    let next = sample::write_segment(&storage, &first);
    writer.commit(next).unwrap();
    drop(writer);
    storage.overwrite_file("catalog.redb", &catalog).unwrap();
    storage.overwrite_file("catalog.sum", &sum).unwrap();
    storage
}

#[test]
fn a_later_manifest_is_never_gone_back_from() {
    let (storage, _) = sample::store();
    let later = "MANIFEST-00000000000000000003";
    // Whether it can be read or not, and whether CURRENT can.
    for (bytes, current) in [(b"".to_vec(), None), (b"".to_vec(), Some(b"damaged".to_vec()))] {
        let storage = storage.duplicate();
        storage.overwrite_file(later, &bytes).unwrap();
        if let Some(current) = current {
            storage.overwrite_file("CURRENT", &current).unwrap();
        }
        let before: Vec<String> = storage.names();
        assert_eq!(write(&storage), "OpenWriterError::Contradiction");
        assert_eq!(storage.names(), before, "nothing is removed");
    }
    let current = storage.duplicate();
    current.overwrite_file("CURRENT", &encode_current(ascribe::base::CommitSeq(3))).unwrap();
    assert_eq!(write(&current), "OpenWriterError::Contradiction");
}

#[test]
fn folders_that_a_copy_lacks_are_made_again() {
    let (storage, mut writer, _) = super::crash::prepared();
    let next = {
        writer.discard_uncommitted();
        let mut next = Manifest::clone(writer.state());
        next.store.commit = ascribe::base::CommitSeq(2);
        next.last.commit = next.store.commit;
        next
    };
    writer.commit(next.clone()).unwrap();
    drop(writer);
    let copy = SimulatedStorage::new();
    for name in storage.names() {
        copy.overwrite_file(&name, &storage.read_file(&name).unwrap()).unwrap();
    }
    // A reader and a writer, each the first to come.
    assert_eq!(read(&copy.duplicate()), "none");
    let mut writer = Writer::open(Arc::new(copy.clone()), &CheckInProcess).unwrap();
    writer.commit(sample::write_segment(&copy, &next)).unwrap();
    drop(writer);
    for seed in 0..8 {
        assert_eq!(super::crash::outcome(copy.crash(seed)), (3, 3), "seed {seed}");
    }
}

#[test]
fn a_reader_goes_on_without_a_pin_only_where_nobody_may_write() {
    let (storage, _) = sample::store();
    storage.fail_operation(1, ascribe::storage::Failure::Once);
    assert_eq!(read(&storage), "PublishedError::Io");
    assert_eq!(read(&storage), "none");
}

#[test]
fn an_unreadable_catalog_is_a_cut_off_creation_only_where_there_are_no_rows() {
    let (storage, _) = sample::store();
    storage.remove(MANIFEST).unwrap();
    storage.remove("CURRENT").unwrap();
    storage.overwrite_file("catalog.redb", b"no catalog").unwrap();
    assert_eq!(write(&storage), "OpenWriterError::Catalog");
    for name in storage.list("segments").unwrap() {
        storage.remove(&format!("segments/{name}")).unwrap();
    }
    assert_eq!(write(&storage), "OpenWriterError::NotAStore");
}

#[test]
fn a_second_writer_is_refused_and_a_dead_reader_keeps_nothing() {
    let (storage, _) = sample::store();
    let writer = Writer::open(Arc::new(storage.clone()), &CheckInProcess).unwrap();
    assert_eq!(write(&storage), "OpenWriterError::Locked");
    drop(writer);
    storage.overwrite_file("pins/4711.0-1", b"").unwrap();
    storage.overwrite_file("MANIFEST-00000000000000000001", b"no longer pinned").unwrap();
    assert_eq!(write(&storage), "none");
    assert!(storage.list("pins").unwrap().is_empty());
    assert!(storage.read_file("MANIFEST-00000000000000000001").is_err());
    assert_eq!(storage.read_file("CURRENT").unwrap(), encode_current(ascribe::base::CommitSeq(2)));
}
