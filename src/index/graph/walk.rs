//! Walks over a finished graph towards queries.
//!
//! From the entry down the levels by the best row of each, then over the base level with a beam of the best rows; the rows
//! that every walk scores join in at the end. Rows are scored by their coarse codes where that was asked for, half as many bytes
//! to wait for, and whoever asks scores what is found again anyway. The error of a coarse score may leave a row behind others
//! that are as near, but hardly ever far behind: so more rows are kept than are followed. Where coarse codes pay is measured
//! when a graph is made. Nothing that a graph says is believed: a row is visited at most once, and each is looked up before it is
//! read.
//!
//! A walk waits for memory at every step, so several go on in turns: while one waits, others compute.

use super::beam::{Beam, Scored, Space, walk_in_turns};
use super::column::{GraphColumn, GraphRows, ReadError};
use super::error::GraphError;
use crate::base::limits::{GRAPH_COARSE_KEPT, GRAPH_FILTER_WIDENING_MAX, GRAPH_ROWS_MAX};
use crate::base::{RowId, RowSet};
use crate::index::coarse_scan::coarse_bases;
use crate::kernels::{CoarseQueries, CoarseScore, CodeQueries, Kernels, ScaledCoarse, coarse_row_bytes};

/// Rows scored at once of those that every walk scores.
const SCANNED_AT_ONCE: usize = 256;

/// A query towards the coarse codes of one column.
#[derive(Clone, Debug)]
pub struct CoarseQuestion {
    queries: CoarseQueries,
    score: CoarseScore,
}

impl CoarseQuestion {
    /// The steps of `vector`, and its products with what the codes are about; `None` if the column has no coarse codes.
    ///
    /// # Errors
    /// The vector has another width than the column, or bytes cannot be read or are damaged.
    ///
    /// # Complexity
    /// O(width)
    pub fn new<R: GraphRows>(
        kernels: Kernels,
        vector: &[f32],
        rows: &R,
    ) -> Result<Option<Self>, GraphError<R::Error>> {
        let Some(about) = rows.centre_and_dither().map_err(GraphError::Read)? else { return Ok(None) };
        if vector.len() != rows.width() {
            return Err(GraphError::Width { query: vector.len(), column: rows.width() });
        }
        let [base, dithered] = coarse_bases(kernels, vector, about)?;
        let queries = CoarseQueries::new(&[vector])?;
        let step = queries.queries().first().map_or(0.0, |query| query.scale);
        Ok(Some(Self { queries, score: CoarseScore { base, step, dithered } }))
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// Takes the sums.
    pub kernels: Kernels,
    /// The one query.
    pub query: &'a CodeQueries,
    /// The same towards the coarse codes of the column, to go by these.
    pub coarse: Option<&'a CoarseQuestion>,
    /// Whether the lowest scores are looked for instead of the highest.
    pub opponents: bool,
    /// Rows that the walk follows, at least 1: more take longer and miss fewer. Of a walk by 8-bit codes as many are kept, of one by
    /// coarse codes [`GRAPH_COARSE_KEPT`] times as many.
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

/// What a walk found, best first, where scores tie the lower row first, and what it did. Scores are those of the codes that were
/// looked at, of coarse ones if there are such, towards the end that is looked for: of opponents their negatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// At most as many rows as the walk keeps.
    pub rows: Vec<(RowId, f64)>,
    /// What was done.
    pub counts: WalkCounts,
}

/// Walks over graphs, one after the other, with the same memory.
#[derive(Debug, Default)]
pub struct Walker {
    /// One for each of the walks that go on in turns.
    beams: Vec<Beam>,
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
    /// The query towards coarse codes, if the walk goes by these.
    coarse: Option<(&'a CoarseQueries, CoarseScore)>,
}

impl<'a, C: GraphColumn> Asked<'a, C> {
    fn new(column: &'a C, walk: &Walk<'a>) -> Self {
        let coarse = walk
            .coarse
            .map(|coarse| (&coarse.queries, if walk.opponents { -coarse.score } else { coarse.score }));
        let sign = if walk.opponents { -1.0 } else { 1.0 };
        let factor = sign * step(walk.query, 0);
        Self { column, kernels: walk.kernels, query: walk.query, factor, coarse }
    }

