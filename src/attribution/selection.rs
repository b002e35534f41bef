//! The k strongest proponents and opponents of a query, in a total order, in one pass over the scores.
//!
//! Each end is a bounded heap with its weakest row on top, ordered by a comparison that may have to read keys, and
//! reading may fail; hence not the heap of the standard library.

use thiserror::Error;

use super::ScoreChunk;
use crate::base::RowId;
use crate::base::limits::ANSWER_ROWS_MAX;

/// Which ends of the scores an answer holds.
///
/// ```
/// use ascribe::attribution::Side;
/// assert_eq!(Side::from_name("opponents"), Some(Side::Opponents));
/// assert!(!Side::Opponents.has_proponents());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// Both ends.
    #[default]
    Both,
    /// Rows with a positive score, highest first.
    Proponents,
    /// Rows with a negative score, lowest first.
    Opponents,
}

impl Side {
    /// Every side.
    pub const ALL: [Side; 3] = [Self::Both, Self::Proponents, Self::Opponents];

    /// Name in flags and answers: `both`, `proponents`, `opponents`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Proponents => "proponents",
            Self::Opponents => "opponents",
        }
    }

    /// The side of this [`name`](Self::name), if any.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.name() == name)
    }

    /// Whether proponents are asked for.
    pub fn has_proponents(self) -> bool {
        self != Self::Opponents
    }

    /// Whether opponents are asked for.
    pub fn has_opponents(self) -> bool {
        self != Self::Proponents
    }
}

/// Where keys come from. Asked only where scores tie.
pub trait KeyLookup {
    /// What reading a key can fail with.
    type Error;

    /// The key of a row; `segment` is a position in the snapshot's list of segments.
    ///
    /// # Errors
    /// The key cannot be read.
    fn key(&self, segment: usize, row: RowId) -> Result<&str, Self::Error>;
}

/// A row and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// Position of the row's segment in the snapshot's list of segments.
    pub segment: usize,
    /// The row.
    pub row: RowId,
    /// Its score.
    pub score: f64,
}

/// Rows of an answer, strongest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankedRows {
    /// Rows with a positive score, highest first; equal scores by ascending key bytes.
    pub proponents: Vec<ScoredRow>,
    /// Rows with a negative score, lowest first; equal scores by ascending key bytes.
    pub opponents: Vec<ScoredRow>,
}

/// More rows asked for than an answer may hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{rows} rows are more than an answer may hold at each end ({ANSWER_ROWS_MAX}); ask for fewer")]
pub struct SelectionSizeError {
    /// Rows asked for.
    pub rows: usize,
}

/// The `k` strongest rows at each end of the scores pushed so far.
///
/// A positive score is a proponent, a negative one an opponent; a score of 0 (or a NaN) is neither. Rows are ordered by
/// score, then by key bytes ascending, at both ends. The order is total, so that selections of parts of the rows merge,
/// in any order, to the selection of all rows.
///
/// ```
/// use ascribe::attribution::{KeyLookup, ScoreChunk, Selection, Side};
/// use ascribe::base::RowId;
///
/// struct Keys;
/// impl KeyLookup for Keys {
///     type Error = std::convert::Infallible;
///     fn key(&self, _segment: usize, row: RowId) -> Result<&str, Self::Error> {
///         Ok(["d", "c", "b", "a"][row.0 as usize])
///     }
/// }
/// let mut selection = Selection::new(Side::Both, 2)?;
/// selection.push_chunk(0, &ScoreChunk::all(RowId(0), &[1.0, 3.0, -2.0, 1.0]), &Keys)?;
/// let ranked = selection.into_ranked(&Keys)?;
/// let rows: Vec<u32> = ranked.proponents.iter().map(|row| row.row.0).collect();
/// assert_eq!(rows, [1, 3]); // of the two rows that score 1, that with key "a"
/// assert_eq!(ranked.opponents[0].row, RowId(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Selection {
    proponents: End,
    opponents: End,
}

