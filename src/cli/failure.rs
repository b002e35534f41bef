//! Errors as text and exit codes.

use std::error::Error;
use std::io;

use crate::answers::escaped;

/// Exit code of an operation that failed.
pub(super) const EXIT_FAILED: u8 = 1;
/// Exit code of wrong usage.
pub(super) const EXIT_USAGE: u8 = 2;
/// Exit code of an operation that found what it looks for.
pub(super) const EXIT_FOUND: u8 = 3;
/// Exit code of an interrupted operation: 128 and the number of SIGINT.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// Why a verb did not end with exit code 0.
///
/// Every error becomes [`Failed`](Self::Failed) with `?`; output errors are wrapped by name, because a reader that
/// went away is no failure.
#[derive(Debug)]
pub(super) enum Failure {
    /// The operation failed.
    Failed(String),
    /// The arguments contradict each other.
    Usage(String),
    /// The operation ran and found what it looks for; everything is said already.
    Found,
    /// The operation was interrupted; what was kept.
    Interrupted(String),
    /// Standard output cannot be written to.
    Output(io::Error),
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(chain_text(&error))
    }
}

/// The text of an error, with those of its causes that it does not say itself.
fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl Failure {
    /// Exit code, and the line to print; `interrupted` says that the user asked to stop meanwhile.
    pub(super) fn into_exit(self, interrupted: bool) -> (u8, Option<String>) {
        let line = |text: &str| Some(format!("error: {}", escaped(text)));
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => (0, None),
            Self::Found => (EXIT_FOUND, None),
            Self::Interrupted(text) => (EXIT_INTERRUPTED, Some(format!("interrupted: {}", escaped(&text)))),
            Self::Usage(text) => (EXIT_USAGE, line(&text)),
            Self::Failed(text) if interrupted => {
                (EXIT_INTERRUPTED, Some(format!("interrupted: {}", escaped(&text))))
            }
            Self::Failed(text) => (EXIT_FAILED, line(&text)),
            Self::Output(error) => (EXIT_FAILED, line(&format!("cannot write standard output: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner\nline")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("outer because inner\nline")]
    struct Telling(#[source] Inner);

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        for (failure, text) in [
            (Failure::from(Outer(Inner)), "error: outer: inner\\nline"),
            (Failure::from(Telling(Inner)), "error: outer because inner\\nline"),
        ] {
            assert_eq!(failure.into_exit(false), (1, Some(text.to_owned())));
        }
    }

    #[test]
    fn each_ending_has_its_exit_code() {
        let code = |failure: Failure, interrupted| failure.into_exit(interrupted).0;
        assert_eq!(code(Failure::Failed("x".into()), false), 1);
        assert_eq!(code(Failure::Failed("x".into()), true), 130);
        assert_eq!(code(Failure::Usage("x".into()), false), 2);
        assert_eq!(code(Failure::Found, false), 3);
        assert_eq!(code(Failure::Interrupted("x".into()), true), 130);
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).into_exit(false), (0, None));
        assert_eq!(code(Failure::Output(io::ErrorKind::StorageFull.into()), false), 1);
    }
}
