//! Documents in, commit by commit, resumable.
//!
//! Stages that overlap, each with a channel of one commit to the next: read and parse (a thread) -> gather the documents
//! of a commit (a thread) -> make texts ready (a thread) -> encode (a lane for each device) -> write and commit (the
//! calling thread). While one commit is written, the next one is encoded. What a stage cannot go on with it hands on like
//! a commit, so that everything before it is committed and nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::batch::{BatchError, assign_keys, vectors_column};
use super::channel::{Received, Receiver, channel};
use super::encoders::{computes_on_devices, needs_fit};
use super::gather::{CANCEL_POLL, Ending, Gatherer, Pace, start_reader};
use super::ingest_report::{Committed, IngestCommit, IngestError, IngestReport};
use super::lanes::{Lane, TaskQueue, lanes, with_lanes};
use super::options::{IngestOptions, Watch};
use super::prepare::{Prepared, PreparedChunk, Preparer, TextsUnderWay};
use super::store::Store;
use super::transaction::{Transaction, TransactionError};
use super::write::{TextVectors, needs_text, write_segment};
use crate::base::limits::{COMMIT_BYTES_MAX, COMMIT_ROWS_UNPACED};
use crate::base::{Cancel, ColumnId, Spent, StageCount, StageCounter};
use crate::format::{ColumnKind, SourceRecord};
use crate::sources::{Position, Source};

fn refused(source: BatchError, committed: &Committed) -> IngestError {
    IngestError::Batch { source: Box::new(source), committed: Box::new(committed.clone()) }
}

fn not_committed(source: TransactionError, committed: &Committed) -> IngestError {
    IngestError::Commit { source: Box::new(source), committed: Box::new(committed.clone()) }
}

fn thread_failed(reason: impl Into<String>, committed: &Committed) -> IngestError {
    IngestError::Thread { reason: reason.into(), committed: Box::new(committed.clone()) }
}

/// Counters of the stages, in the order in which documents pass them.
struct Stages {
    read: Arc<StageCounter>,
    prepare: StageCounter,
    lanes: Vec<Lane>,
    write: StageCounter,
    commit: StageCounter,
}

impl Stages {
    fn new(store: &Store) -> Self {
        Self {
            read: Arc::new(StageCounter::new("read")),
            prepare: StageCounter::new("prepare"),
            lanes: lanes(&store.context),
            write: StageCounter::new("write"),
            commit: StageCounter::new("commit"),
        }
    }

    fn counts(&self) -> Vec<StageCount> {
        let lanes = self.lanes.iter().map(|lane| &lane.counter);
        let before = [self.read.as_ref(), &self.prepare].into_iter();
        before.chain(lanes).chain([&self.write, &self.commit]).map(StageCounter::count).collect()
    }

    /// Time at work of the busiest stage behind reading; writing and committing are one thread's.
    fn busiest(&self) -> Duration {
        let lanes = self.lanes.iter().map(|lane| lane.counter.count().busy).max().unwrap_or_default();
        let writer = self.write.count().busy + self.commit.count().busy;
        lanes.max(writer).max(self.prepare.count().busy)
    }
}

