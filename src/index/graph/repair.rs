//! Gives every row of a graph a way from the entry.
//!
//! Links are chosen row by row, so that a row may be left without any link to it: no walk would find it, whatever its beam.
//! A traversal from the entry finds such rows, and a tree of links by which all others are reached. Each is linked to by a
//! row near to it that has room, or has a link that is not of the tree: nobody is lost by its going. What hangs from the row
//! is reached with it.

use super::draft::Draft;
use super::error::BuildStop;
use super::insert::Worker;
use super::space::CodedSpace;
use super::work::GraphWork;
use crate::base::limits::GRAPH_REPAIR_BEAM;
use crate::format::GRAPH_NO_ROW;

/// Rows repaired between two looks at whether the work is still wanted.
const LOOK_UP_ROWS: usize = 256;

/// By which row each is reached.
struct Tree {
    parents: Vec<u32>,
    waiting: Vec<u32>,
    reached: u32,
}

impl Tree {
    /// Reaches `row` by `parent`, and everything that hangs from it.
    fn reach(&mut self, draft: &Draft, row: u32, parent: u32) {
        self.add(row, parent);
        while let Some(row) = self.waiting.pop() {
            for &link in draft.links(0, row) {
                self.add(link, row);
            }
        }
    }

    fn add(&mut self, row: u32, parent: u32) {
        if let Some(own) = self.parents.get_mut(row as usize).filter(|own| **own == GRAPH_NO_ROW) {
            *own = parent;
            self.reached += 1;
            self.waiting.push(row);
        }
    }

    fn is_reached(&self, row: u32) -> bool {
        self.parents.get(row as usize).is_some_and(|parent| *parent != GRAPH_NO_ROW)
    }

    fn of(draft: &Draft, row_count: u32) -> Self {
        let parents = vec![GRAPH_NO_ROW; row_count as usize];
        let mut tree = Self { parents, waiting: Vec::new(), reached: 0 };
        if let Some(entry) = draft.entry() {
            tree.reach(draft, entry, entry);
        }
        tree
    }

    /// Links `from` to `row`, if that has room or a link that no way goes by.
    fn link(&self, draft: &mut Draft, from: u32, row: u32) -> bool {
        if draft.add_link(from, row) {
            return true;
        }
        let mut links = draft.links(0, from).to_vec();
        let is_free = |link: &u32| self.parents.get(*link as usize).is_some_and(|parent| *parent != from);
        let Some(place) = links.iter().rposition(is_free) else { return false };
        links[place] = row;
        draft.set_links(0, from, &links);
        true
    }
}

/// Rows that can be reached from the entry on the base level.
///
/// # Complexity
/// O(rows x links)
pub(super) fn reachable(draft: &Draft, row_count: u32) -> u32 {
    Tree::of(draft, row_count).reached
}

/// Links to each of `rows`, all of which stand in the graph, that no way leads to. Returns how many there were, not counting
/// those that others led to then.
///
/// # Complexity
/// O(rows x links), and a walk for each row that was not reached.
pub(super) fn repair(
    space: &CodedSpace<'_>,
    draft: &mut Draft,
    rows: &[u32],
    work: &GraphWork<'_>,
) -> Result<u32, BuildStop> {
    let mut tree = Tree::of(draft, space.row_count());
    let mut worker = Worker::default();
    let mut repaired = 0;
    // Where to look for room if all rows near are full: each row is looked at once.
    let mut spare = rows.iter().copied();
    for (place, &row) in rows.iter().enumerate() {
        if place % LOOK_UP_ROWS == 0 {
            work.look_up()?;
        }
        if tree.is_reached(row) {
            continue;
        }
        worker.look_around(space, draft, row, 0, GRAPH_REPAIR_BEAM)?;
        let near: Vec<u32> = worker.beam.nearest.rows().iter().map(|near| near.row()).collect();
        let near = near.into_iter().filter(|near| !draft.is_attached(*near)).collect::<Vec<u32>>();
        let mut from = None;
        for near in near.into_iter().filter(|near| tree.is_reached(*near)) {
            if tree.link(draft, near, row) {
                from = Some(near);
                break;
            }
        }
        while from.is_none() {
            let Some(other) = spare.next() else { break };
            if tree.is_reached(other) && tree.link(draft, other, row) {
                from = Some(other);
            }
        }
        if let Some(from) = from {
            tree.reach(draft, row, from);
            repaired += 1;
        }
    }
    Ok(repaired)
}
