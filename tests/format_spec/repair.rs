//! What `repair` chooses, and a power cut at each of its syncs.

use std::sync::Arc;

use ascribe::base::CommitSeq;
use ascribe::format::Manifest;
use ascribe::storage::{
    CheckInProcess, Failure, OpenWriterError, PublishedError, SimulatedStorage, Storage, Writer, pin_current,
};

use super::crash::{check_files, outcome, prepared};
use super::pages::table;
use super::sample;

/// Outcomes of each power cut.
const SEEDS: u64 = 4;
const MANIFEST: [&str; 2] = ["MANIFEST-00000000000000000001", "MANIFEST-00000000000000000002"];

fn repair(storage: &SimulatedStorage) -> Result<Writer, OpenWriterError> {
    Writer::repair(Arc::new(storage.clone()), &CheckInProcess)
}

fn open(storage: &SimulatedStorage) -> Result<Writer, OpenWriterError> {
    Writer::open(Arc::new(storage.clone()), &CheckInProcess)
}

/// A closed store at commit 2 whose catalog is damaged.
fn damaged() -> SimulatedStorage {
    let (storage, _) = sample::store();
    storage.overwrite_file("catalog.redb", b"no catalog").unwrap();
    storage
}

/// A store whose commit 2 is in the catalog and not published.
fn unpublished() -> SimulatedStorage {
    let (storage, mut writer, next) = prepared();
    let before = storage.operations();
    writer.commit(next).unwrap();
    let operations = storage.operations() - before;
    for operation in (1..=operations).rev() {
        let (storage, mut writer, next) = prepared();
        storage.fail_operation(operation, Failure::Once);
        if writer.commit(next).is_err() && storage.read_file(MANIFEST[1]).is_err() {
            drop(writer);
            let copy = storage.duplicate();
            assert_eq!(outcome(copy), (1, 2));
            return storage.duplicate();
        }
    }
    panic!("no operation of publishing failed");
}

/// A store whose manifest of commit 1 is still there.
fn with_older_manifest() -> SimulatedStorage {
    let (storage, mut writer, next) = prepared();
    let older = storage.read_file(MANIFEST[0]).unwrap();
    writer.commit(next).unwrap();
    drop(writer);
    storage.overwrite_file(MANIFEST[0], &older).unwrap();
    storage
}

fn change(storage: SimulatedStorage, name: &str, bytes: &[u8]) -> SimulatedStorage {
    storage.overwrite_file(name, bytes).unwrap();
    storage
}

fn without(storage: SimulatedStorage, name: &str) -> SimulatedStorage {
    storage.remove(name).unwrap();
    storage.duplicate()
}

/// The catalog of commit 1 in the place of the one of commit 2.
fn with_earlier_catalog() -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    let first = sample::first_state();
    drop(Writer::create(Arc::new(storage.clone()), first.clone()).unwrap());
    let earlier = storage.read_file("catalog.redb").unwrap();
    let mut writer = open(&storage).unwrap();
    writer.commit(sample::write_segment(&storage, &first)).unwrap();
    drop(writer);
    change(storage, "catalog.redb", &earlier)
}

/// The stores of the page's table.
fn store(name: &str) -> SimulatedStorage {
    match name {
        "nothing is damaged" => sample::store().0,
        "catalog damaged" => damaged(),
        "catalog missing" => without(sample::store().0, "catalog.redb"),
        "catalog of an earlier commit" => with_earlier_catalog(),
        "catalog holds a commit that was not published" => unpublished(),
        "manifest damaged" => change(sample::store().0, MANIFEST[1], b"no manifest"),
        "CURRENT and catalog damaged" => change(damaged(), "CURRENT", b"nothing"),
        "all manifests and CURRENT missing" => without(without(sample::store().0, MANIFEST[1]), "CURRENT"),
        "catalog and newest manifest damaged" => {
            let storage = change(with_older_manifest(), "catalog.redb", b"no catalog");
            change(storage, MANIFEST[1], b"no manifest")
        }
        "catalog of an earlier commit, newest manifest damaged" => {
            change(with_earlier_catalog(), MANIFEST[1], b"no manifest")
        }
        "catalog and all manifests damaged" => change(damaged(), MANIFEST[1], b"no manifest"),
        "catalog damaged, manifest of a later version" => {
            let storage = change(with_older_manifest(), "catalog.redb", b"no catalog");
            let mut bytes = storage.read_file(MANIFEST[1]).unwrap();
            bytes[10] = 1;
            let sum = ascribe::base::checksum(&bytes[..40]).to_le_bytes();
            bytes[40..48].copy_from_slice(&sum);
            change(storage, MANIFEST[1], &bytes)
        }
        "nothing of a store is there" => SimulatedStorage::new(),
        other => panic!("no such store: {other}"),
    }
}

fn state_of(commit: u64) -> Manifest {
    let first = sample::first_state();
    if commit == 1 { first } else { sample::store().1 }
}

fn error_name(error: &OpenWriterError) -> &'static str {
    match error {
        OpenWriterError::NotAStore { .. } => "OpenWriterError::NotAStore",
        OpenWriterError::Published(PublishedError::Damaged { .. }) => "PublishedError::Damaged",
        _ => "another",
    }
}

