//! What a sketch column says of itself, and what was measured of its rows.

use std::sync::Arc;

use super::gradient_error::GradientError;
use super::snapshot::Snapshot;
use crate::encoder::LayerTangents;
use crate::format::ColumnKind;
use crate::sketch::{Checkpoint, Outcome, SketchSchema};

/// What a sketch column says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GradientColumn {
    /// Its name.
    pub name: String,
    /// When each member's gradients were taken.
    pub checkpoints: Vec<Checkpoint>,
    /// The head that it was made with; `None` if it was imported.
    pub head: Option<GradientHead>,
    /// Whether a curvature is fitted to it.
    pub is_fitted: bool,
}

/// The head that a sketch column was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GradientHead {
    /// The field with its labels.
    pub label: String,
    /// The embedding column that it classifies; `None` if that was dropped since.
    pub embedding: Option<String>,
}

impl Snapshot {
    /// What the sketch column `name` says of itself, or the only one; `None` if none is named and there is none.
    ///
    /// # Errors
    /// There is no such column, or there are several and none is named.
    pub fn gradient_column(&self, name: Option<&str>) -> Result<Option<GradientColumn>, GradientError> {
        let store = &self.inner.state.store;
        let has_sketches =
            store.columns.iter().any(|column| matches!(column.kind, ColumnKind::Sketch { .. }));
        if name.is_none() && !has_sketches {
            return Ok(None);
        }
        let rows = self.gradient_rows(name)?;
        let head = match &rows.column.kind {
            ColumnKind::Sketch { head: Some(head), .. } => {
                let embedding = store.columns.iter().find(|column| column.id == head.embedding);
                let embedding = embedding.map(|column| column.name.clone());
                Some(GradientHead { label: head.label.clone(), embedding })
            }
            _ => None,
        };
        Ok(Some(GradientColumn {
            name: rows.column.name.clone(),
            checkpoints: rows.schema.checkpoints().to_vec(),
            head,
            is_fitted: store.curvatures.iter().any(|record| record.column == rows.column.id),
        }))
    }

    /// The schema of the sketch column `name`, or of the only one.
    ///
    /// # Errors
    /// There is no such column, or there are several and none is named.
    pub fn sketch_schema(&self, name: Option<&str>) -> Result<Arc<SketchSchema>, GradientError> {
        Ok(self.gradient_rows(name)?.schema)
    }

    /// Keys of the live rows that have a gradient, in the order of ingest, and what was measured of each when it was taken.
    ///
    /// # Errors
    /// There is no such column, or bytes are damaged.
    ///
    /// # Complexity
    /// O(rows x members): gradients are not read.
    pub fn outcomes(&self, column: Option<&str>) -> Result<Vec<(String, Option<Outcome>)>, GradientError> {
        let rows = self.gradient_rows(column)?;
        let layout = rows.schema.layout();
        let mut outcomes = Vec::new();
        for segment in &rows.segments {
            for row in segment.view.iter_live() {
                let key = segment.view.segment.rows.key(row)?.to_owned();
                outcomes.push((key, segment.outcome(layout, row)?));
            }
        }
        Ok(outcomes)
    }

    /// How the logits of a column's head at one member's checkpoint move with the weights of each layer, at the rows of
    /// `embeddings`; see [`QueryGradient::tangents`](crate::encoder::QueryGradient::tangents).
    ///
    /// # Errors
    /// The column was imported, or the embeddings are no rows of the head's width.
    pub fn head_tangents(
        &self,
        column: Option<&str>,
        member: usize,
        embeddings: &[f32],
    ) -> Result<Vec<LayerTangents>, GradientError> {
        let rows = self.gradient_rows(column)?;
        let ColumnKind::Sketch { fingerprint, head: Some(head), .. } = &rows.column.kind else {
            return Err(GradientError::mismatch(format!(
                "the gradients of column {:?} were imported, so that there is no head to ask; make a column with \"ascribe train-head\"",
                rows.column.name
            )));
        };
        let model = self.head_model(rows.column.id, fingerprint, head)?;
        model.tangents(member, embeddings).map_err(|error| GradientError::mismatch(error.to_string()))
    }
}
