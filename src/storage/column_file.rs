//! Column files: one embedding or sketch a row.

use std::sync::Arc;

use super::file_error::FileError;
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use crate::base::{ColumnId, ElementType, RowId, SegmentId};
use crate::format::{
    ColumnHeader, Encoding, FileKind, FileRecord, Section, SketchModule, SketchPart, column_section,
    decode_modules, encode_modules, sketch_parts, sketch_terms, sketch_width,
};

/// Name of a segment's column file in its storage.
pub fn column_file_name(segment: SegmentId, column: ColumnId) -> String {
    format!("segments/{segment}.{column}.col")
}

/// Writes the column file of a segment: values row by row, then what stands beside them.
#[derive(Debug)]
pub struct ColumnFileWriter {
    writer: SealedWriter,
    header: ColumnHeader,
    scales_a_row: usize,
    terms_a_row: u64,
    written: u64,
    scales: Vec<u8>,
    terms: Vec<u8>,
    outcomes: Vec<u8>,
}

/// What stands beside the values of some rows of a sketch, little-endian.
#[derive(Clone, Copy, Debug, Default)]
pub struct SketchRowsBeside<'a> {
    /// Places of the inputs of sparse modules, u32 each.
    pub terms: &'a [u8],
    /// f32 each: `own` of each member, then the weighted and the plain mean of the probability of the row's own label; -1
    /// where something was not measured. Empty if nothing was, for all rows of the file.
    pub outcomes: &'a [u8],
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
        let refuse = |reason: String| FileError::Content { path: storage.describe(&name), reason };
        ColumnHeader::from_header(&header.to_header()).map_err(|error| refuse(error.to_string()))?;
        let mut parts = Vec::new();
        let mut table = Vec::new();
        if header.encoding == Encoding::Sketch {
            table = encode_modules(modules).map_err(|error| refuse(error.to_string()))?;
            parts = sketch_parts(modules, header.members).map_err(|error| refuse(error.to_string()))?;
            if sketch_width(modules, header.members) != Ok(header.width) {
                return Err(refuse(format!("its modules do not have {} values", header.width)));
            }
        }
        let mut writer = SealedWriter::create(storage, &name, &header.to_header())?;
        if header.encoding == Encoding::Sketch {
            writer.section(column_section::MODULES, &table)?;
        }
        writer.begin_section(column_section::VALUES)?;
        let scales_a_row = header.scales_a_row(parts.len());
        let terms_a_row = sketch_terms(modules);
        let (scales, terms, outcomes) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { writer, header, scales_a_row, terms_a_row, written: 0, scales, terms, outcomes })
    }

    /// Appends rows: their values as stored (little-endian) and their scales, f32 each.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, values: &[u8], scales: &[u8]) -> Result<(), FileError> {
        self.written += values.len() as u64;
        self.scales.extend_from_slice(scales);
        self.writer.write(values)
    }

    /// Appends what stands beside the values of rows of a sketch.
    pub fn append_beside(&mut self, beside: SketchRowsBeside<'_>) {
        self.terms.extend_from_slice(beside.terms);
        self.outcomes.extend_from_slice(beside.outcomes);
    }

    /// Writes the rest and makes the bytes durable.
    ///
    /// # Errors
    /// The rows written are not those that the header promises, or the file cannot be written.
    pub fn finish(mut self) -> Result<FileRecord, FileError> {
        let rows = u64::from(self.header.row_count);
        let scales = 4 * rows * self.scales_a_row as u64;
        let outcomes = if self.outcomes.is_empty() { 0 } else { outcomes_length(&self.header) };
        for (what, found, expected) in [
            ("values", self.written, self.header.values_length()),
            ("scales", self.scales.len() as u64, scales),
            ("terms", self.terms.len() as u64, 4 * rows * self.terms_a_row),
            ("outcomes", self.outcomes.len() as u64, outcomes),
        ] {
            if found != expected {
                let path = column_file_name(self.header.segment, self.header.column);
                let reason = format!("{found} bytes of {what} were written, its header promises {expected}");
                return Err(FileError::Content { path, reason });
            }
        }
        for (tag, bytes) in [
            (column_section::SCALES, &self.scales),
            (column_section::TERMS, &self.terms),
            (column_section::OUTCOMES, &self.outcomes),
        ] {
            if !bytes.is_empty() {
                self.writer.section(tag, bytes)?;
            }
        }
        self.writer.finish()
    }
}

