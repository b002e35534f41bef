//! Floor 3: compressed gradients of rows. What a column of them holds (its schema), how a row's values stand in it, and the
//! files that a collector writes.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `encode.rs` | a row's values as stored, with the scales of its parts |
//! | `file.rs` | sketch files: checked against a schema, read row by row |
//! | `foreign.rs` | gradients and factors of other tools as those of a schema |
//! | `layout.rs` | where members, modules and sides stand in a row |
//! | `rows.rs` | rows of a column in memory |
//! | `schema.rs` | what the modules of a model are and how their gradients were taken |
//! | `source.rs` | where the gradients of rows come from |

mod encode;
mod file;
mod foreign;
mod layout;
mod rows;
mod schema;
mod source;

pub use encode::{SketchEncodeError, encode_sketch_rows};
pub use file::{SKETCH_FILE_VERSION, SketchFile};
pub use foreign::{ForeignSketches, check_factors};
pub use layout::SketchLayout;
pub use rows::{Outcome, SketchRows, StoredSketches};
pub use schema::{Checkpoint, Projection, SchemaModule, SketchSchema, SketchSchemaError};
pub use source::{GradientSource, SketchFileError};
