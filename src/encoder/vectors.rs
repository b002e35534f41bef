//! The encoder of stores whose vectors come ready-made.

use super::{EncodeError, Encoder};
use crate::base::Fingerprint;

/// Takes no text: every row and every query brings its vector.
///
/// ```
/// use ascribe::encoder::{Encoder, VectorsEncoder};
/// let encoder = VectorsEncoder::new(384);
/// assert_eq!(encoder.name(), "vectors:384");
/// assert!(encoder.encode(&["text"], &mut [0.0; 384]).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorsEncoder {
    width: usize,
}

impl VectorsEncoder {
    /// The encoder of vectors with `width` values, 1 to
    /// [`EMBEDDING_WIDTH_MAX`](crate::base::limits::EMBEDDING_WIDTH_MAX);
    /// [`EncoderSpecification`](super::EncoderSpecification) checks what users give.
    pub fn new(width: usize) -> Self {
        Self { width }
    }
}

impl Encoder for VectorsEncoder {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(format!("ascribe-encoder-1/vectors/{}", self.width).as_bytes())
    }

    fn name(&self) -> String {
        format!("vectors:{}", self.width)
    }

    fn width(&self) -> usize {
        self.width
    }

    fn takes_text(&self) -> bool {
        false
    }

    fn encode(&self, _texts: &[&str], _out: &mut [f32]) -> Result<(), EncodeError> {
        Err(EncodeError::NeedsVectors { encoder: self.name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_the_width_only() {
        let encoder = VectorsEncoder::new(384);
        assert_eq!(encoder.fingerprint(), Fingerprint::of(b"ascribe-encoder-1/vectors/384"));
        assert_ne!(encoder.fingerprint(), VectorsEncoder::new(385).fingerprint());
        assert_eq!((encoder.width(), encoder.takes_text()), (384, false));
    }

    #[test]
    fn texts_are_refused_with_a_remedy() {
        let error = VectorsEncoder::new(2).encode(&[], &mut []).unwrap_err().to_string();
        assert!(
            error.starts_with("encoder vectors:2 takes ready vectors") && error.contains("--vector"),
            "{error}"
        );
    }
}
