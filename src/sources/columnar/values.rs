//! One cell of an Arrow array as a metadata value or a vector.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::{Map, Number, Value};

use super::times::{date_text, time_text, timestamp_text};
use crate::base::limits::{LINE_BYTES_MAX, LINE_VALUES_MAX};

/// What may still be taken from a row: nested and dictionary values can stand for far more than their bytes.
pub(super) struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    /// That of a whole row, the same as of a line of JSON.
    pub(super) fn of_row() -> Self {
        Self { values: LINE_VALUES_MAX, bytes: LINE_BYTES_MAX }
    }

    fn take(&mut self, values: usize, bytes: usize) -> Result<(), CellProblem> {
        match (self.values.checked_sub(values), self.bytes.checked_sub(bytes)) {
            (Some(values), Some(bytes)) => {
                *self = Self { values, bytes };
                Ok(())
            }
            _ => Err(CellProblem::TooLarge),
        }
    }
}

/// A cell that cannot become a value.
#[derive(Debug, PartialEq)]
pub(super) enum CellProblem {
    /// The row has too many values or bytes.
    TooLarge,
    /// The value is no number that JSON has, or a time beyond the calendar.
    Value(String),
    /// The array is not what its type says.
    Type,
}

/// The first type in `field`, itself or nested in it, whose values have no place in metadata; or a name that stands
/// twice in one struct.
///
/// Bytes have no form in JSON that a reader would tell from text, spans of time none that a declared field takes; to
/// leave such a column out silently would lose it without a trace.
pub(super) fn unfit_type(field: &Field) -> Option<String> {
    match field.data_type() {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => None,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => unfit_type(item),
        DataType::Struct(fields) => {
            let mut seen = HashSet::new();
            match fields.iter().find(|field| !seen.insert(field.name())) {
                Some(twice) => Some(format!("a struct with {:?} twice", twice.name())),
                None => fields.iter().find_map(|field| unfit_type(field)),
            }
        }
        DataType::Dictionary(_, values) => unfit_type(&Field::new("", values.as_ref().clone(), true)),
        other => Some(other.to_string()),
    }
}

/// The value of `array` in `row`, which it must have.
///
/// Decimals become numbers, the nearest double unless they are whole and fit 64 bits: as text they could not be
/// compared with a float in a filter, and JSONL reads long numbers so too.
pub(super) fn cell(array: &dyn Array, row: usize, budget: &mut Budget) -> Result<Value, CellProblem> {
    budget.take(1, 0)?;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    match array.data_type() {
        DataType::Null => Ok(Value::Null),
        DataType::Boolean => {
            array.as_boolean_opt().map(|array| Value::from(array.value(row))).ok_or(CellProblem::Type)
        }
        DataType::Utf8 => text(array.as_string_opt::<i32>().map(|array| array.value(row)), budget),
        DataType::LargeUtf8 => text(array.as_string_opt::<i64>().map(|array| array.value(row)), budget),
        DataType::Utf8View => text(array.as_string_view_opt().map(|array| array.value(row)), budget),
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => {
            let items = list_items(array, row).ok_or(CellProblem::Type)?;
            (0..items.len())
                .map(|item| cell(&items, item, budget))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
        }
        DataType::Map(..) => {
            // Keys may be of any type and stand twice: the entries stay what they are.
            let entries = array.as_map_opt().map(|array| array.value(row)).ok_or(CellProblem::Type)?;
            (0..entries.len())
                .map(|entry| members(&entries, entry, budget))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
        }
        DataType::Struct(_) => members(array.as_struct_opt().ok_or(CellProblem::Type)?, row, budget),
        DataType::Dictionary(..) => {
            let (values, key) = dictionary_entry(array, row).ok_or(CellProblem::Type)?;
            cell(values.as_ref(), key, budget)
        }
        _ => scalar(array, row),
    }
}

fn text(value: Option<&str>, budget: &mut Budget) -> Result<Value, CellProblem> {
    let value = value.ok_or(CellProblem::Type)?;
    budget.take(0, value.len())?;
    Ok(Value::from(value))
}

fn members(array: &StructArray, row: usize, budget: &mut Budget) -> Result<Value, CellProblem> {
    let mut object = Map::new();
    for (field, column) in array.fields().iter().zip(array.columns()) {
        budget.take(0, field.name().len())?;
        object.insert(field.name().clone(), cell(column, row, budget)?);
    }
    Ok(Value::Object(object))
}

/// The items of a list of any kind in `row`; `None` if `array` is no list.
fn list_items(array: &dyn Array, row: usize) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => array.as_list_opt::<i32>().map(|array| array.value(row)),
        DataType::LargeList(_) => array.as_list_opt::<i64>().map(|array| array.value(row)),
        DataType::ListView(_) => array.as_list_view_opt::<i32>().map(|array| array.value(row)),
        DataType::LargeListView(_) => array.as_list_view_opt::<i64>().map(|array| array.value(row)),
        DataType::FixedSizeList(..) => array.as_fixed_size_list_opt().map(|array| array.value(row)),
        _ => None,
    }
}

