//! Learned scores of all rows: the dense matrix of queries and rows.

use rayon::prelude::*;

use super::query_error::QueryError;
use super::snapshot::Snapshot;
use crate::attribution::ScoreKind;
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, ElementType, RowId};
use crate::format::{ColumnKind, ColumnRecord};
use crate::kernels::{KernelError, WideQuery};
use crate::storage::ColumnFile;

impl Snapshot {
    /// Exact learned scores of all live rows that have the column, for each of some vectors: `vectors.len()` x rows, the rows
    /// in the order of ingest ([`column_keys`](Self::column_keys)).
    ///
    /// # Errors
    /// There is no such embedding column, a vector has another width, or bytes are damaged.
    ///
    /// # Complexity
    /// O(vectors x rows x width), in parallel over the vectors.
    pub fn score_vectors(
        &self,
        column: Option<&str>,
        vectors: &[Vec<f32>],
        kind: ScoreKind,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f64>>, QueryError> {
        let column = self.scored_column(column)?;
        let width = column.width as usize;
        if let Some(vector) = vectors.iter().find(|vector| vector.len() != width) {
            let reason =
                format!("the vector has {} values, column {:?} has {width}", vector.len(), column.name);
            return Err(QueryError::Vector { reason });
        }
        self.inner.context.pool.install(|| {
            let all = vectors.par_iter().map(|vector| self.score_vector(column, vector, kind, cancel));
            all.collect()
        })
    }

    /// Keys of the live rows that have an embedding column, in the order of ingest.
    ///
    /// # Errors
    /// There is no such column, or bytes are damaged.
    pub fn column_keys(&self, column: Option<&str>) -> Result<Vec<String>, QueryError> {
        let column = self.scored_column(column)?;
        let mut keys = Vec::new();
        for (view, _) in self.files_in_order(column) {
            for row in view.iter_live() {
                keys.push(view.segment.rows.key(row)?.to_owned());
            }
        }
        Ok(keys)
    }

    /// Stored vectors of the live rows that have an embedding column, in the order of ingest, row after row.
    ///
    /// # Errors
    /// There is no such column, or bytes are damaged.
    pub fn column_vectors(&self, column: Option<&str>) -> Result<Vec<f32>, QueryError> {
        let column = self.scored_column(column)?;
        let mut vectors = Vec::new();
        for (view, file) in self.files_in_order(column) {
            for row in view.iter_live() {
                vectors.extend(read_vector(file, row)?);
            }
        }
        Ok(vectors)
    }

    /// The embedding of a text by the encoder of an embedding column.
    ///
    /// # Errors
    /// There is no such column, or it cannot encode text.
    pub fn embed(&self, column: Option<&str>, text: &str) -> Result<Vec<f32>, QueryError> {
        let column = self.scored_column(column)?;
        let mut vector = vec![0.0; column.width as usize];
        let encoder = self.encoder(column)?;
        encoder.encode(&[text], &mut vector).map_err(super::encoders::EncoderError::from)?;
        Ok(vector)
    }

    pub(super) fn scored_column(&self, name: Option<&str>) -> Result<&ColumnRecord, QueryError> {
        let found = self.column(name).filter(|column| matches!(column.kind, ColumnKind::Embedding(_)));
        found.ok_or_else(|| QueryError::UnknownColumn {
            name: name.unwrap_or_default().to_owned(),
            known: self.column_names().collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn files_in_order(
        &self,
        column: &ColumnRecord,
    ) -> Vec<(&super::segment::SegmentView, &ColumnFile)> {
        let views = self.views_in_order().into_iter();
        let files = views.filter_map(|(_, view)| Some((view, view.segment.column(column.id)?)));
        files.collect()
    }

    fn score_vector(
        &self,
        column: &ColumnRecord,
        vector: &[f32],
        kind: ScoreKind,
        cancel: &Cancel,
    ) -> Result<Vec<f64>, QueryError> {
        let kernels = self.inner.context.kernels;
        let refuse = |error: KernelError| QueryError::Vector { reason: error.to_string() };
        let norm = kernels.dot(vector, vector).map_err(refuse)?.sqrt();
        let query = WideQuery::new(vector);
        let mut scores = Vec::new();
        for (view, file) in self.files_in_order(column) {
            let rows = file.header().row_count;
            for first in (0..rows).step_by(SCAN_CHUNK_ROWS as usize) {
                if cancel.is_cancelled() {
                    return Err(QueryError::Cancelled);
                }
                let count = SCAN_CHUNK_ROWS.min(rows - first);
                let values = file.values(RowId(first), count)?;
                let (mut dots, mut squares) = (vec![0.0; count as usize], vec![0.0; count as usize]);
                kernels.dots_wide(file.element(), &query, values, &mut dots).map_err(refuse)?;
                kernels.squared_norms(file.element(), file.width(), values, &mut squares).map_err(refuse)?;
                let scales = file.scales(RowId(first), count)?.unwrap_or_default().as_chunks::<4>().0;
                for (row, (dot, square)) in dots.into_iter().zip(squares).enumerate() {
                    if view.deleted.contains(RowId(first + row as u32)) {
                        continue;
                    }
                    let scale = scales.get(row).map_or(1.0, |scale| f64::from(f32::from_le_bytes(*scale)));
                    let divisor = match kind {
                        ScoreKind::Dot => 1.0,
                        ScoreKind::Cosine => norm * square.sqrt() * scale,
                        ScoreKind::Relatif => square.sqrt() * scale,
                    };
                    // A row or a query of zeros scores 0, as everywhere.
                    scores.push(if divisor > 0.0 { dot * scale / divisor } else { 0.0 });
                }
            }
        }
        Ok(scores)
    }
}

/// The stored vector of a row.
pub(super) fn read_vector(file: &ColumnFile, row: RowId) -> Result<Vec<f32>, QueryError> {
    let mut vector = vec![0.0; file.width()];
    let damaged = |reason: String| file.file().content_error(reason);
    crate::kernels::decode(file.element(), file.values(row, 1)?, &mut vector)
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
