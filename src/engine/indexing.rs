//! Building the index of each column of each segment, beside queries and commits.
//!
//! An index is made from sealed files alone and named by no commit, so that building needs neither the writer nor a
//! transaction, and a crash in the middle leaves the store as it was.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::background::Background;
use super::coding::{Pass, take_quantised, write_index};
use super::context::Context;
use super::options::Watch;
use super::segment::{ScannedCodes, Segment};
use super::snapshot::Snapshot;
use super::traffic::Pace;
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, ColumnId, RowId, SegmentId};
use crate::format::GraphMaker;
#[cfg(feature = "hnsw_rs")]
use crate::index::HnswRsBuilder;
use crate::index::{
    CodedRows, GraphBuilder, GraphError, GraphOptions, GraphWork, NativeBuilder, QuantiseError, build_graph,
};
use crate::storage::{FileError, GraphContent, write_graph_file};

/// An index that cannot be built. Queries scan the stored values instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A graph cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError<FileError>),
    /// Rows of the column cannot be turned into codes.
    #[error(transparent)]
    Rows(#[from] QuantiseError<FileError>),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What [`Store::build_indexes`](super::Store::build_indexes) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Indexes built.
    pub built: usize,
    /// Their rows.
    pub rows: u64,
    /// Graphs built.
    pub graphs: usize,
}

type Task<'a> = super::background::Task<'a, Snapshot, IndexReport, IndexError>;

/// Builds what queries are faster with: codes on one thread, graphs on another. A graph takes minutes where codes take
/// seconds, and codes of newer segments must not wait for it.
#[derive(Debug)]
pub(super) struct Indexer {
    codes: Background<Snapshot, IndexReport, IndexError>,
    graphs: Arc<Background<Snapshot, IndexReport, IndexError>>,
    current: Arc<Current>,
}

/// The segments of the newest state: what is being made for another is of no use any more.
#[derive(Debug, Default)]
struct Current(Mutex<BTreeSet<SegmentId>>);

impl Current {
    fn segments(&self) -> MutexGuard<'_, BTreeSet<SegmentId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, segment: &Segment) -> bool {
        self.segments().contains(&segment.record.id)
    }
}

impl Indexer {
    pub(super) fn new() -> Self {
        let current = Arc::new(Current::default());
        let known = Arc::clone(&current);
        let build = move |snapshot: Snapshot, task: &Task<'_>| build_graphs(&snapshot, &known, task);
        let graphs = Arc::new(Background::new("ascribe-graph", build));
        let (known, next) = (Arc::clone(&current), Arc::clone(&graphs));
        let build = move |snapshot: Snapshot, task: &Task<'_>| {
            build_codes(&snapshot, &known, task)?;
            if !missing_graphs(&snapshot).is_empty() {
                next.wake(snapshot);
            }
            Ok(())
        };
        Self { codes: Background::new("ascribe-index", build), graphs, current }
    }

    /// Looks for indexes that `snapshot` lacks, and builds them beside whatever else goes on.
    pub(super) fn wake(&self, snapshot: &Snapshot) {
        let segments = snapshot.inner.segments.iter().map(|view| view.segment.record.id);
        *self.current.segments() = segments.collect();
        if !missing_indexes(snapshot).is_empty() {
            self.codes.wake(snapshot.clone());
        } else if !missing_graphs(snapshot).is_empty() {
            self.graphs.wake(snapshot.clone());
        }
    }

    /// Waits until nothing is left to build.
    pub(super) fn wait(&self, watch: Watch<'_>) -> Result<IndexReport, IndexError> {
        let codes = self.codes.wait(watch, "index", false).unwrap_or(Err(IndexError::Cancelled))?;
        let graphs = self.graphs.wait(watch, "graph", false).unwrap_or(Err(IndexError::Cancelled))?;
        Ok(IndexReport { graphs: graphs.graphs, ..codes })
    }
}

fn build_codes(snapshot: &Snapshot, current: &Current, task: &Task<'_>) -> Result<(), IndexError> {
    let context = &snapshot.inner.context;
    let missing = missing_indexes(snapshot);
    task.expect(missing.iter().map(|(segment, _)| u64::from(segment.record.row_count)).sum());
    let pace = Pace::new(&context.traffic);
    for (segment, column) in missing {
        if !current.has(segment) {
            task.advance(u64::from(segment.record.row_count));
            continue;
        }
        build_index(context, segment, column, &pace, task)?;
        task.report(|report| {
            report.built += 1;
            report.rows += u64::from(segment.record.row_count);
        });
    }
    Ok(())
}

fn build_graphs(snapshot: &Snapshot, current: &Current, task: &Task<'_>) -> Result<(), IndexError> {
    let missing = missing_graphs(snapshot);
    task.expect(missing.iter().map(|(segment, _)| u64::from(segment.record.row_count)).sum());
    for (segment, column) in missing {
        build_graph_file(&snapshot.inner.context, segment, column, current, task)?;
    }
    Ok(())
}

