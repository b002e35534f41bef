//! Documents in, batch by batch, resumable.
//!
//! A thread reads and parses while this one encodes and writes. It is not joined when the work is cancelled: it may
//! be blocked on a silent pipe, and ends with its input.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use thiserror::Error;

use super::batch::{BatchError, assign_keys};
use super::encoders::{needs_fit, takes_vectors};
use super::options::{IngestOptions, Watch};
use super::store::Store;
use super::transaction::{Transaction, TransactionError};
use super::write::{fit_encoders, write_segment};
use crate::base::limits::{COMMIT_BYTES_MAX, HASHED_FIT_DOCUMENTS_MAX};
use crate::base::{ColumnId, CommitSeq};
use crate::format::{ColumnKind, ColumnRecord, SourceRecord};
use crate::sources::{Document, Place, Position, Source, SourceError};

/// Documents that the reading thread may be ahead.
const READ_AHEAD_DOCUMENTS: usize = 4096;

/// How often a silent input is left to look for a request to stop.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// One commit of an ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestCommit {
    /// The commit.
    pub commit: CommitSeq,
    /// Rows that this ingest has committed so far.
    pub committed: u64,
    /// Key of the last row committed.
    pub last_key: String,
    /// Rows of this commit.
    pub rows: u64,
}

/// What an ingest did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Documents read.
    pub rows_read: u64,
    /// Rows added, replacing ones counted.
    pub rows_added: u64,
    /// Rows left out because their key was there already.
    pub rows_skipped: u64,
    /// Rows that took the place of another.
    pub rows_replaced: u64,
    /// Commits made.
    pub commits: u64,
    /// The last commit made.
    pub commit: Option<CommitSeq>,
    /// Whether the work was cancelled before the end of the input.
    pub cancelled: bool,
}

/// How far an ingest got before it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Rows committed.
    pub rows: u64,
    /// Where the last of them stood.
    pub place: Option<Place>,
}

impl fmt::Display for Committed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => formatter.write_str("nothing was committed"),
            Some(place) => write!(formatter, "{} rows up to {place} are committed and stay", self.rows),
        }
    }
}

/// An ingest that ended before the end of its input.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The input is refused.
    #[error("{source}; {committed}")]
    Source {
        /// What is wrong with it.
        source: Box<SourceError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// A batch is refused.
    #[error("{source}; {committed}")]
    Batch {
        /// What is wrong with it.
        source: Box<BatchError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// A commit failed.
    #[error("{source}; {committed}")]
    Commit {
        /// Why.
        source: Box<TransactionError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// The reading thread could not be started or ended without a word.
    #[error("cannot read the input: {reason}; {committed}")]
    Reader {
        /// Why.
        reason: String,
        /// How far it got.
        committed: Box<Committed>,
    },
}

fn refused(source: BatchError, committed: &Committed) -> IngestError {
    IngestError::Batch { source: Box::new(source), committed: Box::new(committed.clone()) }
}

fn not_committed(source: TransactionError, committed: &Committed) -> IngestError {
    IngestError::Commit { source: Box::new(source), committed: Box::new(committed.clone()) }
}

/// A document, and how far the input was read with it.
struct ReadDocument {
    document: Document,
    position: Option<Position>,
    /// Bytes of the input that were read by then.
    read_bytes: u64,
}

type ReadMessage = Result<Option<ReadDocument>, SourceError>;

/// Documents of one commit to be.
#[derive(Default)]
struct Chunk {
    documents: Vec<Document>,
    position: Option<Position>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, read: ReadDocument) {
        let document = &read.document;
        self.bytes += document.text.as_ref().map_or(0, String::len)
            + document.vector.as_ref().map_or(0, |vector| 4 * vector.len());
        self.position = read.position;
        self.documents.push(read.document);
    }
}

/// Why reading stopped for now.
enum Pause {
    Full,
    Time,
    End,
    Cancelled,
    Refused(SourceError),
    Lost,
}

struct Ingest<'a> {
    store: &'a mut Store,
    options: &'a IngestOptions,
    vectors_column: Option<ColumnId>,
    is_typed: bool,
    transaction: Option<Transaction>,
    report: IngestReport,
    committed: Committed,
    on_commit: &'a mut dyn FnMut(&IngestCommit),
}

impl Store {
    /// Ingests the documents of `source`, commit by commit; `on_commit` hears of each.
    ///
    /// A bad document ends the work: the batch it is in is refused whole, earlier commits stay. With
    /// [`IngestOptions::resume_path`], a later ingest of the same input goes on after the last commit (see
    /// [`source_position`](Store::source_position)).
    ///
    /// # Errors
    /// See [`IngestError`]; its text says what was committed.
    ///
    /// # Complexity
    /// Memory is that of one commit's rows. Each row costs one key lookup in every segment.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        options: &IngestOptions,
        watch: Watch<'_>,
        on_commit: &mut dyn FnMut(&IngestCommit),
    ) -> Result<IngestReport, IngestError> {
        let columns = &self.writer.state().store.columns;
        let vectors_column = vectors_column(columns, options.column.as_deref(), false)
            .map_err(|source| refused(source, &Committed::default()))?;
        let is_typed = !source.values_are_text();
        let total = source.total_bytes();
        let messages = start_reader(source, options.resume_path.is_some())?;
        watch.progress.begin("ingest", if total.is_some() { "bytes" } else { "rows" }, total);
        let mut ingest = Ingest {
            store: self,
            options,
            vectors_column,
            is_typed,
            transaction: None,
            report: IngestReport::default(),
            committed: Committed::default(),
            on_commit,
        };
        let outcome = ingest.run(&messages, watch, total.is_some());
        let report = std::mem::take(&mut ingest.report);
        if outcome.is_err() || report.cancelled {
            self.writer.discard_uncommitted();
        }
        watch.progress.end();
        outcome.map(|()| report)
    }
}

