//! The declared name that a mistyped one probably stands for.

use crate::base::limits::NAME_BYTES_MAX;

/// The candidate nearest to `name`: at most one edit for every three characters of `name`, letter case aside. The
/// first of equals.
///
/// # Complexity
/// Candidates x 64 x 64 steps at most; longer names have no neighbour.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let allowed = wanted.len().div_ceil(3);
    candidates
        .filter(|candidate| candidate.len() <= NAME_BYTES_MAX)
        .map(|candidate| {
            let letters: Vec<char> = candidate.to_lowercase().chars().collect();
            (edits(&wanted, &letters), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `left` into `right`.
///
/// # References
/// The optimal string alignment distance: Boytsov, Indexing methods for approximate dictionary searching, ACM Journal
/// of Experimental Algorithmics 16, 2011, section 2.2.
fn edits(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut older: Vec<usize> = vec![0; width];
    let mut previous: Vec<usize> = (0..width).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = Vec::with_capacity(width);
        current.push(row + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = previous[column] + usize::from(letter != other);
            let mut best = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && left[row - 1] == *other && right[column - 1] == *letter;
            if swapped {
                best = best.min(older[column - 1] + 1);
            }
            current.push(best);
        }
        older = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_known_pairs() {
        let pairs = [("kitten", "sitting", 3), ("yaer", "year", 1), ("", "abc", 3), ("same", "same", 0)];
        for (left, right, distance) in pairs {
            let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
            assert_eq!(edits(&left, &right), distance, "{left:?} {right:?}");
            assert_eq!(edits(&right, &left), distance, "{right:?} {left:?}");
        }
    }

    #[test]
    fn only_near_names_are_offered() {
        let names = ["label", "year", "source"];
        assert_eq!(nearest("yaer", names.into_iter()), Some("year"));
        assert_eq!(nearest("LABEL", names.into_iter()), Some("label"));
        assert_eq!(nearest("colour", names.into_iter()), None);
        assert_eq!(nearest(&"y".repeat(65), names.into_iter()), None);
    }
}
