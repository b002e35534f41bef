//! A predicate over an Arrow batch, to a row set.
//!
//! The batch is taken in chunks of [`FILTER_CHUNK_ROWS`]. In each, a leaf makes one pass over a typed array into two
//! bitmaps (which rows are known, which are true), and AND, OR and NOT combine those word by word.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BooleanArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, TimestampMicrosecondArray,
};
use arrow_schema::DataType;

use super::error::FilterError;
use super::literal::{Comparison, IntegerPoint, Range, compare_integer_with_float};
use super::predicate::{List, Literal, Node, Predicate};
use super::truth::{Truth, WORD_ROWS, count, ones, places};
use crate::base::limits::{FILTER_CHUNK_ROWS, SEGMENT_ROWS_MAX};
use crate::base::{FieldDeclaration, FieldType, RowId, RowSet};

// Words of two chunks never share rows.
const _: () = assert!(FILTER_CHUNK_ROWS.is_multiple_of(WORD_ROWS));

impl Predicate {
    /// The rows of a batch for which the predicate is true, not false and not unknown; the first row is 0.
    ///
    /// Columns are found by the name of their field: text as LargeUtf8, integers as Int64, floats as Float64, booleans
    /// as Boolean, timestamps as Timestamp in microseconds without a zone or in UTC. A field without a column, or
    /// with a column of type Null, is NULL in every row: segments may be older than a field.
    ///
    /// # Errors
    /// A column has another type, or the batch more rows than
    /// [`SEGMENT_ROWS_MAX`].
    ///
    /// # Complexity
    /// Rows x leaves; an IN list of n values adds log n, LIKE the length of the text.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    /// use ascribe::base::{FieldDeclaration, FieldType, RowId};
    /// use ascribe::filter::Predicate;
    /// let fields = [FieldDeclaration { name: "year".to_owned(), kind: FieldType::Integer }];
    /// let years: ArrayRef = Arc::new(Int64Array::from(vec![Some(1989), None, Some(1995)]));
    /// let batch = RecordBatch::try_from_iter_with_nullable([("year", years, true)]).unwrap();
    /// let rows = Predicate::parse("NOT year < 1990", &fields)?.evaluate(&batch)?;
    /// assert_eq!(rows.iter().collect::<Vec<_>>(), [RowId(2)]);
    /// # Ok::<(), ascribe::filter::FilterError>(())
    /// ```
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<RowSet, FilterError> {
        let count_rows = rows.num_rows();
        let all = u32::try_from(count_rows)
            .ok()
            .filter(|count| *count <= SEGMENT_ROWS_MAX)
            .ok_or(FilterError::TooManyRows { rows: count_rows, limit: SEGMENT_ROWS_MAX })?;
        let columns: Vec<Column<'_>> =
            self.fields.iter().map(|field| Column::find(rows, field)).collect::<Result<_, _>>()?;
        // Chunks are whole words, so that their words stand one behind the other.
        let mut words = Vec::with_capacity(count_rows.div_ceil(WORD_ROWS));
        for first in (0..count_rows).step_by(FILTER_CHUNK_ROWS) {
            let chunk = Chunk { columns: &columns, first, rows: FILTER_CHUNK_ROWS.min(count_rows - first) };
            words.extend(chunk.truth(&self.root).into_true_words());
        }
        if count(&words) == count_rows {
            return Ok(RowSet::full(all));
        }
        // Every place is below the number of rows, which has 32 bits.
        Ok(places(&words).map(|place| RowId(place as u32)).collect())
    }
}

