//! The only memory map.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// All bytes of a file, mapped read-only. They start at a page boundary, cost no heap, and are read from the disk when
/// they are first touched. They stay readable after the file was removed.
///
/// ascribe never changes or truncates a file that it maps. **Another program that truncates a mapped file makes the
/// next touch of the lost bytes raise SIGBUS, which ends the process**; one that writes into it changes bytes that
/// were already checked. Where the files of a store are not safe from others, turn mapping off
/// ([`DiskOptions`](super::DiskOptions)).
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model");
/// std::fs::write(&path, b"weights")?;
/// let map = ascribe::storage::FileMap::open(&path)?;
/// assert_eq!(&map[..4], b"weig");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FileMap {
    // An empty range cannot be mapped on every platform.
    map: Option<Mmap>,
}

impl FileMap {
    /// Maps the file at `path` with the length that it has now; it may be empty.
    ///
    /// # Errors
    /// There is no such file, it is a folder, or the system refuses to map it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::of(&file, length)
    }

    /// Maps the first `length` bytes of `file`; the handle may be closed afterwards.
    ///
    /// # Errors
    /// The system refuses, or `length` is beyond this machine's addresses.
    pub(super) fn of(file: &File, length: u64) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self { map: None });
        }
        let length = usize::try_from(length).map_err(|_| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a file of {length} bytes cannot be mapped on this machine"),
            )
        })?;
        // SAFETY: the map is read-only, and ascribe never writes to, truncates or renames onto a file after it is
        // sealed, so the bytes behind the slice do not change through us. Another program could change or truncate
        // the file; that is outside of what a process can prevent, and is said in the documentation of this type. All
        // readers check lengths, checksums and numbers and hold no `str` or `bool` over unchecked bytes.
        let map = unsafe { MmapOptions::new().len(length).map(file) }?;
        Ok(Self { map: Some(map) })
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FileMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileMap({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_holds_the_bytes_even_after_the_file_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = FileMap::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&map[..], &bytes[..]);
        assert_eq!(map.as_ptr().align_offset(4096), 0);
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes_and_a_missing_one_or_a_folder_to_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(FileMap::open(&path).unwrap().len(), 0);
        let missing = FileMap::open(&folder.path().join("other")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(FileMap::open(folder.path()).is_err());
    }
}
