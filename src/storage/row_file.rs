//! Row files: keys, texts, metadata and key index of a segment.

use std::str::from_utf8;
use std::sync::{Arc, OnceLock};

use super::file_error::FileError;
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use crate::base::limits::{KEY_BYTES_MAX, SEGMENT_ROWS_MAX};
use crate::base::{FieldDeclaration, RowId, RowSet, SegmentId, key_hash};
use crate::format::{
    ExtraFields, FileKind, FileRecord, Header, KeyIndexBuilder, MetadataBatch, Section, decode_extra,
    decode_metadata, row_section,
};

/// Name of a segment's row file in its storage.
pub fn row_file_name(segment: SegmentId) -> String {
    format!("segments/{segment}.rows")
}

/// One of the strings that every row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowString {
    /// The key.
    Key,
    /// The text; empty where the row has none.
    Text,
    /// Undeclared fields as one JSON object; empty where the row has none.
    Extra,
}

/// What a row file is written from. The strings of each kind are gone through twice, once for their lengths, so that
/// they need not be in memory.
pub trait RowFileSource {
    /// Rows.
    fn row_count(&self) -> usize;

    /// Hands every row's string of a kind to `take`, in row order, until one of them fails.
    ///
    /// # Errors
    /// The strings cannot be read, or `take` failed.
    fn each(
        &self,
        kind: RowString,
        take: &mut dyn FnMut(&str) -> Result<(), FileError>,
    ) -> Result<(), FileError>;

    /// The metadata section; `None` where no field is declared.
    fn metadata(&self) -> Option<&[u8]>;
}

/// A row file's content in memory. Row i is `keys[i]`, `texts[i]`, `extras[i]` and row i of `metadata`.
#[derive(Debug, Default)]
pub struct RowFileContent {
    /// Keys.
    pub keys: Vec<String>,
    /// Texts; empty where a row has none.
    pub texts: Vec<String>,
    /// Undeclared fields as one JSON object; empty where a row has none.
    pub extras: Vec<String>,
    /// The metadata section; `None` where no field is declared.
    pub metadata: Option<Vec<u8>>,
}

impl RowFileSource for RowFileContent {
    fn row_count(&self) -> usize {
        self.keys.len()
    }

    fn each(
        &self,
        kind: RowString,
        take: &mut dyn FnMut(&str) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let strings = match kind {
            RowString::Key => &self.keys,
            RowString::Text => &self.texts,
            RowString::Extra => &self.extras,
        };
        strings.iter().try_for_each(|string| take(string))
    }

    fn metadata(&self) -> Option<&[u8]> {
        self.metadata.as_deref()
    }
}

/// Writes the row file of a new segment.
///
/// # Errors
/// The source cannot be read or has not a string of each kind a row, or the file cannot be written.
///
/// # Complexity
/// Twenty bytes of memory a row, beside what the source holds.
pub fn write_row_file(
    storage: &dyn Storage,
    segment: SegmentId,
    source: &dyn RowFileSource,
) -> Result<FileRecord, FileError> {
    let name = row_file_name(segment);
    let rows = source.row_count();
    if rows > SEGMENT_ROWS_MAX as usize {
        let reason = format!("{rows} rows, at most {SEGMENT_ROWS_MAX} are possible");
        return Err(FileError::Content { path: storage.describe(&name), reason });
    }
    let mut writer = SealedWriter::create(storage, &name, &Header::rows(segment.0, rows as u32))?;
    let strings = |writer: &mut SealedWriter, kind, offsets_tag, bytes_tag| {
        let count = write_strings(writer, source, kind, offsets_tag, bytes_tag)?;
        if count == rows {
            return Ok(());
        }
        let reason = format!("{rows} rows and {count} strings of kind {kind:?}");
        Err(FileError::Content { path: storage.describe(&name), reason })
    };
    strings(&mut writer, RowString::Key, row_section::KEY_OFFSETS, row_section::KEY_BYTES)?;
    strings(&mut writer, RowString::Text, row_section::TEXT_OFFSETS, row_section::TEXT_BYTES)?;
    if let Some(metadata) = source.metadata() {
        writer.section(row_section::METADATA, metadata)?;
    }
    strings(&mut writer, RowString::Extra, row_section::EXTRA_OFFSETS, row_section::EXTRA_BYTES)?;
    let mut index = KeyIndexBuilder::new();
    source.each(RowString::Key, &mut |key| {
        index.push(key);
        Ok(())
    })?;
    let (hashes, rows) = index.encode();
    writer.section(row_section::KEY_HASHES, &hashes)?;
    writer.section(row_section::KEY_ROWS, &rows)?;
    writer.finish()
}

