//! The encoder.

use std::fmt;

use super::super::{EncodeError, Encoder};
use super::features::{Feature, FeatureExtractor};
use super::frequencies::{Frequencies, HashedEncoderError, check_width};
use super::projection::{add_feature, normalise};
use crate::base::{Fingerprint, FingerprintStream};

/// The built-in encoder: texts that share words, phrases or spellings get similar vectors. It needs no download and
/// gives the same values on every platform.
///
/// From a text to its vector, all in f64 and in a fixed order, with integer arithmetic, `+ - * /`, `sqrt` and the
/// logarithm of `libm` only:
/// 1. Features: words, pairs of neighbouring words, and character n-grams of each word, lower-cased, each a 64-bit hash.
///    In scripts without spaces between words, pairs of neighbouring characters stand for words.
/// 2. Weight of a feature: w = kind x (1 + ln count) x ln(1 + N / df), N the documents that the encoder was fitted on, df
///    those of them that had the feature (at least 1).
/// 3. Projection: each feature adds +w or -w at eight coordinates that its hash chooses, one in each eighth of the
///    vector, so that dot products are kept in expectation.
/// 4. Division by the Euclidean norm: the dot product of two vectors is their cosine.
///
/// # References
/// - Salton, Buckley: Term-weighting approaches in automatic text retrieval, 1988 (logarithmic counts, inverse document
///   frequency).
/// - Weinberger et al.: Feature hashing for large scale multitask learning, ICML 2009 (signed hashing).
/// - Kane, Nelson: Sparser Johnson-Lindenstrauss transforms, J. ACM 2014, figure 1(c) (block construction).
///
/// ```
/// use ascribe::encoder::{Encoder, HashedEncoder};
/// let documents = ["a red house", "a blue house", "two green boats"];
/// let encoder = HashedEncoder::fit(256, documents.into_iter())?;
/// let mut vectors = vec![0.0; 3 * 256];
/// encoder.encode(&["the red house", "houses in red", "green boats"], &mut vectors)?;
/// let cosine = |a: usize, b: usize| -> f32 {
///     (0..256).map(|at| vectors[a * 256 + at] * vectors[b * 256 + at]).sum()
/// };
/// assert!(cosine(0, 1) > 0.25);
/// assert!(cosine(0, 2) < 0.25);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HashedEncoder {
    width: usize,
    frequencies: Frequencies,
    fingerprint: Fingerprint,
}

impl HashedEncoder {
    /// An encoder with `width` values whose term weights come from `documents`, at most the first
    /// [`HASHED_FIT_DOCUMENTS_MAX`](crate::base::limits::HASHED_FIT_DOCUMENTS_MAX). Without documents it cannot encode.
    /// The same documents in any order give the same encoder.
    ///
    /// # Errors
    /// `width` is not in [`HASHED_WIDTH_MIN`](crate::base::limits::HASHED_WIDTH_MIN) to
    /// [`HASHED_WIDTH_MAX`](crate::base::limits::HASHED_WIDTH_MAX).
    ///
    /// # Complexity
    /// Linear in the characters of the documents, times the logarithm of the longest one's; 4 MiB of counts meanwhile.
    pub fn fit<'a>(
        width: usize,
        documents: impl Iterator<Item = &'a str>,
    ) -> Result<Self, HashedEncoderError> {
        Ok(Self::of(check_width(width)?, Frequencies::fit(documents)))
    }

    fn of(width: usize, frequencies: Frequencies) -> Self {
        let mut stream = FingerprintStream::new();
        stream.update(b"ascribe-encoder-1/hashed/");
        stream.update(&frequencies.to_bytes(width as u32));
        Self { width, frequencies, fingerprint: stream.value() }
    }

    /// Number of documents that the term weights come from.
    pub fn documents(&self) -> u32 {
        self.frequencies.documents()
    }

    /// The encoder's bytes, all it is made of; numbers are little-endian.
    ///
    /// | offset | bytes | content |
    /// | --- | --- | --- |
    /// | 0 | 8 | `ASCRHASH` |
    /// | 8 | 4 | version of this layout and of the encoding, 1 |
    /// | 12 | 4 | width, 8 to 4096 |
    /// | 16 | 4 | number of documents, N |
    /// | 20 | 4 | number of entries, E |
    /// | 24 | 8 E | entries: bucket (4 bytes, below 2^20, strictly ascending), document frequency (4 bytes, 2 to N) |
    ///
    /// A feature's bucket is the upper 20 bits of its hash; one without an entry counts as seen in one document.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.frequencies.to_bytes(self.width as u32)
    }

    /// The encoder that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// The bytes are of another kind or version, cut off, followed by others, or hold values that a fit does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HashedEncoderError> {
        let (width, frequencies) = Frequencies::from_bytes(bytes)?;
        Ok(Self::of(width, frequencies))
    }

    fn weight(&self, feature: &Feature) -> f64 {
        // Most features stand once in their text.
        let count = if feature.count > 1 { 1.0 + libm::log(f64::from(feature.count)) } else { 1.0 };
        feature.kind.weight() * count * self.frequencies.weight(feature)
    }

    fn encode_features(&self, features: &[Feature], sums: &mut [f64], out: &mut [f32]) {
        sums.fill(0.0);
        for feature in features {
            add_feature(sums, feature.hash, self.weight(feature));
        }
        if !normalise(sums, out)
            && let Some(first) = features.first()
        {
            // The features cancelled each other out. One alone cannot.
            sums.fill(0.0);
            add_feature(sums, first.hash, 1.0);
            normalise(sums, out);
        }
    }
}

impl Encoder for HashedEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn name(&self) -> String {
        format!("hashed:{}", self.width)
    }

    fn width(&self) -> usize {
        self.width
    }

    fn takes_text(&self) -> bool {
        true
    }

    /// A text without any letter or digit gets the zero vector, every other one a vector of norm 1.
    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError> {
        if self.frequencies.documents() == 0 {
            return Err(EncodeError::NotFitted { encoder: self.name() });
        }
        let needed = texts.len().saturating_mul(self.width);
        if out.len() != needed {
            let (encoder, texts, given) = (self.name(), texts.len(), out.len());
            return Err(EncodeError::OutputLength { encoder, texts, given, needed });
        }
        let mut extractor = FeatureExtractor::default();
        let mut sums = vec![0.0; self.width];
        for (text, vector) in texts.iter().zip(out.chunks_exact_mut(self.width)) {
            self.encode_features(extractor.extract(text), &mut sums, vector);
        }
        Ok(())
    }
}

impl fmt::Debug for HashedEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "HashedEncoder(width {}, {} documents, {} entries, {})",
            self.width,
            self.documents(),
            self.frequencies.entries(),
            self.fingerprint.short()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::FeatureKind;
    use super::*;

    /// With eight values a feature is eight signs, so that in 256 features one is the opposite of the first.
    #[test]
    fn features_that_cancel_out_still_give_a_vector() {
        let signs = |hash| {
            let mut sums = [0.0; 8];
            add_feature(&mut sums, hash, 1.0);
            sums
        };
        let opposite = (1..100_000).find(|hash| signs(*hash) == signs(0).map(|sign| -sign)).unwrap();
        let encoder = HashedEncoder::fit(8, [""].into_iter()).unwrap();
        let features = [0, opposite].map(|hash| Feature { hash, kind: FeatureKind::Word, count: 1 });
        let mut vector = [0.0; 8];
        encoder.encode_features(&features, &mut [0.0; 8], &mut vector);
        let length = 1.0 / 8.0_f64.sqrt();
        assert_eq!(vector, signs(0).map(|sign| (sign * length) as f32));
    }
}
