//! redb's file on our storage, so that catalog and segment files crash together; and one in memory, for checking.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use crate::storage::medium::RandomFile;

/// redb's file on a storage.
#[derive(Debug)]
pub(super) struct MediumBackend(pub(super) Arc<dyn RandomFile>);

impl StorageBackend for MediumBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

/// A copy of the file in memory. It never grows beyond twice its first length, so that a damaged catalog cannot ask
/// for more.
#[derive(Debug)]
pub(super) struct MemoryBackend {
    bytes: Mutex<Vec<u8>>,
    length_max: usize,
}

impl MemoryBackend {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let length_max = bytes.len().saturating_mul(2);
        Self { bytes: Mutex::new(bytes), length_max }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> io::Result<T>) -> io::Result<T> {
        work(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn grow(&self, bytes: &mut Vec<u8>, length: usize) -> io::Result<()> {
        if length > self.length_max {
            return Err(io::Error::other("a copy of the catalog would outgrow its bound"));
        }
        bytes.resize(length, 0);
        Ok(())
    }
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(length).ok_or_else(|| io::Error::other("offset out of range"))?;
    Ok(start..end)
}

impl StorageBackend for MemoryBackend {
    fn len(&self) -> io::Result<u64> {
        self.with(|bytes| Ok(bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|bytes| {
            let stored = bytes.get(place(offset, out.len())?).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(stored);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|bytes| self.grow(bytes, length))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|bytes| {
            let range = place(offset, data.len())?;
            if range.end > bytes.len() {
                self.grow(bytes, range.end)?;
            }
            bytes[range].copy_from_slice(data);
            Ok(())
        })
    }
}
