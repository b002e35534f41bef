//! The manifest: a whole copy of the committed state for readers, and the CURRENT file that names it.

use thiserror::Error;

use super::catalog::{decode_body, encode_body};
use super::consistency;
use super::{
    CommitRecord, ConsistencyError, DeletedRecord, FORMAT_VERSION, MIN_READER_VERSION, RecordError,
    SegmentRecord, SourceRecord, StoreRecord,
};
use crate::base::limits::MANIFEST_BYTES_MAX;
use crate::base::{ByteReader, CommitSeq, checksum, put_u16, put_u32, put_u64};

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
    /// Checks what can be told without the files: that names, numbers and widths are within their limits and given
    /// once, and that lists that are searched are sorted.
    ///
    /// # Errors
    /// The first thing that no commit writes.
    ///
    /// # Complexity
    /// O(records)
    ///
    /// ```
    /// use ascribe::base::{ColumnId, CommitSeq, SegmentId};
    /// use ascribe::format::{CommitRecord, Manifest, StoreRecord};
    /// let commit = CommitSeq(1);
    /// let store = StoreRecord {
    ///     store: [0; 16], commit, next_segment: SegmentId(1), next_column: ColumnId(1), next_counter: 1,
    ///     fields: Vec::new(), columns: Vec::new(),
    /// };
    /// let last =
    ///     CommitRecord { commit, unix_ms: 0, operation: "create".into(), rows_added: 0, rows_deleted: 0 };
    /// let mut state =
    ///     Manifest { store, segments: Vec::new(), deleted: Vec::new(), sources: Vec::new(), last };
    /// assert_eq!(state.check_consistency(), Ok(()));
    /// state.store.next_segment = SegmentId(u64::MAX);
    /// assert!(state.check_consistency().is_err());
    /// ```
    pub fn check_consistency(&self) -> Result<(), ConsistencyError> {
        consistency::check(&self.store, &self.segments, &self.deleted, &self.sources)
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
    /// Checksums are right, but the state is none that anybody could have committed.
    #[error(transparent)]
    Consistency(#[from] ConsistencyError),
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
/// The bytes are damaged, of a later version, of another commit, or contradict themselves.
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
    manifest.check_consistency()?;
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
    use crate::base::{ColumnId, SegmentId};

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
            columns: Vec::new(),
        };
        let deleted = vec![DeletedRecord { segment: SegmentId(1), rows: vec![1, 2] }];
        Manifest { store, segments: Vec::new(), deleted, sources: Vec::new(), last }
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
