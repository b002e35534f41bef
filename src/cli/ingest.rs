//! `ingest`: documents in, resumable.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, value_parser};
use serde_json::json;

use super::duration::parse_duration;
use super::failure::Failure;
use super::inputs::expanded;
use super::schema::parse_device;
use super::session::{Session, note, note_table};
use super::store::{IndexArguments, OutputArguments, StoreArguments, finish_background};
use crate::answers::{OutputFormat, count_shown, ingest_report, stages_report};
use crate::base::limits::{BATCH_TEXTS_MAX, COMMIT_ROWS_DEFAULT, PIPE_COMMIT_EVERY_MS, SEGMENT_ROWS_MAX};
use crate::encoder::Device;
use crate::engine::{IngestCommit, IngestOptions, IngestReport, OnDuplicate, Store, Watch};
use crate::sources::{FieldNames, InputFormat, Resumed, from_reader, open_path};

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Add rows from JSONL, CSV, plain text, Parquet or Arrow
///
/// Rows become visible batch by batch. A bad row ends the work with its file, line and field; the batches before it
/// stay. Running the same command again goes on behind them, and takes in what was appended to a file since.
///
/// From standard input ("-", JSONL) each commit is acknowledged on standard output: {"committed": N, "last_key": K}.
/// After an interruption send the rows behind that key again, with --on-duplicate skip: rows that are there already are
/// not encoded again. The term weights of a "hashed" column come from the rows of the first commit.
///
/// Reading, encoding and writing overlap; at the end a table on standard error shows what each stage did and what it
/// waited for. The stage without waiting is the one that holds up the others.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"id\": \"a\", \"text\": \"a cat on a mat\"}' > pets.jsonl
  ascribe ingest pets pets.jsonl --key id")]
pub(super) struct IngestArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    index: IndexArguments,
    /// Files to read (.jsonl, .csv, .tsv, .txt, also with .gz or .zst behind; .parquet, .arrow, .feather), folders of
    /// them, datasets saved with save_to_disk, patterns such as 'data/*.jsonl', or "-" for JSONL on standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Field that holds the key [default: a hash of the row's content]
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// Field that holds the text [default: text, where a row has it]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field that holds a ready vector, a list of numbers
    #[arg(long, value_name = "FIELD")]
    vector: Option<String>,
    /// Column that takes the ready vectors [default: the only one that can]
    #[arg(long, value_name = "NAME", requires = "vector")]
    column: Option<String>,
    /// Rows of one commit
    #[arg(long, value_name = "N", default_value_t = COMMIT_ROWS_DEFAULT as u32,
          value_parser = value_parser!(u32).range(1..=i64::from(SEGMENT_ROWS_MAX)))]
    commit_rows: u32,
    /// Commit at least this often, such as 2s or 500ms [default: 2s for standard input, otherwise by rows alone]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    commit_every: Option<Duration>,
    /// Where a model encodes the texts: cpu, cuda:N, or several at once
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_value = "cpu", value_parser = parse_device)]
    device: Vec<Device>,
    /// Texts that are encoded together, at most [default: by their length]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(BATCH_TEXTS_MAX)))]
    batch_size: Option<u32>,
    /// What to do with a key that is there already
    #[arg(long, value_name = "WHAT", default_value = "error", value_parser = duplicates())]
    on_duplicate: OnDuplicate,
    /// Make the whole input one commit: all rows or none
    #[arg(long, conflicts_with = "commit_every")]
    atomic: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// `error`, `skip` or `replace`.
pub(super) fn duplicates() -> impl TypedValueParser<Value = OnDuplicate> {
    PossibleValuesParser::new(["error", "skip", "replace"]).map(|name| match name.as_str() {
        "skip" => OnDuplicate::Skip,
        "replace" => OnDuplicate::Replace,
        _ => OnDuplicate::Error,
    })
}

