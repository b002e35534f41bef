//! Numbers for new segments, and which of those under way nobody may collect.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::medium::Storage;
use super::published::SEGMENTS_FOLDER;
use crate::base::SegmentId;

/// Gives out the numbers of a store's segments, each once, to whoever writes: a transaction, or a merge beside it.
///
/// ```
/// use std::sync::Arc;
/// use ascribe::base::SegmentId;
/// use ascribe::storage::SegmentNumbers;
/// let numbers = Arc::new(SegmentNumbers::new(SegmentId(3)));
/// assert_eq!(numbers.take(), SegmentId(3));
/// let held = SegmentNumbers::hold(&numbers);
/// assert_eq!((held.id(), numbers.next()), (SegmentId(4), SegmentId(5)));
/// assert!(numbers.is_held(SegmentId(4)));
/// drop(held);
/// assert!(!numbers.is_held(SegmentId(4)));
/// ```
#[derive(Debug)]
pub struct SegmentNumbers(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    next: SegmentId,
    held: BTreeSet<SegmentId>,
}

impl SegmentNumbers {
    /// Numbers from `next` on.
    pub fn new(next: SegmentId) -> Self {
        Self(Mutex::new(Numbers { next, held: BTreeSet::new() }))
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody else gets.
    pub fn take(&self) -> SegmentId {
        let mut numbers = self.numbers();
        let id = numbers.next;
        numbers.next = SegmentId(id.0 + 1);
        id
    }

    /// The number that would be given out next: above all that were.
    pub fn next(&self) -> SegmentId {
        self.numbers().next
    }

    /// A number whose files are not collected as long as the returned value lives, though no commit names them yet.
    pub fn hold(this: &Arc<Self>) -> HeldSegment {
        let id = this.take();
        this.numbers().held.insert(id);
        HeldSegment { numbers: Arc::clone(this), id }
    }

    /// Whether somebody holds this number.
    pub fn is_held(&self, id: SegmentId) -> bool {
        self.numbers().held.contains(&id)
    }
}

/// Keeps the files of a segment that no commit names yet.
#[derive(Debug)]
pub struct HeldSegment {
    numbers: Arc<SegmentNumbers>,
    id: SegmentId,
}

impl HeldSegment {
    /// The number.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Removes the files that were written for it; one that cannot be removed now is when the store is opened again.
    pub fn discard(self, storage: &dyn Storage) {
        for file in storage.list(SEGMENTS_FOLDER).unwrap_or_default() {
            if segment_of_file(&file) == Some(self.id) {
                let _ = storage.remove(&format!("{SEGMENTS_FOLDER}/{file}"));
            }
        }
    }
}

impl Drop for HeldSegment {
    fn drop(&mut self) {
        self.numbers.numbers().held.remove(&self.id);
    }
}

/// The segment that a file in the folder of segments belongs to, by its name there.
pub(super) fn segment_of_file(file: &str) -> Option<SegmentId> {
    file.split('.').next()?.parse().ok().map(SegmentId)
}
