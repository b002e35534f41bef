//! The container of every sealed file: a header, sections, a table of block checksums, a footer.
//!
//! ```text
//! header (64) | section | section | ... | block checksums | footer (512)
//! ```
//!
//! Header and footer are of fixed size, so that opening reads the same number of bytes whatever the file holds. The
//! footer's checksum covers the checksum of the block table, which covers every block: it is the root of the whole
//! file, and the manifest names it. Rejected: one checksum of the whole file (opening would read everything) and
//! checksums between the data (rows would not lie contiguously).

use std::ops::Range;

use thiserror::Error;

use super::kinds::{Encoding, FileKind};
use crate::base::limits::{BLOCK_SIZE_BYTES, SECTION_ALIGNMENT_BYTES, SECTIONS_MAX, SEGMENT_ROWS_MAX};
use crate::base::{ByteReader, checksum, put_u16, put_u32, put_u64};

/// First bytes of every sealed file.
pub const HEADER_MAGIC: [u8; 8] = *b"ASCRIBE\0";
/// Last bytes of every sealed file.
pub const TRAILER_MAGIC: [u8; 8] = *b"EBIRCSA\0";
/// Version that this build writes. 0 means: may still change.
pub const FORMAT_VERSION: u16 = 0;
/// Oldest reader version that understands what this build writes.
pub const MIN_READER_VERSION: u16 = 0;
/// Bytes of the header.
pub const HEADER_SIZE_BYTES: usize = 64;
/// Bytes of the footer.
pub const FOOTER_SIZE_BYTES: usize = 512;
/// Bytes of one entry of the footer's section table.
pub const SECTION_ENTRY_SIZE_BYTES: usize = 24;

const HEADER_CHECKSUM_OFFSET: usize = HEADER_SIZE_BYTES - 8;
const FOOTER_CHECKSUM_OFFSET: usize = FOOTER_SIZE_BYTES - 16;
const FOOTER_RESERVED_BYTES: usize = 64;

/// Bytes that are no sealed file of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Too few bytes for header and footer.
    #[error("the file has {length} bytes, a sealed file at least {minimum}")]
    TooShort {
        /// Length of the file.
        length: u64,
        /// Smallest possible length.
        minimum: u64,
    },
    /// Header or footer begin with other bytes.
    #[error("the {part} has no ascribe mark")]
    Magic {
        /// `header` or `footer`.
        part: &'static str,
    },
    /// Header, footer, block table or a block differ from their checksum.
    #[error("checksum of {part} is {found:#018x}, expected {expected:#018x} (offset {offset})")]
    Checksum {
        /// Which part.
        part: String,
        /// Checksum of the bytes.
        found: u64,
        /// Checksum recorded for them.
        expected: u64,
        /// Offset of the part in the file.
        offset: u64,
    },
    /// Written by a later version.
    #[error(
        "the file needs reader version {needed}, this build is version {FORMAT_VERSION}: use a newer ascribe"
    )]
    Version {
        /// Version that the file asks for.
        needed: u16,
    },
    /// A field of the header or footer has a value that it cannot have.
    #[error("{field} is {value}, which is not possible here")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A section that the file must have is missing, or has another length than the rest of the file calls for.
    #[error("section {tag} has {found} bytes, expected {expected}")]
    SectionLength {
        /// Tag of the section.
        tag: u32,
        /// Bytes it has (0 if it is missing).
        found: u64,
        /// Bytes it must have.
        expected: u64,
    },
}

/// First 64 bytes of a sealed file.
///
/// ```
/// use ascribe::format::{Encoding, FileKind, Header};
/// let header = Header::rows(7, 100);
/// assert_eq!(Header::decode(&header.encode(), FileKind::Rows), Ok(header));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the file holds.
    pub kind: FileKind,
    /// Segment of a row, column, index, graph or sums file; version of a curvature file; 0 otherwise.
    pub segment: u64,
    /// Rows of the segment; 0 for an encoder file.
    pub row_count: u32,
    /// Column number of a column, encoder, index, graph or sums file; 0 otherwise.
    pub column: u32,
    /// Code of the element type of a column file; 0 otherwise.
    pub element: u16,
    /// What the values of a column file are.
    pub encoding: Encoding,
    /// Values a row of a column, index, graph or sums file; 0 otherwise.
    pub width: u32,
    /// Members (checkpoints) of a sketch column or of its sums; 0 otherwise.
    pub members: u32,
}

