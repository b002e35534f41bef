//! The rows of record batches as documents.

use std::collections::HashSet;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde_json::Map;

use super::file_bytes::{Consumed, FileBytes};
use super::values::{Budget, CellProblem, VectorProblem, cell, unfit_type, vector};
use crate::base::limits::EMBEDDING_WIDTH_MAX;
use crate::sources::error::shortened;
use crate::sources::json::described;
use crate::sources::{Document, FieldNames, Place, Position, Source, SourceError};

/// Gives the record batches of one file, in order.
pub(super) trait Batches: Send {
    /// The columns of every batch.
    fn schema(&self) -> &SchemaRef;

    /// The next batch without its first `skip` rows, which are taken off `skip`; empty where all of them are skipped,
    /// so that their values need not be decoded. `None` at the end.
    fn next(&mut self, skip: &mut u64) -> Result<Option<RecordBatch>, SourceError>;

    /// What was read of the file for the batches given so far. Batches that share it may follow one another.
    fn consumed(&self) -> &Consumed;

    /// The file.
    fn file(&self) -> &FileBytes;
}

/// Reads the rows of a columnar file: every row one document, every other column than the named ones metadata.
///
/// Keys, texts and vectors are what they are in JSONL, and so are their checks; a null is JSON's null. Its position is
/// behind the last document; the part consumed is that of the whole batches read up to there.
pub(in crate::sources) struct ColumnarRows {
    batches: Box<dyn Batches>,
    fields: FieldNames,
    names: Vec<String>,
    vector_column: Option<usize>,
    batch: Option<RecordBatch>,
    /// The next row of the batch.
    row: usize,
    returned_records: u64,
    /// What was read for the last document returned.
    returned: Consumed,
    refused: bool,
}

impl ColumnarRows {
    pub(super) fn new(batches: Box<dyn Batches>, fields: FieldNames) -> Result<Self, SourceError> {
        fields.check()?;
        let input = || batches.file().name.clone();
        let schema = batches.schema();
        let mut seen = HashSet::new();
        for field in schema.fields() {
            if !seen.insert(field.name()) {
                return Err(SourceError::ColumnTwice { input: input(), field: shortened(field.name()) });
            }
            if let Some(found) = unfit_type(field) {
                let (field, found) = (shortened(field.name()), shortened(&found));
                return Err(SourceError::ColumnType { input: input(), field, found });
            }
        }
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let place = Place { input: input(), unit: "row", number: 1 };
        fields.check_present(names.iter().map(String::as_str), &place)?;
        let vector_column = names.iter().position(|name| Some(name) == fields.vector.as_ref());
        Ok(Self {
            batches,
            fields,
            names,
            vector_column,
            batch: None,
            row: 0,
            returned_records: 0,
            returned: Consumed::default(),
            refused: false,
        })
    }

    /// Goes on to `position` and says whether what was read up to there is what was consumed then. If not, this reader
    /// is of no more use.
    pub(in crate::sources) fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        let mut skip = position.consumed_records;
        while skip > 0 {
            let Some(batch) = self.batches.next(&mut skip)? else { return Ok(false) };
            self.batch = Some(batch);
        }
        self.returned_records = position.consumed_records;
        self.returned = self.batches.consumed().clone();
        Ok(self.position().as_ref() == Some(position))
    }

    fn read(&mut self) -> Result<Option<Document>, SourceError> {
        loop {
            match &self.batch {
                Some(batch) if self.row < batch.num_rows() => {
                    let document = self.document(batch, self.row)?;
                    self.row += 1;
                    return Ok(Some(document));
                }
                _ => {
                    self.batch = self.batches.next(&mut 0)?;
                    self.row = 0;
                    if self.batch.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn document(&self, batch: &RecordBatch, row: usize) -> Result<Document, SourceError> {
        let place =
            Place { input: self.batches.file().name.clone(), unit: "row", number: self.returned_records + 1 };
        let mut members = Map::new();
        let mut budget = Budget::of_row();
        let mut ready = None;
        for (index, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
            if self.vector_column == Some(index) {
                let found = vector(column, row, EMBEDDING_WIDTH_MAX);
                let found = found.map_err(|problem| {
                    let is_null = column.is_null(row);
                    vector_error(problem, name, &place, || {
                        let value = cell(column, row, &mut Budget::of_row());
                        value
                            .map_or(if is_null { "null" } else { "another value" }, |value| described(&value))
                    })
                })?;
                ready = Some(found);
            } else {
                let value =
                    cell(column, row, &mut budget).map_err(|problem| cell_error(problem, name, &place))?;
                members.insert(name.clone(), value);
            }
        }
        self.fields.document_of_columns(members, ready, place)
    }
}

fn cell_error(problem: CellProblem, field: &str, place: &Place) -> SourceError {
    let (found, remedy) = match problem {
        CellProblem::TooLarge => return SourceError::RowTooLarge { place: place.clone() },
        CellProblem::Value(found) => (found, "write a value that JSON has, or null"),
        CellProblem::Type => ("not of the type of its column".to_owned(), "write the file again"),
    };
    SourceError::CellValue { place: place.clone(), field: shortened(field), found: shortened(&found), remedy }
}

fn vector_error(
    problem: VectorProblem,
    field: &str,
    place: &Place,
    found: impl FnOnce() -> &'static str,
) -> SourceError {
    let (place, name) = (place.clone(), field.to_owned());
    match problem {
        VectorProblem::NoList => SourceError::WrongType {
            place,
            role: "vector",
            field: name,
            found: found(),
            expected: "a list of numbers",
        },
        VectorProblem::Width(width) => SourceError::VectorWidth { place, field: name, width },
        VectorProblem::Item(item, found) => {
            SourceError::VectorValue { place, field: name, number: item + 1, found: shortened(&found) }
        }
        VectorProblem::Cell(problem) => cell_error(problem, field, &place),
    }
}

impl Source for ColumnarRows {
    fn next(&mut self) -> Result<Option<Document>, SourceError> {
        if self.refused {
            return Err(SourceError::AlreadyRefused { input: self.batches.file().name.clone() });
        }
        let result = self.read();
        match &result {
            Ok(Some(_)) => {
                self.returned_records += 1;
                if self.row == 1 {
                    self.returned = self.batches.consumed().clone();
                }
            }
            Ok(None) => {}
            Err(_) => self.refused = true,
        }
        result
    }

    fn position(&self) -> Option<Position> {
        Some(Position {
            consumed_bytes: self.returned.bytes,
            prefix: self.returned.hash.value(),
            consumed_records: self.returned_records,
        })
    }

    fn name(&self) -> &str {
        &self.batches.file().name
    }

    fn total_bytes(&self) -> Option<u64> {
        Some(self.batches.file().length)
    }

    fn consumed_bytes(&self) -> u64 {
        self.batches.consumed().bytes
    }
}
