//! Rows and vectors to the files of a new segment.

use std::borrow::Cow;

use super::batch::{BatchError, take_fields};
use super::context::Context;
use super::encoders::{EncoderError, needs_fit, takes_vectors};
use super::transaction::{Transaction, TransactionError};
use crate::base::limits::{HASHED_FIT_DOCUMENTS_MAX, SCAN_CHUNK_ROWS, SEGMENT_ROWS_MAX};
use crate::base::{ColumnId, ElementType, FieldDeclaration, FieldValue, SegmentId};
use crate::encoder::{Encoder, EncoderSpecification, HashedEncoder};
use crate::format::{
    ColumnHeader, ColumnKind, ColumnRecord, EncoderRecord, Encoding, FileRecord, SegmentColumnRecord,
    SegmentRecord, encode_extra, encode_metadata, metadata_batch,
};
use crate::kernels::{ConvertError, encode, encode_int8};
use crate::sources::{Document, Place};
use crate::storage::{
    ColumnFileWriter, FileError, RowFileContent, Storage, write_encoder_file, write_row_file,
};

/// Rows on their way into a segment.
#[derive(Debug, Default)]
pub(super) struct Rows {
    content: RowFileContent,
    fields: Vec<Vec<Option<FieldValue>>>,
}

impl Rows {
    pub(super) fn new(declared: &[FieldDeclaration]) -> Self {
        Self { content: RowFileContent::default(), fields: vec![Vec::new(); declared.len()] }
    }

    pub(super) fn len(&self) -> usize {
        self.content.keys.len()
    }

    /// Adds a document that has its key.
    pub(super) fn push(
        &mut self,
        mut document: Document,
        declared: &[FieldDeclaration],
        is_typed: bool,
    ) -> Result<(), BatchError> {
        let values = take_fields(&mut document, declared, is_typed)?;
        self.fields.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        let extra = encode_extra(&document.metadata);
        self.content.keys.push(document.key.unwrap_or_default());
        self.content.texts.push(document.text.unwrap_or_default());
        self.content.extras.push(extra);
        Ok(())
    }

    /// Writes the row file.
    pub(super) fn write(
        mut self,
        storage: &dyn Storage,
        segment: SegmentId,
        declared: &[FieldDeclaration],
    ) -> Result<FileRecord, TransactionError> {
        let rows = self.len();
        if rows > SEGMENT_ROWS_MAX as usize {
            return Err(TransactionError::TooManyRows { rows });
        }
        if !declared.is_empty() {
            let unwritable = |error: crate::format::MetadataError| FileError::Content {
                path: storage.describe(&crate::storage::row_file_name(segment)),
                reason: error.to_string(),
            };
            let batch = metadata_batch(declared, &self.fields).map_err(unwritable)?;
            self.content.metadata = Some(encode_metadata(&batch).map_err(unwritable)?);
        }
        Ok(write_row_file(storage, segment, &self.content)?)
    }
}

/// Fits the encoders that wait for their first rows, and writes their state beside the rows to come.
pub(super) fn fit_encoders<'a>(
    storage: &dyn Storage,
    columns: &mut [ColumnRecord],
    texts: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), BatchError> {
    for column in columns {
        let (id, name) = (column.id, column.name.clone());
        let ColumnKind::Embedding(record) = &mut column.kind else { continue };
        if !needs_fit(record) {
            continue;
        }
        let unknown = |reason: String| EncoderError::State { column: name.clone(), reason };
        let specification = EncoderSpecification::parse(&record.specification)
            .map_err(|error| BatchError::Encoder(unknown(error.to_string())))?;
        let EncoderSpecification::Hashed { width } = specification else {
            return Err(unknown(format!("{specification} is not fitted to rows")).into());
        };
        let encoder = HashedEncoder::fit(width, texts.clone().take(HASHED_FIT_DOCUMENTS_MAX))
            .map_err(|error| BatchError::Encoder(unknown(error.to_string())))?;
        let fingerprint = encoder.fingerprint();
        let state = write_encoder_file(storage, id, &fingerprint, &encoder.to_bytes())?;
        *record = EncoderRecord {
            specification: record.specification.clone(),
            fingerprint: Some(fingerprint),
            state: Some(state),
        };
    }
    Ok(())
}