impl Selection {
    /// An empty selection of at most `k` rows at each end of `side`.
    ///
    /// # Errors
    /// `k` is above [`ANSWER_ROWS_MAX`].
    pub fn new(side: Side, k: usize) -> Result<Self, SelectionSizeError> {
        if k > ANSWER_ROWS_MAX {
            return Err(SelectionSizeError { rows: k });
        }
        let end = |wanted: bool, sign: f64| End { rows: Vec::new(), limit: if wanted { k } else { 0 }, sign };
        Ok(Self { proponents: end(side.has_proponents(), 1.0), opponents: end(side.has_opponents(), -1.0) })
    }

    /// Offers a row.
    ///
    /// # Errors
    /// A key that a tie asks for cannot be read; the selection is then incomplete and of no use.
    ///
    /// # Complexity
    /// O(log k); O(1) for a row that is weaker than all that are held.
    pub fn push<K: KeyLookup>(&mut self, row: ScoredRow, keys: &K) -> Result<(), K::Error> {
        if row.score > 0.0 {
            self.proponents.push(row, keys)
        } else if row.score < 0.0 {
            self.opponents.push(row, keys)
        } else {
            Ok(())
        }
    }

    /// Offers the rows of a chunk that count.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    ///
    /// # Complexity
    /// O(n log k) for n rows.
    pub fn push_chunk<K: KeyLookup>(
        &mut self,
        segment: usize,
        chunk: &ScoreChunk<'_>,
        keys: &K,
    ) -> Result<(), K::Error> {
        chunk.try_for_each(|row, score| self.push(ScoredRow { segment, row, score }, keys))
    }

    /// Offers the rows that another selection holds: that of other rows for the same query.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    ///
    /// # Complexity
    /// O(k log k)
    pub fn merge<K: KeyLookup>(&mut self, other: &Selection, keys: &K) -> Result<(), K::Error> {
        for &row in other.proponents.rows.iter().chain(&other.opponents.rows) {
            self.push(row, keys)?;
        }
        Ok(())
    }

    /// The rows held, strongest first.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    ///
    /// # Complexity
    /// O(k log k)
    pub fn into_ranked<K: KeyLookup>(self, keys: &K) -> Result<RankedRows, K::Error> {
        Ok(RankedRows {
            proponents: self.proponents.into_ranked(keys)?,
            opponents: self.opponents.into_ranked(keys)?,
        })
    }
}

/// One end: a binary heap whose first row is the weakest held.
#[derive(Clone, Debug)]
struct End {
    rows: Vec<ScoredRow>,
    limit: usize,
    /// 1 or -1: `sign * score` is positive and grows with strength.
    sign: f64,
}

impl End {
    /// Whether `left` comes before `right` in an answer. Rows of equal score and key (a key is live in one place only,
    /// so these should not meet) go by position, so that the order stays total.
    fn is_stronger<K: KeyLookup>(
        &self,
        left: &ScoredRow,
        right: &ScoredRow,
        keys: &K,
    ) -> Result<bool, K::Error> {
        if left.score != right.score {
            return Ok(self.sign * left.score > self.sign * right.score);
        }
        let place = (left.segment, left.row);
        let other = (right.segment, right.row);
        if place == other {
            return Ok(false);
        }
        let (key, other_key) = (keys.key(left.segment, left.row)?, keys.key(right.segment, right.row)?);
        Ok((key.as_bytes(), place) < (other_key.as_bytes(), other))
    }

    fn push<K: KeyLookup>(&mut self, row: ScoredRow, keys: &K) -> Result<(), K::Error> {
        if self.rows.len() < self.limit {
            self.rows.push(row);
            return self.sift_up(self.rows.len() - 1, keys);
        }
        let Some(weakest) = self.rows.first() else {
            return Ok(());
        };
        if self.is_stronger(&row, weakest, keys)? {
            self.rows[0] = row;
            self.sift_down(keys)?;
        }
        Ok(())
    }

    /// Moves the row at `index` up while it is weaker than its parent.
    fn sift_up<K: KeyLookup>(&mut self, mut index: usize, keys: &K) -> Result<(), K::Error> {
        while index > 0 {
            let parent = (index - 1) / 2;
            if !self.is_stronger(&self.rows[parent], &self.rows[index], keys)? {
                break;
            }
            self.rows.swap(parent, index);
            index = parent;
        }
        Ok(())
    }

