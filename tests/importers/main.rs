//! Folders of other attribution tools: their gradients, scores and factors come out right, and nothing else comes in.
//!
//! The folders in `tests/fixtures/importers` were written by the tools themselves (`tools/reference/importer_fixtures.py`).
//!
//! | file | what lives there |
//! | --- | --- |
//! | `command_line.rs` | `convert` and `import --from`, through to scores |
//! | `damage.rs` | cut-off, extended, changed and exchanged files |
//! | `folder.rs` | a folder in memory, and the numbers that must come out |
//! | `numbers.rs` | products of gradients, scores and factors against those of the tools |
//! | `refusals.rs` | what cannot be undone, does not fit or is a pickle |

// A test ends with a panic; clippy knows that only of functions that are tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "cli")]
mod command_line;
mod damage;
mod folder;
mod numbers;
mod refusals;
