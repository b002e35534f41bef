//! JSONL: one object a line.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::json::{self, described};
use super::lines::{LineReader, as_text};
use super::source::source_over_lines;
use super::{Document, FieldNames, Position, SourceError};

/// Reads JSON Lines: every line one object, every other member than the named ones metadata.
///
/// Blank lines are skipped; `\r\n`, a byte order mark at the very start and a last line without line end are
/// tolerated. A name that stands twice in an object, a number beyond double precision, a line that is no object or
/// no UTF-8 are refused. An integer beyond 64 bits in the metadata becomes the nearest double.
///
/// ```
/// use ascribe::sources::{FieldNames, JsonLines, Source};
/// # fn main() -> Result<(), ascribe::sources::SourceError> {
/// let input = r#"{"id": 7, "text": "a cat", "year": 1999}"#;
/// let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
/// let mut source = JsonLines::new(input.as_bytes(), "cats.jsonl", fields)?;
/// let document = source.next()?;
/// assert_eq!(document.as_ref().and_then(|row| row.key.as_deref()), Some("7"));
/// assert_eq!(document.as_ref().and_then(|row| row.text.as_deref()), Some("a cat"));
/// assert_eq!(document.map(|row| row.metadata["year"].clone()), Some(1999.into()));
/// assert!(source.next()?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct JsonLines<R> {
    lines: LineReader<R>,
    fields: FieldNames,
    seen_any: bool,
}

impl<R: Read> JsonLines<BufReader<R>> {
    /// Documents of `reader`, which is called `name` in messages and has no positions.
    ///
    /// # Errors
    /// A field was given two roles.
    pub fn new(reader: R, name: impl Into<String>, fields: FieldNames) -> Result<Self, SourceError> {
        Self::of_lines(LineReader::of_pipe(BufReader::new(reader), name.into()), fields)
    }
}

impl<R: BufRead> JsonLines<R> {
    pub(super) fn of_lines(lines: LineReader<R>, fields: FieldNames) -> Result<Self, SourceError> {
        fields.check()?;
        Ok(Self { lines, fields, seen_any: false })
    }

    pub(super) fn skip_to(&mut self, position: &Position) -> Result<bool, SourceError> {
        self.seen_any = true;
        self.lines.skip_to(position)
    }

    fn read(&mut self) -> Result<Option<Document>, SourceError> {
        while let Some((place, line)) = self.lines.next_line()? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let is_first = !std::mem::replace(&mut self.seen_any, true);
            // A list over many lines is no JSON line by line; its first byte tells what the user has.
            if is_first && line.trim_ascii_start().starts_with(b"[") {
                return Err(SourceError::JsonList { place });
            }
            let text = as_text(line, &place)?;
            return match json::parse(text) {
                Ok(Value::Object(members)) => self.fields.document(members, place).map(Some),
                Ok(other) => Err(SourceError::NotAnObject { place, found: described(&other) }),
                Err(problem) => {
                    Err(SourceError::InvalidJson { place, column: problem.column, reason: problem.reason })
                }
            };
        }
        Ok(None)
    }
}

