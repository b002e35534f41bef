//! Documents to checked rows: keys, fields, vectors. A batch is refused whole or not at all.

use std::collections::HashMap;

use thiserror::Error;

use super::encoders::EncoderError;
use super::options::OnDuplicate;
use super::transaction::{Transaction, TransactionError};
use crate::base::{FieldDeclaration, FieldValue, FieldValueError, FingerprintStream, RowId};
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
    let mut kept: Vec<Option<Document>> = Vec::with_capacity(documents.len());
    let mut positions: HashMap<String, usize> = HashMap::with_capacity(documents.len());
    let mut replaced_rows: Vec<(usize, RowId)> = Vec::new();
    let (mut skipped, mut replaced) = (0, 0);
    for mut document in documents {
        let key = match document.key.take() {
            Some(key) => key,
            None => content_key(transaction, &positions, &document, policy)?,
        };
        let earlier = positions.get(&key).copied();
        let stored = if earlier.is_some() { None } else { transaction.find(&key)? };
        if earlier.is_some() || stored.is_some() {
            match policy {
                OnDuplicate::Error => {
                    return Err(duplicate(&document, key, earlier.and_then(|at| kept[at].as_ref())));
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
        kept.push(Some(document));
    }
    for (segment, row) in replaced_rows {
        transaction.delete(segment, row);
    }
    Ok(Keyed { documents: kept.into_iter().flatten().collect(), skipped, replaced })
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
    let mut content = FingerprintStream::new();
    let text = document.text.as_deref().unwrap_or_default();
    content.update(&(text.len() as u64).to_le_bytes());
    content.update(text.as_bytes());
    for value in document.vector.iter().flatten() {
        content.update(&value.to_le_bytes());
    }
    content.update(serde_json::to_string(&document.metadata).unwrap_or_default().as_bytes());
    let hash: String = content.value().to_string().chars().take(CONTENT_KEY_DIGITS).collect();
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
