//! Floor 3: files, their durability, and the committed state of a store.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `aligned_writer.rs` | appends to a file in large aligned pieces |
//! | `catalog/` | the writer's truth: redb on our storage |
//! | `column_file.rs` | column files: one embedding or sketch a row |
//! | `commit.rs` | the writer: commit, publish, recover |
//! | `checked_blocks.rs` | which blocks of a file were checked |
//! | `checks.rs` | what every storage checks and refuses in the same words |
//! | `commit_error.rs` | what can keep a store from being opened for writing, and a commit from being made |
//! | `curvature_file.rs` | curvature files: what a fit computed from gradients |
//! | `disk.rs` | the storage on a real file system |
//! | `encoder_file.rs` | encoder files: the state of an encoder |
//! | `file_error.rs` | what reading and writing a sealed file can fail with |
//! | `free_space.rs` | how much room a file system has |
//! | `garbage.rs` | removes files that nobody names or pins |
//! | `graph_file.rs` | graph files: links between the rows of a column file |
//! | `index_file.rs` | index files: what was computed from a column file, and can be again |
//! | `laws.rs` | the tests that every storage passes |
//! | `map.rs` | the only memory map |
//! | `medium.rs` | what the engine asks of a storage, with the durability duties |
//! | `position.rs` | reading and writing a file at a position |
//! | `published.rs` | the readers' truth: manifest, CURRENT, pins |
//! | `row_file.rs` | row files: keys, texts, metadata, key index |
//! | `sealed.rs` | sealed files: written once, read by verified blocks |
//! | `section_rows.rs` | rows of a section that are read here and there |
//! | `segment_numbers.rs` | numbers for new segments, and which of those under way nobody may collect |
//! | `simulated/` | a storage in memory that crashes like a disk |
//! | `sums_file.rs` | sums files: what the gradients of a segment's rows add up to |

mod aligned_writer;
mod catalog;
mod checked_blocks;
mod checks;
mod column_file;
mod commit;
mod commit_error;
mod curvature_file;
mod disk;
mod encoder_file;
mod file_error;
mod free_space;
mod garbage;
mod graph_file;
mod index_file;
#[cfg(test)]
mod laws;
mod map;
mod medium;
mod position;
mod published;
mod row_file;
mod sealed;
mod section_rows;
mod segment_numbers;
mod simulated;
mod sums_file;

pub use catalog::{CATALOG_NAME, CatalogCheck, CatalogError, CheckInProcess, check_catalog_bytes};
pub use column_file::{ColumnFile, ColumnFileWriter, SketchRowsBeside, column_file_name};
pub use commit::{Writer, read_idle_catalog};
pub use commit_error::{CommitError, OpenWriterError};
pub use curvature_file::{curvature_file_name, open_curvature_file, write_curvature_file};
pub use disk::{DiskOptions, DiskStorage};
pub use encoder_file::{
    encoder_file_name, encoder_state_section, open_encoder_file, read_encoder_file, read_encoder_state,
    write_encoder_file, write_encoder_pieces,
};
pub use file_error::FileError;
pub use garbage::{Collected, collect_garbage};
pub use graph_file::{GraphContent, GraphFile, GraphLinks, graph_file_name, write_graph_file};
pub use index_file::{IndexFile, IndexFileWriter, IndexRows, index_file_name};
pub use map::FileMap;
pub use medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
pub use published::{
    CURVATURE_FOLDER, ENCODERS_FOLDER, PINS_FOLDER, Pin, PublishedError, SEGMENTS_FOLDER, pin_current,
    read_current,
};
pub use row_file::{RowFile, RowFileContent, RowFileSource, RowString, row_file_name, write_row_file};
pub use sealed::{SealedFile, SealedWriter};
pub use section_rows::SectionRows;
pub use segment_numbers::{HeldSegment, SegmentNumbers};
pub use simulated::{Failure, SimulatedStorage};
pub use sums_file::{SumsFile, sums_file_name, write_sums_file};
