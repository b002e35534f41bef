//! Walks over a finished graph towards a query.
//!
//! From the entry down the levels by the best row of each, then over the base level with a beam of the best rows; the rows
//! that every walk scores join in at the end. Scores are those of codes: whoever asks scores what was found exactly. Nothing
//! that a graph says is believed: a row is visited at most once, and each is looked up before it is read.

use super::beam::{Beam, Scored, Space};
use super::column::{GraphColumn, GraphRows, ReadError};
use super::error::GraphError;
use crate::base::limits::{GRAPH_FILTER_WIDENING_MAX, GRAPH_ROWS_MAX};
use crate::base::{RowId, RowSet};
use crate::kernels::{CodeQueries, Kernels, code_row_bytes};

/// Rows scored at once of those that every walk scores.
const SCANNED_AT_ONCE: usize = 256;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// Takes the sums.
    pub kernels: Kernels,
    /// The one query.
    pub query: &'a CodeQueries,
    /// Whether the lowest scores are looked for instead of the highest.
    pub opponents: bool,
    /// Rows that the walk keeps, at least 1: more take longer and miss fewer.
    pub beam: usize,
    /// The rows that may be found; others are only walked over. All if there is none.
    pub eligible: Option<&'a RowSet>,
}

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCounts {
    /// Rows whose links were followed.
    pub hops: u64,
    /// Rows scored.
    pub rows: u64,
}

/// Walks over graphs, one after the other, with the same memory.
#[derive(Debug, Default)]
pub struct Walker {
    beam: Beam,
    scanned: Vec<u32>,
    best: Vec<Scored>,
}

/// A column towards a query.
struct Asked<'a, C> {
    column: &'a C,
    kernels: Kernels,
    query: &'a CodeQueries,
    /// What one step of the query times one code counts, in units of the query's norm, negative towards opponents.
    factor: f64,
}

impl<C: GraphColumn> Space for Asked<'_, C> {
    type Error = GraphError<ReadError<C>>;

    #[inline]
    fn row_count(&self) -> u32 {
        self.column.rows().row_count()
    }

    #[inline]
    fn links(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), Self::Error> {
        self.column.links(level, row, links).map_err(GraphError::Read)
    }

    #[inline]
    fn ask_for(&self, level: u32, row: u32) {
        if level == 0 {
            self.column.ask_for(self.kernels, row);
        }
    }

    #[inline]
    fn scores(
        &self,
        rows: &[u32],
        sums: &mut Vec<i32>,
        scores: &mut Vec<f32>,
    ) -> Result<(), GraphError<ReadError<C>>> {
        scores.clear();
        if rows.is_empty() {
            return Ok(());
        }
        sums.resize(rows.len(), 0);
        let codes = self.column.rows().codes_at(rows).map_err(GraphError::Read)?;
        let scales = self.column.rows().scales_at(rows).map_err(GraphError::Read)?.as_chunks::<4>().0;
        if let Some(row) = rows.iter().find(|row| **row as usize >= scales.len()) {
            return Err(self.no_such_row(*row));
        }
        let scale = |row: &u32| scales.get(*row as usize).copied().unwrap_or_default();
        // Needed after the codes, which take longer to come.
        self.kernels.prefetch_at(scales, rows);
        self.kernels.code_dots_at(self.query, codes, rows, sums)?;
        scores.extend(rows.iter().zip(&*sums).map(|(row, &sum)| {
            (f64::from(sum) * (f64::from(f32::from_le_bytes(scale(row))) * self.factor)) as f32
        }));
        Ok(())
    }

    fn no_such_row(&self, row: u32) -> GraphError<ReadError<C>> {
        GraphError::NoSuchRow { row, rows: self.column.rows().row_count() }
    }
}

/// What one step of the one query times one code counts, in units of the query's norm.
pub(super) fn step(query: &CodeQueries, place: usize) -> f64 {
    let described = query.queries().get(place);
    described.map_or(0.0, |query| if query.norm > 0.0 { query.scale / query.norm } else { 0.0 })
}

