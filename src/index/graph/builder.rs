//! Makes the graph of a column: what both builders leave to others, before and behind them.
//!
//! ```text
//! norms -> rows set apart | rows of the graph -> duplicates set apart -> some rows held out
//!       -> builder -> duplicates hung on -> repair -> recall measured with the held-out rows -> these put in -> repair
//! ```

use super::column::GraphRows;
use super::contract;
use super::draft::Draft;
use super::duplicates::{self, Duplicates};
use super::error::{BuildStop, GraphError};
use super::frozen::FrozenGraph;
use super::insert::insert;
use super::partition::partition;
use super::repair::{reachable, repair};
use super::space::CodedSpace;
use super::work::GraphWork;
use crate::base::RandomStream;
use crate::base::limits::{GRAPH_BASE_LINKS, GRAPH_BUILD_BEAM, GRAPH_HELD_OUT_ROWS, GRAPH_UPPER_LINKS};
use crate::format::{GraphHead, GraphMaker, GraphRecall};
use crate::kernels::Kernels;

/// One row in this many may be held out, at most.
const HELD_OUT_PART: usize = 8;

/// Chooses links between rows.
pub trait GraphBuilder {
    /// The number that files name it by.
    fn maker(&self) -> GraphMaker;

    /// A graph of `rows`, no two of which are the same, put in in that order.
    ///
    /// Links lead to rows of the graph and, above the base, of their level. Not every row need be reachable.
    ///
    /// # Errors
    /// The work was cancelled, or the builder refuses the rows.
    fn build(
        &self,
        space: &CodedSpace<'_>,
        rows: &[u32],
        options: &GraphOptions,
        work: &mut GraphWork<'_>,
    ) -> Result<Draft, BuildStop>;
}

/// What a graph is to be like.
#[derive(Clone, Copy, Debug)]
pub struct GraphOptions {
    /// Takes the sums.
    pub kernels: Kernels,
    /// Of the order of the rows and their levels.
    pub seed: u64,
    /// Rows that are looked at to choose the links of one.
    pub build_beam: usize,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { kernels: Kernels::best(), seed: 0, build_beam: GRAPH_BUILD_BEAM }
    }
}

