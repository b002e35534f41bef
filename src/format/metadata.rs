//! Typed metadata of a segment: one Arrow IPC stream with one record batch, a column for each declared field.
//!
//! The stream form, not the file form: it is decoded front to back and has no second table of offsets that would have
//! to be distrusted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, LargeStringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use thiserror::Error;

use crate::base::{FieldDeclaration, FieldType, FieldValue, RowId, RowSet};

/// Declared fields of a segment's rows, one array a field.
pub type MetadataBatch = RecordBatch;

/// Metadata that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Arrow refused it.
    #[error("the metadata section is not a readable Arrow IPC stream: {reason}")]
    Arrow {
        /// What Arrow said.
        reason: String,
    },
    /// It is well-formed but not the segment's.
    #[error("the metadata section does not fit its segment: {reason}")]
    Mismatch {
        /// What differs.
        reason: String,
    },
}

fn arrow(error: impl std::fmt::Display) -> MetadataError {
    MetadataError::Arrow { reason: error.to_string() }
}

fn data_type(kind: FieldType) -> DataType {
    match kind {
        FieldType::Text => DataType::LargeUtf8,
        FieldType::Integer => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Boolean => DataType::Boolean,
        FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

fn array(kind: FieldType, values: impl Iterator<Item = Option<FieldValue>>) -> ArrayRef {
    macro_rules! build {
        ($builder:expr, $variant:path) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    Some($variant(value)) => builder.append_value(value),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    match kind {
        FieldType::Text => build!(LargeStringBuilder::new(), FieldValue::Text),
        FieldType::Integer => build!(Int64Builder::new(), FieldValue::Integer),
        FieldType::Float => build!(Float64Builder::new(), FieldValue::Float),
        FieldType::Boolean => build!(BooleanBuilder::new(), FieldValue::Boolean),
        FieldType::Timestamp => {
            build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), FieldValue::Timestamp)
        }
    }
}

/// The record batch of `fields`; `values[i]` holds every row's value of `fields[i]`.
///
/// # Errors
/// The columns differ in length, or there are no fields.
pub fn metadata_batch(
    fields: &[FieldDeclaration],
    values: &[Vec<Option<FieldValue>>],
) -> Result<RecordBatch, MetadataError> {
    let schema_fields: Vec<Field> =
        fields.iter().map(|field| Field::new(&field.name, data_type(field.kind), true)).collect();
    let arrays =
        fields.iter().zip(values).map(|(field, values)| array(field.kind, values.iter().cloned())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(schema_fields)), arrays).map_err(arrow)
}

/// `written` with further fields: those that were declared after its segment was written.
///
/// # Errors
/// A column has another number of rows than `row_count`.
pub fn extend_metadata(
    written: Option<&MetadataBatch>,
    fields: &[FieldDeclaration],
    values: &[Vec<Option<FieldValue>>],
    row_count: u32,
) -> Result<MetadataBatch, MetadataError> {
    let mut schema_fields: Vec<Field> = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    if let Some(batch) = written {
        schema_fields.extend(batch.schema_ref().fields().iter().map(|field| field.as_ref().clone()));
        arrays.extend(batch.columns().iter().cloned());
    }
    for (field, values) in fields.iter().zip(values) {
        schema_fields.push(Field::new(&field.name, data_type(field.kind), true));
        arrays.push(array(field.kind, values.iter().cloned()));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(row_count as usize));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(schema_fields)), arrays, &options).map_err(arrow)
}

/// The chosen rows of several batches, one after the other. Fields that a batch lacks are missing in its rows.
///
/// # Errors
/// Arrow refuses the batch.
///
/// # Complexity
/// One field at a time is gathered.
pub fn gather_metadata(
    fields: &[FieldDeclaration],
    parts: &[(&MetadataBatch, &RowSet)],
    row_count: usize,
) -> Result<MetadataBatch, MetadataError> {
    let gathered = |field: &FieldDeclaration| {
        let rows = parts.iter().flat_map(|(batch, rows)| {
            let batch = *batch;
            rows.iter().map(move |row| metadata_value(batch, &field.name, row))
        });
        array(field.kind, rows)
    };
    let schema_fields: Vec<Field> =
        fields.iter().map(|field| Field::new(&field.name, data_type(field.kind), true)).collect();
    let arrays = fields.iter().map(gathered).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(schema_fields)), arrays, &options).map_err(arrow)
}

/// Bytes of the metadata section.
///
/// # Errors
/// Arrow refuses the batch.
///
/// ```
/// use ascribe::base::{FieldDeclaration, FieldType, FieldValue, RowId};
/// use ascribe::format::{decode_metadata, encode_metadata, metadata_batch, metadata_value};
/// let fields = [FieldDeclaration { name: "year".into(), kind: FieldType::Integer }];
/// let batch = metadata_batch(&fields, &[vec![Some(FieldValue::Integer(1990)), None]]).unwrap();
/// let bytes = encode_metadata(&batch).unwrap();
/// let read = decode_metadata(bytes.into(), &fields, 2).unwrap();
/// assert_eq!(metadata_value(&read, "year", RowId(0)), Some(FieldValue::Integer(1990)));
/// assert_eq!(metadata_value(&read, "year", RowId(1)), None);
/// ```
pub fn encode_metadata(batch: &RecordBatch) -> Result<Vec<u8>, MetadataError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(arrow)?;
    writer.write(batch).map_err(arrow)?;
    writer.into_inner().map_err(arrow)
}