impl Walker {
    /// Puts the rows that the walk finds into `found`, at most `walk.beam`, best first, where scores tie the lower row
    /// first. Their scores are those of codes, towards the end that is looked for: of opponents their negatives.
    ///
    /// Where few rows are eligible, the beam is widened in proportion, up to
    /// [`GRAPH_FILTER_WIDENING_MAX`] times.
    ///
    /// # Errors
    /// The query has another width than the column or is not one, the graph names a row that is not there, or bytes cannot
    /// be read or are damaged.
    ///
    /// # Complexity
    /// About beam x links rows are scored, and at most each row once; no allocation once the walker is warm.
    ///
    /// # References
    /// Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
    /// World graphs", 2018, algorithm 5.
    pub fn walk<C: GraphColumn>(
        &mut self,
        column: &C,
        walk: &Walk<'_>,
        found: &mut Vec<(RowId, f64)>,
    ) -> Result<WalkCounts, GraphError<ReadError<C>>> {
        found.clear();
        let (query, kernels) = (walk.query, walk.kernels);
        if code_row_bytes(query.width()) != code_row_bytes(column.rows().width())
            || query.width() != column.rows().width()
        {
            return Err(GraphError::Width { query: query.width(), column: column.rows().width() });
        }
        let rows = column.rows().row_count();
        if rows > GRAPH_ROWS_MAX {
            return Err(GraphError::Refused {
                reason: format!("{rows} rows are more than {GRAPH_ROWS_MAX}"),
            });
        }
        let sign = if walk.opponents { -1.0 } else { 1.0 };
        let asked = Asked { column, kernels, query, factor: sign * step(query, 0) };
        self.beam.steps = Default::default();
        self.best.clear();
        if let Some(entry) = column.entry() {
            self.beam.begin(&asked, entry)?;
            self.beam.descend(&asked, column.levels(), 0)?;
            self.beam.walk(&asked, 0, widened(walk, column.rows().row_count()))?;
            self.best.extend_from_slice(self.beam.nearest.rows());
        }
        self.scan(&asked)?;
        if let Some(eligible) = walk.eligible {
            self.best.retain(|scored| eligible.contains(RowId(scored.row())));
        }
        self.best.sort_unstable_by(|left, right| right.cmp(left));
        self.best.dedup_by_key(|scored| scored.row());
        self.best.truncate(walk.beam.max(1));
        let norm = query.queries().first().map_or(0.0, |query| query.norm);
        let score = |scored: &Scored| (RowId(scored.row()), f64::from(scored.score()) * norm);
        found.extend(self.best.iter().map(score));
        Ok(WalkCounts { hops: self.beam.steps.hops, rows: self.beam.steps.scored })
    }

    /// What the last walk found.
    pub(super) fn best(&self) -> &[Scored] {
        &self.best
    }

    /// Scores the rows that every walk scores.
    fn scan<C: GraphColumn>(&mut self, asked: &Asked<'_, C>) -> Result<(), GraphError<ReadError<C>>> {
        self.scanned.clear();
        asked.column.scanned(&mut self.scanned).map_err(GraphError::Read)?;
        if let Some(row) = self.scanned.iter().find(|row| **row >= asked.row_count()) {
            return Err(asked.no_such_row(*row));
        }
        for rows in self.scanned.chunks(SCANNED_AT_ONCE) {
            asked.scores(rows, &mut self.beam.sums, &mut self.beam.scores)?;
            self.beam.steps.scored += rows.len() as u64;
            let scored = rows.iter().zip(&self.beam.scores);
            self.best.extend(scored.map(|(&row, &score)| Scored::new(score, row)));
        }
        Ok(())
    }
}

/// The beam that leaves `walk.beam` rows if the eligible ones lie evenly.
fn widened(walk: &Walk<'_>, row_count: u32) -> usize {
    let beam = walk.beam.max(1);
    let Some(eligible) = walk.eligible else { return beam };
    let part = u64::from(row_count) / eligible.len().max(1);
    beam.saturating_mul((part as usize).clamp(1, GRAPH_FILTER_WIDENING_MAX)).min(row_count as usize).max(1)
}
