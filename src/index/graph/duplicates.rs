//! Rows that are the same as another: one of them stands in the graph, the others hang from it in a tree.
//!
//! Thousands of equal rows would link to each other only, and the diversity rule would leave a row with one link, because
//! every other is as near to that one. In a tree every row is reached over few links, and building stays linear.

use super::draft::Draft;
use super::space::CodedSpace;
use crate::base::checksum;

/// Digits of a scale that count: scales that differ by rounding only are the same.
const SCALE_BITS_IGNORED: u32 = 8;

/// Rows sorted by whether they are the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Duplicates {
    /// Of rows that are the same the first, ascending; most of them alone.
    pub(super) first: Vec<u32>,
    /// Each other row behind the first that it is the same as, ascending.
    pub(super) others: Vec<(u32, u32)>,
}

impl Duplicates {
    /// The rows that have no duplicates, ascending.
    pub(super) fn alone(&self) -> Vec<u32> {
        let others = &self.others;
        let has_none = |row: &&u32| others.binary_search_by_key(*row, |(first, _)| *first).is_err();
        self.first.iter().filter(has_none).copied().collect()
    }
}

/// Finds the duplicates among `rows`, ascending.
///
/// # Complexity
/// O(rows log rows), 16 bytes a row.
pub(super) fn find(space: &CodedSpace<'_>, rows: &[u32]) -> Duplicates {
    let sum = |row: &u32| {
        let scale = space.weight(*row).scale.to_bits() >> SCALE_BITS_IGNORED;
        (checksum(space.codes(*row)), scale, *row)
    };
    let mut sums: Vec<(u64, u32, u32)> = rows.iter().map(sum).collect();
    sums.sort_unstable();
    let mut found = Duplicates::default();
    for group in sums.chunk_by(|left, right| (left.0, left.1) == (right.0, right.1)) {
        let Some(&(_, _, first)) = group.first() else { continue };
        found.first.push(first);
        for &(_, _, row) in &group[1..] {
            // Equal checksums of other codes are possible.
            if space.codes(row) == space.codes(first) {
                found.others.push((first, row));
            } else {
                found.first.push(row);
            }
        }
    }
    found.first.sort_unstable();
    found.others.sort_unstable();
    found
}

/// Hangs duplicates from the rows that they are the same as, which stand in the graph.
///
/// A row without room for one more link loses its last; whoever that was the only way to is given another by the repair.
pub(super) fn attach(draft: &mut Draft, others: &[(u32, u32)]) {
    let fan_out = draft.links_max(0).saturating_sub(1).max(1);
    let mut links = Vec::new();
    for group in others.chunk_by(|left, right| left.0 == right.0) {
        let Some(&(first, root)) = group.first() else { continue };
        for (place, &(_, row)) in group.iter().enumerate() {
            draft.place(row, 0);
            draft.attach(row);
            links.clear();
            links.push(first);
            let below = group.iter().skip(place * fan_out + 1).take(fan_out);
            links.extend(below.map(|(_, row)| *row));
            draft.set_links(0, row, &links);
        }
        if !draft.add_link(first, root) {
            links.clear();
            links.extend_from_slice(draft.links(0, first));
            links.pop();
            links.push(root);
            draft.set_links(0, first, &links);
        }
    }
}