/// The calling thread's part of an ingest.
struct Ingest<'a> {
    store: &'a mut Store,
    options: &'a IngestOptions,
    watch: Watch<'a>,
    stages: &'a Stages,
    pace: &'a Pace,
    vectors_column: Option<ColumnId>,
    is_typed: bool,
    /// Whether progress counts bytes of the input, not rows.
    count_bytes: bool,
    /// Progress up to the chunk at hand.
    done: u64,
    begun: Duration,
    busiest_before: Duration,
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
    /// [`source_position`](Store::source_position)). Reading, encoding and writing overlap:
    /// [`IngestReport::stages`] tells what each of them did and waited for.
    ///
    /// # Errors
    /// See [`IngestError`]; its text says what was committed.
    ///
    /// # Complexity
    /// Memory is that of four commits' rows. Each row costs one key lookup in every segment.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        options: &IngestOptions,
        watch: Watch<'_>,
        on_commit: &mut dyn FnMut(&IngestCommit),
    ) -> Result<IngestReport, IngestError> {
        let state = self.ledger.state();
        let columns = &state.store.columns;
        let vectors_column = vectors_column(columns, options.column.as_deref(), false)
            .map_err(|source| refused(source, &Committed::default()))?;
        let is_slow = columns.iter().any(|column| computes_on_devices(&self.context, column));
        let pace = Pace::new(options, if is_slow { COMMIT_ROWS_UNPACED } else { usize::MAX });
        let is_typed = !source.values_are_text();
        let total = source.total_bytes();
        watch.progress.begin("ingest", if total.is_some() { "bytes" } else { "rows" }, total);
        let stages = Stages::new(self);
        let ingest = Ingest {
            begun: self.context.clock.elapsed(),
            store: self,
            options,
            watch,
            stages: &stages,
            pace: &pace,
            vectors_column,
            is_typed,
            count_bytes: total.is_some(),
            done: 0,
            busiest_before: Duration::ZERO,
            transaction: None,
            report: IngestReport::default(),
            committed: Committed::default(),
            on_commit,
        };
        let outcome = ingest.run_stages(source);
        if !outcome.as_ref().is_ok_and(|report| !report.cancelled) {
            self.ledger.discard_uncommitted();
        }
        watch.progress.end();
        outcome.map(|report| IngestReport { stages: stages.counts(), ..report })
    }
}

