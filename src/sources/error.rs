//! Everything that can be wrong with an input: what, where, and what to do about it.

use std::io;

use thiserror::Error;

use super::Place;
use crate::base::limits::{
    COLUMNAR_DECOMPRESSED_BYTES_MAX, EMBEDDING_WIDTH_MAX, KEY_BYTES_MAX, LINE_BYTES_MAX, LINE_VALUES_MAX,
    TEXT_BYTES_MAX,
};

/// An input that cannot be read. The document it stands at, and everything after it, was not returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The operating system refused.
    #[error("cannot {action} {input}: {reason}; check the path and its permissions")]
    Io {
        /// Name of the input.
        input: String,
        /// What was tried: `open` or `read`.
        action: &'static str,
        /// What the operating system said.
        reason: io::Error,
    },
    /// A reader that had refused its input was asked again.
    #[error("{input} was refused at an earlier record; correct the input and open it again")]
    AlreadyRefused {
        /// Name of the input.
        input: String,
    },
    /// An input that has no reader.
    #[error("cannot read {input}: {what}")]
    NotSupported {
        /// Name of the input.
        input: String,
        /// What it is, with its remedy.
        what: &'static str,
    },
    /// A format whose reader was left out of this build.
    #[error(
        "cannot read {input}: this build has no reader for {what}; build ascribe with the feature {feature:?}"
    )]
    FeatureMissing {
        /// Name of the input.
        input: String,
        /// What it is: `Parquet`.
        what: &'static str,
        /// The cargo feature that reads it.
        feature: &'static str,
    },
    /// A folder of datasets, of which one must be chosen.
    #[error("{input} holds several datasets ({splits}); name one of them, such as {example}")]
    Splits {
        /// The folder.
        input: String,
        /// The datasets in it, for the message.
        splits: String,
        /// The path of the first of them.
        example: String,
    },
    /// A dataset folder that is not as its library writes it.
    #[error("cannot read the dataset {input}: {reason}")]
    DatasetFolder {
        /// The folder.
        input: String,
        /// What is wrong, with its remedy.
        reason: String,
    },
    /// Compressed bytes that cannot be decompressed.
    #[error("cannot decompress {input}: {reason}; compress it again, or check whether it was cut off")]
    Compressed {
        /// Name of the input.
        input: String,
        /// What the decoder says.
        reason: String,
    },
    /// A columnar file that cannot be decoded.
    #[error(
        "{input} is not a readable {format} file: {reason}; write it again, or check whether it was cut off"
    )]
    Columnar {
        /// Name of the input.
        input: String,
        /// The format: `Arrow` or `Parquet`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A part of a columnar file that takes too much memory.
    #[error(
        "{input}: {what} takes {bytes} bytes in memory, at most {COLUMNAR_DECOMPRESSED_BYTES_MAX} are allowed; write the file with fewer rows in each"
    )]
    ColumnarTooLarge {
        /// Name of the input.
        input: String,
        /// Which part: `a record batch`, `a page`.
        what: &'static str,
        /// Bytes that it takes.
        bytes: u64,
    },
    /// A column of a type that no metadata value can be of.
    #[error(
        "{input}: field {field:?} is of type {found}, which has no place in a row's metadata; convert it to text or numbers, or leave the column out"
    )]
    ColumnType {
        /// Name of the input.
        input: String,
        /// The field.
        field: String,
        /// The type as the file names it.
        found: String,
    },
    /// A columnar file with the same field twice.
    #[error("{input}: field {field:?} stands twice in the columns; rename one of them")]
    ColumnTwice {
        /// Name of the input.
        input: String,
        /// The name.
        field: String,
    },
    /// A cell whose value cannot be kept.
    #[error("{place}: the value of field {field:?} is {found}; {remedy}")]
    CellValue {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// What stands there.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A row of a columnar file that is too large.
    #[error(
        "{place}: the row has more than {LINE_VALUES_MAX} values or {LINE_BYTES_MAX} bytes; split it, or leave columns out"
    )]
    RowTooLarge {
        /// Where.
        place: Place,
    },
    /// The name of a file tells no format.
    #[error(
        "cannot tell the format of {input} from its name; name it .jsonl, .csv, .tsv, .txt, .parquet or .arrow (text also with .gz or .zst behind)"
    )]
    UnknownFormat {
        /// Name of the input.
        input: String,
    },
    /// One field was given two roles.
    #[error("field {field:?} is named as {first} and as {second}; name two different fields")]
    FieldNamedTwice {
        /// The field.
        field: String,
        /// A role: `key`, `text` or `vector`.
        first: &'static str,
        /// The other role.
        second: &'static str,
    },
    /// A field was named for an input without fields.
    #[error(
        "{input} is plain text and has no {role} field {field:?}; leave the field out, or convert to JSONL or CSV"
    )]
    NoFields {
        /// Name of the input.
        input: String,
        /// The role: `key`, `text` or `vector`.
        role: &'static str,
        /// The field that was named.
        field: String,
    },
    /// A line, or a CSV record of several lines, is too long.
    #[error(
        "{place} is longer than {LINE_BYTES_MAX} bytes; split the document, or check its line ends and quotes"
    )]
    LineTooLong {
        /// Where the line or record begins.
        place: Place,
    },
    /// Bytes that are no UTF-8.
    #[error("{place}: {at} is not valid UTF-8; convert the input to UTF-8")]
    NotUtf8 {
        /// Where.
        place: Place,
        /// Which byte of the line, or which field and byte, from 1.
        at: String,
    },
    /// A line that is no JSON.
    #[error("{place}, column {column}: {reason}; write one whole JSON object a line")]
    InvalidJson {
        /// Where.
        place: Place,
        /// Byte of the line, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A line that is JSON, but no object.
    #[error("{place} is {found}, not an object; write one JSON object a line")]
    NotAnObject {
        /// Where.
        place: Place,
        /// What stands there: `a string`.
        found: &'static str,
    },
    /// The input is one JSON list.
    #[error(
        "{place} begins a JSON list; write one object a line without the enclosing brackets and commas (for example: jq -c '.[]')"
    )]
    JsonList {
        /// Where the list begins.
        place: Place,
    },
    /// A field that was named is not there.
    #[error(
        "{place}: the {role} field {field:?} is missing, the fields are {present}; add it, or name another field"
    )]
    MissingField {
        /// Where.
        place: Place,
        /// The role: `key`, `text` or `vector`.
        role: &'static str,
        /// The field that was named.
        field: String,
        /// The fields that are there, for the message.
        present: String,
    },
    /// A field holds a value of another type than its role needs.
    #[error("{place}: the {role} field {field:?} is {found}; it must be {expected}")]
    WrongType {
        /// Where.
        place: Place,
        /// The role: `key`, `text` or `vector`.
        role: &'static str,
        /// The field.
        field: String,
        /// What stands there: `null`, `a list`.
        found: &'static str,
        /// What must stand there.
        expected: &'static str,
    },
    /// A key without characters.
    #[error("{place}: the key field {field:?} is empty; give every row a key")]
    EmptyKey {
        /// Where.
        place: Place,
        /// The field.
        field: String,
    },
    /// A key that is too long.
    #[error(
        "{place}: the key in field {field:?} has {length_bytes} bytes, at most {KEY_BYTES_MAX} are allowed; use a shorter identifier"
    )]
    KeyTooLong {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// Bytes of the key.
        length_bytes: usize,
    },
    /// A text that is too long.
    #[error(
        "{place}: the text has {length_bytes} bytes, at most {TEXT_BYTES_MAX} are allowed; split it into several rows"
    )]
    TextTooLong {
        /// Where.
        place: Place,
        /// Bytes of the text.
        length_bytes: usize,
    },
    /// The text of a vector cell is no JSON.
    #[error(
        "{place}: the vector field {field:?}, column {column} of the cell: {reason}; write it as a JSON list such as [0.1, 0.2]"
    )]
    VectorText {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// Byte of the cell, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A vector without values or with too many.
    #[error(
        "{place}: the vector in field {field:?} has {width} values; 1 to {EMBEDDING_WIDTH_MAX} are allowed"
    )]
    VectorWidth {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// Values of the vector.
        width: usize,
    },
    /// A vector value that is no number or does not fit single precision.
    #[error(
        "{place}: value {number} of the vector in field {field:?} is {found}; every value must be a finite number within single precision"
    )]
    VectorValue {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// Which value, from 1.
        number: usize,
        /// What stands there.
        found: String,
    },
    /// A CSV input without a header row.
    #[error("{input} has no header row; write the names of the fields in the first line")]
    NoHeader {
        /// Name of the input.
        input: String,
    },
    /// A CSV header with the same name twice.
    #[error("{place}: the header names field {field:?} twice; rename one of them")]
    HeaderTwice {
        /// Where the header stands.
        place: Place,
        /// The name.
        field: String,
    },
    /// A CSV header with too many names.
    #[error(
        "{place}: the header has {fields} fields, at most {LINE_VALUES_MAX} are allowed; check the separator"
    )]
    HeaderTooWide {
        /// Where the header stands.
        place: Place,
        /// Fields of the header.
        fields: usize,
    },
    /// A CSV record with more or fewer fields than the header.
    #[error(
        "{place}: the record has {got} fields, the header has {expected}; quote fields that hold a separator, or complete the record"
    )]
    FieldCount {
        /// Where the record begins.
        place: Place,
        /// Fields of the header.
        expected: usize,
        /// Fields of the record.
        got: usize,
    },
    /// The input ends inside quotes.
    #[error(
        "{place}: a quoted field of this record is never closed; close it, or check whether the file was cut off"
    )]
    UnclosedQuote {
        /// Where the record begins.
        place: Place,
    },
    /// Bytes between a closing quote and the next separator, or a carriage return outside quotes.
    #[error("{place}, column {column}: {reason}")]
    AmbiguousCsv {
        /// The line.
        place: Place,
        /// Byte of the line, from 1.
        column: usize,
        /// What is ambiguous, with its remedy.
        reason: &'static str,
    },
    /// A record that the CSV parser does not accept.
    #[error("{place}: not a CSV record: {reason}; write the record anew with a CSV writer")]
    InvalidCsv {
        /// Where the record begins.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// A file of vectors whose header is not as its format demands.
    #[error(
        "{input} is not a valid {format} file: {reason} (offset {offset}); write it again, or check whether it was cut off"
    )]
    MatrixHeader {
        /// Name of the input.
        input: String,
        /// The format: `npy` or `safetensors`.
        format: &'static str,
        /// Byte of the file, from 0.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// Vectors of a number type that is not read.
    #[error(
        "{input} holds values of type {found}; convert it to little-endian {accepted}, for example with array.astype('<f4')"
    )]
    MatrixType {
        /// Name of the input.
        input: String,
        /// The type as the file names it.
        found: String,
        /// The types that are read.
        accepted: &'static str,
    },
    /// An npy file in column order.
    #[error("{input} is in Fortran (column) order; save numpy.ascontiguousarray(array) instead")]
    FortranOrder {
        /// Name of the input.
        input: String,
    },
    /// Vectors in a shape that has no rows.
    #[error("{input} has shape {shape}; {expected}")]
    MatrixShape {
        /// Name of the input.
        input: String,
        /// The shape, for the message.
        shape: String,
        /// What the shape must be.
        expected: &'static str,
    },
    /// Rows without values or with too many.
    #[error(
        "{input} has rows of {width} values; 1 to {EMBEDDING_WIDTH_MAX} are allowed, check that the shape is [rows, width]"
    )]
    MatrixWidth {
        /// Name of the input.
        input: String,
        /// Values of one row.
        width: usize,
    },
    /// A file that is shorter or longer than its header says.
    #[error(
        "{input} has {got_bytes} bytes of values, its header says {expected_bytes}; it was cut off or added to: write it again"
    )]
    MatrixLength {
        /// Name of the input.
        input: String,
        /// Bytes of values that the header promises.
        expected_bytes: u64,
        /// Bytes that follow the header.
        got_bytes: u64,
    },
    /// A safetensors file in which no tensor can be told to be the vectors.
    #[error(
        "{input} has no tensor \"embeddings\" and {found}; name the matrix \"embeddings\". The tensors are {present}"
    )]
    TensorNotFound {
        /// Name of the input.
        input: String,
        /// How many matrices there are instead: `no matrix` or `more than one matrix`.
        found: &'static str,
        /// The tensors that are there, for the message.
        present: String,
    },
    /// A value that is not finite in single precision.
    #[error("{place}: value {column} is {found}; every value must be finite within single precision")]
    MatrixValue {
        /// The row, from 1.
        place: Place,
        /// Which value of the row, from 1.
        column: usize,
        /// The value.
        found: f64,
    },
    /// Rows that the matrix does not have.
    #[error("{input} has {rows} rows; {count} rows from row {first} on (counted from 0) are not there")]
    MatrixRows {
        /// Name of the input.
        input: String,
        /// Rows of the matrix.
        rows: usize,
        /// First row asked for, from 0.
        first: usize,
        /// Number of rows asked for.
        count: usize,
    },
}

/// `text`, shortened for a message. Names and values come from the input and may be megabytes long.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// The names of `names`, quoted, at most twenty of them.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN_NAMES: usize = 20;
    let mut names = names.into_iter();
    let shown: Vec<String> =
        names.by_ref().take(SHOWN_NAMES).map(|name| format!("{:?}", shortened(name))).collect();
    match (shown.is_empty(), names.count()) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
