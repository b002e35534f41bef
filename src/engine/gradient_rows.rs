//! The gradients of all rows of a sketch column, block by block.

use std::sync::Arc;

use rayon::prelude::*;

use super::gradient_error::GradientError;
use super::segment::SegmentView;
use super::snapshot::Snapshot;
use crate::base::{Cancel, Checksum, ElementType, RowId};
use crate::curvature::MemberGradients;
use crate::format::{ColumnKind, ColumnRecord};
use crate::kernels::stored_values;
use crate::sketch::{Outcome, SketchLayout, SketchRows, SketchSchema, StoredSketches};
use crate::storage::{ColumnFile, FileError};

/// Values that are decoded at a time: half a MiB, which stays in the second-level cache.
const BLOCK_VALUES: usize = 1 << 17;

/// A segment that has the column.
pub(super) struct GradientSegment<'a> {
    /// Its position in the snapshot.
    pub(super) position: usize,
    pub(super) view: &'a SegmentView,
    pub(super) file: &'a ColumnFile,
    /// Rows of the segments before it.
    pub(super) first: usize,
}

/// All rows with a gradient, deleted ones counted, in the order of ingest; each has a place in that order.
pub(super) struct GradientRows<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) column: &'a ColumnRecord,
    pub(super) schema: Arc<SketchSchema>,
    pub(super) segments: Vec<GradientSegment<'a>>,
    pub(super) places: usize,
}

/// Some rows of a segment, decoded.
pub(super) struct GradientBlock<'a> {
    pub(super) segment: &'a GradientSegment<'a>,
    pub(super) first: RowId,
    pub(super) count: u32,
    pub(super) rows: &'a SketchRows,
}

/// Some rows of a segment where they lie.
pub(super) struct StoredBlock<'a> {
    /// Place of the first row.
    pub(super) place: usize,
    pub(super) count: u32,
    /// Values and terms, row by row.
    pub(super) values: &'a [f32],
    pub(super) terms: &'a [u32],
}

impl GradientSegment<'_> {
    /// What was measured of a row; `None` if nothing was.
    pub(super) fn outcome(&self, layout: &SketchLayout, row: RowId) -> Result<Option<Outcome>, FileError> {
        let (bytes, _) = self.file.outcomes(row, 1)?.unwrap_or_default().as_chunks::<4>();
        let measured = bytes.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(SketchRows { outcomes: measured, ..SketchRows::default() }.outcome(layout, 0))
    }
}

impl GradientBlock<'_> {
    /// Place of the first row.
    pub(super) fn place(&self) -> usize {
        self.segment.first + self.first.0 as usize
    }

    /// The gradients at one member's checkpoint.
    pub(super) fn gradients(&self, layout: &SketchLayout, member: usize) -> MemberGradients {
        let mut own = MemberGradients::empty(layout);
        (0..self.count as usize).for_each(|row| own.push(layout, member as u32, self.rows, row));
        own
    }
}

impl Snapshot {
    /// The gradients of the column `name`, or of the only sketch column.
    pub(super) fn gradient_rows(&self, name: Option<&str>) -> Result<GradientRows<'_>, GradientError> {
        let column = self.sketch_column(name)?;
        let schema = self.inner.schemas.get(&column.id).map(Arc::clone);
        let schema = schema.ok_or_else(|| GradientError::Column {
            reason: format!("column {:?} has no schema; run \"ascribe verify\"", column.name),
        })?;
        let (mut segments, mut places) = (Vec::new(), 0);
        for (position, view) in self.views_in_order() {
            let Some(file) = view.segment.column(column.id) else { continue };
            segments.push(GradientSegment { position, view, file, first: places });
            places += view.segment.record.row_count as usize;
        }
        Ok(GradientRows { snapshot: self, column, schema, segments, places })
    }

    fn sketch_column(&self, name: Option<&str>) -> Result<&ColumnRecord, GradientError> {
        let columns = &self.inner.state.store.columns;
        let sketches: Vec<&ColumnRecord> =
            columns.iter().filter(|column| matches!(column.kind, ColumnKind::Sketch { .. })).collect();
        let names = || sketches.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let reason = match (name, sketches.as_slice()) {
            (_, []) => "the store has no sketch column: import gradients with \"ascribe import --sketches\", or make them with \"ascribe train-head\"".to_owned(),
            (None, [only]) => return Ok(only),
            (None, _) => format!("several columns hold sketches ({}): name one with --column", names()),
            (Some(name), _) => match sketches.iter().find(|column| column.name == name) {
                Some(column) => return Ok(column),
                None => format!("there is no sketch column {name:?}; the sketch columns are {}", names()),
            },
        };
        Err(GradientError::Column { reason })
    }
}

