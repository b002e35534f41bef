//! The verbs.

use clap::{Parser, Subcommand};

use super::alter::AlterArguments;
use super::audit::AuditArguments;
use super::catalog_check::CHECK_CATALOG_VERB;
use super::compact::CompactArguments;
use super::completions::CompletionsArguments;
use super::convert::ConvertArguments;
use super::create::CreateArguments;
use super::delete::DeleteArguments;
use super::demo::DemoArguments;
use super::eval::EvalArguments;
use super::fit::FitArguments;
use super::import::ImportArguments;
use super::ingest::IngestArguments;
#[cfg(feature = "bert")]
use super::measure_truth::MeasureTruthArguments;
use super::query::QueryArguments;
use super::repair::RepairArguments;
use super::score::ScoreArguments;
use super::self_influence::SelfArguments;
use super::stats::StatsArguments;
#[cfg(feature = "bert")]
use super::train_head::TrainHeadArguments;
use super::verify::VerifyArguments;

/// Embedded database that tells which training data made a model do what it did
///
/// A store is a folder. "ascribe create" makes it, "ascribe ingest" fills it, "ascribe query" asks it; "ascribe demo"
/// shows all of that on real data.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 ran and found what it looks for, 130 interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "ascribe",
    version,
    arg_required_else_help = true,
    after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\"}' | ascribe ingest pets -
  ascribe query pets 'cats and mats'"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// The verbs.
// One value in the life of the process: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Create(CreateArguments),
    Ingest(IngestArguments),
    Import(ImportArguments),
    Convert(ConvertArguments),
    Query(QueryArguments),
    #[cfg(feature = "bert")]
    TrainHead(TrainHeadArguments),
    Fit(FitArguments),
    Score(ScoreArguments),
    #[command(name = "self")]
    SelfInfluence(SelfArguments),
    #[cfg(feature = "bert")]
    MeasureTruth(MeasureTruthArguments),
    Delete(DeleteArguments),
    Alter(AlterArguments),
    Compact(CompactArguments),
    Stats(StatsArguments),
    Eval(EvalArguments),
    Audit(AuditArguments),
    Verify(VerifyArguments),
    Repair(RepairArguments),
    Demo(DemoArguments),
    Completions(CompletionsArguments),
    /// Print the manual page
    #[command(after_help = "\
Example:
  ascribe man > ascribe.1")]
    Man,
    /// Check the catalog bytes on standard input and write their manifest to standard output
    #[command(name = CHECK_CATALOG_VERB, hide = true)]
    CheckCatalog,
}
