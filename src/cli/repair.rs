//! `repair`: a new catalog from the manifest.

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::statistics_report;
use crate::engine::Store;

/// Make a damaged catalog anew from the published manifest
///
/// Use it when "ascribe verify" or an error message says that catalog.redb is damaged. Nothing that was committed
/// is lost; the damaged file stays beside the new one.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  ascribe repair pets")]
pub(super) struct RepairArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl RepairArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.store.check()?;
        let store = Store::repair(self.store.storage(), self.store.open_options())?;
        session.report(self.output.format, &statistics_report(&store.snapshot().statistics()))
    }
}