#[test]
fn repair_takes_the_state_that_the_page_says() {
    let page = table("commit-sequence.md", "What repair takes");
    for row in &page.rows {
        let name = page.cell(row, "what is there");
        let (expected, kept) = (page.cell(row, "taken"), page.cell(row, "set aside"));
        let storage = store(name);
        let before = storage.names();
        match repair(&storage) {
            Err(error) => {
                assert_eq!(error_name(&error), expected, "{name}: {error}");
                let mut names = storage.names();
                names.retain(|name| name != "LOCK" || before.contains(name));
                assert_eq!(names, before, "{name}: nothing was touched");
                continue;
            }
            Ok(writer) => {
                assert_eq!(format!("commit {}", writer.state().store.commit), expected, "{name}");
                assert_eq!(**writer.state(), state_of(writer.state().store.commit.0), "{name}");
                drop(writer);
            }
        }
        let names = storage.names();
        let aside: Vec<&str> =
            names.iter().filter(|name| name.contains(".damaged-")).map(String::as_str).collect();
        let documented: Vec<&str> = kept.split(", ").filter(|name| *name != "-").collect();
        let aside: Vec<String> =
            aside.into_iter().map(|name| name.replace(MANIFEST[1], "MANIFEST-n")).collect();
        assert_eq!(aside, documented, "{name}");
        let commit = outcome(storage).0;
        assert_eq!(format!("commit {commit}"), expected, "{name}");
    }
    assert_eq!(page.rows.len(), 13);
}

#[test]
fn repair_keeps_every_old_catalog() {
    let storage = damaged();
    for number in 1..4 {
        let old = format!("damaged for the {number}. time").into_bytes();
        storage.overwrite_file("catalog.redb", &old).unwrap();
        drop(repair(&storage).unwrap());
        assert_eq!(storage.read_file(&format!("catalog.redb.damaged-{number}")).unwrap(), old);
    }
    assert_eq!(outcome(storage), (2, 2));
}

/// What was acknowledged (or promised, in the catalog) must be there after a power cut in the middle of repair: when the
/// store is opened, or when repair runs again.
#[test]
fn a_power_cut_during_repair_loses_nothing() {
    for (name, commit) in [
        ("nothing is damaged", 2),
        ("catalog damaged", 2),
        ("catalog missing", 2),
        ("catalog of an earlier commit", 2),
        ("catalog holds a commit that was not published", 2),
        ("manifest damaged", 2),
        ("CURRENT and catalog damaged", 2),
        ("catalog and newest manifest damaged", 1),
        ("catalog of an earlier commit, newest manifest damaged", 1),
    ] {
        let damaged = store(name).duplicate();
        let whole = damaged.duplicate();
        let before = whole.syncs();
        drop(repair(&whole).unwrap());
        let syncs = whole.syncs() - before;
        assert!(syncs > 8, "{name}: {syncs} syncs");
        for (sync, seed) in (1..=syncs).flat_map(|sync| (0..SEEDS).map(move |seed| (sync, seed))) {
            let storage = damaged.duplicate();
            storage.crash_at_sync(sync);
            let _ = repair(&storage).map(drop);
            let left = storage.crash(seed);
            check_reader(&left, commit);
            let place = format!("{name}, sync {sync}, seed {seed}");
            let writer = match open(&left) {
                Ok(writer) => writer,
                Err(error) => {
                    let is_documented = matches!(
                        error,
                        OpenWriterError::Catalog(_)
                            | OpenWriterError::CatalogMissing { .. }
                            | OpenWriterError::Contradiction { .. }
                    );
                    assert!(is_documented, "{place}: {error}");
                    repair(&left).unwrap_or_else(|error| panic!("{place}: {error}"))
                }
            };
            assert_eq!(**writer.state(), state_of(commit), "{place}");
            drop(writer);
            assert_eq!(outcome(left), (commit, commit), "{place}");
        }
    }
}

/// A reader sees a whole commit, the one repaired or an earlier one, or a damage that was there before.
fn check_reader(left: &SimulatedStorage, commit: u64) {
    let shared: Arc<dyn Storage> = Arc::new(left.clone());
    match pin_current(&shared) {
        Ok((state, _pin)) => {
            assert!(state.store.commit <= CommitSeq(commit));
            check_files(left, &state);
        }
        Err(PublishedError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_error_of_the_medium_is_not_taken_for_damage() {
    for name in ["catalog damaged", "catalog holds a commit that was not published"] {
        for failure in [Failure::Once, Failure::Forever] {
            let damaged = store(name).duplicate();
            for operation in 1.. {
                let storage = damaged.duplicate();
                storage.fail_operation(operation, failure);
                let repaired = repair(&storage).map(drop);
                if repaired.is_ok() && storage.operations() < operation {
                    break;
                }
                let left = storage.duplicate();
                drop(open(&left).or_else(|_| repair(&left)).unwrap());
                assert_eq!(outcome(left), (2, 2), "{name}, operation {operation}");
            }
        }
    }
}
