//! `stats`: what a store holds.

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::statistics_report;

/// Show what a store holds: rows, fields, columns, sizes
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  ascribe stats pets --format json")]
pub(super) struct StatsArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl StatsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let reader = self.store.read()?;
        session.report(self.output.format, &statistics_report(&reader.snapshot().statistics()))
    }
}
