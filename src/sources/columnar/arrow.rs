//! Arrow IPC files and streams, told apart by their first bytes.

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_ipc::{Block, root_as_footer};
use arrow_schema::SchemaRef;

use super::file_bytes::{Consumed, FileBytes};
use super::messages::{Decoded, MessageDecoder, RawMessage, message_of, read_message};
use super::rows::{Batches, ColumnarRows};
use crate::base::limits::COLUMNAR_METADATA_BYTES_MAX;
use crate::sources::{FieldNames, SourceError};

/// First and last bytes of an Arrow IPC file. A stream has none.
const FILE_MAGIC: &[u8; 6] = b"ARROW1";

/// First bytes of a Feather file of version 1, which is no Arrow IPC.
const FEATHER_1_MAGIC: &[u8; 4] = b"FEA1";

/// Bytes of the magic at the start, with its padding.
const START_BYTES: u64 = 8;

/// Bytes at the end of a file: the length of its footer, and the magic.
const END_BYTES: u64 = 10;

/// Opens an Arrow IPC file or stream of `length` bytes.
///
/// # Complexity
/// Memory is that of one record batch as it was written, and of the dictionaries.
pub(in crate::sources) fn open_arrow(
    file: File,
    name: String,
    length: u64,
    fields: &FieldNames,
) -> Result<ColumnarRows, SourceError> {
    let file = FileBytes { file, name, format: "Arrow", length };
    let start = file.read(0, length.min(START_BYTES))?;
    let batches: Box<dyn Batches> = if start.starts_with(FILE_MAGIC) {
        Box::new(FileBatches::new(file)?)
    } else if start.starts_with(FEATHER_1_MAGIC) {
        return Err(SourceError::NotSupported {
            input: file.name,
            what: "it is a Feather file of version 1; write it with version 2, which is Arrow IPC",
        });
    } else {
        Box::new(StreamBatches::new(file)?)
    };
    ColumnarRows::new(batches, fields.clone())
}

/// The batches of a stream, front to back.
struct StreamBatches {
    file: FileBytes,
    decoder: MessageDecoder,
    consumed: Consumed,
}

impl StreamBatches {
    fn new(file: FileBytes) -> Result<Self, SourceError> {
        let first = read_message(&file, 0)?.ok_or_else(|| file.damaged("it has no schema"))?;
        let decoder = {
            let message = message_of(&file, first.metadata())?;
            let schema =
                message.header_as_schema().ok_or_else(|| file.damaged("it does not begin with a schema"))?;
            MessageDecoder::new(&file, schema)?
        };
        let mut consumed = Consumed::default();
        first.consume(&mut consumed);
        Ok(Self { file, decoder, consumed })
    }
}

impl Batches for StreamBatches {
    fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
    }

    fn next(&mut self, skip: &mut u64) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            if self.consumed.bytes == self.file.length {
                // A writer that was closed leaves a mark; without it, batches may be missing.
                return Err(self.file.damaged("it ends without the mark of its end"));
            }
            let Some(message) = read_message(&self.file, self.consumed.bytes)? else { return Ok(None) };
            message.consume(&mut self.consumed);
            if let Decoded::Batch(batch) = self.decoder.decode(&self.file, message, skip)? {
                return Ok(Some(batch));
            }
        }
    }

    fn consumed(&self) -> &Consumed {
        &self.consumed
    }

    fn file(&self) -> &FileBytes {
        &self.file
    }
}

/// The batches of a file, by its footer.
struct FileBatches {
    file: FileBytes,
    decoder: MessageDecoder,
    consumed: Consumed,
    /// Where each batch begins and ends.
    blocks: std::vec::IntoIter<(u64, u64)>,
}

impl FileBatches {
    fn new(file: FileBytes) -> Result<Self, SourceError> {
        let end = file.length.checked_sub(END_BYTES).ok_or_else(|| file.damaged("it is too short"))?;
        let bytes = file.read(end, END_BYTES)?;
        if !bytes.ends_with(FILE_MAGIC) {
            return Err(file.damaged("its last bytes are not those of an Arrow file"));
        }
        let footer_bytes = bytes.first_chunk().copied().map_or(-1, i32::from_le_bytes);
        let footer_at = u64::try_from(footer_bytes)
            .ok()
            .filter(|bytes| *bytes <= COLUMNAR_METADATA_BYTES_MAX)
            .and_then(|bytes| end.checked_sub(bytes))
            .ok_or_else(|| file.damaged("its footer has an impossible length"))?;
        let footer_bytes = file.read(footer_at, end - footer_at)?;
        let footer = root_as_footer(&footer_bytes)
            .map_err(|error| file.damaged(format!("its footer is not valid: {error}")))?;
        let schema = footer.schema().ok_or_else(|| file.damaged("its footer has no schema"))?;
        let mut decoder = MessageDecoder::new(&file, schema)?;
        let mut consumed = Consumed::default();
        consumed.add(&footer_bytes);
        for block in footer.dictionaries().iter().flatten() {
            let (start, end) = extent(&file, block, footer_at)?;
            let message = read_block(&file, start, end)?;
            message.consume(&mut consumed);
            if let Decoded::Batch(_) = decoder.decode(&file, message, &mut 0)? {
                return Err(file.damaged("a batch stands among its dictionaries"));
            }
        }
        let blocks: Vec<(u64, u64)> = footer
            .recordBatches()
            .iter()
            .flatten()
            .map(|block| extent(&file, block, footer_at))
            .collect::<Result<_, _>>()?;
        // Blocks that overlap would read a small file over and over.
        if blocks.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(file.damaged("its batches overlap"));
        }
        Ok(Self { file, decoder, consumed, blocks: blocks.into_iter() })
    }
}

/// Where `block` begins and ends: between the magic and the footer.
fn extent(file: &FileBytes, block: &Block, footer_at: u64) -> Result<(u64, u64), SourceError> {
    let part = |value: i64| u64::try_from(value).ok();
    let start = part(block.offset());
    let length = part(block.metaDataLength().into()).zip(part(block.bodyLength()));
    let end = start.zip(length).and_then(|(start, (head, body))| start.checked_add(head)?.checked_add(body));
    match start.zip(end) {
        Some((start, end)) if start >= START_BYTES && end <= footer_at => Ok((start, end)),
        _ => Err(file.damaged("its footer names a batch that is not there")),
    }
}

/// The message between `start` and `end`.
fn read_block(file: &FileBytes, start: u64, end: u64) -> Result<RawMessage, SourceError> {
    let message = read_message(file, start)?.ok_or_else(|| file.damaged("a batch is empty"))?;
    if (message.head.len() + message.body.len()) as u64 > end - start {
        return Err(file.damaged("a batch is longer than the footer says"));
    }
    Ok(message)
}

impl Batches for FileBatches {
    fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
    }

    fn next(&mut self, skip: &mut u64) -> Result<Option<RecordBatch>, SourceError> {
        let Some((start, end)) = self.blocks.next() else { return Ok(None) };
        let message = read_block(&self.file, start, end)?;
        message.consume(&mut self.consumed);
        match self.decoder.decode(&self.file, message, skip)? {
            Decoded::Batch(batch) => Ok(Some(batch)),
            Decoded::Nothing => Err(self.file.damaged("a dictionary stands among its batches")),
        }
    }

    fn consumed(&self) -> &Consumed {
        &self.consumed
    }

    fn file(&self) -> &FileBytes {
        &self.file
    }
}
