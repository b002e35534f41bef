//! The first stages of an ingest: a thread that reads and parses, and one that gathers documents for each commit.
//!
//! The reading thread is not joined when the work is given up: it may be blocked on a silent pipe, and ends with its
//! input.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::channel::{Received, Receiver, Sender, channel};
use super::options::IngestOptions;
use crate::base::limits::{
    COMMIT_BYTES_MAX, HASHED_FIT_DOCUMENTS_MAX, READ_AHEAD_BYTES, READ_AHEAD_DOCUMENTS,
};
use crate::base::{Cancel, Clock, Spent, StageCounter};
use crate::sources::{Document, Place, Position, Source, SourceError};

/// How often a silent input is left to look for a request to stop.
pub(super) const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Bytes that a JSON value takes beside its text.
const VALUE_BYTES: usize = 64;

/// A document, and how far the input was read with it.
pub(super) struct ReadDocument {
    document: Document,
    position: Option<Position>,
    consumed_bytes: u64,
    bytes: usize,
}

pub(super) type ReadMessage = Result<Option<ReadDocument>, SourceError>;

/// Documents of one commit to be.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) documents: Vec<Document>,
    /// Where the last of them stood.
    pub(super) last: Option<Place>,
    /// How far the input was read with the last of them.
    pub(super) position: Option<Position>,
    /// Memory that they take.
    pub(super) bytes: usize,
    /// Documents and bytes of the input up to its end.
    pub(super) read: (u64, u64),
}

impl Chunk {
    fn push(&mut self, read: ReadDocument, rows_read: u64) {
        self.bytes += read.bytes;
        self.position = read.position;
        self.read = (rows_read, read.consumed_bytes);
        self.last = Some(read.document.place.clone());
        self.documents.push(read.document);
    }
}

/// Why reading is over.
pub(super) enum Ending {
    End,
    Cancelled,
    Refused(SourceError),
    /// A stage ended without a word.
    Lost(&'static str),
}

/// What the gathering stage hands on.
pub(super) enum Gathered {
    /// Documents of one commit; of several where encoders are to be fitted to them.
    Chunks(Vec<Chunk>),
    End(Ending),
}

/// Memory that a document takes, roughly.
fn document_bytes(document: &Document) -> usize {
    let text = document.text.as_ref().map_or(0, String::len);
    let vector = document.vector.as_ref().map_or(0, |vector| 4 * vector.len());
    let fields = document.metadata.iter().map(|(name, value)| name.len() + value_bytes(value));
    VALUE_BYTES + text + vector + fields.sum::<usize>()
}

fn value_bytes(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(value_bytes).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// Starts the thread that reads and parses.
pub(super) fn start_reader(
    mut source: Box<dyn Source>,
    with_positions: bool,
    clock: Arc<dyn Clock>,
    counter: Arc<StageCounter>,
) -> io::Result<Receiver<ReadMessage>> {
    let (sender, messages) = channel::<ReadMessage>(READ_AHEAD_DOCUMENTS, READ_AHEAD_BYTES);
    let mut consumed_bytes = source.consumed_bytes();
    let mut next = move || {
        let document = source.next()?;
        let before = std::mem::replace(&mut consumed_bytes, source.consumed_bytes());
        let position = if with_positions { source.position() } else { None };
        Ok(document.map(|document| {
            let bytes = document_bytes(&document);
            (
                ReadDocument { document, position, consumed_bytes, bytes },
                consumed_bytes.saturating_sub(before),
            )
        }))
    };
    std::thread::Builder::new().name("ascribe-reader".to_owned()).spawn(move || {
        loop {
            let message = counter.timed(clock.as_ref(), Spent::Busy, &mut next);
            let (message, bytes) = match message {
                Ok(Some((read, bytes))) => {
                    counter.add(1, 0, bytes);
                    let bytes = read.bytes;
                    (Ok(Some(read)), bytes)
                }
                Ok(None) => (Ok(None), 0),
                Err(error) => (Err(error), 0),
            };
            let is_last = !matches!(message, Ok(Some(_)));
            // The receiver is gone when the work was given up.
            let sent = counter.timed(clock.as_ref(), Spent::OutputWait, || sender.send(message, bytes));
            if !sent || is_last {
                break;
            }
        }
    })?;
    Ok(messages)
}

/// Rows that are taken into one commit: fewer than allowed where commits are made by time and rows take long to encode.
pub(super) struct Pace {
    rows: AtomicUsize,
    rows_max: usize,
    every: Option<Duration>,
}

impl Pace {
    pub(super) fn new(options: &IngestOptions, rows_at_first: usize) -> Self {
        let rows_max = options.commit_rows.max(1);
        let rows = if options.commit_every.is_some() { rows_at_first.min(rows_max) } else { rows_max };
        Self { rows: AtomicUsize::new(rows), rows_max, every: options.commit_every }
    }

    /// Rows of the next commit.
    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Learns that encoding and writing `rows` took `time`: so many fit into the time of a commit, and at most twice as
    /// many as before are tried.
    pub(super) fn learn(&self, rows: usize, time: Duration) {
        let Some(every) = self.every else { return };
        let fitting = rows as f64 * every.as_secs_f64() / time.as_secs_f64().max(1e-6);
        let rows = (fitting as usize).clamp(1, self.rows().saturating_mul(2)).min(self.rows_max);
        self.rows.store(rows, Ordering::Relaxed);
    }
}

/// The stage that gathers.
pub(super) struct Gatherer<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) pace: &'a Pace,
    pub(super) clock: &'a dyn Clock,
    /// The user's wish, and the end of the stages behind.
    pub(super) stops: [&'a Cancel; 2],
    pub(super) rows_read: &'a AtomicU64,
    /// Whether encoders wait for rows to be fitted to.
    pub(super) needs_fit: bool,
}

impl Gatherer<'_> {
    /// Hands on the documents of one commit after the other.
    pub(super) fn run(mut self, messages: &Receiver<ReadMessage>, output: &Sender<Gathered>) {
        loop {
            let (chunks, ending) = self.gather(messages);
            let has_text = |chunk: &Chunk| chunk.documents.iter().any(|document| document.text.is_some());
            self.needs_fit &= !chunks.iter().any(has_text);
            let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
            if !chunks.is_empty() && !output.send(Gathered::Chunks(chunks), bytes) {
                return;
            }
            if let Some(ending) = ending {
                output.send(Gathered::End(ending), 0);
                return;
            }
        }
    }

