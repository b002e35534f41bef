//! A committed state that does not change while it is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::answer::Row;
use super::context::Context;
use super::encoders::{
    ColumnEncoders, EncoderError, computes_on_devices, make_encoder, open_encoders, open_state,
};
use super::kept::Kept;
use super::sampled_codes::SampledCodes;
use super::segment::{Segment, SegmentView, SketchSchemas, check_column_type, read_schemas};
use crate::base::{ColumnId, CommitSeq, FieldDeclaration, RowId, RowSet, SegmentId};
use crate::encoder::{Device, Encoder};
use crate::format::{ColumnKind, ColumnRecord, Manifest, manifest_name, segment_deletes};
use crate::storage::{FileError, Pin, SealedFile};

/// One committed state of a store: cheap to clone, safe to share between threads, unchanged by later commits.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) inner: Arc<SnapshotInner>,
}

#[derive(Debug)]
pub(super) struct SnapshotInner {
    pub(super) context: Arc<Context>,
    pub(super) state: Arc<Manifest>,
    pub(super) segments: Vec<SegmentView>,
    encoders: BTreeMap<ColumnId, Arc<EncoderSlot>>,
    pub(super) schemas: SketchSchemas,
    /// Curvatures that were asked for, ready to weigh the rows of this state.
    pub(super) curvatures: Kept,
    /// Codes that mean and deviation are estimated from, by column and position of the segment.
    pub(super) samples: Mutex<BTreeMap<(ColumnId, usize), Arc<SampledCodes>>>,
    /// Keeps the files of a reader process from being collected; the writer's own need none.
    _pin: Option<Pin>,
}

impl Drop for SnapshotInner {
    fn drop(&mut self) {
        let segments = self.segments.drain(..).filter_map(|view| Arc::into_inner(view.segment));
        segments.for_each(|segment| self.context.retirement.drop_later(segment));
    }
}

/// The encoder of a column, shared by all snapshots that have the column: its state file is open as long as one of them
/// lives, and the encoder of a device is made at the first text.
#[derive(Debug)]
struct EncoderSlot {
    state: Option<Arc<SealedFile>>,
    made: Mutex<BTreeMap<Device, Arc<dyn Encoder>>>,
}

impl Snapshot {
    /// Opens the files of a state, taking over those that `previous` has open already, and the segments in `opened`.
    pub(super) fn open(
        context: &Arc<Context>,
        state: Arc<Manifest>,
        previous: Option<&Snapshot>,
        opened: &[Arc<Segment>],
        pin: Option<Pin>,
    ) -> Result<Self, FileError> {
        let mut segments = Vec::with_capacity(state.segments.len());
        let known = previous.map(|snapshot| snapshot.inner.schemas.clone()).unwrap_or_default();
        let schemas = read_schemas(&state.store.columns, &known).map_err(|reason| FileError::Content {
            path: context.storage.describe(&manifest_name(state.store.commit)),
            reason,
        })?;
        for record in &state.segments {
            let open = previous.and_then(|snapshot| snapshot.segment(record.id));
            let unchanged = open.filter(|view| view.segment.record == *record);
            let deleted_before = previous.and_then(|snapshot| snapshot.inner.state.deleted_record(record.id));
            let segment = match unchanged {
                // Most segments of a commit: neither files nor deletes differ, so nothing is decoded again.
                Some(view) if deleted_before == state.deleted_record(record.id) => {
                    segments.push(view.clone());
                    continue;
                }
                Some(view) => Arc::clone(&view.segment),
                None => {
                    let segment = match opened.iter().find(|opened| opened.record == *record) {
                        Some(opened) => Arc::clone(opened),
                        None => {
                            let old = open.map(|view| view.segment.as_ref());
                            Arc::new(Segment::open(context.storage.as_ref(), record, old)?)
                        }
                    };
                    let columns = &state.store.columns;
                    segment.columns().try_for_each(|file| check_column_type(file, columns, &schemas))?;
                    segment
                }
            };
            let deleted = segment_deletes(&state, record)
                .map_err(|error| segment.rows.file().content_error(format!("its deleted rows: {error}")))?;
            segments.push(SegmentView::new(segment, deleted));
        }
        let mut encoders = BTreeMap::new();
        for column in &state.store.columns {
            // A column's encoder changes only once, when it is fitted to the first rows.
            let open = previous.filter(|snapshot| snapshot.inner.state.store.columns.contains(column));
            let slot = match open.and_then(|snapshot| snapshot.inner.encoders.get(&column.id)) {
                Some(slot) => Arc::clone(slot),
                None => {
                    let state = open_state(context, column)?;
                    Arc::new(EncoderSlot { state, made: Mutex::default() })
                }
            };
            encoders.insert(column.id, slot);
        }
        let context = Arc::clone(context);
        Ok(Self {
            inner: Arc::new(SnapshotInner {
                context,
                state,
                segments,
                encoders,
                schemas,
                curvatures: Kept::default(),
                samples: Mutex::default(),
                _pin: pin,
            }),
        })
    }

