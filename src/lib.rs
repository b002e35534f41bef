//! ascribe: an embedded database that tells which training data made a model do what it did.

pub mod attribution;
pub mod base;
pub mod encoder;
pub mod engine;
pub mod filter;
pub mod format;
pub mod index;
pub mod kernels;
pub mod sources;
pub mod storage;

#[cfg(feature = "cli")]
pub mod answers;
#[cfg(feature = "cli")]
pub mod cli;