/// Vectors of texts for a batch of documents.
#[derive(Debug, Default)]
pub(super) struct TextVectors {
    /// For each column of encoded texts, one vector for each text of the batch.
    pub(super) columns: Vec<(ColumnId, Vec<f32>)>,
    /// Which text is that of document i.
    pub(super) texts: Vec<usize>,
}

impl TextVectors {
    /// The vectors of a column, document by document.
    fn of(&self, column: &ColumnRecord) -> Result<Cow<'_, [f32]>, BatchError> {
        let found = self.columns.iter().find(|(id, _)| *id == column.id);
        let width = column.width as usize;
        let values = found.map(|(_, values)| values.as_slice()).unwrap_or_default();
        if values.len() == width * self.texts.len()
            && self.texts.iter().enumerate().all(|(row, text)| row == *text)
        {
            return Ok(Cow::Borrowed(values));
        }
        let mut chosen = Vec::with_capacity(width * self.texts.len());
        for text in &self.texts {
            let vector = values.get(text * width..(text + 1) * width).ok_or_else(|| {
                let reason = format!("it made no vector for text {text} of a batch");
                BatchError::Encoder(EncoderError::State { column: column.name.clone(), reason })
            })?;
            chosen.extend_from_slice(vector);
        }
        Ok(Cow::Owned(chosen))
    }
}

/// Writes a new segment from documents that have their keys, and adds it to the transaction. Returns the bytes of its
/// files. Which columns need texts was checked before, with [`needs_text`].
pub(super) fn write_segment(
    context: &Context,
    transaction: &mut Transaction,
    documents: Vec<Document>,
    vectors_column: Option<ColumnId>,
    is_typed: bool,
    texts: Option<&TextVectors>,
) -> Result<u64, BatchError> {
    let segment = transaction.take_segment_id();
    let declared = transaction.next.store.fields.clone();
    let columns = transaction.next.store.columns.clone();
    let row_count = u32::try_from(documents.len())
        .map_err(|_| TransactionError::TooManyRows { rows: documents.len() })?;
    let mut files = Vec::new();
    for column in &columns {
        let values = match (&column.kind, texts) {
            (ColumnKind::Embedding(record), _) if takes_vectors(record) => {
                ready_vectors(column, &documents, vectors_column, columns.len() == 1)?.map(Cow::Owned)
            }
            (ColumnKind::Embedding(_), Some(texts)) => Some(texts.of(column)?),
            (ColumnKind::Embedding(_), None) | (ColumnKind::Sketch { .. }, _) => None,
        };
        let Some(values) = values else { continue };
        let place = |row: usize| documents[row].place.clone();
        let file = write_embeddings(context.storage.as_ref(), segment, column, row_count, &values, &place)?;
        files.push(SegmentColumnRecord { column: column.id, file });
    }
    let mut rows = Rows::new(&declared);
    for document in documents {
        rows.push(document, &declared, is_typed)?;
    }
    let rows = rows.write(context.storage.as_ref(), segment, &declared)?;
    let record = SegmentRecord { id: segment, place: segment, row_count, rows, columns: files };
    let bytes = record.length();
    transaction.add_segment(record)?;
    Ok(bytes)
}

/// Which documents have something: all, none, or the first that lacks it while another has it.
enum Presence {
    All,
    Nowhere,
    FirstMissing(usize),
}

fn presence(documents: &[Document], has: impl Fn(&Document) -> bool) -> Presence {
    match documents.iter().position(|document| !has(document)) {
        None => Presence::All,
        Some(missing) if documents.iter().any(has) => Presence::FirstMissing(missing),
        Some(_) => Presence::Nowhere,
    }
}

fn missing(documents: &[Document], row: usize, column: &ColumnRecord, what: &'static str) -> BatchError {
    BatchError::Missing { place: documents[row].place.clone(), column: column.name.clone(), what }
}

