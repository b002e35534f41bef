//! Puts rows into a graph, in batches whose rows do not see each other.
//!
//! The rows of a batch look for their links in the graph as it was before the batch, in parallel; then their links are set
//! and answered in a fixed order, in parallel by the row that is linked to. So the graph does not depend on the number of
//! threads. A batch is a fixed part of the rows that are there: a graph grows like a snowball, and a row misses few of its
//! neighbours. That needs rows in random order: neighbours that follow each other would fall into one batch.
//!
//! References: Malkov and Yashunin 2018, algorithm 1; Manohar et al., "ParlayANN", PPoPP 2024, section 3 (growing batches).

use super::beam::{Beam, Scored};
use super::draft::{Draft, Towards};
use super::error::BuildStop;
use super::select::Selection;
use super::space::CodedSpace;
use super::work::GraphWork;
use crate::base::RandomStream;
use crate::base::limits::{GRAPH_BATCH_PART, GRAPH_LEVELS_MAX};

/// Memory of one thread, and what it found.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) beam: Beam,
    selection: Selection,
    candidates: Vec<Scored>,
    lists: Vec<List>,
    links: Vec<u32>,
    rows: Vec<u32>,
}

/// Links of a row on a level, as a range of a worker's links.
#[derive(Clone, Copy, Debug)]
struct List {
    level: u32,
    row: u32,
    start: usize,
    end: usize,
}

/// A link that asks to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    level: u32,
    to: u32,
    from: u32,
}

impl Worker {
    /// Leaves the `most` rows nearest to `row` on `level` in the beam, reached from the entry.
    pub(super) fn look_around(
        &mut self,
        space: &CodedSpace<'_>,
        draft: &Draft,
        row: u32,
        level: u32,
        most: usize,
    ) -> Result<(), BuildStop> {
        self.beam.nearest.begin(1);
        let Some(entry) = draft.entry() else { return Ok(()) };
        let towards = Towards { space, draft, row };
        self.beam.begin(&towards, entry)?;
        self.beam.descend(&towards, draft.top(), level)?;
        self.beam.walk(&towards, level, most)
    }

    /// Finds the links of a new row of level `level`.
    fn find(&mut self, part: &Part<'_>, row: u32, level: u32) -> Result<(), BuildStop> {
        let Part { space, draft, beam } = *part;
        if draft.entry().is_none() {
            return Ok(());
        }
        let top = level.min(draft.top());
        self.look_around(space, draft, row, top, beam)?;
        for level in (0..=top).rev() {
            if level < top {
                self.beam.walk(&Towards { space, draft, row }, level, beam)?;
            }
            self.candidates.clear();
            let near = self.beam.nearest.rows().iter();
            self.candidates.extend(near.filter(|near| !draft.is_attached(near.row())));
            let start = self.links.len();
            self.selection.select(space, draft, &self.candidates, draft.links_max(1), &mut self.links)?;
            self.lists.push(List { level, row, start, end: self.links.len() });
        }
        Ok(())
    }

    /// Adds the rows of `requests` to the links of the one row that they lead to, and drops what is too much.
    fn answer(&mut self, part: &Part<'_>, requests: &[Request]) -> Result<(), BuildStop> {
        let Part { space, draft, .. } = *part;
        let Some(&Request { level, to: row, .. }) = requests.first() else { return Ok(()) };
        self.rows.clear();
        self.rows.extend_from_slice(draft.links(level, row));
        self.rows.extend(requests.iter().map(|request| request.from));
        let (start, most) = (self.links.len(), draft.links_max(level));
        if self.rows.len() <= most {
            self.links.extend_from_slice(&self.rows);
        } else {
            let beam = &mut self.beam;
            space.similarities(row, &self.rows, &mut beam.sums, &mut beam.scores)?;
            self.candidates.clear();
            let scored = self.rows.iter().zip(&beam.scores);
            self.candidates.extend(scored.map(|(&row, &score)| Scored::new(score, row)));
            self.candidates.sort_unstable_by(|left, right| right.cmp(left));
            self.selection.select(space, draft, &self.candidates, most, &mut self.links)?;
        }
        self.lists.push(List { level, row, start, end: self.links.len() });
        Ok(())
    }

    /// Sets the links that were found, and gives each to `each`.
    fn set_links(&mut self, draft: &mut Draft, mut each: impl FnMut(Request)) {
        for list in self.lists.drain(..) {
            let links = self.links.get(list.start..list.end).unwrap_or_default();
            draft.set_links(list.level, list.row, links);
            links.iter().for_each(|&to| each(Request { level: list.level, to, from: list.row }));
        }
        self.links.clear();
    }
}

/// What the threads of a build read.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    space: &'a CodedSpace<'a>,
    draft: &'a Draft,
    /// Rows to look at for the links of one.
    beam: usize,
}

/// The level of the next row: it is at least l with probability m^-l.
fn next_level(stream: &mut RandomStream, m: usize) -> u32 {
    (0..GRAPH_LEVELS_MAX as u32 - 1).take_while(|_| stream.below(m.max(2) as u64) == 0).count() as u32
}

/// Puts `rows` into the graph, in that order. `highest` bounds their levels.
pub(super) fn insert(
    space: &CodedSpace<'_>,
    draft: &mut Draft,
    rows: &[u32],
    [beam, highest]: [usize; 2],
    stream: &mut RandomStream,
    work: &mut GraphWork<'_>,
) -> Result<(), BuildStop> {
    let mut workers: Vec<Worker> = (0..work.threads()).map(|_| Worker::default()).collect();
    let mut rest = rows;
    while !rest.is_empty() {
        let batch = (draft.rows() as usize / GRAPH_BATCH_PART).clamp(1, rest.len());
        let (now, later) = rest.split_at(batch);
        let m = draft.links_max(1);
        let levels: Vec<u32> = now.iter().map(|_| next_level(stream, m).min(highest as u32)).collect();
        insert_batch(space, draft, (now, &levels), beam, &mut workers, work)?;
        (work.advance)(batch as u64);
        rest = later;
    }
    Ok(())
}

fn insert_batch(
    space: &CodedSpace<'_>,
    draft: &mut Draft,
    (rows, levels): (&[u32], &[u32]),
    beam: usize,
    workers: &mut [Worker],
    work: &GraphWork<'_>,
) -> Result<(), BuildStop> {
    let slice = work.slice_rows(space.width());
    let part = Part { space, draft, beam };
    work.in_slices(rows.len(), slice, workers, |worker, place| {
        worker.find(&part, rows[place], levels[place])
    })?;
    rows.iter().zip(levels).for_each(|(row, level)| draft.place(*row, *level));
    let mut requests = Vec::new();
    workers.iter_mut().for_each(|worker| worker.set_links(draft, |request| requests.push(request)));
    requests.sort_unstable();
    let same = |left: &Request, right: &Request| (left.level, left.to) == (right.level, right.to);
    let groups: Vec<&[Request]> = requests.chunk_by(same).collect();
    let part = Part { space, draft, beam };
    // Answering takes about a tenth of the time of finding.
    work.in_slices(groups.len(), 10 * slice, workers, |worker, group| worker.answer(&part, groups[group]))?;
    workers.iter_mut().for_each(|worker| worker.set_links(draft, |_| ()));
    Ok(())
}
