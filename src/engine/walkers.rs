//! Memory for walks over graphs, kept for the next one.

use std::sync::{Mutex, PoisonError};

use crate::index::Walker;

/// Walkers that queries have given back: their memory grows with the rows.
#[derive(Debug, Default)]
pub(super) struct Walkers(Mutex<Vec<Walker>>);

impl Walkers {
    pub(super) fn take(&self) -> Walker {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, walker: Walker) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(walker);
    }
}
