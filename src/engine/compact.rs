//! Merging segments: in the background, little by little, and all at once when asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::background::Background;
use super::compact_error::CompactError;
use super::compact_plan::{SegmentSize, plan_all, plan_next};
use super::compare::compare;
use super::ledger::Ledger;
use super::merge::{MergeWatch, Merged, merge, merge_steps};
use super::options::Watch;
use super::segment::{Segment, SegmentView};
use super::snapshot::Snapshot;
use super::traffic::Pace;
use crate::base::SegmentId;
use crate::format::SegmentRecord;

/// What merging did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Segments that were made, each in a commit of its own.
    pub merges: usize,
    /// Segments that are gone.
    pub segments_merged: usize,
    /// Rows of the segments that were made.
    pub rows: u64,
    /// Deleted rows whose bytes are erased.
    pub rows_erased: u64,
    /// Bytes of the files that are gone.
    pub bytes_before: u64,
    /// Bytes of the files that took their place.
    pub bytes_after: u64,
}

/// How much to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// What is worth it.
    Next,
    /// Everything.
    All,
}

type Task<'a> = super::background::Task<'a, Scope, CompactReport, CompactError>;

/// Merges segments on a thread of its own.
#[derive(Debug)]
pub(super) struct Compactor {
    background: Background<Scope, CompactReport, CompactError>,
    worker: Arc<Worker>,
}

#[derive(Debug)]
struct Worker {
    ledger: Arc<Ledger>,
    /// Segments that could not be merged, for example because one is damaged: the background leaves them alone.
    failed: Mutex<BTreeSet<SegmentId>>,
}

impl Compactor {
    pub(super) fn new(ledger: &Arc<Ledger>) -> Self {
        let worker = Arc::new(Worker { ledger: Arc::clone(ledger), failed: Mutex::default() });
        let shared = Arc::clone(&worker);
        let work = move |scope, task: &Task<'_>| match scope {
            Scope::Next => shared.merge_worthwhile(task),
            Scope::All => shared.merge_all(task),
        };
        Self { background: Background::new("ascribe-compact", work), worker }
    }

    /// Looks whether something is worth merging, and does so beside whatever else goes on.
    pub(super) fn wake(&self) {
        let snapshot = self.worker.ledger.snapshots().latest();
        if self.worker.ledger.context.compact && self.worker.next_group(&snapshot).is_some() {
            self.background.wake(Scope::Next);
        }
    }

    /// Merges everything and waits for it.
    pub(super) fn compact(&self, watch: Watch<'_>) -> Result<CompactReport, CompactError> {
        // What the background did and met before is not what is asked about.
        if self.background.wait(watch, "compact", true).is_none() {
            return Err(CompactError::Cancelled);
        }
        self.background.wake(Scope::All);
        self.background.wait(watch, "compact", true).unwrap_or(Err(CompactError::Cancelled))
    }

    /// Waits for what the background has to do.
    pub(super) fn wait(&self, watch: Watch<'_>) -> Result<CompactReport, CompactError> {
        self.background.wait(watch, "compact", false).unwrap_or(Err(CompactError::Cancelled))
    }
}

/// Segments in the order of ingest, and their sizes.
fn in_order(snapshot: &Snapshot) -> (Vec<SegmentView>, Vec<SegmentSize>) {
    let views: Vec<SegmentView> =
        snapshot.views_in_order().into_iter().map(|(_, view)| view.clone()).collect();
    let size = |view: &SegmentView| SegmentSize {
        columns: view.segment.record.columns.iter().map(|record| record.column).collect(),
        live_rows: view.live_rows(),
        deleted_rows: view.deleted.len(),
    };
    let sizes = views.iter().map(size).collect();
    (views, sizes)
}

