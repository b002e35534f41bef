//! What the rows of an import bring beside keys and texts, and whether it fills columns of rows that are there.

use super::matrix_column::MatrixColumn;
use super::sketch_column::SketchColumn;
use super::transaction::Transaction;
use crate::format::ColumnRecord;
use crate::sources::Document;
use crate::storage::FileError;

/// Whether the import fills columns of rows that are there: its first row is, without one of the columns.
pub(super) fn is_fill(
    transaction: &Transaction,
    first: Option<&Document>,
    filling: &[Filling<'_>],
) -> Result<bool, FileError> {
    let Some(first) = first.filter(|_| !filling.is_empty()) else { return Ok(false) };
    let found = transaction.find(first.key.as_deref().unwrap_or_default())?;
    Ok(found.is_some_and(|(position, _)| {
        let segment = transaction.segment(position);
        filling.iter().any(|filling| segment.column(filling.column().id).is_none())
    }))
}

/// What fills a column.
pub(super) enum Filling<'a> {
    Vectors(MatrixColumn<'a>),
    Sketches(SketchColumn<'a>),
}

impl<'a> Filling<'a> {
    pub(super) fn column(&self) -> &ColumnRecord {
        match self {
            Self::Vectors(vectors) => &vectors.column,
            Self::Sketches(gradients) => &gradients.column,
        }
    }

    pub(super) fn vectors(&self) -> Option<&MatrixColumn<'a>> {
        if let Self::Vectors(vectors) = self { Some(vectors) } else { None }
    }

    pub(super) fn sketches(&self) -> Option<&SketchColumn<'a>> {
        if let Self::Sketches(gradients) = self { Some(gradients) } else { None }
    }

    pub(super) fn check_rows(&self, keys: usize, keys_name: &str) -> Result<(), String> {
        let (name, rows) = match self {
            Self::Vectors(vectors) => (vectors.matrix.name(), vectors.matrix.rows()),
            Self::Sketches(gradients) => (gradients.sketches.name(), gradients.sketches.rows()),
        };
        check_rows(name, rows, keys, keys_name)
    }
}

/// What the rows of an import bring beside keys and texts.
#[derive(Clone, Copy)]
pub(super) struct Ready<'a> {
    pub(super) vectors: Option<&'a MatrixColumn<'a>>,
    pub(super) gradients: Option<&'a SketchColumn<'a>>,
}

pub(super) fn check_rows(name: &str, rows: usize, keys: usize, keys_name: &str) -> Result<(), String> {
    if rows == keys {
        return Ok(());
    }
    let reason = format!("{name} has {rows} rows, {keys_name} has {keys} keys: give one of each a row");
    Err(reason)
}
