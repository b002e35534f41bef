//! The writer: one at a time, commits states, publishes them, recovers after a crash.
//!
//! A commit is durable files -> durable folder -> one catalog transaction -> published manifest. A failed sync poisons
//! the writer: which bytes are on the disk is unknown until the store is opened again.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::catalog::{CATALOG_NAME, Catalog, CatalogCheck, CatalogError};
use super::garbage::collect_garbage;
use super::medium::{FileLock, RandomFile, Storage};
use super::published::{
    ENCODERS_FOLDER, PINS_FOLDER, PublishedError, SEGMENTS_FOLDER, publish, read_current, read_manifest,
};
use crate::base::limits::SEQUENCE_MAX;
use crate::base::{CommitSeq, SegmentId, checksum};
use crate::format::Manifest;

const LOCK_NAME: &str = "LOCK";
const CATALOG_SUM_NAME: &str = "catalog.sum";
const CATALOG_SUM_TEMPORARY_NAME: &str = "catalog.sum.new";

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
    #[error("{path} is not an ascribe store, or its creation was cut off; create it with \"ascribe create\"")]
    NotAStore {
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
    /// An earlier sync failed.
    #[error("an earlier commit of this writer failed: open the store again to go on")]
    Poisoned,
}

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    storage: Arc<dyn Storage>,
    catalog: Option<Catalog>,
    catalog_file: Arc<dyn RandomFile>,
    state: Arc<Manifest>,
    poisoned: bool,
    _lock: Box<dyn FileLock>,
}

