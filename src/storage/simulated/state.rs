//! Files and names: as they are, as they are on the disk, and what lies between.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::super::checks::split_name;
use super::faults::{Faults, Kind};

/// Bytes that a simulated file may have. It lives in memory; a wild offset shall be an error, not an abort.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Number of a file, never used twice in the life of a medium.
pub(super) type FileNumber = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(FileNumber),
    Folder,
}

pub(super) type Names = BTreeMap<String, Entry>;

/// A change of the names in a folder.
#[derive(Debug)]
pub(super) enum NameChange {
    Link { name: String, entry: Entry },
    Unlink { name: String },
    Rename { from: String, to: String, entry: Entry },
}

impl NameChange {
    /// The names that it touches.
    pub(super) fn touched(&self) -> Vec<&str> {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => vec![name],
            Self::Rename { from, to, .. } => vec![from, to],
        }
    }

    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, entry } => {
                names.insert(name.clone(), *entry);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, entry } => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) live: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<NameChange>,
}

impl Folder {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

/// A change of a file's content.
#[derive(Debug)]
pub(super) enum ContentChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLength(usize),
}

impl ContentChange {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLength(length) => content.resize(*length, 0),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Content {
    /// Shared with readers; a later change copies it for itself.
    pub(super) live: Arc<Vec<u8>>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<ContentChange>,
}

impl Content {
    pub(super) fn of_durable(bytes: Vec<u8>) -> Self {
        Self { live: Arc::new(bytes.clone()), durable: bytes, pending: Vec::new() }
    }

    fn change(&mut self, change: ContentChange) {
        change.apply(Arc::make_mut(&mut self.live));
        self.pending.push(change);
    }
}

/// Who holds locks on a file.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) exclusive: bool,
    pub(super) shared: u64,
}

#[derive(Debug)]
pub(super) struct Medium {
    pub(super) files: Vec<Content>,
    /// By full name; the store's own folder is the empty one.
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) holders: BTreeMap<FileNumber, Holders>,
    pub(super) faults: Faults,
    pub(super) capacity_bytes: Option<u64>,
}

impl Medium {
    pub(super) fn empty(capacity_bytes: Option<u64>) -> Self {
        Self {
            files: Vec::new(),
            folders: BTreeMap::from([(String::new(), Folder::default())]),
            holders: BTreeMap::new(),
            faults: Faults::default(),
            capacity_bytes,
        }
    }

    fn folder(&mut self, folder: &str) -> io::Result<&mut Folder> {
        self.folders.get_mut(folder).ok_or_else(|| not_found(folder))
    }

    /// What `name` leads to.
    pub(super) fn find(&self, name: &str) -> Option<Entry> {
        let (folder, rest) = split_name(name);
        self.folders.get(folder)?.live.get(rest).copied()
    }

    /// The file that `name` leads to.
    pub(super) fn find_file(&self, name: &str) -> io::Result<FileNumber> {
        match self.find(name) {
            Some(Entry::File(number)) => Ok(number),
            Some(Entry::Folder) => Err(is_a_folder(name)),
            None => Err(not_found(name)),
        }
    }

    pub(super) fn create_file(&mut self, name: &str) -> io::Result<FileNumber> {
        self.faults.admit(Kind::Change)?;
        if self.find(name).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists already")));
        }
        let number = self.files.len();
        let (folder, rest) = split_name(name);
        let link = NameChange::Link { name: rest.to_owned(), entry: Entry::File(number) };
        self.folder(folder)?.change(link);
        self.files.push(Content::default());
        Ok(number)
    }

    pub(super) fn create_folder(&mut self, folder: &str) -> io::Result<()> {
        if self.folders.contains_key(folder) {
            return Ok(());
        }
        self.faults.admit(Kind::Change)?;
        if self.find(folder).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{folder} is a file")));
        }
        let (parent, rest) = split_name(folder);
        let link = NameChange::Link { name: rest.to_owned(), entry: Entry::Folder };
        self.folder(parent)?.change(link);
        self.folders.insert(folder.to_owned(), Folder::default());
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.faults.admit(Kind::Change)?;
        self.find_file(name)?;
        let (folder, rest) = split_name(name);
        self.folder(folder)?.change(NameChange::Unlink { name: rest.to_owned() });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.faults.admit(Kind::Change)?;
        let entry = Entry::File(self.find_file(from)?);
        if self.find(to) == Some(Entry::Folder) {
            return Err(is_a_folder(to));
        }
        let ((folder, from), (_, to)) = (split_name(from), split_name(to));
        if from != to {
            let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned(), entry };
            self.folder(folder)?.change(change);
        }
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.faults.admit(Kind::Sync)?;
        self.folder(folder)?.sync();
        Ok(())
    }

    /// Writes `bytes`; on a full medium the part that fits, with an error.
    pub(super) fn write(&mut self, number: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.admit(Kind::Change)?;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or_else(too_large)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let room = self.room(number);
        let fitting = end.min(room).saturating_sub(offset) as usize;
        if fitting > 0 {
            let bytes = bytes[..fitting].to_vec();
            self.files[number].change(ContentChange::Write { offset: offset as usize, bytes });
        }
        if end > room { Err(full()) } else { Ok(()) }
    }

    pub(super) fn set_len(&mut self, number: FileNumber, length: u64) -> io::Result<()> {
        self.faults.admit(Kind::Change)?;
        if length > FILE_BYTES_MAX {
            return Err(too_large());
        }
        if length > self.room(number) {
            return Err(full());
        }
        self.files[number].change(ContentChange::SetLength(length as usize));
        Ok(())
    }

    pub(super) fn sync_file(&mut self, number: FileNumber) -> io::Result<()> {
        self.faults.admit(Kind::Sync)?;
        let content = &mut self.files[number];
        for change in content.pending.drain(..) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    /// Length that the file can have at most: what it has, and what is free.
    fn room(&self, number: FileNumber) -> u64 {
        let Some(free) = self.free_bytes() else { return FILE_BYTES_MAX };
        (self.files[number].live.len() as u64).saturating_add(free)
    }

    /// Bytes that can still be written; `None` without a limit.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let capacity = self.capacity_bytes?;
        let entries = self.folders.values().flat_map(|folder| folder.live.values());
        let used: u64 = entries
            .map(|entry| match entry {
                Entry::File(number) => self.files[*number].live.len() as u64,
                Entry::Folder => 0,
            })
            .sum();
        Some(capacity.saturating_sub(used))
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {name:?} on the simulated medium"))
}

fn is_a_folder(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, format!("{name} is a folder"))
}

fn too_large() -> io::Error {
    let text = format!("a simulated file has at most {FILE_BYTES_MAX} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the simulated medium is full")
}
