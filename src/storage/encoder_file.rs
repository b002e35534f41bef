//! Encoder files: the state of an encoder, such as term weights.

use super::medium::Storage;
use super::sealed::{FileError, SealedFile, SealedWriter};
use crate::base::{ColumnId, Fingerprint};
use crate::format::{FileKind, FileRecord, Header, encoder_section};

/// Name of the state file of a column's encoder in its storage.
pub fn encoder_file_name(column: ColumnId, fingerprint: &Fingerprint) -> String {
    format!("encoders/{column}.{fingerprint}.enc")
}

/// Writes an encoder's state.
///
/// # Errors
/// The file cannot be written.
pub fn write_encoder_file(
    storage: &dyn Storage,
    column: ColumnId,
    fingerprint: &Fingerprint,
    state: &[u8],
) -> Result<FileRecord, FileError> {
    let mut writer =
        SealedWriter::create(storage, &encoder_file_name(column, fingerprint), &Header::encoder(column.0))?;
    writer.section(encoder_section::STATE, state)?;
    writer.finish()
}

/// An encoder file open for reading.
#[derive(Debug)]
pub struct EncoderFile(SealedFile);

impl EncoderFile {
    /// Opens the state file of a column's encoder.
    ///
    /// # Errors
    /// It is missing, or not the recorded file.
    ///
    /// # Complexity
    /// Reads header and footer only.
    pub fn open(
        storage: &dyn Storage,
        column: ColumnId,
        fingerprint: &Fingerprint,
        expected: FileRecord,
    ) -> Result<Self, FileError> {
        let name = encoder_file_name(column, fingerprint);
        SealedFile::open(storage, &name, FileKind::Encoder, expected).map(Self)
    }

    /// The encoder's state.
    ///
    /// # Errors
    /// The file is damaged.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn state(&self) -> Result<&[u8], FileError> {
        let Self(file) = self;
        file.verify()?;
        let section =
            file.section(encoder_section::STATE).ok_or_else(|| file.content_error("it has no state"))?;
        file.read(section, 0..section.length)
    }
}

/// Reads an encoder's state.
///
/// # Errors
/// The file is missing or damaged.
pub fn read_encoder_file(
    storage: &dyn Storage,
    column: ColumnId,
    fingerprint: &Fingerprint,
    expected: FileRecord,
) -> Result<Vec<u8>, FileError> {
    EncoderFile::open(storage, column, fingerprint, expected)?.state().map(<[u8]>::to_vec)
}
