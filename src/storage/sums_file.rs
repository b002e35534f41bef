//! Sums files: what the gradients of a segment's rows add up to, derived from a sketch column's file.
//!
//! Like an index file, a sums file stands beside its column file under a name that follows from it, says which column file
//! it was made from, and may be missing or removed at any time: then the rows are added up again. It is about all rows of
//! the segment, deleted or not, so that it stays right as long as the segment is there.

use super::file_error::FileError;
use super::index_file::{UNFINISHED, begin_unfinished, io_error};
use super::medium::Storage;
use super::sealed::SealedFile;
use crate::base::{ColumnId, SegmentId};
use crate::format::{
    FileKind, FileRecord, Section, SumsHeader, SumsKind, decode_origin, encode_origin, sums_section,
};

/// Name of the file of a segment's sums of a column in its storage.
pub fn sums_file_name(segment: SegmentId, column: ColumnId, kind: SumsKind) -> String {
    format!("segments/{segment}.{column}.{}.sums", kind.name())
}

/// Values turned into bytes at once.
const PIECE_VALUES: usize = 32 * 1024;

/// Writes the sums of all rows of the column file `origin`, member by member. What is left of an earlier attempt is
/// removed.
///
/// # Errors
/// The sums are not those that the header promises, or the file cannot be written.
pub fn write_sums_file(
    storage: &dyn Storage,
    header: &SumsHeader,
    origin: FileRecord,
    members: &[&[f64]],
) -> Result<(), FileError> {
    let name = sums_file_name(header.segment, header.column, header.kind);
    let unfinished = format!("{name}{UNFINISHED}");
    let is_whole = |sums: &&[f64]| Some(sums.len() as u64) == header.values_a_member();
    let is_promised = members.len() as u64 == u64::from(header.members) && members.iter().all(is_whole);
    if !is_promised {
        let lengths: Vec<usize> = members.iter().map(|sums| sums.len()).collect();
        let reason = format!("its members have {lengths:?} sums");
        return Err(FileError::Content { path: storage.describe(&unfinished), reason });
    }
    let mut writer = begin_unfinished(storage, &unfinished, &header.to_header())?;
    writer.section(sums_section::ORIGIN, &encode_origin(origin))?;
    writer.section(sums_section::HEAD, &header.encode_head())?;
    writer.begin_section(sums_section::SUMS)?;
    let mut bytes = Vec::new();
    for piece in members.iter().flat_map(|sums| sums.chunks(PIECE_VALUES)) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
        writer.write(&bytes)?;
    }
    writer.finish()?;
    storage.rename(&unfinished, &name).map_err(io_error(storage, "rename", &unfinished))
}

/// A sums file open for reading.
#[derive(Debug)]
pub struct SumsFile {
    file: SealedFile,
    sums: Section,
    members: u32,
}

impl SumsFile {
    /// Opens the sums of a column file; `None` if there are none.
    ///
    /// # Errors
    /// The file is damaged, or was made from another column file.
    ///
    /// # Complexity
    /// Reads header, footer and one block, however large the sums are.
    pub fn open(
        storage: &dyn Storage,
        header: &SumsHeader,
        origin: FileRecord,
    ) -> Result<Option<Self>, FileError> {
        let name = sums_file_name(header.segment, header.column, header.kind);
        let file = match SealedFile::open_derived(storage, &name, FileKind::Sums) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let made_from = decode_origin(file.whole(sums_section::ORIGIN)?);
        if *file.header() != header.to_header() || made_from != Some(origin) {
            return Err(file.content_error("it was made from another column file"));
        }
        if !header.has_head(file.whole(sums_section::HEAD)?) {
            return Err(file.content_error("it holds other sums"));
        }
        let length = header.sums_length().ok_or_else(|| file.content_error("its sums are too many"))?;
        let sums = file.section_of_length(sums_section::SUMS, length)?;
        Ok(Some(Self { sums, members: header.members, file }))
    }

    /// The sealed file underneath.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// The sums of a member.
    ///
    /// # Errors
    /// Bytes are damaged, a sum is not finite, or there is no such member.
    ///
    /// # Complexity
    /// Reads the sums of the member.
    pub fn member(&self, member: u32) -> Result<Vec<f64>, FileError> {
        let length = self.sums.length / u64::from(self.members.max(1));
        let first = u64::from(member).saturating_mul(length);
        let bytes = self.file.read(self.sums, first..first.saturating_add(length))?;
        let values: Vec<f64> =
            bytes.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value)).collect();
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => {
                Err(self.file.content_error(format!("sum {place} of member {member} is not finite")))
            }
            None => Ok(values),
        }
    }

    /// Checks that all sums are finite, and so every block of them.
    ///
    /// # Errors
    /// The first that is wrong.
    ///
    /// # Complexity
    /// Reads the whole file.
    pub fn verify(&self) -> Result<(), FileError> {
        (0..self.members).try_for_each(|member| self.member(member).map(drop))
    }
}
