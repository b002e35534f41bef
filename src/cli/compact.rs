//! `compact`: few large segments instead of many small ones.

use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{IndexArguments, OutputArguments, StoreArguments, finish_indexes};
use crate::answers::compact_report;

/// Write many small segments anew as few large ones, and erase deleted rows
///
/// Queries answer faster over few segments, and the bytes of deleted rows are gone afterwards (once no reader of an older
/// state is left). The new files are compared with the old ones, by their answers, before they take their place; cut off at
/// any moment, the store is as it was. For a while it needs room for both. While rows are ingested the same is done little
/// by little.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat\"}' | ascribe ingest pets -
  echo '{\"text\": \"a dog\"}' | ascribe ingest pets -
  ascribe compact pets")]
pub(super) struct CompactArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    index: IndexArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl CompactArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let store = self.store.open_to_index(&self.index)?;
        let report = store.compact(session.watch())?;
        finish_indexes(&store, session);
        let statistics = store.snapshot().statistics();
        session.report(self.output.format, &compact_report(&report, &statistics, begun.elapsed()))
    }
}