/// The column that takes ready vectors: the one named, or the only one of its kind. Where vectors have come
/// (`is_needed`), there must be one.
pub(super) fn vectors_column(
    columns: &[ColumnRecord],
    named: Option<&str>,
    is_needed: bool,
) -> Result<Option<ColumnId>, BatchError> {
    const ADD: &str = "add one with \"ascribe alter STORE --add-column NAME=vectors:DIM\"";
    let takes: Vec<&ColumnRecord> = columns
        .iter()
        .filter(|column| matches!(&column.kind, ColumnKind::Embedding(record) if takes_vectors(record)))
        .collect();
    let names = || takes.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let reason = match (named, takes.as_slice()) {
        (Some(name), _) => match takes.iter().find(|column| column.name == name) {
            Some(column) => return Ok(Some(column.id)),
            None if takes.is_empty() => {
                format!("column {name:?} does not take ready vectors, nor does any other: {ADD}")
            }
            None => format!("column {name:?} does not take ready vectors; these do: {}", names()),
        },
        (None, [only]) => return Ok(Some(only.id)),
        (None, _) if !is_needed => return Ok(None),
        (None, []) => format!("no column takes ready vectors: {ADD}"),
        (None, _) => format!("several columns take ready vectors ({}): name one with --column", names()),
    };
    Err(BatchError::Column { reason })
}

fn start_reader(
    mut source: Box<dyn Source>,
    with_positions: bool,
) -> Result<Receiver<ReadMessage>, IngestError> {
    let (sender, messages) = sync_channel::<ReadMessage>(READ_AHEAD_DOCUMENTS);
    let reader = std::thread::Builder::new().name("ascribe-reader".to_owned()).spawn(move || {
        loop {
            let message = source.next().map(|document| {
                document.map(|document| ReadDocument {
                    document,
                    position: if with_positions { source.position() } else { None },
                    read_bytes: source.consumed_bytes(),
                })
            });
            let is_last = !matches!(message, Ok(Some(_)));
            // The receiver is gone when the work was given up.
            if sender.send(message).is_err() || is_last {
                break;
            }
        }
    });
    match reader {
        Ok(_detached) => Ok(messages),
        Err(error) => Err(IngestError::Reader { reason: error.to_string(), committed: Box::default() }),
    }
}

