//! Building the index of each column of each segment, beside queries and commits.
//!
//! An index is made from sealed files alone and named by no commit, so that building needs neither the writer nor a
//! transaction, and a crash in the middle leaves the store as it was.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use thiserror::Error;

use super::context::Context;
use super::options::Watch;
use super::segment::{ScannedColumn, Segment};
use super::snapshot::Snapshot;
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, ColumnId, RowId};
use crate::index::{CodedRows, QuantiseError, quantise_rows};
use crate::storage::{FileError, IndexFileWriter};

/// How often a wait looks whether it is still wanted.
const WAKE_UP: Duration = Duration::from_millis(50);

/// An index that cannot be built. Queries scan the stored values instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Rows of the column cannot be turned into codes.
    #[error(transparent)]
    Rows(#[from] QuantiseError<FileError>),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What [`Store::build_indexes`](super::Store::build_indexes) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Indexes built.
    pub built: usize,
    /// Their rows.
    pub rows: u64,
}

/// Builds indexes on a thread of its own, one after the other, as long as there is one to build.
#[derive(Debug, Default)]
pub(super) struct Indexer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when the state changes.
    changed: Condvar,
    cancel: Cancel,
}

#[derive(Debug, Default)]
struct State {
    /// The newest state of the store, if it was not looked at yet.
    next: Option<Snapshot>,
    is_working: bool,
    /// Rows of the indexes that are being built, and how many are done.
    total: u64,
    done: u64,
    /// What was built since somebody asked.
    report: IndexReport,
    /// What went wrong since then.
    error: Option<IndexError>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut state = self.state();
            let Some(snapshot) = state.next.take().filter(|_| !self.cancel.is_cancelled()) else {
                state.is_working = false;
                self.changed.notify_all();
                return;
            };
            drop(state);
            if let Err(error) = self.build_missing(&snapshot) {
                self.state().error = Some(error);
            }
        }
    }

    fn build_missing(&self, snapshot: &Snapshot) -> Result<(), IndexError> {
        let context = &snapshot.inner.context;
        let missing = missing_indexes(snapshot);
        {
            let mut state = self.state();
            state.total +=
                missing.iter().map(|(segment, _)| u64::from(segment.record.row_count)).sum::<u64>();
        }
        for (segment, column) in missing {
            build_index(context, segment, column, &self.cancel, &mut |rows| {
                self.state().done += rows;
                self.changed.notify_all();
            })?;
            let mut state = self.state();
            state.report.built += 1;
            state.report.rows += u64::from(segment.record.row_count);
        }
        Ok(())
    }
}

impl Indexer {
    /// Looks for indexes that `snapshot` lacks, and builds them beside whatever else goes on.
    pub(super) fn wake(&self, snapshot: &Snapshot) {
        if missing_indexes(snapshot).is_empty() {
            return;
        }
        let mut state = self.shared.state();
        state.next = Some(snapshot.clone());
        if state.is_working {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = Builder::new().name("ascribe-index".to_owned()).spawn(move || shared.work());
        // Without a thread nothing is built now: answers stay right, and the next commit tries again.
        state.is_working = thread.is_ok();
    }

    /// Waits until nothing is left to build.
    pub(super) fn wait(&self, watch: Watch<'_>) -> Result<IndexReport, IndexError> {
        let mut state = self.shared.state();
        if state.is_working {
            watch.progress.begin("index", "rows", Some(state.total));
        }
        while state.is_working {
            if watch.cancel.is_cancelled() {
                return Err(IndexError::Cancelled);
            }
            watch.progress.advance(state.done);
            let waited = self.shared.changed.wait_timeout(state, WAKE_UP);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        watch.progress.end();
        (state.total, state.done) = (0, 0);
        let report = std::mem::take(&mut state.report);
        state.error.take().map_or(Ok(report), Err)
    }
}

impl Drop for Indexer {
    /// An index that is half done is left: nobody can be kept waiting for it.
    fn drop(&mut self) {
        self.shared.cancel.cancel();
        let mut state = self.shared.state();
        state.next = None;
        while state.is_working {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The indexes that a state lacks: of segments of at least
/// [`index_rows_min`](super::OpenOptions::index_rows_min) rows.
fn missing_indexes(snapshot: &Snapshot) -> Vec<(&Arc<Segment>, ColumnId)> {
    let context = &snapshot.inner.context;
    let segments = snapshot.inner.segments.iter().map(|view| &view.segment);
    let columns =
        segments.flat_map(|segment| segment.columns().map(move |file| (segment, file.header().column)));
    columns.filter(|(segment, column)| lacks_index(context, segment, *column)).collect()
}

fn lacks_index(context: &Context, segment: &Segment, column: ColumnId) -> bool {
    segment.record.row_count >= context.index_rows_min
        && segment.index_of(column).is_some()
        && segment.index(context.storage.as_ref(), column).is_none()
}

fn build_index(
    context: &Context,
    segment: &Segment,
    column: ColumnId,
    cancel: &Cancel,
    advance: &mut dyn FnMut(u64),
) -> Result<(), IndexError> {
    let (Some((header, origin)), Some(file)) = (segment.index_of(column), segment.column(column)) else {
        return Ok(());
    };
    let rows = header.row_count;
    let mut writer = IndexFileWriter::create(context.storage.as_ref(), header, origin)?;
    let mut coded = CodedRows::default();
    for first in (0..rows).step_by(SCAN_CHUNK_ROWS as usize) {
        if cancel.is_cancelled() {
            return Err(IndexError::Cancelled);
        }
        let count = SCAN_CHUNK_ROWS.min(rows - first);
        quantise_rows(&ScannedColumn(file), RowId(first), count, &mut coded)?;
        writer.append(&coded.codes, &coded.scales, &coded.errors, &coded.norms)?;
        advance(u64::from(count));
    }
    writer.finish()?;
    segment.forget_index(column);
    Ok(())
}
