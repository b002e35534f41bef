//! The storage on a real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::checks::{check_file_name, check_folder_name, check_range, check_same_folder, sync_failed_before};
use super::free_space::free_bytes;
use super::map::FileMap;
use super::medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
use super::position::{read_exact_at, write_all_at};

/// How a [`DiskStorage`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Whether sealed files are memory-mapped (the default). Without it no file is ever mapped: whoever asks for all
    /// bytes of a file gets a copy on the heap, and a file that another program truncates gives an error, not a
    /// signal. For network file systems and for folders that others write to.
    pub memory_map: bool,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { memory_map: true }
    }
}

/// Files in one folder of a file system. Locks are advisory (`flock`): they hold between processes and between
/// handles of one process, and end with their process. On a network file system they hold as far as it supports them.
///
/// ```
/// use ascribe::storage::{DiskOptions, DiskStorage, Storage};
/// let folder = tempfile::tempdir()?;
/// let storage = DiskStorage::new(folder.path().join("store"), DiskOptions { memory_map: true });
/// storage.create_folder("")?;
/// let mut writer = storage.create("CURRENT")?;
/// writer.write(b"7")?;
/// writer.sync()?;
/// storage.sync_folder("")?;
/// assert_eq!(storage.open("CURRENT")?.bytes()?, b"7");
/// assert!(storage.create("../outside").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DiskStorage {
    root: PathBuf,
    options: DiskOptions,
}

impl DiskStorage {
    /// The storage whose own folder is `root`. Touches nothing: `create_folder("")` creates the folder itself.
    pub fn new(root: PathBuf, options: DiskOptions) -> Self {
        Self { root, options }
    }

    /// The store's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn file_path(&self, name: &str) -> io::Result<PathBuf> {
        check_file_name(name)?;
        Ok(self.root.join(name))
    }

    fn folder_path(&self, folder: &str) -> io::Result<PathBuf> {
        check_folder_name(folder)?;
        // Joining the empty name would add a slash at the end.
        Ok(if folder.is_empty() { self.root.clone() } else { self.root.join(folder) })
    }

    fn lock(
        &self,
        name: &str,
        take: fn(&File) -> Result<(), TryLockError>,
    ) -> io::Result<Option<Box<dyn FileLock>>> {
        let path = self.file_path(name)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match take(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let lock = DiskLock { file };
        Ok(if leads_to(&path, &lock.file)? { Some(Box::new(lock)) } else { None })
    }
}

/// Whether `path` still leads to `file`. Between our opening the file and locking it, its holder may have removed it;
/// the lock would then be on a file that nobody else can find.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let held = file.metadata()?;
        Ok((found.dev(), found.ino()) == (held.dev(), held.ino()))
    }
    #[cfg(not(unix))]
    {
        // No stable file number here; a name in use cannot be taken by another file while we have it open.
        let _ = file;
        Ok(found.is_file())
    }
}

