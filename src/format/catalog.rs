//! Catalog records and their framing.
//!
//! A record is bincode in its `legacy` configuration (fixed width, little-endian) between a small frame and a
//! checksum, because redb verifies its pages only when asked.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use thiserror::Error;

use super::{FORMAT_VERSION, MIN_READER_VERSION};
use crate::base::limits::{RECORD_BYTES_MAX, RECORD_DECODED_BYTES_MAX};
use crate::base::{
    ByteReader, ColumnId, CommitSeq, ElementType, FieldDeclaration, Fingerprint, SegmentId, checksum,
    put_u16, put_u32, put_u64,
};

/// Bytes that the frame adds to a record's body.
pub const RECORD_FRAME_SIZE_BYTES: usize = 16;

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Too few bytes, or more than the recorded length.
    #[error("the record has {found} bytes, its frame says {expected}")]
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes that the frame calls for.
        expected: usize,
    },
    /// The bytes differ from their checksum.
    #[error("checksum of the record is {found:#018x}, expected {expected:#018x}")]
    Checksum {
        /// Checksum of the bytes.
        found: u64,
        /// Checksum recorded for them.
        expected: u64,
    },
    /// Written by a later version.
    #[error(
        "the record needs reader version {needed}, this build is version {FORMAT_VERSION}: use a newer ascribe"
    )]
    Version {
        /// Version that the record asks for.
        needed: u16,
    },
    /// The body is not what it should be.
    #[error("the record cannot be decoded: {reason}")]
    Body {
        /// What the decoder said.
        reason: String,
    },
}

/// A sealed file as the catalog knows it. Its name follows from what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FileRecord {
    /// Length in bytes.
    pub length: u64,
    /// Checksum of the footer, the root of the whole file.
    pub root: u64,
}

/// The encoder of an embedding column.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct EncoderRecord {
    /// Specification, such as `hashed:256` or `vectors:384`; the name of an encoder given by the program otherwise.
    pub specification: String,
    /// What the encoder is made of; `None` until the first rows fixed it.
    pub fingerprint: Option<Fingerprint>,
    /// The file with the encoder's state, if it has any.
    pub state: Option<FileRecord>,
}

/// The classification head of a sketch column: what turns a text and a label into a gradient.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct HeadRecord {
    /// The embedding column that it classifies.
    pub embedding: ColumnId,
    /// The field with the labels.
    pub label: String,
    /// Its file: the heads of all members.
    pub file: FileRecord,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum ColumnKind {
    /// One vector a row.
    Embedding(EncoderRecord),
    /// One compressed gradient a row; the schema is its canonical JSON.
    Sketch {
        /// Ordered modules with shapes, encodings and projections, as JSON.
        schema: String,
        /// Fingerprint of that JSON.
        fingerprint: Fingerprint,
        /// The classification head whose gradients they are; `None` of gradients that were imported.
        head: Option<HeadRecord>,
    },
}

/// A column of the store.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ColumnRecord {
    /// Number, never used again after the column is dropped.
    pub id: ColumnId,
    /// Name as users give it.
    pub name: String,
    /// How a value is stored.
    pub element: ElementType,
    /// Values a row.
    pub width: u32,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A fitted curvature of a sketch column.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct CurvatureRecord {
    /// Number, never used again.
    pub version: u64,
    /// The column whose gradients it was fitted to.
    pub column: ColumnId,
    /// Which: `margin`, `fisher`, `diagonal` or `identity`.
    pub kind: String,
    /// How it is computed: `dual`, `primal`, `landmarks` or `direct`.
    pub form: String,
    /// Rows that it was fitted to.
    pub rows: u64,
    /// The commit that holds it first.
    pub commit: CommitSeq,
    /// Its file.
    pub file: FileRecord,
}

