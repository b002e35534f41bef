//! The encoder of each column: built in, given by the program, or fitted at the first rows.

use std::sync::{Arc, OnceLock};

use thiserror::Error;

use super::context::Context;
use super::options::ColumnEncoder;
use crate::encoder::{EncodeError, Encoder, EncoderSpecification, HashedEncoder, VectorsEncoder};
use crate::format::{ColumnKind, ColumnRecord, EncoderRecord};
use crate::storage::{EncoderFile, FileError};

/// An encoder that a column cannot use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// Another encoder than the column was built with.
    #[error(
        "column {column:?} was built with encoder {expected}, but encoder {found} was given: scores of two encoders cannot be mixed; give the column's own encoder, or add a column for the new one"
    )]
    Mismatch {
        /// The column.
        column: String,
        /// Name and fingerprint of the column's encoder.
        expected: String,
        /// Name and fingerprint of the encoder given.
        found: String,
    },
    /// An encoder was given for a column that does not exist or holds no embeddings.
    #[error("an encoder was given for column {column:?}, but the embedding columns are {known}")]
    UnknownColumn {
        /// The name given.
        column: String,
        /// Embedding columns of the store.
        known: String,
    },
    /// The column's encoder belongs to the program, which did not give it.
    #[error(
        "column {column:?} was built with the program's own encoder {expected}: open the store with that encoder"
    )]
    NotGiven {
        /// The column.
        column: String,
        /// Name and fingerprint of the column's encoder.
        expected: String,
    },
    /// The state of a built-in encoder is damaged.
    #[error("the encoder of column {column:?} cannot be read: {reason}; run \"ascribe verify\"")]
    State {
        /// The column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// The file of the encoder's state cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The encoder refused.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Name and short fingerprint of an encoder, for messages.
fn title(name: &str, fingerprint: Option<&crate::base::Fingerprint>) -> String {
    fingerprint.map_or_else(|| name.to_owned(), |fingerprint| format!("{name} ({})", fingerprint.short()))
}

/// The record of a new column's encoder, and the width of its vectors.
pub(super) fn new_record(encoder: &ColumnEncoder) -> (EncoderRecord, usize) {
    let (specification, fingerprint, width) = match encoder {
        ColumnEncoder::BuiltIn(specification @ EncoderSpecification::Vectors { width }) => {
            (specification.to_string(), Some(VectorsEncoder::new(*width).fingerprint()), *width)
        }
        ColumnEncoder::BuiltIn(specification) => (specification.to_string(), None, specification.width()),
        ColumnEncoder::Given(encoder) => (encoder.name(), Some(encoder.fingerprint()), encoder.width()),
    };
    (EncoderRecord { specification, fingerprint, state: None }, width)
}

/// Whether the column's encoder must still be fitted to the first rows.
pub(super) fn needs_fit(record: &EncoderRecord) -> bool {
    record.fingerprint.is_none()
}

/// Whether the column takes ready vectors instead of text.
pub(super) fn takes_vectors(record: &EncoderRecord) -> bool {
    matches!(EncoderSpecification::parse(&record.specification), Ok(EncoderSpecification::Vectors { .. }))
}

/// Opens the file of a column's encoder; `None` if it has none (yet).
pub(super) fn open_encoder_file(
    context: &Context,
    column: &ColumnRecord,
) -> Result<Option<EncoderFile>, FileError> {
    let ColumnKind::Embedding(record) = &column.kind else { return Ok(None) };
    let (Some(fingerprint), Some(state)) = (record.fingerprint, record.state) else { return Ok(None) };
    EncoderFile::open(context.storage.as_ref(), column.id, &fingerprint, state).map(Some)
}

/// Opens the encoder of a column whose fingerprint is fixed.
pub(super) fn open_encoder(
    context: &Context,
    column: &ColumnRecord,
) -> Result<Arc<dyn Encoder>, EncoderError> {
    encoder_of(context, column, open_encoder_file(context, column)?.as_ref())
}

/// The encoder of a column whose fingerprint is fixed, and whose file is open.
fn encoder_of(
    context: &Context,
    column: &ColumnRecord,
    file: Option<&EncoderFile>,
) -> Result<Arc<dyn Encoder>, EncoderError> {
    let unreadable = |reason: String| EncoderError::State { column: column.name.clone(), reason };
    let ColumnKind::Embedding(record) = &column.kind else {
        return Err(unreadable("it is a sketch column".to_owned()));
    };
    let expected = title(&record.specification, record.fingerprint.as_ref());
    if let Some((_, given)) = context.given.iter().find(|(name, _)| *name == column.name) {
        check_given(column, record, given.as_ref())?;
        return Ok(Arc::clone(given));
    }
    let encoder: Arc<dyn Encoder> = match EncoderSpecification::parse(&record.specification) {
        Ok(EncoderSpecification::Vectors { width }) => Arc::new(VectorsEncoder::new(width)),
        Ok(EncoderSpecification::Hashed { .. }) => {
            let Some(file) = file else {
                return Err(EncodeError::NotFitted { encoder: record.specification.clone() }.into());
            };
            let bytes = file.state()?;
            Arc::new(HashedEncoder::from_bytes(bytes).map_err(|error| unreadable(error.to_string()))?)
        }
        Err(_) => return Err(EncoderError::NotGiven { column: column.name.clone(), expected }),
    };
    if record.fingerprint != Some(encoder.fingerprint()) || encoder.width() != column.width as usize {
        let found = title(&encoder.name(), Some(&encoder.fingerprint()));
        return Err(EncoderError::Mismatch { column: column.name.clone(), expected, found });
    }
    Ok(encoder)
}

/// The encoder of one column, for all snapshots in which the column is the same.
#[derive(Debug)]
pub(super) struct EncoderSlot {
    column: ColumnRecord,
    /// Open from the start, so that the encoder can be made whatever becomes of the column.
    file: Option<EncoderFile>,
    encoder: OnceLock<Arc<dyn Encoder>>,
}

impl EncoderSlot {
    pub(super) fn open(context: &Context, column: &ColumnRecord) -> Result<Self, FileError> {
        let file = open_encoder_file(context, column)?;
        Ok(Self { column: column.clone(), file, encoder: OnceLock::new() })
    }

    pub(super) fn column(&self) -> &ColumnRecord {
        &self.column
    }

    /// The encoder, made at the first call.
    pub(super) fn encoder(&self, context: &Context) -> Result<Arc<dyn Encoder>, EncoderError> {
        if let Some(made) = self.encoder.get() {
            return Ok(Arc::clone(made));
        }
        let encoder = encoder_of(context, &self.column, self.file.as_ref())?;
        Ok(Arc::clone(self.encoder.get_or_init(|| encoder)))
    }
}

/// Checks every encoder that the program gave against the columns it gave them for.
pub(super) fn check_all_given(context: &Context, columns: &[ColumnRecord]) -> Result<(), EncoderError> {
    for (name, given) in &context.given {
        let found = columns.iter().find_map(|column| match &column.kind {
            ColumnKind::Embedding(record) if column.name == *name => Some((column, record)),
            _ => None,
        });
        let (column, record) = found.ok_or_else(|| EncoderError::UnknownColumn {
            column: name.clone(),
            known: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        check_given(column, record, given.as_ref())?;
    }
    Ok(())
}

fn check_given(
    column: &ColumnRecord,
    record: &EncoderRecord,
    given: &dyn Encoder,
) -> Result<(), EncoderError> {
    if record.fingerprint == Some(given.fingerprint()) && column.width as usize == given.width() {
        return Ok(());
    }
    Err(EncoderError::Mismatch {
        column: column.name.clone(),
        expected: title(&record.specification, record.fingerprint.as_ref()),
        found: title(&given.name(), Some(&given.fingerprint())),
    })
}