impl Writer {
    /// Creates a store whose first commit is `first`.
    ///
    /// # Errors
    /// The place is not empty, or the medium fails.
    pub fn create(storage: Arc<dyn Storage>, first: Manifest) -> Result<Self, OpenWriterError> {
        let exists = || OpenWriterError::Exists { path: storage.describe("") };
        let names = storage.list("").map_err(io_error(storage.as_ref(), "list", ""))?;
        if names.iter().any(|name| name != LOCK_NAME) {
            return Err(exists());
        }
        let lock = lock_writer(storage.as_ref())?;
        for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER, PINS_FOLDER] {
            storage.create_folder(folder).map_err(io_error(storage.as_ref(), "create", folder))?;
            if !storage.list(folder).map_err(io_error(storage.as_ref(), "list", folder))?.is_empty() {
                return Err(exists());
            }
        }
        let catalog_file = open_catalog_file(storage.as_ref())?;
        let catalog = Catalog::open(Arc::clone(&catalog_file), true)?;
        storage.sync_folder("").map_err(io_error(storage.as_ref(), "sync", ""))?;
        catalog.commit(None, &first)?;
        publish(storage.as_ref(), &first)?;
        let state = Arc::new(first);
        Ok(Self { storage, catalog: Some(catalog), catalog_file, state, poisoned: false, _lock: lock })
    }

    /// Opens a store for writing: takes the lock, trusts or checks the catalog, publishes what a crash left
    /// unpublished, and removes what it left unfinished.
    ///
    /// # Errors
    /// There is no store, another process writes, or catalog and manifest are damaged.
    pub fn open(storage: Arc<dyn Storage>, check: &dyn CatalogCheck) -> Result<Self, OpenWriterError> {
        let not_a_store = || OpenWriterError::NotAStore { path: storage.describe("") };
        let medium = storage.as_ref();
        if !medium.exists(CATALOG_NAME).map_err(io_error(medium, "find", CATALOG_NAME))? {
            return Err(not_a_store());
        }
        let lock = lock_writer(medium)?;
        let catalog_file = open_catalog_file(medium)?;
        let bytes = read_catalog(medium, catalog_file.as_ref())?;
        if bytes.is_empty() {
            return Err(not_a_store());
        }
        let trusted = closed_cleanly(medium, &bytes);
        let checked = if trusted { None } else { check.check(bytes)? };
        let catalog = Catalog::open(Arc::clone(&catalog_file), trusted)?;
        let state = catalog.state()?.ok_or_else(not_a_store)?;
        if !trusted && checked.as_ref() != Some(&state) {
            let reason = "two readings of it differ".to_owned();
            return Err(CatalogError::Damaged { reason }.into());
        }
        let state = Arc::new(state);
        let mut writer =
            Self { storage, catalog: Some(catalog), catalog_file, state, poisoned: false, _lock: lock };
        writer.recover()?;
        Ok(writer)
    }

    /// Makes a new catalog from the published manifest, keeping the old file beside it, and opens the store.
    ///
    /// # Errors
    /// The manifest is damaged too, another process writes, or the medium fails.
    pub fn repair(storage: Arc<dyn Storage>) -> Result<Self, OpenWriterError> {
        let medium = storage.as_ref();
        let lock = lock_writer(medium)?;
        let state = read_manifest(medium, read_current(medium)?)?;
        if medium.exists(CATALOG_NAME).map_err(io_error(medium, "find", CATALOG_NAME))? {
            let kept = format!("{CATALOG_NAME}.damaged-{}", state.store.commit);
            medium.rename(CATALOG_NAME, &kept).map_err(io_error(medium, "rename", CATALOG_NAME))?;
        }
        let catalog_file = open_catalog_file(medium)?;
        let catalog = Catalog::open(Arc::clone(&catalog_file), true)?;
        catalog.commit(None, &state)?;
        medium.sync_folder("").map_err(io_error(medium, "sync", ""))?;
        let state = Arc::new(state);
        let mut writer =
            Self { storage, catalog: Some(catalog), catalog_file, state, poisoned: false, _lock: lock };
        writer.recover()?;
        Ok(writer)
    }

    /// The committed state.
    pub fn state(&self) -> &Arc<Manifest> {
        &self.state
    }

    /// The storage underneath.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Commits `next`, whose new sealed files are written and synced already, and publishes it.
    ///
    /// # Errors
    /// See [`CommitError`]; after any of them the writer refuses further commits.
    pub fn commit(&mut self, next: Manifest) -> Result<(), CommitError> {
        let catalog = self.catalog.as_ref().filter(|_| !self.poisoned).ok_or(CommitError::Poisoned)?;
        // Until everything below has succeeded, what is on the disk is not known.
        self.poisoned = true;
        for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER] {
            self.storage
                .sync_folder(folder)
                .map_err(|source| CommitError::Sync { path: self.storage.describe(folder), source })?;
        }
        catalog.commit(Some(&self.state), &next).map_err(|source| CommitError::Transaction { source })?;
        let commit = next.store.commit;
        publish(self.storage.as_ref(), &next)
            .map_err(|source| CommitError::CommittedNotPublished { commit, source })?;
        let dropped_files = next.segments.len() < self.state.segments.len()
            || next.store.columns.len() < self.state.store.columns.len();
        self.state = Arc::new(next);
        self.poisoned = false;
        // The commit has happened; litter that cannot be removed now waits for the next time.
        let _ = collect_garbage(self.storage.as_ref(), &self.state, dropped_files);
        Ok(())
    }

    /// Removes sealed files that no commit names, after work that was given up.
    pub fn discard_uncommitted(&self) {
        let _ = collect_garbage(self.storage.as_ref(), &self.state, true);
    }

    /// Whether a failed commit keeps this writer from going on.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Brings manifest and catalog together after a crash.
    fn recover(&mut self) -> Result<(), OpenWriterError> {
        let medium = self.storage.as_ref();
        let commit = self.state.store.commit;
        let published =
            read_current(medium).and_then(|current| Ok((current, read_manifest(medium, current)?)));
        match published {
            Ok((current, manifest)) if current == commit => {
                if manifest != *self.state {
                    return Err(self.contradiction(current, "their records differ"));
                }
            }
            Ok((current, _)) if current > commit => {
                return Err(self.contradiction(current, &format!("the catalog ends at commit {commit}")));
            }
            // Behind, unfinished or damaged: the catalog is the truth.
            Ok(_) | Err(_) => publish(medium, &self.state)?,
        }
        let _ = collect_garbage(medium, &self.state, true);
        self.skip_leftover_segments()
    }

    /// A leftover file that could not be removed must not stand in the way of a new segment's name.
    fn skip_leftover_segments(&mut self) -> Result<(), OpenWriterError> {
        let names = self.storage.list(SEGMENTS_FOLDER).map_err(io_error(
            self.storage.as_ref(),
            "list",
            SEGMENTS_FOLDER,
        ))?;
        let numbers = names.iter().filter_map(|name| name.split('.').next()?.parse::<u64>().ok());
        // A file with a number that no segment can get is not ours.
        let used = numbers.filter(|number| *number < SEQUENCE_MAX).max().unwrap_or(0);
        let next = &mut Arc::make_mut(&mut self.state).store.next_segment;
        *next = (*next).max(SegmentId(used + 1));
        Ok(())
    }

    fn contradiction(&self, commit: CommitSeq, reason: &str) -> OpenWriterError {
        OpenWriterError::Contradiction { path: self.storage.describe(""), commit, reason: reason.to_owned() }
    }
}

