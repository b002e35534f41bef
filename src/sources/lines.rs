//! Bounded lines of an input: counted, hashed, and skipped again when a later run goes on.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Document, Place, Position, SourceError};
use crate::base::FingerprintStream;
use crate::base::limits::LINE_BYTES_MAX;

/// Bytes read at once: hashing and parsing outrun small reads.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// UTF-8 byte order mark. Some editors put it at the very start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest line end: `\r\n`.
const LINE_END_BYTES_MAX: usize = 2;

/// Where the last document returned ended.
#[derive(Clone)]
struct Mark {
    bytes: u64,
    hash: FingerprintStream,
}

/// Reads one line after the other into its own buffer.
pub(super) struct LineReader<R> {
    input: R,
    name: String,
    total_bytes: Option<u64>,
    /// Bytes read of a compressed file; `None` where the lines are the file's own bytes.
    compressed_bytes: Option<Arc<AtomicU64>>,
    buffer: Vec<u8>,
    read_bytes: u64,
    read_lines: u64,
    last_byte: Option<u8>,
    /// Of all bytes read; `None` of a pipe, where hashing would serve nobody.
    hash: Option<FingerprintStream>,
    returned: Option<Mark>,
    returned_records: u64,
    refused: bool,
}

impl<R: BufRead> LineReader<R> {
    /// Lines of something that cannot be read again.
    pub(super) fn of_pipe(input: R, name: String) -> Self {
        Self {
            input,
            name,
            total_bytes: None,
            compressed_bytes: None,
            buffer: Vec::new(),
            read_bytes: 0,
            read_lines: 0,
            last_byte: None,
            hash: None,
            returned: None,
            returned_records: 0,
            refused: false,
        }
    }

    /// Lines of a file of `total_bytes`, with positions.
    pub(super) fn of_file(input: R, name: String, total_bytes: u64) -> Self {
        let start = FingerprintStream::new();
        Self {
            total_bytes: Some(total_bytes),
            hash: Some(start.clone()),
            returned: Some(Mark { bytes: 0, hash: start }),
            ..Self::of_pipe(input, name)
        }
    }

    /// Lines that come out of a compressed file of `total_bytes`, of which `read_bytes` are read so far. Positions are
    /// those of the lines decompressed.
    pub(super) fn of_compressed(
        input: R,
        name: String,
        total_bytes: u64,
        read_bytes: Arc<AtomicU64>,
    ) -> Self {
        Self { compressed_bytes: Some(read_bytes), ..Self::of_file(input, name, total_bytes) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Bytes read of the file.
    pub(super) fn read_bytes(&self) -> u64 {
        self.compressed_bytes.as_ref().map_or(self.read_bytes, |bytes| bytes.load(Ordering::Relaxed))
    }

    fn cannot_read(&self, reason: io::Error) -> SourceError {
        let input = self.name.clone();
        // What the system did not say came from the decoder.
        if self.compressed_bytes.is_some() && reason.raw_os_error().is_none() {
            let reason = match reason.kind() {
                ErrorKind::UnexpectedEof => "it ends in the middle".to_owned(),
                _ => reason.to_string(),
            };
            return SourceError::Compressed { input, reason };
        }
        SourceError::Io { input, action: "read", reason }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.returned.as_ref().map(|mark| Position {
            consumed_bytes: mark.bytes,
            prefix: mark.hash.value(),
            consumed_records: self.returned_records,
        })
    }

    /// The line that the next [`append`](Self::append) reads.
    pub(super) fn next_place(&self) -> Place {
        Place { input: self.name.clone(), unit: "line", number: self.read_lines + 1 }
    }

    /// Empties the buffer for the next record.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The lines of the record, with their line ends.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Appends the next line with its line end to the buffer; false at the end of the input.
    pub(super) fn append(&mut self) -> Result<bool, SourceError> {
        let held = self.buffer.len();
        let room = (LINE_BYTES_MAX + LINE_END_BYTES_MAX).saturating_sub(held);
        // One byte more than fits tells a line that is too long from one that just fits.
        let count = (&mut self.input)
            .take(room as u64 + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|reason| self.cannot_read(reason))?;
        if without_line_end(&self.buffer).len() > LINE_BYTES_MAX {
            return Err(SourceError::LineTooLong { place: self.next_place() });
        }
        if count == 0 {
            return Ok(false);
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&self.buffer[held..]);
        }
        self.last_byte = self.buffer.last().copied();
        if self.read_bytes == 0 && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        self.read_bytes += count as u64;
        self.read_lines += 1;
        Ok(true)
    }

    /// The next line without its line end, and where it stands; `None` at the end of the input.
    pub(super) fn next_line(&mut self) -> Result<Option<(Place, &[u8])>, SourceError> {
        let place = self.next_place();
        self.clear();
        Ok(self.append()?.then(|| (place, without_line_end(&self.buffer))))
    }

    /// Refuses to go on behind an error.
    pub(super) fn check_open(&self) -> Result<(), SourceError> {
        if self.refused {
            return Err(SourceError::AlreadyRefused { input: self.name.clone() });
        }
        Ok(())
    }

    /// Remembers how far the documents got.
    pub(super) fn settle(&mut self, result: &Result<Option<Document>, SourceError>) {
        match result {
            Ok(Some(_)) => {
                self.returned_records += 1;
                self.mark();
            }
            Ok(None) => {}
            Err(_) => self.refused = true,
        }
    }

    fn mark(&mut self) {
        self.returned = self.hash.clone().map(|hash| Mark { bytes: self.read_bytes, hash });
    }

    /// Reads on to `position` and says whether the bytes up to there are the ones that were consumed then, and a
    /// record may begin behind them. If not, this reader is of no more use.
    pub(super) fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        let Some(hash) = &mut self.hash else { return Ok(false) };
        while self.read_bytes < position.consumed_bytes {
            let chunk = match self.input.fill_buf() {
                Ok([]) => return Ok(false),
                Ok(chunk) => chunk,
                Err(reason) if reason.kind() == ErrorKind::Interrupted => continue,
                Err(reason) => return Err(self.cannot_read(reason)),
            };
            let left = position.consumed_bytes - self.read_bytes;
            let chunk = &chunk[..usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()))];
            hash.update(chunk);
            self.last_byte = chunk.last().copied();
            self.read_bytes += chunk.len() as u64;
            self.read_lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
            let count = chunk.len();
            self.input.consume(count);
        }
        if self.read_bytes != position.consumed_bytes || hash.value() != position.prefix {
            return Ok(false);
        }
        if self.last_byte != Some(b'\n') {
            // The last line had no line end then. It is complete only if nothing was added to it.
            self.clear();
            self.append()?;
            if !without_line_end(&self.buffer).is_empty() {
                return Ok(false);
            }
        }
        self.returned_records = position.consumed_records;
        self.mark();
        Ok(true)
    }
}

/// `line` without `\n`, `\r\n`, or the `\r` of a line end that was cut off.
pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `line` as text.
pub(super) fn as_text<'a>(line: &'a [u8], place: &Place) -> Result<&'a str, SourceError> {
    str::from_utf8(line).map_err(|error| SourceError::NotUtf8 {
        place: place.clone(),
        at: format!("byte {}", error.valid_up_to() + 1),
    })
}
