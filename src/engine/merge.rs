//! Several segments written anew as one, without their deleted rows.
//!
//! The files are not part of the store until a transaction names them. Codes of rows that were indexed are copied, so that
//! the new segment is indexed when it appears.

use std::borrow::Cow;
use std::sync::Arc;

use super::coding::{take_quantised, write_index};
use super::compact_error::CompactError;
use super::context::Context;
use super::segment::SegmentView;
use super::snapshot::Snapshot;
use super::traffic::Pace;
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, ColumnId, FieldDeclaration, RowId, RowSet, SegmentId};
use crate::format::{
    ColumnHeader, Encoding, FileRecord, IndexHeader, NOT_MEASURED, SegmentColumnRecord, SegmentRecord,
    encode_extra, encode_metadata, gather_metadata,
};
use crate::index::CodedRows;
use crate::storage::{
    ColumnFileWriter, FileError, HeldSegment, IndexFile, RowFileSource, RowString, SegmentNumbers,
    SketchRowsBeside, Storage, row_file_name, write_row_file,
};

/// Segments written anew as one.
#[derive(Debug)]
pub(super) struct Merged {
    sources: Vec<SegmentView>,
    /// Rows of each source that were live then, and the number that the first of them has now.
    live: Vec<(RowSet, u32)>,
    /// `None` if no row was live.
    record: Option<SegmentRecord>,
    /// Keeps the files until they are part of the store.
    held: HeldSegment,
}

impl Merged {
    /// Removes the files.
    pub(super) fn discard(self, storage: &dyn Storage) {
        self.held.discard(storage);
    }

    /// The segments it was made from, as they were then.
    pub(super) fn sources(&self) -> &[SegmentView] {
        &self.sources
    }

    /// The new segment; none if no row was live.
    pub(super) fn record(&self) -> Option<&SegmentRecord> {
        self.record.as_ref()
    }

    /// Number of a source's row in the new segment, if it was live.
    pub(super) fn row(&self, source: usize, row: RowId) -> Option<RowId> {
        let (live, first) = self.live.get(source)?;
        live.contains(row).then(|| RowId(first + live.rank(row) as u32))
    }

    /// Deleted rows whose bytes the new segment no longer has.
    pub(super) fn erased_rows(&self) -> u64 {
        self.sources.iter().map(|source| source.deleted.len()).sum()
    }
}

/// Who watches a merge: rows written, and when to wait or stop.
pub(super) struct MergeWatch<'a> {
    pub(super) pace: &'a Pace,
    pub(super) cancel: &'a Cancel,
    pub(super) advance: &'a dyn Fn(u64),
}

/// Rows that a merge of these segments goes through: those of the row file, and those of each column.
pub(super) fn merge_steps(sources: &[SegmentView]) -> u64 {
    sources.iter().map(|source| source.live_rows() * (1 + source.segment.columns().count() as u64)).sum()
}

/// Writes the live rows of segments with the same columns, which stand in the order of ingest, as one segment.
///
/// # Errors
/// There is too little room, or a file cannot be read or written. What was written is removed.
///
/// # Complexity
/// Memory is 20 bytes a row, and the declared fields.
pub(super) fn merge(
    snapshot: &Snapshot,
    sources: Vec<SegmentView>,
    numbers: &Arc<SegmentNumbers>,
    watch: &MergeWatch<'_>,
) -> Result<Merged, CompactError> {
    let context = &snapshot.inner.context;
    let storage = context.storage.as_ref();
    check_space(storage, context.index_rows_min, &sources)?;
    let held = SegmentNumbers::hold(numbers);
    let (mut live, mut next) = (Vec::new(), 0);
    for source in &sources {
        let mut rows = RowSet::full(source.segment.record.row_count);
        rows.subtract(&source.deleted);
        let first = next;
        next += rows.len() as u32;
        live.push((rows, first));
    }
    let mut merged = Merged { sources, live, record: None, held };
    match write(snapshot, &merged, next, watch) {
        Ok(record) => merged.record = record,
        Err(error) => {
            merged.discard(storage);
            return Err(error);
        }
    }
    Ok(merged)
}

