//! A power cut after each step of a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ascribe::base::ColumnId;
use ascribe::format::{ColumnKind, Manifest};
use ascribe::storage::{
    CheckInProcess, ColumnFile, CommitError, Failure, RowFile, SimulatedStorage, Storage, Writer,
    pin_current, read_current, read_encoder_file,
};

use super::pages::table;
use super::sample;

/// Syncs of publishing: MANIFEST.new, folder, CURRENT.new, folder.
const SYNCS_OF_PUBLISHING: u64 = 4;
/// Syncs before the transaction: `segments/`, `encoders/`.
const SYNCS_OF_FOLDERS: u64 = 2;

/// A store at commit 1 with a writer, and the files of commit 2, synced.
pub(crate) fn prepared() -> (SimulatedStorage, Writer, Manifest) {
    let storage = SimulatedStorage::new();
    let first = sample::first_state();
    let writer = Writer::create(Arc::new(storage.clone()), first.clone()).unwrap();
    let next = sample::write_segment(&storage, &first);
    (storage, writer, next)
}

/// Opens and checks every file that a state names.
pub(crate) fn check_files(storage: &dyn Storage, state: &Manifest) {
    for segment in &state.segments {
        RowFile::open(storage, segment.id, segment.row_count, segment.rows)
            .unwrap()
            .verify(&state.store.fields)
            .unwrap();
        for column in &segment.columns {
            let file = ColumnFile::open(storage, segment.id, column.column, segment.row_count, column.file);
            file.unwrap().verify().unwrap();
        }
        let ColumnKind::Embedding(encoder) = &state.store.columns[0].kind else { panic!("no embedding") };
        let (fingerprint, record) = (encoder.fingerprint.unwrap(), encoder.state.unwrap());
        read_encoder_file(storage, ColumnId(1), &fingerprint, record).unwrap();
    }
}

/// The commits that a reader and the next writer find on what is left; both must find all files, and afterwards readers
/// must find what the writer has.
pub(crate) fn outcome(left: SimulatedStorage) -> (u64, u64) {
    let shared: Arc<dyn Storage> = Arc::new(left.clone());
    let (seen, pin) = pin_current(&shared).unwrap();
    assert!(pin.is_some());
    check_files(&left, &seen);
    drop(pin);
    let writer = Writer::open(Arc::clone(&shared), &CheckInProcess).unwrap();
    let had = writer.state().store.commit.0;
    check_files(&left, writer.state());
    assert_eq!(read_current(&left).unwrap().0, had, "opening for writing publishes");
    let named = 3 * writer.state().segments.len();
    let sealed = left.list("segments").unwrap().len() + left.list("encoders").unwrap().len();
    assert_eq!(sealed, if named == 0 { 0 } else { named + 1 }, "litter is removed, nothing else");
    (seen.store.commit.0, had)
}

/// The step of `commit-sequence.md` after which the crash before the `sync`-th of `syncs` syncs of a commit comes.
fn step(sync: u64, syncs: u64) -> &'static str {
    match syncs - sync {
        0 => "7",
        1 => "6",
        2 => "5",
        3 => "4",
        _ => ["1", "2", "3"][sync.min(3) as usize - 1],
    }
}

#[test]
fn a_power_cut_after_each_step_leads_where_the_page_says() {
    let (storage, mut writer, next) = prepared();
    let before = storage.syncs();
    writer.commit(next).unwrap();
    let syncs = storage.syncs() - before;
    assert!(syncs > SYNCS_OF_FOLDERS + SYNCS_OF_PUBLISHING, "{syncs} syncs");
    let mut found: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
    let mut note = |step, (seen, had)| {
        let sets = found.entry(step).or_default();
        sets.0.insert(seen);
        sets.1.insert(had);
    };
    for seed in 0..16 {
        note("9", outcome(storage.crash(seed)));
    }
    for sync in 1..=syncs {
        let (storage, mut writer, next) = prepared();
        storage.crash_at_sync(sync);
        assert!(writer.commit(next).is_err(), "sync {sync}");
        for seed in 0..16 {
            note(step(sync, syncs), outcome(storage.crash(seed)));
        }
    }
    let table = table("commit-sequence.md", "Power cut after each step");
    let commits = |text: &str| -> BTreeSet<u64> {
        text.split(" or ").map(|commit| if commit == "n" { 2 } else { 1 }).collect()
    };
    assert_eq!(table.rows.len(), 9);
    for row in &table.rows {
        let step = table.cell(row, "after step");
        // Nothing is synced after step 8.
        let Some((seen, had)) = found.get(step) else {
            assert_eq!(step, "8", "it was never met");
            continue;
        };
        assert_eq!(*seen, commits(table.cell(row, "a reader sees")), "a reader after step {step}");
        assert_eq!(
            *had,
            commits(table.cell(row, "the next writer has")),
            "the next writer after step {step}"
        );
    }
}

#[test]
fn errors_of_a_commit_are_those_of_its_steps() {
    let (storage, mut writer, next) = prepared();
    let before = storage.syncs();
    writer.commit(next).unwrap();
    let syncs = storage.syncs() - before;
    for sync in 1..=syncs {
        let (storage, mut writer, next) = prepared();
        storage.crash_at_sync(sync);
        let error = writer.commit(next.clone()).unwrap_err();
        let is_documented = match step(sync, syncs) {
            "1" | "2" => matches!(error, CommitError::Sync { .. }),
            "3" => matches!(error, CommitError::Transaction { .. }),
            _ => matches!(error, CommitError::CommittedNotPublished { .. }),
        };
        assert!(is_documented, "sync {sync}: {error}");
        assert!(writer.is_poisoned());
        assert!(matches!(writer.commit(next), Err(CommitError::Poisoned)));
    }
}

/// The catalog may hold a commit whose publishing failed: its files must not be taken for litter.
#[test]
fn a_poisoned_writer_removes_nothing() {
    for operation in 1.. {
        let (storage, mut writer, next) = prepared();
        storage.fail_operation(operation, Failure::Once);
        if writer.commit(next).is_ok() {
            break;
        }
        writer.discard_uncommitted();
        drop(writer);
        outcome(storage.duplicate());
    }
}
