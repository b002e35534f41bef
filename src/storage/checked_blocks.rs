//! Which blocks of a file were checked.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of blocks that only grows, shared by threads without a lock.
#[derive(Debug)]
pub(super) struct CheckedBlocks {
    /// One bit a block.
    words: Vec<AtomicU64>,
}

impl CheckedBlocks {
    /// None of `blocks` blocks.
    pub(super) fn new(blocks: u64) -> Self {
        Self { words: (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether a block is in the set; false for one that the file does not have.
    #[inline]
    pub(super) fn has(&self, block: u64) -> bool {
        let word = self.words.get((block / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1)
    }

    /// Whether all blocks from `first` to `last` are; false if the file does not have them.
    ///
    /// # Complexity
    /// A word for each 64 blocks.
    pub(super) fn has_range(&self, first: u64, last: u64) -> bool {
        (first / 64..=last / 64).all(|place| {
            let from = if place == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
            let to = if place == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
            let word = self.words.get(place as usize).map_or(0, |word| word.load(Ordering::Relaxed));
            word & from & to == from & to
        })
    }

    /// Adds a block.
    pub(super) fn insert(&self, block: u64) {
        let Some(word) = self.words.get((block / 64) as usize) else { return };
        word.fetch_or(1 << (block % 64), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_their_blocks() {
        let blocks = CheckedBlocks::new(200);
        assert!(!blocks.has(0) && !blocks.has(199) && !blocks.has(1000) && !blocks.has_range(0, 0));
        (3..=150).chain(3..10).for_each(|block| blocks.insert(block));
        for first in 0..200 {
            for last in first..200 {
                assert_eq!(blocks.has_range(first, last), (first..=last).all(|block| blocks.has(block)));
            }
        }
        blocks.insert(1000);
        assert!(!blocks.has(1000) && !blocks.has_range(150, 1000) && !CheckedBlocks::new(0).has_range(0, 0));
    }
}
