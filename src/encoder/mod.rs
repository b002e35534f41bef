//! Floor 4: encoders turn text into vectors.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `encode.rs` | what every encoder is |
//! | `hashed/` | the built-in encoder of shared words, the same on every platform |
//! | `specification.rs` | encoders as users name them |
//! | `vectors.rs` | the encoder of stores whose vectors come ready-made |

mod encode;
mod hashed;
mod specification;
mod vectors;

pub use encode::{EncodeError, Encoder};
pub use hashed::{HashedEncoder, HashedEncoderError};
pub use specification::{EncoderSpecification, EncoderSpecificationError};
pub use vectors::VectorsEncoder;