    /// What this state would be with these segments and no others.
    pub(super) fn of_segments(&self, context: &Arc<Context>, segments: Vec<SegmentView>) -> Self {
        let inner = &self.inner;
        let mut state = inner.state.as_ref().clone();
        state.segments = segments.iter().map(|view| view.segment.record.clone()).collect();
        state.deleted.retain(|deleted| state.segments.iter().any(|segment| segment.id == deleted.segment));
        let inner = SnapshotInner {
            context: Arc::clone(context),
            state: Arc::new(state),
            segments,
            encoders: inner.encoders.clone(),
            schemas: inner.schemas.clone(),
            curvatures: Kept::default(),
            samples: Mutex::default(),
            _pin: None,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The commit that made this state.
    pub fn commit(&self) -> CommitSeq {
        self.inner.state.store.commit
    }

    /// Declared metadata fields.
    pub fn fields(&self) -> &[FieldDeclaration] {
        &self.inner.state.store.fields
    }

    /// Names of the columns, in the order they were added; the first is asked unless a query names another.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.inner.state.store.columns.iter().map(|column| column.name.as_str())
    }

    /// Does some work in the store's pool of threads.
    pub fn in_pool<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inner.context.pool.install(work)
    }

    /// Live rows.
    pub fn row_count(&self) -> u64 {
        self.inner.segments.iter().map(SegmentView::live_rows).sum()
    }

    /// The row with this key, if there is one.
    ///
    /// # Errors
    /// Bytes on the way are damaged.
    ///
    /// # Complexity
    /// O(segments x log rows) reads in key indexes.
    pub fn row(&self, key: &str) -> Result<Option<Row>, FileError> {
        let Some((segment, row)) = self.find(key)? else { return Ok(None) };
        Ok(Some(self.row_at(segment, row)?))
    }

    pub(super) fn row_at(&self, segment: usize, row: RowId) -> Result<Row, FileError> {
        let segment = &self.inner.segments[segment].segment;
        let key = segment.rows.key(row)?.to_owned();
        let text = segment.rows.text(row)?.to_owned();
        Ok(Row { key, text, metadata: segment.row_metadata(self.fields(), row)? })
    }

    /// Position of the segment and the live row with this key.
    pub(super) fn find(&self, key: &str) -> Result<Option<(usize, RowId)>, FileError> {
        for (position, view) in self.inner.segments.iter().enumerate().rev() {
            if let Some(row) = view.find_live(key)? {
                return Ok(Some((position, row)));
            }
        }
        Ok(None)
    }

    fn segment(&self, id: SegmentId) -> Option<&SegmentView> {
        let segments = &self.inner.segments;
        segments
            .binary_search_by_key(&id, |view| view.segment.record.id)
            .ok()
            .map(|position| &segments[position])
    }

    /// Segments in the order of ingest, each with its position.
    pub(super) fn views_in_order(&self) -> Vec<(usize, &SegmentView)> {
        let mut views: Vec<(usize, &SegmentView)> = self.inner.segments.iter().enumerate().collect();
        views.sort_by_key(|(_, view)| view.segment.record.place);
        views
    }

    pub(super) fn column(&self, name: Option<&str>) -> Option<&ColumnRecord> {
        let mut columns = self.inner.state.store.columns.iter();
        match name {
            Some(name) => columns.find(|column| column.name == name),
            None => columns.find(|column| matches!(column.kind, ColumnKind::Embedding(_))),
        }
    }

    /// The encoder of a column on the first of the store's devices that it knows, made at the first call.
    pub(super) fn encoder(&self, column: &ColumnRecord) -> Result<Arc<dyn Encoder>, EncoderError> {
        let context = &self.inner.context;
        let devices: &[Device] = if computes_on_devices(context, column) { &context.devices } else { &[] };
        self.encoder_on(column, devices.first().copied().unwrap_or_default())
    }

    /// The encoders of a column on all devices; of one that this snapshot has not in this form, such as one that was just
    /// fitted, they are opened anew.
    pub(super) fn encoders(&self, column: &ColumnRecord) -> Result<ColumnEncoders, EncoderError> {
        if self.inner.state.store.columns.contains(column) {
            ColumnEncoders::make(&self.inner.context, column, |device| self.encoder_on(column, device))
        } else {
            open_encoders(&self.inner.context, column)
        }
    }

    fn encoder_on(&self, column: &ColumnRecord, device: Device) -> Result<Arc<dyn Encoder>, EncoderError> {
        let context = &self.inner.context;
        let Some(slot) = self.inner.encoders.get(&column.id) else {
            return make_encoder(context, column, open_state(context, column)?.as_ref(), device);
        };
        // Held meanwhile: two that ask at once must not both load a model.
        let mut made = slot.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoder) = made.get(&device) {
            return Ok(Arc::clone(encoder));
        }
        let encoder = make_encoder(context, column, slot.state.as_ref(), device)?;
        made.insert(device, Arc::clone(&encoder));
        Ok(encoder)
    }

    /// Deleted rows of each segment, in segment order.
    pub(super) fn deletes(&self) -> Vec<RowSet> {
        self.inner.segments.iter().map(|view| view.deleted.as_ref().clone()).collect()
    }
}
