//! The writer: one at a time, commits states, publishes them, recovers after a crash.
//!
//! A commit is durable files -> durable folder -> one catalog transaction -> published manifest. A failed sync poisons
//! the writer: which bytes are on the disk is unknown until the store is opened again.

use std::io;
use std::sync::Arc;

use super::catalog::{CATALOG_NAME, Catalog, CatalogCheck, CatalogError};
use super::commit_error::{CommitError, OpenWriterError};
use super::garbage::{collect_garbage, referenced_files};
use super::medium::{FileLock, RandomFile, Storage};
use super::published::{
    CURVATURE_FOLDER, ENCODERS_FOLDER, PINS_FOLDER, PublishedError, SEGMENTS_FOLDER, manifest_commits,
    newest_undamaged, publish, read_current, read_manifest, write_anew,
};
use super::segment_numbers::{SegmentNumbers, segment_of_file};
use crate::base::{CommitSeq, SegmentId, checksum};
use crate::format::{Manifest, ManifestError, SegmentRecord, encode_manifest, manifest_name};

const LOCK_NAME: &str = "LOCK";
const CATALOG_SUM_NAME: &str = "catalog.sum";
/// Segments that one unfinished commit may have left behind.
const LEFTOVER_SEGMENTS_MAX: u64 = 1 << 32;

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    storage: Arc<dyn Storage>,
    catalog: Option<Catalog>,
    catalog_file: Arc<dyn RandomFile>,
    state: Arc<Manifest>,
    numbers: Arc<SegmentNumbers>,
    poisoned: bool,
    /// Whether sealed files may lie around that only readers of older commits name.
    leftovers: bool,
    _lock: Box<dyn FileLock>,
}

impl Writer {
    /// Creates a store whose first commit is `first`.
    ///
    /// # Errors
    /// The place is not empty, or the medium fails.
    pub fn create(storage: Arc<dyn Storage>, first: Manifest) -> Result<Self, OpenWriterError> {
        Self::create_with(storage, |_| Ok(first))
    }

    /// [`create`](Self::create) with a first commit that names encoder files: `make` writes them, once the folders are
    /// there.
    ///
    /// # Errors
    /// As [`create`](Self::create), and those of `make`.
    pub fn create_with<E: From<OpenWriterError>>(
        storage: Arc<dyn Storage>,
        make: impl FnOnce(&dyn Storage) -> Result<Manifest, E>,
    ) -> Result<Self, E> {
        let lock = Self::occupy(storage.as_ref())?;
        let first = make(storage.as_ref())?;
        let medium = storage.as_ref();
        if referenced_files(&first).iter().any(|name| name.starts_with(ENCODERS_FOLDER)) {
            medium.sync_folder(ENCODERS_FOLDER).map_err(io_error(medium, "sync", ENCODERS_FOLDER))?;
        }
        let writer = Self::with_new_catalog(Arc::clone(&storage), lock, first)?;
        publish_state(storage.as_ref(), &writer.state)?;
        Ok(writer)
    }