    /// Gathers the documents of the next commit; of several while encoders wait for rows to be fitted to. A chunk that a
    /// refused document cut off is dropped.
    fn gather(&self, messages: &Receiver<ReadMessage>) -> (Vec<Chunk>, Option<Ending>) {
        let begun = self.clock.elapsed();
        let rows_target = if self.needs_fit { HASHED_FIT_DOCUMENTS_MAX } else { 1 };
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut chunk = Chunk::default();
        let (mut rows, mut bytes) = (0, 0);
        let ending = loop {
            if self.stops.iter().any(|stop| stop.is_cancelled()) {
                return (Vec::new(), Some(Ending::Cancelled));
            }
            let left =
                self.options.commit_every.map(|every| every.saturating_sub(self.clock.elapsed() - begun));
            if left == Some(Duration::ZERO) && rows > 0 {
                break None;
            }
            let wait = left.filter(|left| !left.is_zero()).map_or(CANCEL_POLL, |left| left.min(CANCEL_POLL));
            match messages.receive(wait) {
                Received::Late => continue,
                Received::Closed => break Some(Ending::Lost("its reader ended early")),
                Received::Item(Err(error)) => {
                    chunk = Chunk::default();
                    break Some(Ending::Refused(error));
                }
                Received::Item(Ok(None)) => break Some(Ending::End),
                Received::Item(Ok(Some(read))) => {
                    rows += 1;
                    bytes += read.bytes;
                    let rows_read = self.rows_read.fetch_add(1, Ordering::Relaxed) + 1;
                    chunk.push(read, rows_read);
                }
            }
            if chunk.documents.len() >= self.pace.rows() || chunk.bytes >= COMMIT_BYTES_MAX {
                chunks.push(std::mem::take(&mut chunk));
                if rows >= rows_target || bytes >= COMMIT_BYTES_MAX {
                    break None;
                }
            }
        };
        if !chunk.documents.is_empty() {
            chunks.push(chunk);
        }
        (chunks, ending)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_count_for_the_memory_of_a_document() {
        let Value::Object(metadata) = json!({"a": "x".repeat(1000), "b": [1, {"c": "y".repeat(500)}]}) else {
            unreachable!()
        };
        let place = Place { input: "rows".to_owned(), unit: "line", number: 1 };
        let text = Some("t".repeat(100));
        let document = Document { key: None, text, vector: Some(vec![0.0; 10]), metadata, place };
        let bytes = document_bytes(&document);
        assert!((1640..2200).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_pace_follows_the_time_that_rows_take_and_never_leaves_its_bounds() {
        let every = Some(Duration::from_secs(2));
        let options = IngestOptions { commit_rows: 1000, commit_every: every, ..IngestOptions::default() };
        let pace = Pace::new(&options, 256);
        assert_eq!(pace.rows(), 256);
        pace.learn(256, Duration::from_secs(8));
        assert_eq!(pace.rows(), 64, "a quarter takes a quarter of the time");
        pace.learn(64, Duration::from_millis(10));
        assert_eq!(pace.rows(), 128, "at most twice as many");
        (0..9).for_each(|_| pace.learn(pace.rows(), Duration::ZERO));
        assert_eq!(pace.rows(), 1000);
        pace.learn(1, Duration::from_secs(3600));
        assert_eq!(pace.rows(), 1);
        let by_rows = Pace::new(&IngestOptions::default(), 1);
        by_rows.learn(1, Duration::from_secs(3600));
        assert_eq!(by_rows.rows(), IngestOptions::default().commit_rows);
    }
}
