//! The reader for a path or a stream, from the start or from a position.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::columnar::{ColumnarRows, open_arrow};
use super::compressed::{Compression, CountedFile};
use super::lines::{LineReader, READ_BYTES};
use super::{CsvRecords, FieldNames, JsonLines, Position, Source, SourceError, TextLines};

/// How the documents of an input are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputFormat {
    /// One JSON object a line: `.jsonl`, `.ndjson`, `.json`.
    JsonLines,
    /// Comma-separated values with a header: `.csv`.
    Csv,
    /// Tab-separated values with a header, quoted like CSV: `.tsv`.
    Tsv,
    /// One text a line: `.txt`, `.text`.
    TextLines,
    /// Arrow IPC, file or stream, told apart by the first bytes: `.arrow`, `.feather`, `.ipc`.
    Arrow,
    /// Parquet: `.parquet`, `.pq`.
    Parquet,
}

impl InputFormat {
    /// The format that the extension of `path` tells, in any case of letters. Behind the extension of a format with
    /// lines may stand `.gz` or `.zst`.
    ///
    /// # Errors
    /// The extension tells no format, or that of a compressed file which is compressed inside by itself.
    ///
    /// ```
    /// use ascribe::sources::InputFormat;
    /// assert!(matches!(InputFormat::of_path("data/TRAIN.CSV.gz".as_ref()), Ok(InputFormat::Csv)));
    /// assert!(matches!(InputFormat::of_path("train.parquet".as_ref()), Ok(InputFormat::Parquet)));
    /// assert!(InputFormat::of_path("train.parquet.gz".as_ref()).is_err());
    /// ```
    pub fn of_path(path: &Path) -> Result<Self, SourceError> {
        if let Some((_, inner)) = Compression::of_path(path) {
            return match Self::of_extension(&inner) {
                Some(format) if format.has_lines() => Ok(format),
                Some(_) => Err(SourceError::NotSupported {
                    input: path.display().to_string(),
                    what: "its format is not read through a compression; decompress it first",
                }),
                None => Err(SourceError::UnknownFormat { input: path.display().to_string() }),
            };
        }
        Self::of_extension(path)
            .ok_or_else(|| SourceError::UnknownFormat { input: path.display().to_string() })
    }

    fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "txt" | "text" => Some(Self::TextLines),
            "arrow" | "feather" | "ipc" => Some(Self::Arrow),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Whether documents stand in lines, so that they can be read from a stream or through a compression.
    fn has_lines(self) -> bool {
        !matches!(self, Self::Arrow | Self::Parquet)
    }
}

/// Whether a reader goes on where an earlier run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing was consumed before: the reader stands at the start.
    Fresh,
    /// The consumed part is still the same: the reader stands behind it.
    Continued {
        /// Documents returned by earlier runs.
        records: u64,
    },
    /// The consumed part is not the same any more, or its last line was added to: the reader stands at the start. Of
    /// Arrow files and Parquet, every addition changes the metadata at the end, and with it the consumed part.
    Changed,
}

/// A reader, and where it stands.
pub struct Opened {
    /// The reader.
    pub source: Box<dyn Source>,
    /// Whether it goes on from the position given.
    pub resumed: Resumed,
}

/// A reader that can go on from a position.
trait Resumable: Source {
    fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError>;
}

impl<R: BufRead + Send> Resumable for JsonLines<R> {
    fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.skip_to(position)
    }
}

impl<R: BufRead + Send> Resumable for CsvRecords<R> {
    fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.skip_to(position)
    }
}

impl<R: BufRead + Send> Resumable for TextLines<R> {
    fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.skip_to(position)
    }
}

impl Resumable for ColumnarRows {
    fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.skip_to(position)
    }
}

fn source_of<R: BufRead + Send + 'static>(
    lines: LineReader<R>,
    format: InputFormat,
    fields: FieldNames,
) -> Result<Box<dyn Resumable>, SourceError> {
    Ok(match format {
        InputFormat::JsonLines => Box::new(JsonLines::of_lines(lines, fields)?),
        InputFormat::Csv => Box::new(CsvRecords::of_lines(lines, b',', fields)?),
        InputFormat::Tsv => Box::new(CsvRecords::of_lines(lines, b'\t', fields)?),
        InputFormat::TextLines => Box::new(TextLines::of_lines(lines, &fields)?),
        InputFormat::Arrow | InputFormat::Parquet => {
            return Err(SourceError::NotSupported {
                input: lines.name().to_owned(),
                what: "Arrow and Parquet are read from files only; save it to a file first",
            });
        }
    })
}

