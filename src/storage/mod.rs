//! Floor 3: files, their durability, and the committed state of a store.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `catalog` | the writer's truth: redb on our storage |
//! | `column_file.rs` | column files: one embedding or sketch a row |
//! | `commit.rs` | the writer: commit, publish, recover |
//! | `disk.rs` | the storage on a real file system |
//! | `encoder_file.rs` | encoder files: the state of an encoder |
//! | `garbage.rs` | removes files that nobody names or pins |
//! | `map.rs` | the only memory map |
//! | `medium.rs` | what the engine asks of a storage, with the durability duties |
//! | `published.rs` | the readers' truth: manifest, CURRENT, pins |
//! | `row_file.rs` | row files: keys, texts, metadata, key index |
//! | `sealed.rs` | sealed files: written once, read by verified blocks |
//! | `simulated.rs` | a storage in memory that crashes like a disk |

mod catalog;
mod column_file;
mod commit;
mod disk;
mod encoder_file;
mod garbage;
mod map;
mod medium;
mod published;
mod row_file;
mod sealed;
mod simulated;

pub use catalog::{CATALOG_NAME, CatalogCheck, CatalogError, CheckInProcess, check_catalog_bytes};
pub use column_file::{ColumnFile, ColumnFileWriter, column_file_name};
pub use commit::{CommitError, OpenWriterError, Writer};
pub use encoder_file::{encoder_file_name, read_encoder_file, write_encoder_file};
pub use garbage::collect_garbage;
pub use medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
pub use published::{
    ENCODERS_FOLDER, PINS_FOLDER, Pin, PublishedError, SEGMENTS_FOLDER, pin_current, read_current,
};
pub use row_file::{RowFile, RowFileContent, row_file_name, write_row_file};
pub use sealed::{FileError, SealedFile, SealedWriter};
