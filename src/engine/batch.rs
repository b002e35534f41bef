//! Documents to checked rows: keys, fields, vectors. A batch is refused whole or not at all.

use std::collections::HashMap;

use thiserror::Error;

use super::encoders::{EncoderError, takes_vectors};
use super::options::OnDuplicate;
use super::snapshot::Snapshot;
use super::transaction::{Transaction, TransactionError};
use crate::base::{ColumnId, FieldDeclaration, FieldValue, FieldValueError, FingerprintStream, RowId};
use crate::format::{ColumnKind, ColumnRecord};
use crate::sources::{Document, Place};
use crate::storage::FileError;

/// Hexadecimal digits of a content hash in the key of a row without a key field: 128 bits.
const CONTENT_KEY_DIGITS: usize = 32;

/// A batch that is refused whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A key that is there already.
    #[error(
        "{place}: key {key:?} {reason}; give --on-duplicate skip to leave such rows out, or replace to put them in place of the old ones"
    )]
    DuplicateKey {
        /// Where the second row stood.
        place: Place,
        /// The key.
        key: String,
        /// Where the first one is.
        reason: String,
    },
    /// A declared field with a value of another type.
    #[error("{place}, field {field:?}: {source}; correct the value or leave it out")]
    Field {
        /// Where the row stood.
        place: Place,
        /// The field.
        field: String,
        /// What is wrong.
        source: FieldValueError,
    },
    /// A vector of another width than the column's.
    #[error("{place}: the vector has {found} values, column {column:?} has {expected}")]
    Width {
        /// Where the row stood.
        place: Place,
        /// The column.
        column: String,
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
    /// A value that cannot be stored.
    #[error("{place}: value {index} of the vector for column {column:?} {reason}")]
    Value {
        /// Where the row stood.
        place: Place,
        /// The column.
        column: String,
        /// Position in the vector, from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// A gradient that cannot be stored.
    #[error("{place}: {reason}")]
    Gradient {
        /// Where the row stood.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A row without what its column is made from.
    #[error(
        "{place}: column {column:?} needs a {what}, and this row has none; name the field with --{what} FIELD"
    )]
    Missing {
        /// Where the row stood.
        place: Place,
        /// The column.
        column: String,
        /// `text` or `vector`.
        what: &'static str,
    },
    /// Ready vectors without a column for them, or with several.
    #[error("{reason}")]
    Column {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The encoder refused.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// Threads for encoding cannot be started.
    #[error("cannot start threads: {reason}")]
    Threads {
        /// Why.
        reason: String,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl From<FileError> for BatchError {
    fn from(error: FileError) -> Self {
        Self::Transaction(error.into())
    }
}

/// What became of the documents of a batch.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    /// Documents to add, each with its key.
    pub(super) documents: Vec<Document>,
    /// Which of the batch each of them was, ascending.
    pub(super) kept: Vec<usize>,
    pub(super) skipped: u64,
    pub(super) replaced: u64,
}

/// Gives every document its key, and applies the policy for keys that are there already: in the store, in earlier
/// parts of the transaction, or earlier in the batch. Replaced rows are deleted in the transaction.
pub(super) fn assign_keys(
    transaction: &mut Transaction,
    documents: Vec<Document>,
    policy: OnDuplicate,
) -> Result<Keyed, BatchError> {
    // Each with its number in the batch; `None` where a later one of the batch took its place.
    let mut kept: Vec<Option<(usize, Document)>> = Vec::with_capacity(documents.len());
    let mut positions: HashMap<String, usize> = HashMap::with_capacity(documents.len());
    let mut replaced_rows: Vec<(usize, RowId)> = Vec::new();
    let (mut skipped, mut replaced) = (0, 0);
    for (number, mut document) in documents.into_iter().enumerate() {
        let key = match document.key.take() {
            Some(key) => key,
            None => content_key(transaction, &positions, &document, policy)?,
        };
        let earlier = positions.get(&key).copied();
        let stored = if earlier.is_some() { None } else { transaction.find(&key)? };
        if earlier.is_some() || stored.is_some() {
            match policy {
                OnDuplicate::Error => {
                    let first = earlier.and_then(|at| kept[at].as_ref()).map(|(_, first)| first);
                    return Err(duplicate(&document, key, first));
                }
                OnDuplicate::Skip => {
                    skipped += 1;
                    continue;
                }
                OnDuplicate::Replace => {
                    replaced += 1;
                    replaced_rows.extend(stored);
                    if let Some(at) = earlier {
                        kept[at] = None;
                    }
                }
            }
        }
        positions.insert(key.clone(), kept.len());
        document.key = Some(key);
        kept.push(Some((number, document)));
    }
    for (segment, row) in replaced_rows {
        transaction.delete(segment, row);
    }
    let (kept, documents) = kept.into_iter().flatten().unzip();
    Ok(Keyed { documents, kept, skipped, replaced })
}

fn duplicate(document: &Document, key: String, earlier: Option<&Document>) -> BatchError {
    let reason = match earlier {
        Some(first) => format!("came before, at {}", first.place),
        None => "is in the store already".to_owned(),
    };
    BatchError::DuplicateKey { place: document.place.clone(), key, reason }
}

/// Key of a row without a key field: a hash of its content and a counter.
///
/// Where duplicates are skipped or replaced, equal content is the same row, so that an input can be replayed. Otherwise
/// equal rows are different rows: the first has counter 0, later ones the next number of the whole store (counting
/// occurrences of each content would probe the index once for each of them).
fn content_key(
    transaction: &mut Transaction,
    positions: &HashMap<String, usize>,
    document: &Document,
    policy: OnDuplicate,
) -> Result<String, BatchError> {
    let hash = content_hash(document);
    let mut key = format!("{hash}-0");
    if policy != OnDuplicate::Error {
        return Ok(key);
    }
    while positions.contains_key(&key) || transaction.find(&key)?.is_some() {
        let counter = &mut transaction.next.store.next_counter;
        key = format!("{hash}-{counter}");
        *counter += 1;
    }
    Ok(key)
}

fn content_hash(document: &Document) -> String {
    let mut content = FingerprintStream::new();
    let text = document.text.as_deref().unwrap_or_default();
    content.update(&(text.len() as u64).to_le_bytes());
    content.update(text.as_bytes());
    for value in document.vector.iter().flatten() {
        content.update(&value.to_le_bytes());
    }
    content.update(serde_json::to_string(&document.metadata).unwrap_or_default().as_bytes());
    content.value().to_string().chars().take(CONTENT_KEY_DIGITS).collect()
}

/// Takes out the documents whose key the store has already, before they cost an encoding. Returns how many, and the key of
/// the last document if it was one of them.
///
/// Only where duplicates are skipped: an ingest then deletes nothing, so that a row which is there now is there at the
/// commit. Keys that come twice in the input are found when the rows are written.
pub(super) fn drop_known(
    snapshot: &Snapshot,
    documents: &mut Vec<Document>,
) -> Result<(u64, Option<String>), BatchError> {
    let before = documents.len();
    let mut last_known = None;
    let mut failure = None;
    documents.retain_mut(|document| {
        let key = document.key.take().unwrap_or_else(|| format!("{}-0", content_hash(document)));
        last_known = None;
        match snapshot.find(document.key.insert(key)) {
            Ok(None) => return true,
            Ok(Some(_)) => last_known = document.key.take(),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
        false
    });
    match failure {
        None => Ok(((before - documents.len()) as u64, last_known)),
        Some(error) => Err(error.into()),
    }
}

/// The column that takes ready vectors: the one named, or the only one of its kind. Where vectors have come
/// (`is_needed`), there must be one.
pub(super) fn vectors_column(
    columns: &[ColumnRecord],
    named: Option<&str>,
    is_needed: bool,
) -> Result<Option<ColumnId>, BatchError> {
    const ADD: &str = "add one with \"ascribe alter STORE --add-column NAME=vectors:DIM\"";
    let takes: Vec<&ColumnRecord> = columns
        .iter()
        .filter(|column| matches!(&column.kind, ColumnKind::Embedding(record) if takes_vectors(record)))
        .collect();
    let names = || takes.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let reason = match (named, takes.as_slice()) {
        (Some(name), _) => match takes.iter().find(|column| column.name == name) {
            Some(column) => return Ok(Some(column.id)),
            None if takes.is_empty() => {
                format!("column {name:?} does not take ready vectors, nor does any other: {ADD}")
            }
            None => format!("column {name:?} does not take ready vectors; these do: {}", names()),
        },
        (None, [only]) => return Ok(Some(only.id)),
        (None, _) if !is_needed => return Ok(None),
        (None, []) => format!("no column takes ready vectors: {ADD}"),
        (None, _) => format!("several columns take ready vectors ({}): name one with --column", names()),
    };
    Err(BatchError::Column { reason })
}

/// Declared fields of a row, taken out of its metadata, in the order of `declared`.
///
/// `is_typed` is false for inputs whose values are all text (CSV).
pub(super) fn take_fields(
    document: &mut Document,
    declared: &[FieldDeclaration],
    is_typed: bool,
) -> Result<Vec<Option<FieldValue>>, BatchError> {
    let mut values = Vec::with_capacity(declared.len());
    for field in declared {
        let value = match document.metadata.shift_remove(&field.name) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) if !is_typed => FieldValue::from_text(field.kind, &text),
            Some(value) => FieldValue::from_json(field.kind, &value),
        };
        values.push(value.map_err(|source| BatchError::Field {
            place: document.place.clone(),
            field: field.name.clone(),
            source,
        })?);
    }
    Ok(values)
}