impl<'a> GradientRows<'a> {
    /// Rows that are not deleted.
    pub(super) fn live_rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.view.live_rows()).sum()
    }

    /// Places of all rows that are not deleted, in the order of ingest.
    pub(super) fn live_places(&self) -> Vec<usize> {
        let places = self
            .segments
            .iter()
            .flat_map(|segment| segment.view.iter_live().map(|row| segment.first + row.0 as usize));
        places.collect()
    }

    /// Whether there is a row at a place that is not deleted.
    pub(super) fn is_live(&self, place: usize) -> bool {
        self.row_at(place).is_some_and(|(segment, row)| !segment.view.deleted.contains(row))
    }

    /// The segment and row at a place.
    pub(super) fn row_at(&self, place: usize) -> Option<(&GradientSegment<'a>, RowId)> {
        let number = self.segments.partition_point(|segment| segment.first <= place).checked_sub(1)?;
        let segment = self.segments.get(number)?;
        let row = u32::try_from(place - segment.first).ok()?;
        (row < segment.view.segment.record.row_count).then_some((segment, RowId(row)))
    }

    /// The place of a row of the snapshot's segment at `position`.
    pub(super) fn place_of(&self, position: usize, row: RowId) -> Option<usize> {
        let segment = self.segments.iter().find(|segment| segment.position == position)?;
        Some(segment.first + row.0 as usize)
    }

    /// One row, decoded.
    pub(super) fn row(&self, place: usize) -> Result<Option<SketchRows>, FileError> {
        let Some((segment, row)) = self.row_at(place) else { return Ok(None) };
        let mut rows = SketchRows::default();
        read_rows(&mut rows, segment.file, self.schema.layout(), row, 1)?;
        Ok(Some(rows))
    }

    /// The rows at some places, decoded, in this order.
    pub(super) fn rows_at(&self, places: &[usize]) -> Result<SketchRows, FileError> {
        let mut all = SketchRows::default();
        let mut own = SketchRows::default();
        for place in places {
            let Some((segment, row)) = self.row_at(*place) else { continue };
            read_rows(&mut own, segment.file, self.schema.layout(), row, 1)?;
            all.values.extend_from_slice(&own.values);
            all.terms.extend_from_slice(&own.terms);
        }
        Ok(all)
    }

    /// Hands all rows to `work`, block by block, in parallel; what it returns is in the order of the rows. Blocks whose places
    /// `is_wanted` does not ask for are neither read nor handed on.
    pub(super) fn map_blocks<T: Send>(
        &self,
        cancel: &Cancel,
        is_wanted: impl Fn(std::ops::Range<usize>) -> bool,
        work: impl Fn(&GradientBlock<'_>) -> Result<T, GradientError> + Sync,
    ) -> Result<Vec<T>, GradientError> {
        let layout = self.schema.layout();
        self.map_numbered(cancel, is_wanted, |decoded, (segment, first, count)| {
            read_rows(decoded, segment.file, layout, first, count)?;
            work(&GradientBlock { segment, first, count, rows: decoded })
        })
    }

    /// [`map_blocks`](Self::map_blocks) of values where they lie, if they are stored as they are computed with, and without a look
    /// whether they are finite: for work whose result shows it.
    pub(super) fn map_stored<T: Send>(
        &self,
        cancel: &Cancel,
        is_wanted: impl Fn(std::ops::Range<usize>) -> bool,
        work: impl Fn(&StoredBlock<'_>) -> Result<T, GradientError> + Sync,
    ) -> Result<Vec<T>, GradientError> {
        let layout = self.schema.layout();
        self.map_numbered(cancel, is_wanted, |decoded, (segment, first, count)| {
            let values = match segment.file.element() {
                ElementType::F32 => stored_values(segment.file.values(first, count)?),
                _ => None,
            };
            let place = segment.first + first.0 as usize;
            match values {
                Some(values) if layout.terms_a_row() == 0 => {
                    work(&StoredBlock { place, count, values, terms: &[] })
                }
                _ => {
                    read_rows_unchecked(decoded, segment.file, layout, first, count)?;
                    let (values, terms) = (&decoded.values, &decoded.terms);
                    work(&StoredBlock { place, count, values, terms })
                }
            }
        })
    }

    /// Hands the blocks to `read` by segment, first row and count, with memory for one.
    fn map_numbered<T: Send>(
        &self,
        cancel: &Cancel,
        is_wanted: impl Fn(std::ops::Range<usize>) -> bool,
        read: impl Fn(&mut SketchRows, (&GradientSegment<'_>, RowId, u32)) -> Result<T, GradientError> + Sync,
    ) -> Result<Vec<T>, GradientError> {
        let layout = self.schema.layout();
        let rows = (BLOCK_VALUES / layout.width().max(1)).clamp(1, 1024) as u32;
        let blocks: Vec<(&GradientSegment<'_>, RowId, u32)> = self
            .segments
            .iter()
            .flat_map(|segment| {
                let count = segment.view.segment.record.row_count;
                let block = move |first| (segment, RowId(first), rows.min(count - first));
                (0..count).step_by(rows as usize).map(block)
            })
            .filter(|(segment, first, count)| {
                let place = segment.first + first.0 as usize;
                is_wanted(place..place + *count as usize)
            })
            .collect();
        // Memory for a block is kept for the next one: asking for it anew costs as much as reading the rows.
        let results = blocks.par_iter().map_init(SketchRows::default, |decoded, block| {
            if cancel.is_cancelled() {
                return Err(GradientError::Cancelled);
            }
            read(decoded, *block)
        });
        results.collect()
    }

    /// Checksum of a row's stored gradient and what stands beside it: two rows with the same are the same to a fit.
    pub(super) fn print(segment: &GradientSegment<'_>, row: RowId) -> Result<u64, FileError> {
        let file = segment.file;
        let mut sum = Checksum::new();
        sum.update(file.values(row, 1)?);
        for beside in [file.scales(row, 1)?, file.terms(row, 1)?, file.outcomes(row, 1)?] {
            sum.update(beside.unwrap_or_default());
        }
        Ok(sum.value())
    }
}

/// Reads `count` rows from `first` of a column file into `rows`, in place of what was there.
pub(super) fn read_rows(
    rows: &mut SketchRows,
    file: &ColumnFile,
    layout: &SketchLayout,
    first: RowId,
    count: u32,
) -> Result<(), FileError> {
    read_rows_unchecked(rows, file, layout, first, count)?;
    let checked = rows.check_finite(layout);
    checked.map_err(|reason| file.file().content_error(format!("rows from {first} on: {reason}")))
}

/// [`read_rows`] without a look whether values are finite.
fn read_rows_unchecked(
    rows: &mut SketchRows,
    file: &ColumnFile,
    layout: &SketchLayout,
    first: RowId,
    count: u32,
) -> Result<(), FileError> {
    let stored = StoredSketches {
        element: file.element(),
        values: file.values(first, count)?,
        scales: file.scales(first, count)?,
        terms: file.terms(first, count)?,
        outcomes: file.outcomes(first, count)?,
    };
    rows.take(layout, stored)
        .map_err(|reason| file.file().content_error(format!("rows from {first} on: {reason}")))
}
