//! The open files of a segment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::derived::DerivedFiles;
use crate::base::{ColumnId, ElementType, FieldDeclaration, FieldValue, RowId, RowSet};
use crate::filter::{FilterError, Predicate};
use crate::format::{
    ColumnHeader, ColumnKind, ColumnRecord, Encoding, FileRecord, IndexHeader, MetadataBatch, SegmentRecord,
    extend_metadata, metadata_value,
};
use crate::index::{GraphRows, NamedCodes, RowCoarseCodes, RowCodes, RowValues};
use crate::sketch::SketchSchema;
use crate::storage::{ColumnFile, FileError, GraphFile, IndexFile, IndexRows, RowFile, Storage};

/// Row and column files of a segment, shared by all snapshots that hold it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) record: SegmentRecord,
    pub(super) rows: Arc<RowFile>,
    columns: Vec<(ColumnId, Arc<ColumnFile>)>,
    pub(super) indexes: DerivedFiles<IndexFile>,
    pub(super) graphs: DerivedFiles<GraphFile>,
    /// Declared fields, with those that were declared after the segment was written; and how many were declared then.
    fields: Mutex<Option<(usize, Arc<MetadataBatch>)>>,
}

impl Segment {
    /// Opens the files of a segment, taking over those that `previous` has open already.
    pub(super) fn open(
        storage: &dyn Storage,
        record: &SegmentRecord,
        previous: Option<&Segment>,
    ) -> Result<Self, FileError> {
        let rows = match previous.filter(|previous| previous.record.rows == record.rows) {
            Some(previous) => Arc::clone(&previous.rows),
            None => Arc::new(RowFile::open(storage, record.id, record.row_count, record.rows)?),
        };
        let mut columns = Vec::with_capacity(record.columns.len());
        for column in &record.columns {
            let open = previous.filter(|previous| previous.record.columns.contains(column));
            let file = match open.and_then(|previous| previous.shared_column(column.column)) {
                Some(file) => file,
                None => {
                    let file =
                        ColumnFile::open(storage, record.id, column.column, record.row_count, column.file)?;
                    Arc::new(file)
                }
            };
            columns.push((column.column, file));
        }
        Ok(Self {
            record: record.clone(),
            rows,
            columns,
            indexes: DerivedFiles::default(),
            graphs: DerivedFiles::default(),
            fields: Mutex::new(None),
        })
    }

    pub(super) fn column(&self, column: ColumnId) -> Option<&ColumnFile> {
        self.columns.iter().find(|(id, _)| *id == column).map(|(_, file)| file.as_ref())
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &ColumnFile> {
        self.columns.iter().map(|(_, file)| file.as_ref())
    }

    /// The index of an embedding column, if there is one that can be used.
    pub(super) fn index(&self, storage: &dyn Storage, column: ColumnId) -> Option<Arc<IndexFile>> {
        let (header, origin) = self.index_of(column)?;
        self.indexes.get(column, || IndexFile::open(storage, &header, origin))
    }

    /// The graph of an embedding column, if there is one that can be used.
    pub(super) fn graph(&self, storage: &dyn Storage, column: ColumnId) -> Option<Arc<GraphFile>> {
        let (header, origin) = self.index_of(column)?;
        self.graphs.get(column, || GraphFile::open(storage, &header, origin))
    }

    /// What the index file of an embedding column must say of itself, and the column file that it must be made from.
    pub(super) fn index_of(&self, column: ColumnId) -> Option<(IndexHeader, FileRecord)> {
        let file = self.column(column).filter(|file| file.header().encoding == Encoding::Embedding)?;
        let origin = self.record.columns.iter().find(|record| record.column == column)?.file;
        let ColumnHeader { segment, row_count, column, width, .. } = *file.header();
        Some((IndexHeader { segment, row_count, column, width }, origin))
    }

    fn shared_column(&self, column: ColumnId) -> Option<Arc<ColumnFile>> {
        self.columns.iter().find(|(id, _)| *id == column).map(|(_, file)| Arc::clone(file))
    }

    /// Declared fields of all rows. Values of fields that were declared later are read from the undeclared fields of
    /// each row, once; declaring them checked that they fit.
    pub(super) fn fields(&self, declared: &[FieldDeclaration]) -> Result<Arc<MetadataBatch>, FileError> {
        let mut known = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, batch)) = known.as_ref()
            && *count == declared.len()
        {
            return Ok(Arc::clone(batch));
        }
        let written = self.rows.metadata(declared)?;
        let late: Vec<FieldDeclaration> = self.late_fields(declared)?.into_iter().cloned().collect();
        let mut values: Vec<Vec<Option<FieldValue>>> = vec![Vec::new(); late.len()];
        if !late.is_empty() {
            for row in 0..self.record.row_count {
                let extra = self.rows.extra(RowId(row))?;
                for (field, column) in late.iter().zip(&mut values) {
                    column.push(late_value(field, &extra).unwrap_or_default());
                }
            }
        }
        let batch = extend_metadata(written, &late, &values, self.record.row_count)
            .map_err(|error| self.rows.file().content_error(error.to_string()))?;
        let batch = Arc::new(batch);
        *known = Some((declared.len(), Arc::clone(&batch)));
        Ok(batch)
    }

    /// Fields that were declared after the segment was written.
    pub(super) fn late_fields<'a>(
        &self,
        declared: &'a [FieldDeclaration],
    ) -> Result<Vec<&'a FieldDeclaration>, FileError> {
        let written = self.rows.metadata(declared)?;
        let is_late = |field: &&FieldDeclaration| {
            written.is_none_or(|batch| batch.column_by_name(&field.name).is_none())
        };
        Ok(declared.iter().filter(is_late).collect())
    }

    /// Declared and undeclared fields of one row, declared ones first.
    pub(super) fn row_metadata(
        &self,
        declared: &[FieldDeclaration],
        row: RowId,
    ) -> Result<Map<String, Value>, FileError> {
        let written = self.rows.metadata(declared)?;
        let mut extra = self.rows.extra(row)?;
        let mut metadata = Map::new();
        for field in declared {
            let value = match written.and_then(|batch| metadata_value(batch, &field.name, row)) {
                Some(value) => value.to_json(),
                // Of its declared type, like the values of rows that came later.
                None => {
                    let late = late_value(field, &extra).unwrap_or_default();
                    let stored = extra.shift_remove(&field.name);
                    late.map(|value| value.to_json()).or(stored).unwrap_or(Value::Null)
                }
            };
            metadata.insert(field.name.clone(), value);
        }
        metadata.append(&mut extra);
        Ok(metadata)
    }
}

