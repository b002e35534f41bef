//! Compressed lines: gzip and zstd, by their extension.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SourceError;

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// `.gz`, of any number of members.
    Gzip,
    /// `.zst`, of any number of frames.
    Zstd,
}

impl Compression {
    /// The compression that the last extension of `path` tells, and the path without it.
    pub(super) fn of_path(path: &Path) -> Option<(Self, PathBuf)> {
        let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
        let compression = match extension.as_str() {
            "gz" => Self::Gzip,
            "zst" => Self::Zstd,
            _ => return None,
        };
        Some((compression, path.with_extension("")))
    }

    /// The bytes that `input` holds, which come out a buffer at a time, however many they are.
    ///
    /// # Errors
    /// This build has no decoder.
    #[cfg(feature = "compression")]
    pub(super) fn decoder(
        self,
        input: CountedFile,
        name: &str,
    ) -> Result<Box<dyn BufRead + Send>, SourceError> {
        use super::open::READ_BYTES;
        let cannot = |reason: std::io::Error| SourceError::Compressed {
            input: name.to_owned(),
            reason: reason.to_string(),
        };
        let input = BufReader::with_capacity(READ_BYTES, input);
        let decoder: Box<dyn Read + Send> = match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(cannot)?),
        };
        Ok(Box::new(BufReader::with_capacity(READ_BYTES, decoder)))
    }

    #[cfg(not(feature = "compression"))]
    pub(super) fn decoder(self, _: CountedFile, name: &str) -> Result<Box<dyn BufRead + Send>, SourceError> {
        let what = match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        };
        Err(SourceError::FeatureMissing { input: name.to_owned(), what, feature: "compression" })
    }
}

/// A file that counts what is read of it, for progress.
pub(super) struct CountedFile {
    pub(super) file: File,
    pub(super) read_bytes: Arc<AtomicU64>,
}

impl Read for CountedFile {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(room)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
