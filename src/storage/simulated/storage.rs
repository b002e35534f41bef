//! The storage, its controls for tests, and surgery on its bytes.

use std::io;
use std::sync::Arc;

use super::super::checks::{check_file_name, check_folder_name, check_same_folder, split_name};
use super::super::medium::{FileBytes, FileLock, FileWriter, RandomFile, Storage};
use super::faults::Failure;
use super::handles::{OpenFile, SharedMedium, SimulatedBytes, SimulatedLock, SimulatedWriter};
use super::state::{Content, Entry, Medium};
use super::survival;

/// A medium in memory that loses at a crash what a disk may lose, for tests of everything that must survive a crash, an
/// error in the middle or a full disk. A clone is another handle to the same medium.
///
/// What it models, from what POSIX promises and file systems do:
/// - A file's content and its name are made durable apart: the one by `sync` of the file, the other by `sync_folder`.
/// - Content that was not synced survives in any legal mixture: each 512-byte sector of the file as it was on the disk
///   or as it was after one of the writes to it. A sector that shows a later write shows the earlier ones to the same
///   sector too. The length may survive without the bytes, which then read as zeros.
/// - Name changes that were not synced survive independently, except that those of one name keep their order, and a
///   rename happens at both names or at neither.
/// - A file is not its name: a removed file stays readable through open handles, a rename keeps the file.
///
/// ```
/// use ascribe::storage::{SimulatedStorage, Storage};
/// let storage = SimulatedStorage::new();
/// let mut writer = storage.create("a")?;
/// writer.write(b"synced")?;
/// writer.sync()?;
/// storage.sync_folder("")?;
/// storage.create("b")?.write(b"not synced")?;
/// let left = storage.crash(1); // seed 1 drops everything that was not synced
/// assert_eq!(left.names(), ["a"]);
/// assert_eq!(left.open("a")?.bytes()?, b"synced");
/// assert!(storage.open("a").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedStorage {
    medium: SharedMedium,
}

impl SimulatedStorage {
    /// An empty medium.
    pub fn new() -> Self {
        Self::of(Medium::empty(None))
    }

    fn of(medium: Medium) -> Self {
        Self { medium: SharedMedium::new(medium) }
    }

    /// Crashes the medium, and gives the one that is left: everything durable, and of the rest a legal part that
    /// `seed` chooses. Seeds that are 0 modulo 8 keep everything, seeds that are 1 modulo 8 lose everything that was
    /// not durable, the others draw. There are no locks on the new medium, and its counts begin at 0.
    ///
    /// Every use of this medium and of what is open on it fails from now on with "simulated crash". Calling again with
    /// another seed gives another outcome of the same crash.
    pub fn crash(&self, seed: u64) -> SimulatedStorage {
        let mut medium = self.medium.inspect();
        medium.faults.crash();
        Self::of(survival::survivor(&medium, seed))
    }

    /// Orders a crash just before the `count`-th sync (of a file or folder) from now, counted from 1, takes effect:
    /// that sync and everything after it fail. 0 is now. What is left, [`crash`](Self::crash) tells.
    pub fn crash_at_sync(&self, count: u64) {
        self.medium.inspect().faults.crash_at_sync(count);
    }

    /// Whether the medium has crashed.
    pub fn has_crashed(&self) -> bool {
        self.medium.inspect().faults.crashed()
    }

    /// Orders an ordinary I/O error of the `count`-th operation (see [`operations`](Self::operations)) from now,
    /// counted from 1. The operation has no effect; a sync that fails leaves the writes as they were, to be lost at a
    /// crash. A later order replaces this one.
    pub fn fail_operation(&self, count: u64, failure: Failure) {
        self.medium.inspect().faults.fail_operation(count, failure);
    }

