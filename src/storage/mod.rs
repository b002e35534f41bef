//! Floor 3: files, their durability, and the committed state of a store.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `checks.rs` | what every storage checks and refuses in the same words |
//! | `disk.rs` | the storage on a real file system |
//! | `laws.rs` | the tests that every storage passes |
//! | `map.rs` | the only memory map |
//! | `medium.rs` | what the engine asks of a storage, with the durability duties |
//! | `position.rs` | reading and writing a file at a position |
//! | `simulated/` | a storage in memory that crashes like a disk |

mod checks;
mod disk;
#[cfg(test)]
mod laws;
mod map;
mod medium;
mod position;
mod simulated;

pub use disk::{DiskOptions, DiskStorage};
pub use map::FileMap;
pub use medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
pub use simulated::{Failure, SimulatedStorage};