/// The indexes that a state lacks: of segments of at least
/// [`index_rows_min`](super::OpenOptions::index_rows_min) rows.
fn missing_indexes(snapshot: &Snapshot) -> Vec<(&Arc<Segment>, ColumnId)> {
    let context = &snapshot.inner.context;
    columns(snapshot).filter(|(segment, column)| lacks_index(context, segment, *column)).collect()
}

/// The graphs that a state lacks, or has from another maker than the one that is wanted.
fn missing_graphs(snapshot: &Snapshot) -> Vec<(&Arc<Segment>, ColumnId)> {
    let context = &snapshot.inner.context;
    columns(snapshot).filter(|(segment, column)| lacks_graph(context, segment, *column)).collect()
}

fn columns(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Segment>, ColumnId)> {
    let segments = snapshot.inner.segments.iter().map(|view| &view.segment);
    segments.flat_map(|segment| segment.columns().map(move |file| (segment, file.header().column)))
}

fn lacks_graph(context: &Context, segment: &Segment, column: ColumnId) -> bool {
    if segment.record.row_count < context.graph_rows_min || segment.index_of(column).is_none() {
        return false;
    }
    match segment.graph(context.storage.as_ref(), column) {
        Some(graph) => context.graph.is_some_and(|maker| maker != graph.head().maker),
        None => true,
    }
}

fn lacks_index(context: &Context, segment: &Segment, column: ColumnId) -> bool {
    segment.record.row_count >= context.index_rows_min
        && segment.index_of(column).is_some()
        && segment.index(context.storage.as_ref(), column).is_none()
}

fn build_index(
    context: &Context,
    segment: &Segment,
    column: ColumnId,
    pace: &Pace,
    task: &Task<'_>,
) -> Result<(), IndexError> {
    let (Some((header, origin)), Some(file)) = (segment.index_of(column), segment.column(column)) else {
        return Ok(());
    };
    let rows = header.row_count;
    write_index(context.storage.as_ref(), header, origin, |pass, take| {
        let mut coded = CodedRows::default();
        for first in (0..rows).step_by(SCAN_CHUNK_ROWS as usize) {
            pace.keep();
            if task.cancel().is_cancelled() {
                return Err(IndexError::Cancelled);
            }
            let count = SCAN_CHUNK_ROWS.min(rows - first);
            take_quantised(file, RowId(first), count, &mut coded, take)?;
            if pass == Pass::Codes {
                task.advance(u64::from(count));
            }
        }
        Ok(())
    })?;
    segment.indexes.forget(column);
    Ok(())
}

fn build_graph_file(
    context: &Context,
    segment: &Segment,
    column: ColumnId,
    current: &Current,
    task: &Task<'_>,
) -> Result<(), IndexError> {
    let storage = context.storage.as_ref();
    let (Some((header, origin)), Some(index)) = (segment.index_of(column), segment.index(storage, column))
    else {
        return Ok(());
    };
    let builder = builder(context.graph.unwrap_or(GraphMaker::Native))?;
    let options = GraphOptions { kernels: context.kernels, ..GraphOptions::default() };
    let (pace, cancel) = (Pace::new(&context.traffic), Cancel::new());
    let pause = || {
        pace.keep();
        if task.cancel().is_cancelled() || !current.has(segment) {
            cancel.cancel();
        }
    };
    let mut advance = |rows| task.advance(rows);
    let mut work = GraphWork { pool: &context.pool, pause: &pause, cancel: &cancel, advance: &mut advance };
    let graph = match build_graph(builder, &ScannedCodes::of(&index), &options, &mut work) {
        Ok(graph) => graph,
        Err(GraphError::Cancelled) if task.cancel().is_cancelled() => return Err(IndexError::Cancelled),
        // The segment was merged into another.
        Err(GraphError::Cancelled) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let content =
        GraphContent { head: &graph.head, links: &graph.links, upper: &graph.upper, scanned: &graph.scanned };
    write_graph_file(storage, &header, origin, &content)?;
    segment.graphs.forget(column);
    task.report(|report| report.graphs += 1);
    Ok(())
}

fn builder(maker: GraphMaker) -> Result<&'static dyn GraphBuilder, IndexError> {
    match maker {
        GraphMaker::Native => Ok(&NativeBuilder),
        #[cfg(feature = "hnsw_rs")]
        GraphMaker::HnswRs => Ok(&HnswRsBuilder),
        #[cfg(not(feature = "hnsw_rs"))]
        GraphMaker::HnswRs => {
            let reason = "this build is without the feature hnsw_rs".to_owned();
            Err(GraphError::Refused { reason }.into())
        }
    }
}
