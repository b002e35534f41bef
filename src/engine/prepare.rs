//! The middle stage of an ingest: fits encoders, leaves out what the store has, makes texts ready and hands them to the
//! lanes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{BatchError, drop_known};
use super::channel::{Received, Receiver, Sender};
use super::context::Context;
use super::encoders::{ColumnEncoders, EncoderError, needs_fit, takes_vectors};
use super::gather::{CANCEL_POLL, Chunk, Ending, Gathered};
use super::lanes::{Encoding, TaskQueue, prepare_texts};
use super::ledger::Snapshots;
use super::options::OnDuplicate;
use super::snapshot::Snapshot;
use super::write::fit_encoders;
use crate::base::{Cancel, ColumnId, Spent, StageCounter};
use crate::encoder::PreparedText;
use crate::format::{ColumnKind, ColumnRecord};
use crate::sources::{Document, Place, Position};

/// Texts of a commit on their way through the lanes.
pub(super) struct TextsUnderWay {
    pub(super) encoding: Arc<Encoding>,
    /// The columns that they are encoded for, in the order of the encoding.
    pub(super) columns: Vec<ColumnId>,
    /// Which text is that of document i.
    pub(super) texts: Vec<Option<usize>>,
}

/// Documents of one commit whose texts are being encoded.
pub(super) struct PreparedChunk {
    pub(super) documents: Vec<Document>,
    /// Documents left out because the store had their keys.
    pub(super) skipped: u64,
    /// Key of the last of all documents, if it was left out.
    pub(super) last_skipped_key: Option<String>,
    pub(super) last: Option<Place>,
    pub(super) position: Option<Position>,
    /// Documents and bytes of the input up to its end.
    pub(super) read: (u64, u64),
    /// The columns, if an encoder was fitted for this chunk.
    pub(super) fitted: Option<Vec<ColumnRecord>>,
    /// `None` if no document has a text, or no column takes any.
    pub(super) texts: Result<Option<TextsUnderWay>, BatchError>,
}

/// What the preparing stage hands on.
pub(super) enum Prepared {
    Chunk(Box<PreparedChunk>),
    End(Ending),
}

/// The stage that makes texts ready.
pub(super) struct Preparer<'a> {
    pub(super) context: &'a Context,
    pub(super) snapshots: Snapshots,
    pub(super) base: Snapshot,
    /// The columns as they will be once everything handed on is committed.
    pub(super) columns: Vec<ColumnRecord>,
    pub(super) on_duplicate: OnDuplicate,
    pub(super) queue: &'a TaskQueue,
    pub(super) counter: &'a StageCounter,
    /// The user's wish, and the end of the stage behind.
    pub(super) stops: [&'a Cancel; 2],
    /// Encoders made so far.
    pub(super) encoders: BTreeMap<ColumnId, Arc<ColumnEncoders>>,
}

/// Texts ready for the lanes.
struct ReadyTexts {
    columns: Vec<(Arc<ColumnEncoders>, Vec<PreparedText>)>,
    ids: Vec<ColumnId>,
    texts: Vec<Option<usize>>,
}

