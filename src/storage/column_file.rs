//! Column files: one embedding or sketch a row.

use std::sync::Arc;

use super::file_error::FileError;
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use crate::base::{ColumnId, ElementType, RowId, SegmentId};
use crate::format::{
    ColumnHeader, Encoding, FileKind, FileRecord, Section, SketchModule, column_section, decode_modules,
    encode_modules, sketch_width,
};

/// Name of a segment's column file in its storage.
pub fn column_file_name(segment: SegmentId, column: ColumnId) -> String {
    format!("segments/{segment}.{column}.col")
}

/// Writes the column file of a segment: values row by row, then scales.
#[derive(Debug)]
pub struct ColumnFileWriter {
    writer: SealedWriter,
    header: ColumnHeader,
    written: u64,
    scales: Vec<u8>,
}

impl ColumnFileWriter {
    /// Creates the file. `modules` is the module table of a sketch column, empty for an embedding.
    ///
    /// # Errors
    /// The file cannot be written, or the modules do not give the header's width.
    pub fn create(
        storage: &dyn Storage,
        header: ColumnHeader,
        modules: &[SketchModule],
    ) -> Result<Self, FileError> {
        let name = column_file_name(header.segment, header.column);
        ColumnHeader::from_header(&header.to_header()).map_err(|error| FileError::Content {
            path: storage.describe(&name),
            reason: error.to_string(),
        })?;
        let mut writer = SealedWriter::create(storage, &name, &header.to_header())?;
        if header.encoding == Encoding::Sketch {
            let refuse = |reason: String| FileError::Content { path: storage.describe(&name), reason };
            let table = encode_modules(modules).map_err(|error| refuse(error.to_string()))?;
            if sketch_width(modules) != Ok(header.width) {
                return Err(refuse(format!("its modules do not have {} values", header.width)));
            }
            writer.section(column_section::MODULES, &table)?;
        }
        writer.begin_section(column_section::VALUES)?;
        Ok(Self { writer, header, written: 0, scales: Vec::new() })
    }

    /// Appends rows: their values as stored (little-endian) and, for int8, one f32 scale a row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, values: &[u8], scales: &[u8]) -> Result<(), FileError> {
        self.written += values.len() as u64;
        self.scales.extend_from_slice(scales);
        self.writer.write(values)
    }

    /// Writes the rest and makes the bytes durable.
    ///
    /// # Errors
    /// The rows written are not those that the header promises, or the file cannot be written.
    pub fn finish(mut self) -> Result<FileRecord, FileError> {
        let (values, scales) = (self.header.values_length(), self.header.scales_length());
        if self.written != values || self.scales.len() as u64 != scales {
            let name = column_file_name(self.header.segment, self.header.column);
            let reason = format!(
                "{} bytes of values and {} of scales were written, its header promises {values} and {scales}",
                self.written,
                self.scales.len()
            );
            return Err(FileError::Content { path: name, reason });
        }
        if scales > 0 {
            self.writer.section(column_section::SCALES, &self.scales)?;
        }
        self.writer.finish()
    }
}

/// A column file open for reading.
#[derive(Debug)]
pub struct ColumnFile {
    file: Arc<SealedFile>,
    header: ColumnHeader,
    values: Section,
    scales: Option<Section>,
}

impl ColumnFile {
    /// Opens the file of `column` in `segment`.
    ///
    /// # Errors
    /// It is missing, not the recorded file, or of another segment or column.
    pub fn open(
        storage: &dyn Storage,
        segment: SegmentId,
        column: ColumnId,
        row_count: u32,
        expected: FileRecord,
    ) -> Result<Self, FileError> {
        let name = column_file_name(segment, column);
        let file = SealedFile::open(storage, &name, FileKind::Column, expected)?;
        let header = ColumnHeader::from_header(file.header())
            .map_err(|error| file.content_error(error.to_string()))?;
        if header.segment != segment || header.column != column || header.row_count != row_count {
            return Err(file.content_error("it is of another segment or column"));
        }
        let values = file.section_of_length(column_section::VALUES, header.values_length())?;
        let scales = match header.scales_length() {
            0 => None,
            length => Some(file.section_of_length(column_section::SCALES, length)?),
        };
        Ok(Self { file: Arc::new(file), header, values, scales })
    }

    /// What the file says of itself.
    pub fn header(&self) -> &ColumnHeader {
        &self.header
    }

    /// The sealed file underneath.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// Stored values of `count` rows from `first`, little-endian, row by row.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn values(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        let size = self.header.row_size_bytes() as u64;
        let start = u64::from(first.0) * size;
        self.file.read(self.values, start..start + u64::from(count) * size)
    }

    /// Where the values of a row stand, unchecked: only to ask memory for them.
    pub fn place(&self, row: RowId) -> &[u8] {
        let size = self.header.row_size_bytes() as u64;
        self.file.place(self.values, u64::from(row.0) * size..(u64::from(row.0) + 1) * size)
    }

    /// Scales (f32, little-endian) of `count` rows from `first`; `None` for element types without scales.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn scales(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, FileError> {
        let Some(section) = self.scales else { return Ok(None) };
        let start = 4 * u64::from(first.0);
        self.file.read(section, start..start + 4 * u64::from(count)).map(Some)
    }

    /// Modules of a sketch column, in the order of a row's values; empty for an embedding.
    ///
    /// # Errors
    /// The table is damaged or does not give the width of a row.
    pub fn modules(&self) -> Result<Vec<SketchModule>, FileError> {
        if self.header.encoding != Encoding::Sketch {
            return Ok(Vec::new());
        }
        let section = self
            .file
            .section(column_section::MODULES)
            .ok_or_else(|| self.file.content_error("it has no module table"))?;
        let bytes = self.file.read(section, 0..section.length)?;
        let modules = decode_modules(bytes).map_err(|error| self.file.content_error(error.to_string()))?;
        if sketch_width(&modules) == Ok(self.header.width) {
            Ok(modules)
        } else {
            Err(self.file.content_error("its modules do not give the width of a row"))
        }
    }

    /// Checks every checksum and the module table.
    ///
    /// # Errors
    /// The first contradiction.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn verify(&self) -> Result<(), FileError> {
        self.file.verify()?;
        self.modules().map(|_| ())
    }

    /// How a value is stored.
    pub fn element(&self) -> ElementType {
        self.header.element
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.header.width as usize
    }
}