/// Makes the graph of a column.
///
/// The same rows and options give the same graph with any number of threads, if the builder does.
///
/// # Errors
/// Codes or numbers cannot be read or are damaged, the work was cancelled, or the builder refuses the rows.
///
/// # Complexity
/// About rows x build_beam x 15 sums of a row's width; beside the codes, which are read where they are, it holds about
/// 150 bytes a row.
///
/// # References
/// Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
/// World graphs", IEEE Transactions on Pattern Analysis and Machine Intelligence, 2018.
///
/// ```
/// use std::convert::Infallible;
/// use ascribe::base::{Cancel, RowId};
/// use ascribe::index::{
///     FrozenColumn, GraphOptions, GraphRows, GraphWork, NativeBuilder, Walk, Walker, build_graph,
/// };
/// use ascribe::kernels::{CodeQueries, Kernels};
///
/// /// Three rows of one value: 3, -2 and 5.
/// struct Codes([u8; 96], Vec<u8>, Vec<u8>);
/// impl GraphRows for Codes {
///     type Error = Infallible;
///     fn row_count(&self) -> u32 { 3 }
///     fn width(&self) -> usize { 1 }
///     fn codes_at(&self, _: &[u32]) -> Result<&[u8], Infallible> { Ok(&self.0) }
///     fn scales_at(&self, _: &[u32]) -> Result<&[u8], Infallible> { Ok(&self.1) }
///     fn norms_at(&self, _: &[u32]) -> Result<&[u8], Infallible> { Ok(&self.2) }
/// }
/// let bytes = |numbers: [f32; 3]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
/// let mut rows = Codes([0; 96], bytes([1.0; 3]), bytes([3.0, 2.0, 5.0]));
/// (rows.0[0], rows.0[32], rows.0[64]) = (3, 0xFE, 5);
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
/// let (cancel, mut done) = (Cancel::new(), 0);
/// let mut work = GraphWork { pool: &pool, pause: &|| (), cancel: &cancel, advance: &mut |rows| done += rows };
/// let graph = build_graph(&NativeBuilder, &rows, &GraphOptions::default(), &mut work)?;
/// assert_eq!((graph.head.reachable_rows, done), (3, 3));
///
/// let query = CodeQueries::new(&[&[2.0]])?;
/// let column = FrozenColumn { rows: &rows, graph: &graph };
/// let kernels = Kernels::best();
/// let walk = Walk { kernels, query: &query, coarse: None, opponents: false, beam: 2, eligible: None };
/// let found = &Walker::default().walk(&column, &[walk])?[0].rows;
/// assert_eq!([found[0].0, found[1].0], [RowId(2), RowId(0)]);
/// assert!((found[0].1 - 10.0).abs() < 1e-4 && (found[1].1 - 6.0).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn build_graph<R: GraphRows>(
    builder: &dyn GraphBuilder,
    rows: &R,
    options: &GraphOptions,
    work: &mut GraphWork<'_>,
) -> Result<FrozenGraph, GraphError<R::Error>> {
    let parts = partition(rows)?;
    let kernels = options.kernels;
    let space = CodedSpace::new(kernels, rows, parts.graph_norm)?;
    let same = duplicates::find(&space, &parts.graph);
    let held_out = held_out(&same);
    let mut stream = RandomStream::new(options.seed);
    let mut order: Vec<u32> =
        same.first.iter().copied().filter(|row| held_out.binary_search(row).is_err()).collect();
    stream.shuffle(&mut order);
    let mut draft = builder.build(&space, &order, options, work)?;
    duplicates::attach(&mut draft, &same.others);
    (work.advance)(same.others.len() as u64);
    let mut placed: Vec<u32> =
        parts.graph.iter().copied().filter(|row| held_out.binary_search(row).is_err()).collect();
    repair(&space, &mut draft, &placed, work)?;
    let recall: [GraphRecall; 4] = contract::Measured {
        rows,
        space: &space,
        draft: &draft,
        scanned: &parts.scanned,
        placed: &placed,
        held_out: &held_out,
        kernels,
    }
    .recall(work)?;
    let highest = draft.top() as usize;
    insert(&space, &mut draft, &held_out, [options.build_beam, highest], &mut stream, work)?;
    if !held_out.is_empty() {
        placed.clone_from(&parts.graph);
        repair(&space, &mut draft, &placed, work)?;
    }
    let head = GraphHead {
        maker: builder.maker(),
        seed: options.seed,
        build_beam: options.build_beam as u32,
        base_links: draft.links_max(0) as u32,
        upper_links: draft.links_max(1) as u32,
        graph_rows: draft.rows(),
        scanned_rows: parts.scanned.len() as u32,
        reachable_rows: reachable(&draft, rows.row_count()) + parts.scanned.len() as u32,
        graph_norm: parts.graph_norm,
        least_norm: parts.least_norm,
        largest_norm: parts.largest_norm,
        recall,
        ..GraphHead::default()
    };
    Ok(FrozenGraph::new(draft, head, parts.scanned, rows.row_count()))
}

/// An empty draft of the usual shape.
pub(super) fn empty_draft(space: &CodedSpace<'_>) -> Draft {
    Draft::new(space.row_count(), GRAPH_BASE_LINKS, GRAPH_UPPER_LINKS)
}

/// Rows to measure with, evenly spread, ascending. Rows that have duplicates would find those.
fn held_out(same: &Duplicates) -> Vec<u32> {
    let alone = same.alone();
    let count = GRAPH_HELD_OUT_ROWS.min(alone.len() / HELD_OUT_PART);
    (0..count).filter_map(|place| alone.get(place * alone.len() / count).copied()).collect()
}
