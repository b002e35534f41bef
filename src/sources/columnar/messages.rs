//! Arrow IPC messages: checked against the bytes that are there, then decoded behind a wall.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Endianness, Message, MessageHeader, root_as_message};
use arrow_schema::{Schema, SchemaRef};

use super::fence::fenced;
use super::file_bytes::{Consumed, FileBytes};
use crate::base::limits::COLUMNAR_METADATA_BYTES_MAX;
use crate::sources::SourceError;

/// What stands before the length of a message; files of before 2019 have the length alone.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Length that a compressed buffer has in its first eight bytes where it is not compressed after all.
const NOT_COMPRESSED: i64 = -1;

/// Bits of a byte: no row takes less room than one bit.
const BYTE_BITS: u64 = 8;

/// What a message held.
pub(super) enum Decoded {
    /// Rows.
    Batch(RecordBatch),
    /// Something that later messages need.
    Nothing,
}

/// Decodes the messages of one schema.
pub(super) struct MessageDecoder {
    pub(super) schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
}

/// The message whose metadata is `metadata`.
pub(super) fn message_of<'a>(file: &FileBytes, metadata: &'a [u8]) -> Result<Message<'a>, SourceError> {
    root_as_message(metadata).map_err(|error| file.damaged(format!("a message is not valid: {error}")))
}

/// Bytes and metadata of one message.
pub(super) struct RawMessage {
    /// All bytes before the body.
    pub(super) head: Vec<u8>,
    /// Where the metadata begins in them.
    metadata_at: usize,
    pub(super) body: Vec<u8>,
}

impl RawMessage {
    /// Counts and hashes it.
    pub(super) fn consume(&self, consumed: &mut Consumed) {
        consumed.add(&self.head);
        consumed.add(&self.body);
    }

    pub(super) fn metadata(&self) -> &[u8] {
        self.head.get(self.metadata_at..).unwrap_or_default()
    }
}

/// The message at `offset`; `None` where the mark of the end stands.
pub(super) fn read_message(file: &FileBytes, offset: u64) -> Result<Option<RawMessage>, SourceError> {
    let mut head = file.read(offset, 4)?;
    let mut length: [u8; 4] = head.first_chunk().copied().unwrap_or_default();
    if length == CONTINUATION {
        let more = file.read(offset.saturating_add(4), 4)?;
        length = more.first_chunk().copied().unwrap_or_default();
        head.extend(more);
    }
    let metadata_bytes = u64::try_from(i32::from_le_bytes(length))
        .ok()
        .filter(|length| *length <= COLUMNAR_METADATA_BYTES_MAX)
        .ok_or_else(|| file.damaged(format!("the message at offset {offset} has an impossible length")))?;
    if metadata_bytes == 0 {
        return Ok(None);
    }
    let metadata_at = head.len();
    head.extend(file.read(offset.saturating_add(metadata_at as u64), metadata_bytes)?);
    let message = message_of(file, head.get(metadata_at..).unwrap_or_default())?;
    let body_bytes = u64::try_from(message.bodyLength())
        .map_err(|_| file.damaged(format!("the message at offset {offset} has a negative length")))?;
    let body = file.read(offset.saturating_add(head.len() as u64), body_bytes)?;
    Ok(Some(RawMessage { head, metadata_at, body }))
}

impl MessageDecoder {
    /// A decoder of the messages that follow `schema`.
    pub(super) fn new(file: &FileBytes, schema: arrow_ipc::Schema<'_>) -> Result<Self, SourceError> {
        if schema.endianness() != Endianness::Little {
            return Err(file.damaged("it is big-endian"));
        }
        let schema: Schema = fenced(|| fb_to_schema(schema))
            .ok_or_else(|| file.damaged("its schema has types that are not known"))?;
        Ok(Self { schema: Arc::new(schema), dictionaries: HashMap::new() })
    }

    /// What `message` holds: its rows without the first `skip`, which are taken off.
    pub(super) fn decode(
        &mut self,
        file: &FileBytes,
        message: RawMessage,
        skip: &mut u64,
    ) -> Result<Decoded, SourceError> {
        let RawMessage { head, metadata_at, body } = message;
        let message = message_of(file, head.get(metadata_at..).unwrap_or_default())?;
        let version = message.version();
        let decoded = match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch =
                    message.header_as_record_batch().ok_or_else(|| file.damaged("a batch is missing"))?;
                let rows = check_batch(file, &batch, &body)?;
                if rows <= *skip {
                    *skip -= rows;
                    return Ok(Decoded::Batch(RecordBatch::new_empty(Arc::clone(&self.schema))));
                }
                let first = usize::try_from(std::mem::take(skip)).map_err(|error| file.damaged(error))?;
                let body = Buffer::from_vec(body);
                let schema = Arc::clone(&self.schema);
                fenced(|| read_record_batch(&body, batch, schema, &self.dictionaries, None, &version)).map(
                    |result| result.map(|batch| Decoded::Batch(batch.slice(first, batch.num_rows() - first))),
                )
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = message
                    .header_as_dictionary_batch()
                    .ok_or_else(|| file.damaged("a dictionary is missing"))?;
                let batch = dictionary.data().ok_or_else(|| file.damaged("a dictionary has no values"))?;
                check_batch(file, &batch, &body)?;
                let body = Buffer::from_vec(body);
                fenced(|| {
                    read_dictionary(&body, dictionary, &self.schema, &mut self.dictionaries, &version)
                        .map(|()| Decoded::Nothing)
                })
            }
            other => return Err(file.damaged(format!("a message is of kind {other:?}"))),
        };
        decoded
            .ok_or_else(|| file.damaged("its values contradict each other"))?
            .map_err(|error| file.damaged(error))
    }
}

/// Checks that the buffers of `batch` lie in `body` and do not claim to hold more than they can; returns its rows.
fn check_batch(
    file: &FileBytes,
    batch: &arrow_ipc::RecordBatch<'_>,
    body: &[u8],
) -> Result<u64, SourceError> {
    let is_compressed = batch.compression().is_some();
    if is_compressed && cfg!(not(feature = "compression")) {
        let input = file.name.clone();
        return Err(SourceError::FeatureMissing { input, what: "compressed Arrow", feature: "compression" });
    }
    let (mut stored_bytes, mut held_bytes) = (0_u64, 0_u64);
    for buffer in batch.buffers().iter().flatten() {
        let part = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?))
            .ok_or_else(|| file.damaged("a buffer lies outside its message"))?;
        let stored = part.len() as u64;
        stored_bytes = stored_bytes.saturating_add(stored);
        held_bytes = held_bytes.saturating_add(match part.first_chunk::<8>() {
            Some(prefix) if is_compressed => match i64::from_le_bytes(*prefix) {
                NOT_COMPRESSED => stored,
                claimed => {
                    let claimed = u64::try_from(claimed)
                        .map_err(|_| file.damaged("a buffer claims a negative length"))?;
                    file.check_claim("a compressed buffer", stored, claimed)?;
                    claimed
                }
            },
            _ => stored,
        });
    }
    if is_compressed {
        file.check_claim("a record batch", stored_bytes, held_bytes)?;
    }
    let nodes = batch.nodes();
    if nodes.iter().flatten().any(|node| node.length() < 0 || node.null_count() < 0) {
        return Err(file.damaged("a column claims a negative length"));
    }
    match u64::try_from(batch.length()) {
        Ok(rows) if rows <= held_bytes.saturating_mul(BYTE_BITS) => Ok(rows),
        _ => Err(file.damaged(format!("{} bytes claim to hold {} rows", held_bytes, batch.length()))),
    }
}
