//! A finished graph, as a graph file holds it.

use super::column::{GraphColumn, GraphRows};
use super::draft::Draft;
use crate::format::{GRAPH_NO_ROW, GraphHead};

/// A finished graph: the content of the sections of a graph file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrozenGraph {
    /// How it was made, where a walk begins, what recall was measured.
    pub head: GraphHead,
    /// `base_links` places a row of the column, [`GRAPH_NO_ROW`] behind the last link.
    pub links: Vec<u32>,
    /// Level by level above the base its rows, ascending, then for each `upper_links` places with the places of other rows
    /// of the level, [`GRAPH_NO_ROW`] behind the last.
    pub upper: Vec<u32>,
    /// Rows that every walk scores, ascending.
    pub scanned: Vec<u32>,
}

impl FrozenGraph {
    /// The finished form of a draft. Levels are those up to the entry's.
    pub(super) fn new(draft: Draft, mut head: GraphHead, scanned: Vec<u32>, row_count: u32) -> Self {
        head.entry = draft.entry();
        let mut upper = Vec::new();
        for level in 1..=draft.top() {
            let rows: Vec<u32> = (0..row_count).filter(|row| draft.level(*row) >= level).collect();
            head.level_rows.push(rows.len() as u32);
            upper.extend_from_slice(&rows);
            for &row in &rows {
                let end = upper.len() + draft.links_max(level);
                let places = draft.links(level, row).iter().map(|link| rows.binary_search(link));
                upper.extend(places.filter_map(|place| place.ok().map(|place| place as u32)));
                upper.resize(end, GRAPH_NO_ROW);
            }
        }
        Self { head, links: draft.into_base(), upper, scanned }
    }

    /// Appends the links of a row on a level, 0 the base; none of a row or level that is not there.
    pub fn links_of(&self, level: u32, row: u32, links: &mut Vec<u32>) {
        let list = |lists: &[u32], place: usize, most: usize, links: &mut Vec<u32>| {
            let places = lists.get(place * most..(place + 1) * most).unwrap_or_default();
            links.extend(places.iter().take_while(|link| **link != GRAPH_NO_ROW));
        };
        let Some(above) = level.checked_sub(1) else {
            return list(&self.links, row as usize, self.head.base_links as usize, links);
        };
        let start = (self.head.level_start(above as usize) / 4) as usize;
        let count = self.head.level_rows.get(above as usize).map_or(0, |rows| *rows as usize);
        let (rows, lists) =
            self.upper.get(start..).and_then(|level| level.split_at_checked(count)).unwrap_or_default();
        if let Ok(place) = rows.binary_search(&row) {
            let first = links.len();
            list(lists, place, self.head.upper_links as usize, links);
            // A place that is not there leads to a row that is not there.
            links[first..].iter_mut().for_each(|link| {
                *link = rows.get(*link as usize).copied().unwrap_or(GRAPH_NO_ROW);
            });
        }
    }
}

/// A column with a graph in memory.
#[derive(Clone, Copy, Debug)]
pub struct FrozenColumn<'a, R> {
    /// Its codes.
    pub rows: &'a R,
    /// Its graph.
    pub graph: &'a FrozenGraph,
}

impl<R: GraphRows> GraphColumn for FrozenColumn<'_, R> {
    type Rows = R;

    fn rows(&self) -> &R {
        self.rows
    }

    fn entry(&self) -> Option<u32> {
        self.graph.head.entry
    }

    fn levels(&self) -> u32 {
        self.graph.head.level_rows.len() as u32
    }

    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), R::Error> {
        self.graph.links_of(level, row, links);
        Ok(())
    }

    fn scanned(&self, rows: &mut Vec<u32>) -> Result<(), R::Error> {
        rows.extend_from_slice(&self.graph.scanned);
        Ok(())
    }
}
