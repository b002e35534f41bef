//! Records of CSV.

use std::io::{self, Write};

/// Writes one record: fields separated by commas and quoted where they need it, ended by a line feed.
///
/// # References
/// RFC 4180, section 2; the line end is a line feed, as programs on this side of the world read it.
pub(super) fn write_record<'a>(
    out: &mut dyn Write,
    fields: impl IntoIterator<Item = &'a str>,
) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        let quoted = field.is_empty() || field.contains([',', '"', '\n', '\r']) || field != field.trim();
        if quoted {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_reader_gets_back_what_was_written() {
        let records = [
            vec!["side", "key", "text"],
            vec!["plain", "", " edges "],
            vec!["a,b", "say \"hi\"", "two\nlines\r\nthree"],
            vec!["日本", "\t", "\""],
        ];
        let mut bytes = Vec::new();
        for record in &records {
            write_record(&mut bytes, record.iter().copied()).unwrap();
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[..]);
        let read: Vec<Vec<String>> =
            reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect();
        assert_eq!(read, records);
    }
}
