//! What a column file says of itself, and the tags of its sections.

use thiserror::Error;

use super::{Encoding, FileKind, Header};
use crate::base::limits::{EMBEDDING_WIDTH_MAX, SKETCH_WIDTH_MAX};
use crate::base::{ColumnId, ElementType, SegmentId};

/// Section tags of a column file.
pub mod column_section {
    /// `row_count` x `width` values, row by row, little-endian, without padding between rows.
    pub const VALUES: u32 = 1;
    /// `row_count` f32 scales; of int8 columns only.
    pub const SCALES: u32 = 2;
    /// Module table; of sketch columns only.
    pub const MODULES: u32 = 3;
}

/// Section tags of an encoder file.
pub mod encoder_section {
    /// The encoder's state, in the encoder's own layout.
    pub const STATE: u32 = 1;
}

/// A header that no column file can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} of the column is {value}, which is not possible")]
pub struct ColumnHeaderError {
    /// Which field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
}

/// What a column file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnHeader {
    /// Segment whose rows the values belong to.
    pub segment: SegmentId,
    /// Rows of that segment.
    pub row_count: u32,
    /// Number of the column.
    pub column: ColumnId,
    /// How a value is stored.
    pub element: ElementType,
    /// Embedding or sketch.
    pub encoding: Encoding,
    /// Values a row.
    pub width: u32,
    /// Member (checkpoint) of a sketch column, from 0.
    pub member: u32,
}

impl ColumnHeader {
    /// The container header of such a file.
    pub fn to_header(&self) -> Header {
        Header {
            kind: FileKind::Column,
            segment: self.segment.0,
            row_count: self.row_count,
            column: self.column.0,
            element: self.element.code(),
            encoding: self.encoding,
            width: self.width,
            member: self.member,
        }
    }

    /// Checks and reads the container header of a column file.
    ///
    /// # Errors
    /// Element type, encoding or width are not those of a column.
    pub fn from_header(header: &Header) -> Result<Self, ColumnHeaderError> {
        let refuse = |field, value: u64| ColumnHeaderError { field, value };
        let element = ElementType::from_code(header.element)
            .ok_or_else(|| refuse("element type", u64::from(header.element)))?;
        let width_max = match header.encoding {
            Encoding::None => return Err(refuse("encoding", 0)),
            Encoding::Embedding => EMBEDDING_WIDTH_MAX,
            Encoding::Sketch => SKETCH_WIDTH_MAX,
        };
        if header.width == 0 || header.width as usize > width_max {
            return Err(refuse("width", u64::from(header.width)));
        }
        Ok(Self {
            segment: SegmentId(header.segment),
            row_count: header.row_count,
            column: ColumnId(header.column),
            element,
            encoding: header.encoding,
            width: header.width,
            member: header.member,
        })
    }

    /// Bytes of one row's values.
    pub fn row_size_bytes(&self) -> usize {
        self.width as usize * self.element.size_bytes()
    }

    /// Bytes of the values section.
    pub fn values_length(&self) -> u64 {
        u64::from(self.row_count) * self.row_size_bytes() as u64
    }

    /// Bytes of the scales section; 0 for element types without scales.
    pub fn scales_length(&self) -> u64 {
        if self.element == ElementType::I8 { 4 * u64::from(self.row_count) } else { 0 }
    }
}
