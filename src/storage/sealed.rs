//! Sealed files: written front to back once, then read by verified blocks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::aligned_writer::AlignedWriter;
use super::checked_blocks::CheckedBlocks;
use super::file_error::FileError;
use super::medium::{FileBytes, Storage};
use crate::base::checksum;
use crate::base::limits::{BLOCK_SIZE_BYTES, SECTION_ALIGNMENT_BYTES, SECTIONS_MAX};
use crate::format::{
    ContainerError, FOOTER_SIZE_BYTES, FileKind, FileRecord, Footer, HEADER_SIZE_BYTES, Header, Section,
    block_count, block_range,
};

const BLOCK: usize = BLOCK_SIZE_BYTES as usize;

/// Writes a sealed file.
pub struct SealedWriter {
    writer: AlignedWriter,
    path: String,
    /// Bytes of the block that is not full yet.
    pending: Vec<u8>,
    /// Offset in the file of the next byte.
    offset: u64,
    table: Vec<u8>,
    sections: Vec<Section>,
    header_checksum: u64,
}

impl fmt::Debug for SealedWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedWriter({}, {} bytes)", self.path, self.offset)
    }
}

impl SealedWriter {
    /// Creates the file `name` and writes its header.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn create(storage: &dyn Storage, name: &str, header: &Header) -> Result<Self, FileError> {
        let path = storage.describe(name);
        let io = |operation| {
            let path = path.clone();
            move |source| FileError::Io { operation, path, source }
        };
        let mut writer = AlignedWriter::new(storage.create(name).map_err(io("create"))?);
        let bytes = header.encode();
        writer.write(&bytes).map_err(io("write"))?;
        let mut header_checksum = [0; 8];
        header_checksum.copy_from_slice(&bytes[HEADER_SIZE_BYTES - 8..]);
        Ok(Self {
            writer,
            path,
            pending: Vec::with_capacity(BLOCK),
            offset: HEADER_SIZE_BYTES as u64,
            table: Vec::new(),
            sections: Vec::new(),
            header_checksum: u64::from_le_bytes(header_checksum),
        })
    }

    /// Ends the section before and begins the next.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_section(&mut self, tag: u32) -> Result<(), FileError> {
        if self.sections.len() == SECTIONS_MAX {
            let reason = format!("it would have more than {SECTIONS_MAX} sections");
            return Err(FileError::Content { path: self.path.clone(), reason });
        }
        self.pad()?;
        self.sections.push(Section { tag, offset: self.offset, length: 0 });
        Ok(())
    }

    /// Appends to the section begun last.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if let Some(section) = self.sections.last_mut() {
            section.length += bytes.len() as u64;
        }
        self.append(bytes)
    }

    /// A whole section at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn section(&mut self, tag: u32, bytes: &[u8]) -> Result<(), FileError> {
        self.begin_section(tag)?;
        self.write(bytes)
    }

    /// Writes block checksums and footer and makes the bytes durable. The name becomes durable with its folder.
    ///
    /// # Errors
    /// The file cannot be written or synced; it must not be used then.
    pub fn finish(mut self) -> Result<FileRecord, FileError> {
        self.pad()?;
        let data_end = self.offset;
        if !self.pending.is_empty() {
            let block = std::mem::take(&mut self.pending);
            self.put_blocks(&block)?;
        }
        let footer = Footer {
            sections: std::mem::take(&mut self.sections),
            data_end,
            table_checksum: checksum(&self.table),
            header_checksum: self.header_checksum,
        };
        let (bytes, root) = footer.encode();
        let mut tail = std::mem::take(&mut self.table);
        tail.extend_from_slice(&bytes);
        self.put(&tail)?;
        self.writer.sync().map_err(|source| FileError::Io {
            operation: "sync",
            path: self.path.clone(),
            source,
        })?;
        Ok(FileRecord { length: footer.file_length(), root })
    }

    fn pad(&mut self) -> Result<(), FileError> {
        const ZEROS: [u8; SECTION_ALIGNMENT_BYTES as usize] = [0; SECTION_ALIGNMENT_BYTES as usize];
        let missing = self.offset.next_multiple_of(SECTION_ALIGNMENT_BYTES) - self.offset;
        self.append(&ZEROS[..missing as usize])
    }

    /// Whole blocks go to the medium straight from the caller's bytes; only what is left over is copied.
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        self.offset += bytes.len() as u64;
        if !self.pending.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(first);
            bytes = rest;
            if self.pending.len() == BLOCK {
                let mut block = std::mem::take(&mut self.pending);
                self.put_blocks(&block)?;
                block.clear();
                self.pending = block;
            }
        }
        let whole = bytes.len() / BLOCK * BLOCK;
        if whole > 0 {
            self.put_blocks(&bytes[..whole])?;
        }
        self.pending.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    fn put_blocks(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        for block in bytes.chunks(BLOCK) {
            self.table.extend_from_slice(&checksum(block).to_le_bytes());
        }
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let path = &self.path;
        self.writer.write(bytes).map_err(|source| FileError::Io {
            operation: "write",
            path: path.clone(),
            source,
        })
    }
}

