//! A storage in memory that crashes like a disk, for tests of everything that must survive a crash, an error in the
//! middle or a full disk.
//!
//! What it models, from what POSIX promises and file systems do:
//! - A file's content and its name are made durable apart: the one by `sync` of the file, the other by `sync_folder`.
//! - Content that was not synced survives in any legal mixture: each 512-byte sector of the file as it was on the disk
//!   or as it was after one of the writes to it. A sector that shows a later write shows the earlier ones to the same
//!   sector too. The length may survive without the bytes, which then read as zeros.
//! - Name changes that were not synced survive independently, except that those of one name keep their order, and a
//!   rename happens at both names or at neither.
//! - A file is not its name: a removed file stays readable through open handles, a rename keeps the file.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `faults.rs` | counts of operations, and the errors and crashes that were ordered |
//! | `handles.rs` | open files and locks |
//! | `state.rs` | files and names: as they are, as they are on the disk, and what lies between |
//! | `storage.rs` | the storage, its controls for tests, and surgery on its bytes |
//! | `survival.rs` | what is left after a crash |
//! | `tests.rs` | the laws of the simulation |

mod faults;
mod handles;
mod state;
mod storage;
mod survival;
#[cfg(test)]
mod tests;

pub use faults::Failure;
pub use storage::SimulatedStorage;
