//! `import`: rows whose vectors are ready.

use std::ffi::OsString;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::foreign_folder::{ForeignArguments, ForeignFolder, notes_value};
use super::ingest::duplicates;
use super::matrix_file::keys_text;
use super::session::Session;
use super::store::{IndexArguments, OutputArguments, StoreArguments, finish_background};
use super::vector_file::{VectorFile, matrix_of};
use crate::answers::import_report;
use crate::engine::{Import, OnDuplicate};
use crate::sketch::{ForeignSketches, GradientSource, SketchFile};
use crate::sources::{FieldNames, InputFormat, Source, TensorSet, from_reader, open_path};

/// Add rows whose vectors or gradient sketches are already computed, as one commit
///
/// Row i of the vectors and sketches belongs to line i of the keys. Where the keys are in the store already and the
/// column is still empty for them, they fill it; a column for sketches is added if there is none. All rows are taken in,
/// or none. Gradients may come from the folder of another tool (--from): of bergson, TRAK or LogIX; the answer says how signs and
/// scales were converted ("ascribe convert --help").
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
    /// Rows: JSONL with "key", other fields and, if there is one, "text"; may be left out for LogIX, which keeps data ids
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    keys: Option<PathBuf>,
    /// Vectors: .npy or .safetensors of shape [rows, DIM]
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Compressed gradients: a sketch file (.safetensors) as a collector writes it
    #[arg(long, value_name = "FILE")]
    sketches: Option<PathBuf>,
    /// Compressed gradients that another tool (bergson, trak, logix) wrote into a folder
    #[arg(long, num_args = 2, value_names = ["TOOL", "DIR"], conflicts_with = "sketches")]
    from: Option<Vec<OsString>>,
    #[command(flatten)]
    foreign: ForeignArguments,
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
        let folder = match &self.from {
            Some(from) => Some(ForeignFolder::open(from, self.store.no_mmap)?),
            None => None,
        };
        let foreign = match &folder {
            Some(folder) => Some(folder.sketches(&self.foreign.options(), self.keys.as_deref())?),
            None => None,
        };
        let mut keys = self.keys(folder.as_ref(), foreign.as_ref())?;
        let mut store = self.store.open_to_fill(&[], &self.index)?;
        let start = Instant::now();
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
        let collected = sketches.as_ref().map(|sketches| sketches as &dyn GradientSource);
        let import = Import {
            sketches: collected.or(foreign.as_ref().map(|foreign| foreign as &dyn GradientSource)),
            keys: keys.as_mut(),
            metadata: metadata.as_mut().map(|opened| opened.source.as_mut() as &mut dyn Source),
            embeddings,
            column: self.column,
            on_duplicate: self.on_duplicate,
        };
        let report = store.import(import, session.watch())?;
        finish_background(&store, session);
        let rows = store.snapshot().row_count();
        let mut report = import_report(&report, rows, start.elapsed());
        if let (Some(folder), Some(foreign)) = (&folder, &foreign) {
            let notes = notes_value(foreign.gradients().notes());
            report = report.with("from", folder.tool.name()).with("notes", notes);
        }
        session.report(self.output.format, &report)
    }

    /// The keys of the rows: those of the keys file, or those that the other tool keeps.
    fn keys(
        &self,
        folder: Option<&ForeignFolder>,
        foreign: Option<&ForeignSketches<'_>>,
    ) -> Result<Box<dyn Source>, Failure> {
        let fields = FieldNames::of_keys_file();
        if let Some(path) = &self.keys {
            return Ok(open_path(path, None, &fields, None)?.source);
        }
        match (folder, foreign.and_then(|foreign| foreign.gradients().keys())) {
            (Some(folder), None) => Err(folder.keys_required()),
            (_, keys) => {
                let text = keys_text(keys.unwrap_or_default());
                Ok(from_reader(Cursor::new(text), "data ids", InputFormat::JsonLines, &fields)?)
            }
        }
    }
}
