//! One answer compared with the exact one.

use std::collections::BTreeSet;

use crate::engine::Hit;

/// The part of the rows at one end of the exact answer, `exact`, that another answer to the same question found, in 0..=1.
///
/// A found row that scores what the last exact row scores is as good as that one, whichever of them a tie let in. Where
/// the exact answer has no rows there is nothing to miss: 1.
///
/// # Complexity
/// O((found + exact) log exact) comparisons of keys.
///
/// ```
/// use ascribe::engine::Hit;
/// use ascribe::evaluation::recall_of;
/// let hit = |key: &str, score| Hit {
///     rank: 1, key: key.into(), score, z: None, percentile: None, text: String::new(), metadata: Default::default(),
///     layers: Vec::new(),
/// };
/// let exact = [hit("a", 3.0), hit("b", 2.0), hit("c", 1.0), hit("d", 1.0)];
/// assert_eq!(recall_of(&[hit("a", 3.0), hit("e", 1.0), hit("f", 0.5)], &exact), 0.5);
/// ```
pub fn recall_of(found: &[Hit], exact: &[Hit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let wanted: BTreeSet<&str> = exact.iter().map(|hit| hit.key.as_str()).collect();
    // As a set: a row that an answer names twice was found once.
    let good: BTreeSet<&str> = found
        .iter()
        .filter(|hit| hit.score == last.score || wanted.contains(hit.key.as_str()))
        .map(|hit| hit.key.as_str())
        .collect();
    good.len().min(exact.len()) as f64 / exact.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(rows: &[(&str, f64)]) -> Vec<Hit> {
        let hit = |(place, (key, score)): (usize, &(&str, f64))| Hit {
            rank: place + 1,
            key: (*key).to_owned(),
            score: *score,
            z: None,
            percentile: Some(50.0),
            text: String::new(),
            metadata: serde_json::Map::new(),
            layers: Vec::new(),
        };
        rows.iter().enumerate().map(hit).collect()
    }

    #[test]
    fn the_rows_that_were_found_count() {
        let exact = hits(&[("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0)]);
        assert_eq!(recall_of(&exact, &exact), 1.0);
        assert_eq!(recall_of(&hits(&[("a", 4.0), ("c", 2.0), ("d", 1.0), ("x", 0.5)]), &exact), 0.75);
        assert_eq!(recall_of(&hits(&[("d", 1.0)]), &exact), 0.25);
        assert_eq!(recall_of(&hits(&[("x", 0.5), ("y", 0.4), ("z", 0.3), ("w", 0.2)]), &exact), 0.0);
        assert_eq!(recall_of(&[], &exact), 0.0);
    }

    #[test]
    fn rows_that_tie_with_the_last_are_as_good_as_it() {
        let exact = hits(&[("a", -4.0), ("b", -3.0), ("c", -3.0)]);
        assert_eq!(recall_of(&hits(&[("a", -4.0), ("y", -3.0), ("z", -3.0)]), &exact), 1.0);
        assert_eq!(recall_of(&hits(&[("x", -3.0), ("y", -3.0), ("z", -3.0)]), &exact), 1.0);
        assert_eq!(recall_of(&hits(&[("b", -3.0), ("z", -2.5)]), &exact), 1.0 / 3.0);
        // A tie further up is no tie with the last.
        let exact = hits(&[("a", 4.0), ("b", 3.0), ("c", 2.0)]);
        assert_eq!(recall_of(&hits(&[("x", 3.0), ("y", 3.0), ("c", 2.0)]), &exact), 1.0 / 3.0);
    }

    #[test]
    fn no_row_counts_twice_and_none_above_the_whole() {
        let exact = hits(&[("a", 2.0), ("b", 1.0)]);
        assert_eq!(recall_of(&hits(&[("a", 2.0), ("a", 2.0)]), &exact), 0.5);
        assert_eq!(recall_of(&hits(&[("x", 1.0), ("y", 1.0), ("z", 1.0)]), &exact), 1.0);
    }

    #[test]
    fn nothing_is_missed_where_nothing_is() {
        assert_eq!(recall_of(&[], &[]), 1.0);
        assert_eq!(recall_of(&hits(&[("x", 1.0)]), &[]), 1.0);
    }
}
