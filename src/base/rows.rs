//! Sets of row numbers: deleted rows, rows that pass a filter.

use roaring::RoaringBitmap;
use thiserror::Error;

use super::RowId;

/// Bytes that are no row set.
#[derive(Debug, Error)]
#[error("row set of {length} bytes is not a Roaring bitmap: {reason}")]
pub struct RowSetError {
    /// Bytes given.
    pub length: usize,
    /// What the decoder said.
    pub reason: String,
}

/// A set of row numbers of one segment, compressed.
///
/// ```
/// use ascribe::base::{RowId, RowSet};
/// let mut rows = RowSet::new();
/// rows.insert(RowId(3));
/// assert!(rows.contains(RowId(3)));
/// assert_eq!(rows.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowSet(RoaringBitmap);

impl RowSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows `0..count`.
    pub fn full(count: u32) -> Self {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..count);
        Self(rows)
    }

    /// Adds a row; true if it was not in the set.
    pub fn insert(&mut self, row: RowId) -> bool {
        self.0.insert(row.0)
    }

    /// Whether `row` is in the set.
    pub fn contains(&self, row: RowId) -> bool {
        self.0.contains(row.0)
    }

    /// Whether all rows of `first..first + count` are in the set.
    pub fn contains_range(&self, first: RowId, count: u32) -> bool {
        self.0.contains_range(first.0..first.0.saturating_add(count))
    }

    /// Number of rows in the set.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether the set has no rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest row, if any.
    pub fn last(&self) -> Option<RowId> {
        self.0.max().map(RowId)
    }

    /// Rows of the set below `row`.
    pub fn rank(&self, row: RowId) -> u64 {
        self.0.range_cardinality(..row.0)
    }

    /// The row of the set that has `rank` rows of it below, if there is one.
    ///
    /// ```
    /// use ascribe::base::{RowId, RowSet};
    /// let rows: RowSet = [1, 2, 7].map(RowId).into_iter().collect();
    /// assert_eq!((rows.nth(2), rows.nth(3)), (Some(RowId(7)), None));
    /// ```
    pub fn nth(&self, rank: u32) -> Option<RowId> {
        self.0.select(rank).map(RowId)
    }

    /// The rows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = RowId> + '_ {
        self.0.iter().map(RowId)
    }

    /// Neighbouring rows of the set together, at most `most` at a time: the first of them and how many.
    ///
    /// ```
    /// use ascribe::base::{RowId, RowSet};
    /// let rows: RowSet = [1, 2, 3, 7].map(RowId).into_iter().collect();
    /// assert_eq!(rows.runs(2).collect::<Vec<_>>(), [(RowId(1), 2), (RowId(3), 1), (RowId(7), 1)]);
    /// ```
    pub fn runs(&self, most: u32) -> impl Iterator<Item = (RowId, u32)> + '_ {
        let mut rows = self.0.iter().peekable();
        std::iter::from_fn(move || {
            let first = rows.next()?;
            let mut count = 1;
            while count < most && rows.next_if(|row| *row == first + count).is_some() {
                count += 1;
            }
            Some((RowId(first), count))
        })
    }

    /// The rows of `first..first + count` that are in the set, ascending.
    pub fn range(&self, first: RowId, count: u32) -> impl Iterator<Item = RowId> + '_ {
        self.0.range(first.0..first.0.saturating_add(count)).map(RowId)
    }

    /// Adds every row of `other`.
    pub fn union_with(&mut self, other: &RowSet) {
        self.0 |= &other.0;
    }

    /// Keeps the rows that are in `other` too.
    pub fn intersect_with(&mut self, other: &RowSet) {
        self.0 &= &other.0;
    }

    /// Takes away every row of `other`.
    pub fn subtract(&mut self, other: &RowSet) {
        self.0 -= &other.0;
    }

    /// The set's bytes in the portable Roaring format.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // Writing to a vector cannot fail; a shorter result would be refused by `from_bytes`.
        let _ = self.0.serialize_into(&mut bytes);
        bytes
    }

    /// The set that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// The bytes are no Roaring bitmap, or have bytes left over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RowSetError> {
        let refuse = |reason: String| RowSetError { length: bytes.len(), reason };
        let mut rest = bytes;
        let rows = RoaringBitmap::deserialize_from(&mut rest).map_err(|error| refuse(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse(format!("{} bytes follow it", rest.len())));
        }
        Ok(Self(rows))
    }
}

impl FromIterator<RowId> for RowSet {
    fn from_iter<I: IntoIterator<Item = RowId>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| row.0).collect())
    }
}
