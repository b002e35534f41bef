//! `eval`: how good the answers are.

use std::time::Instant;

use clap::{Args, Subcommand, value_parser};

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::recall_report;
use crate::base::limits::{ANSWER_ROWS_MAX, RECALL_QUERIES_MAX};
use crate::evaluation::{RecallOptions, measure_recall};

/// Measure how good the answers are
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\"}' | ascribe ingest pets -
  ascribe eval recall pets")]
pub(super) struct EvalArguments {
    #[command(subcommand)]
    what: Evaluation,
}

/// What is measured.
#[derive(Debug, Subcommand)]
enum Evaluation {
    Recall(RecallArguments),
    #[cfg(feature = "bert")]
    Lds(super::eval_lds::LdsArguments),
    Labels(super::eval_labels::EvalLabelsArguments),
}

/// Measure which part of the exact answers is found, on rows of the store as questions
///
/// Rows are drawn evenly from the column and asked about by their stored vectors, once as "ascribe query" answers and once
/// with --exact; proponents and opponents apart. Recall is the part of the exact rows that was found, 1 where a scan
/// answers; low and high are the ends of its 95% interval over the questions.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\"}' | ascribe ingest pets -
  ascribe eval recall pets -k 5 --queries 100")]
struct RecallArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Rows at each end
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..=ANSWER_ROWS_MAX as i64))]
    k: u32,
    /// Questions, each another row
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..=RECALL_QUERIES_MAX as i64))]
    queries: u32,
    /// Column to ask [default: the first]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Find only rows for which this SQL condition over declared fields is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Which rows are asked about: another number, other rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArguments,
}

impl EvalArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self.what {
            Evaluation::Recall(arguments) => arguments.run(session),
            #[cfg(feature = "bert")]
            Evaluation::Lds(arguments) => arguments.run(session),
            Evaluation::Labels(arguments) => arguments.run(session),
        }
    }
}

impl RecallArguments {
    fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let reader = self.store.read()?;
        let options = RecallOptions {
            k: self.k as usize,
            queries: self.queries as usize,
            column: self.column,
            filter: self.filter,
            seed: self.seed,
        };
        let report = measure_recall(&reader.snapshot(), &options, session.watch())?;
        session.report(self.output.format, &recall_report(&report, begun.elapsed()))
    }
}
