//! Schema changes, one commit each: declare a field, add or drop a column. No row file is rewritten.

use std::sync::Arc;

use thiserror::Error;

use super::batch::BatchError;
use super::encoders::{ColumnEncoders, keep_state, needs_fit, open_encoders, takes_vectors};
use super::lanes::encode_texts;
use super::options::{ColumnDefinition, ColumnEncoder, Watch};
use super::segment::{SegmentView, late_value};
use super::store::{CreateError, Store, check_column, check_field};
use super::transaction::{Transaction, TransactionError};
use super::write::{fit_encoders, write_embeddings};
use crate::base::limits::HASHED_FIT_DOCUMENTS_MAX;
use crate::base::{ColumnId, CommitSeq, FieldDeclaration, FieldValueError};
use crate::format::{ColumnKind, ColumnRecord, SegmentColumnRecord};
use crate::sources::Place;
use crate::storage::FileError;

/// A schema change that is refused. Nothing changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AlterError {
    /// The field or column cannot be defined so.
    #[error(transparent)]
    Definition(#[from] CreateError),
    /// A row that is there already has a value of another type under the field's name.
    #[error(
        "field {field:?} cannot be declared: the row with key {key:?} has a value there: {source}; choose the type that fits, or delete the row"
    )]
    Value {
        /// The field.
        field: String,
        /// Key of the row.
        key: String,
        /// What is wrong.
        source: FieldValueError,
    },
    /// There is no such column.
    #[error("there is no column {name:?}; the columns are {known}")]
    UnknownColumn {
        /// The name given.
        name: String,
        /// Columns of the store.
        known: String,
    },
    /// A store keeps at least one column.
    #[error("{name:?} is the only column and stays; add another one first")]
    LastColumn {
        /// The column.
        name: String,
    },
    /// A text of a row cannot be encoded.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Files are damaged, or the commit failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The work was cancelled.
    #[error("cancelled; nothing changed")]
    Cancelled,
}

impl From<FileError> for AlterError {
    fn from(error: FileError) -> Self {
        Self::Transaction(error.into())
    }
}

impl Store {
    /// Declares a metadata field, so that filters may use it. Rows that are there keep the value that they have under
    /// this name; all of them are checked first.
    ///
    /// # Errors
    /// The name is taken or cannot be one, or a row has a value of another type.
    ///
    /// # Complexity
    /// Reads the undeclared fields of every row.
    pub fn add_field(&mut self, field: FieldDeclaration) -> Result<CommitSeq, AlterError> {
        let mut transaction = self.begin();
        check_field(&transaction.next.store.fields, &field)?;
        for view in &transaction.base.inner.segments {
            for row in view.iter_live() {
                let extra = view.segment.rows.extra(row)?;
                if let Err(source) = late_value(&field, &extra) {
                    let key = view.segment.rows.key(row)?.to_owned();
                    return Err(AlterError::Value { field: field.name, key, source });
                }
            }
        }
        transaction.next.store.fields.push(field);
        Ok(self.commit(transaction, "alter")?)
    }

    /// Adds a column. An encoder of text encodes the rows that are there; a column of ready vectors or of sketches stays
    /// empty for them until an import fills it.
    ///
    /// # Errors
    /// The definition is refused, or a row has no text to encode.
    ///
    /// # Complexity
    /// Encodes every row, segment by segment.
    pub fn add_column(
        &mut self,
        definition: ColumnDefinition,
        watch: Watch<'_>,
    ) -> Result<CommitSeq, AlterError> {
        let mut transaction = self.begin();
        let id = transaction.next.store.next_column;
        let (mut column, ready) = check_column(&transaction.next.store.columns, id, &definition)?;
        transaction.next.store.next_column = ColumnId(id.0 + 1);
        watch.progress.begin("encode", "rows", Some(transaction.base.row_count()));
        let kept = ready.map_or(Ok(()), |ready| {
            keep_state(self.context.storage.as_ref(), &mut column, ready.as_ref()).map_err(AlterError::from)
        });
        transaction.next.store.columns.push(column);
        let encoded = kept.and_then(|()| self.encode_rows(&mut transaction, &definition, watch));
        watch.progress.end();
        if let Err(error) = encoded {
            self.ledger.discard_uncommitted();
            return Err(error);
        }
        Ok(self.commit(transaction, "alter")?)
    }