/// A sealed file open for reading. Header and footer are checked when it is opened, a block when it is first read.
pub struct SealedFile {
    path: String,
    bytes: Arc<dyn FileBytes>,
    header: Header,
    footer: Footer,
    table_is_verified: AtomicBool,
    /// Blocks of which the checksum was right.
    verified: CheckedBlocks,
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedFile({})", self.path)
    }
}

impl SealedFile {
    /// Opens the file `name`, which the manifest describes as `expected`.
    ///
    /// # Errors
    /// It is missing, cannot be read, or is not the file that the manifest names.
    ///
    /// # Complexity
    /// Reads header and footer, 576 bytes, whatever the file's length.
    pub fn open(
        storage: &dyn Storage,
        name: &str,
        kind: FileKind,
        expected: FileRecord,
    ) -> Result<Self, FileError> {
        Self::open_as(storage, name, kind, Some(expected))
    }

    /// [`open`](Self::open) for a file that no manifest names, because it can be made again: it only has to agree with
    /// itself.
    ///
    /// # Errors
    /// It is missing, cannot be read, or contradicts itself.
    pub fn open_derived(storage: &dyn Storage, name: &str, kind: FileKind) -> Result<Self, FileError> {
        Self::open_as(storage, name, kind, None)
    }

    fn open_as(
        storage: &dyn Storage,
        name: &str,
        kind: FileKind,
        expected: Option<FileRecord>,
    ) -> Result<Self, FileError> {
        let path = storage.describe(name);
        let io = |operation| {
            let path = path.clone();
            move |source| FileError::Io { operation, path, source }
        };
        let damaged = |source| FileError::Damaged { path: path.clone(), source };
        let bytes = storage.open(name).map_err(io("open"))?;
        let length = bytes.len();
        let minimum = (HEADER_SIZE_BYTES + FOOTER_SIZE_BYTES) as u64;
        if length < minimum {
            return Err(damaged(ContainerError::TooShort { length, minimum }));
        }
        let unlike =
            |what, found, expected| FileError::NotAsRecorded { path: path.clone(), what, found, expected };
        if let Some(expected) = expected.filter(|expected| length != expected.length) {
            return Err(unlike("length", length, expected.length));
        }
        let mut header = [0; HEADER_SIZE_BYTES];
        bytes.read_at(0, &mut header).map_err(io("read"))?;
        let mut footer = [0; FOOTER_SIZE_BYTES];
        bytes.read_at(length - FOOTER_SIZE_BYTES as u64, &mut footer).map_err(io("read"))?;
        let mut header_checksum = [0; 8];
        header_checksum.copy_from_slice(&header[HEADER_SIZE_BYTES - 8..]);
        let header = Header::decode(&header, kind).map_err(damaged)?;
        let (footer, root) =
            Footer::decode(&footer, length, u64::from_le_bytes(header_checksum)).map_err(damaged)?;
        if let Some(expected) = expected.filter(|expected| root != expected.root) {
            return Err(unlike("root checksum", root, expected.root));
        }
        let verified = CheckedBlocks::new(block_count(footer.data_end));
        Ok(Self { path, bytes, header, footer, table_is_verified: AtomicBool::new(false), verified })
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.footer.file_length()
    }

    /// Heap bytes held for the content; a mapped file holds none.
    pub fn heap_bytes(&self) -> u64 {
        self.bytes.heap_bytes()
    }