/// Writes all files of a merged segment; none if it has no rows.
fn write(
    snapshot: &Snapshot,
    merged: &Merged,
    row_count: u32,
    watch: &MergeWatch<'_>,
) -> Result<Option<SegmentRecord>, CompactError> {
    let context = &snapshot.inner.context;
    let place = merged.sources.iter().map(|source| source.segment.record.place).min();
    let (Some(place), true) = (place, row_count > 0) else { return Ok(None) };
    let id = merged.held.id();
    let rows = write_rows(context.storage.as_ref(), merged, snapshot.fields(), row_count, watch)?;
    let mut columns = Vec::new();
    for column in merged.sources[0].segment.record.columns.iter().map(|record| record.column) {
        let writing = Writing { context, merged, id, row_count, column, watch };
        let file = writing.values()?;
        writing.codes(file)?;
        columns.push(SegmentColumnRecord { column, file });
    }
    Ok(Some(SegmentRecord { id, place, row_count, rows, columns }))
}

/// Checks that the new files fit beside the old ones.
fn check_space(
    storage: &dyn Storage,
    index_rows_min: u32,
    sources: &[SegmentView],
) -> Result<(), CompactError> {
    let path = storage.describe("");
    let free =
        storage.free_bytes().map_err(|source| CompactError::FreeSpace { path: path.clone(), source })?;
    let Some(free_bytes) = free else { return Ok(()) };
    let (mut needed_bytes, live) = (0, sources.iter().map(SegmentView::live_rows).sum::<u64>());
    for source in sources {
        let segment = &source.segment;
        let columns = segment.columns().map(|file| {
            let codes = IndexHeader::of_rows(segment.record.row_count, file.header().width);
            file.file().length() + if live >= u64::from(index_rows_min) { codes.content_length() } else { 0 }
        });
        let bytes = segment.rows.file().length() + columns.sum::<u64>();
        let rows = u64::from(segment.record.row_count).max(1);
        needed_bytes += (u128::from(bytes) * u128::from(source.live_rows()) / u128::from(rows)) as u64;
    }
    // Headers, footers and tables of the files, manifest and catalog.
    needed_bytes += needed_bytes / 16;
    if needed_bytes > free_bytes {
        return Err(CompactError::Space { path, needed_bytes, free_bytes });
    }
    Ok(())
}

/// Strings of the live rows of several segments.
struct MergedRows<'a> {
    merged: &'a Merged,
    row_count: u32,
    /// Fields that each source was written without: their values go from the undeclared fields to the declared ones.
    late: Vec<Vec<&'a FieldDeclaration>>,
    metadata: Option<Vec<u8>>,
    watch: &'a MergeWatch<'a>,
}

