//! CSV and TSV: one document a record.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use serde_json::{Map, Value};

use super::csv_scan::RecordScan;
use super::lines::{LineReader, without_line_end};
use super::source::source_over_lines;
use super::{Document, FieldNames, Place, Position, SourceError, json};
use crate::base::limits::LINE_VALUES_MAX;

/// Reads CSV with a header row: every record one document, every other field than the named ones a metadata string.
///
/// Fields are separated by one byte and may be quoted with `"`; quotes inside quotes stand twice; quoted fields may
/// hold line ends. Blank lines are skipped; `\r\n`, a byte order mark at the very start and a last record without line
/// end are tolerated. A record with more or fewer fields than the header, a name twice in the header, a quote that is
/// never closed, text behind a closing quote and bytes that are no UTF-8 are refused. A vector stands in its field as
/// a JSON list, such as `[0.1, 0.2]`.
///
/// ```
/// use ascribe::sources::{CsvRecords, FieldNames, Source};
/// # fn main() -> Result<(), ascribe::sources::SourceError> {
/// let input = "id,text,year\nr1,\"a cat, asleep\",1999\n";
/// let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
/// let mut source = CsvRecords::new(input.as_bytes(), "cats.csv", b',', fields)?;
/// let document = source.next()?;
/// assert_eq!(document.as_ref().and_then(|row| row.text.as_deref()), Some("a cat, asleep"));
/// assert_eq!(document.map(|row| row.metadata["year"].clone()), Some("1999".into()));
/// # Ok(())
/// # }
/// ```
pub struct CsvRecords<R> {
    lines: LineReader<R>,
    parser: csv::Reader<Feed>,
    separator: u8,
    header: Vec<String>,
    fields: FieldNames,
    record: ByteRecord,
}

/// Gives the parser the bytes of exactly one record at a time.
#[derive(Default)]
struct Feed {
    bytes: Vec<u8>,
    given: usize,
}

impl Feed {
    fn refill(&mut self, record: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(record);
        self.bytes.push(b'\n');
        self.given = 0;
    }
}

impl Read for Feed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.given..]).read(room)?;
        self.given += count;
        Ok(count)
    }
}

impl<R: Read> CsvRecords<BufReader<R>> {
    /// Documents of `reader`, which is called `name` in messages and has no positions. Reads the header.
    ///
    /// # Errors
    /// A field was given two roles, or the header is missing, refused or lacks a named field.
    pub fn new(
        reader: R,
        name: impl Into<String>,
        separator: u8,
        fields: FieldNames,
    ) -> Result<Self, SourceError> {
        Self::of_lines(LineReader::of_pipe(BufReader::new(reader), name.into()), separator, fields)
    }
}

