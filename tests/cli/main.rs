//! The `ascribe` binary from outside: what is typed, what comes back, what the store looks like afterwards.
#![cfg(feature = "cli")]
// A test ends with a panic; clippy knows that only of functions that are tests themselves.
#![allow(clippy::expect_used, clippy::panic)]

mod audit;
#[cfg(feature = "bert")]
mod damping;
mod encoders;
mod evaluation;
mod formats;
mod gradients;
#[cfg(feature = "bert")]
mod heads;
mod help;
#[cfg(feature = "bert")]
mod hybrid;
mod inputs;
mod interruption;
mod refusals;
mod scene;
mod verbs;