/// What the whole store is.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StoreRecord {
    /// Random bytes that name this store.
    pub store: [u8; 16],
    /// Last commit.
    pub commit: CommitSeq,
    /// Number that the next segment gets.
    pub next_segment: SegmentId,
    /// Number that the next column gets.
    pub next_column: ColumnId,
    /// Number that the next row without a key gets, so that equal rows have different keys.
    pub next_counter: u64,
    /// Declared metadata fields.
    pub fields: Vec<FieldDeclaration>,
    /// Columns.
    pub columns: Vec<ColumnRecord>,
    /// Number that the next curvature gets.
    pub next_curvature: u64,
    /// Curvatures, by ascending version.
    pub curvatures: Vec<CurvatureRecord>,
}

/// A column file of a segment.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SegmentColumnRecord {
    /// The column.
    pub column: ColumnId,
    /// Its file.
    pub file: FileRecord,
}

/// A segment: one row file and any number of column files.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SegmentRecord {
    /// Number, never used again.
    pub id: SegmentId,
    /// The segment whose place in the order of ingest this one has: itself, or the first of those it was made from.
    pub place: SegmentId,
    /// Rows, deleted ones counted.
    pub row_count: u32,
    /// The row file.
    pub rows: FileRecord,
    /// Column files, by ascending column number.
    pub columns: Vec<SegmentColumnRecord>,
}

impl SegmentRecord {
    /// Bytes of all its files.
    pub fn length(&self) -> u64 {
        self.rows.length + self.columns.iter().map(|column| column.file.length).sum::<u64>()
    }
}

/// Deleted rows of a segment.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct DeletedRecord {
    /// The segment.
    pub segment: SegmentId,
    /// Row numbers in the portable Roaring format.
    pub rows: Vec<u8>,
}

/// How far an input file was ingested.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SourceRecord {
    /// Absolute path of the input.
    pub path: String,
    /// Bytes consumed.
    pub consumed_bytes: u64,
    /// SHA-256 of those bytes.
    pub prefix: Fingerprint,
    /// Lines or records consumed.
    pub consumed_records: u64,
}

/// One commit of the store's history.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct CommitRecord {
    /// Number of the commit.
    pub commit: CommitSeq,
    /// Milliseconds since 1970-01-01 UTC by the writer's clock.
    pub unix_ms: u64,
    /// What was done: `create`, `ingest`, `import`, `delete`, `alter`, `compact`, `fit`.
    pub operation: String,
    /// Rows that came.
    pub rows_added: u64,
    /// Rows that went.
    pub rows_deleted: u64,
}

type Limited<const N: usize> = Configuration<LittleEndian, Fixint, Limit<N>>;

/// Times that values in memory may be wider than their bytes in the file: a column record is three times as wide.
const WIDENING_MAX: usize = 4;

/// Encodes a value as bincode.
pub(super) fn encode_body<T: bincode::Encode>(value: &T) -> Result<Vec<u8>, RecordError> {
    let body = bincode::encode_to_vec(value, bincode::config::legacy())
        .map_err(|error| RecordError::Body { reason: error.to_string() })?;
    if body.len() > RECORD_BYTES_MAX {
        let reason = format!("it has {} bytes, at most {RECORD_BYTES_MAX} can be read back", body.len());
        return Err(RecordError::Body { reason });
    }
    Ok(body)
}

/// Decodes bincode. The decoder's limit, a power of two, follows the number of bytes given, so that a hostile length
/// inside cannot ask for more than eight times as many (or 64 KiB).
pub(super) fn decode_body<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, RecordError> {
    macro_rules! decode_within {
        ($($bits:literal)*) => {
            match bytes.len().saturating_mul(WIDENING_MAX) {
                $(
                    needed if needed <= 1 << $bits => {
                        let configuration: Limited<{ 1 << $bits }> = bincode::config::legacy().with_limit();
                        bincode::decode_from_slice(bytes, configuration)
                    }
                )*
                _ => {
                    let configuration: Limited<RECORD_DECODED_BYTES_MAX> = bincode::config::legacy().with_limit();
                    bincode::decode_from_slice(bytes, configuration)
                }
            }
        };
    }
    let decoded = decode_within!(16 17 18 19 20 21 22 23 24 25 26 27);
    let (value, used) = decoded.map_err(|error| RecordError::Body { reason: error.to_string() })?;
    if used != bytes.len() {
        return Err(RecordError::Body { reason: format!("{} bytes follow the value", bytes.len() - used) });
    }
    Ok(value)
}

