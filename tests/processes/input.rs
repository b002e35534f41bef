//! The rows, a store for them, and what every committed state of it must answer.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, ColumnEncoder, CreateOptions, IngestCommit, IngestOptions, IngestReport,
    OpenOptions, Query, QueryInput, Snapshot, Store, Watch,
};
use ascribe::sources::{FieldNames, Resumed, open_path};

/// Rows of one commit: few, so that there are many commits to be killed in.
pub(crate) const COMMIT_ROWS: usize = 20;

/// Values of a row's vector.
pub(crate) const WIDTH: usize = 8;

/// Column of encoded texts.
pub(crate) const WORDS: &str = "words";

/// Column of ready vectors.
pub(crate) const VECTORS: &str = "vectors";

const TOPICS: [&str; 6] = ["rain", "cats", "stone", "music", "bread", "ships"];

/// One row of an input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputRow {
    pub(crate) number: u64,
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
}

/// The rows of an input file, in its order.
pub(crate) struct Input {
    pub(crate) rows: Vec<InputRow>,
    /// Whether rows have a key; if not, some rows are equal to the one before.
    pub(crate) has_keys: bool,
}

pub(crate) fn key_of(number: u64) -> String {
    format!("row-{number:05}")
}

fn row(number: u64) -> InputRow {
    let mut stream = RandomStream::new(number);
    let mut word = || TOPICS[stream.below(TOPICS.len() as u64) as usize];
    let text = format!("{} and {} number {number}", word(), word());
    // Value 0 finds all rows, in reverse order; value 1 puts even rows at one end and odd ones at the other.
    let size = number as f32 + 1.0;
    let mut vector = vec![size, if number.is_multiple_of(2) { size } else { -size }];
    vector.resize_with(WIDTH, || stream.unit() as f32 - 0.5);
    InputRow { number, text, vector }
}

impl Input {
    pub(crate) fn new(count: usize, has_keys: bool) -> Self {
        let is_copy = |number: u64| !has_keys && number % 50 == 49;
        let rows = (0..count as u64).map(|number| row(number - u64::from(is_copy(number)))).collect();
        Self { rows, has_keys }
    }

    pub(crate) fn field_names(&self) -> FieldNames {
        FieldNames {
            key: self.has_keys.then(|| "id".to_owned()),
            text: Some("text".to_owned()),
            vector: Some("v".to_owned()),
        }
    }

    /// Writes the rows as JSON Lines.
    pub(crate) fn write(&self, path: &Path) {
        let mut lines = String::new();
        for row in &self.rows {
            let InputRow { number, text, vector } = row;
            lines.push('{');
            if self.has_keys {
                write!(lines, "\"id\":\"{}\",", key_of(*number)).unwrap();
            }
            writeln!(lines, "\"text\":\"{text}\",\"number\":{number},\"v\":{vector:?}}}").unwrap();
        }
        std::fs::write(path, lines).unwrap();
    }
}

/// The files of a test, in the target folder: a real disk even where the system's folder for temporary files is memory.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub(crate) fn store_path(folder: &Path) -> PathBuf {
    folder.join("store")
}

pub(crate) fn input_path(folder: &Path) -> PathBuf {
    folder.join("rows.jsonl")
}

pub(crate) fn words_column(name: &str) -> ColumnDefinition {
    let encoder = ColumnEncoder::BuiltIn(EncoderSpecification::Hashed { width: 16 });
    ColumnDefinition { name: name.to_owned(), element: ElementType::F32, encoder }
}

/// Creates the store in `folder`, empty.
pub(crate) fn create(folder: &Path) -> Store {
    let encoder = ColumnEncoder::BuiltIn(EncoderSpecification::Vectors { width: WIDTH });
    let vectors = ColumnDefinition { name: VECTORS.to_owned(), element: ElementType::F32, encoder };
    let create = CreateOptions {
        fields: vec![FieldDeclaration { name: "number".to_owned(), kind: FieldType::Integer }],
        columns: vec![words_column(WORDS), vectors],
    };
    Store::create_at(&store_path(folder), create, OpenOptions::default()).unwrap()
}

