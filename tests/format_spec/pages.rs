//! The tables of a page.

use std::collections::BTreeMap;

/// A table of a page: the cells, without back quotes, by the name of their column.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    place: String,
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

impl Table {
    /// The cell of a row in the column of this name.
    pub(crate) fn cell<'a>(&self, row: &'a [String], column: &str) -> &'a str {
        let place = self.columns.iter().position(|name| name == column);
        &row[place.unwrap_or_else(|| panic!("{} has no column {column:?}", self.place))]
    }

    /// Two columns as keys and values.
    pub(crate) fn map(&self, keys: &str, values: &str) -> BTreeMap<String, String> {
        let map: BTreeMap<String, String> = self
            .rows
            .iter()
            .map(|row| (self.cell(row, keys).to_owned(), self.cell(row, values).to_owned()))
            .collect();
        assert_eq!(map.len(), self.rows.len(), "{} says something twice", self.place);
        map
    }
}

/// The text of a page of `storage-format/`.
pub(crate) fn page(name: &str) -> String {
    let path = format!("{}/storage-format/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first table below a heading.
pub(crate) fn table(name: &str, heading: &str) -> Table {
    let text = page(name);
    let place = format!("{name}, {heading:?}");
    let mut lines = text
        .lines()
        .skip_while(|line| !(line.starts_with('#') && line.trim_start_matches('#').trim() == heading));
    assert!(lines.next().is_some(), "{place}: there is no such heading");
    let mut lines = lines.take_while(|line| !line.starts_with('#')).skip_while(|line| cells(line).is_none());
    let columns = lines.next().and_then(cells).unwrap_or_else(|| panic!("{place}: there is no table"));
    let rows: Vec<Vec<String>> = lines.skip(1).map_while(cells).collect();
    assert!(!rows.is_empty(), "{place}: the table is empty");
    for row in &rows {
        assert_eq!(row.len(), columns.len(), "{place}: {row:?}");
    }
    Table { columns, rows, place }
}

/// Bytes of a structure, cut by a table with offset, size and type.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    place: String,
    fields: BTreeMap<String, (String, Vec<u8>)>,
}

impl Fields {
    fn get(&self, field: &str) -> &(String, Vec<u8>) {
        self.fields.get(field).unwrap_or_else(|| panic!("{} has no field {field:?}", self.place))
    }

    pub(crate) fn bytes(&self, field: &str) -> &[u8] {
        &self.get(field).1
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        let (kind, bytes) = self.get(field);
        assert!(kind.starts_with('u'), "{}: {field} is no number but {kind}", self.place);
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// Cuts `bytes` as the table below `heading` says. Fields must follow each other without gap or overlap; one field may
/// have the size `-`: it takes what the others leave.
pub(crate) fn cut(name: &str, heading: &str, bytes: &[u8]) -> Fields {
    let table = table(name, heading);
    let place = table.place.clone();
    let sizes: Vec<Option<usize>> =
        table.rows.iter().map(|row| table.cell(row, "size").parse().ok()).collect();
    let fixed: usize = sizes.iter().flatten().sum();
    let variable = sizes.iter().filter(|size| size.is_none()).count();
    assert!(variable <= 1 && fixed <= bytes.len(), "{place}: {fixed} bytes and {variable} variable fields");
    assert!(variable == 1 || fixed == bytes.len(), "{place}: {fixed} bytes, there are {}", bytes.len());
    let (mut at, mut known_offset, mut fields) = (0, true, BTreeMap::new());
    for (row, size) in table.rows.iter().zip(sizes) {
        let field = table.cell(row, "field");
        let offset = if known_offset { at.to_string() } else { "-".to_owned() };
        assert_eq!(table.cell(row, "offset"), offset, "{place}: offset of {field}");
        let kind = table.cell(row, "type");
        if let Some(bits) = kind.strip_prefix('u') {
            assert_eq!(bits.parse::<usize>().ok(), size.map(|size| 8 * size), "{place}: size of {field}");
        }
        known_offset &= size.is_some();
        let end = at + size.unwrap_or(bytes.len() - fixed);
        let found = fields.insert(field.to_owned(), (kind.to_owned(), bytes[at..end].to_vec()));
        assert!(found.is_none(), "{place}: {field} stands there twice");
        at = end;
    }
    assert_eq!(at, bytes.len(), "{place}");
    Fields { place, fields }
}

/// A mark as the pages write it.
pub(crate) fn mark(text: &str) -> Vec<u8> {
    text.replace("\\0", "\0").into_bytes()
}