impl Header {
    /// Header of a row file.
    pub fn rows(segment: u64, row_count: u32) -> Self {
        Self {
            kind: FileKind::Rows,
            segment,
            row_count,
            column: 0,
            element: 0,
            encoding: Encoding::None,
            width: 0,
            members: 0,
        }
    }

    /// Header of an encoder file.
    pub fn encoder(column: u32) -> Self {
        Self { kind: FileKind::Encoder, column, ..Self::rows(0, 0) }
    }

    /// Header of a curvature file, whose version stands in the place of the segment.
    pub fn curvature(version: u64, column: u32) -> Self {
        Self { kind: FileKind::Curvature, column, ..Self::rows(version, 0) }
    }

    /// The header's 64 bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_SIZE_BYTES);
        bytes.extend_from_slice(&HEADER_MAGIC);
        put_u16(&mut bytes, self.kind.code());
        put_u16(&mut bytes, FORMAT_VERSION);
        put_u16(&mut bytes, MIN_READER_VERSION);
        put_u16(&mut bytes, 0);
        put_u64(&mut bytes, self.segment);
        put_u32(&mut bytes, self.row_count);
        put_u32(&mut bytes, self.column);
        put_u16(&mut bytes, self.element);
        put_u16(&mut bytes, self.encoding.code());
        put_u32(&mut bytes, self.width);
        put_u32(&mut bytes, self.members);
        put_u32(&mut bytes, BLOCK_SIZE_BYTES);
        put_u64(&mut bytes, 0);
        let sum = checksum(&bytes);
        put_u64(&mut bytes, sum);
        let mut header = [0; HEADER_SIZE_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads a header and checks everything that can be checked without the rest of the file.
    ///
    /// # Errors
    /// The bytes are no header of this `kind` that this build can read.
    pub fn decode(bytes: &[u8], kind: FileKind) -> Result<Self, ContainerError> {
        let short =
            |_| ContainerError::TooShort { length: bytes.len() as u64, minimum: HEADER_SIZE_BYTES as u64 };
        let field = |field, value: u64| ContainerError::Field { field, value };
        let mut reader = ByteReader::new(bytes);
        if reader.take(HEADER_MAGIC.len()).map_err(short)? != HEADER_MAGIC {
            return Err(ContainerError::Magic { part: "header" });
        }
        let covered = bytes.get(..HEADER_CHECKSUM_OFFSET).unwrap_or_default();
        let sum =
            ByteReader::new(bytes.get(HEADER_CHECKSUM_OFFSET..).unwrap_or_default()).u64().map_err(short)?;
        check_sum("header", 0, checksum(covered), sum)?;
        let code = reader.u16().map_err(short)?;
        if code != kind.code() {
            return Err(field("file kind", u64::from(code)));
        }
        let _written_version = reader.u16().map_err(short)?;
        let needed = reader.u16().map_err(short)?;
        if needed > FORMAT_VERSION {
            return Err(ContainerError::Version { needed });
        }
        let flags = reader.u16().map_err(short)?;
        let segment = reader.u64().map_err(short)?;
        let row_count = reader.u32().map_err(short)?;
        let column = reader.u32().map_err(short)?;
        let element = reader.u16().map_err(short)?;
        let encoding_code = reader.u16().map_err(short)?;
        let width = reader.u32().map_err(short)?;
        let members = reader.u32().map_err(short)?;
        let block_size = reader.u32().map_err(short)?;
        if flags != 0 {
            return Err(field("header flags", u64::from(flags)));
        }
        if row_count > SEGMENT_ROWS_MAX {
            return Err(field("row count", u64::from(row_count)));
        }
        if block_size != BLOCK_SIZE_BYTES {
            return Err(field("block size", u64::from(block_size)));
        }
        let encoding = Encoding::from_code(encoding_code)
            .ok_or_else(|| field("column encoding", u64::from(encoding_code)))?;
        Ok(Self { kind, segment, row_count, column, element, encoding, width, members })
    }
}

/// A contiguous piece of a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds; the numbers are those of the file's kind.
    pub tag: u32,
    /// Where it begins, from the start of the file; a multiple of 64.
    pub offset: u64,
    /// Bytes without padding.
    pub length: u64,
}

impl Section {
    /// The section's bytes as a range of the file.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

/// Last 512 bytes of a sealed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Sections in file order.
    pub sections: Vec<Section>,
    /// End of the last section with padding; the block checksums begin here.
    pub data_end: u64,
    /// Checksum of the table of block checksums.
    pub table_checksum: u64,
    /// Checksum that stands in the header, so that the root covers it.
    pub header_checksum: u64,
}

