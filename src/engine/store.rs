//! Opening a store: the one writer, and readers.

use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPoolBuildError;
use thiserror::Error;

use super::compact::{CompactReport, Compactor};
use super::compact_error::CompactError;
use super::context::Context;
use super::encoders::{EncoderError, check_all_given, keep_state, new_record, ready_encoder};
use super::indexing::{IndexError, IndexReport};
use super::ledger::{Ledger, Snapshots};
use super::options::{ColumnDefinition, ColumnEncoder, CreateOptions, OpenOptions, Watch};
use super::snapshot::Snapshot;
use super::transaction::{Transaction, TransactionError};
use crate::base::limits::{COLUMNS_MAX, EMBEDDING_WIDTH_MAX, FIELDS_MAX};
use crate::base::{
    ColumnId, CommitSeq, FieldDeclaration, FieldNameError, Fingerprint, SegmentId, check_name,
};
use crate::encoder::{Device, DeviceError, Encoder, LoadError, check_device};
use crate::format::{ColumnKind, ColumnRecord, CommitRecord, Manifest, StoreRecord};
use crate::sketch::SketchSchema;
use crate::sources::Position;
use crate::storage::{
    DiskOptions, DiskStorage, FileError, OpenWriterError, PublishedError, Storage, Writer, pin_current,
    read_current,
};

/// Times that a reader without a pin begins again because files were collected under it.
const UNPINNED_TRIES: usize = 100;

