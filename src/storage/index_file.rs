//! Index files: codes of a column's rows, derived from its column file.
//!
//! No manifest names them. An index file stands beside its column file under a name that follows from it, says which
//! column file it was made from, and may be missing or removed at any time: an index is a way to answer faster, never a
//! part of the answer. It is written under another name and renamed when it is whole, so that nobody opens half of one.

use super::file_error::FileError;
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use super::section_rows::SectionRows;
use crate::base::{ColumnId, RowId, SegmentId};
use crate::format::{
    FileKind, FileRecord, Header, IndexHeader, Section, decode_origin, encode_origin, index_section,
};

/// What the name of an index file ends with while it is written.
pub(super) const UNFINISHED: &str = ".unfinished";

/// Name of the index file of a segment's column in its storage.
pub fn index_file_name(segment: SegmentId, column: ColumnId) -> String {
    format!("segments/{segment}.{column}.idx")
}

/// The name that an index, graph or sums file in the making will get; every other name is its own.
pub(super) fn finished_index_name(name: &str) -> &str {
    name.strip_suffix(UNFINISHED).unwrap_or(name)
}

/// Begins a derived file under its unfinished name. What is left of an earlier attempt is removed.
pub(super) fn begin_unfinished(
    storage: &dyn Storage,
    unfinished: &str,
    header: &Header,
) -> Result<SealedWriter, FileError> {
    if storage.exists(unfinished).map_err(io_error(storage, "find", unfinished))? {
        storage.remove(unfinished).map_err(io_error(storage, "remove", unfinished))?;
    }
    SealedWriter::create(storage, unfinished, header)
}

/// Writes an index file row by row: first the codes of all rows, then their coarse codes.
#[derive(Debug)]
pub struct IndexFileWriter<'a> {
    storage: &'a dyn Storage,
    writer: SealedWriter,
    header: IndexHeader,
    unfinished: String,
    codes: u64,
    /// Scales, errors and norms; scales and norms of coarse codes.
    numbers: [Vec<u8>; 3],
    is_coarse: bool,
}

impl<'a> IndexFileWriter<'a> {
    /// Begins the index of the column file `origin`. What is left of an earlier attempt is removed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(
        storage: &'a dyn Storage,
        header: IndexHeader,
        origin: FileRecord,
    ) -> Result<Self, FileError> {
        let unfinished = format!("{}{UNFINISHED}", index_file_name(header.segment, header.column));
        let mut writer = begin_unfinished(storage, &unfinished, &header.to_header())?;
        writer.section(index_section::ORIGIN, &encode_origin(origin))?;
        writer.begin_section(index_section::CODES)?;
        let numbers = Default::default();
        Ok(Self { storage, writer, header, unfinished, codes: 0, numbers, is_coarse: false })
    }

    /// Appends rows: their codes, padded; then scales, errors and norms, one f32 a row, little-endian.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, codes: &[u8], numbers: [&[u8]; 3]) -> Result<(), FileError> {
        self.codes += codes.len() as u64;
        for (to, from) in self.numbers.iter_mut().zip(numbers) {
            to.extend_from_slice(from);
        }
        self.writer.write(codes)
    }

    /// Ends the codes and begins the coarse codes: what they are about, and what was added before they were rounded.
    ///
    /// # Errors
    /// The rows are not those that the header promises, or the file cannot be written.
    pub fn begin_coarse(&mut self, centre: &[f32], dither: &[f32]) -> Result<(), FileError> {
        use index_section::{CENTRE, DITHER, ERRORS, NORMS, SCALES};
        let count = self.header.numbers_length();
        self.end_rows(self.header.codes_length(), [count; 3], &[SCALES, ERRORS, NORMS])?;
        for (tag, values) in [(CENTRE, centre), (DITHER, dither)] {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            if bytes.len() as u64 != self.header.centre_length() {
                return Err(self.wrong(format!("section {tag} of it has {} bytes", bytes.len())));
            }
            self.writer.section(tag, &bytes)?;
        }
        self.is_coarse = true;
        self.writer.begin_section(index_section::COARSE_CODES)
    }

    /// Appends rows: their coarse codes, padded; then scales and norms, one f32 a row, little-endian.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_coarse(&mut self, codes: &[u8], [scales, norms]: [&[u8]; 2]) -> Result<(), FileError> {
        self.append(codes, [scales, norms, &[]])
    }

    fn end_rows(&mut self, codes: u64, lengths: [u64; 3], tags: &[u32]) -> Result<(), FileError> {
        let numbers = std::mem::take(&mut self.numbers);
        let given = numbers.each_ref().map(|bytes| bytes.len() as u64);
        if self.codes != codes || given != lengths {
            return Err(self.wrong(format!("it has {} bytes of codes and {given:?} of numbers", self.codes)));
        }
        for (tag, bytes) in tags.iter().zip(&numbers) {
            self.writer.section(*tag, bytes)?;
        }
        self.codes = 0;
        Ok(())
    }

    fn wrong(&self, reason: String) -> FileError {
        FileError::Content { path: self.storage.describe(&self.unfinished), reason }
    }

    /// Writes the rest and gives the file its name.
    ///
    /// # Errors
    /// The rows are not those that the header promises, or the file cannot be written.
    pub fn finish(mut self) -> Result<(), FileError> {
        if !self.is_coarse {
            return Err(self.wrong("it has no coarse codes".to_owned()));
        }
        let (count, tags) =
            (self.header.numbers_length(), [index_section::COARSE_SCALES, index_section::COARSE_NORMS]);
        self.end_rows(self.header.coarse_codes_length(), [count, count, 0], &tags)?;
        self.writer.finish()?;
        let name = index_file_name(self.header.segment, self.header.column);
        self.storage.rename(&self.unfinished, &name).map_err(io_error(
            self.storage,
            "rename",
            &self.unfinished,
        ))
    }
}

