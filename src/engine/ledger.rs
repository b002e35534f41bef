//! The writer of an open store and its newest state, shared by the store and what works beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::context::Context;
use super::indexing::Indexer;
use super::snapshot::Snapshot;
use super::transaction::{Transaction, TransactionError};
use super::turns::Turns;
use crate::base::{Cancel, CommitSeq};
use crate::format::Manifest;
use crate::storage::{SegmentNumbers, Writer};

/// Hands out the newest committed state to other threads while a [`Store`](super::Store) is busy writing.
#[derive(Clone, Debug)]
pub struct Snapshots(Arc<RwLock<Snapshot>>);

impl Snapshots {
    fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(RwLock::new(snapshot)))
    }

    /// The newest committed state.
    pub fn latest(&self) -> Snapshot {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, snapshot: Snapshot) {
        let mut latest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *latest, snapshot);
        // Nobody need wait while files are let go.
        drop(latest);
        drop(old);
    }
}

/// The writer, the newest state, and who has the turn to change it.
#[derive(Debug)]
pub(super) struct Ledger {
    /// First, so that it has stopped writing when the writer gives its lock back.
    pub(super) indexer: Indexer,
    pub(super) context: Arc<Context>,
    writer: Mutex<Writer>,
    numbers: Arc<SegmentNumbers>,
    snapshots: Snapshots,
    turns: Arc<Turns>,
}

impl Ledger {
    pub(super) fn new(context: Arc<Context>, writer: Writer, snapshot: Snapshot) -> Self {
        let indexer = Indexer::new();
        indexer.wake(&snapshot);
        let numbers = Arc::clone(writer.numbers());
        let snapshots = Snapshots::new(snapshot);
        Self { indexer, context, writer: Mutex::new(writer), numbers, snapshots, turns: Arc::default() }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is committed.
    pub(super) fn state(&self) -> Arc<Manifest> {
        Arc::clone(self.writer().state())
    }

    pub(super) fn numbers(&self) -> &Arc<SegmentNumbers> {
        &self.numbers
    }

    pub(super) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Begins a set of changes to the newest state, when nobody else is changing it.
    pub(super) fn begin(&self) -> Transaction {
        let turn = Turns::take(&self.turns);
        Transaction::new(self.snapshots.latest(), Arc::clone(&self.numbers), turn)
    }

    /// [`begin`](Self::begin) before everybody else who waits; `None` if the wait was cancelled.
    pub(super) fn begin_next(&self, cancel: &Cancel) -> Option<Transaction> {
        let turn = Turns::take_next(&self.turns, cancel)?;
        Some(Transaction::new(self.snapshots.latest(), Arc::clone(&self.numbers), turn))
    }

    /// Commits a transaction and makes it visible.
    pub(super) fn commit(
        &self,
        transaction: Transaction,
        operation: &str,
    ) -> Result<CommitSeq, TransactionError> {
        let base = transaction.base.clone();
        let (next, opened, _turn) = transaction.finish(operation, self.context.clock.unix_ms());
        let state = {
            let mut writer = self.writer();
            writer.commit(next)?;
            Arc::clone(writer.state())
        };
        let commit = state.store.commit;
        let snapshot = Snapshot::open(&self.context, state, Some(&base), &opened, None)
            .map_err(|source| TransactionError::CommittedNotOpened { commit, source })?;
        self.indexer.wake(&snapshot);
        self.snapshots.replace(snapshot);
        Ok(commit)
    }

    /// Removes the files of work that was given up.
    pub(super) fn discard_uncommitted(&self) {
        self.writer().discard_uncommitted();
    }
}