impl Footer {
    /// Length of the whole file.
    pub fn file_length(&self) -> u64 {
        self.data_end + 8 * block_count(self.data_end) + FOOTER_SIZE_BYTES as u64
    }

    /// The footer's bytes and its checksum, the root of the whole file.
    pub fn encode(&self) -> ([u8; FOOTER_SIZE_BYTES], u64) {
        let mut bytes = Vec::with_capacity(FOOTER_SIZE_BYTES);
        for section in &self.sections {
            put_u32(&mut bytes, section.tag);
            put_u32(&mut bytes, 0);
            put_u64(&mut bytes, section.offset);
            put_u64(&mut bytes, section.length);
        }
        bytes.resize(SECTIONS_MAX * SECTION_ENTRY_SIZE_BYTES, 0);
        put_u32(&mut bytes, self.sections.len() as u32);
        put_u32(&mut bytes, 0);
        put_u64(&mut bytes, self.data_end);
        put_u64(&mut bytes, block_count(self.data_end));
        put_u64(&mut bytes, self.table_checksum);
        put_u64(&mut bytes, self.header_checksum);
        put_u64(&mut bytes, self.file_length());
        bytes.resize(bytes.len() + FOOTER_RESERVED_BYTES, 0);
        let root = checksum(&bytes);
        put_u64(&mut bytes, root);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        let mut footer = [0; FOOTER_SIZE_BYTES];
        footer.copy_from_slice(&bytes);
        (footer, root)
    }

    /// Reads the footer of a file of `file_length` bytes whose header checksum is `header_checksum`.
    ///
    /// # Errors
    /// The bytes are no footer, or name sections outside the file.
    pub fn decode(
        bytes: &[u8],
        file_length: u64,
        header_checksum: u64,
    ) -> Result<(Self, u64), ContainerError> {
        let minimum = (HEADER_SIZE_BYTES + FOOTER_SIZE_BYTES) as u64;
        let short = |_| ContainerError::TooShort { length: file_length, minimum };
        let offset = file_length.saturating_sub(FOOTER_SIZE_BYTES as u64);
        if bytes.len() != FOOTER_SIZE_BYTES || file_length < minimum {
            return Err(ContainerError::TooShort { length: file_length, minimum });
        }
        if bytes[FOOTER_CHECKSUM_OFFSET + 8..] != TRAILER_MAGIC {
            return Err(ContainerError::Magic { part: "footer" });
        }
        let root = ByteReader::new(&bytes[FOOTER_CHECKSUM_OFFSET..]).u64().map_err(short)?;
        check_sum("footer", offset, checksum(&bytes[..FOOTER_CHECKSUM_OFFSET]), root)?;
        let mut fields = ByteReader::new(&bytes[SECTIONS_MAX * SECTION_ENTRY_SIZE_BYTES..]);
        let section_count = fields.u32().map_err(short)?;
        let reserved = fields.u32().map_err(short)?;
        let data_end = fields.u64().map_err(short)?;
        let blocks = fields.u64().map_err(short)?;
        let table_checksum = fields.u64().map_err(short)?;
        let bound_header = fields.u64().map_err(short)?;
        let recorded_length = fields.u64().map_err(short)?;
        let field = |field, value: u64| ContainerError::Field { field, value };
        if section_count as usize > SECTIONS_MAX || reserved != 0 {
            return Err(field("number of sections", u64::from(section_count)));
        }
        if recorded_length != file_length {
            return Err(field("recorded file length", recorded_length));
        }
        check_sum("header named by the footer", 0, header_checksum, bound_header)?;
        let in_file = data_end >= HEADER_SIZE_BYTES as u64 && data_end <= file_length;
        if !in_file || !data_end.is_multiple_of(SECTION_ALIGNMENT_BYTES) {
            return Err(field("end of data", data_end));
        }
        let sections = read_sections(bytes, section_count as usize, data_end)?;
        let footer = Self { sections, data_end, table_checksum, header_checksum };
        if blocks != block_count(data_end) || footer.file_length() != file_length {
            return Err(field("number of blocks", blocks));
        }
        Ok((footer, root))
    }

    /// The section of this tag, if the file has one.
    pub fn section(&self, tag: u32) -> Option<Section> {
        self.sections.iter().copied().find(|section| section.tag == tag)
    }

