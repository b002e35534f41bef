//! `delete`: rows by key or predicate.

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::delete_report;
use crate::engine::DeleteSelection;

/// Delete rows, by key or by a condition on their fields
///
/// One commit: afterwards no answer names the rows, and none of them counts. An unknown key is an error, and nothing
/// is deleted then.
#[derive(Args, Debug)]
#[command(
    override_usage = "ascribe delete [OPTIONS] <STORE> <--key <KEY>...|--where <EXPR>>",
    after_help = "\
Example:
  ascribe create pets --encoder hashed --field year:integer
  echo '{\"text\": \"a cat\", \"year\": 1999}' | ascribe ingest pets -
  ascribe delete pets --where 'year < 2000'"
)]
pub(super) struct DeleteArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Rows {
    /// Key of a row; may be given several times
    #[arg(long = "key", value_name = "KEY", allow_hyphen_values = true)]
    keys: Vec<String>,
    /// Rows for which this SQL condition over declared fields is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
}

impl DeleteArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let mut store = self.store.open()?;
        let selection = match self.rows.filter {
            Some(filter) => DeleteSelection::Where(filter),
            None => DeleteSelection::Keys(self.rows.keys),
        };
        let report = store.delete(&selection)?;
        let rows = store.snapshot().row_count();
        session.report(self.output.format, &delete_report(&report, rows))
    }
}
