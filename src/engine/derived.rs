//! Files that are made from a segment's columns, and may be missing or damaged at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::ColumnId;
use crate::storage::FileError;

/// Derived files of one kind, one a column, as far as they were asked for: open, or `None` where one was found to be
/// damaged. One that appears later is found later, one that is damaged is not looked at again.
#[derive(Debug)]
pub(super) struct DerivedFiles<T>(Mutex<BTreeMap<ColumnId, Option<Arc<T>>>>);

impl<T> Default for DerivedFiles<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> DerivedFiles<T> {
    fn known(&self) -> MutexGuard<'_, BTreeMap<ColumnId, Option<Arc<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a column, opened at the first call that finds one.
    pub(super) fn get(
        &self,
        column: ColumnId,
        open: impl FnOnce() -> Result<Option<T>, FileError>,
    ) -> Option<Arc<T>> {
        let mut known = self.known();
        if let Some(known) = known.get(&column) {
            return known.clone();
        }
        let opened = match open() {
            Ok(None) => return None,
            Ok(Some(file)) => Some(Arc::new(file)),
            Err(_) => None,
        };
        known.entry(column).or_insert(opened).clone()
    }

    /// Leaves the file of a column alone from now on.
    pub(super) fn give_up(&self, column: ColumnId) {
        self.known().insert(column, None);
    }

    /// Whether the file of a column was found to be damaged.
    pub(super) fn is_damaged(&self, column: ColumnId) -> bool {
        self.known().get(&column).is_some_and(Option::is_none)
    }

    /// Looks for the file of a column again.
    pub(super) fn forget(&self, column: ColumnId) {
        self.known().remove(&column);
    }
}
