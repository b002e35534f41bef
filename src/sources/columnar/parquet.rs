//! Parquet files, row group by row group.

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaDataReader;

use super::fence::fenced;
use super::file_bytes::{Consumed, FileBytes};
use super::rows::{Batches, ColumnarRows};
use super::thrift::{Flaw, check_metadata, page_sizes};
use crate::base::limits::{
    COLUMNAR_BATCH_BYTES, COLUMNAR_BATCH_ROWS, COLUMNAR_METADATA_BYTES_MAX, PARQUET_PAGE_HEADER_BYTES_MAX,
};
use crate::sources::{FieldNames, SourceError};

/// First and last bytes of a Parquet file.
const MAGIC: &[u8; 4] = b"PAR1";

/// Bytes at the end: the length of the metadata, and the magic.
const END_BYTES: u64 = 8;

/// Bytes of a page header that are read at first; most are shorter.
const PAGE_HEADER_BYTES: u64 = 512;

/// Bytes hashed at once.
const HASH_BYTES: u64 = 256 * 1024;

/// Opens a Parquet file of `length` bytes.
///
/// # Complexity
/// Memory is that of the metadata, of one page a column, and of up to 1,024 rows. Every row group is read twice, once to
/// check and hash it.
pub(in crate::sources) fn open_parquet(
    file: File,
    name: String,
    length: u64,
    fields: &FieldNames,
) -> Result<ColumnarRows, SourceError> {
    let file = FileBytes { file, name, format: "Parquet", length };
    ColumnarRows::new(Box::new(ParquetBatches::new(file)?), fields.clone())
}

/// The batches of a file.
struct ParquetBatches {
    file: FileBytes,
    metadata: ArrowReaderMetadata,
    /// Where the metadata begins: all pages lie before.
    metadata_at: u64,
    consumed: Consumed,
    next_group: usize,
    /// The batches of the current row group.
    reader: Option<ParquetRecordBatchReader>,
}

impl ParquetBatches {
    fn new(file: FileBytes) -> Result<Self, SourceError> {
        let end = file.length.checked_sub(END_BYTES).ok_or_else(|| file.damaged("it is too short"))?;
        let start = file.read(0, MAGIC.len() as u64)?;
        let bytes = file.read(end, END_BYTES)?;
        if start != MAGIC || !bytes.ends_with(MAGIC) {
            return Err(file.damaged("its first or last bytes are not those of a Parquet file"));
        }
        let metadata_bytes = u64::from(bytes.first_chunk().copied().map_or(0, u32::from_le_bytes));
        let metadata_at = Some(metadata_bytes)
            .filter(|bytes| *bytes <= COLUMNAR_METADATA_BYTES_MAX)
            .and_then(|bytes| end.checked_sub(bytes))
            .ok_or_else(|| file.damaged("its metadata has an impossible length"))?;
        let bytes = file.read(metadata_at, metadata_bytes)?;
        check_metadata(&bytes).map_err(|flaw| file.damaged(flaw_text(&flaw)))?;
        let metadata = fenced(|| reader_metadata(&bytes))
            .ok_or_else(|| file.damaged("its metadata contradicts itself"))?
            .map_err(|error| file.damaged(error))?;
        let mut consumed = Consumed::default();
        consumed.add(&bytes);
        Ok(Self { file, metadata, metadata_at, consumed, next_group: 0, reader: None })
    }

