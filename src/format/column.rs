//! What a column file says of itself, and the tags of its sections.

use thiserror::Error;

use super::{Encoding, FileKind, Header};
use crate::base::limits::{EMBEDDING_WIDTH_MAX, SKETCH_MEMBERS_MAX, SKETCH_WIDTH_MAX};
use crate::base::{ColumnId, ElementType, SegmentId};

/// Section tags of a column file.
pub mod column_section {
    /// `row_count` x `width` values, row by row, little-endian, without padding between rows.
    pub const VALUES: u32 = 1;
    /// f32 scales: one a row of an int8 embedding, one a row and part of an int8 or f16 sketch.
    pub const SCALES: u32 = 2;
    /// Module table; of sketch columns only.
    pub const MODULES: u32 = 3;
    /// Places of the inputs of sparse modules, u32 each; of sketch columns with such modules only.
    pub const TERMS: u32 = 4;
    /// What was measured of each row when its gradients were taken, f32 each; of sketch columns only.
    pub const OUTCOMES: u32 = 5;
}

/// Section tags of an encoder file.
pub mod encoder_section {
    /// The encoder's state, in the encoder's own layout.
    pub const STATE: u32 = 1;
}

/// Section tags of a curvature file.
pub mod curvature_section {
    /// What was fitted, as JSON.
    pub const HEAD: u32 = 1;
    /// Keys of the rows of the fit: u64 ends of each, then their bytes.
    pub const KEYS: u32 = 2;
    /// Checksums of the stored gradients of these rows, u64 each.
    pub const PRINTS: u32 = 3;
    /// f64 of each member: the factors that scale the gradients of these rows.
    pub const WEIGHTS: u32 = 4;
    /// f32 of each member: the values nearest to those of a symmetric inverse, row by row.
    pub const INVERSE: u32 = 5;
    /// f64 of each member: one value for each parameter.
    pub const DIAGONAL: u32 = 6;
    /// Gradients of the landmarks: f32 values, then u32 terms.
    pub const LANDMARKS: u32 = 7;
    /// f64 of each member: a matrix over landmarks, row by row.
    pub const MIXING: u32 = 8;
    /// f32 of each member: for each landmark a value for each parameter.
    pub const SUMS: u32 = 9;
    /// f32 of each member: what is left of the values of the inverse.
    pub const INVERSE_REST: u32 = 10;
    /// f64 of each member: squared lengths of the whitened gradients of the rows of the fit.
    pub const LENGTHS: u32 = 11;
    /// f64 of each member: the factors that scale the gradients of the landmarks, for codes.
    pub const CODE_FACTORS: u32 = 12;
    /// f32 of each member: what makes coordinates of products with the landmarks, row by row.
    pub const CODE_MATRIX: u32 = 13;
    /// i8 of each member: coordinates of the rows of the fit, padded.
    pub const CODES: u32 = 14;
    /// f32 of each member: what each row's codes are multiplied by.
    pub const CODE_SCALES: u32 = 15;
    /// Eigenvectors of both sides of each module, member by member.
    pub const BASES: u32 = 16;
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
    /// Members (checkpoints) of a sketch column, at least 1; 0 of an embedding.
    pub members: u32,
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
            members: self.members,
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
        let members = match header.encoding {
            Encoding::Sketch => 1..=SKETCH_MEMBERS_MAX,
            _ => 0..=0,
        };
        if !members.contains(&header.members) {
            return Err(refuse("number of members", u64::from(header.members)));
        }
        Ok(Self {
            segment: SegmentId(header.segment),
            row_count: header.row_count,
            column: ColumnId(header.column),
            element,
            encoding: header.encoding,
            width: header.width,
            members: header.members,
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

    /// Scales of one row: one of an int8 embedding, one for each of the `parts` of an int8 or f16 sketch; 0 otherwise.
    ///
    /// The parts of a gradient differ in size by many powers of ten, so that one scale for all would leave nothing of the
    /// smaller ones, and f16 without a scale nothing of gradients of rows that a model has learned.
    pub fn scales_a_row(&self, parts: usize) -> usize {
        match (self.encoding, self.element) {
            (Encoding::Sketch, ElementType::I8 | ElementType::F16) => parts,
            (Encoding::Sketch, _) => 0,
            (_, ElementType::I8) => 1,
            _ => 0,
        }
    }
}
