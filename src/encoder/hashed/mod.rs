//! The built-in encoder: texts that share words, phrases or spellings get similar vectors. [`HashedEncoder`] says how.
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