/// A record's bytes: version u16, least reader version u16, body length u32, body, checksum u64 of all before it.
///
/// # Errors
/// The record is larger than the limit.
///
/// ```
/// use ascribe::base::{CommitSeq};
/// use ascribe::format::{CommitRecord, open_record, seal_record};
/// let record = CommitRecord {
///     commit: CommitSeq(1), unix_ms: 0, operation: "create".into(), rows_added: 0, rows_deleted: 0,
/// };
/// let bytes = seal_record(&record).unwrap();
/// assert_eq!(open_record::<CommitRecord>(&bytes), Ok(record));
/// ```
pub fn seal_record<T: bincode::Encode>(record: &T) -> Result<Vec<u8>, RecordError> {
    let body = encode_body(record)?;
    let mut bytes = Vec::with_capacity(body.len() + RECORD_FRAME_SIZE_BYTES);
    put_u16(&mut bytes, FORMAT_VERSION);
    put_u16(&mut bytes, MIN_READER_VERSION);
    put_u32(&mut bytes, body.len() as u32);
    bytes.extend_from_slice(&body);
    let sum = checksum(&bytes);
    put_u64(&mut bytes, sum);
    Ok(bytes)
}

/// The record that [`seal_record`] wrote.
///
/// # Errors
/// Length, checksum, version or body are not those of a record.
pub fn open_record<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, RecordError> {
    let length = |expected| RecordError::Length { found: bytes.len(), expected };
    let mut reader = ByteReader::new(bytes);
    let _written_version = reader.u16().map_err(|_| length(RECORD_FRAME_SIZE_BYTES))?;
    let needed = reader.u16().map_err(|_| length(RECORD_FRAME_SIZE_BYTES))?;
    let body_length = reader.u32().map_err(|_| length(RECORD_FRAME_SIZE_BYTES))? as usize;
    let expected_length = body_length.saturating_add(RECORD_FRAME_SIZE_BYTES);
    if bytes.len() != expected_length {
        return Err(length(expected_length));
    }
    let body = reader.take(body_length).map_err(|_| length(expected_length))?;
    let expected = reader.u64().map_err(|_| length(expected_length))?;
    let found = checksum(&bytes[..bytes.len() - 8]);
    if found != expected {
        return Err(RecordError::Checksum { found, expected });
    }
    if needed > FORMAT_VERSION {
        return Err(RecordError::Version { needed });
    }
    decode_body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> SegmentRecord {
        let file = FileRecord { length: 1, root: 2 };
        let column = SegmentColumnRecord { column: ColumnId(1), file };
        SegmentRecord {
            id: SegmentId(3),
            place: SegmentId(2),
            row_count: 4,
            rows: file,
            columns: vec![column],
        }
    }

    #[test]
    fn every_flip_and_truncation_of_a_record_is_refused() {
        let bytes = seal_record(&segment()).unwrap();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x04;
            assert!(open_record::<SegmentRecord>(&damaged).is_err(), "byte {position}");
            assert!(open_record::<SegmentRecord>(&bytes[..position]).is_err(), "length {position}");
        }
    }

    #[test]
    fn hostile_lengths_inside_a_sealed_body_are_errors() {
        let body = encode_body(&segment()).unwrap();
        for position in 0..body.len() {
            for value in [0x7f, 0xff] {
                let mut hostile = body.clone();
                hostile[position] = value;
                let _ = decode_body::<SegmentRecord>(&hostile);
            }
        }
        let mut hostile = encode_body(&DeletedRecord { segment: SegmentId(1), rows: vec![1] }).unwrap();
        hostile[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_body::<DeletedRecord>(&hostile).is_err());
    }
}