/// The schemas of sketch columns, read once for all snapshots that have the column.
pub(super) type SketchSchemas = BTreeMap<ColumnId, Arc<SketchSchema>>;

/// Reads the schemas of all sketch columns, taking over those in `known` whose columns are the same.
pub(super) fn read_schemas(columns: &[ColumnRecord], known: &SketchSchemas) -> Result<SketchSchemas, String> {
    let mut schemas = BTreeMap::new();
    for column in columns {
        let ColumnKind::Sketch { schema, fingerprint, .. } = &column.kind else { continue };
        let read = match known.get(&column.id) {
            Some(known) => Arc::clone(known),
            None => {
                let unreadable = |reason: String| format!("the schema of column {:?}: {reason}", column.name);
                Arc::new(SketchSchema::parse(schema).map_err(|error| unreadable(error.to_string()))?)
            }
        };
        if read.fingerprint() != *fingerprint || read.layout().width() != column.width as usize {
            return Err(format!("the schema of column {:?} is not the recorded one", column.name));
        }
        schemas.insert(column.id, read);
    }
    Ok(schemas)
}

/// A column file must be of the type, width and encoding that the schema gives its column, with the modules of its sketch
/// schema.
pub(super) fn check_column_type(
    file: &ColumnFile,
    columns: &[ColumnRecord],
    schemas: &SketchSchemas,
) -> Result<(), FileError> {
    let header = file.header();
    let fits = |column: &ColumnRecord| {
        let encoding = match column.kind {
            ColumnKind::Embedding(_) => Encoding::Embedding,
            ColumnKind::Sketch { .. } => Encoding::Sketch,
        };
        column.id == header.column
            && column.element == header.element
            && column.width == header.width
            && encoding == header.encoding
            && match (encoding, schemas.get(&column.id)) {
                (Encoding::Sketch, Some(schema)) => {
                    let layout = schema.layout();
                    layout.modules() == file.modules() && layout.members() == header.members
                }
                (Encoding::Sketch, None) => false,
                _ => true,
            }
    };
    if columns.iter().any(fits) {
        Ok(())
    } else {
        Err(file.file().content_error("it is not of the type that its column has"))
    }
}

/// The value of a field that was declared after the row was written. Inputs without types (CSV) left text there.
pub(super) fn late_value(
    field: &FieldDeclaration,
    extra: &Map<String, Value>,
) -> Result<Option<FieldValue>, crate::base::FieldValueError> {
    match extra.get(&field.name) {
        None => Ok(None),
        Some(Value::String(text)) => FieldValue::from_text(field.kind, text),
        Some(value) => FieldValue::from_json(field.kind, value),
    }
}

/// A segment as one snapshot sees it.
#[derive(Clone, Debug)]
pub(super) struct SegmentView {
    pub(super) segment: Arc<Segment>,
    /// Rows that are deleted.
    pub(super) deleted: Arc<RowSet>,
    /// Rows that are not; `None` if none is deleted.
    pub(super) live: Option<Arc<RowSet>>,
}

