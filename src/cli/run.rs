//! From the typed line to the exit code.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};

use super::arguments::{Arguments, Verb};
use super::catalog_check::check_catalog;
use super::failure::{EXIT_USAGE, Failure};
use super::interrupt::stop_on_interrupt;
use super::manual;
use super::session::Session;
use crate::base::Cancel;

/// The whole command line as a value: verbs, arguments, help.
///
/// ```
/// let verbs: Vec<_> = ascribe::cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
/// assert!(verbs.contains(&"query".to_owned()));
/// ```
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the program on its arguments, the program's name first: writes answers to standard output, messages to
/// standard error, and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let verb = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.verb,
        Err(error) => {
            // Help that nobody reads any more is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let cancel = Cancel::new();
    stop_on_interrupt(&cancel);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut session = Session::new(&mut out, cancel.clone());
    let done = dispatch(verb, &mut session);
    // What was answered before a failure is shown before its message.
    let flushed = out.flush().map_err(Failure::Output);
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, line) = failure.into_exit(cancel.is_cancelled());
            if let Some(line) = line {
                // Nobody is left to tell if standard error is gone.
                let _ = writeln!(io::stderr(), "{line}");
            }
            ExitCode::from(code)
        }
    }
}

fn dispatch(verb: Verb, session: &mut Session<'_>) -> Result<(), Failure> {
    match verb {
        Verb::Create(arguments) => arguments.run(session),
        Verb::Alter(arguments) => arguments.run(session),
        Verb::Ingest(arguments) => arguments.run(session),
        Verb::Import(arguments) => arguments.run(session),
        Verb::Convert(arguments) => arguments.run(session),
        Verb::Query(arguments) => arguments.run(session),
        #[cfg(feature = "bert")]
        Verb::TrainHead(arguments) => arguments.run(session),
        Verb::Fit(arguments) => arguments.run(session),
        Verb::Score(arguments) => arguments.run(session),
        Verb::SelfInfluence(arguments) => arguments.run(session),
        #[cfg(feature = "bert")]
        Verb::MeasureTruth(arguments) => arguments.run(session),
        Verb::Delete(arguments) => arguments.run(session),
        Verb::Compact(arguments) => arguments.run(session),
        Verb::Stats(arguments) => arguments.run(session),
        Verb::Eval(arguments) => arguments.run(session),
        Verb::Audit(arguments) => arguments.run(session),
        Verb::Verify(arguments) => arguments.run(session),
        Verb::Repair(arguments) => arguments.run(session),
        Verb::Demo(arguments) => arguments.run(session),
        Verb::Completions(arguments) => arguments.run(command(), session),
        Verb::Man => manual::write_manual(command(), session.out),
        Verb::CheckCatalog => {
            // The reason goes to the parent; a panic's own message would only stand beside it.
            std::panic::set_hook(Box::new(|_| {}));
            check_catalog(io::stdin().lock(), session.out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example_and_says_what_it_does() {
        for verb in command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("\n  ascribe {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
