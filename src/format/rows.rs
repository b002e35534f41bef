//! Sections of a row file: keys, texts, undeclared fields, and the key index.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::base::{RowId, key_hash};

/// Undeclared fields of a row, in the order of the input.
pub type ExtraFields = Map<String, Value>;

/// Undeclared fields that are no JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("undeclared fields are not a JSON object: {reason}")]
pub struct ExtraError {
    /// What the parser said.
    pub reason: String,
}

/// Undeclared fields of a row as they stand in the file: one JSON object, or nothing if there are none.
///
/// ```
/// use ascribe::format::{decode_extra, encode_extra};
/// let fields = decode_extra("{\"source\": \"web\"}").unwrap();
/// assert_eq!(encode_extra(&fields), "{\"source\":\"web\"}");
/// assert_eq!(encode_extra(&Default::default()), "");
/// ```
pub fn encode_extra(fields: &ExtraFields) -> String {
    // Values that came from JSON always print as JSON.
    if fields.is_empty() { String::new() } else { serde_json::to_string(fields).unwrap_or_default() }
}

/// The fields that [`encode_extra`] wrote.
///
/// # Errors
/// The text is neither empty nor a JSON object.
pub fn decode_extra(text: &str) -> Result<ExtraFields, ExtraError> {
    if text.is_empty() {
        return Ok(ExtraFields::new());
    }
    serde_json::from_str(text).map_err(|error| ExtraError { reason: error.to_string() })
}

/// Section tags of a row file. `offsets` sections hold `row_count + 1` u64 values: row i's bytes are
/// `offsets[i]..offsets[i + 1]` of the bytes section that follows.
pub mod row_section {
    /// Offsets of the keys.
    pub const KEY_OFFSETS: u32 = 1;
    /// Keys, UTF-8, laid end to end in row order.
    pub const KEY_BYTES: u32 = 2;
    /// Offsets of the texts.
    pub const TEXT_OFFSETS: u32 = 3;
    /// Texts, UTF-8; a row without text has an empty one.
    pub const TEXT_BYTES: u32 = 4;
    /// Declared metadata fields as one Arrow IPC stream with one record batch; missing where no field was declared.
    pub const METADATA: u32 = 5;
    /// Offsets of the undeclared fields.
    pub const EXTRA_OFFSETS: u32 = 6;
    /// Undeclared fields of each row as one JSON object; empty where it has none.
    pub const EXTRA_BYTES: u32 = 7;
    /// Key hashes (u64), ascending.
    pub const KEY_HASHES: u32 = 8;
    /// Row numbers (u32) in the order of the hashes.
    pub const KEY_ROWS: u32 = 9;
}

/// Collects the keys of a segment's rows and sorts them by hash.
///
/// ```
/// use ascribe::format::KeyIndexBuilder;
/// let mut index = KeyIndexBuilder::new();
/// index.push("a");
/// index.push("b");
/// let (hashes, rows) = index.encode();
/// assert_eq!((hashes.len(), rows.len()), (16, 8));
/// ```
#[derive(Debug, Default)]
pub struct KeyIndexBuilder {
    entries: Vec<(u64, u32)>,
}

impl KeyIndexBuilder {
    /// An index without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next row's key.
    pub fn push(&mut self, key: &str) {
        let row = RowId(self.entries.len() as u32);
        self.entries.push((key_hash(key), row.0));
    }

    /// Bytes of the sections `KEY_HASHES` and `KEY_ROWS`. Equal hashes stand in row order.
    ///
    /// # Complexity
    /// O(n log n).
    pub fn encode(mut self) -> (Vec<u8>, Vec<u8>) {
        self.entries.sort_unstable();
        let hashes = self.entries.iter().flat_map(|entry| entry.0.to_le_bytes()).collect();
        let rows = self.entries.iter().flat_map(|entry| entry.1.to_le_bytes()).collect();
        (hashes, rows)
    }
}
