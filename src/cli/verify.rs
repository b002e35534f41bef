//! `verify`: check every file.

use clap::Args;

use super::catalog_check::CheckInChild;
use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::verify_report;
use crate::engine;

/// Check every file of a store against its checksums
///
/// Exit code 0: all is well; 3: something is wrong, and the problems are listed; 1: the check could not run.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  ascribe verify pets --deep")]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Compare the contents of the files with each other too: keys, counts, fields, vectors
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    output: OutputArguments,
}

impl VerifyArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.store.check()?;
        let report = engine::verify(&self.store.storage(), self.deep, &CheckInChild, session.watch())?;
        session.report(self.output.format, &verify_report(&report))?;
        if report.problems.is_empty() { Ok(()) } else { Err(Failure::Found) }
    }
}
