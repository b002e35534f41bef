//! What the engine asks of the place where its files lie. Two implementations: the disk, and a simulated one that
//! can crash.
//!
//! File names are relative to the store, with `/` between folder and file (`segments/7.rows`); the store's own folder
//! is the empty name. Nothing is durable before the duty that says so: a file's bytes after
//! [`FileWriter::sync`] (or [`RandomFile::sync`]), its name after [`Storage::sync_folder`] of the folder it is in.
//!
//! A name that could lead out of the store (`..`, an absolute name, a backslash) is refused with `InvalidInput` by
//! every call. Errors do not repeat the name; [`Storage::describe`] gives it for messages.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A file being written front to back. Dropping it without [`sync`](Self::sync) leaves its bytes at the mercy of a
/// crash.
pub trait FileWriter: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// The medium refuses them, for example because it is full. A part of them may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far survive a crash. After an error the file must not be relied on and the call
    /// must not be repeated: the failed pages may already count as clean. So every later sync of this handle is an
    /// error too.
    ///
    /// # Errors
    /// The medium could not make the bytes durable, now or at an earlier call.
    fn sync(&mut self) -> io::Result<()>;
}

/// The bytes of a file that nobody changes any more. They stay readable while this value lives, even after the file
/// was removed.
pub trait FileBytes: Send + Sync + Debug {
    /// Length in bytes when the file was opened.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`, without touching the rest of the file.
    ///
    /// # Errors
    /// The range goes past the end, or the medium cannot be read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// All bytes of the file: a memory map, or (without mapping) a copy made at the first call.
    ///
    /// # Errors
    /// The medium cannot be read, the file has become shorter, or there is no memory for the copy.
    fn bytes(&self) -> io::Result<&[u8]>;

    /// Heap bytes held for this file; a map holds none.
    fn heap_bytes(&self) -> u64;

    /// Whether the bytes are a memory map.
    fn is_mapped(&self) -> bool {
        false
    }
}

/// A file that is read and written anywhere: the catalog.
pub trait RandomFile: Send + Sync + Debug {
    /// Length in bytes.
    ///
    /// # Errors
    /// The medium cannot tell.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The medium cannot tell.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// The range goes past the end, or the medium cannot be read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`, which may extend the file.
    ///
    /// # Errors
    /// The medium refuses them.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// The medium refuses it.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far survive a crash, the length too; see [`FileWriter::sync`] for what an error
    /// means.
    ///
    /// # Errors
    /// The medium could not make the bytes durable, now or at an earlier call.
    fn sync(&self) -> io::Result<()>;
}

/// A lock on a file, released when dropped or when its process dies.
pub trait FileLock: Send + Sync + Debug {}

/// A place for files with explicit durability.
pub trait Storage: Send + Sync + Debug + 'static {
    /// Creates an empty file for writing.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one: sealed files are never written again.
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>>;

    /// Opens a sealed file for reading.
    ///
    /// # Errors
    /// `NotFound`, `name` is no regular file, or the medium cannot be read.
    fn open(&self, name: &str) -> io::Result<Arc<dyn FileBytes>>;

    /// Opens a file for reading and writing anywhere, creating it if it is missing.
    ///
    /// # Errors
    /// The medium refuses it.
    fn open_random(&self, name: &str) -> io::Result<Arc<dyn RandomFile>>;

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// The medium cannot tell.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Names of the files (no folders) in `folder`, without the folder's name, sorted; empty if the folder is missing.
    ///
    /// # Errors
    /// The medium cannot be read.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Creates `folder` (one level) if it is missing. Durable after [`sync_folder`](Self::sync_folder) of the folder
    /// that it is in; the store's own folder is durable at once.
    ///
    /// # Errors
    /// The medium refuses it.
    fn create_folder(&self, folder: &str) -> io::Result<()>;

    /// Removes a file's name. Readers that have it open keep its bytes.
    ///
    /// # Errors
    /// `NotFound`, or the medium refuses it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives the file `from` the name `to` in the same folder, replacing what stood there, atomically.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for two different folders, or the medium refuses it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names in `folder` survive a crash.
    ///
    /// # Errors
    /// The medium could not make them durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Takes the exclusive lock on the file `name`, creating the file if it is missing; `None` if another holder
    /// (process or handle) has an exclusive or shared lock on it, or if the name no longer leads to the file that was
    /// locked. Never waits.
    ///
    /// # Errors
    /// The medium cannot lock.
    fn lock_exclusive(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>>;

    /// Takes a shared lock on the file `name`, creating it if it is missing; `None` if another holder has an exclusive
    /// lock on it, or if the name no longer leads to the file that was locked. Never waits.
    ///
    /// # Errors
    /// The medium cannot lock (for example because it is read-only).
    fn lock_shared(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>>;

    /// Bytes that can still be written; `None` where the medium does not tell.
    ///
    /// # Errors
    /// The medium cannot be asked.
    fn free_bytes(&self) -> io::Result<Option<u64>>;

    /// How the file is called in messages: on a disk its path.
    fn describe(&self, name: &str) -> String;
}