impl Storage for DiskStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.file_path(name)?)?;
        Ok(Box::new(DiskWriter { file, sync_failed: false }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn FileBytes>> {
        let path = self.file_path(name)?;
        // Asked before opening: opening a pipe that someone left under this name would wait for its writer.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is not a regular file", path.display()),
            ));
        }
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let content = if self.options.memory_map {
            Content::Mapped(FileMap::of(&file, length)?)
        } else {
            Content::Copied { reading: Mutex::new(()), copy: OnceLock::new() }
        };
        Ok(Arc::new(DiskBytes { file, length, content }))
    }

    fn open_random(&self, name: &str) -> io::Result<Arc<dyn RandomFile>> {
        let path = self.file_path(name)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(DiskRandomFile { file, sync_failed: AtomicBool::new(false) }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        match fs::metadata(self.file_path(name)?) {
            Ok(metadata) => Ok(!metadata.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder_path(folder)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let (false, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.folder_path(folder)?;
        if folder.is_empty() { create_durable_folder(&path) } else { create_one_folder(&path) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.file_path(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_same_folder(from, to)?;
        fs::rename(self.file_path(from)?, self.file_path(to)?)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_folder_at(&self.folder_path(folder)?)
    }

    fn lock_exclusive(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>> {
        self.lock(name, File::try_lock)
    }

    fn lock_shared(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>> {
        self.lock(name, File::try_lock_shared)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        free_bytes(&self.root)
    }

    fn describe(&self, name: &str) -> String {
        let path = if name.is_empty() { self.root.clone() } else { self.root.join(name) };
        path.display().to_string()
    }
}

fn create_one_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Creates the store's own folder with those above it. Nobody else can make their names durable, so every level that
/// was missing is synced, and the last one even if it was there: it may have been made a moment ago.
fn create_durable_folder(path: &Path) -> io::Result<()> {
    let parent = parent_of(path);
    if !parent.exists() {
        create_durable_folder(parent)?;
    }
    let existed = path.is_dir();
    create_one_folder(path)?;
    match sync_folder_at(parent) {
        // Whoever made the folder, in a place that we may not read, made its name durable.
        Err(error) if existed && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn sync_folder_at(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; the file system's own journal keeps its names.
#[cfg(not(unix))]
fn sync_folder_at(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(|_| ())
}

struct DiskWriter {
    file: File,
    sync_failed: bool,
}

impl FileWriter for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync_failed {
            return Err(sync_failed_before());
        }
        let result = self.file.sync_all();
        self.sync_failed = result.is_err();
        result
    }
}

#[derive(Debug)]
enum Content {
    Mapped(FileMap),
    Copied { reading: Mutex<()>, copy: OnceLock<Vec<u8>> },
}

#[derive(Debug)]
struct DiskBytes {
    file: File,
    length: u64,
    content: Content,
}

impl DiskBytes {
    fn read_whole(&self) -> io::Result<Vec<u8>> {
        // Memory is touched only as bytes arrive, so that a file with a huge hole ends in an error, not in an abort.
        const STEP_BYTES: usize = 8 * 1024 * 1024;
        let out_of_memory = || {
            io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("no memory for a copy of {} bytes; turn memory mapping on", self.length),
            )
        };
        let length = usize::try_from(self.length).map_err(|_| out_of_memory())?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(length).map_err(|_| out_of_memory())?;
        while copy.len() < length {
            let start = copy.len();
            copy.resize(length.min(start.saturating_add(STEP_BYTES)), 0);
            read_exact_at(&self.file, start as u64, &mut copy[start..])?;
        }
        Ok(copy)
    }
}

impl FileBytes for DiskBytes {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        check_range(offset, out.len(), self.length)?;
        read_exact_at(&self.file, offset, out)
    }

    fn bytes(&self) -> io::Result<&[u8]> {
        let (reading, copy) = match &self.content {
            Content::Mapped(map) => return Ok(map),
            Content::Copied { reading, copy } => (reading, copy),
        };
        if let Some(bytes) = copy.get() {
            return Ok(bytes);
        }
        // One reader at a time, so that two first calls do not hold two copies.
        let _one = reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = copy.get() {
            return Ok(bytes);
        }
        let bytes = self.read_whole()?;
        Ok(copy.get_or_init(|| bytes))
    }

    fn heap_bytes(&self) -> u64 {
        match &self.content {
            Content::Mapped(_) => 0,
            Content::Copied { copy, .. } => copy.get().map_or(0, |bytes| bytes.len() as u64),
        }
    }

    fn is_mapped(&self) -> bool {
        matches!(self.content, Content::Mapped(_))
    }
}

#[derive(Debug)]
struct DiskRandomFile {
    file: File,
    sync_failed: AtomicBool,
}

impl RandomFile for DiskRandomFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&self.file, offset, bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(sync_failed_before());
        }
        let result = self.file.sync_all();
        if result.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        result
    }
}

#[derive(Debug)]
struct DiskLock {
    file: File,
}

impl FileLock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // Closing would do, unless a child process being started holds the handle for a moment longer. Nothing can be
        // done about an error, and closing follows.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(folder: &Path, memory_map: bool) -> DiskStorage {
        DiskStorage::new(folder.to_owned(), DiskOptions { memory_map })
    }

    #[test]
    fn without_mapping_the_bytes_are_one_copy_on_the_heap() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at >> 3) as u8).collect();
        fs::write(folder.path().join("a"), &bytes).unwrap();
        let copied = storage(folder.path(), false).open("a").unwrap();
        assert_eq!(copied.heap_bytes(), 0);
        assert!(copied.bytes().unwrap() == bytes);
        assert_eq!(copied.heap_bytes(), bytes.len() as u64);
        assert!(!copied.is_mapped());
        let mapped = storage(folder.path(), true).open("a").unwrap();
        assert!(mapped.bytes().unwrap() == bytes);
        assert_eq!(mapped.heap_bytes(), 0);
        assert!(mapped.is_mapped());
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_one_that_grew_keeps_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, [7; 100]).unwrap();
        let file = storage(folder.path(), false).open("a").unwrap();
        fs::write(&path, [7; 200]).unwrap();
        assert_eq!(file.len(), 100);
        assert!(file.read_at(90, &mut [0; 20]).is_err());
        fs::write(&path, [7; 50]).unwrap();
        assert_eq!(file.bytes().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(40, &mut [0; 20]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(file.heap_bytes(), 0);
        file.read_at(40, &mut [0; 10]).unwrap();
    }

    #[test]
    fn a_length_beyond_memory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"short").unwrap();
        let file = File::open(folder.path().join("a")).unwrap();
        let content = Content::Copied { reading: Mutex::new(()), copy: OnceLock::new() };
        let bytes = DiskBytes { file, length: u64::MAX, content };
        assert_eq!(bytes.bytes().unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_on_a_file_that_lost_its_name_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        let held = File::create(&path).unwrap();
        assert!(leads_to(&path, &held).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!leads_to(&path, &held).unwrap());
        File::create(&path).unwrap();
        assert!(!leads_to(&path, &held).unwrap());
    }

    /// Removes the name between opening and locking, as a garbage collector could.
    #[cfg(unix)]
    #[test]
    fn a_lock_taken_on_a_removed_file_is_given_up() {
        use std::cell::RefCell;
        thread_local!(static PATH: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) });
        let folder = tempfile::tempdir().unwrap();
        PATH.set(folder.path().join("pin"));
        let storage = storage(folder.path(), true);
        let lost = storage.lock("pin", |file| {
            PATH.with_borrow(|path| fs::remove_file(path).unwrap());
            file.try_lock_shared()
        });
        assert!(lost.unwrap().is_none());
        let replaced = storage.lock("pin", |file| {
            PATH.with_borrow(|path| {
                fs::remove_file(path).unwrap();
                File::create(path).unwrap();
            });
            file.try_lock_shared()
        });
        assert!(replaced.unwrap().is_none());
        assert!(storage.lock_exclusive("pin").unwrap().is_some(), "nothing stays locked");
    }

    #[test]
    fn the_own_folder_is_created_and_named_in_messages() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder.path().join("store"), true);
        assert!(storage.list("").unwrap().is_empty());
        storage.create_folder("").unwrap();
        storage.create_folder("").unwrap();
        assert!(folder.path().join("store").is_dir());
        assert!(storage.describe("segments/7.rows").ends_with("store/segments/7.rows"));
        assert!(storage.describe("").ends_with("store"));
        assert_eq!(parent_of(Path::new("store")), Path::new("."));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let error = storage(folder.path(), true).open("socket").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
