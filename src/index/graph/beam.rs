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

/// Rows that a walk has come by. One byte a row holds the number of the last walk that did: emptying the set is to count on.
#[derive(Debug, Default)]
struct Visited {
    marks: Vec<u8>,
    walk: u8,
    row_count: usize,
}

impl Visited {
    /// Empties the set, for rows below `row_count`.
    fn begin(&mut self, row_count: u32) {
        self.row_count = row_count as usize;
        if self.marks.len() < self.row_count {
            self.marks.resize(self.row_count, 0);
        }
        self.walk = self.walk.wrapping_add(1);
        if self.walk == 0 {
            self.marks.fill(0);
            self.walk = 1;
        }
    }

    /// Adds rows, and appends those that were not in the set to `new`; or gives back the first that there cannot be.
    ///
    /// Whether a row is new is as good as chance, so that no branch hangs on it.
    #[inline]
    fn insert(&mut self, rows: &[u32], new: &mut Vec<u32>) -> Result<(), u32> {
        let marks = self.marks.get_mut(..self.row_count).unwrap_or_default();
        let first = new.len();
        new.resize(first + rows.len(), 0);
        let mut count = first;
        for &row in rows {
            let Some(mark) = marks.get_mut(row as usize) else { return Err(row) };
            // There are as many places as rows.
            if let Some(place) = new.get_mut(count) {
                *place = row;
            }
            count += usize::from(*mark != self.walk);
            *mark = self.walk;
        }
        new.truncate(count);
        Ok(())
    }
}

/// The best rows so far, best first, and which of them the walk has been at.
#[derive(Debug, Default)]
pub(super) struct Nearest {
    rows: Vec<Scored>,
    most: usize,
    /// So many of the best are followed.
    followed: usize,
    /// No row before this place is still to be visited.
    next: usize,
}

impl Nearest {
    /// Empties the list, for the `most` best rows, all of which are followed.
    pub(super) fn begin(&mut self, most: usize) {
        self.begin_to_follow(most, most);
    }

