//! Rows whose vectors are ready, in one commit; or a missing column of rows that are there already.

use std::sync::Arc;
use std::thread::Scope;

use thiserror::Error;

use super::batch::{BatchError, assign_keys, vectors_column};
use super::filling::{Filling, Ready, check_rows, is_fill};
use super::lanes::encode_texts;
use super::matrix_column::{MatrixColumn, MatrixColumnError, Writing, matrix_place};
use super::options::{OnDuplicate, Watch};
use super::sketch_column::{SketchColumn, SketchColumnError, sketch_column};
use super::store::Store;
use super::transaction::{Transaction, TransactionError};
use super::write::{Rows, append_values, embedding_header, fit_encoders, needs_text, write_embeddings};
use crate::base::limits::{IMPORT_SEGMENT_ROWS_MAX, SCAN_CHUNK_ROWS};
use crate::base::{Cancel, CommitSeq, SegmentId};
use crate::format::{ColumnRecord, SegmentColumnRecord, SegmentRecord};
use crate::sketch::{GradientSource, SketchFileError};
use crate::sources::{Document, Matrix, Source, SourceError};
use crate::storage::{ColumnFileWriter, FileError};

/// What is imported: a keys file, and vectors, sketches and metadata in the same order.
pub struct Import<'a> {
    /// Keys, and further fields of each row.
    pub keys: &'a mut dyn Source,
    /// Further fields, one document a row, without keys.
    pub metadata: Option<&'a mut dyn Source>,
    /// One vector a row.
    pub embeddings: Option<Matrix<'a>>,
    /// One compressed gradient a row.
    pub sketches: Option<&'a dyn GradientSource>,
    /// The column that takes the vectors, or the sketches where there are no vectors; `None`: the only one that takes
    /// vectors, and the one with the schema of the sketches, which is added where there is no sketch column yet.
    pub column: Option<String>,
    /// What happens to keys that are there already.
    pub on_duplicate: OnDuplicate,
}

impl std::fmt::Debug for Import<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sketches = self.sketches.map(GradientSource::name);
        write!(formatter, "Import({}, {:?}, {sketches:?})", self.keys.name(), self.embeddings)
    }
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportReport {
    /// Rows added, or rows whose missing column was filled.
    pub rows: u64,
    /// Rows left out because their key was there already.
    pub rows_skipped: u64,
    /// Whether the rows were there already and the import filled a missing column.
    pub filled: bool,
    /// The commit; `None` if every row was left out.
    pub commit: Option<CommitSeq>,
}

