//! What every verb gets: output, page, progress, cancellation.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use super::progress::ProgressBars;
use crate::answers::{OutputFormat, Page, Report, escaped, write_report};
use crate::base::{Cancel, NoProgress, Progress};
use crate::engine::Watch;

/// What every verb gets.
pub(super) struct Session<'a> {
    /// Standard output.
    pub(super) out: &'a mut dyn Write,
    /// The page that tables are written on.
    pub(super) page: Page,
    /// Where long work reports to.
    pub(super) progress: Box<dyn Progress>,
    /// Whether the user asked to stop.
    pub(super) cancel: Cancel,
}

impl<'a> Session<'a> {
    /// A session on the process's standard output and error, decorated where they are terminals and `NO_COLOR` is
    /// not set.
    pub(super) fn new(out: &'a mut dyn Write, cancel: Cancel) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let progress: Box<dyn Progress> =
            if io::stderr().is_terminal() { Box::<ProgressBars>::default() } else { Box::new(NoProgress) };
        Self { out, page: Page::of_stdout(io::stdout().is_terminal() && !plain), progress, cancel }
    }

    /// Who watches long work of this session.
    pub(super) fn watch(&self) -> Watch<'_> {
        Watch { progress: self.progress.as_ref(), cancel: &self.cancel }
    }

    /// Writes a line of text to standard output.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(Failure::Output)
    }

    /// Writes a report to standard output.
    pub(super) fn report(&mut self, format: OutputFormat, report: &Report) -> Result<(), Failure> {
        write_report(self.out, format, self.page, report).map_err(Failure::Output)
    }
}

/// Writes a report as a table to standard error, below the messages there.
pub(super) fn note_table(report: &Report) {
    // As with messages.
    let _ = write_report(&mut io::stderr(), OutputFormat::Table, Page::default(), report);
}

/// Writes a message to standard error.
pub(super) fn note(text: &str) {
    // A message that nobody can read is no reason to stop.
    let _ = writeln!(io::stderr(), "{}", escaped(text));
}
