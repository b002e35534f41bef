//! What can keep a store from being opened for writing, and a commit from being made.

use std::io;

use thiserror::Error;

use super::catalog::CatalogError;
use super::published::PublishedError;
use crate::base::CommitSeq;
use crate::format::ManifestError;

/// A store that cannot be created or opened for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenWriterError {
    /// Another process writes.
    #[error("{path} is open for writing in another process; readers may open it, a second writer may not")]
    Locked {
        /// The store.
        path: String,
    },
    /// Creating where something is already.
    #[error("{path} already holds a store or other files; choose an empty or new folder")]
    Exists {
        /// The folder.
        path: String,
    },
    /// No commit was ever finished.
    #[error(
        "{path} is not an ascribe store; create one there with \"ascribe create\" (if its creation was cut off, remove the folder first)"
    )]
    NotAStore {
        /// The folder.
        path: String,
    },
    /// Readers find a store, but the catalog is gone.
    #[error("catalog.redb is missing in {path}; run \"ascribe repair\" to make it anew from the manifest")]
    CatalogMissing {
        /// The folder.
        path: String,
    },
    /// The medium failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the medium said.
        source: io::Error,
    },
    /// The catalog is damaged.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Catalog and manifest contradict each other.
    #[error(
        "catalog.redb and the manifest of commit {commit} in {path} contradict each other: {reason}; copy the store, then run \"ascribe repair\" on it"
    )]
    Contradiction {
        /// The store.
        path: String,
        /// Commit of the manifest.
        commit: CommitSeq,
        /// What differs.
        reason: String,
    },
    /// The manifest cannot be read or written.
    #[error(transparent)]
    Published(#[from] PublishedError),
}

/// A commit that did not happen, or whose fate is open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing changed.
    #[error(
        "the commit failed and nothing changed: cannot sync {path}: {source}; open the store again to go on"
    )]
    Sync {
        /// The folder.
        path: String,
        /// What the medium said.
        source: io::Error,
    },
    /// Whether the commit happened shows when the store is opened again.
    #[error("the commit failed: {source}; open the store again to see whether it took effect")]
    Transaction {
        /// What the catalog said.
        source: CatalogError,
    },
    /// The rows are safe, but readers do not see them yet.
    #[error(
        "commit {commit} is in the catalog but could not be published to readers: {source}; it will be when the store is opened for writing again"
    )]
    CommittedNotPublished {
        /// The commit.
        commit: CommitSeq,
        /// Why.
        source: PublishedError,
    },
    /// The state cannot be committed at all.
    #[error("the commit is refused and nothing changed: {source}")]
    State {
        /// What is wrong with it.
        source: ManifestError,
    },
    /// An earlier sync failed.
    #[error("an earlier commit of this writer failed: open the store again to go on")]
    Poisoned,
}