/// The values of a dictionary, and which of them stands in `row`.
fn dictionary_entry(array: &dyn Array, row: usize) -> Option<(&ArrayRef, usize)> {
    macro_rules! entry {
        ($($key:ty),*) => {
            $(if let Some(array) = array.as_dictionary_opt::<$key>() {
                return array.key(row).map(|key| (array.values(), key));
            })*
        };
    }
    entry!(Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type);
    None
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Result<T::Native, CellProblem> {
    array.as_primitive_opt::<T>().map(|array| array.value(row)).ok_or(CellProblem::Type)
}

/// A number or a moment.
fn scalar(array: &dyn Array, row: usize) -> Result<Value, CellProblem> {
    let (count, unit) = match array.data_type() {
        DataType::Int8 => return native::<Int8Type>(array, row).map(Value::from),
        DataType::Int16 => return native::<Int16Type>(array, row).map(Value::from),
        DataType::Int32 => return native::<Int32Type>(array, row).map(Value::from),
        DataType::Int64 => return native::<Int64Type>(array, row).map(Value::from),
        DataType::UInt8 => return native::<UInt8Type>(array, row).map(Value::from),
        DataType::UInt16 => return native::<UInt16Type>(array, row).map(Value::from),
        DataType::UInt32 => return native::<UInt32Type>(array, row).map(Value::from),
        DataType::UInt64 => return native::<UInt64Type>(array, row).map(Value::from),
        DataType::Float16 => return finite(native::<Float16Type>(array, row)?.to_f64()),
        DataType::Float32 => return finite(native::<Float32Type>(array, row)?.into()),
        DataType::Float64 => return finite(native::<Float64Type>(array, row)?),
        DataType::Decimal32(..) => return decimal::<Decimal32Type>(array, row),
        DataType::Decimal64(..) => return decimal::<Decimal64Type>(array, row),
        DataType::Decimal128(..) => return decimal::<Decimal128Type>(array, row),
        DataType::Decimal256(..) => return decimal::<Decimal256Type>(array, row),
        DataType::Date32 => return moment(date_text(native::<Date32Type>(array, row)?.into()), "date"),
        DataType::Date64 => {
            const DAY_MILLISECONDS: i64 = 86_400_000;
            let day = native::<Date64Type>(array, row)?.div_euclid(DAY_MILLISECONDS);
            return moment(date_text(day), "date");
        }
        DataType::Time32(TimeUnit::Second) => {
            (i64::from(native::<Time32SecondType>(array, row)?), TimeUnit::Second)
        }
        DataType::Time32(_) => {
            (i64::from(native::<Time32MillisecondType>(array, row)?), TimeUnit::Millisecond)
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            (native::<Time64MicrosecondType>(array, row)?, TimeUnit::Microsecond)
        }
        DataType::Time64(_) => (native::<Time64NanosecondType>(array, row)?, TimeUnit::Nanosecond),
        DataType::Timestamp(unit, _) => {
            let count = match unit {
                TimeUnit::Second => native::<TimestampSecondType>(array, row)?,
                TimeUnit::Millisecond => native::<TimestampMillisecondType>(array, row)?,
                TimeUnit::Microsecond => native::<TimestampMicrosecondType>(array, row)?,
                TimeUnit::Nanosecond => native::<TimestampNanosecondType>(array, row)?,
            };
            return moment(timestamp_text(count, *unit), "timestamp");
        }
        _ => return Err(CellProblem::Type),
    };
    moment(time_text(count, unit), "time of day")
}

fn finite(value: f64) -> Result<Value, CellProblem> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| CellProblem::Value(value.to_string()))
}

fn moment(text: Option<String>, what: &str) -> Result<Value, CellProblem> {
    text.map(Value::from).ok_or_else(|| CellProblem::Value(format!("a {what} beyond the calendar")))
}

fn decimal<T: DecimalType>(array: &dyn Array, row: usize) -> Result<Value, CellProblem> {
    let array = array.as_primitive_opt::<T>().ok_or(CellProblem::Type)?;
    let digits = array.value_as_string(row);
    match digits.parse::<i64>() {
        Ok(whole) => Ok(Value::from(whole)),
        Err(_) => digits.parse().map_or(Err(CellProblem::Value(digits)), finite),
    }
}

/// A vector that cannot be taken from a cell.
#[derive(Debug, PartialEq)]
pub(super) enum VectorProblem {
    /// The cell is no list.
    NoList,
    /// The list has this number of values.
    Width(usize),
    /// A value, numbered from 0, is not finite in single precision.
    Item(usize, String),
    /// As of any cell.
    Cell(CellProblem),
}

/// The vector of `array` in `row`, of 1 to `width_max` values.
pub(super) fn vector(array: &dyn Array, row: usize, width_max: usize) -> Result<Vec<f32>, VectorProblem> {
    let items = if array.is_null(row) { None } else { list_items(array, row) };
    let items = items.ok_or(VectorProblem::NoList)?;
    if items.is_empty() || items.len() > width_max {
        return Err(VectorProblem::Width(items.len()));
    }
    let vector: Vec<f32> = match items.as_primitive_opt::<Float32Type>() {
        Some(values) if values.null_count() == 0 => values.values().to_vec(),
        _ => {
            let mut budget = Budget::of_row();
            let number = |item| match cell(&items, item, &mut budget) {
                // A number beyond single precision becomes infinite here and is refused below.
                Ok(Value::Number(number)) => Ok(number.as_f64().unwrap_or(f64::NAN) as f32),
                Ok(other) => Err(VectorProblem::Item(item, other.to_string())),
                Err(CellProblem::Value(found)) => Err(VectorProblem::Item(item, found)),
                Err(problem) => Err(VectorProblem::Cell(problem)),
            };
            (0..items.len()).map(number).collect::<Result<_, _>>()?
        }
    };
    match vector.iter().position(|value| !value.is_finite()) {
        None => Ok(vector),
        Some(item) => {
            let found = cell(&items, item, &mut Budget::of_row());
            let found = match found {
                Ok(value) => value.to_string(),
                Err(CellProblem::Value(found)) => found,
                Err(_) => vector[item].to_string(),
            };
            Err(VectorProblem::Item(item, found))
        }
    }
}
