//! Compressed lines: gzip and zstd, by their extension.

use std::fs::File;
use std::io::{BufRead, Read};
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
        use std::io::BufReader;

        use super::lines::READ_BYTES;

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

#[cfg(test)]
#[cfg(feature = "compression")]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::base::limits::LINE_BYTES_MAX;
    use crate::sources::sample_file::SampleFile;
    use crate::sources::{FieldNames, InputFormat, Opened, Position, Resumed};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 3).unwrap()
    }

    type Compress = fn(&[u8]) -> Vec<u8>;
    const BOTH: [(&str, Compress); 2] = [("a.jsonl.gz", gzip), ("a.jsonl.ZST", zstd)];

    fn open(file: &SampleFile, resume: Option<&Position>) -> Opened {
        file.open(&FieldNames::default(), resume)
    }

    /// The texts up to the end or the first refusal.
    fn texts(opened: &mut Opened) -> (Vec<String>, Option<SourceError>) {
        let mut texts = Vec::new();
        loop {
            match opened.source.next() {
                Ok(Some(document)) => texts.push(document.text.unwrap_or_default()),
                Ok(None) => return (texts, None),
                Err(error) => return (texts, Some(error)),
            }
        }
    }

    const LINES: &str = "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n";

    #[test]
    fn members_and_frames_are_read_one_after_the_other() {
        for (name, compress) in BOTH {
            let (first, second) = LINES.split_at(5);
            let bytes = [compress(first.as_bytes()), compress(b""), compress(second.as_bytes())].concat();
            let case = SampleFile::new(name, &bytes);
            let mut opened = open(&case, None);
            assert_eq!(texts(&mut opened).0, ["a", "b"], "{name}");
            assert_eq!(opened.source.total_bytes(), Some(bytes.len() as u64));
            assert_eq!(opened.source.consumed_bytes(), bytes.len() as u64, "{name}");
            assert_eq!(opened.source.position().unwrap().consumed_bytes, LINES.len() as u64, "{name}");
        }
        let (_, inner) = Compression::of_path("data/a.csv.gz".as_ref()).unwrap();
        assert_eq!(InputFormat::of_path(&inner).unwrap(), InputFormat::Csv);
    }

    #[test]
    fn a_file_goes_on_behind_what_was_read_even_if_it_has_grown() {
        for (name, compress) in BOTH {
            let case = SampleFile::new(name, &compress(LINES.as_bytes()));
            for (split, rest) in [(1, &["b", "c"][..]), (2, &["c"])] {
                case.write(&compress(LINES.as_bytes()));
                let mut opened = open(&case, None);
                for _ in 0..split {
                    opened.source.next().unwrap().unwrap();
                }
                let position = opened.source.position().unwrap();
                case.write(&[compress(LINES.as_bytes()), compress(b"{\"text\":\"c\"}")].concat());
                let mut again = open(&case, Some(&position));
                assert_eq!(again.resumed, Resumed::Continued { records: split }, "{name}");
                assert_eq!(texts(&mut again).0, rest, "{name}");
                case.write(&compress(LINES.replace('a', "x").as_bytes()));
                let mut changed = open(&case, Some(&position));
                assert_eq!(changed.resumed, Resumed::Changed, "{name}");
                assert_eq!(texts(&mut changed).0, ["x", "b"], "{name}");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused() {
        for (name, compress) in BOTH {
            let bytes = compress(LINES.as_bytes());
            let case = SampleFile::new(name, &bytes);
            for length in 1..bytes.len() {
                case.write(&bytes[..length]);
                let (texts, error) = texts(&mut open(&case, None));
                let error = error.unwrap_or_else(|| panic!("{name} cut at {length} was read")).to_string();
                assert!(
                    error.contains("cannot decompress") && error.contains("ends in the middle"),
                    "{error}"
                );
                assert!(texts.len() <= 2);
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        for (name, compress) in BOTH {
            let bytes = compress(LINES.as_bytes());
            let case = SampleFile::new(name, &bytes);
            let mut refused = 0;
            for offset in 0..bytes.len() {
                for change in [0x01, 0x10, 0x80, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[offset] ^= change;
                    case.write(&bytes);
                    refused += usize::from(texts(&mut open(&case, None)).1.is_some());
                }
            }
            assert!(refused > bytes.len(), "{name}: {refused} changes were noticed");
        }
    }

    #[test]
    fn a_small_file_that_holds_one_endless_line_is_refused_at_the_limit_of_lines() {
        let spaces = vec![b' '; LINE_BYTES_MAX + 1];
        for (name, compress) in BOTH {
            let bytes = compress(&spaces);
            assert!(bytes.len() < 100_000);
            let (texts, error) = texts(&mut open(&SampleFile::new(name, &bytes), None));
            assert!(texts.is_empty() && matches!(error, Some(SourceError::LineTooLong { .. })), "{error:?}");
        }
    }
}
