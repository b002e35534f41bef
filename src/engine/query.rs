//! From a question to the rows at both ends.
//!
//! Every live row of the column is scored, whatever the filter: mean and deviation, and so z and percentile, are those
//! of all live rows; the filter only decides which of them may be chosen.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use thiserror::Error;

use super::answer::{Answer, Hit, Query, QueryInput, QueryStages};
use super::encoders::EncoderError;
use super::segment::{ScannedColumn, SegmentView};
use super::snapshot::Snapshot;
use crate::attribution::{
    KeyLookup, Moments, RankCounter, RankedRows, ScoreChunk, ScoredRow, Selection, SelectionSizeError,
};
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, ElementType, RowId, RowSet};
use crate::filter::{FilterError, Predicate};
use crate::format::{ColumnKind, ColumnRecord};
use crate::index::{RowScore, ScanError, score_rows};
use crate::kernels::decode;
use crate::storage::{ColumnFile, FileError};

/// A question that cannot be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No rows are asked for.
    #[error("k is 0: ask for at least one row")]
    NoRows,
    /// More rows are asked for than an answer may hold.
    #[error(transparent)]
    Size(#[from] SelectionSizeError),
    /// There is no such column.
    #[error("there is no embedding column {name:?}; the columns are {known}")]
    UnknownColumn {
        /// The name given.
        name: String,
        /// Columns of the store.
        known: String,
    },
    /// There is no such row.
    #[error("no row has key {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The row has no value in the column.
    #[error(
        "the row with key {key:?} has no value in column {column:?}: import it first, or ask another column"
    )]
    NoValue {
        /// The key.
        key: String,
        /// The column.
        column: String,
    },
    /// The column was never filled, so that its encoder does not exist yet.
    #[error("the store has no rows yet: ingest some first")]
    Empty,
    /// A vector of another width, or not finite.
    #[error("{reason}")]
    Vector {
        /// What is wrong.
        reason: String,
    },
    /// The filter is refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The encoder is not there or refuses.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// Bytes on the way are damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Scores cannot be computed.
    #[error(transparent)]
    Scan(#[from] ScanError<FileError>),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// A segment that has the column.
struct Target<'a> {
    position: usize,
    view: &'a SegmentView,
    column: &'a ColumnFile,
    /// Rows that may be chosen; `None` if all live rows may.
    eligible: Option<RowSet>,
}

impl Target<'_> {
    /// Rows that count for the choice.
    fn chosen_from(&self) -> Option<&RowSet> {
        self.eligible.as_ref().or(self.view.live.as_deref())
    }
}

/// Keys of the snapshot's rows, for ties.
struct Keys<'a>(&'a [SegmentView]);

impl KeyLookup for Keys<'_> {
    type Error = FileError;

    fn key(&self, segment: usize, row: RowId) -> Result<&str, FileError> {
        self.0[segment].segment.rows.key(row)
    }
}

impl Snapshot {
    /// The rows with the strongest positive and negative scores.
    ///
    /// # Errors
    /// See [`QueryError`].
    ///
    /// # Complexity
    /// One pass over the column's values of all rows, in parallel.
    pub fn query(&self, query: &Query, cancel: &Cancel) -> Result<Answer, QueryError> {
        let begun = Instant::now();
        let mut stages = QueryStages::default();
        if query.k == 0 {
            return Err(QueryError::NoRows);
        }
        let column = self.embedding_column(query.column.as_deref())?;
        let selection = Selection::new(query.side, query.k)?;
        let vector = stage(&mut stages.encode, || self.query_vector(column, &query.input))?;
        let targets = stage(&mut stages.filter, || self.targets(column, query.filter.as_deref()))?;
        let norm = norm(self, &vector)?;
        let kind = query.kind.row_score(norm);
        let scores = stage(&mut stages.scan, || self.scan(&targets, &vector, kind, cancel))?;
        let (ranked, moments, percentiles) =
            stage(&mut stages.select, || self.select(&targets, &scores, selection))?;
        let (proponents, opponents) =
            stage(&mut stages.fetch, || self.fetch(&ranked, &moments, &percentiles))?;
        let eligible_rows = targets
            .iter()
            .map(|target| target.eligible.as_ref().map_or_else(|| target.view.live_rows(), RowSet::len))
            .sum();
        Ok(Answer {
            input: query.input.clone(),
            column: column.name.clone(),
            encoder: encoder_name(column),
            kind: query.kind,
            plan: "scan",
            rows: targets.iter().map(|target| target.view.live_rows()).sum(),
            eligible_rows,
            segments: targets.len(),
            bytes: targets.iter().map(|target| target.column.header().values_length()).sum(),
            elapsed: begun.elapsed(),
            stages,
            proponents,
            opponents,
        })
    }

