//! New segments, deletes and schema changes on their way to one commit.

use std::sync::Arc;

use thiserror::Error;

use super::segment::{Segment, SegmentView};
use super::snapshot::Snapshot;
use super::turns::Turn;
use crate::base::limits::SEGMENT_ROWS_MAX;
use crate::base::{CommitSeq, RowId, RowSet, SegmentId};
use crate::format::{CommitRecord, DeletedRecord, Manifest, SegmentRecord, SourceRecord};
use crate::storage::{CommitError, FileError, SegmentNumbers};

/// A commit that could not be prepared or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The commit itself failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The commit happened, but its files cannot be opened.
    #[error("commit {commit} is made, but its files cannot be opened: {source}; open the store again")]
    CommittedNotOpened {
        /// The commit.
        commit: CommitSeq,
        /// Why.
        source: FileError,
    },
    /// More rows than a segment can have.
    #[error("{rows} rows are too many for one segment (at most {SEGMENT_ROWS_MAX}): split the input")]
    TooManyRows {
        /// Rows given.
        rows: usize,
    },
}

/// Changes to a snapshot that become visible together.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) base: Snapshot,
    /// The state to be.
    pub(super) next: Manifest,
    /// Segments of the base, then the new ones.
    segments: Vec<Arc<Segment>>,
    deleted: Vec<RowSet>,
    rows_added: u64,
    rows_deleted: u64,
    numbers: Arc<SegmentNumbers>,
    turn: Turn,
}

impl Transaction {
    pub(super) fn new(base: Snapshot, numbers: Arc<SegmentNumbers>, turn: Turn) -> Self {
        let next = base.inner.state.as_ref().clone();
        let segments = base.inner.segments.iter().map(|view| Arc::clone(&view.segment)).collect();
        let deleted = base.deletes();
        Self { base, next, segments, deleted, rows_added: 0, rows_deleted: 0, numbers, turn }
    }

    /// The number for a new segment. It is used up even if the segment is never added.
    pub(super) fn take_segment_id(&mut self) -> SegmentId {
        self.numbers.take()
    }

    /// Adds a segment whose files are written and durable.
    pub(super) fn add_segment(&mut self, record: SegmentRecord) -> Result<(), FileError> {
        let segment = Segment::open(self.base.inner.context.storage.as_ref(), &record, None)?;
        self.rows_added += u64::from(record.row_count);
        self.next.segments.push(record);
        self.segments.push(Arc::new(segment));
        self.deleted.push(RowSet::new());
        Ok(())
    }

    /// The live row with this key, new segments included.
    pub(super) fn find(&self, key: &str) -> Result<Option<(usize, RowId)>, FileError> {
        for (position, segment) in self.segments.iter().enumerate().rev() {
            if let Some(row) = segment.rows.find(key)?
                && !self.deleted[position].contains(row)
            {
                return Ok(Some((position, row)));
            }
        }
        Ok(None)
    }

    pub(super) fn segment(&self, position: usize) -> &Segment {
        &self.segments[position]
    }

    /// Key of the last row of the last segment, if the transaction added one.
    pub(super) fn last_added_key(&self) -> Option<String> {
        let segment = self.segments.get(self.base.inner.segments.len()..)?.last()?;
        let last = segment.record.row_count.checked_sub(1)?;
        segment.rows.key(RowId(last)).ok().map(str::to_owned)
    }

    /// Deletes a row; false if it was deleted already.
    pub(super) fn delete(&mut self, position: usize, row: RowId) -> bool {
        let is_new = self.deleted[position].insert(row);
        self.rows_deleted += u64::from(is_new);
        is_new
    }

    pub(super) fn rows_deleted(&self) -> u64 {
        self.rows_deleted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows_added == 0 && self.rows_deleted == 0
    }

    /// Remembers how far an input was read.
    pub(super) fn set_source(&mut self, source: SourceRecord) {
        match self.next.sources.binary_search_by(|known| known.path.cmp(&source.path)) {
            Ok(position) => self.next.sources[position] = source,
            Err(position) => self.next.sources.insert(position, source),
        }
    }

    /// Puts a segment in the place of those it was made from, with the deletes that came since; false if these are no
    /// longer what they were. `renumber` gives the row of the new segment that a row of one of them became.
    pub(super) fn replace(
        &mut self,
        sources: &[SegmentView],
        merged: Option<Arc<Segment>>,
        renumber: impl Fn(usize, RowId) -> Option<RowId>,
    ) -> bool {
        let segments = &self.base.inner.segments;
        let position_of = |source: &SegmentView| {
            segments.iter().position(|view| view.segment.record == source.segment.record)
        };
        let positions: Option<Vec<usize>> = sources.iter().map(position_of).collect();
        let Some(positions) = positions else { return false };
        let mut deleted = RowSet::new();
        for (source, &position) in positions.iter().enumerate() {
            let mut later = self.deleted[position].clone();
            later.subtract(&sources[source].deleted);
            later.iter().filter_map(|row| renumber(source, row)).for_each(|row| {
                deleted.insert(row);
            });
        }
        let is_kept = |position: usize| !positions.contains(&position);
        let mut position = 0..;
        self.segments.retain(|_| position.next().is_some_and(is_kept));
        let mut position = 0..;
        self.deleted.retain(|_| position.next().is_some_and(is_kept));
        let mut position = 0..;
        self.next.segments.retain(|_| position.next().is_some_and(is_kept));
        if let Some(segment) = merged {
            self.next.segments.push(segment.record.clone());
            self.segments.push(segment);
            self.deleted.push(deleted);
        }
        true
    }

    /// The state to commit, its segments as far as they are open, and the turn to commit it.
    pub(super) fn finish(mut self, operation: &str, unix_ms: u64) -> (Manifest, Vec<Arc<Segment>>, Turn) {
        let commit = CommitSeq(self.next.store.commit.0 + 1);
        self.next.deleted = self
            .segments
            .iter()
            .zip(&self.deleted)
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(segment, rows)| DeletedRecord { segment: segment.record.id, rows: rows.to_bytes() })
            .collect();
        // Those of a merge may be lower than those that came meanwhile.
        self.next.segments.sort_by_key(|record| record.id);
        self.next.deleted.sort_by_key(|record| record.segment);
        self.next.store.next_segment = self.numbers.next().max(self.next.store.next_segment);
        self.next.store.commit = commit;
        self.next.last = CommitRecord {
            commit,
            unix_ms,
            operation: operation.to_owned(),
            rows_added: self.rows_added,
            rows_deleted: self.rows_deleted,
        };
        (self.next, self.segments, self.turn)
    }
}
