//! What reading and writing a sealed file can fail with.

use std::io;

use thiserror::Error;

use crate::format::ContainerError;

/// A sealed file that cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The medium failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried: `create`, `write`, `sync`, `open`, `read`.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the medium said.
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{path} is damaged: {source}; run \"ascribe verify\", then restore a copy of the store")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: ContainerError,
    },
    /// The file is not the one that the manifest names.
    #[error(
        "{path} is damaged: its {what} is {found:#x}, the manifest says {expected:#x}; run \"ascribe verify\", then restore a copy of the store"
    )]
    NotAsRecorded {
        /// The file.
        path: String,
        /// `length` or `root checksum`.
        what: &'static str,
        /// Of the file.
        found: u64,
        /// In the manifest.
        expected: u64,
    },
    /// Checksums are right, but the content contradicts itself: not written by ascribe.
    #[error("{path} is damaged: {reason}; run \"ascribe verify\", then restore a copy of the store")]
    Content {
        /// The file.
        path: String,
        /// What contradicts.
        reason: String,
    },
}

impl FileError {
    /// Whether the medium has no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether bytes are wrong (and not the medium at fault).
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Io { .. }) || self.is_not_found()
    }
}