    /// Whether the content is a memory map.
    pub fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }

    /// The section of this tag, if there is one.
    pub fn section(&self, tag: u32) -> Option<Section> {
        self.footer.section(tag)
    }

    /// All bytes of the section of this tag, checked as by [`read`](Self::read).
    ///
    /// # Errors
    /// It is missing, a checksum is wrong, or the medium cannot be read.
    pub fn whole(&self, tag: u32) -> Result<&[u8], FileError> {
        let section =
            self.section(tag).ok_or_else(|| self.content_error(format!("section {tag} is missing")))?;
        self.read(section, 0..section.length)
    }

    /// The section of this tag, which must have this length.
    ///
    /// # Errors
    /// It is missing or has another length.
    pub fn section_of_length(&self, tag: u32, length: u64) -> Result<Section, FileError> {
        self.footer.section_of_length(tag, length).map_err(|source| self.damaged(source))
    }

    /// An error about this file's content.
    pub fn content_error(&self, reason: impl Into<String>) -> FileError {
        FileError::Content { path: self.path.clone(), reason: reason.into() }
    }

    /// `range` of `section`, checked against its block checksums at the first touch.
    ///
    /// # Errors
    /// The range leaves the section, a checksum is wrong, or the medium cannot be read.
    pub fn read(&self, section: Section, range: Range<u64>) -> Result<&[u8], FileError> {
        if range.start > range.end || range.end > section.length {
            return Err(self.content_error(format!(
                "bytes {}..{} of section {} were asked for, it has {}",
                range.start, range.end, section.tag, section.length
            )));
        }
        let (start, end) = (section.offset + range.start, section.offset + range.end);
        if start == end {
            return Ok(&[]);
        }
        let all = self.all()?;
        self.touch(all, start..end)?;
        Ok(&all[start as usize..end as usize])
    }

    /// The bytes of `section` if all of its blocks were checked.
    pub(super) fn checked(&self, section: Section) -> Option<&[u8]> {
        let end = section.offset + section.length;
        let (first, last) = blocks_of(&(section.offset..end))?;
        let all = if self.verified.has_range(first, last) { self.all().ok()? } else { return None };
        all.get(section.offset as usize..end as usize)
    }

    /// The bytes of `section`, of which those of `rows`, all in the section, are checked.
    pub(super) fn touch_rows(
        &self,
        section: Section,
        row_bytes: u64,
        rows: &[u32],
    ) -> Result<&[u8], FileError> {
        let all = self.all()?;
        for &row in rows {
            let start = section.offset + u64::from(row) * row_bytes;
            self.touch(all, start..start + row_bytes)?;
        }
        Ok(&all[section.offset as usize..(section.offset + section.length) as usize])
    }

    /// The bytes of `range` of `section`, unchecked: only to ask memory for them. None if they are not there.
    pub(super) fn place(&self, section: Section, range: Range<u64>) -> &[u8] {
        let all = self.bytes.bytes().unwrap_or_default();
        let range =
            section.offset + range.start.min(section.length)..section.offset + range.end.min(section.length);
        all.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// Checks the blocks of a range of the file, unless they were checked before.
    #[inline]
    fn touch(&self, all: &[u8], range: Range<u64>) -> Result<(), FileError> {
        let Some((first, last)) = blocks_of(&range) else { return Ok(()) };
        for block in first..=last {
            if !self.verified.has(block) {
                self.verify_block(all, block)?;
                self.verified.insert(block);
            }
        }
        Ok(())
    }

    /// A whole section as shared bytes that keep the file open.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn share(self: &Arc<Self>, section: Section) -> Result<Bytes, FileError> {
        struct Owner(Arc<SealedFile>, Range<usize>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                // The bytes were there when the section was verified; `bytes()` cannot fail after it succeeded.
                self.0.all().map_or(&[], |all| &all[self.1.clone()])
            }
        }
        self.read(section, 0..section.length)?;
        let range = section.range();
        Ok(Bytes::from_owner(Owner(Arc::clone(self), range.start as usize..range.end as usize)))
    }

    /// Checks every block, whether it was checked before or not.
    ///
    /// # Errors
    /// The first checksum that is wrong.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn verify(&self) -> Result<(), FileError> {
        let all = self.all()?;
        self.table_is_verified.store(false, Ordering::Relaxed);
        (0..block_count(self.footer.data_end)).try_for_each(|block| self.verify_block(all, block))
    }

    #[inline]
    fn all(&self) -> Result<&[u8], FileError> {
        let all = self.bytes.bytes().map_err(|source| FileError::Io {
            operation: "read",
            path: self.path.clone(),
            source,
        })?;
        if all.len() as u64 == self.length() {
            Ok(all)
        } else {
            Err(FileError::NotAsRecorded {
                path: self.path.clone(),
                what: "length",
                found: all.len() as u64,
                expected: self.length(),
            })
        }
    }

    fn verify_block(&self, all: &[u8], block: u64) -> Result<(), FileError> {
        let data_end = self.footer.data_end;
        let table_end = data_end + 8 * block_count(data_end);
        let table = &all[data_end as usize..table_end as usize];
        if !self.table_is_verified.load(Ordering::Relaxed) {
            let found = checksum(table);
            self.compare("the block checksums".to_owned(), found, self.footer.table_checksum, data_end)?;
            self.table_is_verified.store(true, Ordering::Relaxed);
        }
        let range = block_range(block, data_end);
        let found = checksum(&all[range.start as usize..range.end as usize]);
        let mut expected = [0; 8];
        expected.copy_from_slice(&table[8 * block as usize..8 * block as usize + 8]);
        self.compare(format!("block {block}"), found, u64::from_le_bytes(expected), range.start)
    }

    fn compare(&self, part: String, found: u64, expected: u64, offset: u64) -> Result<(), FileError> {
        if found == expected {
            return Ok(());
        }
        Err(self.damaged(ContainerError::Checksum { part, found, expected, offset }))
    }

    fn damaged(&self, source: ContainerError) -> FileError {
        FileError::Damaged { path: self.path.clone(), source }
    }
}

/// The first and the last block of a range of the file; `None` of an empty one.
#[inline]
fn blocks_of(range: &Range<u64>) -> Option<(u64, u64)> {
    let (header, block) = (HEADER_SIZE_BYTES as u64, u64::from(BLOCK_SIZE_BYTES));
    let last = range.end.checked_sub(1 + header)? / block;
    (range.start < range.end).then(|| ((range.start - header) / block, last))
}
