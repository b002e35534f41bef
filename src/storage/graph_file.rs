//! Graph files: links between the rows of a column file, derived from its index file.
//!
//! Like an index file, a graph file stands beside its column file under a name that follows from it, says which column file
//! it was made from, and may be missing or removed at any time. It is a file of its own, so that the codes serve as soon as
//! they are there, and neither is written again for the other.

use super::file_error::FileError;
use super::index_file::{UNFINISHED, begin_unfinished, io_error};
use super::medium::Storage;
use super::sealed::{SealedFile, SealedWriter};
use super::section_rows::SectionRows;
use crate::base::{ColumnId, SegmentId};
use crate::format::{
    FileKind, FileRecord, GRAPH_NO_ROW, GraphHead, IndexHeader, Section, decode_origin, encode_origin,
    graph_header, graph_section,
};

/// Name of the graph file of a segment's column in its storage.
pub fn graph_file_name(segment: SegmentId, column: ColumnId) -> String {
    format!("segments/{segment}.{column}.graph")
}

/// What a graph file holds.
#[derive(Clone, Copy, Debug)]
pub struct GraphContent<'a> {
    /// How it was made, where a walk begins, what recall was measured.
    pub head: &'a GraphHead,
    /// `base_links` places a row.
    pub links: &'a [u32],
    /// Level by level its rows, then for each `upper_links` places.
    pub upper: &'a [u32],
    /// Rows that every walk scores, ascending.
    pub scanned: &'a [u32],
}

/// Writes the graph of the column file `origin`. What is left of an earlier attempt is removed.
///
/// # Errors
/// The content is not what its head promises, or the file cannot be written.
pub fn write_graph_file(
    storage: &dyn Storage,
    column: &IndexHeader,
    origin: FileRecord,
    content: &GraphContent<'_>,
) -> Result<(), FileError> {
    let name = graph_file_name(column.segment, column.column);
    let unfinished = format!("{name}{UNFINISHED}");
    let head = content.head;
    let expected = [head.links_length(column.row_count), head.upper_length(), head.scanned_length()];
    let given = [content.links, content.upper, content.scanned].map(|numbers| 4 * numbers.len() as u64);
    let head = head.encode();
    if given != expected || GraphHead::decode(&head, column.row_count).as_ref() != Ok(content.head) {
        let reason = format!("it has {given:?} bytes of links, its head promises {expected:?}");
        return Err(FileError::Content { path: storage.describe(&unfinished), reason });
    }
    let mut writer = begin_unfinished(storage, &unfinished, &graph_header(column))?;
    writer.section(graph_section::ORIGIN, &encode_origin(origin))?;
    writer.section(graph_section::HEAD, &head)?;
    write_numbers(&mut writer, graph_section::LINKS, content.links)?;
    write_numbers(&mut writer, graph_section::UPPER, content.upper)?;
    write_numbers(&mut writer, graph_section::SCANNED, content.scanned)?;
    writer.finish()?;
    storage.rename(&unfinished, &name).map_err(io_error(storage, "rename", &unfinished))
}

/// Numbers turned into bytes at once.
const PIECE_NUMBERS: usize = 64 * 1024;

fn write_numbers(writer: &mut SealedWriter, tag: u32, numbers: &[u32]) -> Result<(), FileError> {
    writer.begin_section(tag)?;
    let mut bytes = Vec::new();
    for piece in numbers.chunks(PIECE_NUMBERS) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|number| number.to_le_bytes()));
        writer.write(&bytes)?;
    }
    Ok(())
}

/// A graph file open for reading.
#[derive(Debug)]
pub struct GraphFile {
    file: SealedFile,
    head: GraphHead,
    row_count: u32,
    links: Section,
    upper: Section,
    scanned: Section,
}