/// The documents' own vectors for a column, row by row; `None` if they have none and another column can stand alone.
fn ready_vectors(
    column: &ColumnRecord,
    documents: &[Document],
    vectors_column: Option<ColumnId>,
    is_only_column: bool,
) -> Result<Option<Vec<f32>>, BatchError> {
    if vectors_column != Some(column.id) {
        return Ok(None);
    }
    match presence(documents, |document| document.vector.is_some()) {
        Presence::Nowhere if !is_only_column => return Ok(None),
        Presence::Nowhere => return Err(missing(documents, 0, column, "vector")),
        Presence::FirstMissing(row) => return Err(missing(documents, row, column, "vector")),
        Presence::All => {}
    }
    let width = column.width as usize;
    let mut values = Vec::with_capacity(documents.len() * width);
    for document in documents {
        let vector = document.vector.as_deref().unwrap_or_default();
        if vector.len() != width {
            return Err(BatchError::Width {
                place: document.place.clone(),
                column: column.name.clone(),
                found: vector.len(),
                expected: width,
            });
        }
        values.extend_from_slice(vector);
    }
    Ok(Some(values))
}

/// Whether a column is to be encoded from the texts of these documents: not if it takes vectors instead, or if no
/// document has a text and ready vectors fill another column.
///
/// # Errors
/// Texts are needed and a document has none.
pub(super) fn needs_text(
    column: &ColumnRecord,
    documents: &[Document],
    has_vectors: bool,
) -> Result<bool, BatchError> {
    match &column.kind {
        ColumnKind::Embedding(record) if !takes_vectors(record) => {}
        _ => return Ok(false),
    }
    match presence(documents, |document| document.text.is_some()) {
        Presence::All => Ok(true),
        Presence::Nowhere if has_vectors => Ok(false),
        Presence::Nowhere => Err(missing(documents, 0, column, "text")),
        Presence::FirstMissing(row) => Err(missing(documents, row, column, "text")),
    }
}

/// Header of the file of an embedding column.
pub(super) fn embedding_header(segment: SegmentId, column: &ColumnRecord, row_count: u32) -> ColumnHeader {
    ColumnHeader {
        segment,
        row_count,
        column: column.id,
        element: column.element,
        encoding: Encoding::Embedding,
        width: column.width,
        members: 0,
    }
}

/// Writes the column file of a segment from f32 values. `place` tells where a row came from, for refusals.
pub(super) fn write_embeddings(
    storage: &dyn Storage,
    segment: SegmentId,
    column: &ColumnRecord,
    row_count: u32,
    values: &[f32],
    place: &dyn Fn(usize) -> Place,
) -> Result<FileRecord, BatchError> {
    let mut writer = ColumnFileWriter::create(storage, embedding_header(segment, column, row_count), &[])?;
    let width = column.width as usize;
    let mut first = 0;
    for block in values.chunks(SCAN_CHUNK_ROWS as usize * width) {
        append_values(&mut writer, column, block, first, place)?;
        first += block.len() / width;
    }
    Ok(writer.finish()?)
}

/// Appends whole rows of f32 values in the column's element type. `first` is the number of the first row.
pub(super) fn append_values(
    writer: &mut ColumnFileWriter,
    column: &ColumnRecord,
    values: &[f32],
    first: usize,
    place: &dyn Fn(usize) -> Place,
) -> Result<(), BatchError> {
    let width = column.width as usize;
    let mut bytes = Vec::with_capacity(values.len() * column.element.size_bytes());
    let mut scales = Vec::new();
    let refuse = |row: usize, index: usize, reason: String| BatchError::Value {
        place: place(row),
        column: column.name.clone(),
        index,
        reason,
    };
    if column.element == ElementType::I8 {
        for (row, vector) in values.chunks(width).enumerate() {
            let scale = encode_int8(vector, &mut bytes)
                .map_err(|error| refuse(first + row, error.index().unwrap_or(0), error.reason()))?;
            scales.extend_from_slice(&scale.to_le_bytes());
        }
    } else {
        encode(column.element, values, &mut bytes).map_err(|error: ConvertError| {
            let index = error.index().unwrap_or(0);
            refuse(first + index / width, index % width, error.reason())
        })?;
    }
    Ok(writer.append(&bytes, &scales)?)
}
