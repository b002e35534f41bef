//! Content fingerprints: SHA-256, so that two different things never share one by accident or by design.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of some content: an encoder with its weights, a consumed prefix of an input, a row without a key.
///
/// ```
/// use ascribe::base::Fingerprint;
/// assert!(Fingerprint::of(b"abc").to_string().starts_with("ba7816bf"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first 16 hexadecimal digits: enough for a message or a table.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A fingerprint taken piece by piece, readable at any moment.
#[derive(Clone, Default)]
pub struct FingerprintStream(Sha256);

impl FingerprintStream {
    /// A stream that has seen no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The fingerprint of everything added so far.
    pub fn value(&self) -> Fingerprint {
        Fingerprint(self.0.clone().finalize().into())
    }
}

impl fmt::Debug for FingerprintStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FingerprintStream({})", self.value())
    }
}
