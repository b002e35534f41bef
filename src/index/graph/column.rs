//! What a graph is made from and walked over: codes and links of one column of one segment.

use std::error::Error;

use crate::kernels::Kernels;

/// Codes of one column of one segment, row by row in any order.
pub trait GraphRows: Sync {
    /// What reading can fail with.
    type Error: Error + Send + Sync + 'static;

    /// Rows of the column.
    fn row_count(&self) -> u32;

    /// Values of a row.
    fn width(&self) -> usize;

    /// The codes of all rows, each row padded to [`code_row_bytes`](crate::kernels::code_row_bytes), of which those of
    /// `rows` are checked.
    ///
    /// # Errors
    /// A row does not exist, or its bytes cannot be read or are damaged.
    fn codes_at(&self, rows: &[u32]) -> Result<&[u8], Self::Error>;

    /// The scales of all rows, f32, little-endian, of which those of `rows` are checked.
    ///
    /// # Errors
    /// As [`codes_at`](Self::codes_at).
    fn scales_at(&self, rows: &[u32]) -> Result<&[u8], Self::Error>;

    /// The norms of all rows, f32, little-endian, of which those of `rows` are checked.
    ///
    /// # Errors
    /// As [`codes_at`](Self::codes_at).
    fn norms_at(&self, rows: &[u32]) -> Result<&[u8], Self::Error>;

    /// What coarse codes are about, and their dither: rows of f32, little-endian. `None` if there are no coarse codes, and walks
    /// go by the others.
    ///
    /// # Errors
    /// Their bytes cannot be read or are damaged.
    fn centre_and_dither(&self) -> Result<Option<[&[u8]; 2]>, Self::Error> {
        Ok(None)
    }

    /// The coarse codes of all rows, each row padded to [`coarse_row_bytes`](crate::kernels::coarse_row_bytes), and their scales,
    /// f32, little-endian, of which those of `rows` are checked; nothing if there are no coarse codes.
    ///
    /// # Errors
    /// As [`codes_at`](Self::codes_at).
    fn coarse_at(&self, _rows: &[u32]) -> Result<[&[u8]; 2], Self::Error> {
        Ok([&[], &[]])
    }
}

/// What reading a column with a graph can fail with.
pub type ReadError<C> = <<C as GraphColumn>::Rows as GraphRows>::Error;

/// A column with a graph. What it says need not be true: a walk checks every row that it is led to.
pub trait GraphColumn: Sync {
    /// Its codes.
    type Rows: GraphRows;

    /// Its codes.
    fn rows(&self) -> &Self::Rows;

    /// Where a walk begins; none in a graph without rows.
    fn entry(&self) -> Option<u32>;

    /// Levels above the base.
    fn levels(&self) -> u32;

    /// Appends the rows that `row` links to on `level`, 0 the base.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), ReadError<Self>>;

    /// Asks memory for the links of a row on the base level, which may be read soon.
    fn ask_for(&self, _kernels: Kernels, _row: u32) {}

    /// Appends the rows that every walk scores.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn scanned(&self, rows: &mut Vec<u32>) -> Result<(), ReadError<Self>>;
}
