//! Whether a catalog that was not closed cleanly can be trusted.
//!
//! redb verifies its pages only when asked, and damaged pages can panic or abort inside it. So a catalog whose bytes
//! are not those of the last clean close is first checked on a copy in memory: in this process behind a wall for
//! panics, or, where the program offers one, in a child process that may die.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::backend::MemoryBackend;
use super::database::{Catalog, CatalogError, builder, read_state};
use crate::format::Manifest;

/// Checks catalog bytes and reads the state in them.
pub trait CatalogCheck: Send + Sync + Debug {
    /// The committed state that the bytes of a `catalog.redb` hold; `None` if nothing was ever committed to it.
    ///
    /// # Errors
    /// The bytes are damaged.
    fn check(&self, bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError>;
}

/// Checks in this process. A panic inside redb is caught; an abort is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckInProcess;

impl CatalogCheck for CheckInProcess {
    fn check(&self, bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError> {
        check_catalog_bytes(bytes)
    }
}

/// Opens a copy of a catalog, checks every page and reads every record.
///
/// # Errors
/// The bytes are damaged, or redb panicked on them.
pub fn check_catalog_bytes(bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError> {
    // Nothing was ever written to it.
    if bytes.is_empty() {
        return Ok(None);
    }
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let database = builder().create_with_backend(MemoryBackend::new(bytes))?;
        let mut catalog = Catalog::from_database(database);
        catalog.check_integrity()?;
        read_state(&catalog)
    }));
    checked.unwrap_or_else(|_| Err(CatalogError::Damaged { reason: "its pages cannot be read".to_owned() }))
}
