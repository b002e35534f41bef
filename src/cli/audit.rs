//! `audit`: what to look at.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, value_parser};

use super::failure::Failure;
use super::matrix_file::MatrixFile;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::{Provenance, audit_report};
use crate::base::limits::ANSWER_ROWS_MAX;
use crate::monitor::{LabelAudit, LabelAuditOptions, audit_labels};

/// Find what to look at: rows whose label is probably wrong
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\", \"kind\": \"cat\"}' > pets.jsonl
  echo '{\"text\": \"a dog in the rain\", \"kind\": \"dog\"}' >> pets.jsonl
  ascribe ingest pets pets.jsonl
  ascribe audit labels pets --label kind")]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    what: Audited,
}

/// What is audited.
#[derive(Debug, Subcommand)]
enum Audited {
    Labels(LabelArguments),
}

/// Rank rows by how probably their label is wrong, the most suspicious first
///
/// Three signs are added, each as a normal score: how low the probability of the label was during training, how far a fit
/// to all other rows prefers another label, and how few of the 20 nearest rows by embedding have the label. Without the
/// gradients of a head ("ascribe train-head") the first is missing and the fit uses the embeddings alone; above 4,000
/// rows the fit is left out. The notes say so.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\", \"kind\": \"cat\"}' > pets.jsonl
  echo '{\"text\": \"a dog in the rain\", \"kind\": \"dog\"}' >> pets.jsonl
  ascribe ingest pets pets.jsonl
  ascribe audit labels pets --label kind -k 20")]
struct LabelArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Field with the labels
    #[arg(long, value_name = "FIELD")]
    label: String,
    /// Rows to show
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..=ANSWER_ROWS_MAX as i64))]
    k: u32,
    /// Write the scores of all rows with a label, in the order of ingest, as a float32 .npy with their keys beside it
    #[arg(long, value_name = "S.npy")]
    out: Option<PathBuf>,
    /// Sketch column [default: the only one, if there is one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

impl AuditArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self.what {
            Audited::Labels(arguments) => arguments.run(session),
        }
    }
}

impl LabelArguments {
    fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let snapshot = self.store.read()?.snapshot();
        let options = LabelAuditOptions { label: self.label, column: self.column };
        let audit = audit_labels(&snapshot, &options, session.watch())?;
        if let Some(path) = &self.out {
            let (scores, keys): (Vec<f64>, Vec<String>) =
                in_order(&audit).map(|row| (row.score, row.key.clone())).unzip();
            let mut file = MatrixFile::create(path, &[scores.len()])?;
            file.append(&scores)?;
            file.finish(&keys)?;
        }
        let mut rows = Vec::with_capacity(self.k as usize);
        for audited in audit.rows.iter().take(self.k as usize) {
            // The snapshot holds all rows of its own audit.
            rows.extend(snapshot.row(&audited.key)?);
        }
        let statistics = snapshot.statistics();
        let provenance = Provenance::new(&statistics, audit.columns.iter().cloned());
        session.report(self.output.format, &audit_report(&audit, &rows, &provenance, begun.elapsed()))
    }
}

/// The rows of an audit in the order of ingest.
pub(super) fn in_order(audit: &LabelAudit) -> impl Iterator<Item = &crate::monitor::AuditedRow> {
    let mut rows: Vec<_> = audit.rows.iter().collect();
    rows.sort_by_key(|row| row.place);
    rows.into_iter()
}
