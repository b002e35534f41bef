//! What every encoder is.

use std::fmt::Debug;

use bytes::Bytes;
use thiserror::Error;

use super::PreparedText;
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
    /// A text that was made ready by an encoder of another kind.
    #[error("encoder {encoder} was given a text that another encoder made ready")]
    PreparedElsewhere {
        /// Name of the encoder.
        encoder: String,
    },
    /// The arithmetic did not work: a device ran out of memory or was lost, or the values are not finite.
    #[error("encoder {encoder} failed: {reason}")]
    Failed {
        /// Name of the encoder.
        encoder: String,
        /// Why.
        reason: String,
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

    /// The bytes from which a store opens this encoder again by itself, in pieces to be joined; `None` of an encoder that
    /// belongs to the program. Cheap: mapped bytes are not copied.
    fn state(&self) -> Option<Vec<Bytes>> {
        None
    }

    /// Makes a text ready: the half of encoding that handles text, which another thread can do for the next batch while
    /// this one computes. An encoder that has no such half keeps the text.
    ///
    /// # Errors
    /// The encoder takes no text.
    fn prepare(&self, text: &str) -> Result<PreparedText, EncodeError> {
        Ok(PreparedText::text(text))
    }

    /// Writes the vector of `texts[i]`, made ready by this encoder or by one of the same fingerprint, to
    /// `out[i * width..(i + 1) * width]`. All values are finite. May use the threads of the pool it is called in.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); a text was made ready by an encoder of another kind; a device failed.
    fn encode_prepared(&self, texts: &[PreparedText], out: &mut [f32]) -> Result<(), EncodeError> {
        let plain: Option<Vec<&str>> = texts.iter().map(PreparedText::as_text).collect();
        match plain {
            Some(texts) => self.encode(&texts, out),
            None => Err(EncodeError::PreparedElsewhere { encoder: self.name() }),
        }
    }

    /// Writes the vector of `texts[i]` to `out[i * width..(i + 1) * width]`. All values are finite.
    ///
    /// # Errors
    /// The encoder takes no text, or `out` is not `texts.len() * width` long.
    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError>;
}
