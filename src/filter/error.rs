//! What can be wrong with a filter expression, or with the batch it is asked about.

use std::fmt;

use thiserror::Error;

use crate::base::FieldType;

/// What filters are made of, for the remedy of an error.
const SUPPORTED: &str = "a filter takes = <> != < <= > >=, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL and parentheses \
     over declared fields, 'text', numbers, TRUE, FALSE and NULL";

/// A place in a filter expression, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in the line.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// A filter that cannot be used, or a batch that it cannot be used on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The expression has too many characters.
    #[error(
        "the filter is longer than {limit} characters; use IN (...) for many values, or filter in several steps"
    )]
    TooLong {
        /// Characters allowed.
        limit: usize,
    },
    /// Parentheses are nested too deep.
    #[error(
        "the filter nests deeper than {limit} levels at {position}; remove parentheses that change nothing"
    )]
    TooDeep {
        /// Where the limit is passed.
        position: Position,
        /// Levels allowed.
        limit: usize,
    },
    /// The text has no tokens of SQL, such as a quote that never ends.
    #[error("cannot read the filter at {position}: {reason}")]
    Unreadable {
        /// Where it begins.
        position: Position,
        /// What is wrong there.
        reason: String,
    },
    /// Something else was expected.
    #[error("cannot read the filter at {position}: expected {expected}, found {found}")]
    Syntax {
        /// Where.
        position: Position,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// SQL that filters do not have.
    #[error("{construct} at {position} is not supported in a filter; {SUPPORTED}")]
    Unsupported {
        /// Where.
        position: Position,
        /// The construct.
        construct: String,
    },
    /// A name that no declared field has.
    #[error("no field {name:?} at {position}{}; declared fields: {known}", hint(.nearest.as_deref(), *.quoted))]
    UnknownField {
        /// Where.
        position: Position,
        /// The name, shortened.
        name: String,
        /// Whether it stood in double quotes.
        quoted: bool,
        /// The declared name that was probably meant.
        nearest: Option<String>,
        /// The declared names, separated by commas, or `none`.
        known: String,
    },
    /// A literal of another type than its field.
    #[error("field {field:?} of type {kind} cannot be compared with {literal} at {position}; {remedy}")]
    LiteralType {
        /// Where the literal stands.
        position: Position,
        /// The field.
        field: String,
        /// The field's type.
        kind: FieldType,
        /// The literal, shortened, as it could be written.
        literal: String,
        /// What the field can be compared with.
        remedy: &'static str,
    },
    /// Two fields whose types do not compare.
    #[error(
        "fields {left:?} of type {left_kind} and {right:?} of type {right_kind} at {position} do not compare"
    )]
    FieldTypes {
        /// Where the comparison stands.
        position: Position,
        /// The left field.
        left: String,
        /// Its type.
        left_kind: FieldType,
        /// The right field.
        right: String,
        /// Its type.
        right_kind: FieldType,
    },
    /// An operation that the field's type does not have.
    #[error("{operation} at {position} does not apply to field {field:?} of type {kind}; {remedy}")]
    Operation {
        /// Where.
        position: Position,
        /// The operation.
        operation: String,
        /// The field.
        field: String,
        /// The field's type.
        kind: FieldType,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A LIKE pattern that means nothing.
    #[error("cannot use the LIKE pattern at {position}: {reason}")]
    Pattern {
        /// Where.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// A column of a batch has another type than its field was declared with.
    #[error(
        "column {field:?} holds {found}, but the field was declared {kind}; evaluate the filter on the store it was \
         checked for"
    )]
    ColumnType {
        /// The field.
        field: String,
        /// Its declared type.
        kind: FieldType,
        /// The Arrow type found.
        found: String,
    },
    /// A batch with more rows than a segment can have.
    #[error("a batch of {rows} rows cannot be filtered: row numbers end at {limit}; split the batch")]
    TooManyRows {
        /// Rows of the batch.
        rows: usize,
        /// Rows allowed.
        limit: u32,
    },
}

/// What was probably meant by an unknown name.
fn hint(nearest: Option<&str>, quoted: bool) -> String {
    match nearest {
        Some(name) => format!(" (did you mean {name:?}?)"),
        None if quoted => " (double quotes make names; texts take single quotes)".to_owned(),
        None => String::new(),
    }
}

/// At most 60 characters of `text`, for messages.
pub(super) fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}