/// Rows of an index file that are read here and there.
#[derive(Clone, Copy, Debug)]
pub struct IndexRows<'a> {
    /// Codes, each row padded.
    pub codes: SectionRows<'a>,
    /// Scales, f32, little-endian.
    pub scales: SectionRows<'a>,
    /// Norms of what the codes leave, rounded up, f32, little-endian.
    pub errors: SectionRows<'a>,
    /// Norms, rounded up, f32, little-endian.
    pub norms: SectionRows<'a>,
    /// Coarse codes, each row padded.
    pub coarse_codes: SectionRows<'a>,
    /// Scales of coarse codes, f32, little-endian.
    pub coarse_scales: SectionRows<'a>,
}

/// An index file open for reading.
#[derive(Debug)]
pub struct IndexFile {
    file: SealedFile,
    header: IndexHeader,
    codes: Section,
    scales: Section,
    errors: Section,
    norms: Section,
    centre: Section,
    dither: Section,
    coarse_codes: Section,
    /// Scales and norms.
    coarse_numbers: [Section; 2],
}

impl IndexFile {
    /// Opens the index of a column file; `None` if there is none.
    ///
    /// # Errors
    /// It is damaged, or was made from another column file.
    ///
    /// # Complexity
    /// Reads header, footer and one block, whatever the number of rows.
    pub fn open(
        storage: &dyn Storage,
        header: &IndexHeader,
        origin: FileRecord,
    ) -> Result<Option<Self>, FileError> {
        let name = index_file_name(header.segment, header.column);
        let file = match SealedFile::open_derived(storage, &name, FileKind::Index) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let found =
            IndexHeader::from_header(file.header()).map_err(|error| file.content_error(error.to_string()))?;
        let section = file
            .section(index_section::ORIGIN)
            .ok_or_else(|| file.content_error("it does not say what it was made from"))?;
        let made_from = decode_origin(file.read(section, 0..section.length)?);
        if found != *header || made_from != Some(origin) {
            return Err(file.content_error("it was made from another column file"));
        }
        let numbers = header.numbers_length();
        Ok(Some(Self {
            codes: file.section_of_length(index_section::CODES, header.codes_length())?,
            scales: file.section_of_length(index_section::SCALES, numbers)?,
            errors: file.section_of_length(index_section::ERRORS, numbers)?,
            norms: file.section_of_length(index_section::NORMS, numbers)?,
            centre: file.section_of_length(index_section::CENTRE, header.centre_length())?,
            dither: file.section_of_length(index_section::DITHER, header.centre_length())?,
            coarse_codes: file
                .section_of_length(index_section::COARSE_CODES, header.coarse_codes_length())?,
            coarse_numbers: [
                file.section_of_length(index_section::COARSE_SCALES, numbers)?,
                file.section_of_length(index_section::COARSE_NORMS, numbers)?,
            ],
            header: found,
            file,
        }))
    }

    /// What the file is about.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The sealed file underneath.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// Codes of `count` rows from `first`, each row padded with zeros.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn codes(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.rows(self.codes, self.header.code_row_bytes(), first, count)
    }

    /// Scales of `count` rows from `first`, f32, little-endian.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn scales(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.rows(self.scales, 4, first, count)
    }

    /// Norms of what the codes leave of `count` rows from `first`, f32, little-endian.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn errors(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.rows(self.errors, 4, first, count)
    }

    /// Norms of `count` rows from `first`, f32, little-endian.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn norms(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.rows(self.norms, 4, first, count)
    }

    /// What coarse codes are about, and what was added before they were rounded: rows of f32, little-endian.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn centre_and_dither(&self) -> Result<[&[u8]; 2], FileError> {
        let read = |section: Section| self.file.read(section, 0..section.length);
        Ok([read(self.centre)?, read(self.dither)?])
    }

    /// Coarse codes of `count` rows from `first`, each row padded.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn coarse_codes(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.rows(self.coarse_codes, self.header.coarse_row_bytes(), first, count)
    }

    /// Scales of coarse codes, and norms of scale times codes, of `count` rows from `first`, f32, little-endian.
    ///
    /// # Errors
    /// The rows do not exist or their bytes are damaged.
    pub fn coarse_numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 2], FileError> {
        let [scales, norms] = self.coarse_numbers;
        Ok([self.rows(scales, 4, first, count)?, self.rows(norms, 4, first, count)?])
    }

    /// The rows, to be read here and there.
    pub fn by_row(&self) -> IndexRows<'_> {
        let numbers = |section| SectionRows::new(&self.file, section, 4);
        IndexRows {
            codes: SectionRows::new(&self.file, self.codes, self.header.code_row_bytes()),
            scales: numbers(self.scales),
            errors: numbers(self.errors),
            norms: numbers(self.norms),
            coarse_codes: SectionRows::new(&self.file, self.coarse_codes, self.header.coarse_row_bytes()),
            coarse_scales: numbers(self.coarse_numbers[0]),
        }
    }

    fn rows(&self, section: Section, row_bytes: u64, first: RowId, count: u32) -> Result<&[u8], FileError> {
        let start = u64::from(first.0) * row_bytes;
        self.file.read(section, start..start + u64::from(count) * row_bytes)
    }
}

pub(super) fn io_error(
    storage: &dyn Storage,
    operation: &'static str,
    name: &str,
) -> impl FnOnce(std::io::Error) -> FileError {
    let path = storage.describe(name);
    move |source| FileError::Io { operation, path, source }
}
