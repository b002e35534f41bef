//! The gradients of a classification head as a column, and its head kept beside it.

use std::sync::Arc;

use super::gradient_error::GradientError;
use super::options::Watch;
use super::query_error::QueryError;
use super::score::read_vector;
use super::sketch_column::{SketchColumn, SketchColumnError};
use super::snapshot::Snapshot;
use super::store::{Store, column_record};
use crate::base::{ColumnId, CommitSeq, Fingerprint};
use crate::encoder::{GradientRow, QueryGradient, load_query_gradient};
use crate::format::{ColumnKind, ColumnRecord, HeadRecord};
use crate::sketch::GradientSource;
use crate::storage::{SealedFile, open_encoder_file, read_encoder_state, write_encoder_file};

/// Gradients of a classification head for rows of the store, and the head.
pub struct HeadColumn<'a> {
    /// Name of the sketch column; one that a head filled before gives way to it.
    pub name: &'a str,
    /// The embedding column that the head classifies.
    pub embedding: &'a str,
    /// The field with the labels.
    pub label: &'a str,
    /// The heads of all members, as bytes.
    pub head: &'a [u8],
    /// Keys of the rows, in the order of the gradients.
    pub keys: &'a [String],
    /// Their gradients.
    pub gradients: &'a dyn GradientSource,
}

impl std::fmt::Debug for HeadColumn<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HeadColumn({}, {} rows)", self.name, self.keys.len())
    }
}

/// Key, embedding and label of a row; `None` for one without a label.
pub type LabelledRow = (String, Vec<f32>, Option<String>);

/// A text or an embedding, and the label that it is asked about with.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelledText {
    /// A text, which the embedding column's encoder encodes.
    Text {
        /// The text.
        text: String,
        /// The label.
        label: String,
    },
    /// An embedding.
    Vector {
        /// Its values.
        vector: Vec<f32>,
        /// The label.
        label: String,
    },
}

impl From<SketchColumnError> for GradientError {
    fn from(error: SketchColumnError) -> Self {
        match error {
            SketchColumnError::Sketch(error) => Self::mismatch(error.to_string()),
            SketchColumnError::Batch(error) => Self::mismatch(error.to_string()),
            SketchColumnError::File(error) => error.into(),
            SketchColumnError::Cancelled => Self::Cancelled,
        }
    }
}

impl Store {
    /// Adds the gradients of a classification head as a sketch column, with the head beside it, in one commit. Rows of the
    /// segments that have no gradient among those given get one of zeros.
    ///
    /// # Errors
    /// See [`GradientError`]. Nothing of a failed one is visible.
    ///
    /// # Complexity
    /// O(rows x values); memory for some MiB of gradients.
    pub fn add_head_column(
        &mut self,
        head: &HeadColumn<'_>,
        watch: Watch<'_>,
    ) -> Result<CommitSeq, GradientError> {
        let added = self.write_head_column(head, watch);
        if added.is_err() {
            self.ledger.discard_uncommitted();
        }
        added
    }

    fn write_head_column(
        &mut self,
        head: &HeadColumn<'_>,
        watch: Watch<'_>,
    ) -> Result<CommitSeq, GradientError> {
        let mut transaction = self.begin();
        let columns = &mut transaction.next.store.columns;
        let embedding = columns.iter().find(|column| column.name == head.embedding).map(|column| column.id);
        let embedding = embedding.ok_or_else(|| GradientError::Column {
            reason: format!("there is no embedding column {:?}", head.embedding),
        })?;
        if let Some(position) = columns.iter().position(|column| column.name == head.name && has_head(column))
        {
            let dropped = columns.remove(position).id;
            transaction.next.store.curvatures.retain(|curvature| curvature.column != dropped);
            for segment in &mut transaction.next.segments {
                segment.columns.retain(|record| record.column != dropped);
            }
        }
        let id = transaction.next.store.next_column;
        let schema = head.gradients.schema();
        let mut column = column_record(&transaction.next.store.columns, id, head.name, schema)
            .map_err(|error| GradientError::Column { reason: error.to_string() })?;
        transaction.next.store.next_column = ColumnId(id.0 + 1);
        let context = Arc::clone(&self.context);
        let storage = context.storage.as_ref();
        if let ColumnKind::Sketch { fingerprint, head: kept, .. } = &mut column.kind {
            let file = write_encoder_file(storage, id, fingerprint, head.head)?;
            *kept = Some(HeadRecord { embedding, label: head.label.to_owned(), file });
        }
        transaction.next.store.columns.push(column.clone());

        let segments = transaction.base.inner.segments.clone();
        let mut sources: Vec<Vec<Option<usize>>> = vec![Vec::new(); segments.len()];
        for (number, key) in head.keys.iter().enumerate() {
            // A row that was deleted while the head was trained needs no gradient any more.
            let Some((position, row)) = transaction.base.find(key)? else { continue };
            let slots = &mut sources[position];
            slots.resize(segments[position].segment.record.row_count as usize, None);
            slots[row.0 as usize] = Some(number);
        }
        let gradients = SketchColumn { storage, sketches: head.gradients, column, watch };
        for (position, slots) in sources.iter().enumerate().filter(|(_, slots)| !slots.is_empty()) {
            let record = gradients.write(segments[position].segment.record.id, slots)?;
            let id = segments[position].segment.record.id;
            let next = transaction.next.segments.iter_mut().find(|segment| segment.id == id);
            if let Some(next) = next {
                next.columns.push(record);
                next.columns.sort_by_key(|record| record.column);
            }
        }
        Ok(self.commit(transaction, "train-head")?)
    }
}

