//! Columnar files: the rows of Arrow and Parquet as documents.
//!
//! Their decoders were not written for hostile bytes. What their claims would make them allocate or recurse into is
//! checked before they see it; what they do not check themselves ends at a wall.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `arrow.rs` | Arrow IPC files and streams |
//! | `fence.rs` | a wall around the decoders |
//! | `file_bytes.rs` | bounded reads from a file, and how much of it was consumed |
//! | `messages.rs` | Arrow IPC messages, checked and decoded |
//! | `parquet.rs` | Parquet files, row group by row group |
//! | `rows.rs` | the rows of record batches as documents |
//! | `tests.rs` | suites over files: what is read, resuming, cut-off and changed bytes |
//! | `thrift.rs` | the structure of Parquet's metadata, checked before it is decoded |
//! | `times.rs` | dates, times and timestamps as text |
//! | `values.rs` | one cell as a metadata value or a vector |

mod arrow;
mod fence;
mod file_bytes;
mod messages;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(feature = "parquet")]
mod thrift;
mod times;
mod values;

pub(super) use arrow::open_arrow;
#[cfg(feature = "parquet")]
pub(super) use parquet::open_parquet;
pub(super) use rows::ColumnarRows;
