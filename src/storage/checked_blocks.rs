//! Which blocks of a file were checked.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of blocks that only grows, shared by threads without a lock.
#[derive(Debug)]
pub(super) struct CheckedBlocks {
    /// One bit a block.
    words: Vec<AtomicU64>,
    /// Blocks that are not in the set.
    left: AtomicU64,
}

impl CheckedBlocks {
    /// None of `blocks` blocks.
    pub(super) fn new(blocks: u64) -> Self {
        let words = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, left: AtomicU64::new(blocks) }
    }

    /// Whether a block is in the set; false for one that the file does not have.
    #[inline]
    pub(super) fn has(&self, block: u64) -> bool {
        let word = self.words.get((block / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1)
    }

    /// Whether all blocks are.
    #[inline]
    pub(super) fn has_all(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Adds a block.
    pub(super) fn insert(&self, block: u64) {
        let Some(word) = self.words.get((block / 64) as usize) else { return };
        let bit = 1 << (block % 64);
        let before = word.fetch_or(bit, Ordering::Relaxed);
        // Two threads may have checked the same block.
        self.left.fetch_sub(u64::from(before & bit == 0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once() {
        let blocks = CheckedBlocks::new(65);
        assert!(!blocks.has(0) && !blocks.has(64) && !blocks.has(1000) && !blocks.has_all());
        for block in (0..65).chain(0..65) {
            blocks.insert(block);
        }
        assert!(blocks.has(0) && blocks.has(64) && blocks.has_all());
        assert!(CheckedBlocks::new(0).has_all());
    }
}
