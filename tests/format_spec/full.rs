//! An operation of a commit that fails, and a full medium.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use ascribe::base::CommitSeq;
use ascribe::format::Manifest;
use ascribe::storage::{
    CheckInProcess, CommitError, Failure, FileError, PublishedError, SimulatedStorage, Storage, Writer,
    pin_current,
};

use super::crash::{check_files, outcome, prepared};
use super::sample;

/// What a failed commit may leave: the commit that readers see, and the one that the next writer has.
fn documented(error: &CommitError) -> &'static [(u64, u64)] {
    match error {
        CommitError::Sync { .. } => &[(1, 1)],
        CommitError::Transaction { .. } => &[(1, 1), (1, 2)],
        CommitError::CommittedNotPublished { .. } => &[(1, 2), (2, 2)],
        other => panic!("{other}"),
    }
}

/// The commit that readers see now, whole.
fn seen(storage: &SimulatedStorage) -> u64 {
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let (state, _pin) = pin_current(&shared).unwrap();
    check_files(storage, &state);
    state.store.commit.0
}

/// One more commit that changes nothing but the number.
fn commit_again(storage: &SimulatedStorage) {
    let mut writer = Writer::open(Arc::new(storage.clone()), &CheckInProcess).unwrap();
    let mut next = Manifest::clone(writer.state());
    next.store.commit = CommitSeq(next.store.commit.0 + 1);
    next.last.commit = next.store.commit;
    writer.commit(next.clone()).unwrap();
    drop(writer);
    assert_eq!(seen(storage), next.store.commit.0);
}

#[test]
fn after_any_failed_operation_the_store_is_at_the_old_or_the_new_commit() {
    for failure in [Failure::Once, Failure::Forever] {
        let mut met = [0; 3];
        for operation in 1.. {
            let (storage, mut writer, next) = prepared();
            storage.fail_operation(operation, failure);
            let error = match writer.commit(next.clone()) {
                Ok(()) => break,
                Err(error) => error,
            };
            met[match error {
                CommitError::Sync { .. } => 0,
                CommitError::Transaction { .. } => 1,
                _ => 2,
            }] += 1;
            assert!(writer.is_poisoned(), "operation {operation}: {error}");
            assert!(matches!(writer.commit(next), Err(CommitError::Poisoned)));
            writer.discard_uncommitted();
            drop(writer);
            // The process goes on with the medium as it is; or the power is cut now.
            let left: Vec<_> = (0..8).map(|seed| storage.crash(seed)).chain([storage.duplicate()]).collect();
            for left in left {
                let found = outcome(left.clone());
                assert!(documented(&error).contains(&found), "operation {operation}: {found:?}, {error}");
                commit_again(&left);
            }
        }
        assert_eq!(met[0], 2, "two folders are synced");
        assert!(met[1] > 4 && met[2] > 7, "{failure:?}: {met:?}");
    }
}

fn used_bytes(storage: &SimulatedStorage) -> u64 {
    storage.names().iter().map(|name| storage.read_file(name).unwrap().len() as u64).sum()
}

/// Whether this error goes back to a full medium.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::StorageFull)
        || error.source().is_some_and(is_full)
}

#[test]
fn a_medium_that_fills_up_while_a_segment_is_written_costs_nothing() {
    let free_after = {
        let (storage, _writer, _) = prepared();
        used_bytes(&storage) - used_bytes(&without_segments().0)
    };
    assert!(free_after > 4000, "{free_after}");
    for free in (0..free_after).step_by(97) {
        let (storage, mut writer) = without_segments();
        let first = sample::first_state();
        storage.set_capacity_bytes(Some(used_bytes(&storage) + free));
        let error = sample::try_to_write_segment(&storage, &first).unwrap_err();
        assert!(matches!(error, FileError::Io { .. }) && is_full(&error), "{free} bytes: {error}");
        assert!(!writer.is_poisoned());
        assert_eq!(seen(&storage), 1, "{free} bytes");
        // The writer gives up, gets room, and begins again under the same names.
        writer.discard_uncommitted();
        assert!(storage.list("segments").unwrap().is_empty(), "{free} bytes");
        storage.set_capacity_bytes(None);
        let next = sample::write_segment(&storage, &first);
        writer.commit(next).unwrap();
        drop(writer);
        assert_eq!(outcome(storage), (2, 2));
    }
}

/// A store at commit 1 with a writer.
fn without_segments() -> (SimulatedStorage, Writer) {
    let storage = SimulatedStorage::new();
    let writer = Writer::create(Arc::new(storage.clone()), sample::first_state()).unwrap();
    (storage, writer)
}

#[test]
fn a_medium_that_fills_up_during_a_commit_leaves_the_old_or_the_new_state() {
    let mut met = [0; 2];
    for free in (0..).step_by(29) {
        let (storage, mut writer, next) = prepared();
        storage.set_capacity_bytes(Some(used_bytes(&storage) + free));
        let error = match writer.commit(next) {
            Ok(()) => break,
            Err(error) => error,
        };
        match &error {
            CommitError::Transaction { .. } => met[0] += 1,
            CommitError::CommittedNotPublished { source, .. } => {
                assert!(matches!(source, PublishedError::Io { .. }) && is_full(source), "{error}");
                met[1] += 1;
            }
            other => panic!("{free} bytes: {other}"),
        }
        writer.discard_uncommitted();
        drop(writer);
        assert_eq!(seen(&storage), 1, "{free} bytes: readers go on");
        storage.set_capacity_bytes(None);
        let found = outcome(storage.clone());
        assert!(documented(&error).contains(&found), "{free} bytes: {found:?}, {error}");
        commit_again(&storage);
    }
    assert!(met[1] > 10, "{met:?}");
}