    fn coarse_at(&self, rows: &[u32]) -> Result<ScaledCoarse<'a>, GraphError<ReadError<C>>> {
        let [codes, scales] = self.column.rows().coarse_at(rows).map_err(GraphError::Read)?;
        Ok((codes, scales.as_chunks::<4>().0))
    }

    /// Scores by 8-bit codes.
    fn scores_of_codes(
        &self,
        rows: &[u32],
        sums: &mut Vec<i32>,
        scores: &mut Vec<f32>,
    ) -> Result<(), GraphError<ReadError<C>>> {
        scores.clear();
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
    fn ask_for_rows(&self, rows: &[u32]) {
        let Some((queries, _)) = self.coarse else { return };
        // What cannot be read is seen when it is scored.
        let Ok((codes, scales)) = self.coarse_at(rows) else { return };
        self.kernels.prefetch_rows(codes, coarse_row_bytes(queries.width()), rows);
        self.kernels.prefetch_at(scales, rows);
    }

    #[inline]
    fn scores(
        &self,
        rows: &[u32],
        sums: &mut Vec<i32>,
        scores: &mut Vec<f32>,
    ) -> Result<(), GraphError<ReadError<C>>> {
        let Some((queries, score)) = self.coarse else { return self.scores_of_codes(rows, sums, scores) };
        scores.resize(rows.len(), 0.0);
        self.kernels.coarse_scores_at(queries, score, self.coarse_at(rows)?, rows, scores)?;
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
    /// Walks, in turns; gives what each found.
    ///
    /// Where few rows are eligible, a beam is widened in proportion, up to
    /// [`GRAPH_FILTER_WIDENING_MAX`] times.
    ///
    /// # Errors
    /// A query has another width than the column or is not one, the graph names a row that is not there, or bytes cannot
    /// be read or are damaged.
    ///
    /// # Complexity
    /// For each walk about beam x links rows are scored, and at most each row once.
    ///
    /// # References
    /// Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
    /// World graphs", 2018, algorithm 5.
    pub fn walk<C: GraphColumn>(
        &mut self,
        column: &C,
        walks: &[Walk<'_>],
    ) -> Result<Vec<Found>, GraphError<ReadError<C>>> {
        let (row_count, width) = (column.rows().row_count(), column.rows().width());
        if let Some(walk) = walks.iter().find(|walk| walk.query.width() != width) {
            return Err(GraphError::Width { query: walk.query.width(), column: width });
        }
        if row_count > GRAPH_ROWS_MAX {
            let reason = format!("{row_count} rows are more than {GRAPH_ROWS_MAX}");
            return Err(GraphError::Refused { reason });
        }
        let asked: Vec<Asked<'_, C>> = walks.iter().map(|walk| Asked::new(column, walk)).collect();
        if self.beams.len() < walks.len() {
            self.beams.resize_with(walks.len(), Beam::default);
        }
        self.walk_down(column, walks, &asked)?;
        self.scanned.clear();
        column.scanned(&mut self.scanned).map_err(GraphError::Read)?;
        if let Some(row) = self.scanned.iter().find(|row| **row >= row_count) {
            return Err(GraphError::NoSuchRow { row: *row, rows: row_count });
        }
        let places = walks.iter().zip(&asked).enumerate();
        places.map(|(place, (walk, asked))| self.found(place, walk, asked)).collect()
    }

    /// Leaves the best rows of each walk in its beam.
    fn walk_down<C: GraphColumn>(
        &mut self,
        column: &C,
        walks: &[Walk<'_>],
        asked: &[Asked<'_, C>],
    ) -> Result<(), GraphError<ReadError<C>>> {
        for (beam, asked) in self.beams.iter_mut().zip(asked) {
            beam.steps = Default::default();
            beam.nearest.begin(1);
            if let Some(entry) = column.entry() {
                beam.begin(asked, entry)?;
            }
        }
        for level in (0..=column.levels()).rev() {
            let mut going = Vec::with_capacity(walks.len());
            for ((beam, asked), walk) in self.beams.iter_mut().zip(asked).zip(walks) {
                let followed = if level == 0 { widened(walk, asked.row_count()) } else { 1 };
                beam.enter(asked, [followed, if level == 0 { kept(walk, followed) } else { 1 }])?;
                going.push((beam, asked));
            }
            walk_in_turns(going, level)?;
        }
        Ok(())
    }

    /// What the walk at `place` found, and of the rows that every walk scores.
    fn found<C: GraphColumn>(
        &mut self,
        place: usize,
        walk: &Walk<'_>,
        asked: &Asked<'_, C>,
    ) -> Result<Found, GraphError<ReadError<C>>> {
        let Some(beam) = self.beams.get_mut(place) else { return Ok(Found::default()) };
        self.best.clear();
        self.best.extend_from_slice(beam.nearest.rows());
        for rows in self.scanned.chunks(SCANNED_AT_ONCE) {
            asked.ask_for_rows(rows);
            asked.scores(rows, &mut beam.sums, &mut beam.scores)?;
            beam.steps.scored += rows.len() as u64;
            let scored = rows.iter().zip(&beam.scores);
            self.best.extend(scored.map(|(&row, &score)| Scored::new(score, row)));
        }
        if let Some(eligible) = walk.eligible {
            self.best.retain(|scored| eligible.contains(RowId(scored.row())));
        }
        self.best.sort_unstable_by(|left, right| right.cmp(left));
        self.best.dedup_by_key(|scored| scored.row());
        self.best.truncate(kept(walk, walk.beam.max(1)));
        // Scores by coarse codes are those of the query, the others in units of its norm.
        let norm = walk.query.queries().first().map_or(0.0, |query| query.norm);
        let unit = if asked.coarse.is_some() { 1.0 } else { norm };
        let rows = self.best.iter().map(|scored| (RowId(scored.row()), f64::from(scored.score()) * unit));
        let counts = WalkCounts { hops: beam.steps.hops, rows: beam.steps.scored };
        Ok(Found { rows: rows.collect(), counts })
    }

    /// The scores of `rows` by their 8-bit codes, in units of the query's norm.
    pub(super) fn scores_of_codes<C: GraphColumn>(
        &mut self,
        column: &C,
        walk: &Walk<'_>,
        rows: &[u32],
    ) -> Result<&[f32], GraphError<ReadError<C>>> {
        if self.beams.is_empty() {
            self.beams.push(Beam::default());
        }
        let Some(beam) = self.beams.first_mut() else { return Ok(&[]) };
        Asked::new(column, walk).scores_of_codes(rows, &mut beam.sums, &mut beam.scores)?;
        Ok(&beam.scores)
    }
}

/// Rows that are kept of a walk that follows `followed`.
fn kept(walk: &Walk<'_>, followed: usize) -> usize {
    if walk.coarse.is_some() { followed.saturating_mul(GRAPH_COARSE_KEPT) } else { followed }
}

/// The beam that leaves `walk.beam` rows if the eligible ones lie evenly.
fn widened(walk: &Walk<'_>, row_count: u32) -> usize {
    let beam = walk.beam.max(1);
    let Some(eligible) = walk.eligible else { return beam };
    let part = u64::from(row_count) / eligible.len().max(1);
    beam.saturating_mul((part as usize).clamp(1, GRAPH_FILTER_WIDENING_MAX)).min(row_count as usize).max(1)
}