impl IngestArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let from_stdin = self.files.iter().any(|file| file.as_os_str() == STANDARD_INPUT);
        let files = if from_stdin { self.files.clone() } else { expanded(&self.files)? };
        if files.len() > 1 && (from_stdin || self.atomic) {
            let what = if from_stdin { "standard input (-)" } else { "--atomic" };
            return Err(Failure::Usage(format!(
                "{what} takes one input alone: run \"ascribe ingest\" once for each"
            )));
        }
        let fields =
            FieldNames { key: self.key.clone(), text: self.text.clone(), vector: self.vector.clone() };
        fields.check().map_err(|error| Failure::Usage(error.to_string()))?;
        let mut store = self.store.open_to_fill(&self.device, &self.index)?;
        let start = Instant::now();
        let mut total = IngestReport::default();
        for file in &files {
            let report = if from_stdin {
                self.ingest_stdin(&mut store, &fields, session)?
            } else {
                self.ingest_file(&mut store, file, &fields, session)?
            };
            add(&mut total, &report);
            if total.cancelled {
                break;
            }
        }
        let rows = store.snapshot().row_count();
        if total.cancelled {
            return Err(Failure::Interrupted(format!(
                "{} rows of this run are committed, the store has {}; run the command again to go on",
                count_shown(total.rows_added),
                count_shown(rows)
            )));
        }
        finish_background(&store, session);
        if from_stdin {
            note(&format!(
                "{} rows read, {} added, {} replaced, {} skipped; the store has {}",
                count_shown(total.rows_read),
                count_shown(total.rows_added),
                count_shown(total.rows_replaced),
                count_shown(total.rows_skipped),
                count_shown(rows)
            ));
            note_table(&stages_report(&total.stages));
            return Ok(());
        }
        if self.output.format == OutputFormat::Table {
            note_table(&stages_report(&std::mem::take(&mut total.stages)));
        }
        session.report(self.output.format, &ingest_report(&total, rows, start.elapsed()))
    }

    fn options(&self, resume_path: Option<String>, is_pipe: bool) -> IngestOptions {
        let of_pipe = is_pipe.then_some(Duration::from_millis(PIPE_COMMIT_EVERY_MS));
        IngestOptions {
            on_duplicate: self.on_duplicate,
            commit_rows: self.commit_rows as usize,
            commit_every: self.commit_every.or(of_pipe.filter(|_| !self.atomic)),
            atomic: self.atomic,
            column: self.column.clone(),
            batch_texts: self.batch_size.and_then(|texts| NonZeroUsize::new(texts as usize)),
            resume_path,
        }
    }

    fn ingest_file(
        &self,
        store: &mut Store,
        file: &Path,
        fields: &FieldNames,
        session: &Session<'_>,
    ) -> Result<IngestReport, Failure> {
        let resume_path = resume_path(file);
        let position = resume_path.as_deref().and_then(|path| store.source_position(path));
        let opened = open_path(file, None, fields, position.as_ref())?;
        match opened.resumed {
            Resumed::Fresh => {}
            Resumed::Continued { records } => {
                note(&format!(
                    "{}: going on behind the {} rows that were read before",
                    file.display(),
                    count_shown(records)
                ));
            }
            Resumed::Changed => note(&format!(
                "{}: its beginning is not what was read before; reading all of it",
                file.display()
            )),
        }
        let options = self.options(resume_path, false);
        Ok(store.ingest(opened.source, &options, session.watch(), &mut |_| {})?)
    }

    fn ingest_stdin(
        &self,
        store: &mut Store,
        fields: &FieldNames,
        session: &mut Session<'_>,
    ) -> Result<IngestReport, Failure> {
        let source = from_reader(io::stdin(), "stdin", InputFormat::JsonLines, fields)?;
        let Session { out, progress, cancel, .. } = session;
        let watch = Watch { progress: progress.as_ref(), cancel };
        // Rows go on being committed when nobody reads the acknowledgements any more.
        let mut written = Ok(());
        let mut acknowledge = |commit: &IngestCommit| {
            if written.is_ok() {
                let line = json!({"committed": commit.committed, "last_key": commit.last_key});
                written = writeln!(out, "{line}").and_then(|()| out.flush());
            }
        };
        let report = store.ingest(source, &self.options(None, true), watch, &mut acknowledge)?;
        written.map_err(Failure::Output)?;
        Ok(report)
    }
}

/// Under which name the store remembers how far a file was read; none for what cannot be read again.
fn resume_path(file: &Path) -> Option<String> {
    let absolute = fs::canonicalize(file).ok()?;
    absolute.is_file().then(|| absolute.to_str().map(str::to_owned))?
}

fn add(total: &mut IngestReport, report: &IngestReport) {
    total.rows_read += report.rows_read;
    total.rows_added += report.rows_added;
    total.rows_skipped += report.rows_skipped;
    total.rows_replaced += report.rows_replaced;
    total.commits += report.commits;
    total.commit = report.commit.or(total.commit);
    total.cancelled |= report.cancelled;
    for stage in &report.stages {
        match total.stages.iter_mut().find(|known| known.name == stage.name) {
            Some(known) => known.add(stage),
            None => total.stages.push(stage.clone()),
        }
    }
}
