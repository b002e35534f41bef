//! The `ascribe` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ascribe::cli::run(std::env::args_os())
}
