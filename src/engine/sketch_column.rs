//! Gradients of a sketch file to the column files of segments.

use super::batch::BatchError;
use super::options::{SKETCH_COLUMN_NAME, Watch};
use super::store::column_record;
use super::transaction::Transaction;
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{ColumnId, SegmentId};
use crate::format::{
    ColumnHeader, ColumnKind, ColumnRecord, Encoding, NOT_MEASURED, SPARSE_PADDING, SegmentColumnRecord,
};
use crate::sketch::{GradientSource, SketchFileError, encode_sketch_rows};
use crate::storage::{ColumnFileWriter, FileError, SketchRowsBeside, Storage};

/// Gradients that did not become a column file.
#[derive(Debug)]
pub(super) enum SketchColumnError {
    /// The sketch file is refused.
    Sketch(SketchFileError),
    /// A value is refused.
    Batch(BatchError),
    /// The file cannot be written.
    File(FileError),
    /// The work was cancelled.
    Cancelled,
}

/// A sketch file and the column that takes it.
pub(super) struct SketchColumn<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) sketches: &'a dyn GradientSource,
    pub(super) column: ColumnRecord,
    pub(super) watch: Watch<'a>,
}

impl SketchColumn<'_> {
    /// Writes the file of `segment`, whose row i is row `rows[i]` of the sketch file, or one of zeros.
    pub(super) fn write(
        &self,
        segment: SegmentId,
        rows: &[Option<usize>],
    ) -> Result<SegmentColumnRecord, SketchColumnError> {
        let Self { storage, sketches, column, watch } = self;
        let layout = sketches.schema().layout();
        let header = ColumnHeader {
            segment,
            row_count: rows.len() as u32,
            column: column.id,
            element: column.element,
            encoding: Encoding::Sketch,
            width: column.width,
            members: layout.members(),
        };
        let mut writer =
            ColumnFileWriter::create(*storage, header, layout.modules()).map_err(SketchColumnError::File)?;
        let (mut values, mut terms, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        // A block of rows of bounded size, whatever their width.
        let block = (BLOCK_VALUES / layout.width().max(1)).clamp(1, SCAN_CHUNK_ROWS as usize);
        for (number, block_rows) in rows.chunks(block).enumerate() {
            if watch.cancel.is_cancelled() {
                return Err(SketchColumnError::Cancelled);
            }
            [&mut values, &mut outcomes].into_iter().for_each(Vec::clear);
            [&mut bytes, &mut scales].into_iter().for_each(Vec::clear);
            terms.clear();
            for row in block_rows {
                match row {
                    Some(row) => sketches
                        .read_row(*row, &mut values, &mut terms, &mut outcomes)
                        .map_err(SketchColumnError::Sketch)?,
                    // A deleted row: nobody reads its values.
                    None => {
                        values.resize(values.len() + layout.width(), 0.0);
                        terms.resize(terms.len() + layout.terms_a_row(), SPARSE_PADDING);
                        let measured =
                            if sketches.has_outcomes() { layout.members() as usize + 2 } else { 0 };
                        outcomes.resize(outcomes.len() + measured, NOT_MEASURED);
                    }
                }
            }
            encode_sketch_rows(column.element, layout, &values, &mut bytes, &mut scales).map_err(
                |error| {
                    let row = block_rows.get(error.row).copied().flatten().unwrap_or_default();
                    let reason = error.to_string();
                    SketchColumnError::Batch(BatchError::Gradient { place: sketches.place(row), reason })
                },
            )?;
            writer.append(&bytes, &scales).map_err(SketchColumnError::File)?;
            let terms: Vec<u8> = terms.iter().flat_map(|term: &u32| term.to_le_bytes()).collect();
            let outcomes: Vec<u8> = outcomes.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
            writer.append_beside(SketchRowsBeside { terms: &terms, outcomes: &outcomes });
            watch.progress.advance((number * block + block_rows.len()) as u64);
        }
        let file = writer.finish().map_err(SketchColumnError::File)?;
        Ok(SegmentColumnRecord { column: column.id, file })
    }
}

/// Values that are decoded at a time: some MiB.
const BLOCK_VALUES: usize = 1 << 20;

/// The column that takes the rows of a sketch file: the one with its schema, or a new one where there is none.
///
/// # Errors
/// The column named, or the only one there is, holds another schema.
pub(super) fn sketch_column(
    transaction: &mut Transaction,
    named: Option<&str>,
    sketches: &dyn GradientSource,
) -> Result<ColumnRecord, BatchError> {
    let fingerprint = sketches.schema().fingerprint();
    let columns = &transaction.next.store.columns;
    let of_schema = |column: &&ColumnRecord| matches!(&column.kind, ColumnKind::Sketch { fingerprint: own, .. } if *own == fingerprint);
    let is_sketch = |column: &&ColumnRecord| matches!(column.kind, ColumnKind::Sketch { .. });
    let found = match named {
        Some(name) => columns.iter().find(|column| column.name == name),
        None => columns.iter().find(of_schema).or_else(|| columns.iter().find(is_sketch)),
    };
    match found {
        Some(column) if of_schema(&column) => Ok(column.clone()),
        Some(column) => {
            let name = &column.name;
            let reason = match &column.kind {
                ColumnKind::Sketch { fingerprint: own, .. } => format!(
                    "{} has sketches of schema {}, column {name:?} holds those of schema {}: rows of two schemas cannot be compared; give --column with a new name to add a column for them",
                    sketches.name(),
                    fingerprint.short(),
                    own.short()
                ),
                ColumnKind::Embedding(_) => {
                    format!(
                        "column {name:?} holds embeddings; give --column with another name for the sketches"
                    )
                }
            };
            Err(BatchError::Column { reason })
        }
        None => {
            let id = transaction.next.store.next_column;
            let name = named.unwrap_or(SKETCH_COLUMN_NAME);
            let record = column_record(&transaction.next.store.columns, id, name, sketches.schema())
                .map_err(|error| BatchError::Column { reason: error.to_string() })?;
            transaction.next.store.next_column = ColumnId(id.0 + 1);
            transaction.next.store.columns.push(record.clone());
            Ok(record)
        }
    }
}
