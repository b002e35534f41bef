//! What an index file says of itself, and the tags of its sections.

use thiserror::Error;

use super::{Encoding, FileKind, FileRecord, Header};
use crate::base::limits::EMBEDDING_WIDTH_MAX;
use crate::base::{ByteReader, ColumnId, SegmentId, put_u64};

/// Section tags of an index file.
pub mod index_section {
    /// The column file that the index was made from: its length and root checksum.
    pub const ORIGIN: u32 = 1;
    /// One row of codes for each row of the column, padded with zeros to whole blocks.
    pub const CODES: u32 = 2;
    /// One f32 a row: the value that code 1 stands for.
    pub const SCALES: u32 = 3;
    /// One f32 a row: at least the Euclidean norm of what the codes leave of the row.
    pub const ERRORS: u32 = 4;
    /// One f32 a row: the Euclidean norm of the row.
    pub const NORMS: u32 = 5;
    /// What the coarse codes are about: an f32 for each value of a row.
    pub const CENTRE: u32 = 6;
    /// What was added before coarse codes were rounded: an f32 for each value of a row.
    pub const DITHER: u32 = 7;
    /// One row of coarse codes for each row of the column, padded to whole blocks.
    pub const COARSE_CODES: u32 = 8;
    /// One f32 a row: the value of one step of its coarse codes.
    pub const COARSE_SCALES: u32 = 9;
    /// One f32 a row: at least the Euclidean norm of scale times coarse codes.
    pub const COARSE_NORMS: u32 = 10;
}

/// Bytes of the origin section.
pub const INDEX_ORIGIN_SIZE_BYTES: usize = 16;

/// Codes of a row of codes are a multiple of this many, the rest zeros.
pub const INDEX_CODE_BLOCK: u32 = 32;

/// Values of a block of coarse codes, 32 bytes: a row of them is a whole number of blocks.
pub const INDEX_COARSE_BLOCK: u32 = 64;

/// A header that no index file can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the width of the index is {width}, which is not possible")]
pub struct IndexHeaderError {
    /// The width.
    pub width: u32,
}

/// What an index file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexHeader {
    /// Segment of the column file.
    pub segment: SegmentId,
    /// Its rows.
    pub row_count: u32,
    /// Its column.
    pub column: ColumnId,
    /// Values of a row.
    pub width: u32,
}

impl IndexHeader {
    /// The container header of such a file.
    pub fn to_header(&self) -> Header {
        Header {
            kind: FileKind::Index,
            segment: self.segment.0,
            row_count: self.row_count,
            column: self.column.0,
            element: 0,
            encoding: Encoding::None,
            width: self.width,
            members: 0,
        }
    }

    /// Checks and reads the container header of an index file.
    ///
    /// # Errors
    /// The width is not one of an embedding.
    pub fn from_header(header: &Header) -> Result<Self, IndexHeaderError> {
        let width = header.width;
        if width == 0 || width as usize > EMBEDDING_WIDTH_MAX {
            return Err(IndexHeaderError { width });
        }
        Ok(Self {
            segment: SegmentId(header.segment),
            row_count: header.row_count,
            column: ColumnId(header.column),
            width,
        })
    }

    /// A header of no segment yet, to tell the sizes of an index.
    pub fn of_rows(row_count: u32, width: u32) -> Self {
        Self { segment: SegmentId(0), row_count, column: ColumnId(0), width }
    }

    /// Bytes of codes and numbers together, coarse ones counted.
    pub fn content_length(&self) -> u64 {
        self.codes_length() + 3 * self.numbers_length() + self.coarse_length()
    }

    /// Bytes of centre and dither, the coarse codes and their numbers together.
    pub fn coarse_length(&self) -> u64 {
        2 * self.centre_length() + self.coarse_codes_length() + 2 * self.numbers_length()
    }

    /// Bytes of one row of codes.
    pub fn code_row_bytes(&self) -> u64 {
        u64::from(self.width.next_multiple_of(INDEX_CODE_BLOCK))
    }

    /// Bytes of the codes section.
    pub fn codes_length(&self) -> u64 {
        u64::from(self.row_count) * self.code_row_bytes()
    }

    /// Bytes of the centre, and of the dither.
    pub fn centre_length(&self) -> u64 {
        4 * u64::from(self.width)
    }

    /// Bytes of one row of coarse codes.
    pub fn coarse_row_bytes(&self) -> u64 {
        u64::from(self.width.div_ceil(INDEX_COARSE_BLOCK)) * 32
    }

    /// Bytes of the section of coarse codes.
    pub fn coarse_codes_length(&self) -> u64 {
        u64::from(self.row_count) * self.coarse_row_bytes()
    }

    /// Bytes of each section with one f32 a row.
    pub fn numbers_length(&self) -> u64 {
        4 * u64::from(self.row_count)
    }
}

/// The bytes of an origin section.
pub fn encode_origin(origin: FileRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(INDEX_ORIGIN_SIZE_BYTES);
    put_u64(&mut bytes, origin.length);
    put_u64(&mut bytes, origin.root);
    bytes
}

/// Reads an origin section; `None` if it is too short.
///
/// ```
/// use ascribe::format::{FileRecord, decode_origin, encode_origin};
/// let origin = FileRecord { length: 640, root: 7 };
/// assert_eq!(decode_origin(&encode_origin(origin)), Some(origin));
/// ```
pub fn decode_origin(bytes: &[u8]) -> Option<FileRecord> {
    let mut reader = ByteReader::new(bytes);
    Some(FileRecord { length: reader.u64().ok()?, root: reader.u64().ok()? })
}
