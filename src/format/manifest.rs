//! The manifest: a whole copy of the committed state for readers, and the CURRENT file that names it.

use std::collections::BTreeSet;

use thiserror::Error;

use super::catalog::{decode_body, encode_body};
use super::{
    ColumnKind, ColumnRecord, CommitRecord, DeletedRecord, FORMAT_VERSION, MIN_READER_VERSION, RecordError,
    SegmentRecord, SourceRecord, StoreRecord,
};
use crate::base::limits::{
    COLUMNS_MAX, EMBEDDING_WIDTH_MAX, FIELDS_MAX, MANIFEST_BYTES_MAX, SEGMENT_ROWS_MAX, SKETCH_WIDTH_MAX,
};
use crate::base::{
    ByteReader, CommitSeq, RowSet, RowSetError, SegmentId, check_name, checksum, put_u16, put_u32, put_u64,
};

/// First bytes of a manifest.
pub const MANIFEST_MAGIC: [u8; 8] = *b"ASCRMAN\0";
/// Bytes before the manifest's body.
pub const MANIFEST_HEADER_SIZE_BYTES: usize = 48;
/// Bytes of the CURRENT file.
pub const CURRENT_SIZE_BYTES: usize = 47;

const NAME_PREFIX: &str = "MANIFEST-";
const SEQUENCE_DIGITS: usize = 20;

/// The committed state of a store.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Manifest {
    /// What the whole store is.
    pub store: StoreRecord,
    /// Segments by ascending number.
    pub segments: Vec<SegmentRecord>,
    /// Deleted rows, only of segments that have any, by ascending number.
    pub deleted: Vec<DeletedRecord>,
    /// How far inputs were ingested, by path.
    pub sources: Vec<SourceRecord>,
    /// The commit that made this state.
    pub last: CommitRecord,
}

