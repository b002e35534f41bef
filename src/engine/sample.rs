//! Rows drawn by chance.

use std::collections::BTreeMap;

use super::snapshot::Snapshot;
use crate::base::{RandomStream, RowId};
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
        let rows = draw(self.row_count(), count, seed).filter_map(|number| self.live_row(number));
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

/// The first `count` places of `0..total` shuffled, or all.
///
/// # References
/// Knuth: The Art of Computer Programming 2, 3rd edition, section 3.4.2, algorithm P, from its other end.
fn draw(total: u64, count: usize, seed: u64) -> impl Iterator<Item = u64> {
    let mut stream = RandomStream::new(seed);
    // Places behind the drawn ones that do not hold their own number any more: few, where few are drawn of many.
    let mut moved = BTreeMap::new();
    (0..total).take(count).map(move |place| {
        let chosen = place + stream.below(total - place);
        let here = moved.remove(&place).unwrap_or(place);
        if chosen == place { here } else { moved.insert(chosen, here).unwrap_or(chosen) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_drawn_once_and_longer_samples_begin_like_shorter_ones() {
        for total in [0, 1, 2, 7, 100] {
            let mut all: Vec<u64> = draw(total, usize::MAX, 5).collect();
            let some: Vec<u64> = draw(total, 5, 5).collect();
            assert_eq!(some, all[..all.len().min(5)]);
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
        assert_eq!(draw(u64::MAX, 3, 0).count(), 3);
    }

    #[test]
    fn every_number_is_as_likely_as_any_other_in_every_place() {
        let mut counts = [[0; 5]; 3];
        for seed in 0..5000 {
            for (place, number) in draw(5, 3, RandomStream::mix(seed)).enumerate() {
                counts[place][number as usize] += 1;
            }
        }
        // 1000 expected; the standard deviation is 28.
        assert!(counts.iter().flatten().all(|count| (860..1140).contains(count)), "{counts:?}");
    }
}