/// An import that is refused whole. Nothing of it is visible.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// An input is refused.
    #[error("{0}; nothing was imported")]
    Source(#[from] SourceError),
    /// A row is refused.
    #[error("{0}; nothing was imported")]
    Batch(#[from] BatchError),
    /// The sketch file is refused.
    #[error("{0}; nothing was imported")]
    Sketch(#[from] SketchFileError),
    /// The commit failed.
    #[error("{0}; nothing was imported")]
    Transaction(#[from] TransactionError),
    /// The inputs do not fit each other or the store.
    #[error("{reason}; nothing was imported")]
    Mismatch {
        /// What does not fit and what to do.
        reason: String,
    },
    /// The work was cancelled.
    #[error("cancelled; nothing was imported")]
    Cancelled,
}

impl From<FileError> for ImportError {
    fn from(error: FileError) -> Self {
        Self::Transaction(error.into())
    }
}

impl From<SketchColumnError> for ImportError {
    fn from(error: SketchColumnError) -> Self {
        match error {
            SketchColumnError::Sketch(error) => Self::Sketch(error),
            SketchColumnError::Batch(error) => Self::Batch(error),
            SketchColumnError::File(error) => error.into(),
            SketchColumnError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<MatrixColumnError> for ImportError {
    fn from(error: MatrixColumnError) -> Self {
        match error {
            MatrixColumnError::Batch(error) => Self::Batch(error),
            MatrixColumnError::Source(error) => Self::Source(error),
            MatrixColumnError::Cancelled => Self::Cancelled,
            MatrixColumnError::Lost => {
                Self::Mismatch { reason: "writing the vectors ended unexpectedly".to_owned() }
            }
        }
    }
}

impl Store {
    /// Imports rows with their vectors in one commit.
    ///
    /// If the keys are there already but lack the column, the vectors fill it: then every live row of each segment
    /// that is touched must be given, because a column file covers a whole segment.
    ///
    /// # Errors
    /// See [`ImportError`]. Nothing of a refused import is visible.
    ///
    /// # Complexity
    /// Memory is that of keys and metadata; vectors go from the matrix to the file block by block, on a thread of their
    /// own, where possible while the keys are still being read.
    pub fn import(&mut self, mut import: Import<'_>, watch: Watch<'_>) -> Result<ImportReport, ImportError> {
        let vectors = import.embeddings.as_ref().map(|matrix| matrix.rows() as u64);
        let total = vectors.or_else(|| import.sketches.map(|sketches| sketches.rows() as u64));
        watch.progress.begin("import", "rows", total);
        let outcome = self.import_rows(&mut import, watch);
        if outcome.is_err() {
            self.ledger.discard_uncommitted();
        }
        watch.progress.end();
        outcome
    }

    fn import_rows(
        &mut self,
        import: &mut Import<'_>,
        watch: Watch<'_>,
    ) -> Result<ImportReport, ImportError> {
        let columns = self.ledger.state().store.columns.clone();
        let column = target_column(import, &columns)?;
        let mut transaction = self.begin();
        let first = next_document(import)?;
        let mut filling = Vec::new();
        let context = Arc::clone(&self.context);
        let storage = context.storage.as_ref();
        if let (Some(matrix), Some(column)) = (import.embeddings.clone(), column) {
            check_width(&matrix, &column)?;
            let abandoned = Cancel::new();
            filling.push(Filling::Vectors(MatrixColumn { storage, matrix, column, watch, abandoned }));
        }
        if let Some(sketches) = import.sketches {
            let named = import.column.as_deref().filter(|_| import.embeddings.is_none());
            let column = sketch_column(&mut transaction, named, sketches)?;
            filling.push(Filling::Sketches(SketchColumn { storage, sketches, column, watch }));
        }
        if is_fill(&transaction, first.as_ref(), &filling)? {
            let documents = read_documents(import, first, watch)?;
            let name = import.keys.name();
            filling
                .iter()
                .try_for_each(|filling| filling.check_rows(documents.len(), name))
                .map_err(mismatch)?;
            return self.fill(transaction, &documents, &filling);
        }
        let vectors = filling.iter().find_map(Filling::vectors);
        let gradients = filling.iter().find_map(Filling::sketches);
        let (rows, skipped) = std::thread::scope(|scope| {
            let ready = Ready { vectors, gradients };
            let outcome = self.import_segments(scope, &mut transaction, import, first, ready, watch);
            if let (Err(_), Some(vectors)) = (&outcome, vectors) {
                vectors.abandoned.cancel();
            }
            outcome
        })?;
        let commit = if transaction.is_empty() { None } else { Some(self.commit(transaction, "import")?) };
        Ok(ImportReport { rows, rows_skipped: skipped, filled: false, commit })
    }

    /// Reads all documents and writes their segments. Returns the rows written and those left out.
    fn import_segments<'scope, 'env>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
        transaction: &mut Transaction,
        import: &mut Import<'_>,
        first: Option<Document>,
        Ready { vectors, gradients }: Ready<'env>,
        watch: Watch<'_>,
    ) -> Result<(u64, u64), ImportError> {
        // Where no row may be left out, the disk can begin with the vectors while the keys are read and checked.
        let mut writing =
            vectors.filter(|_| import.on_duplicate == OnDuplicate::Error && first.is_some()).map(|vectors| {
                let rows = vectors.matrix.rows().min(IMPORT_SEGMENT_ROWS_MAX);
                vectors.start(scope, transaction.take_segment_id(), (0..rows).collect())
            });
        let documents = read_documents(import, first, watch)?;
        if let Some(vectors) = vectors {
            let (name, rows) = (vectors.matrix.name(), vectors.matrix.rows());
            check_rows(name, rows, documents.len(), import.keys.name()).map_err(mismatch)?;
        }
        if let Some(gradients) = gradients {
            let sketches = gradients.sketches;
            let (name, rows) = (sketches.name(), sketches.rows());
            check_rows(name, rows, documents.len(), import.keys.name()).map_err(mismatch)?;
        }
        // A value that is text may be parsed if either input has nothing but text.
        let is_text = |source: &dyn Source| source.values_are_text();
        let is_typed = !is_text(import.keys) && !import.metadata.as_deref().is_some_and(is_text);
        let (documents, kept, skipped) = keep(transaction, documents, import.on_duplicate)?;
        let rows = documents.len() as u64;
        let texts = documents.iter().filter_map(|document| document.text.as_deref());
        if texts.clone().next().is_some() {
            fit_encoders(self.context.storage.as_ref(), &mut transaction.next.store.columns, texts)?;
        }
        let mut rest = documents.into_iter();
        for kept in kept.chunks(IMPORT_SEGMENT_ROWS_MAX) {
            if watch.cancel.is_cancelled() {
                return Err(ImportError::Cancelled);
            }
            let documents: Vec<Document> = rest.by_ref().take(kept.len()).collect();
            let writing = writing.take().or_else(|| {
                vectors.map(|vectors| vectors.start(scope, transaction.take_segment_id(), kept.to_vec()))
            });
            self.import_segment(transaction, documents, (writing, gradients, kept), is_typed, watch)?;
        }
        Ok((rows, skipped))
    }

    /// Writes one segment, whose vectors another thread is writing; row i has the gradient of row `kept[i]`.
    fn import_segment(
        &self,
        transaction: &mut Transaction,
        documents: Vec<Document>,
        (writing, gradients, kept): (Option<Writing<'_>>, Option<&SketchColumn<'_>>, &[usize]),
        is_typed: bool,
        watch: Watch<'_>,
    ) -> Result<(), ImportError> {
        let row_count = u32::try_from(documents.len())
            .map_err(|_| TransactionError::TooManyRows { rows: documents.len() })?;
        let segment = match &writing {
            Some(writing) => writing.segment,
            None => transaction.take_segment_id(),
        };
        let has_values = writing.is_some() || gradients.is_some();
        let columns = self.import_texts(transaction, segment, &documents, has_values, watch);
        let declared = &transaction.next.store.fields;
        let rows = columns.and_then(|columns| {
            let mut rows = Rows::new(declared);
            documents.into_iter().try_for_each(|document| rows.push(document, declared, is_typed))?;
            Ok((rows.write(self.context.storage.as_ref(), segment, declared)?, columns))
        });
        // What is wrong with the vectors is said first, whichever thread found something first.
        let ready = writing.map(Writing::finish).transpose()?;
        let (rows, mut columns) = rows?;
        columns.extend(ready);
        if let Some(gradients) = gradients {
            let rows: Vec<Option<usize>> = kept.iter().copied().map(Some).collect();
            columns.push(gradients.write(segment, &rows)?);
        }
        columns.sort_by_key(|record| record.column);
        transaction.add_segment(SegmentRecord { id: segment, place: segment, row_count, rows, columns })?;
        Ok(())
    }

    /// Writes the columns of a segment that are encoded from its texts.
    fn import_texts(
        &self,
        transaction: &Transaction,
        segment: SegmentId,
        documents: &[Document],
        has_vectors: bool,
        watch: Watch<'_>,
    ) -> Result<Vec<SegmentColumnRecord>, ImportError> {
        let mut columns = Vec::new();
        for column in &transaction.next.store.columns {
            if !needs_text(column, documents, has_vectors)? {
                continue;
            }
            let encoders = Arc::new(transaction.base.encoders(column).map_err(BatchError::from)?);
            let texts: Vec<&str> =
                documents.iter().map(|document| document.text.as_deref().unwrap_or_default()).collect();
            let values = encode_texts(&self.context, &encoders, &texts, &|_| !watch.cancel.is_cancelled())?
                .ok_or(ImportError::Cancelled)?;
            let place = |row: usize| documents[row].place.clone();
            let rows = documents.len() as u32;
            let storage = self.context.storage.as_ref();
            let file = write_embeddings(storage, segment, column, rows, &values, &place)?;
            columns.push(SegmentColumnRecord { column: column.id, file });
        }
        Ok(columns)
    }

    /// Adds the column file of rows that are there already.
    fn fill(
        &mut self,
        mut transaction: Transaction,
        documents: &[Document],
        filling: &[Filling<'_>],
    ) -> Result<ImportReport, ImportError> {
        let segments = transaction.base.inner.segments.len();
        // For each segment, which row of the input fills which row of the segment.
        let mut sources: Vec<Vec<Option<usize>>> = vec![Vec::new(); segments];
        for (input, document) in documents.iter().enumerate() {
            let key = document.key.as_deref().unwrap_or_default();
            let Some((position, row)) = transaction.find(key)? else {
                let reason = format!(
                    "{}: key {key:?} is not in the store, but others of this import are: import new rows and rows of which a column is to be filled apart",
                    document.place
                );
                return Err(ImportError::Mismatch { reason });
            };
            let view = &transaction.base.inner.segments[position];
            let slots = &mut sources[position];
            slots.resize(view.segment.record.row_count as usize, None);
            if slots[row.0 as usize].replace(input).is_some() {
                let reason = format!("{}: key {key:?} came before in this input", document.place);
                return Err(ImportError::Mismatch { reason });
            }
        }
        for (position, slots) in sources.iter().enumerate().filter(|(_, slots)| !slots.is_empty()) {
            for filling in filling {
                let record = self.fill_segment(&transaction, position, slots, filling)?;
                let segment = &mut transaction.next.segments[position];
                segment.columns.push(record);
                segment.columns.sort_by_key(|record| record.column);
            }
        }
        let commit = self.commit(transaction, "import")?;
        let rows = documents.len() as u64;
        Ok(ImportReport { rows, rows_skipped: 0, filled: true, commit: Some(commit) })
    }

    fn fill_segment(
        &self,
        transaction: &Transaction,
        position: usize,
        slots: &[Option<usize>],
        filling: &Filling<'_>,
    ) -> Result<SegmentColumnRecord, ImportError> {
        let view = &transaction.base.inner.segments[position];
        let column = filling.column();
        let mismatch = |reason: String| ImportError::Mismatch { reason };
        if view.segment.column(column.id).is_some() {
            let key = view.iter_live().next().map(|row| view.segment.rows.key(row)).transpose()?;
            return Err(mismatch(format!(
                "some rows (such as {key:?}) have column {:?} already",
                column.name
            )));
        }
        if let Some(row) = view.iter_live().find(|row| slots[row.0 as usize].is_none()) {
            let key = view.segment.rows.key(row)?;
            return Err(mismatch(format!(
                "the row with key {key:?} was written together with rows of this import, but is not in it: filling column {:?} needs all of them",
                column.name
            )));
        }
        let record = &view.segment.record;
        let matrix = match filling {
            Filling::Sketches(gradients) => return Ok(gradients.write(record.id, slots)?),
            Filling::Vectors(vectors) => &vectors.matrix,
        };
        let header = embedding_header(record.id, column, record.row_count);
        let mut writer = ColumnFileWriter::create(self.context.storage.as_ref(), header, &[])?;
        let zeros = vec![0.0; column.width as usize];
        let mut values = Vec::new();
        for slot in slots {
            match slot {
                Some(input) => matrix.read_rows(*input, 1, &mut values)?,
                // A deleted row: nobody reads its values.
                None => values.clone_from(&zeros),
            }
            let place = matrix_place(matrix, slot.unwrap_or_default());
            append_values(&mut writer, column, &values, 0, &|_| place.clone())?;
        }
        Ok(SegmentColumnRecord { column: column.id, file: writer.finish()? })
    }
}

fn mismatch(reason: String) -> ImportError {
    ImportError::Mismatch { reason }
}

fn target_column(import: &Import<'_>, columns: &[ColumnRecord]) -> Result<Option<ColumnRecord>, ImportError> {
    // Without vectors the name is that of the sketches' column.
    let named = import.column.as_deref().filter(|_| import.embeddings.is_some() || import.sketches.is_none());
    let id = vectors_column(columns, named, import.embeddings.is_some())?;
    Ok(columns.iter().find(|column| Some(column.id) == id).cloned())
}

/// The next document of the keys file, with the fields of the metadata file.
fn next_document(import: &mut Import<'_>) -> Result<Option<Document>, ImportError> {
    let Some(mut document) = import.keys.next()? else { return Ok(None) };
    if document.key.is_none() {
        let reason = format!("{}: this row has no key", document.place);
        return Err(ImportError::Mismatch { reason });
    }
    if let Some(metadata) = &mut import.metadata {
        let more = metadata.next()?.ok_or_else(|| ImportError::Mismatch {
            reason: format!(
                "{} ends before {} does: give one line a row",
                metadata.name(),
                document.place.input
            ),
        })?;
        merge_metadata(&mut document, more)?;
    }
    Ok(Some(document))
}

/// All documents, of which `first` was read before.
fn read_documents(
    import: &mut Import<'_>,
    first: Option<Document>,
    watch: Watch<'_>,
) -> Result<Vec<Document>, ImportError> {
    let mut documents = Vec::new();
    let mut next = first;
    while let Some(document) = next {
        documents.push(document);
        if documents.len() % SCAN_CHUNK_ROWS as usize == 0 && watch.cancel.is_cancelled() {
            return Err(ImportError::Cancelled);
        }
        next = next_document(import)?;
    }
    if let Some(metadata) = &mut import.metadata
        && let Some(more) = metadata.next()?
    {
        let reason =
            format!("{}: there are more rows of metadata than keys ({})", more.place, documents.len());
        return Err(ImportError::Mismatch { reason });
    }
    Ok(documents)
}

fn merge_metadata(document: &mut Document, more: Document) -> Result<(), ImportError> {
    for (field, value) in more.metadata {
        if document.metadata.insert(field.clone(), value).is_some() {
            let reason = format!("{}: field {field:?} is in the keys file too", more.place);
            return Err(ImportError::Mismatch { reason });
        }
    }
    document.text = document.text.take().or(more.text);
    Ok(())
}

fn check_width(matrix: &Matrix<'_>, column: &ColumnRecord) -> Result<(), ImportError> {
    if matrix.width() == column.width as usize {
        return Ok(());
    }
    let reason = format!(
        "{} has {} values a row, column {:?} has {}",
        matrix.name(),
        matrix.width(),
        column.name,
        column.width
    );
    Err(ImportError::Mismatch { reason })
}

/// Applies the policy for keys that are there already. Returns the documents kept, the row of the input of each, and
/// how many were left out.
fn keep(
    transaction: &mut Transaction,
    documents: Vec<Document>,
    policy: OnDuplicate,
) -> Result<(Vec<Document>, Vec<usize>, u64), ImportError> {
    let keyed = assign_keys(transaction, documents, policy)?;
    Ok((keyed.documents, keyed.kept, keyed.skipped))
}
