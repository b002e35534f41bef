//! What is wrong with an encoder directory or state.

use thiserror::Error;

use super::super::DeviceError;

/// A learned encoder that cannot be opened. `file` is the path of a file, or the part of a stored state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BertError {
    /// A file of the directory cannot be read.
    #[error(
        "cannot read {file}: {reason}; an encoder directory holds config.json, tokenizer.json and model.safetensors"
    )]
    File {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A JSON file that is none, or lacks a field, or has one of another type.
    #[error("{file}: {reason}; fetch the model again")]
    Json {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A model that computes something else than this encoder.
    #[error("{file}: {field} is {found}, but this encoder knows {accepted} only; choose another model")]
    Unsupported {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A number that no model has.
    #[error("{file}: {field} is {found}, but must be {accepted}")]
    Number {
        /// The file.
        file: String,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The range, or the rule.
        accepted: String,
    },
    /// A safetensors file that is none, is cut off or added to.
    #[error("{file} is no whole safetensors file: {reason}; fetch it again")]
    TensorFile {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that the configuration calls for is not there.
    #[error(
        "{file} has no tensor {tensor:?}, which the configuration calls for: fetch the whole model again"
    )]
    TensorMissing {
        /// The file.
        file: String,
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor of another shape than the configuration says.
    #[error(
        "{file}, tensor {tensor:?}: shape {found:?}, expected {expected:?}; configuration and weights belong to different models"
    )]
    TensorShape {
        /// The file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
    },
    /// A tensor of values that are not floating-point numbers of 16 or 32 bits.
    #[error(
        "{file}, tensor {tensor:?}: type {found}, expected F32, F16 or BF16; save the model in one of them"
    )]
    TensorType {
        /// The file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A tensor with a value that is NaN or infinite.
    #[error("{file}, tensor {tensor:?}: value {index} is not finite; the training of this model failed")]
    TensorNotFinite {
        /// The file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Position of the value, from 0.
        index: usize,
    },
    /// A tokenizer that cannot be used.
    #[error("{file}: {reason}; use the tokenizer.json that was published with the model")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes that are no state of such an encoder.
    #[error("the stored encoder is damaged: {reason}; run \"ascribe verify\"")]
    State {
        /// What is wrong.
        reason: String,
    },
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The arithmetic failed while the model was built.
    #[error("the encoder cannot be built: {reason}")]
    Arithmetic {
        /// Why.
        reason: String,
    },
}