    /// Empties the list, for the `most` best rows, of which the best `followed` are followed.
    fn begin_to_follow(&mut self, followed: usize, most: usize) {
        self.rows.clear();
        let followed = followed.max(1);
        (self.most, self.followed, self.next) = (most.max(followed), followed, 0);
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

    /// Offers several rows, most of which are not among the best; `near` is for keeping the others.
    ///
    /// Whether a row is among the best is as good as chance for a while: those are picked without a branch first.
    #[inline]
    fn offer_all(&mut self, rows: &[u32], scores: &[f32], near: &mut Vec<Scored>) {
        let reached = self.rows.get(self.most - 1).map_or(0, |worst| worst.0);
        near.clear();
        near.resize(rows.len(), Scored(0));
        let mut count = 0;
        for (&row, &score) in rows.iter().zip(scores) {
            let scored = Scored::new(score, row);
            // There are as many places as rows.
            if let Some(place) = near.get_mut(count) {
                *place = scored;
            }
            count += usize::from(scored.0 > reached);
        }
        near.iter().take(count).for_each(|scored| self.offer(*scored));
    }

    /// The best row that the walk has not been at and is to follow.
    #[inline]
    fn take(&mut self) -> Option<u32> {
        while self.next < self.followed {
            let scored = self.rows.get_mut(self.next)?;
            self.next += 1;
            if scored.0 & Scored::DONE == 0 {
                scored.0 |= Scored::DONE;
                return Some(scored.row());
            }
        }
        None
    }

    /// The row that [`take`](Self::take) gives next, unless a better one is offered.
    #[inline]
    fn upcoming(&self) -> Option<u32> {
        let later = self.rows.get(self.next..self.followed.min(self.rows.len()))?;
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

    /// Asks memory for what the scores of some rows are made from, which are asked for next.
    fn ask_for_rows(&self, _rows: &[u32]) {}

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
    /// Rows that were come by for the first time, and are to be scored.
    new: Vec<u32>,
    near: Vec<Scored>,
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
    pub(super) fn walk<S: Space>(&mut self, space: &S, level: u32, most: usize) -> Result<(), S::Error> {
        self.enter(space, [most, most])?;
        walk_in_turns(vec![(self, space)], level)
    }

    /// Begins a walk over a level from the rows that [`nearest`](Self::nearest) holds, which [`walk_in_turns`] leads to its end:
    /// the `most` best rows are there then, and the links of the best `followed` of them were followed. A row is visited at most
    /// once, so that a walk ends whatever the links are.
    pub(super) fn enter<S: Space>(
        &mut self,
        space: &S,
        [followed, most]: [usize; 2],
    ) -> Result<(), S::Error> {
        self.visited.begin(space.row_count());
        self.starts.clear();
        self.starts.extend(self.nearest.rows().iter().map(|start| start.unmarked()));
        self.nearest.begin_to_follow(followed, most);
        for &start in &self.starts {
            self.new.clear();
            self.visited.insert(&[start.row()], &mut self.new).map_err(|row| space.no_such_row(row))?;
            self.nearest.offer(start);
        }
        Ok(())
    }

    /// Follows the links of the best row that the walk has not been at; false at its end.
    #[inline]
    fn follow<S: Space>(&mut self, space: &S, level: u32) -> Result<bool, S::Error> {
        let Some(row) = self.nearest.take() else { return Ok(false) };
        self.steps.hops += 1;
        self.links.clear();
        space.links(level, row, &mut self.links)?;
        self.new.clear();
        self.visited.insert(&self.links, &mut self.new).map_err(|row| space.no_such_row(row))?;
        space.ask_for_rows(&self.new);
        Ok(true)
    }

    /// Asks memory for the links that are followed next.
    #[inline]
    fn ask_for_next<S: Space>(&self, space: &S, level: u32) {
        if let Some(row) = self.nearest.upcoming() {
            space.ask_for(level, row);
        }
    }

    /// Scores the rows that were come by, and keeps the best.
    #[inline]
    fn score<S: Space>(&mut self, space: &S) -> Result<(), S::Error> {
        space.scores(&self.new, &mut self.sums, &mut self.scores)?;
        self.steps.scored += self.new.len() as u64;
        self.nearest.offer_all(&self.new, &self.scores, &mut self.near);
        Ok(())
    }

    /// From the row that [`begin`](Self::begin) scored down to, but not including, `level`, to the best row of each.
    pub(super) fn descend<S: Space>(&mut self, space: &S, top: u32, level: u32) -> Result<(), S::Error> {
        (level + 1..=top).rev().try_for_each(|level| self.walk(space, level, 1))
    }
}

/// Leads walks over a level, all of which were [begun](Beam::enter), to their ends in turns: while one waits for memory others
/// compute. Each finds what it finds alone.
pub(super) fn walk_in_turns<S: Space>(mut going: Vec<(&mut Beam, &S)>, level: u32) -> Result<(), S::Error> {
    going.iter().for_each(|(beam, space)| beam.ask_for_next(*space, level));
    while !going.is_empty() {
        let mut kept = 0;
        for place in 0..going.len() {
            let (beam, space) = &mut going[place];
            if beam.follow(*space, level)? {
                going.swap(kept, place);
                kept += 1;
            }
        }
        going.truncate(kept);
        let is_alone = going.len() == 1;
        for (beam, space) in &mut going {
            // Alone, scoring is what memory has time for, and a better row may still turn up; otherwise the others' turns are.
            if is_alone {
                beam.ask_for_next(*space, level);
                beam.score(*space)?;
            } else {
                beam.score(*space)?;
                beam.ask_for_next(*space, level);
            }
        }
    }
    Ok(())
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
    fn more_rows_may_be_kept_than_are_followed() {
        let mut nearest = Nearest::default();
        nearest.begin_to_follow(2, 3);
        for (score, row) in [(1.0, 1), (3.0, 2), (2.0, 3), (0.5, 4)] {
            nearest.offer(Scored::new(score, row));
        }
        assert_eq!((nearest.take(), nearest.upcoming(), nearest.take()), (Some(2), Some(3), Some(3)));
        // Row 1 is the third best.
        assert_eq!((nearest.upcoming(), nearest.take()), (None, None));
        let rows: Vec<u32> = nearest.rows().iter().map(|scored| scored.row()).collect();
        assert_eq!(rows, [2, 3, 1]);
        nearest.offer(Scored::new(2.5, 5));
        assert_eq!((nearest.upcoming(), nearest.take(), nearest.take()), (Some(5), Some(5), None));
    }

    #[test]
    fn sets_are_emptied_and_refuse_rows_that_there_cannot_be() {
        let mut visited = Visited::default();
        let mut insert = |row_count: Option<u32>, rows: &[u32]| {
            if let Some(row_count) = row_count {
                visited.begin(row_count);
            }
            let mut new = vec![1000];
            visited.insert(rows, &mut new).map(|()| new.split_off(1))
        };
        assert_eq!(insert(Some(70), &[69, 3, 69]), Ok(vec![69, 3]));
        assert_eq!(insert(None, &[3, 5]), Ok(vec![5]));
        assert_eq!(insert(None, &[6, 70, 7]), Err(70));
        // More walks than a byte counts.
        for _ in 0..300 {
            assert_eq!(insert(Some(70), &[69, 7, 6]), Ok(vec![69, 7, 6]));
        }
        assert_eq!(insert(Some(10), &[9, 9]), Ok(vec![9]));
        assert_eq!(insert(None, &[10]), Err(10));
        assert_eq!(insert(Some(80), &[79, 9]), Ok(vec![79, 9]));
    }
}
