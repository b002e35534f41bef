//! One document of an input, and where it stood.

use std::fmt;

use serde_json::{Map, Value};

use crate::base::Fingerprint;

/// Where in an input something stands, for messages and for resuming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the input: a path as given, or `stdin`.
    pub input: String,
    /// What `number` counts: `line`, `record` or `row`.
    pub unit: &'static str,
    /// Number of the line or record, from 1.
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {} {}", self.input, self.unit, self.number)
    }
}

/// One row on its way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The user's key; `None` if the input has no key field.
    pub key: Option<String>,
    /// The text; `None` if the input has no text field.
    pub text: Option<String>,
    /// A ready vector, checked finite; `None` if no vector field was named.
    pub vector: Option<Vec<f32>>,
    /// All other fields, in the order of the input. Of a CSV input the values are strings.
    pub metadata: Map<String, Value>,
    /// Where it stood.
    pub place: Place,
}

/// How far an input was read: enough to go on later if the consumed part is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes consumed. Of lines: up to the end of the last document returned; of a compressed file, bytes of its lines
    /// once decompressed. Of Arrow and Parquet: bytes of the metadata and of the batches or row groups read so far.
    pub consumed_bytes: u64,
    /// SHA-256 of exactly those bytes.
    pub prefix: Fingerprint,
    /// Documents returned up to there, over all runs. Places go on counting because the lines of the prefix are counted
    /// again when it is hashed.
    pub consumed_records: u64,
}
