//! What a sums file says of itself, and the tags of its sections.

use super::{ColumnHeader, Encoding, FileKind, Header};
use crate::base::{ByteReader, ColumnId, SegmentId, put_u32, put_u64};

/// Section tags of a sums file.
pub mod sums_section {
    /// The column file whose rows were added up: its length and root checksum.
    pub const ORIGIN: u32 = 1;
    /// What was added up.
    pub const HEAD: u32 = 2;
    /// The sums, member by member, as f64.
    pub const SUMS: u32 = 3;
}

/// Bytes of the head section.
pub const SUMS_HEAD_SIZE_BYTES: usize = 16;

/// What was added up over the rows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsKind {
    /// Outer products of gradients.
    Fisher,
    /// Outer products of gradients, each scaled by the row's factor in the margin kernel.
    Margin,
    /// Squares of gradients.
    Diagonal,
    /// Outer products of the gradients of margins.
    Trak,
}

impl SumsKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Fisher, Self::Margin, Self::Diagonal, Self::Trak];

    /// The number that stands for it in files. It stands for the formula too: sums by another one need another number.
    pub fn code(self) -> u32 {
        match self {
            Self::Fisher => 1,
            Self::Margin => 2,
            Self::Diagonal => 3,
            Self::Trak => 4,
        }
    }

    /// Its name in the names of files: that of the curvature that is fitted to it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fisher => "fisher",
            Self::Margin => "margin",
            Self::Diagonal => "diagonal",
            Self::Trak => "trak",
        }
    }
}

/// What a sums file is about.
///
/// ```
/// use ascribe::base::{ColumnId, SegmentId};
/// use ascribe::format::{SumsHeader, SumsKind};
/// let header = SumsHeader {
///     segment: SegmentId(3),
///     row_count: 9,
///     column: ColumnId(2),
///     width: 5,
///     members: 2,
///     kind: SumsKind::Fisher,
///     parameters: 4,
/// };
/// assert_eq!(header.values_a_member(), Some(10));
/// assert_eq!(header.sums_length(), Some(8 * 2 * 10));
/// assert!(header.has_head(&header.encode_head()));
/// assert!(!header.has_head(&[0; 16]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsHeader {
    /// Segment of the column file.
    pub segment: SegmentId,
    /// Its rows, all of which were added up.
    pub row_count: u32,
    /// Its column.
    pub column: ColumnId,
    /// Values of a row.
    pub width: u32,
    /// Members of the column.
    pub members: u32,
    /// What was added up.
    pub kind: SumsKind,
    /// Parameters of a member.
    pub parameters: u64,
}

impl SumsHeader {
    /// The header of the sums of a sketch column's gradients, which have so many parameters.
    pub fn of_column(column: &ColumnHeader, kind: SumsKind, parameters: u64) -> Self {
        let ColumnHeader { segment, row_count, column, width, members, .. } = *column;
        Self { segment, row_count, column, width, members, kind, parameters }
    }

    /// The container header of such a file.
    pub fn to_header(&self) -> Header {
        Header {
            kind: FileKind::Sums,
            segment: self.segment.0,
            row_count: self.row_count,
            column: self.column.0,
            element: 0,
            encoding: Encoding::None,
            width: self.width,
            members: self.members,
        }
    }

    /// Values of a member's sums: the lower triangle of a matrix over parameters, or one value a parameter. `None` if there
    /// are more than any file can hold.
    pub fn values_a_member(&self) -> Option<u64> {
        match self.kind {
            SumsKind::Diagonal => Some(self.parameters),
            SumsKind::Fisher | SumsKind::Margin | SumsKind::Trak => {
                Some(self.parameters.checked_mul(self.parameters.checked_add(1)?)? / 2)
            }
        }
    }

    /// Bytes of the sums section; `None` as for [`values_a_member`](Self::values_a_member).
    pub fn sums_length(&self) -> Option<u64> {
        self.values_a_member()?.checked_mul(u64::from(self.members))?.checked_mul(8)
    }

    /// The bytes of the head section.
    pub fn encode_head(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUMS_HEAD_SIZE_BYTES);
        put_u32(&mut bytes, self.kind.code());
        put_u32(&mut bytes, 0);
        put_u64(&mut bytes, self.parameters);
        bytes
    }

    /// Whether a head section is that of these sums.
    pub fn has_head(&self, bytes: &[u8]) -> bool {
        let mut reader = ByteReader::new(bytes);
        let (kind, _reserved, parameters) = (reader.u32(), reader.u32(), reader.u64());
        kind == Ok(self.kind.code()) && parameters == Ok(self.parameters)
    }
}