impl<R: BufRead> CsvRecords<R> {
    pub(super) fn of_lines(
        lines: LineReader<R>,
        separator: u8,
        fields: FieldNames,
    ) -> Result<Self, SourceError> {
        fields.check()?;
        // A record is fed with `\n` at its end, which keeps a `\r` inside an unquoted field out of the question.
        let parser = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Feed::default());
        let header = Vec::new();
        let mut source = Self { lines, parser, separator, header, fields, record: ByteRecord::new() };
        source.read_header()?;
        Ok(source)
    }

    pub(super) fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.lines.skip_to(position)
    }

    fn read_header(&mut self) -> Result<(), SourceError> {
        let Some((place, fields)) = self.scan_record()? else {
            return Err(SourceError::NoHeader { input: self.lines.name().to_owned() });
        };
        if fields > LINE_VALUES_MAX {
            return Err(SourceError::HeaderTooWide { place, fields });
        }
        self.parse_record(&place)?;
        let mut seen = HashSet::new();
        let mut header = Vec::new();
        for (index, bytes) in self.record.iter().enumerate() {
            let name = field_text(bytes, &place, || format!("name {} of the header", index + 1))?;
            if !seen.insert(name) {
                return Err(SourceError::HeaderTwice { place, field: name.to_owned() });
            }
            header.push(name.to_owned());
        }
        self.fields.check_present(header.iter().map(String::as_str), &place)?;
        self.header = header;
        Ok(())
    }

    /// Reads the lines of the next record; gives its place and number of fields.
    fn scan_record(&mut self) -> Result<Option<(Place, usize)>, SourceError> {
        loop {
            self.lines.clear();
            let place = self.lines.next_place();
            if !self.lines.append()? {
                return Ok(None);
            }
            if without_line_end(self.lines.buffer()).is_empty() {
                continue;
            }
            let mut scan = RecordScan::new(self.separator);
            let mut scanned = 0;
            let mut line_place = place.clone();
            loop {
                scan.line(without_line_end(&self.lines.buffer()[scanned..])).map_err(|found| {
                    let (column, reason) = (found.column, found.reason);
                    SourceError::AmbiguousCsv { place: line_place, column, reason }
                })?;
                if !scan.is_open() {
                    return Ok(Some((place, scan.fields())));
                }
                scanned = self.lines.buffer().len();
                line_place = self.lines.next_place();
                let more = self.lines.append().map_err(|error| match error {
                    // The record is too long, not the line that filled it.
                    SourceError::LineTooLong { .. } => SourceError::LineTooLong { place: place.clone() },
                    other => other,
                })?;
                if !more {
                    return Err(SourceError::UnclosedQuote { place });
                }
            }
        }
    }

    /// Splits the scanned record into `record`.
    fn parse_record(&mut self, place: &Place) -> Result<(), SourceError> {
        self.parser.get_mut().refill(without_line_end(self.lines.buffer()));
        let invalid = |reason| SourceError::InvalidCsv { place: place.clone(), reason };
        match self.parser.read_byte_record(&mut self.record) {
            Ok(true) => Ok(()),
            Ok(false) => Err(invalid("it has no fields".to_owned())),
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    fn read(&mut self) -> Result<Option<Document>, SourceError> {
        let Some((place, got)) = self.scan_record()? else { return Ok(None) };
        let expected = self.header.len();
        if got != expected {
            return Err(SourceError::FieldCount { place, expected, got });
        }
        self.parse_record(&place)?;
        let got = self.record.len();
        if got != expected {
            return Err(SourceError::FieldCount { place, expected, got });
        }
        let mut members = Map::new();
        for (name, bytes) in self.header.iter().zip(&self.record) {
            let text = field_text(bytes, &place, || format!("field {name:?}"))?;
            let value = if self.fields.vector.as_ref() == Some(name) {
                json::parse(text).map_err(|problem| SourceError::VectorText {
                    place: place.clone(),
                    field: name.clone(),
                    column: problem.column,
                    reason: problem.reason,
                })?
            } else {
                Value::from(text)
            };
            members.insert(name.clone(), value);
        }
        self.fields.document(members, place).map(Some)
    }
}

fn field_text<'a>(
    bytes: &'a [u8],
    place: &Place,
    named: impl FnOnce() -> String,
) -> Result<&'a str, SourceError> {
    str::from_utf8(bytes).map_err(|error| SourceError::NotUtf8 {
        place: place.clone(),
        at: format!("{}, byte {},", named(), error.valid_up_to() + 1),
    })
}

