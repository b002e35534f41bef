//! The encoder of each column: built in, given by the program, or fitted at the first rows.

use std::sync::Arc;

use thiserror::Error;

use super::context::Context;
use super::options::ColumnEncoder;
use crate::encoder::{
    Device, EncodeError, Encoder, EncoderSpecification, HashedEncoder, LoadError, VectorsEncoder,
    load_directory, load_state, uses_devices,
};
use crate::format::{ColumnKind, ColumnRecord, EncoderRecord};
use crate::storage::{
    FileError, SealedFile, Storage, encoder_state_section, open_encoder_file, read_encoder_state,
    write_encoder_pieces,
};

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
    /// The encoder cannot be made from its state.
    #[error("the encoder of column {column:?} cannot be loaded: {source}")]
    Load {
        /// The column.
        column: String,
        /// Why.
        source: LoadError,
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

/// The encoder of a column to be, where there is one already: given by the program, or loaded from a directory.
pub(super) fn ready_encoder(encoder: &ColumnEncoder) -> Result<Option<Arc<dyn Encoder>>, LoadError> {
    match encoder {
        ColumnEncoder::Given(encoder) => Ok(Some(Arc::clone(encoder))),
        ColumnEncoder::BuiltIn(EncoderSpecification::Directory { path }) => load_directory(path).map(Some),
        ColumnEncoder::BuiltIn(EncoderSpecification::Vectors { width }) => {
            Ok(Some(Arc::new(VectorsEncoder::new(*width))))
        }
        ColumnEncoder::BuiltIn(EncoderSpecification::Hashed { .. }) | ColumnEncoder::Sketch(_) => Ok(None),
    }
}

/// The record of a new column's encoder, and the width of its vectors. `ready` is its encoder, unless it is fitted later.
pub(super) fn new_record(encoder: &ColumnEncoder, ready: Option<&dyn Encoder>) -> (EncoderRecord, usize) {
    let (specification, fingerprint, width) = match (encoder, ready) {
        (_, Some(ready)) => (ready.name(), Some(ready.fingerprint()), ready.width()),
        (ColumnEncoder::BuiltIn(specification @ EncoderSpecification::Hashed { width }), None) => {
            (specification.to_string(), None, *width)
        }
        // Only what is fitted later is not ready.
        _ => (String::new(), None, 0),
    };
    (EncoderRecord { specification, fingerprint, state: None }, width)
}

/// Copies the state of a new column's encoder into the store, if it has one: the store then opens it by itself.
pub(super) fn keep_state(
    storage: &dyn Storage,
    column: &mut ColumnRecord,
    encoder: &dyn Encoder,
) -> Result<(), FileError> {
    if let (Some(pieces), ColumnKind::Embedding(record)) = (encoder.state(), &mut column.kind) {
        record.state = Some(write_encoder_pieces(storage, column.id, &encoder.fingerprint(), &pieces)?);
    }
    Ok(())
}

/// Whether the column's encoder must still be fitted to the first rows.
pub(super) fn needs_fit(record: &EncoderRecord) -> bool {
    record.fingerprint.is_none()
}

/// Whether the column takes ready vectors instead of text.
pub(super) fn takes_vectors(record: &EncoderRecord) -> bool {
    matches!(EncoderSpecification::parse(&record.specification), Ok(EncoderSpecification::Vectors { .. }))
}

/// The encoders of a column, one for each device that it computes on; all give the same vectors, up to rounding.
#[derive(Debug)]
pub(super) struct ColumnEncoders {
    first: Arc<dyn Encoder>,
    others: Vec<(Device, Arc<dyn Encoder>)>,
    first_device: Device,
}

impl ColumnEncoders {
    /// Makes the encoder of each device with `make`: of the store's devices if the column's encoder knows them, otherwise
    /// of the processor alone.
    pub(super) fn make<E>(
        context: &Context,
        column: &ColumnRecord,
        make: impl Fn(Device) -> Result<Arc<dyn Encoder>, E>,
    ) -> Result<Self, E> {
        let devices: &[Device] = if computes_on_devices(context, column) { &context.devices } else { &[] };
        let first_device = devices.first().copied().unwrap_or_default();
        let others =
            devices.iter().skip(1).map(|device| Ok((*device, make(*device)?))).collect::<Result<_, E>>()?;
        Ok(Self { first: make(first_device)?, others, first_device })
    }

    /// An encoder of the program, on the processor.
    pub(super) fn alone(encoder: Arc<dyn Encoder>) -> Self {
        Self { first: encoder, others: Vec::new(), first_device: Device::Cpu }
    }

    /// Any of them, for what is the same on all devices.
    pub(super) fn first(&self) -> &dyn Encoder {
        self.first.as_ref()
    }

    /// The one that computes on `device`.
    pub(super) fn on(&self, device: Device) -> Option<&dyn Encoder> {
        if device == self.first_device {
            return Some(self.first());
        }
        self.others.iter().find(|(other, _)| *other == device).map(|(_, encoder)| encoder.as_ref())
    }

    pub(super) fn width(&self) -> usize {
        self.first.width()
    }

    pub(super) fn name(&self) -> String {
        self.first.name()
    }
}

/// Whether the encoder of a column can compute on other devices than the processor.
pub(super) fn computes_on_devices(context: &Context, column: &ColumnRecord) -> bool {
    let is_given = context.given.iter().any(|(name, _)| *name == column.name);
    match &column.kind {
        ColumnKind::Embedding(record) => !is_given && uses_devices(&record.specification),
        ColumnKind::Sketch { .. } => false,
    }
}

/// The state file of a column's encoder, if it has one.
pub(super) fn open_state(
    context: &Context,
    column: &ColumnRecord,
) -> Result<Option<Arc<SealedFile>>, FileError> {
    let ColumnKind::Embedding(record) = &column.kind else { return Ok(None) };
    let (Some(fingerprint), Some(state)) = (record.fingerprint, record.state) else { return Ok(None) };
    open_encoder_file(context.storage.as_ref(), column.id, &fingerprint, state).map(Arc::new).map(Some)
}

/// Makes the encoder of a column whose fingerprint is fixed, from its state file if it has one.
pub(super) fn make_encoder(
    context: &Context,
    column: &ColumnRecord,
    state: Option<&Arc<SealedFile>>,
    device: Device,
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
    let encoder: Arc<dyn Encoder> = match (EncoderSpecification::parse(&record.specification), state) {
        (Ok(EncoderSpecification::Vectors { width }), _) => Arc::new(VectorsEncoder::new(width)),
        (Ok(EncoderSpecification::Hashed { .. }), None) => {
            return Err(EncodeError::NotFitted { encoder: record.specification.clone() }.into());
        }
        (Ok(EncoderSpecification::Hashed { .. }), Some(state)) => {
            let bytes = read_encoder_state(state)?;
            Arc::new(HashedEncoder::from_bytes(bytes).map_err(|error| unreadable(error.to_string()))?)
        }
        (_, Some(state)) => {
            let bytes = state.share(encoder_state_section(state)?)?;
            load_state(&record.specification, bytes, device)
                .map_err(|source| EncoderError::Load { column: column.name.clone(), source })?
        }
        (_, None) => return Err(EncoderError::NotGiven { column: column.name.clone(), expected }),
    };
    if record.fingerprint != Some(encoder.fingerprint()) || encoder.width() != column.width as usize {
        let found = title(&encoder.name(), Some(&encoder.fingerprint()));
        return Err(EncoderError::Mismatch { column: column.name.clone(), expected, found });
    }
    Ok(encoder)
}

/// Opens state file and encoders of a column at once: for work on columns that no snapshot has yet.
pub(super) fn open_encoders(
    context: &Context,
    column: &ColumnRecord,
) -> Result<ColumnEncoders, EncoderError> {
    let state = open_state(context, column)?;
    ColumnEncoders::make(context, column, |device| make_encoder(context, column, state.as_ref(), device))
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
