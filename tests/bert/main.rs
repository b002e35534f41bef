//! The learned encoder against PyTorch, and against damaged directories. Run alone: `cargo test --test bert`.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `damage.rs` | directories and states with something wrong in them |
//! | `directories.rs` | where the models are, copies that tests change, reference tensors |
//! | `minilm.rs` | 200 texts through all-MiniLM-L6-v2 |
//! | `tiny.rs` | vectors and gradients of a model of two layers |

#![cfg(feature = "bert")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod damage;
mod directories;
mod minilm;
mod tiny;
