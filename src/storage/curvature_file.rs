//! Curvature files: what a fit computed from the gradients of a column.

use super::file_error::FileError;
use super::medium::Storage;
use super::published::CURVATURE_FOLDER;
use super::sealed::{SealedFile, SealedWriter};
use crate::base::ColumnId;
use crate::format::{FileKind, FileRecord, Header};

/// Name of a curvature version's file in its storage.
pub fn curvature_file_name(version: u64) -> String {
    format!("{CURVATURE_FOLDER}/{version}.cur")
}

/// Writes a curvature file from its sections, each a tag and pieces that are joined in the file only, and makes it
/// durable.
///
/// # Errors
/// The file cannot be written.
pub fn write_curvature_file(
    storage: &dyn Storage,
    version: u64,
    column: ColumnId,
    sections: &[(u32, Vec<&[u8]>)],
) -> Result<FileRecord, FileError> {
    let name = curvature_file_name(version);
    let mut writer = SealedWriter::create(storage, &name, &Header::curvature(version, column.0))?;
    for (tag, pieces) in sections {
        writer.begin_section(*tag)?;
        pieces.iter().try_for_each(|piece| writer.write(piece))?;
    }
    let record = writer.finish()?;
    storage.sync_folder(CURVATURE_FOLDER).map_err(|source| FileError::Io {
        operation: "sync",
        path: storage.describe(CURVATURE_FOLDER),
        source,
    })?;
    Ok(record)
}

/// Opens the file of a curvature version. While it is open its bytes stay, even if the version is dropped.
///
/// # Errors
/// The file is missing, or not the one recorded.
pub fn open_curvature_file(
    storage: &dyn Storage,
    version: u64,
    column: ColumnId,
    expected: FileRecord,
) -> Result<SealedFile, FileError> {
    let file = SealedFile::open(storage, &curvature_file_name(version), FileKind::Curvature, expected)?;
    if file.header().segment == version && file.header().column == column.0 {
        Ok(file)
    } else {
        Err(file.content_error("it is of another version or column"))
    }
}
