//! Floor 4: encoders turn text into vectors.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `encode.rs` | what every encoder is |

mod encode;

pub use encode::{EncodeError, Encoder};
