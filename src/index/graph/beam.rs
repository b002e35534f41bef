//! The walk that everything else is made of: from some rows along links to the nearest, keeping a beam of the best.
//!
//! A scored row is one number: the order-preserving bits of its score above its complemented row number, so that numbers
//! compare by score and, where scores tie, the lower row comes first. The beam is one sorted list, best first: an
//! insertion moves at most a few kilobytes, and no row is kept twice. Rejected: a heap of candidates and a heap of
//! results, which take longer for beams of a few hundred rows and order ties by chance.
//!
//! References: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
//! Navigable Small World graphs", 2018, algorithm 2; Subramanya et al., "DiskANN", NeurIPS 2019, algorithm 1 (the one list).

use crate::base::limits::GRAPH_ROWS_MAX;

/// A scored row as one number. The lowest bit is free for a mark: no row stands in a list twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scored(u64);

impl Scored {
    const DONE: u64 = 1;

    /// A score that is no number comes last. Of the row 31 bits are kept.
    #[inline]
    pub(super) fn new(score: f32, row: u32) -> Self {
        let bits = if score.is_nan() { f32::NEG_INFINITY } else { score }.to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(ordered) << 32 | u64::from(!row & GRAPH_ROWS_MAX) << 1)
    }

    #[inline]
    pub(super) fn row(self) -> u32 {
        !(self.0 as u32 >> 1) & GRAPH_ROWS_MAX
    }

    #[inline]
    pub(super) fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }

    fn unmarked(self) -> Self {
        Self(self.0 & !Self::DONE)
    }
}

/// A set of rows that is emptied in the time that filling it took.
#[derive(Debug, Default)]
struct Visited {
    words: Vec<u64>,
    /// The rows, in the order in which they came.
    rows: Vec<u32>,
}

impl Visited {
    /// Empties the set, for rows below `row_count`.
    fn begin(&mut self, row_count: u32) {
        for row in self.rows.drain(..) {
            self.words[row as usize / 64] = 0;
        }
        self.words.resize((row_count as usize).div_ceil(64), 0);
    }

    /// Adds rows, and gives back those that were not in the set, or the first that there cannot be.
    ///
    /// Whether a row is new is as good as chance, so that no branch hangs on it.
    #[inline]
    fn insert(&mut self, rows: &[u32]) -> Result<&[u32], u32> {
        let first = self.rows.len();
        let mut count = first;
        self.rows.resize(first + rows.len(), 0);
        for &row in rows {
            let Some(word) = self.words.get_mut(row as usize / 64) else {
                self.rows.truncate(count);
                return Err(row);
            };
            let bit = 1 << (row % 64);
            // There are as many places as rows.
            if let Some(place) = self.rows.get_mut(count) {
                *place = row;
            }
            count += usize::from(*word & bit == 0);
            *word |= bit;
        }
        self.rows.truncate(count);
        Ok(&self.rows[first..])
    }
}

/// The best rows so far, best first, and which of them the walk has been at.
#[derive(Debug, Default)]
pub(super) struct Nearest {
    rows: Vec<Scored>,
    most: usize,
    /// No row before this place is still to be visited.
    next: usize,
}

impl Nearest {
    /// Empties the list, for the `most` best rows.
    pub(super) fn begin(&mut self, most: usize) {
        self.rows.clear();
        (self.most, self.next) = (most.max(1), 0);
    }

    /// Keeps the row if it is among the best.
    #[inline]
    pub(super) fn offer(&mut self, scored: Scored) {
        if self.rows.len() >= self.most {
            if self.rows.last().is_some_and(|worst| scored <= *worst) {
                return;
            }
            self.rows.pop();
        }
        let place = self.rows.partition_point(|better| *better > scored);
        self.rows.insert(place, scored);
        self.next = self.next.min(place);
    }

    /// Offers several rows, most of which are not among the best.
    #[inline]
    fn offer_all(&mut self, rows: &[u32], scores: &[f32]) {
        let worst = |rows: &[Scored], most: usize| rows.get(most - 1).map_or(0, |worst| worst.0);
        let mut reached = worst(&self.rows, self.most);
        for (&row, &score) in rows.iter().zip(scores) {
            let scored = Scored::new(score, row);
            if scored.0 > reached {
                self.offer(scored);
                reached = worst(&self.rows, self.most);
            }
        }
    }

    /// The best row that the walk has not been at.
    #[inline]
    fn take(&mut self) -> Option<u32> {
        loop {
            let scored = self.rows.get_mut(self.next)?;
            self.next += 1;
            if scored.0 & Scored::DONE == 0 {
                scored.0 |= Scored::DONE;
                return Some(scored.row());
            }
        }
    }

    /// The row that [`take`](Self::take) gives next, unless a better one is offered.
    #[inline]
    fn upcoming(&self) -> Option<u32> {
        let later = self.rows.get(self.next..)?;
        later.iter().find(|scored| scored.0 & Scored::DONE == 0).map(|scored| scored.row())
    }

    /// The rows, best first.
    pub(super) fn rows(&self) -> &[Scored] {
        &self.rows
    }
}

/// What is walked over: links, and the scores of rows towards what is looked for.
pub(super) trait Space {
    /// What reading can fail with.
    type Error;

    /// Rows that there can be.
    fn row_count(&self) -> u32;

