//! Floor 2: readers of what users have.
//!
//! Documents come from JSONL, CSV, plain text, Arrow or Parquet through one trait, [`Source`]; [`open_path`] picks the
//! reader and goes on where an earlier run stopped. Ready vectors come from npy or safetensors bytes as a [`Matrix`].
//!
//! An input is untrusted: whatever its bytes are, a reader gives a document or a [`SourceError`] that says what is
//! wrong, in which line and field, and what to do about it; it holds no more than one record, or one batch of rows,
//! at a time.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `columnar/` | Arrow and Parquet: one document a row |
//! | `compressed.rs` | gzip and zstd around lines |
//! | `csv_records.rs` | CSV and TSV: one document a record |
//! | `csv_scan.rs` | where a CSV record ends, and what makes it ambiguous |
//! | `document.rs` | one document of an input, and where it stood |
//! | `error.rs` | everything that can be wrong with an input |
//! | `fields.rs` | which fields are key, text and vector, and their checks |
//! | `folder.rs` | the inputs in a folder, and saved datasets |
//! | `foreign/` | folders of other attribution tools |
//! | `json.rs` | strict JSON values: no name twice, bounded |
//! | `json_lines.rs` | JSONL: one object a line |
//! | `lines.rs` | bounded lines that count, hash and skip |
//! | `matrix.rs` | ready vectors as rows of a mapped matrix |
//! | `npy.rs` | a matrix from npy bytes |
//! | `open.rs` | the reader for a path or stream, from the start or from a position |
//! | `sample_file.rs` | a file for the tests of readers |
//! | `source.rs` | what every reader of documents does |
//! | `tensor_set.rs` | all tensors of safetensors bytes, row by row |
//! | `tensors.rs` | a matrix from safetensors bytes |
//! | `tests.rs` | suites over all readers: round trips, resuming, cut-off and changed bytes |
//! | `text_lines.rs` | plain text: one document a line |

mod columnar;
mod compressed;
mod csv_records;
mod csv_scan;
mod document;
mod error;
mod fields;
mod folder;
mod foreign;
mod json;
mod json_lines;
mod lines;
mod matrix;
mod npy;
mod open;
#[cfg(test)]
mod sample_file;
mod source;
mod tensor_set;
mod tensors;
#[cfg(test)]
mod tests;
mod text_lines;

pub use csv_records::CsvRecords;
pub use document::{Document, Place, Position};
pub use error::SourceError;
pub use fields::FieldNames;
pub use folder::{FolderListing, list_folder};
pub use foreign::{
    ForeignError, ForeignFactor, ForeignFactors, ForeignFiles, ForeignGradients, ForeignModule,
    ForeignOptions, ForeignOrigin, ForeignScores, ForeignTool,
};
pub use json_lines::JsonLines;
pub use matrix::Matrix;
pub use open::{InputFormat, Opened, Resumed, from_reader, open_path};
pub use source::Source;
pub use tensor_set::{Tensor, TensorElement, TensorSet};
pub use text_lines::TextLines;
