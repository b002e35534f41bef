//! `import`: rows whose vectors are ready.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::ingest::duplicates;
use super::session::Session;
use super::store::{IndexArguments, OutputArguments, StoreArguments, finish_background};
use super::vector_file::{VectorFile, matrix_of};
use crate::answers::import_report;
use crate::engine::{Import, OnDuplicate};
use crate::sketch::{GradientSource, SketchFile};
use crate::sources::{FieldNames, Source, TensorSet, open_path};

/// Add rows whose vectors or gradient sketches are already computed, as one commit
///
/// Row i of the vectors and sketches belongs to line i of the keys. Where the keys are in the store already and the
/// column is still empty for them, they fill it; a column for sketches is added if there is none. All rows are taken in,
/// or none.
#[derive(Args, Debug)]
#[command(after_help = "\
Example (keys.jsonl: one {\"key\": ...} a line; vectors.npy: float32 of shape [rows, 4]):
  ascribe create models --encoder vectors:4
  ascribe import models --keys keys.jsonl --embeddings vectors.npy
  ascribe query models --vector vectors.npy -k 1")]
pub(super) struct ImportArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    index: IndexArguments,
    /// Rows: JSONL with "key", other fields and, if there is one, "text"
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Vectors: .npy or .safetensors of shape [rows, DIM]
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Compressed gradients: a sketch file (.safetensors) as a collector writes it
    #[arg(long, value_name = "FILE")]
    sketches: Option<PathBuf>,
    /// More fields of the rows: JSONL, CSV, Parquet or Arrow, in the order of the keys
    #[arg(long, value_name = "FILE")]
    metadata: Option<PathBuf>,
    /// Column that takes the vectors, or the sketches if no vectors are given [default: the only one that can; for sketches
    /// the one of their schema, or a new one "sketch"]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// What to do with a key that is there already
    #[arg(long, value_name = "WHAT", default_value = "error", value_parser = duplicates())]
    on_duplicate: OnDuplicate,
    #[command(flatten)]
    output: OutputArguments,
}

impl ImportArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let mut store = self.store.open_to_fill(&[], &self.index)?;
        let start = Instant::now();
        let mut keys = open_path(&self.keys, None, &FieldNames::of_keys_file(), None)?;
        let mut metadata = match &self.metadata {
            Some(path) => Some(open_path(path, None, &FieldNames::default(), None)?),
            None => None,
        };
        let bytes = match &self.embeddings {
            Some(path) => Some((path, VectorFile::open(path, self.store.no_mmap)?)),
            None => None,
        };
        let embeddings = match &bytes {
            Some((path, bytes)) => Some(matrix_of(path, bytes)?),
            None => None,
        };
        let sketch_bytes = match &self.sketches {
            Some(path) => Some((path, VectorFile::open(path, self.store.no_mmap)?)),
            None => None,
        };
        let tensors = match &sketch_bytes {
            Some((path, bytes)) => Some(TensorSet::new(bytes, &path.display().to_string())?),
            None => None,
        };
        let sketches = tensors.as_ref().map(SketchFile::new).transpose()?;
        let import = Import {
            sketches: sketches.as_ref().map(|sketches| sketches as &dyn GradientSource),
            keys: keys.source.as_mut(),
            metadata: metadata.as_mut().map(|opened| opened.source.as_mut() as &mut dyn Source),
            embeddings,
            column: self.column,
            on_duplicate: self.on_duplicate,
        };
        let report = store.import(import, session.watch())?;
        finish_background(&store, session);
        let rows = store.snapshot().row_count();
        session.report(self.output.format, &import_report(&report, rows, start.elapsed()))
    }
}