    /// Limits the bytes of all files together. What goes beyond fails with `StorageFull`, after the part of it that
    /// fits was written.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.medium.inspect().capacity_bytes = capacity_bytes;
    }

    /// Operations so far that change the medium or sync, failed ones counted: create (files and folders), write,
    /// set the length, remove, rename, sync, sync of a folder.
    pub fn operations(&self) -> u64 {
        self.medium.inspect().faults.operations()
    }

    /// Syncs of files and folders so far, failed ones counted.
    pub fn syncs(&self) -> u64 {
        self.medium.inspect().faults.syncs()
    }

    /// Names of all files, with their folders, sorted; after a crash as they were just before.
    pub fn names(&self) -> Vec<String> {
        let medium = self.medium.inspect();
        let mut names = Vec::new();
        for (path, folder) in &medium.folders {
            let files = folder.live.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
            names.extend(
                files.map(|(name, _)| if path.is_empty() { name.clone() } else { format!("{path}/{name}") }),
            );
        }
        names.sort_unstable();
        names
    }

    /// The bytes of a file; after a crash as they were just before.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        let medium = self.medium.inspect();
        let number = medium.find_file(name)?;
        Ok(medium.files[number].live.to_vec())
    }

    /// Replaces the bytes of a file, or makes a new file of them; they, and the names in the file's folder, are durable
    /// at once. Counts as no operation. Whoever has the file open for reading keeps the bytes that it had.
    ///
    /// # Errors
    /// There is no such folder, or a folder of this name.
    pub fn overwrite_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        check_file_name(name)?;
        let mut medium = self.medium.inspect();
        let content = Content::of_durable(bytes.to_vec());
        match medium.find_file(name) {
            Ok(number) => medium.files[number] = content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let entry = Entry::File(medium.files.len());
                let (folder, rest) = split_name(name);
                let folder = medium.folders.get_mut(folder).ok_or(error)?;
                // Before the new name: an older removal of the same name is among what was not synced.
                folder.sync();
                folder.live.insert(rest.to_owned(), entry);
                folder.durable.insert(rest.to_owned(), entry);
                medium.files.push(content);
            }
            Err(error) => return Err(error),
        }
        if let Some(folder) = medium.folders.get_mut(split_name(name).0) {
            folder.sync();
        }
        Ok(())
    }

    /// Another medium with the same folders and files, all durable, without locks, orders and counts.
    pub fn duplicate(&self) -> SimulatedStorage {
        Self::of(survival::copy(&self.medium.inspect()))
    }

    fn lock(&self, name: &str, exclusive: bool) -> io::Result<Option<Box<dyn FileLock>>> {
        check_file_name(name)?;
        let mut medium = self.medium.use_it()?;
        let number = match medium.find_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => medium.create_file(name)?,
            found => found?,
        };
        let lock = SimulatedLock::take(&self.medium, &mut medium, number, exclusive);
        Ok(lock.map(|lock| Box::new(lock) as Box<dyn FileLock>))
    }
}

impl Default for SimulatedStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for SimulatedStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        check_file_name(name)?;
        let number = self.medium.use_it()?.create_file(name)?;
        Ok(Box::new(SimulatedWriter { file: OpenFile::new(self.medium.clone(), number), length: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn FileBytes>> {
        check_file_name(name)?;
        let medium = self.medium.use_it()?;
        let number = medium.find_file(name)?;
        let bytes = Arc::clone(&medium.files[number].live);
        Ok(Arc::new(SimulatedBytes { medium: self.medium.clone(), bytes }))
    }

    fn open_random(&self, name: &str) -> io::Result<Arc<dyn RandomFile>> {
        check_file_name(name)?;
        let mut medium = self.medium.use_it()?;
        let number = match medium.find_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => medium.create_file(name)?,
            found => found?,
        };
        Ok(Arc::new(OpenFile::new(self.medium.clone(), number)))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        check_file_name(name)?;
        Ok(matches!(self.medium.use_it()?.find(name), Some(Entry::File(_))))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        check_folder_name(folder)?;
        let medium = self.medium.use_it()?;
        let Some(folder) = medium.folders.get(folder) else { return Ok(Vec::new()) };
        let files = folder.live.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
        Ok(files.map(|(name, _)| name.clone()).collect())
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        check_folder_name(folder)?;
        self.medium.use_it()?.create_folder(folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_file_name(name)?;
        self.medium.use_it()?.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_same_folder(from, to)?;
        check_file_name(from)?;
        check_file_name(to)?;
        self.medium.use_it()?.rename(from, to)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        check_folder_name(folder)?;
        self.medium.use_it()?.sync_folder(folder)
    }

    fn lock_exclusive(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>> {
        self.lock(name, true)
    }

    fn lock_shared(&self, name: &str) -> io::Result<Option<Box<dyn FileLock>>> {
        self.lock(name, false)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.medium.use_it()?.free_bytes())
    }

    fn describe(&self, name: &str) -> String {
        format!("simulated:{name}")
    }
}