impl Manifest {
    /// Checks what every reader of a state relies on: numbers ascend strictly, deletes and columns belong to something
    /// that is there, and numbers to come are above those that are used.
    ///
    /// # Errors
    /// What contradicts.
    pub fn check(&self) -> Result<(), ManifestError> {
        let store = &self.store;
        let ascending = |name: &str, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(contradiction(format!("its {name} are not in strictly ascending order")))
            }
        };
        ascending("segments", self.segments.is_sorted_by(|left, right| left.id < right.id))?;
        ascending("deleted rows", self.deleted.is_sorted_by(|left, right| left.segment < right.segment))?;
        ascending("sources", self.sources.is_sorted_by(|left, right| left.path < right.path))?;
        ascending("columns", store.columns.is_sorted_by(|left, right| left.id < right.id))?;
        let mut places = BTreeSet::new();
        let column_is_known = |id| store.columns.iter().any(|column| column.id == id);
        for segment in &self.segments {
            let columns = &segment.columns;
            ascending("column files", columns.is_sorted_by(|left, right| left.column < right.column))?;
            if let Some(stray) = columns.iter().find(|file| !column_is_known(file.column)) {
                let reason =
                    format!("segment {} has column {}, which is not there", segment.id, stray.column);
                return Err(contradiction(reason));
            }
            let is_used = segment.place <= segment.id && segment.id < store.next_segment;
            if !is_used || segment.row_count > SEGMENT_ROWS_MAX {
                return Err(contradiction(format!("segment {} has an impossible number", segment.id)));
            }
            if !places.insert(segment.place) {
                let reason = format!("segment {} has the place of another", segment.id);
                return Err(contradiction(reason));
            }
        }
        let segment_is_known = |id| self.segments.binary_search_by_key(&id, |segment| segment.id).is_ok();
        if let Some(stray) = self.deleted.iter().find(|record| !segment_is_known(record.segment)) {
            return Err(contradiction(format!(
                "segment {} has deleted rows but is not there",
                stray.segment
            )));
        }
        self.check_schema()?;
        self.check_curvatures()?;
        let numbers = [store.next_segment.0, store.next_counter, store.next_curvature];
        let numbers_fit = numbers.iter().all(|number| *number < NUMBERS_MAX);
        let commits_fit = store.commit == self.last.commit && store.commit.0 < NUMBERS_MAX;
        if numbers_fit && commits_fit && store.next_column.0 < u32::MAX {
            return Ok(());
        }
        Err(contradiction("a number that is given out next is impossible".to_owned()))
    }

    /// The record of a segment's deleted rows, if it has any.
    pub fn deleted_record(&self, segment: SegmentId) -> Option<&DeletedRecord> {
        let position = self.deleted.binary_search_by_key(&segment, |record| record.segment).ok()?;
        self.deleted.get(position)
    }

    fn check_curvatures(&self) -> Result<(), ManifestError> {
        let store = &self.store;
        if !store.curvatures.is_sorted_by(|left, right| left.version < right.version) {
            return Err(contradiction("its curvatures are not in strictly ascending order".to_owned()));
        }
        let is_sketch = |id| {
            let of_kind = |column: &ColumnRecord| matches!(column.kind, ColumnKind::Sketch { .. });
            store.columns.iter().any(|column| column.id == id && of_kind(column))
        };
        for curvature in &store.curvatures {
            if curvature.version >= store.next_curvature || !is_sketch(curvature.column) {
                let version = curvature.version;
                let reason = format!("curvature {version} has an impossible number or no sketch column");
                return Err(contradiction(reason));
            }
        }
        Ok(())
    }

    fn check_schema(&self) -> Result<(), ManifestError> {
        let (fields, columns) = (&self.store.fields, &self.store.columns);
        if fields.len() > FIELDS_MAX || columns.len() > COLUMNS_MAX {
            let reason = format!("it has {} fields and {} columns", fields.len(), columns.len());
            return Err(contradiction(reason));
        }
        let names = fields.iter().map(|field| ("field", &field.name));
        let mut seen = BTreeSet::new();
        for (what, name) in names.chain(columns.iter().map(|column| ("column", &column.name))) {
            if check_name(name).is_err() || !seen.insert((what, name)) {
                let reason =
                    format!("a {what} has the name {name:?}, which it cannot have or another has too");
                return Err(contradiction(reason));
            }
        }
        for column in columns {
            let width_max = match column.kind {
                ColumnKind::Embedding(_) => EMBEDDING_WIDTH_MAX,
                ColumnKind::Sketch { .. } => SKETCH_WIDTH_MAX,
            };
            let fits = column.width > 0 && column.width as usize <= width_max;
            if !fits || column.id >= self.store.next_column {
                let (name, width) = (&column.name, column.width);
                let reason = format!("column {name:?} has {width} values a row or an impossible number");
                return Err(contradiction(reason));
            }
        }
        Ok(())
    }
}

/// Numbers that are given out one by one never come near this; above it, adding to one could overflow.
const NUMBERS_MAX: u64 = 1 << 62;

fn contradiction(reason: String) -> ManifestError {
    ManifestError::Shape { part: "the manifest", reason }
}

/// Deleted rows of a segment in a state: the decoded record, or the empty set where there is none.
///
/// # Errors
/// The record is no row set, or names rows that the segment does not have.
pub fn segment_deletes(state: &Manifest, segment: &SegmentRecord) -> Result<RowSet, RowSetError> {
    let Some(record) = state.deleted_record(segment.id) else { return Ok(RowSet::new()) };
    let bytes = &record.rows;
    let rows = RowSet::from_bytes(bytes)?;
    match rows.last() {
        Some(last) if last.0 >= segment.row_count => {
            let reason = format!("row {last} is in it, the segment has {}", segment.row_count);
            Err(RowSetError { length: bytes.len(), reason })
        }
        _ => Ok(rows),
    }
}

