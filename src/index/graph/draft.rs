//! A graph in the making: flat arrays of links.

use super::beam::Space;
use super::error::BuildStop;
use super::space::CodedSpace;
use crate::base::limits::GRAPH_LEVELS_MAX;
use crate::format::GRAPH_NO_ROW;

/// Links of all rows, on the base level and above.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    base_links: usize,
    upper_links: usize,
    /// `base_links` places a row.
    base: Vec<u32>,
    /// The highest level of each row.
    levels: Vec<u8>,
    /// Where the lists of a row above the base begin, in lists.
    starts: Vec<u32>,
    /// `upper_links` places a row and level.
    upper: Vec<u32>,
    entry: Option<u32>,
    /// Rows that stand in the graph.
    rows: u32,
    /// One bit a row: it is the same as another, to which it is attached.
    attached: Vec<u64>,
}

impl Draft {
    /// No links between `row_count` rows.
    ///
    /// # Complexity
    /// O(row_count x base_links)
    pub fn new(row_count: u32, base_links: u32, upper_links: u32) -> Self {
        let rows = row_count as usize;
        Self {
            base_links: base_links as usize,
            upper_links: upper_links as usize,
            base: vec![GRAPH_NO_ROW; rows * base_links as usize],
            levels: vec![0; rows],
            starts: vec![0; rows],
            upper: Vec::new(),
            entry: None,
            rows: 0,
            attached: vec![0; rows.div_ceil(64)],
        }
    }

    /// Puts a row into the graph, without links, on all levels up to `level`. The first row of a level higher than all
    /// others becomes the entry.
    pub fn place(&mut self, row: u32, level: u32) {
        let level = level.min(GRAPH_LEVELS_MAX as u32);
        let is_highest = self.entry.is_none() || level > self.top();
        let Some(own) = self.levels.get_mut(row as usize) else { return };
        *own = level as u8;
        self.starts[row as usize] = (self.upper.len() / self.upper_links.max(1)) as u32;
        self.upper.resize(self.upper.len() + level as usize * self.upper_links, GRAPH_NO_ROW);
        self.rows += 1;
        if is_highest {
            self.entry = Some(row);
        }
    }

    /// Makes `row` the entry; it must be of the highest level.
    pub fn set_entry(&mut self, row: u32) {
        self.entry = Some(row);
    }

    /// Where a walk begins.
    pub fn entry(&self) -> Option<u32> {
        self.entry
    }

    /// Levels above the base.
    pub fn top(&self) -> u32 {
        self.entry.map_or(0, |entry| self.level(entry))
    }

    /// The highest level of a row.
    pub fn level(&self, row: u32) -> u32 {
        self.levels.get(row as usize).map_or(0, |level| u32::from(*level))
    }

    /// Rows in the graph.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Most links of a row on a level.
    pub fn links_max(&self, level: u32) -> usize {
        if level == 0 { self.base_links } else { self.upper_links }
    }

    /// The links of a row.
    pub fn links(&self, level: u32, row: u32) -> &[u32] {
        let list = self.whole_list(level, row);
        &list[..list.partition_point(|link| *link != GRAPH_NO_ROW)]
    }

    /// Where the links of a row stand, with the places that are free.
    fn whole_list(&self, level: u32, row: u32) -> &[u32] {
        let list = if level == 0 { &self.base } else { &self.upper };
        self.range(level, row).and_then(|range| list.get(range)).unwrap_or_default()
    }

    /// Makes `links` the links of a row; those beyond the most are left out.
    pub fn set_links(&mut self, level: u32, row: u32, links: &[u32]) {
        let Some(range) = self.range(level, row) else { return };
        let list = if level == 0 { &mut self.base } else { &mut self.upper };
        let list = list.get_mut(range).unwrap_or_default();
        let count = links.len().min(list.len());
        list[..count].copy_from_slice(&links[..count]);
        list[count..].fill(GRAPH_NO_ROW);
    }

    /// Adds a link if there is room; whether there was.
    pub(super) fn add_link(&mut self, row: u32, link: u32) -> bool {
        let Some(range) = self.range(0, row) else { return false };
        let list = self.base.get_mut(range).unwrap_or_default();
        let free = list.iter_mut().find(|place| **place == GRAPH_NO_ROW);
        free.map(|place| *place = link).is_some()
    }

    fn range(&self, level: u32, row: u32) -> Option<std::ops::Range<usize>> {
        let most = self.links_max(level);
        let list = match level {
            0 => row as usize,
            _ if level <= self.level(row) => *self.starts.get(row as usize)? as usize + level as usize - 1,
            _ => return None,
        };
        Some(list * most..(list + 1) * most)
    }

    /// Marks a row as attached to one that it is the same as.
    pub(super) fn attach(&mut self, row: u32) {
        if let Some(word) = self.attached.get_mut(row as usize / 64) {
            *word |= 1 << (row % 64);
        }
    }

    pub(super) fn is_attached(&self, row: u32) -> bool {
        self.attached.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// All links of the base level, row by row.
    pub(super) fn into_base(self) -> Vec<u32> {
        self.base
    }
}

/// The way from the entry towards one row.
#[derive(Debug)]
pub(super) struct Towards<'a> {
    pub(super) space: &'a CodedSpace<'a>,
    pub(super) draft: &'a Draft,
    pub(super) row: u32,
}

impl Space for Towards<'_> {
    type Error = BuildStop;

    #[inline]
    fn row_count(&self) -> u32 {
        self.space.row_count()
    }

    #[inline]
    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), BuildStop> {
        links.extend_from_slice(self.draft.links(level, row));
        Ok(())
    }

    #[inline]
    fn ask_for(&self, level: u32, row: u32) {
        self.space.ask_for(self.draft.whole_list(level, row));
    }

    #[inline]
    fn scores(&self, rows: &[u32], sums: &mut Vec<i32>, scores: &mut Vec<f32>) -> Result<(), BuildStop> {
        self.space.similarities(self.row, rows, sums, scores)
    }

    fn no_such_row(&self, row: u32) -> BuildStop {
        BuildStop::Refused { reason: format!("a link leads to row {row}, there are {}", self.row_count()) }
    }
}