impl GraphFile {
    /// Opens the graph of a column file; `None` if there is none.
    ///
    /// # Errors
    /// It is damaged, or was made from another column file.
    ///
    /// # Complexity
    /// Reads header, footer and one block, whatever the number of rows.
    pub fn open(
        storage: &dyn Storage,
        column: &IndexHeader,
        origin: FileRecord,
    ) -> Result<Option<Self>, FileError> {
        let name = graph_file_name(column.segment, column.column);
        let file = match SealedFile::open_derived(storage, &name, FileKind::Graph) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let whole = |tag, what: &str| {
            let missing = || file.content_error(format!("it does not say {what}"));
            let section = file.section(tag).ok_or_else(missing)?;
            file.read(section, 0..section.length)
        };
        let made_from = decode_origin(whole(graph_section::ORIGIN, "what it was made from")?);
        if *file.header() != graph_header(column) || made_from != Some(origin) {
            return Err(file.content_error("it was made from another column file"));
        }
        let head = GraphHead::decode(whole(graph_section::HEAD, "how it was made")?, column.row_count)
            .map_err(|error| file.content_error(error.to_string()))?;
        let links = head.links_length(column.row_count);
        Ok(Some(Self {
            links: file.section_of_length(graph_section::LINKS, links)?,
            upper: file.section_of_length(graph_section::UPPER, head.upper_length())?,
            scanned: file.section_of_length(graph_section::SCANNED, head.scanned_length())?,
            head,
            row_count: column.row_count,
            file,
        }))
    }

    /// How the graph was made, where a walk begins, what recall was measured.
    pub fn head(&self) -> &GraphHead {
        &self.head
    }

    /// The sealed file underneath.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// Rows of the column.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// The links, to be read here and there.
    pub fn links(&self) -> GraphLinks<'_> {
        let base = SectionRows::new(&self.file, self.links, 4 * u64::from(self.head.base_links));
        GraphLinks { file: self, base }
    }

    /// Appends the rows that every walk scores.
    ///
    /// # Errors
    /// Bytes are damaged.
    pub fn scanned(&self, rows: &mut Vec<u32>) -> Result<(), FileError> {
        let bytes = self.file.read(self.scanned, 0..self.scanned.length)?;
        rows.extend(bytes.as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row)));
        Ok(())
    }
}

/// The links of a graph file.
#[derive(Clone, Copy, Debug)]
pub struct GraphLinks<'a> {
    file: &'a GraphFile,
    base: SectionRows<'a>,
}

impl<'a> GraphLinks<'a> {
    /// Appends the rows that `row` links to on `level`, 0 the base; none if the row is not of the level. Whether those
    /// rows exist is for the caller to see.
    ///
    /// # Errors
    /// There is no such row, a link above the base leads to no row of its level, or bytes are damaged.
    ///
    /// # Complexity
    /// O(links); above the base also O(log rows of the level).
    #[inline]
    pub fn append(&self, level: u32, row: u32, links: &mut Vec<u32>) -> Result<(), FileError> {
        match level.checked_sub(1) {
            None => extend(links, self.base.row(row)?),
            Some(above) => self.above(above as usize, row, links)?,
        }
        Ok(())
    }

    fn above(&self, above: usize, row: u32, links: &mut Vec<u32>) -> Result<(), FileError> {
        let GraphFile { file, head, upper, .. } = self.file;
        let Some(&count) = head.level_rows.get(above) else { return Ok(()) };
        let start = head.level_start(above);
        let rows = file.read(*upper, start..start + 4 * u64::from(count))?.as_chunks::<4>().0;
        let Ok(place) = rows.binary_search_by_key(&row, |bytes| u32::from_le_bytes(*bytes)) else {
            return Ok(());
        };
        let bytes = 4 * u64::from(head.upper_links);
        let start = start + 4 * u64::from(count) + place as u64 * bytes;
        let first = links.len();
        extend(links, file.read(*upper, start..start + bytes)?);
        for link in &mut links[first..] {
            let row = rows.get(*link as usize).ok_or_else(|| {
                let level = above + 1;
                file.content_error(format!("a link of level {level} leads to place {link} of {count}"))
            })?;
            *link = u32::from_le_bytes(*row);
        }
        Ok(())
    }

    /// Where the links of a row on the base level stand, unchecked: only to ask memory for them.
    #[inline]
    pub fn place(&self, row: u32) -> &'a [u8] {
        self.base.place(row)
    }
}

fn extend(links: &mut Vec<u32>, bytes: &[u8]) {
    let numbers = bytes.as_chunks::<4>().0;
    // All of them looked at, and of a known number, so that they are counted and taken over many at once. Where one that is
    // none stands between others, it is taken for a link, to a row that there is none of.
    let count = numbers.iter().filter(|link| u32::from_le_bytes(**link) != GRAPH_NO_ROW).count();
    links.extend(numbers[..count].iter().map(|link| u32::from_le_bytes(*link)));
}