source_over_lines!(JsonLines, false);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::limits::{EMBEDDING_WIDTH_MAX, KEY_BYTES_MAX, LINE_BYTES_MAX, TEXT_BYTES_MAX};
    use crate::sources::Source;

    fn fields() -> FieldNames {
        FieldNames { key: Some("id".into()), text: Some("body".into()), vector: Some("v".into()) }
    }

    fn all(input: impl AsRef<[u8]>, fields: FieldNames) -> Result<Vec<Document>, SourceError> {
        let mut source = JsonLines::new(input.as_ref(), "in.jsonl", fields)?;
        let mut documents = Vec::new();
        while let Some(document) = source.next()? {
            documents.push(document);
        }
        Ok(documents)
    }

    fn refusal(line: &str) -> String {
        let input = format!("{{\"id\":\"a\",\"body\":\"\",\"v\":[0]}}\n{line}\n");
        all(input, fields()).expect_err(line).to_string()
    }

    #[test]
    fn roles_are_taken_out_and_the_rest_stays_in_order() {
        let input = r#"{"z":1,"id":"k","y":[2],"body":"t","x":null,"v":[1,-2.5],"w":{"a":"b"}}"#;
        let row = all(input, fields()).unwrap().remove(0);
        assert_eq!(row.key.as_deref(), Some("k"));
        assert_eq!(row.text.as_deref(), Some("t"));
        assert_eq!(row.vector, Some(vec![1.0, -2.5]));
        let rest: Vec<_> = row.metadata.into_iter().collect();
        let expected = [("z", json!(1)), ("y", json!([2])), ("x", json!(null)), ("w", json!({"a": "b"}))];
        assert_eq!(rest, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(row.place.to_string(), "in.jsonl, line 1");
    }

    #[test]
    fn tolerated_forms() {
        let input = "\u{feff}{\"text\":\"a\"}\r\n\r\n  \n\t{\"text\":\"b\"} \n{\"text\":\"c\"}";
        let rows = all(input, FieldNames::default()).unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.text.as_deref().unwrap(), row.place.number)).collect();
        assert_eq!(seen, [("a", 1), ("b", 4), ("c", 5)]);
        assert_eq!(all("", FieldNames::default()).unwrap(), []);
        assert_eq!(all("\u{feff}", FieldNames::default()).unwrap(), []);
    }

    #[test]
    fn text_has_a_default_and_gives_way_to_a_named_role() {
        let rows = all("{\"text\":\"a\"}\n{\"other\":\"b\"}", FieldNames::default()).unwrap();
        assert_eq!(rows[0].text.as_deref(), Some("a"));
        assert_eq!((rows[1].text.as_ref(), rows[1].metadata.len()), (None, 1));
        let as_key = FieldNames { key: Some("text".into()), ..FieldNames::default() };
        let row = all(r#"{"text":"a"}"#, as_key).unwrap().remove(0);
        assert_eq!((row.key.as_deref(), row.text), (Some("a"), None));
        let as_vector = FieldNames { vector: Some("text".into()), ..FieldNames::default() };
        let row = all(r#"{"text":[2]}"#, as_vector).unwrap().remove(0);
        assert_eq!((row.vector, row.text), (Some(vec![2.0]), None));
        let named = FieldNames { text: Some("body".into()), ..FieldNames::default() };
        let row = all(r#"{"text":"a","body":"b"}"#, named).unwrap().remove(0);
        assert_eq!((row.text.as_deref(), &row.metadata["text"]), (Some("b"), &json!("a")));
    }

    #[test]
    fn keys_files_need_a_key_and_may_have_a_text() {
        let rows =
            all("{\"key\":\"r0\",\"n\":1}\n{\"key\":5,\"text\":\"t\"}", FieldNames::of_keys_file()).unwrap();
        assert_eq!(rows[0].key.as_deref(), Some("r0"));
        assert_eq!((rows[1].key.as_deref(), rows[1].text.as_deref()), (Some("5"), Some("t")));
        assert!(all("{\"n\":1}", FieldNames::of_keys_file()).is_err());
    }

    #[test]
    fn refusals_say_what_where_and_what_to_do() {
        let cases = [
            ("[1]", "line 2 is a list, not an object"),
            ("7", "line 2 is a number, not an object"),
            ("{\"id\":", "line 2, column 6: EOF while parsing"),
            (r#"{"id":"a","id":"b"}"#, r#"line 2, column 14: the name "id" stands twice"#),
            (
                r#"{"id":"a","body":"","w":1}"#,
                r#"the vector field "v" is missing, the fields are "id", "body", "w""#,
            ),
            (r#"{"id":"","body":"","v":[0]}"#, r#"line 2: the key field "id" is empty"#),
            (r#"{"id":1.5,"body":"","v":[0]}"#, r#"the key field "id" is a number; it must be a string or"#),
            (r#"{"id":18446744073709551616,"body":"","v":[0]}"#, "64-bit integer"),
            (r#"{"id":null,"body":"","v":[0]}"#, r#"the key field "id" is null"#),
            (r#"{"id":"a","body":3,"v":[0]}"#, r#"the text field "body" is a number; it must be a string"#),
            (r#"{"id":"a","body":"","v":"0"}"#, r#"the vector field "v" is a string; it must be a list"#),
            (r#"{"id":"a","body":"","v":[]}"#, "has 0 values"),
            (r#"{"id":"a","body":"","v":[0,1e39]}"#, r#"value 2 of the vector in field "v" is 1e+39"#),
            (r#"{"id":"a","body":"","v":[0,-1e39]}"#, "value 2"),
            (r#"{"id":"a","body":"","v":[null]}"#, "value 1 of the vector in field \"v\" is null"),
            (r#"{"id":"a","body":"","v":[NaN]}"#, "column 26: expected value"),
        ];
        for (line, expected) in cases {
            let text = refusal(line);
            assert!(text.contains(expected) && text.contains("in.jsonl, line 2"), "{line}: {text}");
        }
    }

    #[test]
    fn integers_are_keys_as_their_decimal_text() {
        for key in ["0", "-9223372036854775808", "18446744073709551615"] {
            let input = format!("{{\"id\":{key},\"body\":\"\",\"v\":[0]}}");
            assert_eq!(all(input, fields()).unwrap()[0].key.as_deref(), Some(key));
        }
    }

    #[test]
    fn lists_and_foreign_bytes_are_refused_with_a_hint() {
        for input in ["[{\"a\":1}]", "\n  [\n{\"a\":1},\n"] {
            let error = all(input, FieldNames::default()).unwrap_err();
            assert!(matches!(error, SourceError::JsonList { .. }), "{error}");
        }
        let error = all(b"{\"a\":1}\n{\"a\":\"\xff\"}".as_slice(), FieldNames::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "in.jsonl, line 2: byte 7 is not valid UTF-8; convert the input to UTF-8"
        );
    }

    #[test]
    fn lengths_are_bounded() {
        let key = "k".repeat(KEY_BYTES_MAX);
        assert!(all(format!("{{\"id\":\"{key}\",\"body\":\"\",\"v\":[0]}}"), fields()).is_ok());
        assert!(refusal(&format!("{{\"id\":\"{key}k\",\"body\":\"\",\"v\":[0]}}")).contains("1025 bytes"));
        let text = "t".repeat(TEXT_BYTES_MAX + 1);
        assert!(
            refusal(&format!("{{\"id\":\"a\",\"body\":\"{text}\",\"v\":[0]}}")).contains("16777217 bytes")
        );
        let zeros = "0,".repeat(EMBEDDING_WIDTH_MAX);
        assert!(
            refusal(&format!("{{\"id\":\"a\",\"body\":\"\",\"v\":[{zeros}0]}}")).contains("65537 values")
        );
        let endless = std::io::repeat(b' ').take(LINE_BYTES_MAX as u64 + 1);
        let mut source = JsonLines::new(endless, "spaces", FieldNames::default()).unwrap();
        assert!(matches!(source.next(), Err(SourceError::LineTooLong { .. })));
        let longest = std::io::repeat(b' ').take(LINE_BYTES_MAX as u64).chain("\r\n{}".as_bytes());
        let mut source = JsonLines::new(longest, "spaces", FieldNames::default()).unwrap();
        assert_eq!(source.next().unwrap().unwrap().place.number, 2);
    }

    #[test]
    fn nothing_comes_behind_a_refusal() {
        let mut source = JsonLines::new("{}\n?\n{}\n".as_bytes(), "in.jsonl", FieldNames::default()).unwrap();
        assert!(source.next().unwrap().is_some());
        assert!(matches!(source.next(), Err(SourceError::InvalidJson { .. })));
        assert!(matches!(source.next(), Err(SourceError::AlreadyRefused { .. })));
    }

    #[test]
    fn a_field_has_one_role() {
        let twice = FieldNames { key: Some("a".into()), text: None, vector: Some("a".into()) };
        let error = all("", twice).unwrap_err();
        assert!(error.to_string().contains("\"a\" is named as key and as vector"), "{error}");
    }
}
