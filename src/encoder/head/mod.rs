//! The classification head: a small classifier on embeddings, with the exact gradient of every row. [`Head`] says how.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `affine.rs` | the product of a linear layer with its bias |
//! | `configuration.rs` | what a head computes, and how it is trained |
//! | `error.rs` | what is wrong with a head, its state or its input |
//! | `gradients.rs` | gradients of the loss and of the logits, row by row |
//! | `likelihood.rs` | probabilities, margins and losses without cancellation |
//! | `model.rs` | the head: its classes, its layers and what it says of rows |
//! | `set.rs` | heads of several members, side by side |
//! | `state.rs` | a head as bytes |
//! | `tangents.rs` | how the logits move with the weights, as far as rows are compared by it |

mod affine;
mod configuration;
mod error;
mod gradients;
mod likelihood;
mod model;
mod set;
mod state;
mod tangents;

pub use affine::head_affine;
pub use configuration::{HeadConfiguration, HeadShape};
pub use error::HeadError;
pub use gradients::{HeadGradients, HeadJacobian, HeadModuleGradients};
pub use model::{Head, HeadModule};
pub use set::HeadSet;