    /// The section of this tag, which must be `length` bytes long.
    ///
    /// # Errors
    /// It is missing or has another length.
    pub fn section_of_length(&self, tag: u32, length: u64) -> Result<Section, ContainerError> {
        let found = self.section(tag);
        found.filter(|section| section.length == length).ok_or(ContainerError::SectionLength {
            tag,
            found: found.map_or(0, |section| section.length),
            expected: length,
        })
    }
}

fn read_sections(bytes: &[u8], count: usize, data_end: u64) -> Result<Vec<Section>, ContainerError> {
    let short =
        |_| ContainerError::TooShort { length: bytes.len() as u64, minimum: FOOTER_SIZE_BYTES as u64 };
    let mut reader = ByteReader::new(bytes);
    let mut sections: Vec<Section> = Vec::with_capacity(count);
    let mut free_from = HEADER_SIZE_BYTES as u64;
    for _ in 0..count {
        let tag = reader.u32().map_err(short)?;
        let reserved = reader.u32().map_err(short)?;
        let offset = reader.u64().map_err(short)?;
        let length = reader.u64().map_err(short)?;
        let end = offset.checked_add(length).filter(|end| *end <= data_end);
        let fits = offset >= free_from && offset.is_multiple_of(SECTION_ALIGNMENT_BYTES);
        let new_tag = sections.iter().all(|section| section.tag != tag);
        let Some(end) = end.filter(|_| fits && new_tag && reserved == 0) else {
            return Err(ContainerError::Field { field: "place of a section", value: offset });
        };
        free_from = end;
        sections.push(Section { tag, offset, length });
    }
    Ok(sections)
}

/// Number of checksummed blocks of a file whose data area ends at `data_end`.
pub fn block_count(data_end: u64) -> u64 {
    data_end.saturating_sub(HEADER_SIZE_BYTES as u64).div_ceil(u64::from(BLOCK_SIZE_BYTES))
}

/// Bytes of block `block`, as a range of the file. Blocks are counted from the end of the header.
pub fn block_range(block: u64, data_end: u64) -> Range<u64> {
    let start = HEADER_SIZE_BYTES as u64 + block * u64::from(BLOCK_SIZE_BYTES);
    start..(start + u64::from(BLOCK_SIZE_BYTES)).min(data_end)
}

fn check_sum(part: &str, offset: u64, found: u64, expected: u64) -> Result<(), ContainerError> {
    if found == expected {
        Ok(())
    } else {
        Err(ContainerError::Checksum { part: part.to_owned(), found, expected, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            sections: vec![
                Section { tag: 1, offset: 64, length: 100 },
                Section { tag: 2, offset: 192, length: 0 },
            ],
            data_end: 192,
            table_checksum: 5,
            header_checksum: 6,
        }
    }

    #[test]
    fn every_flipped_byte_of_header_and_footer_is_refused() {
        let header = Header::rows(3, 4).encode();
        for position in 0..header.len() {
            let mut damaged = header;
            damaged[position] ^= 0x10;
            assert!(Header::decode(&damaged, FileKind::Rows).is_err(), "header byte {position}");
        }
        let (bytes, root) = footer().encode();
        let length = footer().file_length();
        assert_eq!(Footer::decode(&bytes, length, 6), Ok((footer(), root)));
        for position in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[position] ^= 0x10;
            assert!(Footer::decode(&damaged, length, 6).is_err(), "footer byte {position}");
        }
        assert!(Footer::decode(&bytes, length + 8, 6).is_err());
        assert!(Footer::decode(&bytes, length, 7).is_err());
    }

    #[test]
    fn sections_that_overlap_or_leave_the_file_are_refused() {
        for (offset, length) in [(128, 10), (100, 4), (192, 1), (u64::MAX - 10, 20)] {
            let mut hostile = footer();
            hostile.sections[1] = Section { tag: 2, offset, length };
            let (bytes, _) = hostile.encode();
            assert!(Footer::decode(&bytes, hostile.file_length(), 6).is_err(), "{offset} {length}");
        }
        let mut twice = footer();
        twice.sections[1].tag = 1;
        assert!(Footer::decode(&twice.encode().0, twice.file_length(), 6).is_err());
    }

    #[test]
    fn a_later_version_is_refused_by_its_number() {
        let mut bytes = Header::rows(3, 4).encode();
        bytes[12] = 9;
        let sum = checksum(&bytes[..HEADER_CHECKSUM_OFFSET]).to_le_bytes();
        bytes[HEADER_CHECKSUM_OFFSET..].copy_from_slice(&sum);
        assert_eq!(Header::decode(&bytes, FileKind::Rows), Err(ContainerError::Version { needed: 9 }));
    }
}