/// Ingests what is left of the input in `folder`.
pub(crate) fn ingest(
    store: &mut Store,
    folder: &Path,
    fields: &FieldNames,
    on_commit: &mut dyn FnMut(&IngestCommit),
) -> (Resumed, IngestReport) {
    let path = input_path(folder);
    let name = path.to_str().unwrap().to_owned();
    let position = store.source_position(&name);
    let opened = open_path(&path, None, fields, position.as_ref()).unwrap();
    let options =
        IngestOptions { commit_rows: COMMIT_ROWS, resume_path: Some(name), ..IngestOptions::default() };
    let cancel = Cancel::new();
    let report = store.ingest(opened.source, &options, Watch::silent(&cancel), on_commit).unwrap();
    (opened.resumed, report)
}

/// The `k` rows at each end of the vectors column for the unit vector of `axis`.
pub(crate) fn along(snapshot: &Snapshot, axis: usize, k: usize) -> Answer {
    let mut vector = vec![0.0; WIDTH];
    vector[axis] = 1.0;
    let query = Query { k, column: Some(VECTORS.to_owned()), ..Query::new(QueryInput::Vector(vector)) };
    snapshot.query(&query, &Cancel::new()).unwrap()
}

/// The rows nearest to and farthest from a text, by column `column`.
pub(crate) fn about(snapshot: &Snapshot, column: &str, text: &str) -> Answer {
    let query = Query { k: 7, column: Some(column.to_owned()), ..Query::text(text) };
    snapshot.query(&query, &Cancel::new()).unwrap()
}

fn numbers(hits: &[ascribe::engine::Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.metadata["number"].as_u64().unwrap()).collect()
}

/// Checks that `snapshot` holds exactly a whole number of commits from the start of the input, each row once, and
/// answers like that. Returns the number of rows.
pub(crate) fn check_prefix(snapshot: &Snapshot, input: &Input) -> usize {
    let count = usize::try_from(snapshot.row_count()).unwrap();
    let total = input.rows.len();
    assert!(count <= total, "{count} rows of {total}");
    assert!(count.is_multiple_of(COMMIT_ROWS) || count == total, "{count} rows are no whole commits");
    if count == 0 {
        assert!(along(snapshot, 0, 1).proponents.is_empty());
        return 0;
    }
    let rows = &input.rows[..count];

    let all = along(snapshot, 0, count);
    let mut expected: Vec<u64> = rows.iter().map(|row| row.number).collect();
    expected.reverse();
    assert_eq!(numbers(&all.proponents), expected, "not the first {count} rows, each once");
    assert!(all.opponents.is_empty());
    for hit in &all.proponents {
        let row = &rows[hit.metadata["number"].as_u64().unwrap() as usize];
        assert_eq!((hit.score, &hit.text), (f64::from(row.vector[0]), &row.text));
    }
    let keys: BTreeSet<&str> = all.proponents.iter().map(|hit| hit.key.as_str()).collect();
    assert_eq!(keys.len(), count, "two rows have one key");

    let ends = along(snapshot, 1, 3);
    let top = |is_even: bool| -> Vec<u64> {
        let numbers = rows.iter().rev().map(|row| row.number);
        numbers.filter(|number| number.is_multiple_of(2) == is_even).take(3).collect()
    };
    assert_eq!((numbers(&ends.proponents), numbers(&ends.opponents)), (top(true), top(false)));

    let last = &rows[count - 1].text;
    let words = about(snapshot, WORDS, last);
    assert_eq!(words.rows, count as u64);
    assert!(
        words.proponents.iter().any(|hit| hit.text == *last),
        "no row is nearer to its own text: {words:?}"
    );
    check_lookups(snapshot, input, count);
    count
}

/// Looks rows up by key and by field, at the end of the rows and behind it.
fn check_lookups(snapshot: &Snapshot, input: &Input, count: usize) {
    let middle = input.rows[count / 2].number;
    let query = Query { filter: Some(format!("number < {middle}")), ..Query::text("stone") };
    let answer = snapshot.query(&query, &Cancel::new()).unwrap();
    let eligible = input.rows[..count].iter().filter(|row| row.number < middle).count();
    assert_eq!((answer.rows, answer.eligible_rows), (count as u64, eligible as u64));
    if !input.has_keys {
        return;
    }
    for row in [&input.rows[0], &input.rows[count - 1]] {
        let found = snapshot.row(&key_of(row.number)).unwrap().unwrap();
        assert_eq!(found.text, row.text);
    }
    assert!(snapshot.row(&key_of(count as u64)).unwrap().is_none());
}