impl Ingest<'_> {
    /// Starts the other stages, works until the input ends or something fails, and waits for them to end.
    fn run_stages(mut self, source: Box<dyn Source>) -> Result<IngestReport, IngestError> {
        let context = Arc::clone(&self.store.context);
        let (options, watch, stages, pace) = (self.options, self.watch, self.stages, self.pace);
        let clock = Arc::clone(&context.clock);
        let with_positions = options.resume_path.is_some();
        let messages = start_reader(source, with_positions, clock, Arc::clone(&stages.read))
            .map_err(|error| thread_failed(error.to_string(), &Committed::default()))?;
        let queue = TaskQueue::new(options.batch_texts.map_or(usize::MAX, std::num::NonZeroUsize::get));
        let (abandoned, rows_read) = (Cancel::new(), AtomicU64::new(0));
        let columns = self.store.ledger.state().store.columns.clone();
        let waits = |kind: &ColumnKind| matches!(kind, ColumnKind::Embedding(record) if needs_fit(record));
        let (gathered, to_prepare) = channel(1, COMMIT_BYTES_MAX);
        let (prepared, to_write) = channel(1, COMMIT_BYTES_MAX);
        let gatherer = Gatherer {
            options,
            pace,
            clock: context.clock.as_ref(),
            stops: [watch.cancel, &abandoned],
            rows_read: &rows_read,
            needs_fit: columns.iter().any(|column| waits(&column.kind)),
        };
        let preparer = Preparer {
            context: &context,
            snapshots: self.store.snapshots(),
            base: self.store.snapshot(),
            columns,
            on_duplicate: options.on_duplicate,
            queue: &queue,
            counter: &stages.prepare,
            stops: [watch.cancel, &abandoned],
            encoders: BTreeMap::new(),
        };
        let work = || {
            std::thread::scope(|scope| {
                let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
                let gather =
                    thread("ascribe-gather").spawn_scoped(scope, move || gatherer.run(&messages, &gathered));
                let prepare = thread("ascribe-prepare")
                    .spawn_scoped(scope, move || preparer.run(&to_prepare, &prepared));
                let outcome = match (&gather, &prepare) {
                    (Ok(_), Ok(_)) => self.write_all(&to_write),
                    (Err(error), _) | (_, Err(error)) => {
                        Err(thread_failed(error.to_string(), &self.committed))
                    }
                };
                // Whatever came of it: the stages before stop, and none of their panics gets further than this.
                abandoned.cancel();
                drop(to_write);
                for stage in [gather, prepare].into_iter().flatten() {
                    let _ = stage.join();
                }
                outcome
            })
        };
        let outcome = with_lanes(&context, &stages.lanes, &queue, work)
            .unwrap_or_else(|error| Err(thread_failed(error.to_string(), &Committed::default())));
        self.report.rows_read = rows_read.load(Ordering::Relaxed);
        outcome.map(|()| self.report)
    }

    /// Writes and commits what comes until the input ends.
    fn write_all(&mut self, input: &Receiver<Prepared>) -> Result<(), IngestError> {
        let clock = Arc::clone(&self.store.context.clock);
        let stages = self.stages;
        loop {
            if self.watch.cancel.is_cancelled() {
                self.report.cancelled = true;
                return Ok(());
            }
            let received =
                stages.write.timed(clock.as_ref(), Spent::InputWait, || input.receive(CANCEL_POLL));
            let ending = match received {
                Received::Late => continue,
                Received::Closed => Ending::Lost("a stage ended early, which is a bug"),
                Received::Item(Prepared::End(ending)) => ending,
                Received::Item(Prepared::Chunk(chunk)) => {
                    if !self.write(*chunk)? {
                        self.report.cancelled = true;
                        return Ok(());
                    }
                    continue;
                }
            };
            return match ending {
                Ending::End => self.commit(),
                Ending::Cancelled => {
                    self.report.cancelled = true;
                    Ok(())
                }
                Ending::Refused(source) => {
                    let committed = Box::new(self.committed.clone());
                    Err(IngestError::Source { source: Box::new(source), committed })
                }
                Ending::Lost(reason) => Err(thread_failed(reason, &self.committed)),
            };
        }
    }

    /// Writes one chunk, and commits it unless everything is one commit; false if the work was cancelled meanwhile.
    fn write(&mut self, mut chunk: PreparedChunk) -> Result<bool, IngestError> {
        let (last, position, read) = (chunk.last.take(), chunk.position.take(), chunk.read);
        let added = self.add(chunk).map_err(|source| refused(source, &self.committed))?;
        let Some((rows, last_key)) = added else { return Ok(false) };
        self.remember(position);
        self.done = if self.count_bytes { read.1 } else { read.0 };
        self.watch.progress.advance(self.done);
        if self.options.atomic {
            self.report.rows_added += rows;
            return Ok(true);
        }
        self.commit_chunk(rows, last_key)?;
        self.committed = Committed { rows: self.report.rows_added, place: last };
        self.learn(rows);
        Ok(true)
    }

    fn transaction(&mut self) -> &mut Transaction {
        let store = &*self.store;
        self.transaction.get_or_insert_with(|| store.begin())
    }

    /// Adds the rows of a chunk to the transaction; returns how many, and the last key. `None` if the work was cancelled.
    fn add(&mut self, chunk: PreparedChunk) -> Result<Option<(u64, String)>, BatchError> {
        let (policy, vectors, is_typed) = (self.options.on_duplicate, self.vectors_column, self.is_typed);
        let (context, stages) = (Arc::clone(&self.store.context), self.stages);
        let clock = context.clock.as_ref();
        if vectors.is_none()
            && let Some(document) = chunk.documents.iter().find(|document| document.vector.is_some())
        {
            let state = self.store.ledger.state();
            if let Err(error) = vectors_column(&state.store.columns, None, true) {
                return Err(BatchError::Column { reason: format!("{}: {error}", document.place) });
            }
        }
        let begun = clock.elapsed();
        let transaction = self.transaction();
        if let Some(columns) = chunk.fitted {
            transaction.next.store.columns = columns;
        }
        let last_key = chunk.documents.last().and_then(|document| document.key.clone());
        let keyed = assign_keys(transaction, chunk.documents, policy)?;
        let rows = keyed.documents.len() as u64;
        let last_added = keyed.documents.last().and_then(|document| document.key.clone());
        let last_key = chunk.last_skipped_key.or(last_key).or(last_added).unwrap_or_default();
        let has_vectors =
            vectors.is_some() && keyed.documents.iter().all(|document| document.vector.is_some());
        let mut is_text_needed = false;
        for column in transaction.next.store.columns.iter().filter(|_| rows > 0) {
            is_text_needed |= needs_text(column, &keyed.documents, has_vectors)?;
        }
        stages.write.spend(Spent::Busy, clock.elapsed().saturating_sub(begun));
        let texts = match (is_text_needed, chunk.texts?) {
            (true, Some(texts)) => match self.wait_for(texts, &keyed.kept, chunk.read)? {
                Some(texts) => Some(texts),
                None => return Ok(None),
            },
            _ => None,
        };
        if rows > 0 {
            let transaction = self.transaction();
            let bytes = stages.write.timed(clock, Spent::Busy, || {
                write_segment(&context, transaction, keyed.documents, vectors, is_typed, texts.as_ref())
            })?;
            stages.write.add(rows, 0, bytes);
        }
        self.report.rows_skipped += chunk.skipped + keyed.skipped;
        self.report.rows_replaced += keyed.replaced;
        Ok(Some((rows, last_key)))
    }

    /// Waits for the vectors of a chunk, of whose documents only `kept` are left. `None` if the work was cancelled.
    fn wait_for(
        &self,
        texts: TextsUnderWay,
        kept: &[usize],
        read: (u64, u64),
    ) -> Result<Option<TextVectors>, BatchError> {
        let clock = self.store.context.clock.as_ref();
        let end = if self.count_bytes { read.1 } else { read.0 };
        let span = end.saturating_sub(self.done) as f64;
        self.stages.write.timed(clock, Spent::InputWait, || {
            loop {
                if self.watch.cancel.is_cancelled() {
                    return Ok(None);
                }
                let waited = texts.encoding.wait().map_err(|error| BatchError::Encoder(error.into()))?;
                match waited {
                    Ok(values) => {
                        let columns = texts.columns.iter().copied().zip(values).collect();
                        let texts = kept.iter().filter_map(|document| texts.texts[*document]).collect();
                        return Ok(Some(TextVectors { columns, texts }));
                    }
                    Err(part) => self.watch.progress.advance(self.done + (part * span) as u64),
                }
            }
        })
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

    /// Commits a transaction, unless it changes nothing.
    fn commit_transaction(&mut self, transaction: Transaction) -> Result<(), IngestError> {
        let base = &transaction.base.inner.state;
        let is_unchanged = transaction.next.sources == base.sources
            && transaction.next.store.columns == base.store.columns
            && transaction.is_empty();
        if is_unchanged {
            return Ok(());
        }
        let (clock, stages) = (Arc::clone(&self.store.context.clock), self.stages);
        let committed =
            stages.commit.timed(clock.as_ref(), Spent::Busy, || self.store.commit(transaction, "ingest"));
        let commit = committed.map_err(|source| not_committed(source, &self.committed))?;
        stages.commit.add(1, 0, 0);
        self.report.commits += 1;
        self.report.commit = Some(commit);
        Ok(())
    }

    /// Commits one chunk of a non-atomic ingest.
    fn commit_chunk(&mut self, rows: u64, last_key: String) -> Result<(), IngestError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        self.commit_transaction(transaction)?;
        self.report.rows_added += rows;
        let (commit, committed) = (self.store.snapshot().commit(), self.report.rows_added);
        (self.on_commit)(&IngestCommit { commit, committed, last_key, rows });
        Ok(())
    }

    /// Commits what an atomic ingest has gathered.
    fn commit(&mut self) -> Result<(), IngestError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        let last_key = transaction.last_added_key().unwrap_or_default();
        let before = self.report.commits;
        self.commit_transaction(transaction)?;
        if self.report.commits > before {
            let (commit, rows) = (self.store.snapshot().commit(), self.report.rows_added);
            (self.on_commit)(&IngestCommit { commit, committed: rows, last_key, rows });
        }
        Ok(())
    }

    /// Looks at the counters after a commit: how many rows fit into the next, and what to tell whoever watches.
    fn learn(&mut self, rows: u64) {
        let busiest = self.stages.busiest();
        let took = busiest.saturating_sub(self.busiest_before);
        self.busiest_before = busiest;
        if rows > 0 {
            self.pace.learn(usize::try_from(rows).unwrap_or(usize::MAX), took);
        }
        let elapsed = self.store.context.clock.elapsed().saturating_sub(self.begun).as_secs_f64();
        let slowest = self.stages.counts().into_iter().max_by_key(|stage| stage.busy);
        if let Some(slowest) = slowest.filter(|_| elapsed > 0.0) {
            let rate = (self.report.rows_added as f64 / elapsed).round();
            self.watch.progress.remark(&format!("{rate} rows/s, most time goes to {}", slowest.name));
        }
    }
}
