//! The built-in encoder: texts that share words, phrases or spellings get similar vectors. It needs no download and
//! gives the same values on every platform.
//!
//! From a text to its vector, all in f64 and in a fixed order, with integer arithmetic, `+ - * /`, `sqrt` and the
//! logarithm of `libm` only:
//! 1. Features: words, pairs of neighbouring words, and character n-grams of each word, lower-cased, each a 64-bit hash.
//!    In scripts without spaces between words, pairs of neighbouring characters stand for words.
//! 2. Weight of a feature: w = kind x (1 + ln count) x ln(1 + N / df), N the documents that the encoder was fitted on, df
//!    those of them that had the feature (at least 1).
//! 3. Projection: each feature adds +w or -w at eight coordinates that its hash chooses, one in each eighth of the
//!    vector, so that dot products are kept in expectation.
//! 4. Division by the Euclidean norm: the dot product of two vectors is their cosine.
//!
//! # References
//! - Salton, Buckley: Term-weighting approaches in automatic text retrieval, 1988 (logarithmic counts, inverse document
//!   frequency).
//! - Weinberger et al.: Feature hashing for large scale multitask learning, ICML 2009 (signed hashing).
//! - Kane, Nelson: Sparser Johnson-Lindenstrauss transforms, J. ACM 2014, section 1.1 (block construction).
//!
//! | file | what lives there |
//! | --- | --- |
//! | `encoder.rs` | the encoder |
//! | `features.rs` | from a text to its features |
//! | `frequencies.rs` | document frequencies, fitted, written and read |
//! | `projection.rs` | from features to coordinates |
//! | `tests.rs` | what the encoder promises, and its recorded values |

mod encoder;
mod features;
mod frequencies;
mod projection;
#[cfg(test)]
mod tests;

pub use encoder::HashedEncoder;
pub use frequencies::HashedEncoderError;
