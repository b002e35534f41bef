//! How much room a file system has.

use std::io;
use std::path::Path;

/// Bytes that this process can still write to the file system of `folder`.
///
/// # Errors
/// The system does not tell.
#[cfg(unix)]
pub(super) fn free_bytes(folder: &Path) -> io::Result<Option<u64>> {
    let system = rustix::fs::statvfs(folder)?;
    Ok(Some(system.f_bavail.saturating_mul(system.f_frsize)))
}

/// Not known on this platform.
#[cfg(not(unix))]
pub(super) fn free_bytes(_folder: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}