/// The record batch of a metadata section, without copying it where alignment allows.
///
/// Every field of the batch must be declared in `declared` with the batch's type; declared fields that the batch
/// lacks were declared after the segment was written.
///
/// # Errors
/// The bytes are no Arrow IPC stream of one batch of `row_count` rows with declared fields.
pub fn decode_metadata(
    bytes: Bytes,
    declared: &[FieldDeclaration],
    row_count: u32,
) -> Result<RecordBatch, MetadataError> {
    // Arrow's decoder reports damage as errors, but some unsupported type numbers end in a panic inside it. A store
    // may come from anywhere, so the decoder is walled in.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_stream(bytes)));
    let batch = decoded.unwrap_or_else(|_| Err(arrow("the decoder gave up")))?;
    if batch.num_rows() != row_count as usize {
        let reason = format!("it has {} rows, expected {row_count}", batch.num_rows());
        return Err(MetadataError::Mismatch { reason });
    }
    for field in batch.schema_ref().fields() {
        let known = declared.iter().find(|declaration| declaration.name == *field.name());
        let fits = known.is_some_and(|declaration| data_type(declaration.kind) == *field.data_type());
        if !fits {
            let reason = format!("field {:?} of type {} is not declared so", field.name(), field.data_type());
            return Err(MetadataError::Mismatch { reason });
        }
    }
    Ok(batch)
}

fn decode_stream(bytes: Bytes) -> Result<RecordBatch, MetadataError> {
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batch = None;
    while !buffer.is_empty() {
        let next = decoder.decode(&mut buffer).map_err(arrow)?;
        if next.is_some() && batch.is_some() {
            return Err(MetadataError::Mismatch { reason: "it has several batches".to_owned() });
        }
        batch = batch.or(next);
    }
    decoder.finish().map_err(arrow)?;
    batch.ok_or_else(|| MetadataError::Mismatch { reason: "it has no batch".to_owned() })
}

/// The value of `field` in a row; `None` where it is missing, or the batch has no such field or row.
pub fn metadata_value(batch: &RecordBatch, field: &str, row: RowId) -> Option<FieldValue> {
    let column = batch.column_by_name(field)?;
    let row = row.0 as usize;
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::LargeUtf8 => {
            column.as_string_opt::<i64>().map(|array| FieldValue::Text(array.value(row).to_owned()))
        }
        DataType::Int64 => {
            column.as_primitive_opt::<Int64Type>().map(|array| FieldValue::Integer(array.value(row)))
        }
        DataType::Float64 => {
            column.as_primitive_opt::<Float64Type>().map(|array| FieldValue::Float(array.value(row)))
        }
        DataType::Boolean => column.as_boolean_opt().map(|array| FieldValue::Boolean(array.value(row))),
        DataType::Timestamp(..) => column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .map(|array| FieldValue::Timestamp(array.value(row))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<FieldDeclaration> {
        FieldType::ALL
            .into_iter()
            .map(|kind| FieldDeclaration { name: kind.name().to_owned(), kind })
            .collect()
    }

    fn values() -> Vec<Vec<Option<FieldValue>>> {
        vec![
            vec![Some(FieldValue::Text("é".into())), None],
            vec![Some(FieldValue::Integer(-3)), None],
            vec![Some(FieldValue::Float(0.5)), None],
            vec![Some(FieldValue::Boolean(true)), None],
            vec![Some(FieldValue::Timestamp(1_000_000)), None],
        ]
    }

    #[test]
    fn every_type_comes_back() {
        let batch = metadata_batch(&fields(), &values()).unwrap();
        let bytes = encode_metadata(&batch).unwrap();
        let read = decode_metadata(bytes.into(), &fields(), 2).unwrap();
        for (field, column) in fields().iter().zip(values()) {
            for (row, value) in column.into_iter().enumerate() {
                assert_eq!(metadata_value(&read, &field.name, RowId(row as u32)), value, "{}", field.name);
            }
        }
    }

    #[test]
    fn damaged_streams_never_panic() {
        let batch = metadata_batch(&fields(), &values()).unwrap();
        let bytes = encode_metadata(&batch).unwrap();
        for length in 0..bytes.len() {
            let _ = decode_metadata(bytes[..length].to_vec().into(), &fields(), 2);
        }
        for position in 0..bytes.len() {
            for flip in [0x01, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= flip;
                let _ = decode_metadata(damaged.into(), &fields(), 2);
            }
        }
    }

    #[test]
    fn a_batch_of_another_segment_is_refused() {
        let bytes: Bytes = encode_metadata(&metadata_batch(&fields(), &values()).unwrap()).unwrap().into();
        assert!(decode_metadata(bytes.clone(), &fields(), 3).is_err());
        assert!(decode_metadata(bytes, &fields()[1..], 2).is_err());
    }
}
