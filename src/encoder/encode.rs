//! What every encoder is.

use std::fmt::Debug;

use thiserror::Error;

use crate::base::Fingerprint;

/// An encoding that did not work. Nothing was written for the whole call.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// This encoder takes ready vectors only.
    #[error(
        "encoder {encoder} takes ready vectors, not text: name the vector field of the input (--vector FIELD), or query with --vector or --key"
    )]
    NeedsVectors {
        /// Name of the encoder.
        encoder: String,
    },
    /// This encoder estimates term weights from the first ingest and has seen none.
    #[error("encoder {encoder} has no term weights yet: ingest rows first")]
    NotFitted {
        /// Name of the encoder.
        encoder: String,
    },
    /// The output has another length than texts x width.
    #[error("encoder {encoder} was given room for {given} values, but {texts} texts need {needed}")]
    OutputLength {
        /// Name of the encoder.
        encoder: String,
        /// Number of texts.
        texts: usize,
        /// Values that the output holds.
        given: usize,
        /// Values needed.
        needed: usize,
    },
}

/// Turns texts into vectors. The same text gives the same vector, alone or in any batch.
pub trait Encoder: Send + Sync + Debug {
    /// What this encoder is made of: two encoders with the same fingerprint give the same vectors.
    fn fingerprint(&self) -> Fingerprint;

    /// Name for messages and `stats`, such as `hashed:256`.
    fn name(&self) -> String;

    /// Values of one vector, at least 1.
    fn width(&self) -> usize;

    /// Whether [`encode`](Self::encode) works at all; an encoder of ready vectors says no.
    fn takes_text(&self) -> bool;

    /// Writes the vector of `texts[i]` to `out[i * width..(i + 1) * width]`. All values are finite.
    ///
    /// # Errors
    /// The encoder takes no text, or `out` is not `texts.len() * width` long.
    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError>;
}
