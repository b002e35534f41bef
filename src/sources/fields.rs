//! Which fields of an input are key, text and vector, and what their values must be.

use serde_json::{Map, Value};

use super::error::{listed, shortened};
use super::json::described;
use super::{Document, Place, SourceError};
use crate::base::limits::{EMBEDDING_WIDTH_MAX, KEY_BYTES_MAX, TEXT_BYTES_MAX};

/// The text field of an input for which none was named.
const TEXT_FIELD_DEFAULT: &str = "text";

/// Which fields of an input play which role; all others are metadata.
///
/// A field that is named must be in every row. Without a text field, a field called `text` is the text of the rows
/// that have it. Keys and vectors have no default.
///
/// ```
/// use ascribe::sources::FieldNames;
/// let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
/// assert!(fields.check().is_ok());
/// let twice = FieldNames { key: Some("id".into()), text: Some("id".into()), vector: None };
/// assert!(twice.check().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNames {
    /// The field that holds the key: a string that is not empty, or an integer, which stands for its decimal text.
    pub key: Option<String>,
    /// The field that holds the text: a string.
    pub text: Option<String>,
    /// The field that holds a ready vector: a list of numbers that are finite in single precision.
    pub vector: Option<String>,
}

impl FieldNames {
    /// The fields of a keys file: one object a row, with its key in `key` and, where there is one, its text in `text`.
    pub fn of_keys_file() -> Self {
        Self { key: Some("key".to_owned()), text: None, vector: None }
    }

    /// Checks that no field was given two roles.
    ///
    /// # Errors
    /// [`SourceError::FieldNamedTwice`].
    pub fn check(&self) -> Result<(), SourceError> {
        let named: Vec<_> = self.named().collect();
        for (number, (first, field)) in named.iter().enumerate() {
            if let Some((second, _)) = named[number + 1..].iter().find(|(_, other)| other == field) {
                return Err(SourceError::FieldNamedTwice { field: (*field).to_owned(), first, second });
            }
        }
        Ok(())
    }

    /// The roles that were given, each with its field.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of = |role, field| Option::map(field, |field: &String| (role, field.as_str()));
        [of("key", self.key.as_ref()), of("text", self.text.as_ref()), of("vector", self.vector.as_ref())]
            .into_iter()
            .flatten()
    }

    /// Checks that every named field is among the fields that are there.
    pub(super) fn check_present<'a, I: Iterator<Item = &'a str> + Clone>(
        &self,
        present: I,
        place: &Place,
    ) -> Result<(), SourceError> {
        for (role, field) in self.named() {
            if !present.clone().any(|name| name == field) {
                return Err(SourceError::MissingField {
                    place: place.clone(),
                    role,
                    field: field.to_owned(),
                    present: listed(present),
                });
            }
        }
        Ok(())
    }

    /// The document whose fields are `members`: roles taken out and checked, the rest as metadata in their order.
    pub(super) fn document(
        &self,
        members: Map<String, Value>,
        place: Place,
    ) -> Result<Document, SourceError> {
        self.check_present(members.keys().map(String::as_str), &place)?;
        self.document_of_columns(members, None, place)
    }

    /// The same of fields that are known to be there, of which the vector may have been taken out before.
    pub(super) fn document_of_columns(
        &self,
        mut members: Map<String, Value>,
        ready: Option<Vec<f32>>,
        place: Place,
    ) -> Result<Document, SourceError> {
        let has_role = |name| self.named().any(|(_, field)| field == name);
        let text_field = match &self.text {
            Some(field) => Some(field.as_str()),
            None if has_role(TEXT_FIELD_DEFAULT) => None,
            None => Some(TEXT_FIELD_DEFAULT),
        };
        // Not `remove`: that moves the last field into the gap.
        let mut take = |field: Option<&str>| field.and_then(|field| members.shift_remove_entry(field));
        let key = take(self.key.as_deref()).map(|(field, value)| key_of(value, field, &place)).transpose()?;
        let text = take(text_field).map(|(field, value)| text_of(value, field, &place)).transpose()?;
        let vector =
            take(self.vector.as_deref()).map(|(field, value)| vector_of(value, field, &place)).transpose()?;
        Ok(Document { key, text, vector: ready.or(vector), metadata: members, place })
    }
}

fn key_of(value: Value, field: String, place: &Place) -> Result<String, SourceError> {
    let key = match value {
        Value::String(key) => key,
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => {
            return Err(SourceError::WrongType {
                place: place.clone(),
                role: "key",
                field,
                found: described(&other),
                expected: "a string or a 64-bit integer",
            });
        }
    };
    match key.len() {
        0 => Err(SourceError::EmptyKey { place: place.clone(), field }),
        length_bytes if length_bytes > KEY_BYTES_MAX => {
            Err(SourceError::KeyTooLong { place: place.clone(), field, length_bytes })
        }
        _ => Ok(key),
    }
}

fn text_of(value: Value, field: String, place: &Place) -> Result<String, SourceError> {
    match value {
        Value::String(text) => {
            check_text(&text, place)?;
            Ok(text)
        }
        other => Err(SourceError::WrongType {
            place: place.clone(),
            role: "text",
            field,
            found: described(&other),
            expected: "a string",
        }),
    }
}

/// `text`, if it is short enough for a row.
pub(super) fn check_text<'a>(text: &'a str, place: &Place) -> Result<&'a str, SourceError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SourceError::TextTooLong { place: place.clone(), length_bytes: text.len() });
    }
    Ok(text)
}

fn vector_of(value: Value, field: String, place: &Place) -> Result<Vec<f32>, SourceError> {
    let items = match value {
        Value::Array(items) => items,
        other => {
            return Err(SourceError::WrongType {
                place: place.clone(),
                role: "vector",
                field,
                found: described(&other),
                expected: "a list of numbers",
            });
        }
    };
    if items.is_empty() || items.len() > EMBEDDING_WIDTH_MAX {
        return Err(SourceError::VectorWidth { place: place.clone(), field, width: items.len() });
    }
    let mut vector = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        // A number beyond single precision becomes infinite here and is refused.
        match item.as_f64().map(|value| value as f32).filter(|value| value.is_finite()) {
            Some(value) => vector.push(value),
            None => {
                return Err(SourceError::VectorValue {
                    place: place.clone(),
                    field,
                    number: index + 1,
                    found: match item {
                        Value::Number(number) => shortened(&number.to_string()),
                        other => described(other).to_owned(),
                    },
                });
            }
        }
    }
    Ok(vector)
}