    /// Checks and hashes the next row group and returns its number and rows; `None` behind the last.
    fn enter_group(&mut self) -> Result<Option<(usize, u64)>, SourceError> {
        let index = self.next_group;
        let metadata = Arc::clone(self.metadata.metadata());
        let Some(group) = metadata.row_groups().get(index) else { return Ok(None) };
        for column in group.columns() {
            let (start, length) = fenced(|| column.byte_range())
                .ok_or_else(|| self.file.damaged("a column begins before the file"))?;
            let end = start.checked_add(length).filter(|end| *end <= self.metadata_at);
            let end = end.ok_or_else(|| self.file.damaged("a column lies outside the file"))?;
            self.check_pages(start, end)?;
            self.consume(start, end)?;
        }
        self.next_group += 1;
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| self.file.damaged("a row group has a negative number of rows"))?;
        Ok(Some((index, rows)))
    }

    /// Counts and hashes the bytes between `start` and `end`.
    fn consume(&mut self, start: u64, end: u64) -> Result<(), SourceError> {
        let mut at = start;
        while at < end {
            let count = HASH_BYTES.min(end - at);
            self.consumed.add(&self.file.read(at, count)?);
            at += count;
        }
        Ok(())
    }

    /// Checks that no page between `start` and `end` claims to become more than it can.
    fn check_pages(&self, start: u64, end: u64) -> Result<(), SourceError> {
        let mut at = start;
        while at < end {
            let left = end - at;
            let mut read = PAGE_HEADER_BYTES.min(left);
            let sizes = loop {
                match page_sizes(&self.file.read(at, read)?) {
                    Err(Flaw::CutOff) if read < left.min(PARQUET_PAGE_HEADER_BYTES_MAX) => {
                        read = (2 * read).min(left).min(PARQUET_PAGE_HEADER_BYTES_MAX);
                    }
                    result => {
                        break result.map_err(|flaw| {
                            self.file.damaged(format!("the page at offset {at}: {}", flaw_text(&flaw)))
                        })?;
                    }
                }
            };
            self.file.check_claim("a page", sizes.stored_bytes, sizes.held_bytes)?;
            at = at.saturating_add(sizes.header_bytes).saturating_add(sizes.stored_bytes);
        }
        if at > end {
            return Err(self.file.damaged("a page is longer than its column"));
        }
        Ok(())
    }

    /// A reader of row group `index` behind its first `skip` rows.
    fn open_group(&self, index: usize, skip: u64) -> Result<ParquetRecordBatchReader, SourceError> {
        let file = self.file.file.try_clone().map_err(|reason| SourceError::Io {
            input: self.file.name.clone(),
            action: "read",
            reason,
        })?;
        let group = self.metadata.metadata().row_groups().get(index);
        let bytes = group.map_or(0, |group| group.total_byte_size().max(0) as u64);
        let rows = group.map_or(1, |group| group.num_rows().max(1) as u64);
        // At least one row; `COLUMNAR_BATCH_ROWS` of rows that are not wide.
        let batch_rows = (COLUMNAR_BATCH_BYTES / (bytes / rows).max(1)).clamp(1, COLUMNAR_BATCH_ROWS as u64);
        let skip = usize::try_from(skip).map_err(|error| self.file.damaged(error))?;
        fenced(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![index])
                .with_offset(skip)
                .with_batch_size(batch_rows as usize)
                .build()
        })
        .ok_or_else(|| self.file.damaged("its columns contradict its schema"))?
        .map_err(|error| self.file.damaged(error))
    }
}

fn flaw_text(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::CutOff => "its metadata is cut off",
        Flaw::Wrong(reason) => reason,
    }
}

/// The metadata in `bytes`, with the schema that its values are read in.
///
/// The Arrow schema that many writers add is not looked at: all that matters here is in Parquet's own, and it is one
/// more encoded structure to distrust. Texts are read as views, so that a dictionary's long text is not copied for
/// every row that has it.
fn reader_metadata(bytes: &[u8]) -> Result<ArrowReaderMetadata, parquet::errors::ParquetError> {
    let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(bytes)?);
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let read = ArrowReaderMetadata::try_new(Arc::clone(&metadata), plain.clone())?;
    let fields: Vec<FieldRef> = read.schema().fields().iter().map(with_views).collect();
    let schema = Schema::new(fields);
    ArrowReaderMetadata::try_new(metadata, plain.with_schema(Arc::new(schema)))
}

fn with_views(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::List(item) => DataType::List(with_views(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(with_views).collect()),
        DataType::Map(entries, sorted) => DataType::Map(with_views(entries), *sorted),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

impl Batches for ParquetBatches {
    fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    fn next(&mut self, skip: &mut u64) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some((index, rows)) = self.enter_group()? else { return Ok(None) };
                if rows <= *skip {
                    *skip -= rows;
                    return Ok(Some(RecordBatch::new_empty(Arc::clone(self.schema()))));
                }
                self.reader = Some(self.open_group(index, std::mem::take(skip))?);
                continue;
            };
            let batch: Option<Result<RecordBatch, ArrowError>> = fenced(|| reader.next())
                .ok_or_else(|| self.file.damaged("its values contradict each other"))?;
            match batch {
                Some(batch) => return batch.map(Some).map_err(|error| self.file.damaged(error)),
                None => self.reader = None,
            }
        }
    }

    fn consumed(&self) -> &Consumed {
        &self.consumed
    }

    fn file(&self) -> &FileBytes {
        &self.file
    }
}
