//! What callers say when they create, open and fill a store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{COMMIT_ROWS_DEFAULT, GRAPH_ROWS_MIN, INDEX_ROWS_MIN, SUMS_ROWS_MIN};
use crate::base::{Cancel, Clock, ElementType, FieldDeclaration, NoProgress, Progress, SystemClock};
use crate::encoder::{Device, Encoder, EncoderSpecification};
use crate::format::GraphMaker;
use crate::kernels::Kernels;
use crate::sketch::SketchSchema;
use crate::storage::{CatalogCheck, CheckInProcess};

/// Name of the embedding column that a store gets unless told otherwise.
pub const EMBEDDING_COLUMN_NAME: &str = "embedding";

/// Name of the sketch column that a store gets unless told otherwise.
pub const SKETCH_COLUMN_NAME: &str = "sketch";

/// Where the values of a column come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ColumnEncoder {
    /// One of the built-in encoders, or the directory of a model, which is copied into the store.
    BuiltIn(EncoderSpecification),
    /// An encoder of the program. The column remembers its fingerprint; unless the encoder has a
    /// [state](Encoder::state) for the store to keep, opening the store later needs an encoder of the same fingerprint in
    /// [`OpenOptions::encoders`] before text can be ingested or asked about.
    Given(Arc<dyn Encoder>),
    /// Compressed gradients of this schema, which are imported.
    Sketch(Box<SketchSchema>),
}

/// A column to be.
#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    /// Name: ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// How a value is stored.
    pub element: ElementType,
    /// Where its values come from.
    pub encoder: ColumnEncoder,
}

impl ColumnDefinition {
    /// A column named `embedding`, f32, filled by a built-in encoder.
    pub fn embedding(specification: EncoderSpecification) -> Self {
        Self {
            name: EMBEDDING_COLUMN_NAME.to_owned(),
            element: ElementType::F32,
            encoder: ColumnEncoder::BuiltIn(specification),
        }
    }

    /// A column named `sketch` of f32 values.
    pub fn sketch(schema: SketchSchema) -> Self {
        Self {
            name: SKETCH_COLUMN_NAME.to_owned(),
            element: ElementType::F32,
            encoder: ColumnEncoder::Sketch(Box::new(schema)),
        }
    }
}

/// What a new store holds.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Metadata fields that filters may use.
    pub fields: Vec<FieldDeclaration>,
    /// Columns; at least one.
    pub columns: Vec<ColumnDefinition>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Threads of the store's one pool; `None`: as many as the machine has cores.
    pub threads: Option<NonZeroUsize>,
    /// How a catalog that was not closed cleanly is checked.
    pub catalog_check: Arc<dyn CatalogCheck>,
    /// Encoders of the program, by column name.
    pub encoders: Vec<(String, Arc<dyn Encoder>)>,
    /// Kernels that score rows; all give the same scores.
    pub kernels: Kernels,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where learned encoders compute: an ingest uses all of them at once, a question the first one named.
    /// Other encoders compute on the processor.
    pub devices: Vec<Device>,
    /// Rows from which a segment gets an index; smaller ones are scanned as fast without.
    pub index_rows_min: u32,
    /// Rows from which a segment's sums of gradients are kept for later fits, where they are smaller than the gradients; those of
    /// smaller ones are added up anew as fast.
    pub sums_rows_min: u32,
    /// Rows from which a segment gets a graph too; up to there a scan is fast enough and exact.
    pub graph_rows_min: u32,
    /// Who makes the graphs. `None`: the builder of this engine, and graphs that another made stay.
    pub graph: Option<GraphMaker>,
    /// Whether small segments are merged in the background; [`Store::compact`](super::Store::compact) does it at any time.
    pub compact: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            threads: None,
            catalog_check: Arc::new(CheckInProcess),
            encoders: Vec::new(),
            kernels: Kernels::best(),
            clock: Arc::new(SystemClock::new()),
            devices: vec![Device::Cpu],
            index_rows_min: INDEX_ROWS_MIN,
            sums_rows_min: SUMS_ROWS_MIN,
            graph_rows_min: GRAPH_ROWS_MIN,
            graph: None,
            compact: true,
        }
    }
}

/// Who watches long work and may stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Receives progress.
    pub progress: &'a dyn Progress,
    /// Asks to stop.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watch")
    }
}

impl<'a> Watch<'a> {
    /// Nobody watches; `cancel` may still stop the work.
    pub fn silent(cancel: &'a Cancel) -> Self {
        Self { progress: &NoProgress, cancel }
    }
}

/// What happens to a row whose key is in the store already, or came earlier in the same input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The batch is refused.
    #[default]
    Error,
    /// The new row is left out.
    Skip,
    /// The new row takes the old one's place, in one commit.
    Replace,
}

/// How rows are ingested.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// What happens to keys that are there already.
    pub on_duplicate: OnDuplicate,
    /// Rows of one commit.
    pub commit_rows: usize,
    /// Commit at least this often: fewer rows are then taken into a commit where they take long to encode.
    pub commit_every: Option<Duration>,
    /// The whole input is one commit.
    pub atomic: bool,
    /// The column that takes the documents' ready vectors; `None`: the only column that takes vectors.
    pub column: Option<String>,
    /// Texts that are encoded together, at most; `None`: as many as the engine finds good.
    pub batch_texts: Option<NonZeroUsize>,
    /// Where to remember how far this input was read: its absolute path. `None`: the input cannot be resumed.
    pub resume_path: Option<String>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            on_duplicate: OnDuplicate::Error,
            commit_rows: COMMIT_ROWS_DEFAULT,
            commit_every: None,
            atomic: false,
            column: None,
            batch_texts: None,
            resume_path: None,
        }
    }
}
