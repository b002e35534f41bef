//! Rows drawn by chance.

use super::snapshot::Snapshot;
use crate::base::{RowId, drawn_numbers};
use crate::storage::FileError;

impl Snapshot {
    /// Keys of `count` live rows, or of all if there are fewer: no row twice, every row as likely as any other. A longer
    /// sample of the same seed begins with the shorter one.
    ///
    /// # Errors
    /// Bytes on the way are damaged.
    ///
    /// # Complexity
    /// O(count x segments); rows that are not drawn are not looked at.
    pub fn sample_keys(&self, count: usize, seed: u64) -> Result<Vec<String>, FileError> {
        let rows = drawn_numbers(self.row_count(), count, seed).filter_map(|number| self.live_row(number));
        rows.map(|(segment, row)| self.inner.segments[segment].segment.rows.key(row).map(str::to_owned))
            .collect()
    }

    /// The live row that has `number` live ones before it, over all segments, and the position of its segment.
    pub(super) fn live_row(&self, mut number: u64) -> Option<(usize, RowId)> {
        for (segment, view) in self.inner.segments.iter().enumerate() {
            if number >= view.live_rows() {
                number -= view.live_rows();
                continue;
            }
            let place = u32::try_from(number).ok()?;
            let row = match &view.live {
                Some(live) => live.nth(place)?,
                None => RowId(place),
            };
            return Some((segment, row));
        }
        None
    }
}
