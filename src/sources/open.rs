//! The reader for a path or a stream, from the start or from a position.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::lines::LineReader;
use super::{CsvRecords, FieldNames, JsonLines, Position, Source, SourceError, TextLines};

/// Bytes read at once: hashing and parsing outrun small reads.
const READ_BYTES: usize = 256 * 1024;

/// How the documents of an input are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputFormat {
    /// One JSON object a line: `.jsonl`, `.ndjson`, `.json`.
    JsonLines,
    /// Comma-separated values with a header: `.csv`.
    Csv,
    /// Tab-separated values with a header, quoted like CSV: `.tsv`.
    Tsv,
    /// One text a line: `.txt`, `.text`.
    TextLines,
}

impl InputFormat {
    /// The format that the extension of `path` tells, in any case of letters.
    ///
    /// # Errors
    /// The extension is that of a format without reader, or of none.
    ///
    /// ```
    /// use ascribe::sources::InputFormat;
    /// assert!(matches!(InputFormat::of_path("data/TRAIN.CSV".as_ref()), Ok(InputFormat::Csv)));
    /// assert!(InputFormat::of_path("train.parquet".as_ref()).is_err());
    /// ```
    pub fn of_path(path: &Path) -> Result<Self, SourceError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("jsonl" | "ndjson" | "json") => Ok(Self::JsonLines),
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("txt" | "text") => Ok(Self::TextLines),
            Some(extension @ ("parquet" | "arrow" | "feather" | "gz" | "zst")) => {
                let input = path.display().to_string();
                Err(SourceError::NotSupported { input, what: format!(".{extension}") })
            }
            _ => Err(SourceError::UnknownFormat { input: path.display().to_string() }),
        }
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
    /// The consumed part is not the same any more, or its last line was added to: the reader stands at the start.
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
    })
}

/// Opens the file at `path`, in `format` or in the one that its extension tells.
///
/// With `resume`, the consumed part of the file is hashed again while it is read over; if it is still the same, the
/// reader goes on behind it, even if the file has grown. A named pipe is read like a stream, without positions.
///
/// # Errors
/// The file cannot be opened, its format has no reader, a field was given two roles, or the header of a CSV file is
/// refused.
///
/// # Complexity
/// Reading over `resume.consumed_bytes` bytes costs one pass over them; memory is that of one record.
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
        return Err(SourceError::NotSupported { input: name, what: "a folder".to_owned() });
    }
    let format = format.map_or_else(|| InputFormat::of_path(path), Ok)?;
    let start = || {
        let file = File::open(path).map_err(|reason| cannot_open(&name, reason))?;
        let input = BufReader::with_capacity(READ_BYTES, file);
        let lines = if metadata.is_file() {
            LineReader::of_file(input, name.clone(), metadata.len())
        } else {
            LineReader::of_pipe(input, name.clone())
        };
        source_of(lines, format, fields.clone())
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

/// The reader of a stream, such as standard input. It has no positions.
///
/// # Errors
/// A field was given two roles, or the header of CSV is refused.
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
