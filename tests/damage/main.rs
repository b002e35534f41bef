//! Damage: any single flipped byte or truncation of any of our own files gives a typed error or an unchanged answer; no
//! panic, no allocation larger than the file. And bytes that someone wrote on purpose, with right checksums, may give
//! other answers, but never a panic or a wild allocation.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `allocations.rs` | an allocator that remembers the largest allocation |
//! | `answers.rs` | the questions, and whether a damaged store may answer so |
//! | `cases.rs` | runs cases behind a wall for panics and under a bound on memory |
//! | `catalog.rs` | damaged catalogs, opened for writing in child processes with a memory limit |
//! | `child.rs` | the child and grandchild processes |
//! | `exchange.rs` | files that are missing, swapped or of another commit |
//! | `flips.rs` | every byte and every length of the files that readers open |
//! | `hostile.rs` | manifests with right checksums and wrong content |
//! | `resealed.rs` | sealed files with right checksums and wrong content |
//! | `small_store.rs` | the store that is damaged |
//! | `writing.rs` | opening for writing with a damaged file beside a sound catalog |

// Failing is what a test is for; clippy sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod allocations;
mod answers;
mod cases;
// Limits on memory are set by `ulimit -v`, which other systems do not heed.
#[cfg(target_os = "linux")]
mod catalog;
#[cfg(target_os = "linux")]
mod child;
mod exchange;
mod flips;
mod hostile;
mod resealed;
mod small_store;
mod writing;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;