    /// Moves the first row down while a child is weaker.
    fn sift_down<K: KeyLookup>(&mut self, keys: &K) -> Result<(), K::Error> {
        let mut index = 0;
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            if left >= self.rows.len() {
                return Ok(());
            }
            let mut weakest = left;
            if right < self.rows.len() && self.is_stronger(&self.rows[left], &self.rows[right], keys)? {
                weakest = right;
            }
            if !self.is_stronger(&self.rows[index], &self.rows[weakest], keys)? {
                return Ok(());
            }
            self.rows.swap(index, weakest);
            index = weakest;
        }
    }

    /// Takes the weakest row away until none is left, and turns their order round.
    fn into_ranked<K: KeyLookup>(mut self, keys: &K) -> Result<Vec<ScoredRow>, K::Error> {
        let mut ranked = Vec::with_capacity(self.rows.len());
        while !self.rows.is_empty() {
            ranked.push(self.rows.swap_remove(0));
            self.sift_down(keys)?;
        }
        ranked.reverse();
        Ok(ranked)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::base::{RandomStream, RowSet};

    /// Keys of segments; counts the look-ups, and fails from the look-up `fails_at` on.
    struct Keys {
        keys: Vec<Vec<String>>,
        looked_up: Cell<usize>,
        fails_at: usize,
    }

    impl Keys {
        fn new(keys: Vec<Vec<String>>) -> Self {
            Self { keys, looked_up: Cell::new(0), fails_at: usize::MAX }
        }
    }

    impl KeyLookup for Keys {
        type Error = String;

        fn key(&self, segment: usize, row: RowId) -> Result<&str, String> {
            self.looked_up.set(self.looked_up.get() + 1);
            if self.looked_up.get() >= self.fails_at {
                return Err(format!("cannot read key of row {row}"));
            }
            Ok(&self.keys[segment][row.0 as usize])
        }
    }

    /// Sorts everything.
    fn naive(scores: &[Vec<f64>], keys: &Keys, side: Side, k: usize) -> RankedRows {
        let mut rows: Vec<ScoredRow> = Vec::new();
        for (segment, scores) in scores.iter().enumerate() {
            rows.extend((0..).zip(scores).map(|(row, &score)| ScoredRow { segment, row: RowId(row), score }));
        }
        rows.sort_by_key(|row| keys.keys[row.segment][row.row.0 as usize].clone());
        let take = |sign: f64, wanted: bool| {
            let mut end: Vec<ScoredRow> = rows.iter().copied().filter(|row| sign * row.score > 0.0).collect();
            end.sort_by(|left, right| (sign * right.score).partial_cmp(&(sign * left.score)).unwrap());
            end.truncate(if wanted { k } else { 0 });
            end
        };
        RankedRows {
            proponents: take(1.0, side != Side::Opponents),
            opponents: take(-1.0, side != Side::Proponents),
        }
    }

    /// Distinct keys in an order of their own, not that of the rows, and of unequal length.
    fn shuffled_keys(counts: &[usize], seed: u64) -> Keys {
        let mut stream = RandomStream::new(seed);
        let mut key = || format!("{}{}", ["", "é", "Z", "a"][stream.below(4) as usize], stream.next_u64());
        Keys::new(counts.iter().map(|&count| (0..count).map(|_| key()).collect()).collect())
    }

    proptest! {
        #[test]
        fn chunks_merged_in_any_order_give_the_sorted_ends(
            steps in prop::collection::vec(prop::collection::vec(-4..5_i32, 0..60), 1..4),
            k in 0..20_usize,
            side in prop::sample::select(Side::ALL.to_vec()),
            size in 1..20_usize,
            seed in any::<u64>(),
        ) {
            // Few distinct scores: most rows tie. A step of 0 becomes -0 in even places.
            let scores: Vec<Vec<f64>> = steps.iter().map(|steps| steps.iter().enumerate()
                .map(|(index, &step)| if step == 0 && index % 2 == 0 { -0.0 } else { f64::from(step) / 4.0 })
                .collect()).collect();
            let keys = shuffled_keys(&scores.iter().map(Vec::len).collect::<Vec<_>>(), seed);
            let mut parts = Vec::new();
            for (segment, scores) in scores.iter().enumerate() {
                for (index, chunk) in scores.chunks(size).enumerate() {
                    let mut part = Selection::new(side, k).unwrap();
                    let first = RowId((index * size) as u32);
                    part.push_chunk(segment, &ScoreChunk::all(first, chunk), &keys).unwrap();
                    parts.push(part);
                }
            }
            let expected = naive(&scores, &keys, side, k);
            let mut stream = RandomStream::new(seed);
            for _ in 0..3 {
                let mut whole = Selection::new(side, k).unwrap();
                for index in (1..parts.len()).rev() {
                    parts.swap(index, stream.below(index as u64 + 1) as usize);
                }
                for part in &parts {
                    whole.merge(part, &keys).unwrap();
                }
                prop_assert_eq!(whole.into_ranked(&keys).unwrap(), expected.clone());
            }
        }
    }

    #[test]
    fn keys_are_read_only_where_scores_tie() {
        let scores: Vec<f64> =
            (0..500).map(|index| f64::from((index * 337) % 499 - 250) + 0.5).take(499).collect();
        let keys = shuffled_keys(&[500], 1);
        let mut selection = Selection::new(Side::Both, 40).unwrap();
        selection.push_chunk(0, &ScoreChunk::all(RowId(0), &scores), &keys).unwrap();
        let ranked = selection.clone().into_ranked(&keys).unwrap();
        assert_eq!(keys.looked_up.get(), 0);
        assert_eq!(ranked, naive(&[scores], &keys, Side::Both, 40));
        selection
            .push(ScoredRow { segment: 0, row: RowId(499), score: ranked.proponents[39].score }, &keys)
            .unwrap();
        assert_eq!(keys.looked_up.get(), 2);
    }

    #[test]
    fn zero_and_nan_are_at_neither_end() {
        let keys = shuffled_keys(&[4], 2);
        let mut selection = Selection::new(Side::Both, 9).unwrap();
        selection.push_chunk(0, &ScoreChunk::all(RowId(0), &[0.0, -0.0, f64::NAN, -5e-324]), &keys).unwrap();
        let ranked = selection.into_ranked(&keys).unwrap();
        assert_eq!(ranked.proponents, []);
        assert_eq!(ranked.opponents, [ScoredRow { segment: 0, row: RowId(3), score: -5e-324 }]);
    }

    #[test]
    fn rows_that_are_not_live_are_not_offered() {
        let keys = shuffled_keys(&[20], 2);
        let live: RowSet = [RowId(11), RowId(3)].into_iter().collect();
        let chunk = ScoreChunk { first: RowId(10), scores: &[9.0, 1.0, 9.0], live: Some(&live) };
        let mut selection = Selection::new(Side::Both, 9).unwrap();
        selection.push_chunk(2, &chunk, &keys).unwrap();
        let ranked = selection.into_ranked(&keys).unwrap();
        assert_eq!(ranked.proponents, [ScoredRow { segment: 2, row: RowId(11), score: 1.0 }]);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error() {
        let mut keys = shuffled_keys(&[3], 3);
        keys.fails_at = 2;
        let mut selection = Selection::new(Side::Proponents, 2).unwrap();
        let error = selection.push_chunk(0, &ScoreChunk::all(RowId(0), &[1.0; 3]), &keys);
        assert_eq!(error, Err("cannot read key of row 1".to_owned()));
    }

    #[test]
    fn the_size_is_limited_and_nothing_is_reserved() {
        assert!(Selection::new(Side::Both, ANSWER_ROWS_MAX).is_ok());
        let error = Selection::new(Side::Both, ANSWER_ROWS_MAX + 1).unwrap_err();
        assert_eq!(error, SelectionSizeError { rows: ANSWER_ROWS_MAX + 1 });
    }

    #[test]
    fn a_hundred_thousand_rows_at_each_end() {
        let mut stream = RandomStream::new(8);
        let scores: Vec<f64> = (0..300_000).map(|_| (stream.below(2_001) as f64 - 1_000.0) / 8.0).collect();
        let keys = shuffled_keys(&[scores.len()], 8);
        let mut selection = Selection::new(Side::Both, ANSWER_ROWS_MAX).unwrap();
        selection.push_chunk(0, &ScoreChunk::all(RowId(0), &scores), &keys).unwrap();
        let ranked = selection.into_ranked(&keys).unwrap();
        assert_eq!(ranked, naive(&[scores], &keys, Side::Both, ANSWER_ROWS_MAX));
    }
}
