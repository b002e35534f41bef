//! XXH3 (64 bits) over blocks, files, records and keys.
//!
//! XXH3 because it runs far above the read bandwidth of memory, so that checking a block at first touch costs what
//! reading it costs. CRC-32C was rejected: 32 bits miss one random change in four billion, and a store has millions
//! of blocks. It detects accidents, not forgers.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

/// Checksum of `bytes`: XXH3, 64 bits, seed 0.
///
/// ```
/// assert_eq!(ascribe::base::checksum(b""), 0x2d06_8005_38d3_94c2);
/// ```
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Hash under which a key stands in the key index of a row file: XXH3, 64 bits, seed 0, over the key's UTF-8 bytes.
///
/// Equal hashes do not prove equal keys; the index compares the keys themselves.
pub fn key_hash(key: &str) -> u64 {
    checksum(key.as_bytes())
}

/// A checksum taken piece by piece; equal to [`checksum`] over the pieces laid end to end.
///
/// ```
/// let mut stream = ascribe::base::Checksum::new();
/// stream.update(b"asc");
/// stream.update(b"ribe");
/// assert_eq!(stream.value(), ascribe::base::checksum(b"ascribe"));
/// ```
#[derive(Clone)]
pub struct Checksum(XxHash3_64);

impl Checksum {
    /// A stream that has seen no bytes.
    pub fn new() -> Self {
        Self(XxHash3_64::new())
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The checksum of everything added so far.
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}