fn has_head(column: &ColumnRecord) -> bool {
    matches!(&column.kind, ColumnKind::Sketch { head: Some(_), .. })
}

impl Snapshot {
    /// Gradients of texts with labels, by the head that a sketch column was made with.
    ///
    /// # Errors
    /// The column was imported and has no head, a label is no class, or a text cannot be encoded.
    pub fn label_gradients(
        &self,
        column: Option<&str>,
        texts: &[LabelledText],
    ) -> Result<Vec<GradientRow>, GradientError> {
        let rows = self.gradient_rows(column)?;
        let ColumnKind::Sketch { fingerprint, head: Some(head), .. } = &rows.column.kind else {
            return Err(GradientError::mismatch(format!(
                "the gradients of column {:?} were imported, so that there is no head to make one of a text and a label: ask with --sketch FILE or --key, or make a column with \"ascribe train-head\"",
                rows.column.name
            )));
        };
        let model = self.head_model(rows.column.id, fingerprint, head)?;
        let columns = &self.inner.state.store.columns;
        let embedding = columns.iter().find(|column| column.id == head.embedding).ok_or_else(|| {
            GradientError::Column { reason: "the embedding column of the head was dropped".to_owned() }
        })?;
        let mut gradients = Vec::with_capacity(texts.len());
        for asked in texts {
            let mut encoded = vec![0.0; embedding.width as usize];
            let (vector, label) = match asked {
                LabelledText::Text { text, label } => {
                    let encoder = self.encoder(embedding).map_err(QueryError::from)?;
                    let encode = encoder.encode(&[text.as_str()], &mut encoded);
                    encode.map_err(super::encoders::EncoderError::from).map_err(QueryError::from)?;
                    (&encoded, label)
                }
                LabelledText::Vector { vector, label } => (vector, label),
            };
            let gradient = model.gradient(vector, label);
            gradients.push(gradient.map_err(|error| GradientError::mismatch(error.to_string()))?);
        }
        Ok(gradients)
    }

    /// The field that holds the labels of the head of a sketch column; `None` if it was imported.
    ///
    /// # Errors
    /// There is no such column.
    pub fn head_label(&self, column: Option<&str>) -> Result<Option<String>, GradientError> {
        let rows = self.gradient_rows(column)?;
        Ok(match &rows.column.kind {
            ColumnKind::Sketch { head: Some(head), .. } => Some(head.label.clone()),
            _ => None,
        })
    }

    /// Keys, embeddings and labels of the live rows that have an embedding column, in the order of ingest; the label is the
    /// value of a field as text, `None` where a row has none.
    ///
    /// # Errors
    /// There is no such column, or bytes are damaged.
    pub fn labelled_rows(&self, column: Option<&str>, label: &str) -> Result<Vec<LabelledRow>, QueryError> {
        let column = self.scored_column(column)?;
        let mut rows = Vec::new();
        for (view, file) in self.files_in_order(column) {
            for row in view.iter_live() {
                let segment = &view.segment;
                let value = segment.row_metadata(self.fields(), row)?.get(label).cloned();
                let label = value.and_then(|value| match value {
                    serde_json::Value::Null => None,
                    serde_json::Value::String(text) => Some(text),
                    other => Some(other.to_string()),
                });
                rows.push((segment.rows.key(row)?.to_owned(), read_vector(file, row)?, label));
            }
        }
        Ok(rows)
    }

    /// Name of the embedding column that is asked unless another is named.
    ///
    /// # Errors
    /// There is no such column.
    pub fn embedding_name(&self, column: Option<&str>) -> Result<&str, QueryError> {
        Ok(&self.scored_column(column)?.name)
    }

    pub(super) fn head_model(
        &self,
        column: ColumnId,
        fingerprint: &Fingerprint,
        head: &HeadRecord,
    ) -> Result<Arc<dyn QueryGradient>, GradientError> {
        let storage = self.inner.context.storage.as_ref();
        let file: SealedFile = open_encoder_file(storage, column, fingerprint, head.file)?;
        load_query_gradient(read_encoder_state(&file)?)
            .map_err(|error| GradientError::mismatch(error.to_string()))
    }
}
