//! The readers' truth: the published manifest, and the pins that keep its files.
//!
//! A reader never opens the catalog. It reads CURRENT, takes a shared lock on a pin file of that commit, and reads
//! CURRENT again: if it still names the same commit, every later garbage collection sees the pin.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::medium::{FileLock, Storage};
use crate::base::CommitSeq;
use crate::base::limits::MANIFEST_BYTES_MAX;
use crate::format::{
    CURRENT_SIZE_BYTES, Manifest, ManifestError, decode_current, decode_manifest, encode_current,
    manifest_name, manifest_sequence,
};

/// Folder of row and column files.
pub const SEGMENTS_FOLDER: &str = "segments";
/// Folder of encoder files.
pub const ENCODERS_FOLDER: &str = "encoders";
/// Folder of curvature files.
pub const CURVATURE_FOLDER: &str = "curvature";
/// Folder of readers' pins.
pub const PINS_FOLDER: &str = "pins";

const CURRENT_NAME: &str = "CURRENT";
const TEMPORARY_SUFFIX: &str = ".new";
/// Times that a reader starts again because a commit came between; each try is a few microseconds.
const PIN_TRIES: usize = 1000;

/// The published state cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishedError {
    /// There is no store.
    #[error("{path} is not an ascribe store (it has no CURRENT file); create one with \"ascribe create\"")]
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
    /// The manifest or CURRENT is damaged.
    #[error("{path} is damaged: {source}; opening the store for writing publishes it anew from the catalog")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// Commits came faster than the reader could pin one.
    #[error("commits come faster than {path} can be pinned; try again")]
    Busy {
        /// The store.
        path: String,
    },
}

impl PublishedError {
    fn io(storage: &dyn Storage, operation: &'static str, name: &str) -> impl Fn(io::Error) -> Self {
        let path = storage.describe(name);
        move |source| Self::Io { operation, path: path.clone(), source }
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The commit that CURRENT names.
///
/// # Errors
/// There is no store, or CURRENT is damaged.
pub fn read_current(storage: &dyn Storage) -> Result<CommitSeq, PublishedError> {
    let file = match storage.open(CURRENT_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PublishedError::NotAStore { path: storage.describe("") });
        }
        Err(error) => return Err(PublishedError::io(storage, "open", CURRENT_NAME)(error)),
    };
    if file.len() != CURRENT_SIZE_BYTES as u64 {
        let reason = format!("it has {} bytes, expected {CURRENT_SIZE_BYTES}", file.len());
        let source = ManifestError::Shape { part: "CURRENT", reason };
        return Err(PublishedError::Damaged { path: storage.describe(CURRENT_NAME), source });
    }
    let bytes = file.bytes().map_err(PublishedError::io(storage, "read", CURRENT_NAME))?;
    decode_current(bytes)
        .map_err(|source| PublishedError::Damaged { path: storage.describe(CURRENT_NAME), source })
}

/// The manifest of a commit.
///
/// # Errors
/// It is missing or damaged.
pub(super) fn read_manifest(storage: &dyn Storage, commit: CommitSeq) -> Result<Manifest, PublishedError> {
    let name = manifest_name(commit);
    let file = storage.open(&name).map_err(PublishedError::io(storage, "open", &name))?;
    if file.len() > MANIFEST_BYTES_MAX {
        let reason = format!("it has {} bytes, at most {MANIFEST_BYTES_MAX} are possible", file.len());
        let source = ManifestError::Shape { part: "the manifest", reason };
        return Err(PublishedError::Damaged { path: storage.describe(&name), source });
    }
    let bytes = file.bytes().map_err(PublishedError::io(storage, "read", &name))?;
    decode_manifest(bytes, commit)
        .map_err(|source| PublishedError::Damaged { path: storage.describe(&name), source })
}

/// The commits of which there are manifests, whether they can be read or not, newest first.
pub(super) fn manifest_commits(storage: &dyn Storage) -> Result<Vec<CommitSeq>, PublishedError> {
    let names = storage.list("").map_err(PublishedError::io(storage, "list", ""))?;
    let mut commits: Vec<CommitSeq> = names.iter().filter_map(|name| manifest_sequence(name)).collect();
    commits.sort_unstable_by(|left, right| right.cmp(left));
    Ok(commits)
}