    /// Appends the links of a row.
    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), Self::Error>;

    /// Asks memory for the links of a row, which may be read soon.
    fn ask_for(&self, level: u32, row: u32);

    /// Writes the score of each of `rows`, all of which exist.
    fn scores(&self, rows: &[u32], sums: &mut Vec<i32>, scores: &mut Vec<f32>) -> Result<(), Self::Error>;

    /// The error of a link to a row that does not exist.
    fn no_such_row(&self, row: u32) -> Self::Error;
}

/// Rows scored and rows whose links were followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) scored: u64,
    pub(super) hops: u64,
}

/// Memory of a walk, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Beam {
    visited: Visited,
    pub(super) nearest: Nearest,
    links: Vec<u32>,
    pub(super) sums: Vec<i32>,
    pub(super) scores: Vec<f32>,
    starts: Vec<Scored>,
    pub(super) steps: Steps,
}

impl Beam {
    /// Scores one row, from which a walk may begin.
    pub(super) fn begin<S: Space>(&mut self, space: &S, entry: u32) -> Result<(), S::Error> {
        if entry >= space.row_count() {
            return Err(space.no_such_row(entry));
        }
        space.scores(&[entry], &mut self.sums, &mut self.scores)?;
        self.steps.scored += 1;
        self.nearest.begin(1);
        self.scores.iter().for_each(|score| self.nearest.offer(Scored::new(*score, entry)));
        Ok(())
    }

    /// Walks over a level from the rows that [`nearest`](Self::nearest) holds, and leaves the `most` best rows there.
    ///
    /// A row is visited at most once, so that a walk ends whatever the links are.
    pub(super) fn walk<S: Space>(&mut self, space: &S, level: u32, most: usize) -> Result<(), S::Error> {
        self.visited.begin(space.row_count());
        self.starts.clear();
        self.starts.extend(self.nearest.rows().iter().map(|start| start.unmarked()));
        self.nearest.begin(most);
        for &start in &self.starts {
            self.visited.insert(&[start.row()]).map_err(|row| space.no_such_row(row))?;
            self.nearest.offer(start);
        }
        while let Some(row) = self.nearest.take() {
            self.steps.hops += 1;
            self.links.clear();
            space.links(level, row, &mut self.links)?;
            // Scoring these takes longer than memory takes to answer.
            if let Some(row) = self.nearest.upcoming() {
                space.ask_for(level, row);
            }
            if let Some(row) = self.links.iter().find(|link| **link >= space.row_count()) {
                return Err(space.no_such_row(*row));
            }
            let new = self.visited.insert(&self.links).map_err(|row| space.no_such_row(row))?;
            space.scores(new, &mut self.sums, &mut self.scores)?;
            self.steps.scored += new.len() as u64;
            self.nearest.offer_all(new, &self.scores);
        }
        Ok(())
    }

    /// From the row that [`begin`](Self::begin) scored down to, but not including, `level`, to the best row of each.
    pub(super) fn descend<S: Space>(&mut self, space: &S, top: u32, level: u32) -> Result<(), S::Error> {
        (level + 1..=top).rev().try_for_each(|level| self.walk(space, level, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_rows_are_in_the_order_of_scores_then_rows() {
        let mut scored: Vec<Scored> = [
            (f32::NAN, 0),
            (1.0, 7),
            (-0.5, 1),
            (f32::INFINITY, GRAPH_ROWS_MAX - 1),
            (1.0, 3),
            (-2.0, 2),
            (0.0, 9),
            (f32::NEG_INFINITY, 1),
        ]
        .map(|(score, row)| Scored::new(score, row))
        .to_vec();
        scored.sort_by(|left, right| right.cmp(left));
        let rows: Vec<u32> = scored.iter().map(|scored| scored.row()).collect();
        assert_eq!(rows, [GRAPH_ROWS_MAX - 1, 3, 7, 9, 1, 2, 0, 1]);
        let scores: Vec<f32> = scored.iter().map(|scored| scored.score()).collect();
        assert_eq!(&scores[1..6], [1.0, 1.0, 0.0, -0.5, -2.0]);
    }

    #[test]
    fn the_best_rows_stay_in_order() {
        let mut nearest = Nearest::default();
        nearest.begin(3);
        for (score, row) in [(1.0, 1), (3.0, 2), (2.0, 3)] {
            nearest.offer(Scored::new(score, row));
        }
        assert_eq!(nearest.take(), Some(2));
        nearest.offer(Scored::new(4.0, 4));
        nearest.offer(Scored::new(0.5, 5));
        let rows: Vec<u32> = nearest.rows().iter().map(|scored| scored.row()).collect();
        assert_eq!(rows, [4, 2, 3]);
        assert_eq!([nearest.take(), nearest.take(), nearest.take()], [Some(4), Some(3), None]);
    }

    #[test]
    fn sets_are_emptied_and_refuse_rows_beyond_their_words() {
        let mut visited = Visited::default();
        visited.begin(70);
        assert_eq!(visited.insert(&[69, 3, 69]), Ok(&[69, 3][..]));
        assert_eq!(visited.insert(&[3, 5]), Ok(&[5][..]));
        assert_eq!(visited.insert(&[6, 200, 7]), Err(200));
        visited.begin(70);
        assert_eq!(visited.insert(&[69, 7, 6]), Ok(&[69, 7, 6][..]));
    }
}
