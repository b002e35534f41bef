//! Open files and locks.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::checks::{check_range, sync_failed_before};
use super::super::medium::{FileBytes, FileLock, FileWriter, RandomFile};
use super::state::{FileNumber, Medium};

/// The medium, shared by everything that is open on it.
#[derive(Clone, Debug)]
pub(super) struct SharedMedium(Arc<Mutex<Medium>>);

impl SharedMedium {
    pub(super) fn new(medium: Medium) -> Self {
        Self(Arc::new(Mutex::new(medium)))
    }

    /// The medium, whatever state it is in.
    pub(super) fn inspect(&self) -> MutexGuard<'_, Medium> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_alive(&self) -> io::Result<()> {
        self.inspect().faults.check_alive()
    }

    /// The medium, unless it has crashed.
    pub(super) fn use_it(&self) -> io::Result<MutexGuard<'_, Medium>> {
        let medium = self.inspect();
        medium.faults.check_alive()?;
        Ok(medium)
    }
}

/// A file open for writing.
#[derive(Debug)]
pub(super) struct OpenFile {
    medium: SharedMedium,
    number: FileNumber,
    /// Guards the memory of a failed sync, and with it the order of syncs.
    sync_failed: Mutex<bool>,
}

impl OpenFile {
    pub(super) fn new(medium: SharedMedium, number: FileNumber) -> Self {
        Self { medium, number, sync_failed: Mutex::new(false) }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.medium.use_it()?.write(self.number, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut medium = self.medium.use_it()?;
        if *failed {
            return Err(sync_failed_before());
        }
        let result = medium.sync_file(self.number);
        *failed = result.is_err();
        result
    }
}

#[derive(Debug)]
pub(super) struct SimulatedWriter {
    pub(super) file: OpenFile,
    pub(super) length: u64,
}

impl FileWriter for SimulatedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write(self.length, bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl RandomFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.medium.use_it()?.files[self.number].live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let medium = self.medium.use_it()?;
        copy_range(&medium.files[self.number].live, offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.medium.use_it()?.set_len(self.number, length)
    }

    fn sync(&self) -> io::Result<()> {
        OpenFile::sync(self)
    }
}

/// The bytes of a file as they were when it was opened; they count as mapped, not as heap.
#[derive(Debug)]
pub(super) struct SimulatedBytes {
    pub(super) medium: SharedMedium,
    pub(super) bytes: Arc<Vec<u8>>,
}

impl FileBytes for SimulatedBytes {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.check_alive()?;
        copy_range(&self.bytes, offset, out)
    }

    fn bytes(&self) -> io::Result<&[u8]> {
        self.medium.check_alive()?;
        Ok(&self.bytes)
    }

    fn heap_bytes(&self) -> u64 {
        0
    }
}

fn copy_range(bytes: &[u8], offset: u64, out: &mut [u8]) -> io::Result<()> {
    check_range(offset, out.len(), bytes.len() as u64)?;
    let start = offset as usize;
    out.copy_from_slice(&bytes[start..start + out.len()]);
    Ok(())
}

#[derive(Debug)]
pub(super) struct SimulatedLock {
    medium: SharedMedium,
    number: FileNumber,
    exclusive: bool,
}

impl SimulatedLock {
    /// Takes the lock, or `None` if another holder is in the way.
    pub(super) fn take(
        shared_medium: &SharedMedium,
        medium: &mut Medium,
        number: FileNumber,
        exclusive: bool,
    ) -> Option<Self> {
        let holders = medium.holders.entry(number).or_default();
        if holders.exclusive || (exclusive && holders.shared > 0) {
            return None;
        }
        if exclusive {
            holders.exclusive = true;
        } else {
            holders.shared += 1;
        }
        Some(Self { medium: shared_medium.clone(), number, exclusive })
    }
}

impl FileLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut medium = self.medium.inspect();
        if let Some(holders) = medium.holders.get_mut(&self.number) {
            if self.exclusive {
                holders.exclusive = false;
            } else {
                holders.shared = holders.shared.saturating_sub(1);
            }
        }
    }
}
