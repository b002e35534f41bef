//! Plain text: one document a line.

use std::io::{BufRead, BufReader, Read};

use serde_json::Map;

use super::fields::check_text;
use super::lines::{LineReader, as_text};
use super::source::source_over_lines;
use super::{Document, FieldNames, Position, SourceError};

/// Reads plain text: every line that is not empty is the text of a document without key and metadata.
///
/// ```
/// use ascribe::sources::{FieldNames, Source, TextLines};
/// # fn main() -> Result<(), ascribe::sources::SourceError> {
/// let mut source = TextLines::new("a cat\n\na dog".as_bytes(), "pets.txt", &FieldNames::default())?;
/// assert_eq!(source.next()?.and_then(|row| row.text), Some("a cat".to_owned()));
/// let dog = source.next()?;
/// assert_eq!(dog.map(|row| row.place.to_string()), Some("pets.txt, line 3".to_owned()));
/// assert!(source.next()?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct TextLines<R> {
    lines: LineReader<R>,
}

impl<R: Read> TextLines<BufReader<R>> {
    /// Documents of `reader`, which is called `name` in messages and has no positions.
    ///
    /// # Errors
    /// A field was named: plain text has none.
    pub fn new(reader: R, name: impl Into<String>, fields: &FieldNames) -> Result<Self, SourceError> {
        Self::of_lines(LineReader::of_pipe(BufReader::new(reader), name.into()), fields)
    }
}

impl<R: BufRead> TextLines<R> {
    pub(super) fn of_lines(lines: LineReader<R>, fields: &FieldNames) -> Result<Self, SourceError> {
        match fields.named().next() {
            None => Ok(Self { lines }),
            Some((role, field)) => {
                Err(SourceError::NoFields { input: lines.name().to_owned(), role, field: field.to_owned() })
            }
        }
    }

    pub(super) fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.lines.skip_to(position)
    }

    fn read(&mut self) -> Result<Option<Document>, SourceError> {
        while let Some((place, line)) = self.lines.next_line()? {
            if line.is_empty() {
                continue;
            }
            let text = check_text(as_text(line, &place)?, &place)?.to_owned();
            return Ok(Some(Document {
                key: None,
                text: Some(text),
                vector: None,
                metadata: Map::new(),
                place,
            }));
        }
        Ok(None)
    }
}

source_over_lines!(TextLines, false);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::TEXT_BYTES_MAX;
    use crate::sources::Source;

    #[test]
    fn lines_are_texts_without_their_ends() {
        let input = "\u{feff}a\r\n\n \u{e9}\t\n\r\nb\\n\"";
        let mut source = TextLines::new(input.as_bytes(), "in.txt", &FieldNames::default()).unwrap();
        let mut seen = Vec::new();
        while let Some(row) = source.next().unwrap() {
            assert_eq!((row.key, row.vector, row.metadata.len()), (None, None, 0));
            seen.push((row.text.unwrap(), row.place.number));
        }
        assert_eq!(seen, [("a".to_owned(), 1), (" \u{e9}\t".to_owned(), 3), ("b\\n\"".to_owned(), 5)]);
    }

    #[test]
    fn named_fields_long_texts_and_foreign_bytes_are_refused() {
        let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
        let error = TextLines::new("".as_bytes(), "in.txt", &fields).err().unwrap();
        assert!(error.to_string().contains("in.txt is plain text and has no key field \"id\""), "{error}");
        let long = std::io::repeat(b'a').take(TEXT_BYTES_MAX as u64 + 1);
        let mut source = TextLines::new(long, "in.txt", &FieldNames::default()).unwrap();
        assert!(matches!(source.next(), Err(SourceError::TextTooLong { length_bytes: 16_777_217, .. })));
        let mut source = TextLines::new(b"a\nb\xff".as_slice(), "in.txt", &FieldNames::default()).unwrap();
        source.next().unwrap();
        assert!(source.next().unwrap_err().to_string().contains("in.txt, line 2: byte 2 is not valid UTF-8"));
    }
}