/// Bytes of the outcomes of all rows: for each member one value, and two of the course of training.
fn outcomes_length(header: &ColumnHeader) -> u64 {
    4 * u64::from(header.row_count) * (u64::from(header.members) + 2)
}

/// A column file open for reading.
#[derive(Debug)]
pub struct ColumnFile {
    file: Arc<SealedFile>,
    header: ColumnHeader,
    values: Section,
    /// Sections beside the values, with the bytes of one row in them.
    scales: Option<(Section, u64)>,
    terms: Option<(Section, u64)>,
    outcomes: Option<(Section, u64)>,
    modules: Vec<SketchModule>,
    parts: Vec<SketchPart>,
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
        let (modules, parts) = match header.encoding {
            Encoding::Sketch => read_modules(&file, &header)?,
            _ => (Vec::new(), Vec::new()),
        };
        let rows = u64::from(header.row_count);
        let beside = |tag, row_bytes: u64| match row_bytes {
            0 => Ok(None),
            _ => file.section_of_length(tag, rows * row_bytes).map(|section| Some((section, row_bytes))),
        };
        let scales = beside(column_section::SCALES, 4 * header.scales_a_row(parts.len()) as u64)?;
        let terms = beside(column_section::TERMS, 4 * sketch_terms(&modules))?;
        let outcomes = match file.section(column_section::OUTCOMES) {
            Some(_) if rows > 0 => beside(column_section::OUTCOMES, outcomes_length(&header) / rows)?,
            _ => None,
        };
        Ok(Self { file: Arc::new(file), header, values, scales, terms, outcomes, modules, parts })
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

    /// Scales (f32, little-endian) of `count` rows from `first`: one a row of an embedding, one for each of the
    /// [`parts`](Self::parts) of a sketch; `None` for element types without scales.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn scales(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, FileError> {
        self.beside(self.scales, first, count)
    }

    /// Places of the inputs of sparse modules (u32, little-endian) of `count` rows from `first`; `None` without such modules.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn terms(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, FileError> {
        self.beside(self.terms, first, count)
    }

    /// What was measured of `count` rows from `first` (f32, little-endian), as [`SketchRowsBeside`] has it; `None` if nothing
    /// was of any row.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn outcomes(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, FileError> {
        self.beside(self.outcomes, first, count)
    }

    /// Whether anything was measured of the rows.
    pub fn has_outcomes(&self) -> bool {
        self.outcomes.is_some()
    }

    fn beside(
        &self,
        section: Option<(Section, u64)>,
        first: RowId,
        count: u32,
    ) -> Result<Option<&[u8]>, FileError> {
        let Some((section, row_bytes)) = section else { return Ok(None) };
        let start = row_bytes * u64::from(first.0);
        self.file.read(section, start..start + row_bytes * u64::from(count)).map(Some)
    }

    /// Modules of a sketch column, in the order of a row's values; empty for an embedding.
    pub fn modules(&self) -> &[SketchModule] {
        &self.modules
    }

    /// Parts of a row of a sketch column, in the order of its values; empty for an embedding.
    pub fn parts(&self) -> &[SketchPart] {
        &self.parts
    }

    /// Checks every checksum.
    ///
    /// # Errors
    /// The first contradiction.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn verify(&self) -> Result<(), FileError> {
        self.file.verify()
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

/// The module table of a sketch column, and the parts that it makes of a row.
fn read_modules(
    file: &SealedFile,
    header: &ColumnHeader,
) -> Result<(Vec<SketchModule>, Vec<SketchPart>), FileError> {
    let section =
        file.section(column_section::MODULES).ok_or_else(|| file.content_error("it has no module table"))?;
    let bytes = file.read(section, 0..section.length)?;
    let refuse = |error: crate::format::SketchModulesError| file.content_error(error.to_string());
    let modules = decode_modules(bytes).map_err(refuse)?;
    let parts = sketch_parts(&modules, header.members).map_err(refuse)?;
    if sketch_width(&modules, header.members) == Ok(header.width) {
        Ok((modules, parts))
    } else {
        Err(file.content_error("its modules do not give the width of a row"))
    }
}
