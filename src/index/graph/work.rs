//! The threads of a build, taken for a few milliseconds at a time.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::error::BuildStop;
use crate::base::Cancel;
use crate::base::limits::GRAPH_SLICE_VALUES;

/// Who works on a graph, and who is told.
///
/// The pool is entered for one slice after the other: whoever else enters it waits for one slice only.
pub struct GraphWork<'a> {
    /// The threads.
    pub pool: &'a ThreadPool,
    /// Called between slices; it may wait, or cancel the work.
    pub pause: &'a dyn Fn(),
    /// Looked at between slices.
    pub cancel: &'a Cancel,
    /// Told how many rows more stand in the graph.
    pub advance: &'a mut dyn FnMut(u64),
}

impl std::fmt::Debug for GraphWork<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "GraphWork({} threads)", self.pool.current_num_threads())
    }
}

impl GraphWork<'_> {
    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads().max(1)
    }

    /// Rows of `width` values that a thread puts into a graph in one slice.
    pub fn slice_rows(&self, width: usize) -> usize {
        (GRAPH_SLICE_VALUES / width.max(1)).clamp(1, 1024)
    }

    /// Does `each` for every number below `count`, in slices of `slice` numbers a worker. Which worker does which number is
    /// left to chance: a worker's results must say what they are of.
    ///
    /// # Errors
    /// The first of `each`, or that the work was cancelled.
    pub(super) fn in_slices<W: Send>(
        &self,
        count: usize,
        slice: usize,
        workers: &mut [W],
        each: impl Fn(&mut W, usize) -> Result<(), BuildStop> + Sync + Send,
    ) -> Result<(), BuildStop> {
        for first in (0..count).step_by((slice * workers.len()).max(1)) {
            self.look_up()?;
            let end = count.min(first + slice * workers.len());
            match workers {
                [worker, ..] if end - first == 1 => each(worker, first)?,
                _ => self.pool.install(|| share(first..end, workers, &each))?,
            }
        }
        Ok(())
    }

    /// Does `each` for every one of `parts` in one slice.
    ///
    /// # Errors
    /// The first of `each`, or that the work was cancelled.
    pub(super) fn in_parallel<P: Send, E: From<BuildStop> + Send>(
        &self,
        parts: &mut [P],
        each: impl Fn(&mut P) -> Result<(), E> + Sync + Send,
    ) -> Result<(), E> {
        self.look_up()?;
        self.pool.install(|| parts.par_iter_mut().try_for_each(each))
    }

    /// # Errors
    /// The work was cancelled.
    pub(super) fn look_up(&self) -> Result<(), BuildStop> {
        (self.pause)();
        if self.cancel.is_cancelled() { Err(BuildStop::Cancelled) } else { Ok(()) }
    }
}

fn share<W: Send>(
    numbers: Range<usize>,
    workers: &mut [W],
    each: &(impl Fn(&mut W, usize) -> Result<(), BuildStop> + Sync + Send),
) -> Result<(), BuildStop> {
    let next = AtomicUsize::new(numbers.start);
    workers.par_iter_mut().try_for_each(|worker| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return Ok(());
            }
            each(worker, number)?;
        }
    })
}
