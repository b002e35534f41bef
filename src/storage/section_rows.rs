//! Rows of a section that are read here and there.

use super::file_error::FileError;
use super::sealed::SealedFile;
use crate::format::Section;

/// Rows of one length in a section of a sealed file.
///
/// What walks over a graph reads hundreds of rows a query, in no order. If every block of the section was checked by the time
/// that this was made, reading a row is a look into a slice.
#[derive(Clone, Copy, Debug)]
pub struct SectionRows<'a> {
    file: &'a SealedFile,
    section: Section,
    row_bytes: u64,
    row_count: u32,
    /// All rows, if nothing is left to check.
    checked: Option<&'a [u8]>,
}

impl<'a> SectionRows<'a> {
    /// Rows of `row_bytes` bytes each, at least 1; bytes at the end that fill no row belong to none.
    pub(super) fn new(file: &'a SealedFile, section: Section, row_bytes: u64) -> Self {
        let row_count = u32::try_from(section.length / row_bytes.max(1)).unwrap_or(u32::MAX);
        Self { file, section, row_bytes, row_count, checked: file.checked(section) }
    }

    /// The bytes of all rows, of which those of `rows` are checked against their block checksums at the first touch.
    /// Whether these are among all is for the caller to see: he has to look for them anyway.
    ///
    /// # Errors
    /// A row does not exist while there are bytes to check, a checksum is wrong, or the medium cannot be read.
    ///
    /// # Complexity
    /// A few instructions a row, but for the first touch of a block.
    #[inline]
    pub fn at(&self, rows: &[u32]) -> Result<&'a [u8], FileError> {
        if let Some(all) = self.checked {
            return Ok(all);
        }
        if let Some(row) = rows.iter().find(|row| **row >= self.row_count) {
            return Err(self.no_such_row(*row));
        }
        self.file.touch_rows(self.section, self.row_bytes, rows)
    }

    /// The bytes of a row.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    #[inline]
    pub fn row(&self, row: u32) -> Result<&'a [u8], FileError> {
        let all = self.at(&[row])?;
        let start = row as usize * self.row_bytes as usize;
        all.get(start..start + self.row_bytes as usize).ok_or_else(|| self.no_such_row(row))
    }

    /// Where a row stands, unchecked: only to ask memory for it. Nothing if there is no such row.
    #[inline]
    pub fn place(&self, row: u32) -> &'a [u8] {
        let start = u64::from(row) * self.row_bytes;
        self.file.place(self.section, start..start + self.row_bytes)
    }

    #[cold]
    fn no_such_row(&self, row: u32) -> FileError {
        let (tag, count) = (self.section.tag, self.row_count);
        self.file.content_error(format!("row {row} of section {tag} was asked for, it has {count}"))
    }
}
