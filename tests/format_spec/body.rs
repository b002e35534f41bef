//! A decoder of record bodies that knows only what the pages say.

use super::pages::{Table, table};

/// Reads a value of a type of `catalog.md` and `manifest.md` from `bytes`; each line of the result is one number, text
/// or choice with the way to it. Nothing may be left over. Documented offsets are checked on the way.
pub(crate) fn decode(kind: &str, bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder { bytes, at: 0, lines: Vec::new() };
    decoder.value(kind, "");
    assert_eq!(decoder.at, bytes.len(), "{kind}: bytes are left over");
    decoder.lines
}

/// The table of a record, wherever it stands; its first column tells records from choices.
fn definition(kind: &str) -> Table {
    match kind {
        "Manifest" => table("manifest.md", "Manifest body"),
        _ => table("catalog.md", kind),
    }
}

fn is_choice(table: &Table) -> bool {
    table.rows[0].len() == 3
}

/// Bytes of every value of the type; `None` if they differ.
fn fixed_size(kind: &str) -> Option<usize> {
    match kind {
        "u8" => Some(1),
        "u32" => Some(4),
        "u64" => Some(8),
        "bytes16" => Some(16),
        "bytes32" => Some(32),
        "text" | "blob" => None,
        _ if kind.starts_with("list of ") || kind.starts_with("optional ") => None,
        _ => {
            let table = definition(kind);
            if is_choice(&table) {
                table.rows.iter().all(|row| table.cell(row, "fields") == "-").then_some(4)
            } else {
                table.rows.iter().map(|row| fixed_size(table.cell(row, "type"))).sum()
            }
        }
    }
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    lines: Vec<String>,
}

impl Decoder<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn number(&mut self, size: usize) -> u64 {
        self.take(size).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn line(&mut self, path: &str, value: impl std::fmt::Display) {
        self.lines.push(format!("{path} = {value}"));
    }

    fn hexadecimal(&mut self, count: usize) -> String {
        self.take(count).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn value(&mut self, kind: &str, path: &str) {
        match kind {
            "u8" | "u32" | "u64" => {
                let value = self.number(fixed_size(kind).unwrap());
                self.line(path, value);
            }
            "bytes16" | "bytes32" => {
                let value = self.hexadecimal(fixed_size(kind).unwrap());
                self.line(path, value);
            }
            "text" => {
                let length = self.number(8) as usize;
                let value = String::from_utf8(self.take(length).to_vec()).unwrap();
                self.line(path, value);
            }
            "blob" => {
                let length = self.number(8) as usize;
                let value = self.hexadecimal(length);
                self.line(path, value);
            }
            _ => self.compound(kind, path),
        }
    }

    fn compound(&mut self, kind: &str, path: &str) {
        if let Some(item) = kind.strip_prefix("list of ") {
            let count = self.number(8);
            self.line(&format!("{path}.count"), count);
            (0..count).for_each(|index| self.value(item, &format!("{path}[{index}]")));
        } else if let Some(item) = kind.strip_prefix("optional ") {
            match self.number(1) {
                0 => self.line(path, "missing"),
                1 => self.value(item, path),
                tag => panic!("{path}: {tag} is neither 0 nor 1"),
            }
        } else {
            let table = definition(kind);
            if is_choice(&table) { self.choice(&table, path) } else { self.record(kind, &table, path) }
        }
    }

    fn choice(&mut self, table: &Table, path: &str) {
        let number = self.number(4).to_string();
        let row = table.rows.iter().find(|row| table.cell(row, "choice") == number);
        let row = row.unwrap_or_else(|| panic!("{path}: there is no choice {number}"));
        self.line(path, table.cell(row, "name"));
        let fields = table.cell(row, "fields");
        if fields != "-" {
            self.value(fields, path);
        }
    }

    fn record(&mut self, kind: &str, table: &Table, path: &str) {
        let start = self.at;
        let mut is_fixed = true;
        for row in &table.rows {
            let (field, offset) = (table.cell(row, "field"), table.cell(row, "offset"));
            let expected = if is_fixed { (self.at - start).to_string() } else { "-".to_owned() };
            assert_eq!(offset, expected, "{kind}: offset of {field}");
            let way = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            is_fixed &= fixed_size(table.cell(row, "type")).is_some();
            self.value(table.cell(row, "type"), &way);
        }
    }
}