/// Writes all strings of a kind; returns how many.
fn write_strings(
    writer: &mut SealedWriter,
    source: &dyn RowFileSource,
    kind: RowString,
    offsets_tag: u32,
    bytes_tag: u32,
) -> Result<usize, FileError> {
    let mut offsets = Vec::with_capacity(8 * (source.row_count() + 1));
    let mut end = 0_u64;
    offsets.extend_from_slice(&end.to_le_bytes());
    source.each(kind, &mut |string| {
        end += string.len() as u64;
        offsets.extend_from_slice(&end.to_le_bytes());
        Ok(())
    })?;
    writer.section(offsets_tag, &offsets)?;
    writer.begin_section(bytes_tag)?;
    let mut count = 0;
    source.each(kind, &mut |string| {
        count += 1;
        writer.write(string.as_bytes())
    })?;
    Ok(count)
}

/// Bytes of a string that memory is asked for: longer ones are read in order, which a processor sees.
const ASKED_STRING_BYTES: u64 = 256;

/// A row file open for reading.
#[derive(Debug)]
pub struct RowFile {
    file: Arc<SealedFile>,
    row_count: u32,
    keys: StringSections,
    texts: StringSections,
    extras: StringSections,
    hashes: Section,
    rows: Section,
    metadata: OnceLock<Option<MetadataBatch>>,
}

#[derive(Clone, Copy, Debug)]
struct StringSections {
    offsets: Section,
    bytes: Section,
}

impl RowFile {
    /// Opens the row file of `segment`.
    ///
    /// # Errors
    /// It is missing, not the recorded file, or lacks a section.
    pub fn open(
        storage: &dyn Storage,
        segment: SegmentId,
        row_count: u32,
        expected: FileRecord,
    ) -> Result<Self, FileError> {
        let file = SealedFile::open(storage, &row_file_name(segment), FileKind::Rows, expected)?;
        if file.header().segment != segment.0 || file.header().row_count != row_count {
            return Err(file.content_error("it is of another segment"));
        }
        let count = u64::from(row_count);
        let strings = |offsets_tag, bytes_tag| {
            let offsets = file.section_of_length(offsets_tag, 8 * (count + 1))?;
            let bytes = file
                .section(bytes_tag)
                .ok_or_else(|| file.content_error(format!("section {bytes_tag} is missing")))?;
            Ok::<_, FileError>(StringSections { offsets, bytes })
        };
        let keys = strings(row_section::KEY_OFFSETS, row_section::KEY_BYTES)?;
        let texts = strings(row_section::TEXT_OFFSETS, row_section::TEXT_BYTES)?;
        let extras = strings(row_section::EXTRA_OFFSETS, row_section::EXTRA_BYTES)?;
        let hashes = file.section_of_length(row_section::KEY_HASHES, 8 * count)?;
        let rows = file.section_of_length(row_section::KEY_ROWS, 4 * count)?;
        Ok(Self {
            file: Arc::new(file),
            row_count,
            keys,
            texts,
            extras,
            hashes,
            rows,
            metadata: OnceLock::new(),
        })
    }

    /// Number of rows, deleted ones counted.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// The sealed file underneath.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// Key of a row.
    ///
    /// # Errors
    /// The row does not exist or its bytes are damaged.
    pub fn key(&self, row: RowId) -> Result<&str, FileError> {
        self.string(self.keys, row)
    }

    /// Text of a row; empty if it has none.
    ///
    /// # Errors
    /// The row does not exist or its bytes are damaged.
    pub fn text(&self, row: RowId) -> Result<&str, FileError> {
        self.string(self.texts, row)
    }

    /// Undeclared fields of a row as they stand in the file: one JSON object, or nothing.
    ///
    /// # Errors
    /// The row does not exist or its bytes are damaged.
    pub fn extra_text(&self, row: RowId) -> Result<&str, FileError> {
        self.string(self.extras, row)
    }

    /// Undeclared fields of a row.
    ///
    /// # Errors
    /// The row does not exist or its bytes are damaged.
    pub fn extra(&self, row: RowId) -> Result<ExtraFields, FileError> {
        let text = self.extra_text(row)?;
        decode_extra(text).map_err(|error| self.file.content_error(format!("row {row}: {error}")))
    }