impl RowFileSource for MergedRows<'_> {
    fn row_count(&self) -> usize {
        self.row_count as usize
    }

    fn each(
        &self,
        kind: RowString,
        take: &mut dyn FnMut(&str) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        for ((source, (live, _)), late) in self.merged.sources.iter().zip(&self.merged.live).zip(&self.late) {
            let rows = &source.segment.rows;
            for row in live.iter() {
                if row.0 % SCAN_CHUNK_ROWS == 0 {
                    self.watch.pace.keep();
                    if self.watch.cancel.is_cancelled() {
                        return Err(rows.file().content_error("cancelled"));
                    }
                }
                match kind {
                    RowString::Key => take(rows.key(row)?)?,
                    RowString::Text => take(rows.text(row)?)?,
                    RowString::Extra => {
                        let mut extra = Cow::Borrowed(rows.extra_text(row)?);
                        if !late.is_empty() && !extra.is_empty() {
                            let mut fields = rows.extra(row)?;
                            late.iter().for_each(|field| {
                                fields.shift_remove(&field.name);
                            });
                            extra = Cow::Owned(encode_extra(&fields));
                        }
                        take(&extra)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn metadata(&self) -> Option<&[u8]> {
        self.metadata.as_deref()
    }
}

fn write_rows(
    storage: &dyn Storage,
    merged: &Merged,
    declared: &[FieldDeclaration],
    row_count: u32,
    watch: &MergeWatch<'_>,
) -> Result<FileRecord, CompactError> {
    let id = merged.held.id();
    let unwritable = |error: crate::format::MetadataError| FileError::Content {
        path: storage.describe(&row_file_name(id)),
        reason: error.to_string(),
    };
    let (mut batches, mut late) = (Vec::new(), Vec::new());
    for source in &merged.sources {
        late.push(source.segment.late_fields(declared)?);
        if !declared.is_empty() {
            batches.push(source.segment.fields(declared)?);
        }
    }
    let metadata = if declared.is_empty() {
        None
    } else {
        let rows = merged.live.iter().map(|(rows, _)| rows);
        let parts: Vec<_> = batches.iter().map(Arc::as_ref).zip(rows).collect();
        let batch = gather_metadata(declared, &parts, row_count as usize).map_err(unwritable)?;
        Some(encode_metadata(&batch).map_err(unwritable)?)
    };
    let rows = MergedRows { merged, row_count, late, metadata, watch };
    let written = write_row_file(storage, id, &rows);
    if watch.cancel.is_cancelled() {
        return Err(CompactError::Cancelled);
    }
    (watch.advance)(u64::from(row_count));
    Ok(written?)
}

/// One column of a merged segment on its way to the disk.
struct Writing<'a> {
    context: &'a Context,
    merged: &'a Merged,
    id: SegmentId,
    row_count: u32,
    column: ColumnId,
    watch: &'a MergeWatch<'a>,
}

impl Writing<'_> {
    /// Hands runs of live rows to `take`, of at most [`SCAN_CHUNK_ROWS`], in order.
    fn each_run(
        &self,
        mut take: impl FnMut(usize, RowId, u32) -> Result<(), CompactError>,
    ) -> Result<(), CompactError> {
        for (source, (live, _)) in self.merged.live.iter().enumerate() {
            for (first, count) in live.runs(SCAN_CHUNK_ROWS) {
                if self.watch.cancel.is_cancelled() {
                    return Err(CompactError::Cancelled);
                }
                self.watch.pace.keep();
                take(source, first, count)?;
            }
        }
        Ok(())
    }

    /// Copies the stored values.
    fn values(&self) -> Result<FileRecord, CompactError> {
        let files = self.files()?;
        let header =
            ColumnHeader { segment: self.id, row_count: self.row_count, ..files[0].header().clone() };
        let mut writer = ColumnFileWriter::create(self.context.storage.as_ref(), header, files[0].modules())?;
        let is_measured = files.iter().any(|file| file.has_outcomes());
        self.each_run(|source, first, count| {
            let file = files[source];
            writer.append(file.values(first, count)?, file.scales(first, count)?.unwrap_or_default())?;
            let mut outcomes = Cow::Borrowed(file.outcomes(first, count)?.unwrap_or_default());
            if is_measured && !file.has_outcomes() {
                let row = file.header().members as usize + 2;
                outcomes = Cow::Owned(NOT_MEASURED.to_le_bytes().repeat(row * count as usize));
            }
            let terms = file.terms(first, count)?.unwrap_or_default();
            writer.append_beside(SketchRowsBeside { terms, outcomes: &outcomes });
            (self.watch.advance)(u64::from(count));
            Ok(())
        })?;
        Ok(writer.finish()?)
    }

    /// Copies codes where there are any and makes the others, if the segment is to have an index.
    fn codes(&self, origin: FileRecord) -> Result<(), CompactError> {
        let files = self.files()?;
        let column = files[0].header();
        if column.encoding != Encoding::Embedding || self.row_count < self.context.index_rows_min {
            return Ok(());
        }
        let storage = self.context.storage.as_ref();
        let indexes: Vec<Option<Arc<IndexFile>>> =
            self.merged.sources.iter().map(|source| source.segment.index(storage, self.column)).collect();
        let header = IndexHeader {
            segment: self.id,
            column: self.column,
            ..IndexHeader::of_rows(self.row_count, column.width)
        };
        write_index(storage, header, origin, |_, take| {
            let mut coded = CodedRows::default();
            self.each_run(|source, first, count| {
                if let Some(index) = &indexes[source]
                    && let (Ok(codes), Ok(scales), Ok(errors), Ok(norms)) = (
                        index.codes(first, count),
                        index.scales(first, count),
                        index.errors(first, count),
                        index.norms(first, count),
                    )
                {
                    return take(codes, [scales, errors, norms]);
                }
                take_quantised(files[source], first, count, &mut coded, take)
            })
        })
    }

    fn files(&self) -> Result<Vec<&crate::storage::ColumnFile>, FileError> {
        let sources = self.merged.sources.iter();
        sources
            .map(|source| {
                let missing = || source.segment.rows.file().content_error("a column of it is missing");
                source.segment.column(self.column).ok_or_else(missing)
            })
            .collect()
    }
}
