//! Floor 3: files, their durability, and the committed state of a store.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `disk.rs` | the storage on a real file system |
//! | `map.rs` | the only memory map |
//! | `medium.rs` | what the engine asks of a storage, with the durability duties |
//! | `simulated.rs` | a storage in memory that crashes like a disk |

mod disk;
mod map;
mod medium;
mod simulated;

pub use medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
