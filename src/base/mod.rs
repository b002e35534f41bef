//! Floor 0: what every other room may use. No I/O, no policy.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bytes.rs` | checked little-endian reading and writing |
//! | `checksum.rs` | XXH3 checksums of blocks, files and records; key hashes |
//! | `counters.rs` | what the stages of long work did, and what their time was spent on |
//! | `element.rs` | element types of stored vectors: f32, f16, bf16, int8 |
//! | `field.rs` | metadata field types, values and checked names |
//! | `fingerprint.rs` | SHA-256 content fingerprints |
//! | `ids.rs` | row, segment, column and commit numbers |
//! | `limits.rs` | every limit, with its reason |
//! | `progress.rs` | progress, cancellation, clock: what long work reports to and asks |
//! | `random.rs` | seeded random streams, the same on every platform |
//! | `rows.rs` | sets of row numbers |
//! | `sums.rs` | sums of many terms |

mod bytes;
mod checksum;
mod counters;
mod element;
mod field;
mod fingerprint;
mod ids;
pub mod limits;
mod progress;
mod random;
mod rows;
mod sums;

pub use bytes::{ByteReader, BytesError, put_u16, put_u32, put_u64};
pub use checksum::{Checksum, checksum, key_hash};
pub use counters::{Spent, StageCount, StageCounter};
pub use element::ElementType;
pub use field::{FieldDeclaration, FieldNameError, FieldType, FieldValue, FieldValueError, check_name};
pub use fingerprint::{Fingerprint, FingerprintStream};
pub use ids::{ColumnId, CommitSeq, RowId, SegmentId};
pub use progress::{Cancel, Clock, NoProgress, Progress, SystemClock};
pub use random::{RandomStream, drawn_numbers};
pub use rows::{RowSet, RowSetError};
pub use sums::sum_of;