/// Bytes that are no manifest or no CURRENT file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The bytes begin otherwise, or are too few or too many.
    #[error("{part} is not a whole one: {reason}")]
    Shape {
        /// `the manifest` or `CURRENT`.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The bytes differ from their checksum.
    #[error("checksum of the {part} is {found:#018x}, expected {expected:#018x}")]
    Checksum {
        /// `manifest header`, `manifest body` or `CURRENT file`.
        part: &'static str,
        /// Checksum of the bytes.
        found: u64,
        /// Checksum recorded for them.
        expected: u64,
    },
    /// Written by a later version.
    #[error(
        "the manifest needs reader version {needed}, this build is version {FORMAT_VERSION}: use a newer ascribe"
    )]
    Version {
        /// Version that the manifest asks for.
        needed: u16,
    },
    /// The body cannot be decoded or encoded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// File name of the manifest of a commit.
///
/// ```
/// use ascribe::base::CommitSeq;
/// use ascribe::format::{manifest_name, manifest_sequence};
/// let name = manifest_name(CommitSeq(7));
/// assert_eq!(name, "MANIFEST-00000000000000000007");
/// assert_eq!(manifest_sequence(&name), Some(CommitSeq(7)));
/// ```
pub fn manifest_name(commit: CommitSeq) -> String {
    format!("{NAME_PREFIX}{:0SEQUENCE_DIGITS$}", commit.0)
}

/// The commit whose manifest has this file name.
pub fn manifest_sequence(name: &str) -> Option<CommitSeq> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let whole = digits.len() == SEQUENCE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| whole).map(CommitSeq)
}

/// The manifest's bytes: magic, version u16, least reader version u16, reserved u32, commit u64, body length u64,
/// body checksum u64, header checksum u64, body.
///
/// # Errors
/// The state is larger than a manifest may be.
pub fn encode_manifest(manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    let body = encode_body(manifest)?;
    let mut bytes = Vec::with_capacity(MANIFEST_HEADER_SIZE_BYTES + body.len());
    bytes.extend_from_slice(&MANIFEST_MAGIC);
    put_u16(&mut bytes, FORMAT_VERSION);
    put_u16(&mut bytes, MIN_READER_VERSION);
    put_u32(&mut bytes, 0);
    put_u64(&mut bytes, manifest.store.commit.0);
    put_u64(&mut bytes, body.len() as u64);
    put_u64(&mut bytes, checksum(&body));
    let sum = checksum(&bytes);
    put_u64(&mut bytes, sum);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The state that [`encode_manifest`] wrote, of the commit that the file name says.
///
/// # Errors
/// The bytes are damaged, of a later version, or of another commit.
pub fn decode_manifest(bytes: &[u8], commit: CommitSeq) -> Result<Manifest, ManifestError> {
    let shape = |reason: String| ManifestError::Shape { part: "the manifest", reason };
    let cut = |error: crate::base::BytesError| shape(error.to_string());
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(shape(format!(
            "it has {} bytes, at most {MANIFEST_BYTES_MAX} are possible",
            bytes.len()
        )));
    }
    let mut reader = ByteReader::new(bytes);
    if reader.take(MANIFEST_MAGIC.len()).map_err(cut)? != MANIFEST_MAGIC {
        return Err(shape("it does not begin with the manifest mark".to_owned()));
    }
    let _written_version = reader.u16().map_err(cut)?;
    let needed = reader.u16().map_err(cut)?;
    let _reserved = reader.u32().map_err(cut)?;
    let sequence = reader.u64().map_err(cut)?;
    let body_length = reader.u64().map_err(cut)?;
    let body_checksum = reader.u64().map_err(cut)?;
    let covered = checksum(&bytes[..reader.offset()]);
    let expected = reader.u64().map_err(cut)?;
    if covered != expected {
        return Err(ManifestError::Checksum { part: "manifest header", found: covered, expected });
    }
    if needed > FORMAT_VERSION {
        return Err(ManifestError::Version { needed });
    }
    if body_length != reader.remaining() as u64 {
        return Err(shape(format!("its body has {} bytes, expected {body_length}", reader.remaining())));
    }
    let body = &bytes[reader.offset()..];
    let found = checksum(body);
    if found != body_checksum {
        return Err(ManifestError::Checksum { part: "manifest body", found, expected: body_checksum });
    }
    let manifest: Manifest = decode_body(body)?;
    if sequence != commit.0 || manifest.store.commit != commit || manifest.last.commit != commit {
        return Err(shape(format!("it is of commit {sequence}, expected {commit}")));
    }
    manifest.check()?;
    Ok(manifest)
}

