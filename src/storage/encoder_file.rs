//! Encoder files: the state of an encoder, such as term weights.

use super::file_error::FileError;
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use crate::base::{ColumnId, Fingerprint};
use crate::format::{FileKind, FileRecord, Header, Section, encoder_section};

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
    write_encoder_pieces(storage, column, fingerprint, &[state])
}

/// Writes an encoder's state from pieces that are joined in the file only.
///
/// # Errors
/// The file cannot be written.
pub fn write_encoder_pieces(
    storage: &dyn Storage,
    column: ColumnId,
    fingerprint: &Fingerprint,
    pieces: &[impl AsRef<[u8]>],
) -> Result<FileRecord, FileError> {
    let mut writer =
        SealedWriter::create(storage, &encoder_file_name(column, fingerprint), &Header::encoder(column.0))?;
    writer.begin_section(encoder_section::STATE)?;
    pieces.iter().try_for_each(|piece| writer.write(piece.as_ref()))?;
    writer.finish()
}

/// Opens an encoder's state file. While it is open its bytes stay, even if the column is dropped.
///
/// # Errors
/// The file is missing, or not the one recorded.
pub fn open_encoder_file(
    storage: &dyn Storage,
    column: ColumnId,
    fingerprint: &Fingerprint,
    expected: FileRecord,
) -> Result<SealedFile, FileError> {
    let file =
        SealedFile::open(storage, &encoder_file_name(column, fingerprint), FileKind::Encoder, expected)?;
    if file.header().column == column.0 {
        Ok(file)
    } else {
        Err(file.content_error("it belongs to another column"))
    }
}

/// Where the state stands in an encoder's file: what [`SealedFile::read`] and [`SealedFile::share`] take.
///
/// # Errors
/// The file has none.
pub fn encoder_state_section(file: &SealedFile) -> Result<Section, FileError> {
    file.section(encoder_section::STATE).ok_or_else(|| file.content_error("it has no state"))
}

/// Reads the state from an encoder's file.
///
/// # Errors
/// The file is damaged.
pub fn read_encoder_state(file: &SealedFile) -> Result<&[u8], FileError> {
    let section = encoder_state_section(file)?;
    file.read(section, 0..section.length)
}

/// Reads an encoder's state, every checksum checked.
///
/// # Errors
/// The file is missing or damaged.
pub fn read_encoder_file(
    storage: &dyn Storage,
    column: ColumnId,
    fingerprint: &Fingerprint,
    expected: FileRecord,
) -> Result<Vec<u8>, FileError> {
    let file = open_encoder_file(storage, column, fingerprint, expected)?;
    file.verify()?;
    read_encoder_state(&file).map(<[u8]>::to_vec)
}
