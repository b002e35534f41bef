//! Checked little-endian reading and writing. A reader never goes past its slice and never panics.

use thiserror::Error;

/// A read past the end of a byte slice, or a length that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("needs {needed} bytes at offset {offset}, but only {available} are there")]
pub struct BytesError {
    /// Offset of the read within the slice.
    pub offset: usize,
    /// Bytes that the read needs.
    pub needed: usize,
    /// Bytes that were left.
    pub available: usize,
}

/// Reads little-endian values from a slice, front to back.
///
/// ```
/// # use ascribe::base::ByteReader;
/// let mut reader = ByteReader::new(&[1, 0, 2, 0, 0, 0]);
/// assert_eq!(reader.u16(), Ok(1));
/// assert_eq!(reader.u32(), Ok(2));
/// assert!(reader.u8().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> ByteReader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer than `count` bytes are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], BytesError> {
        let left = &self.bytes[self.offset..];
        let taken = left.get(..count).ok_or(BytesError {
            offset: self.offset,
            needed: count,
            available: left.len(),
        })?;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BytesError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    /// The next byte.
    ///
    /// # Errors
    /// No byte is left.
    pub fn u8(&mut self) -> Result<u8, BytesError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes as a number.
    ///
    /// # Errors
    /// Fewer than two bytes are left.
    pub fn u16(&mut self) -> Result<u16, BytesError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, BytesError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    /// Fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, BytesError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// Appends `value`, little-endian.
pub fn put_u16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value`, little-endian.
pub fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value`, little-endian.
pub fn put_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}