source_over_lines!(CsvRecords, true);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Source;

    fn all(input: impl AsRef<[u8]>, fields: FieldNames) -> Result<Vec<Document>, SourceError> {
        let mut source = CsvRecords::new(input.as_ref(), "in.csv", b',', fields)?;
        let mut documents = Vec::new();
        while let Some(document) = source.next()? {
            documents.push(document);
        }
        Ok(documents)
    }

    fn fields() -> FieldNames {
        FieldNames { key: Some("id".into()), text: None, vector: Some("v".into()) }
    }

    #[test]
    fn records_become_documents() {
        let input =
            "\u{feff}z,id,text,v,a\r\n1,k,\"a \"\"cat\"\",\nasleep\",\"[1, -0.5]\",\r\n\r\n2,l,,[3],x";
        let rows = all(input, fields()).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].key.as_deref(), Some("k"));
        assert_eq!(rows[0].text.as_deref(), Some("a \"cat\",\nasleep"));
        assert_eq!(rows[0].vector, Some(vec![1.0, -0.5]));
        let rest: Vec<_> =
            rows[0].metadata.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(rest, [("z", Value::from("1")), ("a", Value::from(""))]);
        assert_eq!(rows[1].text.as_deref(), Some(""));
        assert_eq!((rows[0].place.number, rows[1].place.number), (2, 5));
    }

    #[test]
    fn one_empty_quoted_field_is_a_record_and_a_blank_line_is_not() {
        let rows = all("text\n\"\"\n\na\n", FieldNames::default()).unwrap();
        let texts: Vec<_> = rows.iter().filter_map(|row| row.text.as_deref()).collect();
        assert_eq!(texts, ["", "a"]);
    }

    #[test]
    fn tabs_separate_in_tsv() {
        let mut source =
            CsvRecords::new("a\ttext\n1,5\tx\n".as_bytes(), "in.tsv", b'\t', FieldNames::default()).unwrap();
        let row = source.next().unwrap().unwrap();
        assert_eq!((row.text.as_deref(), &row.metadata["a"]), (Some("x"), &Value::from("1,5")));
    }

    #[test]
    fn refusals_say_what_where_and_what_to_do() {
        let cases: [(&[u8], &str); 14] = [
            (b"", "in.csv has no header row"),
            (b"\n\n", "in.csv has no header row"),
            (b"id,v,id\n", "in.csv, line 1: the header names field \"id\" twice"),
            (b"id,w\n", "in.csv, line 1: the vector field \"v\" is missing, the fields are \"id\", \"w\""),
            (b"id,\xff\n", "in.csv, line 1: name 2 of the header, byte 1, is not valid UTF-8"),
            (b"id,v\n1,[1]\n\n2\n", "in.csv, line 4: the record has 1 fields, the header has 2"),
            (b"id,v\n1,[1],\n", "in.csv, line 2: the record has 3 fields"),
            (b"id,v\n1,\"[1\n,2]\n", "in.csv, line 2: a quoted field of this record is never closed"),
            (b"id,v\n\"1\n\"x,[1]\n", "in.csv, line 3, column 2: text behind a closing quote"),
            (b"id,v\n1,[1]\r2,[1]\n", "in.csv, line 2, column 6: a carriage return outside quotes"),
            (b"id,v\n\xc3,[1]\n", "in.csv, line 2: field \"id\", byte 1, is not valid UTF-8"),
            (b"id,v\n1,0.5 0.2\n", "in.csv, line 2: the vector field \"v\", column 5 of the cell"),
            (b"id,v\n1,2\n", "the vector field \"v\" is a number; it must be a list of numbers"),
            (b"id,v\n,[1]\n", "in.csv, line 2: the key field \"id\" is empty"),
        ];
        for (input, expected) in cases {
            let text = all(input, fields()).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn records_and_headers_are_bounded() {
        let line = [vec![b'a'; 1 << 20], vec![b'\n']].concat();
        let endless = io::Cursor::new([b"text\n\"".as_slice(), &line.repeat(65)].concat());
        let mut source = CsvRecords::new(endless, "in.csv", b',', FieldNames::default()).unwrap();
        assert!(matches!(source.next(), Err(SourceError::LineTooLong { place }) if place.number == 2));
        let wide = ",".repeat(LINE_VALUES_MAX);
        assert!(matches!(all(wide, FieldNames::default()), Err(SourceError::HeaderTooWide { .. })));
    }
}