impl Drop for Writer {
    /// Closes the catalog and records its checksum, so that the next opening can trust it. Nothing is lost if that
    /// fails: the next opening then checks every page.
    fn drop(&mut self) {
        let Some(catalog) = self.catalog.take() else { return };
        if catalog.close().is_err() || self.poisoned {
            return;
        }
        let Ok(bytes) = read_catalog(self.storage.as_ref(), self.catalog_file.as_ref()) else { return };
        let _ = self.storage.remove(CATALOG_SUM_TEMPORARY_NAME);
        let written = self.storage.create(CATALOG_SUM_TEMPORARY_NAME).and_then(|mut writer| {
            writer.write(catalog_sum(&bytes).as_bytes())?;
            writer.sync()
        });
        if written.is_ok() {
            let _ = self.storage.rename(CATALOG_SUM_TEMPORARY_NAME, CATALOG_SUM_NAME);
        }
    }
}

fn io_error(
    storage: &dyn Storage,
    operation: &'static str,
    name: &str,
) -> impl Fn(io::Error) -> OpenWriterError {
    let path = storage.describe(name);
    move |source| OpenWriterError::Io { operation, path: path.clone(), source }
}

fn lock_writer(storage: &dyn Storage) -> Result<Box<dyn FileLock>, OpenWriterError> {
    storage
        .lock_exclusive(LOCK_NAME)
        .map_err(io_error(storage, "lock", LOCK_NAME))?
        .ok_or_else(|| OpenWriterError::Locked { path: storage.describe("") })
}

fn open_catalog_file(storage: &dyn Storage) -> Result<Arc<dyn RandomFile>, OpenWriterError> {
    storage.open_random(CATALOG_NAME).map_err(io_error(storage, "open", CATALOG_NAME))
}

fn read_catalog(storage: &dyn Storage, file: &dyn RandomFile) -> Result<Vec<u8>, OpenWriterError> {
    let io = io_error(storage, "read", CATALOG_NAME);
    let length = usize::try_from(file.len().map_err(&io)?).map_err(|error| io(io::Error::other(error)))?;
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes).map_err(&io)?;
    Ok(bytes)
}

/// The catalog's bytes, if no writer is using it; `None` otherwise.
///
/// # Errors
/// The catalog is missing or cannot be read.
pub fn read_idle_catalog(storage: &dyn Storage) -> Result<Option<Vec<u8>>, OpenWriterError> {
    let Some(_lock) = storage.lock_exclusive(LOCK_NAME).map_err(io_error(storage, "lock", LOCK_NAME))? else {
        return Ok(None);
    };
    if !storage.exists(CATALOG_NAME).map_err(io_error(storage, "find", CATALOG_NAME))? {
        return Err(OpenWriterError::NotAStore { path: storage.describe("") });
    }
    let file = open_catalog_file(storage)?;
    read_catalog(storage, file.as_ref()).map(Some)
}

/// One line: length and checksum of the catalog's bytes.
fn catalog_sum(bytes: &[u8]) -> String {
    format!("catalog.redb {} {:016x}\n", bytes.len(), checksum(bytes))
}

/// Whether the catalog's bytes are those of the last clean close.
fn closed_cleanly(storage: &dyn Storage, bytes: &[u8]) -> bool {
    let Ok(file) = storage.open(CATALOG_SUM_NAME) else { return false };
    file.bytes().is_ok_and(|recorded| recorded == catalog_sum(bytes).as_bytes())
}