/// Opens the file at `path`, in `format` or in the one that its extension tells; through a decoder if its name ends in
/// `.gz` or `.zst`.
///
/// With `resume`, the consumed part of the file is hashed again while it is read over; if it is still the same, the
/// reader goes on behind it, even if the file has grown. A named pipe is read like a stream, without positions.
///
/// # Errors
/// The file cannot be opened, its format has no reader, a field was given two roles, or the header of a CSV file or the
/// columns of an Arrow or Parquet file are refused.
///
/// # Complexity
/// Resuming costs one pass over the part consumed before: over `resume.consumed_bytes` bytes, of a compressed file
/// after decompressing them. Values of Arrow and Parquet that were consumed are not decoded again, but for those of the
/// batch in which the position lies. Memory is that of one record, of one Arrow record batch as it was written, or of
/// up to 1,024 rows of Parquet with one page a column.
///
/// ```
/// use ascribe::sources::{FieldNames, Resumed, open_path};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("cats.jsonl");
/// std::fs::write(&path, "{\"text\": \"a cat\"}\n{\"text\": \"a dog\"}\n")?;
/// let mut source = open_path(&path, None, &FieldNames::default(), None)?.source;
/// source.next()?;
/// let position = source.position();
/// let mut again = open_path(&path, None, &FieldNames::default(), position.as_ref())?;
/// assert_eq!(again.resumed, Resumed::Continued { records: 1 });
/// assert_eq!(again.source.next()?.and_then(|row| row.text), Some("a dog".to_owned()));
/// # Ok(())
/// # }
/// ```
pub fn open_path(
    path: &Path,
    format: Option<InputFormat>,
    fields: &FieldNames,
    resume: Option<&Position>,
) -> Result<Opened, SourceError> {
    let name = path.display().to_string();
    let metadata = path.metadata().map_err(|reason| cannot_open(&name, reason))?;
    if metadata.is_dir() {
        return Err(SourceError::NotSupported { input: name, what: "it is a folder; name the files in it" });
    }
    let format = format.map_or_else(|| InputFormat::of_path(path), Ok)?;
    let compression = Compression::of_path(path).map(|(compression, _)| compression);
    let length = metadata.is_file().then_some(metadata.len());
    let start = || {
        let file = File::open(path).map_err(|reason| cannot_open(&name, reason))?;
        start_of_file(file, name.clone(), length, format, compression, fields)
    };
    let mut source = start()?;
    let resume = resume.filter(|position| position.consumed_bytes > 0 && metadata.is_file());
    let resumed = match resume {
        None => Resumed::Fresh,
        Some(position) if source.skip_to(position)? => {
            Resumed::Continued { records: position.consumed_records }
        }
        Some(_) => {
            source = start()?;
            Resumed::Changed
        }
    };
    Ok(Opened { source, resumed })
}

/// The reader of `file` at its start; `length` is that of the file, `None` of a pipe.
fn start_of_file(
    file: File,
    name: String,
    length: Option<u64>,
    format: InputFormat,
    compression: Option<Compression>,
    fields: &FieldNames,
) -> Result<Box<dyn Resumable>, SourceError> {
    if let (Some(length), false) = (length, format.has_lines()) {
        return open_columns(file, name, length, format, fields);
    }
    let Some(compression) = compression else {
        let input = BufReader::with_capacity(READ_BYTES, file);
        let lines = match length {
            Some(length) => LineReader::of_file(input, name, length),
            None => LineReader::of_pipe(input, name),
        };
        return source_of(lines, format, fields.clone());
    };
    let read_bytes = Arc::new(AtomicU64::new(0));
    let input = compression.decoder(CountedFile { file, read_bytes: Arc::clone(&read_bytes) }, &name)?;
    let lines = match length {
        Some(length) => LineReader::of_compressed(input, name, length, read_bytes),
        None => LineReader::of_pipe(input, name),
    };
    source_of(lines, format, fields.clone())
}

fn open_columns(
    file: File,
    name: String,
    length: u64,
    format: InputFormat,
    fields: &FieldNames,
) -> Result<Box<dyn Resumable>, SourceError> {
    if format != InputFormat::Parquet {
        return Ok(Box::new(open_arrow(file, name, length, fields)?));
    }
    #[cfg(feature = "parquet")]
    return Ok(Box::new(super::columnar::open_parquet(file, name, length, fields)?));
    #[cfg(not(feature = "parquet"))]
    Err(SourceError::FeatureMissing { input: name, what: "Parquet", feature: "parquet" })
}

/// The reader of a stream, such as standard input. It has no positions.
///
/// # Errors
/// A field was given two roles, the header of CSV is refused, or the format is not read from streams (Arrow, Parquet).
///
/// ```
/// use ascribe::sources::{FieldNames, InputFormat, from_reader};
/// # fn main() -> Result<(), ascribe::sources::SourceError> {
/// let input = std::io::Cursor::new("{\"text\": \"a cat\"}\n");
/// let mut source = from_reader(input, "stdin", InputFormat::JsonLines, &FieldNames::default())?;
/// assert_eq!(source.next()?.and_then(|row| row.text), Some("a cat".to_owned()));
/// assert_eq!(source.position(), None);
/// # Ok(())
/// # }
/// ```
pub fn from_reader<R: Read + Send + 'static>(
    reader: R,
    name: impl Into<String>,
    format: InputFormat,
    fields: &FieldNames,
) -> Result<Box<dyn Source>, SourceError> {
    let lines = LineReader::of_pipe(BufReader::with_capacity(READ_BYTES, reader), name.into());
    Ok(source_of(lines, format, fields.clone())?)
}

fn cannot_open(name: &str, reason: io::Error) -> SourceError {
    SourceError::Io { input: name.to_owned(), action: "open", reason }
}