/// The CURRENT file's bytes: the manifest's file name, a space, the name's checksum as 16 hexadecimal digits, a line
/// feed.
pub fn encode_current(commit: CommitSeq) -> Vec<u8> {
    let name = manifest_name(commit);
    format!("{name} {:016x}\n", checksum(name.as_bytes())).into_bytes()
}

/// The commit that a CURRENT file names.
///
/// # Errors
/// The bytes are not exactly what [`encode_current`] writes for any commit.
pub fn decode_current(bytes: &[u8]) -> Result<CommitSeq, ManifestError> {
    let shape = |reason: &str| ManifestError::Shape { part: "CURRENT", reason: reason.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| shape("it is not text"))?;
    let (name, sum) = text
        .strip_suffix('\n')
        .and_then(|line| line.split_once(' '))
        .ok_or_else(|| shape("it is not one line of a name and a checksum"))?;
    let commit = manifest_sequence(name).ok_or_else(|| shape("it does not name a manifest"))?;
    let found = checksum(name.as_bytes());
    let expected = u64::from_str_radix(sum, 16).map_err(|_| shape("its checksum is not hexadecimal"))?;
    if found != expected {
        return Err(ManifestError::Checksum { part: "CURRENT file", found, expected });
    }
    if bytes != encode_current(commit) {
        return Err(shape("its spelling is not canonical"));
    }
    Ok(commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ColumnId;

    fn manifest() -> Manifest {
        let commit = CommitSeq(5);
        let last =
            CommitRecord { commit, unix_ms: 1, operation: "ingest".into(), rows_added: 2, rows_deleted: 0 };
        let store = StoreRecord {
            store: [7; 16],
            commit,
            next_segment: SegmentId(2),
            next_column: ColumnId(1),
            next_counter: 0,
            fields: Vec::new(),
            next_curvature: 1,
            curvatures: Vec::new(),
            columns: Vec::new(),
        };
        let file = crate::format::FileRecord { length: 1, root: 2 };
        let segments = vec![SegmentRecord {
            id: SegmentId(1),
            place: SegmentId(1),
            row_count: 3,
            rows: file,
            columns: Vec::new(),
        }];
        let deleted = vec![DeletedRecord { segment: SegmentId(1), rows: vec![1, 2] }];
        Manifest { store, segments, deleted, sources: Vec::new(), last }
    }

    #[test]
    fn every_flip_and_truncation_is_refused() {
        let bytes = encode_manifest(&manifest()).unwrap();
        assert_eq!(decode_manifest(&bytes, CommitSeq(5)), Ok(manifest()));
        assert!(decode_manifest(&bytes, CommitSeq(6)).is_err());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert!(decode_manifest(&damaged, CommitSeq(5)).is_err(), "byte {position}");
            assert!(decode_manifest(&bytes[..position], CommitSeq(5)).is_err(), "length {position}");
        }
        let current = encode_current(CommitSeq(5));
        assert_eq!(current.len(), CURRENT_SIZE_BYTES);
        assert_eq!(decode_current(&current), Ok(CommitSeq(5)));
        for position in 0..current.len() {
            for flip in [1, 0x20, 0x80] {
                let mut damaged = current.clone();
                damaged[position] ^= flip;
                assert!(decode_current(&damaged).is_err(), "byte {position}");
            }
            assert!(decode_current(&current[..position]).is_err(), "length {position}");
        }
    }
}