impl Worker {
    fn failed(&self) -> MutexGuard<'_, BTreeSet<SegmentId>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_group(&self, snapshot: &Snapshot) -> Option<Vec<SegmentView>> {
        let (views, mut sizes) = in_order(snapshot);
        let failed = self.failed();
        for (view, size) in views.iter().zip(&mut sizes) {
            if failed.contains(&view.segment.record.id) {
                size.columns.clear();
            }
        }
        plan_next(&sizes, snapshot.inner.state.store.columns.len()).map(|group| views[group].to_vec())
    }

    fn merge_worthwhile(&self, task: &Task<'_>) -> Result<(), CompactError> {
        loop {
            let snapshot = self.ledger.snapshots().latest();
            let Some(group) = self.next_group(&snapshot) else { return Ok(()) };
            let ids: Vec<SegmentId> = group.iter().map(|view| view.segment.record.id).collect();
            task.expect(merge_steps(&group));
            let merged = merge_group(&self.ledger, &snapshot, group, task);
            if merged.as_ref().is_err_and(|error| !error.is_passing()) {
                self.failed().extend(ids);
            }
            merged?;
        }
    }

    fn merge_all(&self, task: &Task<'_>) -> Result<(), CompactError> {
        let snapshot = self.ledger.snapshots().latest();
        let (views, sizes) = in_order(&snapshot);
        let groups: Vec<Vec<SegmentId>> = plan_all(&sizes)
            .into_iter()
            .map(|group| views[group].iter().map(|view| view.segment.record.id).collect())
            .collect();
        let group_of = |snapshot: &Snapshot, ids: &[SegmentId]| -> Vec<SegmentView> {
            in_order(snapshot).0.into_iter().filter(|view| ids.contains(&view.segment.record.id)).collect()
        };
        task.expect(groups.iter().map(|ids| merge_steps(&group_of(&snapshot, ids))).sum());
        for ids in groups {
            // With the deletes of the moment.
            let snapshot = self.ledger.snapshots().latest();
            let group = group_of(&snapshot, &ids);
            if group.len() == ids.len() {
                merge_group(&self.ledger, &snapshot, group, task)?;
            }
        }
        Ok(())
    }
}

fn merge_group(
    ledger: &Ledger,
    snapshot: &Snapshot,
    group: Vec<SegmentView>,
    task: &Task<'_>,
) -> Result<(), CompactError> {
    let pace = Pace::new(&ledger.context.traffic);
    let watch = MergeWatch { pace: &pace, cancel: task.cancel(), advance: &|rows| task.advance(rows) };
    let merged = merge(snapshot, group, ledger.numbers(), &watch)?;
    let committed = compare(snapshot, &merged, task.cancel())
        .and_then(|segment| commit_merged(ledger, &merged, segment, task));
    // After a failed commit the catalog may name the files already.
    if !matches!(committed, Ok(true) | Err(CompactError::Transaction(_))) {
        merged.discard(ledger.context.storage.as_ref());
    }
    committed.map(|_| ())
}

/// Puts the merged segment in the place of its sources; false if these have changed otherwise than by deletes.
fn commit_merged(
    ledger: &Ledger,
    merged: &Merged,
    segment: Option<Arc<Segment>>,
    task: &Task<'_>,
) -> Result<bool, CompactError> {
    let mut transaction = ledger.begin_next(task.cancel()).ok_or(CompactError::Cancelled)?;
    let renumber = |source, row| merged.row(source, row);
    if !transaction.replace(merged.sources(), segment, renumber) {
        return Ok(false);
    }
    ledger.commit(transaction, "compact")?;
    let record = merged.record();
    task.report(|report| {
        report.merges += usize::from(record.is_some());
        report.segments_merged += merged.sources().len();
        report.rows += record.map_or(0, |record| u64::from(record.row_count));
        report.rows_erased += merged.erased_rows();
        report.bytes_before +=
            merged.sources().iter().map(|source| source.segment.record.length()).sum::<u64>();
        report.bytes_after += record.map_or(0, SegmentRecord::length);
    });
    Ok(true)
}
