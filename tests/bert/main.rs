//! The learned encoder against PyTorch, and against damaged directories. Run alone: `cargo test --test bert`.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `damage.rs` | directories and states with something wrong in them |
//! | `directories.rs` | the small model, copies that tests change, reference tensors |
//! | `gpu.rs` | the same vectors on a GPU |
//! | `minilm.rs` | 200 texts through all-MiniLM-L6-v2 |
//! | `model.rs` | where the real model is |
//! | `tiny.rs` | vectors and gradients of a model of two layers |

#![cfg(feature = "bert")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod damage;
mod directories;
#[cfg(feature = "cuda")]
mod gpu;
mod minilm;
mod model;
mod tiny;