impl SegmentView {
    pub(super) fn new(segment: Arc<Segment>, deleted: RowSet) -> Self {
        let live = (!deleted.is_empty()).then(|| {
            let mut live = RowSet::full(segment.record.row_count);
            live.subtract(&deleted);
            Arc::new(live)
        });
        Self { segment, deleted: Arc::new(deleted), live }
    }

    pub(super) fn live_rows(&self) -> u64 {
        u64::from(self.segment.record.row_count).saturating_sub(self.deleted.len())
    }

    /// Rows that are live, in ascending order.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = RowId> + '_ {
        (0..self.segment.record.row_count).map(RowId).filter(|row| !self.deleted.contains(*row))
    }

    /// Live rows for which an expression over declared fields is true.
    pub(super) fn rows_where<E: From<FilterError> + From<FileError>>(
        &self,
        predicate: &Predicate,
        declared: &[FieldDeclaration],
    ) -> Result<RowSet, E> {
        let mut rows = predicate.evaluate(self.segment.fields(declared)?.as_ref())?;
        rows.subtract(&self.deleted);
        Ok(rows)
    }

    /// The live row with this key.
    pub(super) fn find_live(&self, key: &str) -> Result<Option<RowId>, FileError> {
        Ok(self.segment.rows.find(key)?.filter(|row| !self.deleted.contains(*row)))
    }
}

/// A column file as the scan reads it.
pub(super) struct ScannedColumn<'a>(pub(super) &'a ColumnFile);

impl RowValues for ScannedColumn<'_> {
    type Error = FileError;

    fn element(&self) -> ElementType {
        self.0.element()
    }

    fn width(&self) -> usize {
        self.0.width()
    }

    fn row_count(&self) -> u32 {
        self.0.header().row_count
    }

    fn values(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.0.values(first, count)
    }

    fn scales(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, FileError> {
        self.0.scales(first, count)
    }
}

/// An index file as the scan reads it.
pub(super) struct ScannedCodes<'a> {
    file: &'a IndexFile,
    rows: IndexRows<'a>,
}

impl<'a> ScannedCodes<'a> {
    pub(super) fn of(file: &'a IndexFile) -> Self {
        Self { file, rows: file.by_row() }
    }
}

impl RowCodes for ScannedCodes<'_> {
    type Error = FileError;

    fn width(&self) -> usize {
        self.file.header().width as usize
    }

    fn codes(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.file.codes(first, count)
    }

    fn numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 3], FileError> {
        let file = self.file;
        Ok([file.scales(first, count)?, file.errors(first, count)?, file.norms(first, count)?])
    }
}

impl RowCoarseCodes for ScannedCodes<'_> {
    type Error = FileError;

    fn coarse_width(&self) -> usize {
        self.file.header().width as usize
    }

    fn centre_and_dither(&self) -> Result<[&[u8]; 2], FileError> {
        self.file.centre_and_dither()
    }

    fn coarse_codes(&self, first: RowId, count: u32) -> Result<&[u8], FileError> {
        self.file.coarse_codes(first, count)
    }

    fn coarse_numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 4], FileError> {
        let [scales, coded_norms] = self.file.coarse_numbers(first, count)?;
        Ok([scales, coded_norms, self.file.errors(first, count)?, self.file.norms(first, count)?])
    }
}

impl NamedCodes for ScannedCodes<'_> {
    fn at(&self, rows: &[u32]) -> Result<[&[u8]; 4], FileError> {
        let IndexRows { codes, scales, errors, norms, .. } = &self.rows;
        Ok([codes.at(rows)?, scales.at(rows)?, errors.at(rows)?, norms.at(rows)?])
    }
}

/// The same file as a graph is built over and walked with.
impl GraphRows for ScannedCodes<'_> {
    type Error = FileError;

    fn row_count(&self) -> u32 {
        self.file.header().row_count
    }

    fn width(&self) -> usize {
        self.file.header().width as usize
    }

    fn codes_at(&self, rows: &[u32]) -> Result<&[u8], FileError> {
        self.rows.codes.at(rows)
    }

    fn scales_at(&self, rows: &[u32]) -> Result<&[u8], FileError> {
        self.rows.scales.at(rows)
    }

    fn norms_at(&self, rows: &[u32]) -> Result<&[u8], FileError> {
        self.rows.norms.at(rows)
    }

    fn centre_and_dither(&self) -> Result<Option<[&[u8]; 2]>, FileError> {
        self.file.centre_and_dither().map(Some)
    }

    #[inline]
    fn coarse_at(&self, rows: &[u32]) -> Result<[&[u8]; 2], FileError> {
        Ok([self.rows.coarse_codes.at(rows)?, self.rows.coarse_scales.at(rows)?])
    }
}