    /// The row with this key, whether it is deleted or not.
    ///
    /// # Errors
    /// Bytes on the way are damaged.
    ///
    /// # Complexity
    /// O(log n) reads in the key index.
    pub fn find(&self, key: &str) -> Result<Option<RowId>, FileError> {
        let hash = key_hash(key);
        let (mut low, mut high) = (0, self.row_count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hash_at(middle)? < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while low < self.row_count && self.hash_at(low)? == hash {
            let row = self.indexed_row(low)?;
            if self.key(row)? == key {
                return Ok(Some(row));
            }
            low += 1;
        }
        Ok(None)
    }

    /// Declared fields of all rows, decoded at the first call; `None` if the segment was written without any.
    ///
    /// # Errors
    /// The section is damaged or does not fit the declared fields.
    pub fn metadata(&self, declared: &[FieldDeclaration]) -> Result<Option<&MetadataBatch>, FileError> {
        if let Some(known) = self.metadata.get() {
            return Ok(known.as_ref());
        }
        let batch = match self.file.section(row_section::METADATA) {
            None => None,
            Some(section) => {
                let bytes = self.file.share(section)?;
                let batch = decode_metadata(bytes, declared, self.row_count)
                    .map_err(|error| self.file.content_error(error.to_string()))?;
                Some(batch)
            }
        };
        Ok(self.metadata.get_or_init(|| batch).as_ref())
    }

    /// Checks every checksum and that keys, texts, fields and index agree with each other.
    ///
    /// # Errors
    /// The first contradiction.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn verify(&self, declared: &[FieldDeclaration]) -> Result<(), FileError> {
        self.file.verify()?;
        for strings in [self.keys, self.texts, self.extras] {
            let first = self.offset_at(strings.offsets, 0)?;
            let last = self.offset_at(strings.offsets, self.row_count)?;
            if first != 0 || last != strings.bytes.length {
                let tag = strings.bytes.tag;
                return Err(self.file.content_error(format!("offsets do not cover section {tag}")));
            }
        }
        let mut seen = RowSet::new();
        let mut last = (0, RowId(0));
        for position in 0..self.row_count {
            let entry = (self.hash_at(position)?, self.indexed_row(position)?);
            let (hash, row) = entry;
            let key = self.key(row)?;
            if !seen.insert(row) || key_hash(key) != hash || (position > 0 && entry <= last) {
                return Err(self.file.content_error(format!("entry {position} of the key index is wrong")));
            }
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(self.file.content_error(format!("the key of row {row} has {} bytes", key.len())));
            }
            last = entry;
            self.text(row)?;
            self.extra(row)?;
        }
        self.metadata(declared)?;
        Ok(())
    }

    /// Where the offsets of a row's key, text and undeclared fields stand, unchecked: only to ask memory for them.
    pub fn offset_places(&self, row: RowId) -> [&[u8]; 3] {
        let start = 8 * u64::from(row.0);
        [self.keys, self.texts, self.extras]
            .map(|strings| self.file.place(strings.offsets, start..start + 16))
    }

    /// Where a row's key, text and undeclared fields begin, unchecked: only to ask memory for them.
    pub fn string_places(&self, row: RowId) -> [&[u8]; 3] {
        let [keys, texts, extras] = self.offset_places(row);
        [(self.keys, keys), (self.texts, texts), (self.extras, extras)].map(|(strings, offsets)| {
            let [start, end] = start_and_end(offsets);
            self.file.place(strings.bytes, start..end.min(start.saturating_add(ASKED_STRING_BYTES)))
        })
    }

    fn string(&self, strings: StringSections, row: RowId) -> Result<&str, FileError> {
        if row.0 >= self.row_count {
            return Err(self
                .file
                .content_error(format!("row {row} does not exist, it has {}", self.row_count)));
        }
        let place = 8 * u64::from(row.0);
        let [start, end] = start_and_end(self.file.read(strings.offsets, place..place + 16)?);
        let bytes = self.file.read(strings.bytes, start..end)?;
        from_utf8(bytes).map_err(|_| {
            self.file.content_error(format!("row {row} of section {} is not UTF-8", strings.bytes.tag))
        })
    }

    fn offset_at(&self, offsets: Section, index: u32) -> Result<u64, FileError> {
        self.word(offsets, index)
    }

    fn hash_at(&self, position: u32) -> Result<u64, FileError> {
        self.word(self.hashes, position)
    }

    fn word(&self, section: Section, index: u32) -> Result<u64, FileError> {
        let start = 8 * u64::from(index);
        let mut word = [0; 8];
        word.copy_from_slice(self.file.read(section, start..start + 8)?);
        Ok(u64::from_le_bytes(word))
    }

    fn indexed_row(&self, position: u32) -> Result<RowId, FileError> {
        let start = 4 * u64::from(position);
        let mut word = [0; 4];
        word.copy_from_slice(self.file.read(self.rows, start..start + 4)?);
        Ok(RowId(u32::from_le_bytes(word)))
    }
}

/// Two offsets that follow each other.
fn start_and_end(offsets: &[u8]) -> [u64; 2] {
    let offset =
        |number: usize| offsets.as_chunks().0.get(number).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    [offset(0), offset(1)]
}
