//! Where a CSV record ends, and what makes it ambiguous.
//!
//! The parser itself reads on over any number of lines until a quote closes and forgives text behind a closing quote.
//! This scan runs before it, so that a record is bounded, a cut-off file is noticed and fields are not guessed.

/// Between which parts of a field the scan stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// Behind a quote inside quotes: closed, unless another quote follows.
    QuoteClosed,
}

/// A byte that different readers understand differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ambiguity {
    /// Byte of the line, from 1.
    pub(super) column: usize,
    /// What is ambiguous, with its remedy.
    pub(super) reason: &'static str,
}

/// Scans one record line by line.
#[derive(Debug)]
pub(super) struct RecordScan {
    state: State,
    separator: u8,
    fields: usize,
}

impl RecordScan {
    /// A scan at the start of a record.
    pub(super) fn new(separator: u8) -> Self {
        Self { state: State::FieldStart, separator, fields: 1 }
    }

    /// Goes over `line`, without its line end.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Ambiguity> {
        for (index, byte) in line.iter().copied().enumerate() {
            let ambiguous = |reason| Err(Ambiguity { column: index + 1, reason });
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::QuoteClosed,
                (State::Quoted, _) => State::Quoted,
                (State::QuoteClosed, b'"') => State::Quoted,
                (_, byte) if byte == self.separator => {
                    self.fields += 1;
                    State::FieldStart
                }
                (_, b'\r') => {
                    return ambiguous(
                        "a carriage return outside quotes; end lines with a line feed, or quote the field",
                    );
                }
                (State::FieldStart, b'"') => State::Quoted,
                (State::QuoteClosed, _) => {
                    return ambiguous("text behind a closing quote; write a quote inside quotes twice");
                }
                (State::FieldStart | State::Unquoted, _) => State::Unquoted,
            };
        }
        Ok(())
    }

    /// Whether the record goes on in the next line.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Quoted
    }

    /// Fields seen so far.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(lines: &[&str]) -> Result<(usize, bool), Ambiguity> {
        let mut scan = RecordScan::new(b',');
        for line in lines {
            scan.line(line.as_bytes())?;
        }
        Ok((scan.fields(), scan.is_open()))
    }

    #[test]
    fn quotes_hold_separators_quotes_and_line_ends() {
        assert_eq!(scan(&["a,b,"]), Ok((3, false)));
        assert_eq!(scan(&["\"a,\"\"b\",c\"d,\"\""]), Ok((3, false)));
        assert_eq!(scan(&["a,\"b"]), Ok((2, true)));
        assert_eq!(scan(&["a,\"b", ",\r,", "\",c"]), Ok((3, false)));
        assert_eq!(scan(&["\"\"\""]), Ok((1, true)));
    }

    #[test]
    fn ambiguous_bytes_are_refused_with_their_column() {
        assert_eq!(scan(&["a,\"b\"c"]).unwrap_err().column, 6);
        assert_eq!(scan(&["a\rb,c"]).unwrap_err().column, 2);
    }
}