/// The column of a field.
enum Column<'a> {
    /// NULL in every row.
    Missing,
    Text(&'a LargeStringArray),
    Integer(&'a Int64Array),
    Float(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Timestamp(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    fn find(rows: &'a RecordBatch, field: &FieldDeclaration) -> Result<Self, FilterError> {
        let Some(array) = rows.column_by_name(&field.name) else { return Ok(Self::Missing) };
        let found = array.data_type();
        let is_utc = match found {
            DataType::Timestamp(_, zone) => matches!(zone.as_deref(), None | Some("UTC" | "+00:00" | "Z")),
            DataType::Null => return Ok(Self::Missing),
            _ => true,
        };
        let column = match field.kind {
            FieldType::Text => array.as_string_opt::<i64>().map(Self::Text),
            FieldType::Integer => array.as_primitive_opt::<Int64Type>().map(Self::Integer),
            FieldType::Float => array.as_primitive_opt::<Float64Type>().map(Self::Float),
            FieldType::Boolean => array.as_boolean_opt().map(Self::Boolean),
            FieldType::Timestamp => {
                array.as_primitive_opt::<TimestampMicrosecondType>().filter(|_| is_utc).map(Self::Timestamp)
            }
        };
        column.ok_or_else(|| FilterError::ColumnType {
            field: field.name.clone(),
            kind: field.kind,
            found: found.to_string(),
        })
    }
}

/// Some rows of a batch.
struct Chunk<'a> {
    columns: &'a [Column<'a>],
    first: usize,
    rows: usize,
}

impl Chunk<'_> {
    fn truth(&self, node: &Node) -> Truth {
        match node {
            Node::And(terms) => self.chain(terms, true, Truth::and, Truth::is_false_everywhere),
            Node::Or(terms) => self.chain(terms, false, Truth::or, Truth::is_true_everywhere),
            Node::Not(inner) => {
                let mut truth = self.truth(inner);
                truth.negate();
                truth
            }
            Node::Constant(value) => Truth::constant(self.rows, *value),
            Node::IsNull(field) => {
                let mut truth = Truth::new(self.rows, self.known(*field), ones(self.rows));
                truth.negate();
                truth
            }
            Node::Flag(field) => match self.column(*field) {
                Column::Boolean(array) => {
                    let values = array.values().slice(self.first, self.rows);
                    Truth::new(self.rows, values.bit_chunks().iter_padded(), self.known(*field))
                }
                _ => self.unknown(),
            },
            Node::Compare { field, operator, literal } => self.compare(*field, *operator, literal),
            Node::CompareFields { left, operator, right } => self.compare_fields(*left, *operator, *right),
            Node::In { field, list, or_null } => self.membership(*field, list, *or_null),
            Node::Like { field, pattern } => match self.column(*field) {
                Column::Text(array) => self.texts(*field, array, |text| pattern.matches(text)),
                _ => self.unknown(),
            },
        }
    }

    /// The terms joined, until `is_settled`.
    fn chain(
        &self,
        terms: &[Node],
        neutral: bool,
        join: fn(&mut Truth, &Truth),
        is_settled: fn(&Truth) -> bool,
    ) -> Truth {
        let mut all = Truth::constant(self.rows, Some(neutral));
        for term in terms {
            join(&mut all, &self.truth(term));
            if is_settled(&all) {
                break;
            }
        }
        all
    }

    fn column(&self, field: usize) -> &Column<'_> {
        self.columns.get(field).unwrap_or(&Column::Missing)
    }

    fn unknown(&self) -> Truth {
        Truth::constant(self.rows, None)
    }

    /// A bit for each row in which the field has a value.
    fn known(&self, field: usize) -> Vec<u64> {
        let nulls = match self.column(field) {
            Column::Missing => return vec![0; self.rows.div_ceil(WORD_ROWS)],
            Column::Text(array) => array.nulls(),
            Column::Integer(array) => array.nulls(),
            Column::Float(array) => array.nulls(),
            Column::Boolean(array) => array.nulls(),
            Column::Timestamp(array) => array.nulls(),
        };
        match nulls {
            None => ones(self.rows),
            Some(nulls) => nulls.slice(self.first, self.rows).inner().bit_chunks().iter_padded().collect(),
        }
    }

    fn compare(&self, field: usize, operator: Comparison, literal: &Literal) -> Truth {
        match (self.column(field), literal) {
            (Column::Integer(array), Literal::Integer(point)) => {
                self.range(field, array.values(), point.range(operator))
            }
            (Column::Timestamp(array), Literal::Timestamp(microseconds)) => {
                let point = IntegerPoint::At(*microseconds);
                self.range(field, array.values(), point.range(operator))
            }
            (Column::Float(array), Literal::Float(point)) => {
                self.range(field, array.values(), point.range(operator))
            }
            (Column::Text(array), Literal::Text(literal)) => match operator {
                Comparison::Equal => self.texts(field, array, |text| text == literal),
                Comparison::NotEqual => self.texts(field, array, |text| text != literal),
                _ => self.texts(field, array, |text| operator.accepts(Some(text.cmp(literal.as_str())))),
            },
            _ => self.unknown(),
        }
    }

    fn compare_fields(&self, left: usize, operator: Comparison, right: usize) -> Truth {
        let mut known = self.known(left);
        for (word, other) in known.iter_mut().zip(self.known(right)) {
            *word &= other;
        }
        match (self.column(left), self.column(right)) {
            (Column::Text(left), Column::Text(right)) => {
                self.rows_where(known, |row| operator.accepts(Some(left.value(row).cmp(right.value(row)))))
            }
            (Column::Integer(left), Column::Integer(right)) => {
                self.rows_where(known, |row| operator.accepts(Some(left.value(row).cmp(&right.value(row)))))
            }
            (Column::Timestamp(left), Column::Timestamp(right)) => {
                self.rows_where(known, |row| operator.accepts(Some(left.value(row).cmp(&right.value(row)))))
            }
            (Column::Boolean(left), Column::Boolean(right)) => {
                self.rows_where(known, |row| operator.accepts(Some(left.value(row).cmp(&right.value(row)))))
            }
            (Column::Float(left), Column::Float(right)) => {
                self.rows_where(known, |row| operator.accepts(left.value(row).partial_cmp(&right.value(row))))
            }
            (Column::Integer(left), Column::Float(right)) => self.rows_where(known, |row| {
                operator.accepts(compare_integer_with_float(left.value(row), right.value(row)))
            }),
            (Column::Float(left), Column::Integer(right)) => self.rows_where(known, |row| {
                operator.mirrored().accepts(compare_integer_with_float(right.value(row), left.value(row)))
            }),
            _ => self.unknown(),
        }
    }

    fn membership(&self, field: usize, list: &List, or_null: bool) -> Truth {
        let mut truth = match (self.column(field), list) {
            (Column::Text(array), List::Text(values)) => self.texts(field, array, |text| {
                values.binary_search_by(|value| value.as_str().cmp(text)).is_ok()
            }),
            (Column::Integer(array), List::Integer(values)) => {
                self.values(field, array.values(), |value| values.binary_search(&value).is_ok())
            }
            (Column::Timestamp(array), List::Timestamp(values)) => {
                self.values(field, array.values(), |value| values.binary_search(&value).is_ok())
            }
            (Column::Float(array), List::Float(values)) => {
                self.values(field, array.values(), |value: f64| {
                    // The sum turns the negative zero, which the list never has, into the positive one.
                    values.binary_search_by(|listed| listed.total_cmp(&(value + 0.0))).is_ok()
                })
            }
            _ => self.unknown(),
        };
        if or_null {
            truth.or(&self.unknown());
        }
        truth
    }

    fn range<T: Copy + PartialOrd>(&self, field: usize, values: &[T], range: Range<T>) -> Truth {
        self.values(field, values, |value| range.contains(value))
    }

    /// The rows whose value passes `test`, in one pass over a column's values.
    fn values<T: Copy>(&self, field: usize, values: &[T], test: impl Fn(T) -> bool) -> Truth {
        let values = values.get(self.first..self.first + self.rows).unwrap_or_default();
        let words = values.chunks(WORD_ROWS).map(|values| {
            let bits = values.iter().enumerate();
            bits.fold(0, |word, (place, value)| word | (u64::from(test(*value)) << place))
        });
        Truth::new(self.rows, words, self.known(field))
    }

    fn texts(&self, field: usize, array: &LargeStringArray, test: impl Fn(&str) -> bool) -> Truth {
        self.rows_where(self.known(field), |row| test(array.value(row)))
    }

    /// The known rows, by their place in the batch, that pass `test`.
    fn rows_where(&self, known: Vec<u64>, test: impl Fn(usize) -> bool) -> Truth {
        let mut yes = vec![0; known.len()];
        for place in places(&known) {
            if place < self.rows
                && let Some(word) = yes.get_mut(place / WORD_ROWS)
            {
                *word |= u64::from(test(self.first + place)) << (place % WORD_ROWS);
            }
        }
        Truth::new(self.rows, yes, known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, NullArray, RecordBatchOptions};
    use arrow_schema::{Schema, TimeUnit};

    use super::*;

    fn field(name: &str, kind: FieldType) -> FieldDeclaration {
        FieldDeclaration { name: name.to_owned(), kind }
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn passing(text: &str, fields: &[FieldDeclaration], rows: &RecordBatch) -> Vec<u32> {
        let predicate = Predicate::parse(text, fields).unwrap();
        predicate.evaluate(rows).unwrap().iter().map(|row| row.0).collect()
    }

    #[test]
    fn membership_with_null_follows_sql() {
        let fields = [field("x", FieldType::Integer)];
        let rows = batch(vec![("x", Arc::new(Int64Array::from(vec![Some(1), Some(2), None])))]);
        for (text, expected) in [
            ("x IN (1, 3)", vec![0]),
            ("x NOT IN (1, 3)", vec![1]),
            ("x IN (1, NULL)", vec![0]),
            ("x NOT IN (1, NULL)", vec![]),
            ("NOT (x NOT IN (1, NULL))", vec![0]),
            ("x = NULL OR TRUE", vec![0, 1, 2]),
            ("x <> NULL", vec![]),
            ("x IS NULL", vec![2]),
            ("x IS NOT NULL", vec![0, 1]),
            ("x = x", vec![0, 1]),
            ("x = 1 OR x <> 1", vec![0, 1]),
            ("NOT x = 1", vec![1]),
            ("x BETWEEN NULL AND 1", vec![]),
            ("NOT x BETWEEN NULL AND 1", vec![1]),
            ("x = 1.5 OR x IN (1.5, 2.5)", vec![]),
            ("NOT x = 1.5", vec![0, 1]),
        ] {
            assert_eq!(passing(text, &fields, &rows), expected, "{text}");
        }
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        let fields = [field("i", FieldType::Integer), field("f", FieldType::Float)];
        let near = 9_007_199_254_740_992_i64;
        let rows = batch(vec![
            ("i", Arc::new(Int64Array::from(vec![near + 1, near, i64::MAX, i64::MIN, 0, -2, 7]))),
            (
                "f",
                Arc::new(Float64Array::from(vec![
                    near as f64,
                    near as f64,
                    9_223_372_036_854_775_808.0,
                    -9_223_372_036_854_775_808.0,
                    -0.0,
                    -1.5,
                    f64::INFINITY,
                ])),
            ),
        ]);
        for (text, expected) in [
            ("i = f", vec![1, 3, 4]),
            ("f = i", vec![1, 3, 4]),
            ("i > f", vec![0]),
            ("f > i", vec![2, 5, 6]),
            ("i < f", vec![2, 5, 6]),
            ("f <> i", vec![0, 2, 5, 6]),
            ("f = 9007199254740993", vec![]),
            ("f < 9007199254740993", vec![0, 1, 3, 4, 5]),
            ("f >= 9007199254740993", vec![2, 6]),
            ("f < 9223372036854775807", vec![0, 1, 3, 4, 5]),
            ("i <= 9223372036854775806.5", vec![0, 1, 3, 4, 5, 6]),
            ("i >= -9223372036854775808", vec![0, 1, 2, 3, 4, 5, 6]),
            ("i > -9223372036854775809", vec![0, 1, 2, 3, 4, 5, 6]),
            ("i = -9223372036854775809", vec![]),
            ("i < 1e19 AND i > 9223372036854775806", vec![2]),
            ("f IN (0, 2)", vec![4]),
            ("f < 0 AND f > -2", vec![5]),
        ] {
            assert_eq!(passing(text, &fields, &rows), expected, "{text}");
        }
    }

    #[test]
    fn missing_columns_are_null_and_others_must_fit() {
        let fields = [
            field("old", FieldType::Boolean),
            field("new", FieldType::Text),
            field("none", FieldType::Float),
        ];
        let rows = batch(vec![
            ("old", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("none", Arc::new(NullArray::new(3))),
        ]);
        for (text, expected) in [
            ("new IS NULL", vec![0, 1, 2]),
            ("new = 'x' OR old", vec![0]),
            ("NOT new LIKE '%'", vec![]),
            ("new IN ('x', 'y') OR NOT old", vec![1]),
            ("none > 1 OR none IS NULL", vec![0, 1, 2]),
            ("new = new OR none < none", vec![]),
        ] {
            assert_eq!(passing(text, &fields, &rows), expected, "{text}");
        }
        let wrong = batch(vec![("old", Arc::new(Int32Array::from(vec![1])))]);
        let error = Predicate::parse("old", &fields).unwrap().evaluate(&wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column \"old\" holds Int32, but the field was declared boolean; evaluate the filter on the store it was \
             checked for"
        );
        // A column that the filter does not read may be anything.
        assert!(Predicate::parse("new IS NULL", &fields).unwrap().evaluate(&wrong).is_ok());
    }

    #[test]
    fn timestamps_are_in_utc() {
        let fields = [field("t", FieldType::Timestamp)];
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(86_400_000_000), None]);
        for zone in [None, Some("UTC"), Some("+00:00")] {
            let array = times.clone().with_timezone_opt(zone);
            let rows = batch(vec![("t", Arc::new(array))]);
            assert_eq!(passing("t >= '1970-01-02'", &fields, &rows), [1]);
            assert_eq!(passing("t < '1970-01-01 00:00:00.000001'", &fields, &rows), [0]);
            assert_eq!(passing("t IN ('1970-01-02T01:00:00+01:00', '1999-01-01')", &fields, &rows), [1]);
        }
        let elsewhere = batch(vec![("t", Arc::new(times.with_timezone("Europe/Berlin")))]);
        let error = Predicate::parse("t IS NULL", &fields).unwrap().evaluate(&elsewhere);
        assert!(matches!(error, Err(FilterError::ColumnType { .. })));
        assert_ne!(elsewhere.column(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    }

    #[test]
    fn chunks_join_without_a_seam() {
        let fields =
            [field("x", FieldType::Integer), field("s", FieldType::Text), field("b", FieldType::Boolean)];
        let count = 2 * FILTER_CHUNK_ROWS + 77;
        let value = |row: usize| (!row.is_multiple_of(7)).then_some(row as i64 % 10);
        let integers: Int64Array = (0..count).map(value).collect();
        let texts: LargeStringArray =
            (0..count).map(|row| value(row).map(|value| value.to_string())).collect();
        let flags: BooleanArray = (0..count).map(|row| value(row).map(|value| value < 3)).collect();
        let rows = batch(vec![("x", Arc::new(integers)), ("s", Arc::new(texts)), ("b", Arc::new(flags))]);
        let expected = |from: usize, to: usize| -> Vec<u32> {
            (from..to)
                .filter(|row| value(*row).is_some_and(|value| value < 3))
                .map(|row| (row - from) as u32)
                .collect()
        };
        for text in [
            "x < 3",
            "s < '3'",
            "b",
            "s IN ('0', '1', '2')",
            "x IN (0, 1, 2)",
            "NOT (x > 2)",
            "b AND s LIKE '_'",
        ] {
            assert_eq!(passing(text, &fields, &rows), expected(0, count), "{text}");
            let (from, to) = (13, count - 5);
            assert_eq!(passing(text, &fields, &rows.slice(from, to - from)), expected(from, to), "{text}");
        }
        assert_eq!(passing("x IS NULL OR x < 99", &fields, &rows), (0..count as u32).collect::<Vec<_>>());
        assert_eq!(passing("s IS NULL", &fields, &rows).len(), count.div_ceil(7));
    }

    #[test]
    fn batches_without_rows_or_columns() {
        let options = RecordBatchOptions::new().with_row_count(Some(70));
        let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(passing("TRUE", &[], &bare).len(), 70);
        assert!(passing("NULL", &[], &bare).is_empty());
        assert!(passing("TRUE", &[], &RecordBatch::new_empty(Arc::new(Schema::empty()))).is_empty());
        let options = RecordBatchOptions::new().with_row_count(Some(u32::MAX as usize));
        let huge = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let error = Predicate::parse("FALSE", &[]).unwrap().evaluate(&huge);
        assert!(matches!(error, Err(FilterError::TooManyRows { .. })), "{error:?}");
    }
}
