//! A power cut at each sync while a store is created.

use std::collections::BTreeSet;
use std::sync::Arc;

use ascribe::storage::{
    CheckInProcess, OpenWriterError, PublishedError, SimulatedStorage, Storage, Writer, pin_current,
};

use super::crash::outcome;
use super::pages::table;
use super::sample;

/// Syncs from the transaction's end to the end, those of publishing.
const SYNCS_OF_PUBLISHING: u64 = 4;
/// Syncs of redb before the store's folder is synced.
const SYNCS_OF_EMPTY_CATALOG: u64 = 3;

fn create(storage: &SimulatedStorage) -> Result<Writer, OpenWriterError> {
    Writer::create(Arc::new(storage.clone()), sample::first_state())
}

fn name(error: &OpenWriterError) -> &'static str {
    match error {
        OpenWriterError::NotAStore { .. } => "NotAStore",
        OpenWriterError::CatalogMissing { .. } => "CatalogMissing",
        OpenWriterError::Exists { .. } => "Exists",
        OpenWriterError::Catalog(_) => "Catalog",
        _ => "another",
    }
}

/// What readers, the next writer, `repair` and another creation find, each on its own copy.
fn found(left: &SimulatedStorage) -> [&'static str; 4] {
    let shared: Arc<dyn Storage> = Arc::new(left.duplicate());
    let reader = match pin_current(&shared) {
        Ok((state, _pin)) => {
            assert_eq!(state, sample::first_state());
            "commit 1"
        }
        Err(PublishedError::NotAStore { .. }) => "NotAStore",
        Err(error) => panic!("{error}"),
    };
    let writer = match Writer::open(Arc::new(left.duplicate()), &CheckInProcess) {
        Ok(writer) => {
            assert_eq!(**writer.state(), sample::first_state());
            "commit 1"
        }
        Err(error) => name(&error),
    };
    let repaired = left.duplicate();
    let repair = match Writer::repair(Arc::new(repaired.clone()), &CheckInProcess) {
        Ok(writer) => {
            drop(writer);
            assert_eq!(outcome(repaired), (1, 1));
            "commit 1"
        }
        Err(error) => name(&error),
    };
    let again = left.duplicate();
    let creation = match create(&again) {
        Ok(writer) => {
            drop(writer);
            assert_eq!(outcome(again), (1, 1));
            "commit 1"
        }
        Err(error) => name(&error),
    };
    [reader, writer, repair, creation]
}

/// Step of the page's table in which the crash before the `sync`-th of `syncs` syncs comes.
fn step(sync: u64, syncs: u64) -> &'static str {
    match syncs - sync {
        0 => "7, its last sync",
        left if left < SYNCS_OF_PUBLISHING => "7",
        _ if sync <= SYNCS_OF_EMPTY_CATALOG => "4",
        _ if sync == SYNCS_OF_EMPTY_CATALOG + 1 => "5",
        _ => "6",
    }
}

#[test]
fn a_power_cut_while_creating_leads_where_the_page_says() {
    let storage = SimulatedStorage::new();
    let writer = create(&storage).unwrap();
    let syncs = storage.syncs();
    assert!(syncs > SYNCS_OF_EMPTY_CATALOG + 1 + SYNCS_OF_PUBLISHING, "{syncs} syncs");
    for seed in 0..32 {
        assert_eq!(outcome(storage.crash(seed)), (1, 1), "acknowledged");
    }
    drop(writer);
    let page = table("commit-sequence.md", "Power cut while creating");
    let mut met = BTreeSet::new();
    for sync in 1..=syncs {
        let storage = SimulatedStorage::new();
        storage.crash_at_sync(sync);
        assert!(create(&storage).is_err(), "sync {sync}");
        let step = step(sync, syncs);
        let row = page.rows.iter().find(|row| page.cell(row, "in step") == step).unwrap();
        for seed in 0..32 {
            let found = found(&storage.crash(seed));
            let columns = ["a reader", "the next writer", "repair", "creating again"];
            for (column, found) in columns.into_iter().zip(found) {
                let documented: BTreeSet<&str> = page.cell(row, column).split(" or ").collect();
                assert!(documented.contains(found), "sync {sync}, seed {seed}, {column}: {found}");
                met.insert((step, column, found));
            }
        }
    }
    for row in &page.rows {
        for column in ["a reader", "the next writer", "repair", "creating again"] {
            for outcome in page.cell(row, column).split(" or ") {
                let step = page.cell(row, "in step");
                assert!(met.contains(&(step, column, outcome)), "step {step}, {column}: never {outcome}");
            }
        }
    }
}

#[test]
fn creating_where_something_lies_changes_nothing() {
    for name in ["notes.txt", "segments/1.rows", "pins/1.1-1"] {
        let storage = SimulatedStorage::new();
        storage.create_folder("segments").unwrap();
        storage.create_folder("pins").unwrap();
        storage.overwrite_file(name, b"mine").unwrap();
        assert!(matches!(create(&storage), Err(OpenWriterError::Exists { .. })), "{name}");
        assert_eq!(storage.read_file(name).unwrap(), b"mine");
        assert!(storage.read_file("catalog.redb").is_err(), "{name}");
    }
    let storage = SimulatedStorage::new();
    let held = storage.lock_exclusive("LOCK").unwrap().unwrap();
    assert!(matches!(create(&storage), Err(OpenWriterError::Locked { .. })));
    drop(held);
    drop(create(&storage).unwrap());
    assert!(matches!(create(&storage), Err(OpenWriterError::Exists { .. })));
}