impl Preparer<'_> {
    /// Prepares one commit after the other. A commit's tasks go to the lanes once the stage behind has room for it, so
    /// that at most one commit is encoded while another is written.
    pub(super) fn run(mut self, input: &Receiver<Gathered>, output: &Sender<Prepared>) {
        let clock = self.context.clock.as_ref();
        let counter = self.counter;
        loop {
            let gathered = counter.timed(clock, Spent::InputWait, || input.receive(CANCEL_POLL));
            let chunks = match gathered {
                Received::Late => continue,
                Received::Closed => {
                    output.send(Prepared::End(Ending::Lost("its gathering thread ended early")), 0);
                    return;
                }
                Received::Item(Gathered::End(ending)) => {
                    output.send(Prepared::End(ending), 0);
                    return;
                }
                Received::Item(Gathered::Chunks(chunks)) => chunks,
            };
            let mut fitted = counter.timed(clock, Spent::Busy, || self.fit(&chunks));
            for chunk in chunks {
                let fit = std::mem::replace(&mut fitted, Ok(None));
                let Some((chunk, ready)) = counter.timed(clock, Spent::Busy, || self.prepare(chunk, fit))
                else {
                    output.send(Prepared::End(Ending::Cancelled), 0);
                    return;
                };
                let is_refused = chunk.texts.is_err();
                let sent = counter.timed(clock, Spent::OutputWait, || self.hand_on(chunk, ready, output));
                if !sent || is_refused {
                    return;
                }
            }
        }
    }

    fn hand_on(
        &self,
        mut chunk: PreparedChunk,
        ready: Option<ReadyTexts>,
        output: &Sender<Prepared>,
    ) -> bool {
        if let Some(ReadyTexts { columns, ids, texts }) = ready {
            let (encoding, begin) = self.queue.plan(columns);
            chunk.texts = Ok(Some(TextsUnderWay { encoding, columns: ids, texts }));
            let sent = output.send(Prepared::Chunk(Box::new(chunk)), 0);
            if sent {
                self.queue.begin(begin);
            }
            return sent;
        }
        output.send(Prepared::Chunk(Box::new(chunk)), 0)
    }

    /// Fits the encoders that wait for rows. Returns the columns, if that changed them.
    fn fit(&mut self, chunks: &[Chunk]) -> Result<Option<Vec<ColumnRecord>>, BatchError> {
        let waits = |column: &ColumnRecord| matches!(&column.kind, ColumnKind::Embedding(record) if needs_fit(record));
        let documents = chunks.iter().flat_map(|chunk| &chunk.documents);
        let texts = documents.filter_map(|document| document.text.as_deref());
        if !self.columns.iter().any(waits) || texts.clone().next().is_none() {
            return Ok(None);
        }
        fit_encoders(self.context.storage.as_ref(), &mut self.columns, texts)?;
        Ok(Some(self.columns.clone()))
    }

    /// `None` if the work is to stop.
    fn prepare(
        &mut self,
        chunk: Chunk,
        fitted: Result<Option<Vec<ColumnRecord>>, BatchError>,
    ) -> Option<(PreparedChunk, Option<ReadyTexts>)> {
        let Chunk { documents, last, position, read, .. } = chunk;
        let mut prepared = PreparedChunk {
            documents,
            skipped: 0,
            last_skipped_key: None,
            last,
            position,
            read,
            fitted: None,
            texts: Ok(None),
        };
        let counts = (prepared.documents.len() as u64, document_texts(&prepared.documents));
        let ready = fitted.and_then(|fitted| {
            prepared.fitted = fitted;
            if self.on_duplicate == OnDuplicate::Skip {
                let known = drop_known(&self.snapshots.latest(), &mut prepared.documents)?;
                (prepared.skipped, prepared.last_skipped_key) = known;
            }
            self.ready(&prepared.documents)
        });
        match ready {
            Ok(None) => None,
            Ok(Some(ready)) => {
                let texts = ready.columns.iter().flat_map(|(_, texts)| texts);
                let tokens = texts.map(PreparedText::token_count).sum::<usize>();
                self.counter.add(counts.0, tokens as u64, counts.1);
                Some((prepared, Some(ready).filter(|ready| !ready.columns.is_empty())))
            }
            Err(error) => {
                prepared.texts = Err(error);
                Some((prepared, None))
            }
        }
    }

    fn ready(&mut self, documents: &[Document]) -> Result<Option<ReadyTexts>, BatchError> {
        let mut count = 0;
        let mut number = |document: &Document| {
            document.text.as_ref()?;
            count += 1;
            Some(count - 1)
        };
        let numbers: Vec<Option<usize>> = documents.iter().map(&mut number).collect();
        let texts: Vec<&str> = documents.iter().filter_map(|document| document.text.as_deref()).collect();
        let mut ready = ReadyTexts { columns: Vec::new(), ids: Vec::new(), texts: numbers };
        if texts.is_empty() {
            return Ok(Some(ready));
        }
        for column in self.columns.clone() {
            if !matches!(&column.kind, ColumnKind::Embedding(record) if !takes_vectors(record)) {
                continue;
            }
            let encoders = self.encoders(&column)?;
            let is_stopped = || self.stops.iter().any(|stop| stop.is_cancelled());
            let prepared = prepare_texts(self.context, &encoders, &texts, &is_stopped);
            match prepared.map_err(|error| BatchError::Encoder(EncoderError::Encode(error)))? {
                None => return Ok(None),
                Some(prepared) => {
                    ready.columns.push((encoders, prepared));
                    ready.ids.push(column.id);
                }
            }
        }
        Ok(Some(ready))
    }

    fn encoders(&mut self, column: &ColumnRecord) -> Result<Arc<ColumnEncoders>, BatchError> {
        if let Some(encoders) = self.encoders.get(&column.id) {
            return Ok(Arc::clone(encoders));
        }
        let encoders = Arc::new(self.base.encoders(column)?);
        self.encoders.insert(column.id, Arc::clone(&encoders));
        Ok(encoders)
    }
}

fn document_texts(documents: &[Document]) -> u64 {
    documents.iter().filter_map(|document| document.text.as_ref()).map(|text| text.len() as u64).sum()
}