    /// Encodes the texts of all rows for the column that was added last.
    fn encode_rows(
        &self,
        transaction: &mut Transaction,
        definition: &ColumnDefinition,
        watch: Watch<'_>,
    ) -> Result<(), AlterError> {
        let storage = self.context.storage.as_ref();
        let views = transaction.base.inner.segments.clone();
        let takes_text = |column: &ColumnRecord| match &column.kind {
            ColumnKind::Embedding(record) => !takes_vectors(record),
            ColumnKind::Sketch { .. } => false,
        };
        let Some(column) = transaction.next.store.columns.last_mut().filter(|column| takes_text(column))
        else {
            return Ok(());
        };
        if matches!(&column.kind, ColumnKind::Embedding(record) if needs_fit(record)) {
            let texts = first_texts(&views)?;
            if texts.is_empty() {
                return Ok(());
            }
            fit_encoders(storage, std::slice::from_mut(column), texts.iter().map(String::as_str))?;
        }
        let column = column.clone();
        if views.is_empty() {
            return Ok(());
        }
        let encoders = Arc::new(match &definition.encoder {
            ColumnEncoder::Given(encoder) => ColumnEncoders::alone(Arc::clone(encoder)),
            _ => open_encoders(&self.context, &column).map_err(BatchError::from)?,
        });
        let mut done = 0;
        for (position, view) in views.iter().enumerate() {
            let record = &view.segment.record;
            let texts = segment_texts(view)?;
            let report = |encoded: u64| {
                watch.progress.advance(done + encoded);
                !watch.cancel.is_cancelled()
            };
            let values = encode_texts(&self.context, &encoders, &texts, &report)?;
            let values = values.ok_or(AlterError::Cancelled)?;
            let place = |row: usize| Place {
                input: format!("segment {}", record.id),
                unit: "row",
                number: row as u64 + 1,
            };
            let file = write_embeddings(storage, record.id, &column, record.row_count, &values, &place)?;
            transaction.next.segments[position].columns.push(SegmentColumnRecord { column: column.id, file });
            done += u64::from(record.row_count);
            watch.progress.advance(done);
        }
        Ok(())
    }

    /// Drops a column and, once nobody reads them any more, its files.
    ///
    /// # Errors
    /// There is no such column, or it is the only one.
    pub fn drop_column(&mut self, name: &str) -> Result<CommitSeq, AlterError> {
        let mut transaction = self.begin();
        let columns = &mut transaction.next.store.columns;
        let Some(position) = columns.iter().position(|column| column.name == name) else {
            let known = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(AlterError::UnknownColumn { name: name.to_owned(), known });
        };
        if columns.len() == 1 {
            return Err(AlterError::LastColumn { name: name.to_owned() });
        }
        let dropped = columns.remove(position).id;
        transaction.next.store.curvatures.retain(|curvature| curvature.column != dropped);
        for segment in &mut transaction.next.segments {
            segment.columns.retain(|record| record.column != dropped);
        }
        Ok(self.commit(transaction, "alter")?)
    }
}

/// Texts that an encoder is fitted to: those of the first live rows.
fn first_texts(views: &[SegmentView]) -> Result<Vec<String>, FileError> {
    let mut texts = Vec::new();
    for view in views {
        for row in view.iter_live() {
            if texts.len() == HASHED_FIT_DOCUMENTS_MAX {
                return Ok(texts);
            }
            texts.push(view.segment.rows.text(row)?.to_owned());
        }
    }
    Ok(texts)
}

/// Texts of all rows of a segment; of deleted rows the empty one, which nobody reads.
fn segment_texts(view: &SegmentView) -> Result<Vec<&str>, FileError> {
    (0..view.segment.record.row_count)
        .map(crate::base::RowId)
        .map(|row| if view.deleted.contains(row) { Ok("") } else { view.segment.rows.text(row) })
        .collect()
}
