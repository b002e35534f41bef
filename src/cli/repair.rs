//! `repair`: a new catalog from the manifest.

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::statistics_report;
use crate::engine::Store;

/// Make a damaged catalog anew from the published manifest
///
/// Use it when "ascribe verify" or an error message says that catalog.redb is damaged. The state comes from the old
/// catalog if it can be read after all, otherwise from the newest manifest that can: nothing that was acknowledged
/// is lost unless that is damaged too. Damaged files stay beside the new ones; the report shows the commit taken.
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
