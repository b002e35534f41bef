//! Metadata fields: declared types, checked names, values.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value;
use thiserror::Error;

use super::limits::NAME_BYTES_MAX;

/// Type of a declared metadata field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum FieldType {
    /// A UTF-8 string.
    Text,
    /// A signed 64-bit number.
    Integer,
    /// A finite double-precision number.
    Float,
    /// True or false.
    Boolean,
    /// Microseconds since 1970-01-01 UTC. Read from RFC 3339 text, `YYYY-MM-DD`, or `YYYY-MM-DD HH:MM:SS` (UTC).
    Timestamp,
}

impl FieldType {
    /// Every type.
    pub const ALL: [FieldType; 5] = [Self::Text, Self::Integer, Self::Float, Self::Boolean, Self::Timestamp];

    /// Name as users write it: `text`, `integer`, `float`, `boolean`, `timestamp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
        }
    }

    /// The type of this [`name`](Self::name), if any.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A declared metadata field.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FieldDeclaration {
    /// The field's name; see [`check_name`].
    pub name: String,
    /// The field's type.
    pub kind: FieldType,
}

/// A name that a field or column cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{name:?} cannot be a name: use 1 to {NAME_BYTES_MAX} letters, digits, '_' or '-', beginning with a letter or '_'"
)]
pub struct FieldNameError {
    /// The name that was given.
    pub name: String,
}

/// Checks the name of a field or column: ASCII letters, digits, `_` and `-`, beginning with a letter or `_`, at most
/// 64 bytes. Names become parts of file names and of filter expressions.
///
/// # Errors
/// The name has other characters, is empty or too long.
pub fn check_name(name: &str) -> Result<(), FieldNameError> {
    let first_is_fine = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let rest_is_fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if first_is_fine && rest_is_fine && name.len() <= NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(FieldNameError { name: name.to_owned() })
    }
}

/// A value of a declared field. A missing value is `Option::None` around it.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// Of a text field.
    Text(String),
    /// Of an integer field.
    Integer(i64),
    /// Of a float field; finite.
    Float(f64),
    /// Of a boolean field.
    Boolean(bool),
    /// Of a timestamp field: microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// A value that does not fit the declared type of its field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{value} is not of type {kind}")]
pub struct FieldValueError {
    /// The declared type.
    pub kind: FieldType,
    /// The value, shortened, as JSON.
    pub value: String,
}

impl FieldValue {
    /// The value of a `kind` field that `json` stands for; `None` for null.
    ///
    /// Numbers are not made of text or text of numbers: a schema that guesses hides mistakes. Integers are accepted
    /// for floats.
    ///
    /// # Errors
    /// `json` is of another type.
    ///
    /// ```
    /// use ascribe::base::{FieldType, FieldValue};
    /// let value = FieldValue::from_json(FieldType::Integer, &serde_json::json!(7));
    /// assert_eq!(value, Ok(Some(FieldValue::Integer(7))));
    /// assert!(FieldValue::from_json(FieldType::Integer, &serde_json::json!("7")).is_err());
    /// ```
    pub fn from_json(kind: FieldType, json: &Value) -> Result<Option<Self>, FieldValueError> {
        let value = match (kind, json) {
            (_, Value::Null) => return Ok(None),
            (FieldType::Text, Value::String(text)) => Some(Self::Text(text.clone())),
            (FieldType::Integer, Value::Number(number)) => number.as_i64().map(Self::Integer),
            (FieldType::Float, Value::Number(number)) => {
                number.as_f64().filter(|value| value.is_finite()).map(Self::Float)
            }
            (FieldType::Boolean, Value::Bool(value)) => Some(Self::Boolean(*value)),
            (FieldType::Timestamp, Value::String(text)) => parse_timestamp(text).map(Self::Timestamp),
            _ => None,
        };
        value.map(Some).ok_or_else(|| FieldValueError { kind, value: shorten(&json.to_string()) })
    }

    /// The value of a `kind` field that `text` stands for, for sources without types (CSV) and for filter literals;
    /// `None` for the empty text, except of a text field.
    ///
    /// # Errors
    /// `text` cannot be read as `kind`.
    pub fn from_text(kind: FieldType, text: &str) -> Result<Option<Self>, FieldValueError> {
        if text.is_empty() && kind != FieldType::Text {
            return Ok(None);
        }
        let value = match kind {
            FieldType::Text => Some(Self::Text(text.to_owned())),
            FieldType::Integer => text.parse().ok().map(Self::Integer),
            FieldType::Float => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Self::Float),
            FieldType::Boolean => match text {
                "true" | "True" | "TRUE" | "1" => Some(Self::Boolean(true)),
                "false" | "False" | "FALSE" | "0" => Some(Self::Boolean(false)),
                _ => None,
            },
            FieldType::Timestamp => parse_timestamp(text).map(Self::Timestamp),
        };
        value.map(Some).ok_or_else(|| FieldValueError { kind, value: shorten(&format!("{text:?}")) })
    }

    /// The value as JSON; timestamps as RFC 3339 text in UTC.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Integer(value) => Value::from(*value),
            Self::Float(value) => Value::from(*value),
            Self::Boolean(value) => Value::from(*value),
            Self::Timestamp(microseconds) => DateTime::from_timestamp_micros(*microseconds)
                .map_or(Value::Null, |time| {
                    Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
                }),
        }
    }
}

fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    if let Ok(time) = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f") {
        return Some(time.and_utc().timestamp_micros());
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARACTERS).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_three_forms_and_write_one() {
        for text in ["1990-01-02T03:04:05Z", "1990-01-02 03:04:05", "1990-01-02T04:04:05+01:00"] {
            let value = FieldValue::from_text(FieldType::Timestamp, text).unwrap().unwrap();
            assert_eq!(value.to_json(), "1990-01-02T03:04:05Z", "{text}");
        }
        let day = FieldValue::from_text(FieldType::Timestamp, "1970-01-02").unwrap().unwrap();
        assert_eq!(day, FieldValue::Timestamp(86_400_000_000));
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (kind, json) in [
            (FieldType::Integer, serde_json::json!(1.5)),
            (FieldType::Integer, serde_json::json!(18_446_744_073_709_551_615_u64)),
            (FieldType::Boolean, serde_json::json!(1)),
            (FieldType::Text, serde_json::json!(["a"])),
            (FieldType::Timestamp, serde_json::json!("yesterday")),
        ] {
            assert!(FieldValue::from_json(kind, &json).is_err(), "{kind} {json}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["year", "_x", "a-b_9"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "9a", "a b", "é", "a/b", "..", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
