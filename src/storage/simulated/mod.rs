//! A storage in memory that crashes like a disk, for tests of everything that must survive a crash, an error in the
//! middle or a full disk. [`SimulatedStorage`] says what it models.
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
