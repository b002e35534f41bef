//! Bounded reads from a columnar file, and what it says when they fail.

use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::base::FingerprintStream;
use crate::base::limits::{
    COLUMNAR_CLAIM_BYTES_MIN, COLUMNAR_DECOMPRESSED_BYTES_MAX, COLUMNAR_EXPANSION_MAX,
};
use crate::sources::SourceError;

/// An open file of known length.
pub(super) struct FileBytes {
    pub(super) file: File,
    pub(super) name: String,
    /// The format, for messages: `Arrow` or `Parquet`.
    pub(super) format: &'static str,
    pub(super) length: u64,
}

impl FileBytes {
    /// The error that says that the file is damaged.
    pub(super) fn damaged(&self, reason: impl Display) -> SourceError {
        SourceError::Columnar { input: self.name.clone(), format: self.format, reason: reason.to_string() }
    }

    /// The `count` bytes from `offset` on. Allocates nothing unless the file has them.
    pub(super) fn read(&self, offset: u64, count: u64) -> Result<Vec<u8>, SourceError> {
        if offset.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(self.damaged(format!(
                "{count} bytes at offset {offset} are not there, it has {} bytes",
                self.length
            )));
        }
        let count = usize::try_from(count).map_err(|error| self.damaged(error))?;
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, offset).map_err(|reason| SourceError::Io {
            input: self.name.clone(),
            action: "read",
            reason,
        })?;
        Ok(bytes)
    }

    /// Checks that `stored` bytes may become `claimed` ones: a decoder allocates what is claimed before it finds out.
    pub(super) fn check_claim(
        &self,
        what: &'static str,
        stored: u64,
        claimed: u64,
    ) -> Result<(), SourceError> {
        if claimed > COLUMNAR_CLAIM_BYTES_MIN.max(stored.saturating_mul(COLUMNAR_EXPANSION_MAX)) {
            return Err(self.damaged(format!("{what} of {stored} bytes claims to hold {claimed} bytes")));
        }
        if claimed > COLUMNAR_DECOMPRESSED_BYTES_MAX {
            return Err(SourceError::ColumnarTooLarge { input: self.name.clone(), what, bytes: claimed });
        }
        Ok(())
    }
}

/// How far a file was read, and the hash of what was read of it.
#[derive(Clone, Default)]
pub(super) struct Consumed {
    pub(super) bytes: u64,
    pub(super) hash: FingerprintStream,
}

impl Consumed {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> FileBytes {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FileBytes { file, name: "a.arrow".to_owned(), format: "Arrow", length: bytes.len() as u64 }
    }

    #[test]
    fn only_bytes_that_are_there_are_read() {
        let file = file(b"abcdef");
        assert_eq!(file.read(2, 4).unwrap(), b"cdef");
        for (offset, count) in [(3, 4), (7, 0), (0, u64::MAX), (u64::MAX, 1)] {
            let error = file.read(offset, count).unwrap_err().to_string();
            assert!(error.contains("are not there, it has 6 bytes"), "{error}");
        }
    }

    #[test]
    fn claims_are_bounded_by_what_is_stored_and_in_all() {
        let file = file(b"");
        let check =
            |stored, claimed| file.check_claim("a page", stored, claimed).map_err(|error| error.to_string());
        assert_eq!(check(1, COLUMNAR_CLAIM_BYTES_MIN), Ok(()));
        assert!(
            check(1, COLUMNAR_CLAIM_BYTES_MIN + 1).unwrap_err().contains("a page of 1 bytes claims to hold")
        );
        assert_eq!(check(1024, 1024 * COLUMNAR_EXPANSION_MAX), Ok(()));
        assert!(check(1024, 1024 * COLUMNAR_EXPANSION_MAX + 1).is_err());
        let most = COLUMNAR_DECOMPRESSED_BYTES_MAX;
        assert_eq!(check(most, most), Ok(()));
        assert!(check(most, most + 1).unwrap_err().contains("at most 1073741824 are allowed"));
    }
}
