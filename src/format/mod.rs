//! Floor 2: bytes to structs and back. No paths, no input or output. The twin of `storage-format/`.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `catalog.rs` | catalog records and their framing |
//! | `column.rs` | what a column file says of itself; section tags of column and encoder files |
//! | `container.rs` | the container of every sealed file: header, sections, block checksums, footer |
//! | `graph.rs` | what a graph file says of itself, and the tags of its sections |
//! | `index.rs` | what an index file says of itself, and the tags of its sections |
//! | `kinds.rs` | what a sealed file holds, and what the values of a column file are |
//! | `manifest.rs` | the manifest and the CURRENT file |
//! | `metadata.rs` | typed metadata of a segment as Arrow IPC |
//! | `rows.rs` | sections of a row file: keys, texts, undeclared fields, key index |
//! | `sketch.rs` | the module table of a sketch column |
//! | `sums.rs` | what a sums file says of itself, and the tags of its sections |

mod catalog;
mod column;
mod container;
mod graph;
mod index;
mod kinds;
mod manifest;
mod metadata;
mod rows;
mod sketch;
mod sums;

pub use catalog::{
    ColumnKind, ColumnRecord, CommitRecord, CurvatureRecord, DeletedRecord, EncoderRecord, FileRecord,
    HeadRecord, RECORD_FRAME_SIZE_BYTES, RecordError, SegmentColumnRecord, SegmentRecord, SourceRecord,
    StoreRecord, open_record, seal_record,
};
pub use column::{ColumnHeader, ColumnHeaderError, column_section, curvature_section, encoder_section};
pub use container::{
    ContainerError, FOOTER_SIZE_BYTES, FORMAT_VERSION, Footer, HEADER_MAGIC, HEADER_SIZE_BYTES, Header,
    MIN_READER_VERSION, SECTION_ENTRY_SIZE_BYTES, Section, TRAILER_MAGIC, block_count, block_range,
};
pub use graph::{
    GRAPH_HEAD_SIZE_BYTES, GRAPH_NO_ROW, GraphHead, GraphHeadError, GraphMaker, GraphRecall, graph_header,
    graph_section,
};
pub use index::{
    INDEX_COARSE_BLOCK, INDEX_CODE_BLOCK, INDEX_ORIGIN_SIZE_BYTES, IndexHeader, IndexHeaderError,
    decode_origin, encode_origin, index_section,
};
pub use kinds::{Encoding, FileKind};
pub use manifest::{
    CURRENT_SIZE_BYTES, MANIFEST_HEADER_SIZE_BYTES, MANIFEST_MAGIC, Manifest, ManifestError, decode_current,
    decode_manifest, encode_current, encode_manifest, manifest_name, manifest_sequence, segment_deletes,
};
pub use metadata::{
    MetadataBatch, MetadataError, decode_metadata, encode_metadata, extend_metadata, gather_metadata,
    metadata_batch, metadata_value,
};
pub use rows::{ExtraError, ExtraFields, KeyIndexBuilder, decode_extra, encode_extra, row_section};
pub use sketch::{
    MODULE_ENTRY_SIZE_BYTES, MODULE_NAME_BYTES_MAX, ModuleEncoding, NOT_MEASURED, SPARSE_PADDING,
    SketchModule, SketchModulesError, SketchPart, SketchSide, decode_modules, encode_modules, sketch_parts,
    sketch_terms, sketch_width,
};
pub use sums::{SUMS_HEAD_SIZE_BYTES, SumsHeader, SumsKind, sums_section};