    /// Takes the lock of an empty place and makes its folders.
    fn occupy(medium: &dyn Storage) -> Result<Box<dyn FileLock>, OpenWriterError> {
        let exists = || OpenWriterError::Exists { path: medium.describe("") };
        medium.create_folder("").map_err(io_error(medium, "create", ""))?;
        let is_occupied = |folder: &str| {
            let names = medium.list(folder).map_err(io_error(medium, "list", folder))?;
            Ok::<_, OpenWriterError>(names.iter().any(|name| name != LOCK_NAME))
        };
        // Looked at twice: not to leave a lock file among somebody's files, and because two creators may race.
        if is_occupied("")? {
            return Err(exists());
        }
        let lock = lock_writer(medium)?;
        if is_occupied("")? {
            return Err(exists());
        }
        for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER, CURVATURE_FOLDER, PINS_FOLDER] {
            medium.create_folder(folder).map_err(io_error(medium, "create", folder))?;
            if is_occupied(folder)? {
                return Err(exists());
            }
        }
        Ok(lock)
    }

    /// A writer whose catalog is new and holds `state` as its one commit.
    fn with_new_catalog(
        storage: Arc<dyn Storage>,
        lock: Box<dyn FileLock>,
        state: Manifest,
    ) -> Result<Self, OpenWriterError> {
        let catalog_file = open_catalog_file(storage.as_ref())?;
        let catalog = Catalog::open(Arc::clone(&catalog_file), true)?;
        storage.sync_folder("").map_err(io_error(storage.as_ref(), "sync", ""))?;
        catalog.commit(None, &state)?;
        Ok(Self::new(storage, catalog, catalog_file, state, lock))
    }

    fn new(
        storage: Arc<dyn Storage>,
        catalog: Catalog,
        catalog_file: Arc<dyn RandomFile>,
        state: Manifest,
        lock: Box<dyn FileLock>,
    ) -> Self {
        let numbers = Arc::new(SegmentNumbers::new(state.store.next_segment));
        let state = Arc::new(state);
        Self {
            storage,
            catalog: Some(catalog),
            catalog_file,
            state,
            numbers,
            poisoned: false,
            leftovers: false,
            _lock: lock,
        }
    }

    /// Opens a store for writing: takes the lock, trusts or checks the catalog, publishes what a crash left
    /// unpublished, and removes what it left unfinished.
    ///
    /// # Errors
    /// There is no store, another process writes, or catalog and manifest are damaged.
    pub fn open(storage: Arc<dyn Storage>, check: &dyn CatalogCheck) -> Result<Self, OpenWriterError> {
        let medium = storage.as_ref();
        let is_published = !manifest_commits(medium)?.is_empty();
        let not_a_store = || OpenWriterError::NotAStore { path: medium.describe("") };
        if !medium.exists(CATALOG_NAME).map_err(io_error(medium, "find", CATALOG_NAME))? {
            let missing = || OpenWriterError::CatalogMissing { path: medium.describe("") };
            return Err(if is_published { missing() } else { not_a_store() });
        }
        let lock = lock_writer(medium)?;
        let catalog_file = open_catalog_file(medium)?;
        let bytes = read_catalog(medium, catalog_file.as_ref())?;
        // Without any manifest or row, an unreadable catalog is a creation that was cut off.
        let rows = medium.list(SEGMENTS_FOLDER).map_err(io_error(medium, "list", SEGMENTS_FOLDER))?;
        if !is_published && rows.is_empty() && !matches!(check.check(bytes.clone()), Ok(Some(_))) {
            return Err(not_a_store());
        }
        let trusted = closed_cleanly(medium, &bytes);
        let checked = if trusted { None } else { check.check(bytes)? };
        let catalog = Catalog::open(Arc::clone(&catalog_file), trusted)?;
        let empty = || CatalogError::Damaged { reason: "it holds no commit".to_owned() };
        let state = catalog.state()?.ok_or_else(empty)?;
        if !trusted && checked.as_ref() != Some(&state) {
            let reason = "two readings of it differ".to_owned();
            return Err(CatalogError::Damaged { reason }.into());
        }
        let mut writer = Self::new(storage, catalog, catalog_file, state, lock);
        writer.recover()?;
        Ok(writer)
    }

    /// Makes a new catalog and opens the store. The old one stays beside it under another name.
    ///
    /// If the old catalog can be read after all and is not behind, its state is taken: it may hold a commit that was
    /// not published. Otherwise the newest manifest that is not damaged is; damaged ones of later commits are renamed
    /// too, and those commits are lost. Cut off at any moment, it can be called again.
    ///
    /// # Errors
    /// Neither can be read, another process writes, a version is too new, or the medium fails: an error of the medium
    /// is not taken for damage.
    pub fn repair(storage: Arc<dyn Storage>, check: &dyn CatalogCheck) -> Result<Self, OpenWriterError> {
        let medium = storage.as_ref();
        let has_catalog = || medium.exists(CATALOG_NAME).map_err(io_error(medium, "find", CATALOG_NAME));
        // Not to leave a lock file among somebody's files.
        if manifest_commits(medium)?.is_empty() && !has_catalog()? {
            return Err(OpenWriterError::NotAStore { path: medium.describe("") });
        }
        let lock = lock_writer(medium)?;
        let commits = manifest_commits(medium)?;
        let has_catalog = has_catalog()?;
        let from_catalog = if has_catalog {
            let file = open_catalog_file(medium)?;
            match check.check(read_catalog(medium, file.as_ref())?) {
                Ok(state) => state,
                // It may hold a commit that no manifest has: not to be given up because it could not be looked at.
                Err(error @ CatalogError::NotChecked { .. }) => return Err(error.into()),
                Err(_) => None,
            }
        } else {
            None
        };
        let behind = from_catalog.as_ref().map(|state| state.store.commit);
        let later: Vec<CommitSeq> = commits.iter().copied().filter(|commit| Some(*commit) > behind).collect();
        let state = match newest_undamaged(medium, &later)?.or(from_catalog) {
            Some(state) => state,
            None => match commits.first() {
                Some(newest) => read_manifest(medium, *newest)?,
                None => return Err(OpenWriterError::NotAStore { path: medium.describe("") }),
            },
        };
        // Published first: whatever happens to the catalogs from here on, the next repair finds this state.
        publish_state(medium, &state)?;
        for commit in commits.into_iter().filter(|commit| *commit > state.store.commit) {
            set_aside(medium, &manifest_name(commit))?;
        }
        if has_catalog {
            set_aside(medium, CATALOG_NAME)?;
        }
        let mut writer = Self::with_new_catalog(Arc::clone(&storage), lock, state)?;
        writer.recover()?;
        Ok(writer)
    }

    /// The committed state.
    pub fn state(&self) -> &Arc<Manifest> {
        &self.state
    }

    /// The numbers for new segments.
    pub fn numbers(&self) -> &Arc<SegmentNumbers> {
        &self.numbers
    }

    /// The storage underneath.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Commits `next`, whose new sealed files are written and synced already, and publishes it.
    ///
    /// # Errors
    /// See [`CommitError`]; after any of them but [`CommitError::State`] the writer refuses further commits.
    pub fn commit(&mut self, next: Manifest) -> Result<(), CommitError> {
        let catalog = self.catalog.as_ref().filter(|_| !self.poisoned).ok_or(CommitError::Poisoned)?;
        // What readers would refuse must not get as far as the catalog.
        let follows = next.store.commit.0 == self.state.store.commit.0 + 1;
        let reason = format!("commit {} does not follow {}", next.store.commit, self.state.store.commit);
        let order = || ManifestError::Shape { part: "the state", reason };
        let encoded = if follows { next.check().and_then(|()| encode_manifest(&next)) } else { Err(order()) };
        let manifest = encoded.map_err(|source| CommitError::State { source })?;
        // Until everything below has succeeded, what is on the disk is not known.
        self.poisoned = true;
        for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER] {
            self.storage
                .sync_folder(folder)
                .map_err(|source| CommitError::Sync { path: self.storage.describe(folder), source })?;
        }
        catalog.commit(Some(&self.state), &next).map_err(|source| CommitError::Transaction { source })?;
        let commit = next.store.commit;
        publish(self.storage.as_ref(), commit, &manifest)
            .map_err(|source| CommitError::CommittedNotPublished { commit, source })?;
        let is_gone =
            |old: &SegmentRecord| next.segments.binary_search_by_key(&old.id, |new| new.id).is_err();
        let (store, old) = (&next.store, &self.state.store);
        let dropped_files = old.columns.iter().any(|old| store.columns.iter().all(|new| new.id != old.id))
            || old.curvatures.iter().any(|old| store.curvatures.iter().all(|new| new.version != old.version))
            || self.state.segments.iter().any(is_gone);
        self.state = Arc::new(next);
        self.poisoned = false;
        self.leftovers |= dropped_files;
        self.collect(self.leftovers);
        Ok(())
    }

    /// Removes sealed files that no commit names, after work that was given up. After a failed commit nothing is
    /// removed: the catalog may name those files already.
    pub fn discard_uncommitted(&self) {
        if self.poisoned {
            return;
        }
        let _ = collect_garbage(self.storage.as_ref(), &self.state, &self.numbers, true);
    }

    /// Whether a failed commit keeps this writer from going on.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Removes what nobody needs any more. The commit has happened: litter that cannot be removed now waits for the
    /// next time.
    fn collect(&mut self, sealed_files_too: bool) {
        let collected = collect_garbage(self.storage.as_ref(), &self.state, &self.numbers, sealed_files_too);
        if sealed_files_too {
            self.leftovers = collected.map_or(true, |collected| collected.has_readers);
        }
    }

    /// Brings manifest and catalog together after a crash. The manifest is never ahead of the catalog: if one of a
    /// later commit is there, readable or not, the catalog is an old copy, and nothing is touched.
    fn recover(&mut self) -> Result<(), OpenWriterError> {
        let medium = self.storage.as_ref();
        let commit = self.state.store.commit;
        let current = match read_current(medium) {
            Err(error @ PublishedError::Io { .. }) => return Err(error.into()),
            // Missing or damaged: published anew below.
            other => other.ok(),
        };
        let newest = manifest_commits(medium)?.first().copied().max(current);
        if let Some(later) = newest.filter(|newest| *newest > commit) {
            return Err(self.contradiction(later, &format!("the catalog ends at commit {commit}")));
        }
        let published =
            match current.filter(|current| *current == commit).map(|_| read_manifest(medium, commit)) {
                Some(Ok(manifest)) if manifest == *self.state => true,
                Some(Ok(_)) => return Err(self.contradiction(commit, "their records differ")),
                // Behind, unfinished or damaged: the catalog is the truth.
                Some(Err(_)) | None => false,
            };
        if !published {
            publish_state(medium, &self.state)?;
        }
        self.collect(true);
        let medium = self.storage.as_ref();
        // A copy of the store may lack folders that were empty.
        for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER, CURVATURE_FOLDER, PINS_FOLDER] {
            medium.create_folder(folder).map_err(io_error(medium, "create", folder))?;
        }
        medium.sync_folder("").map_err(io_error(medium, "sync", ""))?;
        self.skip_leftover_segments()
    }

    /// A leftover file that could not be removed must not stand in the way of a new segment's name.
    fn skip_leftover_segments(&mut self) -> Result<(), OpenWriterError> {
        let names = self.storage.list(SEGMENTS_FOLDER).map_err(io_error(
            self.storage.as_ref(),
            "list",
            SEGMENTS_FOLDER,
        ))?;
        // A file that ascribe cannot have written must not use up the numbers.
        let bound = self.state.store.next_segment.0.saturating_add(LEFTOVER_SEGMENTS_MAX);
        let left = names.iter().filter_map(|name| segment_of_file(name));
        let used = left.filter(|segment| segment.0 < bound).max().unwrap_or(SegmentId(0));
        let next = self.state.store.next_segment.max(SegmentId(used.0 + 1));
        self.numbers = Arc::new(SegmentNumbers::new(next));
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
        let _ = write_anew(self.storage.as_ref(), CATALOG_SUM_NAME, catalog_sum(&bytes).as_bytes());
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

fn publish_state(storage: &dyn Storage, state: &Manifest) -> Result<(), OpenWriterError> {
    let commit = state.store.commit;
    let manifest = encode_manifest(state).map_err(|source| PublishedError::Damaged {
        path: storage.describe(&manifest_name(commit)),
        source,
    })?;
    Ok(publish(storage, commit, &manifest)?)
}

/// Renames a damaged file to a name that nobody reads and that is not taken.
fn set_aside(storage: &dyn Storage, name: &str) -> Result<(), OpenWriterError> {
    let mut number = 1_u64;
    let kept = loop {
        let kept = format!("{name}.damaged-{number}");
        if !storage.exists(&kept).map_err(io_error(storage, "find", &kept))? {
            break kept;
        }
        number += 1;
    };
    storage.rename(name, &kept).map_err(io_error(storage, "rename", name))
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
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|error| io(io::Error::other(error)))?;
    bytes.resize(length, 0);
    file.read_at(0, &mut bytes).map_err(&io)?;
    Ok(bytes)
}

/// The catalog's bytes, if no writer is using it; `None` otherwise, or if the medium does not let us look (a read-only
/// one may refuse the lock).
///
/// # Errors
/// The catalog is missing or cannot be read.
pub fn read_idle_catalog(storage: &dyn Storage) -> Result<Option<Vec<u8>>, OpenWriterError> {
    let Ok(Some(_lock)) = storage.lock_shared(LOCK_NAME) else {
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
