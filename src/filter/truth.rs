//! Bitmaps of three-valued truth: true, false or unknown for each row.

/// Rows of one bitmap word.
pub(super) const WORD_ROWS: usize = 64;

/// The truth of a condition for some rows, one bit a row in two bitmaps.
///
/// Invariants: a row that is true is known, and bits past the last row are zero in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    rows: usize,
    yes: Vec<u64>,
    known: Vec<u64>,
}

impl Truth {
    /// The same truth for each of `rows` rows; `None` is unknown.
    pub(super) fn constant(rows: usize, value: Option<bool>) -> Self {
        let words = rows.div_ceil(WORD_ROWS);
        let zeros = || vec![0; words];
        Self {
            rows,
            yes: if value == Some(true) { ones(rows) } else { zeros() },
            known: if value.is_some() { ones(rows) } else { zeros() },
        }
    }

    /// The truth of rows that are known where `known` has a bit and true where `yes` has one too. Missing words are
    /// zero; bits past the last row are cleared.
    pub(super) fn new(
        rows: usize,
        yes: impl IntoIterator<Item = u64>,
        known: impl IntoIterator<Item = u64>,
    ) -> Self {
        let known: Vec<u64> = fitted(rows, known);
        let mut yes = fitted(rows, yes);
        for (yes, known) in yes.iter_mut().zip(&known) {
            *yes &= known;
        }
        Self { rows, yes, known }
    }

    /// True becomes false, false true, and unknown stays unknown.
    pub(super) fn negate(&mut self) {
        for (yes, known) in self.yes.iter_mut().zip(&self.known) {
            *yes = known & !*yes;
        }
    }

    /// False where either is false, else unknown where either is unknown, else true.
    pub(super) fn and(&mut self, other: &Self) {
        let theirs = other.yes.iter().zip(&other.known);
        for ((yes, known), (their_yes, their_known)) in self.yes.iter_mut().zip(&mut self.known).zip(theirs) {
            let false_here = *known & !*yes;
            let false_there = their_known & !their_yes;
            *known = (*known & their_known) | false_here | false_there;
            *yes &= their_yes;
        }
    }

    /// True where either is true, else unknown where either is unknown, else false.
    pub(super) fn or(&mut self, other: &Self) {
        let theirs = other.yes.iter().zip(&other.known);
        for ((yes, known), (their_yes, their_known)) in self.yes.iter_mut().zip(&mut self.known).zip(theirs) {
            *yes |= their_yes;
            *known = (*known & their_known) | *yes;
        }
    }

    /// Whether every row is false, so that no AND can change it.
    pub(super) fn is_false_everywhere(&self) -> bool {
        self.yes.iter().all(|word| *word == 0) && count(&self.known) == self.rows
    }

    /// Whether every row is true, so that no OR can change it.
    pub(super) fn is_true_everywhere(&self) -> bool {
        count(&self.yes) == self.rows
    }

    /// The rows that are true, lowest bit first.
    pub(super) fn into_true_words(self) -> Vec<u64> {
        self.yes
    }
}

/// Number of set bits.
pub(super) fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// The places of the set bits, ascending.
pub(super) fn places(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(place, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(place * WORD_ROWS + bit)
        })
    })
}

/// A bitmap with a bit for each of `rows` rows.
pub(super) fn ones(rows: usize) -> Vec<u64> {
    fitted(rows, std::iter::repeat(u64::MAX))
}

/// Exactly the words of `rows` rows, with no bit past the last row.
fn fitted(rows: usize, words: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let length = rows.div_ceil(WORD_ROWS);
    let mut words: Vec<u64> = words.into_iter().take(length).collect();
    words.resize(length, 0);
    if !rows.is_multiple_of(WORD_ROWS)
        && let Some(last) = words.last_mut()
    {
        *last &= (1 << (rows % WORD_ROWS)) - 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [Option<bool>; 3] = [Some(true), Some(false), None];

    fn of(values: &[Option<bool>]) -> Truth {
        let word = |test: fn(&Option<bool>) -> bool| {
            values.iter().enumerate().fold(0, |word, (place, value)| word | (u64::from(test(value)) << place))
        };
        Truth::new(values.len(), [word(|value| *value == Some(true))], [word(Option::is_some)])
    }

    #[test]
    fn the_truth_tables_of_sql() {
        let pairs: Vec<_> = VALUES.iter().flat_map(|left| VALUES.map(|right| (*left, right))).collect();
        let left = of(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
        let right = of(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
        let expect = |table: fn(Option<bool>, Option<bool>) -> Option<bool>| {
            of(&pairs.iter().map(|pair| table(pair.0, pair.1)).collect::<Vec<_>>())
        };
        let mut both = left.clone();
        both.and(&right);
        assert_eq!(
            both,
            expect(|left, right| match (left, right) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            })
        );
        let mut either = left.clone();
        either.or(&right);
        assert_eq!(
            either,
            expect(|left, right| match (left, right) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            })
        );
        let mut not = left.clone();
        not.negate();
        assert_eq!(not, expect(|left, _| left.map(|value| !value)));
    }

    #[test]
    fn bits_past_the_last_row_stay_clear() {
        for rows in [0, 1, 63, 64, 65, 130] {
            let mut truth = Truth::constant(rows, Some(true));
            assert!(truth.is_true_everywhere());
            assert_eq!(count(&truth.yes), rows);
            truth.negate();
            assert!(truth.is_false_everywhere());
            truth.negate();
            truth.or(&Truth::new(rows, std::iter::repeat(u64::MAX), std::iter::repeat(u64::MAX)));
            assert_eq!(places(&truth.into_true_words()).collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
            assert!(rows == 0 || !Truth::constant(rows, None).is_false_everywhere());
        }
    }
}
