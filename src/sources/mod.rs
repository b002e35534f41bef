//! Floor 2: readers of what users have.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `document.rs` | one document of an input, and where it stood |

mod document;

pub use document::{Document, Place, Position};
