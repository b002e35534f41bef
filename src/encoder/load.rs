//! Encoders that are made of files: from the directory of a model, or from the state that a store keeps.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::gradient::{QueryGradient, QueryGradientError};
use super::{Device, DeviceError, Encoder};

/// An encoder that cannot be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A learned encoder, in a build without them.
    #[error(
        "{what} needs a build with learned encoders, and this one has none: build with --features bert, or use hashed \
         or hashed:DIM for text"
    )]
    NotBuilt {
        /// What was asked for: a directory, or the encoder of a column.
        what: String,
    },
    /// The state of an encoder that this version does not know.
    #[error(
        "there is no encoder {specification:?} in this version: a newer one wrote it, or its record is damaged"
    )]
    Unknown {
        /// The encoder's recorded name.
        specification: String,
    },
    /// A device that is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The files or the state of a learned encoder are damaged, or of a kind that is not supported.
    #[cfg(feature = "bert")]
    #[error(transparent)]
    Bert(Box<super::BertError>),
}

#[cfg(feature = "bert")]
impl From<super::BertError> for LoadError {
    fn from(error: super::BertError) -> Self {
        Self::Bert(Box::new(error))
    }
}

/// How the recorded name of a BERT encoder begins; the width follows.
const BERT_PREFIX: &str = "bert:";

/// Whether an encoder of this recorded name can compute on other devices than the processor.
pub fn uses_devices(specification: &str) -> bool {
    specification.starts_with(BERT_PREFIX)
}

/// Checks that this build can compute on `device`. Whether the machine has it shows when an encoder is loaded.
///
/// # Errors
/// A GPU, in a build without CUDA.
///
/// ```
/// use ascribe::encoder::{Device, check_device};
/// assert_eq!(check_device(Device::Cpu), Ok(()));
/// assert_eq!(check_device(Device::Cuda(0)).is_ok(), cfg!(feature = "cuda"));
/// ```
pub fn check_device(device: Device) -> Result<(), DeviceError> {
    match device {
        Device::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt { device }),
        Device::Cpu | Device::Cuda(_) => Ok(()),
    }
}

/// The encoder in a directory, on the processor.
///
/// # Errors
/// Files are missing or damaged, the model is of another kind, or this build has no learned encoders.
pub fn load_directory(path: &Path) -> Result<Arc<dyn Encoder>, LoadError> {
    #[cfg(feature = "bert")]
    return Ok(Arc::new(super::BertEncoder::from_directory(path)?));
    #[cfg(not(feature = "bert"))]
    Err(LoadError::NotBuilt { what: format!("the encoder directory {}", path.display()) })
}

/// The encoder of this recorded name, from the joined pieces of its [state](Encoder::state), on `device`.
///
/// # Errors
/// The state is damaged, the device cannot be used, or this build does not know the encoder.
pub fn load_state(specification: &str, state: Bytes, device: Device) -> Result<Arc<dyn Encoder>, LoadError> {
    check_device(device)?;
    if !specification.starts_with(BERT_PREFIX) {
        return Err(LoadError::Unknown { specification: specification.to_owned() });
    }
    #[cfg(feature = "bert")]
    return Ok(Arc::new(super::BertEncoder::from_state(state, device)?));
    #[cfg(not(feature = "bert"))]
    {
        drop(state);
        Err(LoadError::NotBuilt { what: format!("encoder {specification}") })
    }
}

/// The model that a store keeps beside a sketch column, from its bytes.
///
/// # Errors
/// The bytes are damaged, or this build has no such models.
pub fn load_query_gradient(bytes: &[u8]) -> Result<Arc<dyn QueryGradient>, QueryGradientError> {
    #[cfg(feature = "bert")]
    {
        let heads = super::HeadSet::from_bytes(bytes)
            .map_err(|error| QueryGradientError::Head { reason: format!("cannot be read: {error}") })?;
        Ok(Arc::new(heads))
    }
    #[cfg(not(feature = "bert"))]
    {
        let reason = format!("of {} bytes needs a build with --features bert", bytes.len());
        Err(QueryGradientError::Head { reason })
    }
}