/// A store that cannot be created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A store without columns could never answer.
    #[error("a store needs at least one column: give an encoder, such as \"hashed:256\" or \"vectors:384\"")]
    NoColumn,
    /// A field or column name that cannot be one.
    #[error(transparent)]
    Name(#[from] FieldNameError),
    /// The same name twice, or too many.
    #[error("{what} {name:?} {reason}")]
    Definition {
        /// `field` or `column`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The encoder of a column cannot be loaded.
    #[error(transparent)]
    Encoder(#[from] LoadError),
    /// A device that this build cannot use.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] ThreadPoolBuildError),
    /// The first commit failed.
    #[error(transparent)]
    Writer(#[from] OpenWriterError),
    /// Files cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A store that cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Opening for writing failed.
    #[error(transparent)]
    Writer(#[from] OpenWriterError),
    /// The published state cannot be read.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// A file of the state is missing or damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// An encoder that does not fit was given.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A device that this build cannot use.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] ThreadPoolBuildError),
    /// Commits came faster than a reader without pins could open one.
    #[error(
        "commits come faster than {path} can be opened without a pin; give the reader write access to its \"pins\" folder"
    )]
    Busy {
        /// The store.
        path: String,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Checks a field to be against those that are declared.
pub(super) fn check_field(fields: &[FieldDeclaration], field: &FieldDeclaration) -> Result<(), CreateError> {
    check_name(&field.name)?;
    let definition =
        |reason: String| CreateError::Definition { what: "field", name: field.name.clone(), reason };
    if fields.iter().any(|known| known.name == field.name) {
        return Err(definition("is declared already".to_owned()));
    }
    if fields.len() >= FIELDS_MAX {
        return Err(definition(format!("is one too many: a store has at most {FIELDS_MAX} fields")));
    }
    Ok(())
}

fn check_devices(devices: &[Device]) -> Result<(), DeviceError> {
    devices.iter().try_for_each(|device| check_device(*device))
}

/// The record of a column to be, checked against those that are there, and its encoder unless that is fitted later.
pub(super) fn check_column(
    columns: &[ColumnRecord],
    id: ColumnId,
    definition: &ColumnDefinition,
) -> Result<(ColumnRecord, Option<Arc<dyn Encoder>>), CreateError> {
    check_name(&definition.name)?;
    let refuse =
        |reason: String| CreateError::Definition { what: "column", name: definition.name.clone(), reason };
    if columns.iter().any(|known| known.name == definition.name) {
        return Err(refuse("is there already; drop it first or choose another name".to_owned()));
    }
    if columns.len() >= COLUMNS_MAX {
        return Err(refuse(format!("is one too many: a store has at most {COLUMNS_MAX} columns")));
    }
    if let ColumnEncoder::Sketch(schema) = &definition.encoder {
        return Ok((sketch_record(id, definition, schema), None));
    }
    let ready = ready_encoder(&definition.encoder)?;
    let (encoder, width) = new_record(&definition.encoder, ready.as_deref());
    if width == 0 || width > EMBEDDING_WIDTH_MAX {
        return Err(refuse(format!("has {width} values a row; 1 to {EMBEDDING_WIDTH_MAX} are possible")));
    }
    let record = ColumnRecord {
        id,
        name: definition.name.clone(),
        element: definition.element,
        width: width as u32,
        kind: ColumnKind::Embedding(encoder),
    };
    Ok((record, ready))
}

fn sketch_record(id: ColumnId, definition: &ColumnDefinition, schema: &SketchSchema) -> ColumnRecord {
    ColumnRecord {
        id,
        name: definition.name.clone(),
        element: definition.element,
        // At most the limit of a row, which fits.
        width: schema.layout().width() as u32,
        kind: ColumnKind::Sketch { schema: schema.to_json(), fingerprint: schema.fingerprint(), head: None },
    }
}

/// The record of a sketch column of f32 values to be, checked against those that are there.
pub(super) fn column_record(
    columns: &[ColumnRecord],
    id: ColumnId,
    name: &str,
    schema: &SketchSchema,
) -> Result<ColumnRecord, CreateError> {
    let definition = ColumnDefinition { name: name.to_owned(), ..ColumnDefinition::sketch(schema.clone()) };
    check_column(columns, id, &definition).map(|(record, _)| record)
}

/// A store open for writing. One at a time, in one process; any number of [`Reader`]s beside it.
///
/// ```
/// use ascribe::engine::{ColumnDefinition, CreateOptions, IngestOptions, OpenOptions, Query, Store, Watch};
/// use ascribe::base::Cancel;
/// use ascribe::encoder::EncoderSpecification;
/// use ascribe::sources::{FieldNames, InputFormat, from_reader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("store");
/// let columns = vec![ColumnDefinition::embedding(EncoderSpecification::parse("hashed:64")?)];
/// let mut store = Store::create_at(&path, CreateOptions { columns, ..Default::default() }, OpenOptions::default())?;
///
/// let rows = "{\"id\": \"a\", \"text\": \"a cat on a mat\"}\n{\"id\": \"b\", \"text\": \"rain over the sea\"}\n";
/// let fields = FieldNames { key: Some("id".into()), ..Default::default() };
/// let mut source = from_reader(rows.as_bytes(), "rows", InputFormat::JsonLines, &fields)?;
/// let cancel = Cancel::new();
/// store.ingest(source, &IngestOptions::default(), Watch::silent(&cancel), &mut |_| {})?;
///
/// let answer = store.snapshot().query(&Query::text("the cat"), &cancel)?;
/// assert_eq!(answer.proponents[0].key, "a");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Store {
    /// First, so that it has stopped when the ledger gives the writer's lock back.
    compactor: Compactor,
    pub(super) context: Arc<Context>,
    pub(super) ledger: Arc<Ledger>,
}

impl Store {
    /// Creates a store in an empty place.
    ///
    /// # Errors
    /// The place is not empty, a definition is refused, or the medium fails.
    pub fn create(
        storage: Arc<dyn Storage>,
        create: CreateOptions,
        options: OpenOptions,
    ) -> Result<Self, CreateError> {
        if create.columns.is_empty() {
            return Err(CreateError::NoColumn);
        }
        check_devices(&options.devices)?;
        let mut given = options.encoders.clone();
        let mut fields = Vec::new();
        for field in create.fields {
            check_field(&fields, &field)?;
            fields.push(field);
        }
        let (mut columns, mut ready) = (Vec::new(), Vec::new());
        for (position, definition) in create.columns.iter().enumerate() {
            let (column, encoder) = check_column(&columns, ColumnId(position as u32 + 1), definition)?;
            columns.push(column);
            ready.push(encoder);
            if let ColumnEncoder::Given(encoder) = &definition.encoder {
                given.push((definition.name.clone(), Arc::clone(encoder)));
            }
        }
        let context = Context::new(Arc::clone(&storage), OpenOptions { encoders: given, ..options })?;
        let commit = CommitSeq(1);
        let unix_ms = context.clock.unix_ms();
        let mut store = StoreRecord {
            store: store_name(storage.as_ref(), unix_ms),
            commit,
            next_segment: SegmentId(1),
            next_column: ColumnId(columns.len() as u32 + 1),
            next_counter: 1,
            fields,
            columns,
            next_curvature: 1,
            curvatures: Vec::new(),
        };
        let last =
            CommitRecord { commit, unix_ms, operation: "create".to_owned(), rows_added: 0, rows_deleted: 0 };
        let first = |storage: &dyn Storage| {
            for (column, encoder) in store.columns.iter_mut().zip(ready) {
                encoder.map_or(Ok(()), |encoder| keep_state(storage, column, encoder.as_ref()))?;
            }
            let (segments, deleted, sources) = (Vec::new(), Vec::new(), Vec::new());
            Ok::<_, CreateError>(Manifest { store, segments, deleted, sources, last })
        };
        let writer = Writer::create_with(storage, first)?;
        let snapshot = Snapshot::open(&context, Arc::clone(writer.state()), None, &[], None)?;
        Ok(Self::with_snapshot(context, writer, snapshot))
    }

    fn with_snapshot(context: Arc<Context>, writer: Writer, snapshot: Snapshot) -> Self {
        let ledger = Arc::new(Ledger::new(Arc::clone(&context), writer, snapshot));
        let compactor = Compactor::new(&ledger);
        compactor.wake();
        Self { compactor, context, ledger }
    }

    /// Opens a store for writing.
    ///
    /// # Errors
    /// There is no store, another process writes it, files are damaged, or an encoder does not fit.
    pub fn open(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Self, OpenError> {
        let writer = Writer::open(Arc::clone(&storage), options.catalog_check.as_ref())?;
        Self::with_writer(storage, writer, options)
    }

    /// Makes a new catalog, after the old one was found damaged, and opens the store: from the old one if it can be read
    /// after all, otherwise from the newest manifest. The old file stays beside it. Nothing that was acknowledged is
    /// lost, unless the newest manifest is damaged as well: [`Snapshot::commit`] tells which commit was taken.
    ///
    /// # Errors
    /// The manifest is damaged too, or another process writes.
    pub fn repair(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Self, OpenError> {
        let writer = Writer::repair(Arc::clone(&storage), options.catalog_check.as_ref())?;
        Self::with_writer(storage, writer, options)
    }

    fn with_writer(
        storage: Arc<dyn Storage>,
        writer: Writer,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        check_devices(&options.devices)?;
        let context = Context::new(storage, options)?;
        check_all_given(&context, &writer.state().store.columns)?;
        let snapshot = Snapshot::open(&context, Arc::clone(writer.state()), None, &[], None)?;
        Ok(Self::with_snapshot(context, writer, snapshot))
    }

    /// [`create`](Self::create) in the folder `path`, which is made if it is missing.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_at(path: &Path, create: CreateOptions, options: OpenOptions) -> Result<Self, CreateError> {
        Self::create(disk(path), create, options)
    }

    /// [`open`](Self::open) the store in the folder `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(path: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        Self::open(disk(path), options)
    }

    /// The newest committed state.
    pub fn snapshot(&self) -> Snapshot {
        self.ledger.snapshots().latest()
    }

    /// A handle through which other threads see every commit while this one writes.
    pub fn snapshots(&self) -> Snapshots {
        self.ledger.snapshots().clone()
    }

    /// How far the input of this absolute path was ingested.
    pub fn source_position(&self, path: &str) -> Option<Position> {
        self.ledger.state().sources.iter().find(|source| source.path == path).map(|source| Position {
            consumed_bytes: source.consumed_bytes,
            prefix: source.prefix,
            consumed_records: source.consumed_records,
        })
    }

    /// Begins a set of changes to the newest state.
    pub(super) fn begin(&self) -> Transaction {
        self.ledger.begin()
    }

    /// Commits a transaction and makes it visible.
    pub(super) fn commit(
        &mut self,
        transaction: Transaction,
        operation: &str,
    ) -> Result<CommitSeq, TransactionError> {
        let commit = self.ledger.commit(transaction, operation)?;
        self.compactor.wake();
        Ok(commit)
    }

    /// Waits until every segment of at least [`index_rows_min`](OpenOptions::index_rows_min) rows has its indexes; damaged ones are
    /// built anew.
    ///
    /// Indexes are built in the background after each commit and after opening; answers are right without them, and
    /// slower. What is not done when the store is dropped is begun again when it is opened.
    ///
    /// # Errors
    /// Files could not be read or written since the last call, or the wait was cancelled; building goes on then.
    pub fn build_indexes(&self, watch: Watch<'_>) -> Result<IndexReport, IndexError> {
        self.ledger.indexer.wake(&self.snapshot());
        self.ledger.indexer.wait(watch)
    }

    /// Writes the rows of many segments anew as few large ones, and erases the bytes of deleted rows: one commit for each
    /// large segment. Segments with different columns stay apart, as do parts of the store with such a segment between
    /// them, so that the order of ingest stays. Before a commit the new segment's answers are compared with those of the
    /// old ones.
    ///
    /// The same is done in the background, little by little, unless [`OpenOptions::compact`] says otherwise.
    ///
    /// # Errors
    /// See [`CompactError`]. What was committed stays; everything else is as it was.
    ///
    /// # Complexity
    /// Reads and writes every row of the segments that change. Memory is 20 bytes a row and the declared fields.
    pub fn compact(&self, watch: Watch<'_>) -> Result<CompactReport, CompactError> {
        self.compactor.compact(watch)
    }

    /// Waits until the merges that the background has begun or planned are done.
    ///
    /// # Errors
    /// As [`compact`](Self::compact), of what was done since the last call; if the wait was cancelled, the work goes on.
    pub fn finish_compaction(&self, watch: Watch<'_>) -> Result<CompactReport, CompactError> {
        self.compactor.wait(watch)
    }
}

/// A store open for reading, beside a writer of this or another process.
#[derive(Debug)]
pub struct Reader {
    context: Arc<Context>,
    snapshot: Snapshot,
}

impl Reader {
    /// Opens the newest published state.
    ///
    /// # Errors
    /// There is no store, files are damaged, or an encoder does not fit.
    ///
    /// # Complexity
    /// O(segments): the manifest, and header and footer of each file; independent of the number of rows.
    pub fn open(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Self, OpenError> {
        check_devices(&options.devices)?;
        let context = Context::new(storage, options)?;
        let snapshot = open_published(&context, None)?;
        check_all_given(&context, &snapshot.inner.state.store.columns)?;
        Ok(Self { context, snapshot })
    }

    /// [`open`](Self::open) the store in the folder `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(path: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        Self::open(disk(path), options)
    }

    /// The state that was newest at the last [`refresh`](Self::refresh).
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Moves on to the newest published state; true if there is a newer one. Snapshots handed out stay as they are.
    ///
    /// # Errors
    /// As [`open`](Self::open); this reader then stays where it is.
    pub fn refresh(&mut self) -> Result<bool, OpenError> {
        if read_current(self.context.storage.as_ref())? == self.snapshot.commit() {
            return Ok(false);
        }
        self.snapshot = open_published(&self.context, Some(&self.snapshot))?;
        Ok(true)
    }
}

/// Opens the published state. Without a pin (read-only medium) files may be collected between reading the manifest
/// and opening them; then there is a newer manifest to begin again with.
fn open_published(context: &Arc<Context>, previous: Option<&Snapshot>) -> Result<Snapshot, OpenError> {
    for _ in 0..UNPINNED_TRIES {
        let (manifest, pin) = pin_current(&context.storage)?;
        let is_pinned = pin.is_some();
        let commit = manifest.store.commit;
        match Snapshot::open(context, Arc::new(manifest), previous, &[], pin) {
            Err(error) if error.is_not_found() && !is_pinned => {
                if read_current(context.storage.as_ref())? == commit {
                    return Err(error.into());
                }
            }
            opened => return Ok(opened?),
        }
    }
    Err(OpenError::Busy { path: context.storage.describe("") })
}

fn disk(path: &Path) -> Arc<dyn Storage> {
    Arc::new(DiskStorage::new(path.to_path_buf(), DiskOptions { memory_map: true }))
}

/// Sixteen bytes that tell one store from another: place, process and time. Not a secret.
fn store_name(storage: &dyn Storage, unix_ms: u64) -> [u8; 16] {
    let origin = format!("{}/{}/{unix_ms}", storage.describe(""), std::process::id());
    let mut name = [0; 16];
    name.copy_from_slice(&Fingerprint::of(origin.as_bytes()).0[..16]);
    name
}

impl std::fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "commit {}", self.commit())
    }
}