/// The newest of these manifests (newest first) that is not damaged.
///
/// # Errors
/// One that is newer cannot be read for another reason than damage: the medium fails, or its version is too new.
pub(super) fn newest_undamaged(
    storage: &dyn Storage,
    commits: &[CommitSeq],
) -> Result<Option<Manifest>, PublishedError> {
    for commit in commits {
        match read_manifest(storage, *commit) {
            Err(PublishedError::Damaged { source, .. })
                if !matches!(source, ManifestError::Version { .. }) => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// Publishes a state, whose manifest has these bytes: the manifest, made durable with its name, then CURRENT.
pub(super) fn publish(
    storage: &dyn Storage,
    commit: CommitSeq,
    manifest: &[u8],
) -> Result<(), PublishedError> {
    let sync = || storage.sync_folder("").map_err(PublishedError::io(storage, "sync", ""));
    write_anew(storage, &manifest_name(commit), manifest)?;
    // The manifest's name must be durable before CURRENT can lead to it: a crash may keep one name and lose the other.
    sync()?;
    write_anew(storage, CURRENT_NAME, &encode_current(commit))?;
    sync()
}

/// Writes a small file under a temporary name, durably, and then gives it its own: readers see the old or the new one.
pub(super) fn write_anew(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), PublishedError> {
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    match storage.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PublishedError::io(storage, "remove", &temporary)(error));
        }
        // One is left over from a write that did not finish.
        _ => {}
    }
    let mut writer = storage.create(&temporary).map_err(PublishedError::io(storage, "create", &temporary))?;
    writer.write(bytes).map_err(PublishedError::io(storage, "write", &temporary))?;
    writer.sync().map_err(PublishedError::io(storage, "sync", &temporary))?;
    storage.rename(&temporary, name).map_err(PublishedError::io(storage, "rename", &temporary))
}

/// Keeps the files of one commit from being collected while it lives.
#[derive(Debug)]
pub struct Pin {
    storage: Arc<dyn Storage>,
    name: String,
    lock: Option<Box<dyn FileLock>>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.lock = None;
        // The pin file is litter now, unless another reader of this process shares it. Failing to remove it is
        // harmless: the next writer does.
        if let Ok(Some(_alone)) = self.storage.lock_exclusive(&self.name) {
            let _ = self.storage.remove(&self.name);
        }
    }
}

/// Name of a pin file of this process.
fn pin_name(commit: CommitSeq) -> String {
    static READERS: AtomicU64 = AtomicU64::new(0);
    let reader = READERS.fetch_add(1, Ordering::Relaxed);
    format!("{PINS_FOLDER}/{}.{reader}-{commit}", std::process::id())
}

/// The commit that a pin file holds.
pub(super) fn pinned_commit(file_name: &str) -> Option<CommitSeq> {
    file_name.rsplit_once('-')?.1.parse().ok().map(CommitSeq)
}

/// Whether the medium takes no new file, so that nobody can pin.
fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    )
}

/// The current state, pinned. On a read-only medium there is no pin (`None`): the caller then opens every file before
/// it goes on, and begins again if one is gone.
///
/// # Errors
/// There is no store, its manifest cannot be read, or the medium fails otherwise than by being read-only: a reader that
/// goes on unpinned may lose its files to a writer.
pub fn pin_current(storage: &Arc<dyn Storage>) -> Result<(Manifest, Option<Pin>), PublishedError> {
    let mut commit = read_current(storage.as_ref())?;
    for _ in 0..PIN_TRIES {
        let name = pin_name(commit);
        let mut lock = storage.lock_shared(&name);
        if lock.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // A copy of the store may lack folders that were empty.
            lock = storage.create_folder(PINS_FOLDER).and_then(|()| storage.lock_shared(&name));
        }
        let (lock, read_only) = match lock {
            Ok(lock) => (lock, false),
            Err(error) if is_read_only(&error) => (None, true),
            Err(error) => return Err(PublishedError::io(storage.as_ref(), "lock", &name)(error)),
        };
        let pin = lock.map(|lock| Pin { storage: Arc::clone(storage), name, lock: Some(lock) });
        let now = read_current(storage.as_ref())?;
        if now == commit && (pin.is_some() || read_only) {
            match read_manifest(storage.as_ref(), commit) {
                Ok(manifest) => return Ok((manifest, pin)),
                // Without a pin the manifest may be collected between the two reads.
                Err(error) if error.is_not_found() && read_current(storage.as_ref())? != commit => {}
                Err(error) => return Err(error),
            }
        }
        commit = now;
    }
    Err(PublishedError::Busy { path: storage.describe("") })
}
