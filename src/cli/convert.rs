//! `convert`: folders of other tools as files of this one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::foreign_folder::{ForeignArguments, ForeignFolder, notes_value, read_keys};
use super::matrix_file::{MatrixFile, cannot_write, keys_text, temporary_beside};
use super::session::Session;
use super::store::OutputArguments;
use crate::answers::Report;
use crate::sketch::GradientSource;

/// Turn what another attribution tool wrote into files that ascribe reads
///
/// Reads index folders of bergson, save folders of TRAK, logs of LogIX and scores of kronfluence. By its name --out becomes
/// SCHEMA.json (for "ascribe create --sketch"), a sketch file G.safetensors (queries for "ascribe score", rows for "ascribe
/// import --sketches"), or scores S.npy of shape [queries, rows] with their keys beside them. Signs and scales are converted, and the
/// answer says how. Torch pickles are never loaded.
#[derive(Args, Debug)]
#[command(after_help = "\
Example (index: a folder of \"bergson build\"; its rows are those of rows.jsonl):
  ascribe convert --from bergson index --out schema.json
  ascribe create models --sketch schema.json
  ascribe import models --from bergson index --keys rows.jsonl
  ascribe convert --from bergson index --out queries.safetensors")]
pub(super) struct ConvertArguments {
    /// The tool (bergson, trak, logix, kronfluence) and the folder that it wrote
    #[arg(long, num_args = 2, value_names = ["TOOL", "DIR"], required = true)]
    from: Vec<OsString>,
    /// Where it goes: SCHEMA.json, G.safetensors or S.npy
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Keys of the rows, one {"key": ...} a line; written beside the file
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    foreign: ForeignArguments,
    /// Read files instead of mapping them into memory (for network file systems)
    #[arg(long)]
    no_mmap: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// What a file holds, by its extension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Schema,
    Sketches,
    Scores,
}

impl ConvertArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let kind = kind_of(&self.out)?;
        let folder = ForeignFolder::open(&self.from, self.no_mmap)?;
        let report = match kind {
            Kind::Scores => self.convert_scores(&folder)?,
            _ => self.convert_gradients(&folder, kind)?,
        };
        let report = report
            .with("out", self.out.display().to_string())
            .with("elapsed_ms", begun.elapsed().as_secs_f64() * 1e3);
        session.report(self.output.format, &report)
    }

    fn convert_gradients(&self, folder: &ForeignFolder, kind: Kind) -> Result<Report, Failure> {
        let sketches = folder.sketches(&self.foreign.options(), self.keys.as_deref())?;
        let schema = sketches.schema();
        if kind == Kind::Schema {
            write_whole(&self.out, schema.to_json().as_bytes())?;
        } else {
            let keys = match &self.keys {
                Some(path) => Some(read_keys(path)?),
                None => sketches.gradients().keys().map(<[String]>::to_vec),
            };
            if let Some(keys) = &keys {
                check_keys(folder, keys, sketches.rows())?;
                write_whole(&self.out.with_extension("keys.jsonl"), keys_text(keys).as_bytes())?;
            }
            let temporary = temporary_beside(&self.out);
            let cannot = |error: io::Error| cannot_write(&temporary, &error);
            let mut out = BufWriter::new(File::create(&temporary).map_err(cannot)?);
            sketches.write_file(&mut out).map_err(cannot)?;
            fs::rename(&temporary, &self.out).map_err(|error| cannot_write(&self.out, &error))?;
        }
        Ok(Report::new()
            .with("from", folder.tool.name())
            .with("rows", sketches.rows())
            .with("members", schema.members())
            .with("modules", schema.modules().len())
            .with("values", schema.layout().width())
            .with("origin", schema.origin())
            .with("notes", notes_value(sketches.gradients().notes())))
    }

    fn convert_scores(&self, folder: &ForeignFolder) -> Result<Report, Failure> {
        let scores = folder.tool.scores(&folder.files(), &self.foreign.options())?;
        let keys = read_keys(self.keys.as_ref().ok_or_else(|| folder.keys_required())?)?;
        check_keys(folder, &keys, scores.rows())?;
        let mut file = MatrixFile::create(&self.out, &[scores.queries(), scores.rows()])?;
        let mut values = Vec::new();
        for query in 0..scores.queries() {
            scores.read_query(query, &mut values)?;
            file.append(&values)?;
        }
        file.finish(&keys)?;
        Ok(Report::new()
            .with("from", folder.tool.name())
            .with("queries", scores.queries())
            .with("rows", scores.rows())
            .with("notes", notes_value(scores.notes())))
    }
}

fn kind_of(out: &Path) -> Result<Kind, Failure> {
    match out.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("json") => Ok(Kind::Schema),
        Some("safetensors") => Ok(Kind::Sketches),
        Some("npy") => Ok(Kind::Scores),
        _ => Err(Failure::Usage(format!(
            "--out {}: name it .json (the schema), .safetensors (a sketch file) or .npy (scores)",
            out.display()
        ))),
    }
}

fn check_keys(folder: &ForeignFolder, keys: &[String], rows: usize) -> Result<(), Failure> {
    if keys.len() == rows {
        return Ok(());
    }
    let text = format!("there are {} keys for {rows} rows of {}", keys.len(), folder.tool.name());
    Err(Failure::Failed(format!("{text}; give one key for each row, in the tool's order")))
}

/// Writes a file that takes its place when it is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = temporary_beside(path);
    fs::write(&temporary, bytes).map_err(|error| cannot_write(&temporary, &error))?;
    fs::rename(&temporary, path).map_err(|error| cannot_write(path, &error))
}