    fn embedding_column(&self, name: Option<&str>) -> Result<&ColumnRecord, QueryError> {
        let found = self.column(name).filter(|column| matches!(column.kind, ColumnKind::Embedding(_)));
        found.ok_or_else(|| QueryError::UnknownColumn {
            name: name.unwrap_or_default().to_owned(),
            known: self.column_names().collect::<Vec<_>>().join(", "),
        })
    }

    fn query_vector(&self, column: &ColumnRecord, input: &QueryInput) -> Result<Vec<f32>, QueryError> {
        let width = column.width as usize;
        match input {
            QueryInput::Text(text) => {
                if matches!(&column.kind, ColumnKind::Embedding(record) if record.fingerprint.is_none()) {
                    return Err(QueryError::Empty);
                }
                let encoder = self.encoder(column)?;
                let mut vector = vec![0.0; width];
                // In the pool: an encoder works with the threads that it finds itself in.
                let encode = || encoder.encode(&[text.as_str()], &mut vector);
                self.inner.context.pool.install(encode).map_err(EncoderError::from)?;
                Ok(vector)
            }
            QueryInput::Key(key) => self.stored_vector(column, key),
            QueryInput::Vector(vector) => {
                let reason = if vector.len() != width {
                    format!("the vector has {} values, column {:?} has {width}", vector.len(), column.name)
                } else if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
                    format!("value {index} of the vector is {}: give finite numbers", vector[index])
                } else {
                    return Ok(vector.clone());
                };
                Err(QueryError::Vector { reason })
            }
        }
    }

    fn stored_vector(&self, column: &ColumnRecord, key: &str) -> Result<Vec<f32>, QueryError> {
        let (position, row) =
            self.find(key)?.ok_or_else(|| QueryError::UnknownKey { key: key.to_owned() })?;
        let file = self.inner.segments[position]
            .segment
            .column(column.id)
            .ok_or_else(|| QueryError::NoValue { key: key.to_owned(), column: column.name.clone() })?;
        let mut vector = vec![0.0; file.width()];
        let damaged = |reason: String| file.file().content_error(reason);
        decode(file.element(), file.values(row, 1)?, &mut vector)
            .map_err(|error| damaged(error.to_string()))?;
        if file.element() == ElementType::I8 {
            let mut scale = [0; 4];
            scale.copy_from_slice(file.scales(row, 1)?.unwrap_or(&[0; 4]));
            vector.iter_mut().for_each(|value| *value *= f32::from_le_bytes(scale));
        }
        match vector.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(damaged(format!("value {index} of row {row} is not finite")).into()),
            None => Ok(vector),
        }
    }

    /// The segments that have the column, with the rows that pass the filter.
    fn targets(&self, column: &ColumnRecord, filter: Option<&str>) -> Result<Vec<Target<'_>>, QueryError> {
        let predicate = filter.map(|text| Predicate::parse(text, self.fields())).transpose()?;
        let mut targets = Vec::new();
        for (position, view) in self.inner.segments.iter().enumerate() {
            let Some(file) = view.segment.column(column.id) else { continue };
            let eligible = match &predicate {
                None => None,
                Some(predicate) => {
                    let mut rows = predicate.evaluate(view.segment.fields(self.fields())?.as_ref())?;
                    rows.subtract(&view.deleted);
                    Some(rows)
                }
            };
            targets.push(Target { position, view, column: file, eligible });
        }
        Ok(targets)
    }

    /// Scores of all rows of each target, deleted ones included.
    fn scan(
        &self,
        targets: &[Target<'_>],
        vector: &[f32],
        kind: RowScore,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f64>>, QueryError> {
        let kernels = self.inner.context.kernels;
        let mut scores: Vec<Vec<f64>> =
            targets.iter().map(|target| vec![0.0; target.column.header().row_count as usize]).collect();
        let mut tasks = Vec::new();
        for (target, scores) in targets.iter().zip(&mut scores) {
            for (chunk, out) in scores.chunks_mut(SCAN_CHUNK_ROWS as usize).enumerate() {
                tasks.push((target.column, RowId(chunk as u32 * SCAN_CHUNK_ROWS), out));
            }
        }
        self.inner.context.pool.install(|| {
            tasks.into_par_iter().try_for_each(|(column, first, out)| {
                if cancel.is_cancelled() {
                    return Err(QueryError::Cancelled);
                }
                Ok(score_rows(kernels, vector, kind, &ScannedColumn(column), first, out)?)
            })
        })?;
        Ok(scores)
    }

    /// The chosen rows, the moments of all live rows, and the percentile of each chosen row (proponents first).
    fn select(
        &self,
        targets: &[Target<'_>],
        scores: &[Vec<f64>],
        empty: Selection,
    ) -> Result<(RankedRows, Moments, Vec<Option<f64>>), QueryError> {
        let keys = Keys(&self.inner.segments);
        let chunks: Vec<(&Target<'_>, RowId, &[f64])> = targets
            .iter()
            .zip(scores)
            .flat_map(|(target, scores)| {
                let chunks = scores.chunks(SCAN_CHUNK_ROWS as usize).enumerate();
                chunks.map(move |(chunk, scores)| (target, RowId(chunk as u32 * SCAN_CHUNK_ROWS), scores))
            })
            .collect();
        let pool = &self.inner.context.pool;
        let parts: Vec<(Selection, Moments)> = pool.install(|| {
            chunks
                .par_iter()
                .map(|&(target, first, scores)| {
                    let mut selection = empty.clone();
                    let chosen = ScoreChunk { first, scores, live: target.chosen_from() };
                    selection.push_chunk(target.position, &chosen, &keys)?;
                    let population = ScoreChunk { first, scores, live: target.view.live.as_deref() };
                    Ok((selection, Moments::of(&population)))
                })
                .collect::<Result<_, FileError>>()
        })?;
        // Merged in the order of the chunks, so that sums do not depend on the number of threads.
        let (mut selection, mut moments) = (empty, Moments::new());
        for (part, part_moments) in &parts {
            selection.merge(part, &keys)?;
            moments.merge(part_moments);
        }
        let ranked = selection.into_ranked(&keys)?;
        let asked: Vec<f64> =
            ranked.proponents.iter().chain(&ranked.opponents).map(|row| row.score).collect();
        let empty_counter = RankCounter::new(&asked);
        let counter = pool.install(|| {
            chunks
                .par_iter()
                .fold(
                    || empty_counter.clone(),
                    |mut counter, &(target, first, scores)| {
                        counter.add(&ScoreChunk { first, scores, live: target.view.live.as_deref() });
                        counter
                    },
                )
                .reduce(
                    || empty_counter.clone(),
                    |mut left, right| {
                        // Counters of the same question always merge.
                        let _ = left.merge(&right);
                        left
                    },
                )
        });
        Ok((ranked, moments, counter.percentiles()))
    }

    fn fetch(
        &self,
        ranked: &RankedRows,
        moments: &Moments,
        percentiles: &[Option<f64>],
    ) -> Result<(Vec<Hit>, Vec<Hit>), QueryError> {
        let hit = |(rank, (row, percentile)): (usize, (&ScoredRow, &Option<f64>))| {
            let content = self.row_at(row.segment, row.row)?;
            Ok(Hit {
                rank: rank + 1,
                key: content.key,
                score: row.score,
                z: moments.z(row.score),
                percentile: percentile.unwrap_or_default(),
                text: content.text,
                metadata: content.metadata,
            })
        };
        let (of_proponents, of_opponents) = percentiles.split_at(ranked.proponents.len());
        let hits = |rows: &[ScoredRow], percentiles: &[Option<f64>]| {
            rows.iter().zip(percentiles).enumerate().map(hit).collect::<Result<Vec<_>, QueryError>>()
        };
        Ok((hits(&ranked.proponents, of_proponents)?, hits(&ranked.opponents, of_opponents)?))
    }
}

fn stage<T>(time: &mut Duration, work: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
    let begun = Instant::now();
    let result = work();
    *time = begun.elapsed();
    result
}

fn norm(snapshot: &Snapshot, vector: &[f32]) -> Result<f64, QueryError> {
    let kernels = snapshot.inner.context.kernels;
    let squared =
        kernels.dot(vector, vector).map_err(|error| QueryError::Vector { reason: error.to_string() })?;
    Ok(squared.sqrt())
}

fn encoder_name(column: &ColumnRecord) -> String {
    match &column.kind {
        ColumnKind::Embedding(record) => record.specification.clone(),
        ColumnKind::Sketch { .. } => String::new(),
    }
}
