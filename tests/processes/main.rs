//! A store in several real processes, on the real disk: killed writers, readers beside them, locks, pins, a read-only
//! place. The other processes are this program again, running one test that does nothing when run by itself.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `children.rs` | this program as another process: what it says, how it ends |
//! | `input.rs` | the rows, a store for them, and what every committed state of it must answer |
//! | `killed.rs` | an ingesting process killed fifty times, with a reader beside it |
//! | `locks.rs` | a second writer is refused while the first lives |
//! | `pins.rs` | held snapshots answer the same, and their files go when they do |
//! | `pipe.rs` | a long pipe into the program: flat memory, a kill, a reader beside it |
//! | `read_only.rs` | a reader that cannot write a pin |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test ends by a panic, and processes talk through their standard output"
)]

mod children;
mod input;
mod killed;
mod locks;
mod pins;
#[cfg(feature = "cli")]
mod pipe;
mod read_only;