impl Ingest<'_> {
    fn run(
        &mut self,
        messages: &Receiver<ReadMessage>,
        watch: Watch<'_>,
        count_bytes: bool,
    ) -> Result<(), IngestError> {
        loop {
            let fit = self
                .store
                .writer
                .state()
                .store
                .columns
                .iter()
                .any(|column| matches!(&column.kind, ColumnKind::Embedding(record) if needs_fit(record)));
            let (chunks, pause) = self.read(messages, watch, count_bytes, fit);
            if matches!(pause, Pause::Cancelled) {
                self.report.cancelled = true;
                return Ok(());
            }
            self.write(chunks)?;
            match pause {
                Pause::Full | Pause::Time => {}
                Pause::End | Pause::Cancelled => return self.commit(),
                Pause::Refused(source) => {
                    let committed = Box::new(self.committed.clone());
                    return Err(IngestError::Source { source: Box::new(source), committed });
                }
                Pause::Lost => {
                    let reason = "its reader ended early".to_owned();
                    return Err(IngestError::Reader { reason, committed: Box::new(self.committed.clone()) });
                }
            }
        }
    }

    /// Reads the documents of the next commit; of several while encoders wait for rows to be fitted to. A chunk that
    /// a refused document cut off is dropped.
    fn read(
        &mut self,
        messages: &Receiver<ReadMessage>,
        watch: Watch<'_>,
        count_bytes: bool,
        fit: bool,
    ) -> (Vec<Chunk>, Pause) {
        let clock = std::sync::Arc::clone(&self.store.context.clock);
        let begun = clock.elapsed();
        let target = if fit { HASHED_FIT_DOCUMENTS_MAX } else { 1 };
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut chunk = Chunk::default();
        let mut read_rows = 0;
        let pause = loop {
            if watch.cancel.is_cancelled() {
                break Pause::Cancelled;
            }
            let left = self.options.commit_every.map(|every| every.saturating_sub(clock.elapsed() - begun));
            if left == Some(Duration::ZERO) && (read_rows > 0) {
                break Pause::Time;
            }
            let wait = left.filter(|left| !left.is_zero()).map_or(CANCEL_POLL, |left| left.min(CANCEL_POLL));
            match messages.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break Pause::Lost,
                Ok(Err(error)) => {
                    chunk = Chunk::default();
                    break Pause::Refused(error);
                }
                Ok(Ok(None)) => break Pause::End,
                Ok(Ok(Some(read))) => {
                    read_rows += 1;
                    self.report.rows_read += 1;
                    watch.progress.advance(if count_bytes { read.read_bytes } else { self.report.rows_read });
                    chunk.push(read);
                }
            }
            if chunk.documents.len() >= self.options.commit_rows.max(1) || chunk.bytes >= COMMIT_BYTES_MAX {
                chunks.push(std::mem::take(&mut chunk));
                if read_rows >= target {
                    break Pause::Full;
                }
            }
        };
        if !chunk.documents.is_empty() {
            chunks.push(chunk);
        }
        (chunks, pause)
    }

    fn write(&mut self, chunks: Vec<Chunk>) -> Result<(), IngestError> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.fit(&chunks).map_err(|source| refused(source, &self.committed))?;
        for chunk in chunks {
            let last = chunk.documents.last().map(|document| document.place.clone());
            let position = chunk.position.clone();
            let (rows, last_key) = self.add(chunk).map_err(|source| refused(source, &self.committed))?;
            self.remember(position);
            if !self.options.atomic {
                self.commit_chunk(rows, last_key, last)?;
            } else {
                self.report.rows_added += rows;
                self.committed.place = None;
            }
        }
        Ok(())
    }

    fn transaction(&mut self) -> &mut Transaction {
        let store = &*self.store;
        self.transaction.get_or_insert_with(|| store.begin())
    }

    fn fit(&mut self, chunks: &[Chunk]) -> Result<(), BatchError> {
        let storage = std::sync::Arc::clone(&self.store.context.storage);
        let texts =
            chunks.iter().flat_map(|chunk| &chunk.documents).filter_map(|document| document.text.as_deref());
        if texts.clone().next().is_none() {
            return Ok(());
        }
        let transaction = self.transaction();
        fit_encoders(storage.as_ref(), &mut transaction.next.store.columns, texts)
    }

    /// Adds the rows of a chunk to the transaction; returns how many, and the last key.
    fn add(&mut self, chunk: Chunk) -> Result<(u64, String), BatchError> {
        let (policy, vectors, is_typed) = (self.options.on_duplicate, self.vectors_column, self.is_typed);
        let context = std::sync::Arc::clone(&self.store.context);
        if vectors.is_none()
            && let Some(document) = chunk.documents.iter().find(|document| document.vector.is_some())
        {
            let columns = &self.store.writer.state().store.columns;
            if let Err(error) = vectors_column(columns, None, true) {
                return Err(BatchError::Column { reason: format!("{}: {error}", document.place) });
            }
        }
        let transaction = self.transaction();
        let keyed = assign_keys(transaction, chunk.documents, policy)?;
        let rows = keyed.documents.len() as u64;
        let last_key = keyed.documents.last().and_then(|document| document.key.clone()).unwrap_or_default();
        if rows > 0 {
            write_segment(&context, transaction, keyed.documents, vectors, is_typed)?;
        }
        self.report.rows_skipped += keyed.skipped;
        self.report.rows_replaced += keyed.replaced;
        Ok((rows, last_key))
    }

    fn remember(&mut self, position: Option<Position>) {
        if let (Some(path), Some(position)) = (self.options.resume_path.clone(), position) {
            self.transaction().set_source(SourceRecord {
                path,
                consumed_bytes: position.consumed_bytes,
                prefix: position.prefix,
                consumed_records: position.consumed_records,
            });
        }
    }

    /// Commits one chunk of a non-atomic ingest.
    fn commit_chunk(&mut self, rows: u64, last_key: String, place: Option<Place>) -> Result<(), IngestError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        let commit = self
            .store
            .commit(transaction, "ingest")
            .map_err(|source| not_committed(source, &self.committed))?;
        self.report.rows_added += rows;
        self.report.commits += 1;
        self.report.commit = Some(commit);
        self.committed = Committed { rows: self.report.rows_added, place };
        let committed = self.report.rows_added;
        (self.on_commit)(&IngestCommit { commit, committed, last_key, rows });
        Ok(())
    }

    /// Commits what an atomic ingest has gathered.
    fn commit(&mut self) -> Result<(), IngestError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        if transaction.is_empty() && transaction.next.sources == transaction.base.inner.state.sources {
            return Ok(());
        }
        let last = transaction.last_added_key();
        let commit = self
            .store
            .commit(transaction, "ingest")
            .map_err(|source| not_committed(source, &Committed::default()))?;
        self.report.commits += 1;
        self.report.commit = Some(commit);
        let rows = self.report.rows_added;
        (self.on_commit)(&IngestCommit { commit, committed: rows, last_key: last.unwrap_or_default(), rows });
        Ok(())
    }
}
