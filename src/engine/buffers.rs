//! Memory for the scores of a query, kept for the next one.

use std::sync::{Mutex, PoisonError};

use crate::base::limits::SCORE_BUFFERS_BYTES_MAX;

/// Vectors that queries have given back. A fresh one of a million scores costs more than to choose among them: the
/// system clears its pages one by one.
#[derive(Debug, Default)]
pub(super) struct ScoreBuffers(Mutex<Vec<Vec<f64>>>);

impl ScoreBuffers {
    /// A vector of this length; what stands in it is of no use.
    pub(super) fn take(&self, length: usize) -> Vec<f64> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().position(|buffer| buffer.capacity() >= length);
        let mut buffer = fitting.map(|place| kept.swap_remove(place)).unwrap_or_default();
        drop(kept);
        buffer.resize(length, 0.0);
        buffer
    }

    /// Keeps a vector, if those that are kept do not add up to too much.
    pub(super) fn give_back(&self, buffer: Vec<f64>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values: usize = kept.iter().chain([&buffer]).map(Vec::capacity).sum();
        if values.saturating_mul(size_of::<f64>()) <= SCORE_BUFFERS_BYTES_MAX {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_the_largest_are_not_kept() {
        let buffers = ScoreBuffers::default();
        let buffer = buffers.take(1000);
        let place = buffer.as_ptr();
        buffers.give_back(buffer);
        let shorter = buffers.take(10);
        assert_eq!((shorter.len(), shorter.as_ptr()), (10, place));
        let other = buffers.take(1000);
        assert_ne!(other.as_ptr(), place);
        buffers.give_back(Vec::with_capacity(SCORE_BUFFERS_BYTES_MAX));
        assert!(buffers.take(1).capacity() < 1000);
    }
}
