//! Ctrl-C.

use std::io::{self, IsTerminal, Write};

use super::failure::EXIT_INTERRUPTED;
use crate::base::Cancel;

/// Makes the first Ctrl-C (or a request to terminate) ask the work to stop, and the second end the process at once.
/// An abrupt end is safe too: a commit is one transaction.
pub(super) fn stop_on_interrupt(cancel: &Cancel) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        cancel.cancel();
        let mut errors = io::stderr();
        if errors.is_terminal() {
            // Nobody is left to tell if the terminal is gone.
            let _ = writeln!(errors, "stopping after the current step; press Ctrl-C again to stop at once");
        }
    };
    // Without a handler Ctrl-C ends the process at once, which is safe.
    let _ = ctrlc::set_handler(handler);
}
