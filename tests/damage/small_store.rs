//! A small store with one of everything that exists so far: three segments, tombstones, four embedding columns (f32 and
//! int8 from two encoders with state, f16 of ready vectors that one segment lacks, bf16 without any rows), declared
//! fields of every type with missing values, undeclared fields, a field declared late, a remembered input, a history of
//! commits.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ascribe::base::{Cancel, Clock, ElementType, FieldDeclaration, FieldType};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, ColumnEncoder, CreateOptions, DeleteSelection, IngestOptions, OnDuplicate, OpenOptions,
    Store, Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Source, from_reader, open_path};
use ascribe::storage::{SimulatedStorage, Storage};

/// Every key that was ever in the store, and one that never was.
pub(crate) const KEYS: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "nobody"];

const FIRST: &str = r#"{"key":"a","text":"cat on mat","vector":[1,0,0.5,-1],"label":"alpha","year":1990,"score":0.5,"good":true,"seen":"2020-01-02T03:04:05Z","page":3}
{"key":"b","text":"dog on mat","vector":[0,1,-0.5,2],"label":"beta","year":null,"score":-1.5,"good":false,"seen":null,"late":7}
{"key":"c","text":"rain","vector":[-1,-1,0,0.25],"label":null,"year":2001,"score":null,"good":null,"seen":"1999-12-31T23:59:59Z","note":{"x":[1,"y"]}}
{"key":"d","text":"cat rain","vector":[0.5,0.5,0.5,0.5],"year":-4}
"#;

const SECOND: &str = r#"{"key":"e","text":"sea dog","vector":[2,0,0,1],"label":"alpha","year":1991,"late":1}
{"key":"f","text":"mat","vector":[0,-2,1,0],"score":2.25,"good":true,"late":null,"page":9}
{"key":"g","text":"é sea","vector":[0,0,-3,1],"label":"gamma","seen":"2021-06-01","late":-5}
"#;

/// Replaces `f`; has no vectors, so that this segment lacks a column.
const THIRD: &str = r#"{"key":"f","text":"mat rain","label":"delta","late":2}
{"key":"h","text":"cat sea","year":7}
{"key":"i","text":"dog","good":false}
{"key":"j","text":"","label":"empty"}
"#;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

/// One thread and a clock that stands.
pub(crate) fn options() -> OpenOptions {
    OpenOptions { threads: NonZeroUsize::new(1), clock: Arc::new(FixedClock), ..OpenOptions::default() }
}

pub(crate) fn column(name: &str, encoder: &str, element: ElementType) -> ColumnDefinition {
    let specification = EncoderSpecification::parse(encoder).unwrap();
    ColumnDefinition { name: name.to_owned(), element, encoder: ColumnEncoder::BuiltIn(specification) }
}

pub(crate) fn declaration(name: &str, kind: FieldType) -> FieldDeclaration {
    FieldDeclaration { name: name.to_owned(), kind }
}

pub(crate) fn field_names() -> FieldNames {
    FieldNames { key: Some("key".into()), text: Some("text".into()), vector: Some("vector".into()) }
}

pub(crate) fn lines(rows: &'static str) -> Box<dyn Source> {
    let mut fields = field_names();
    fields.vector = fields.vector.filter(|name| rows.contains(name.as_str()));
    fields.key = fields.key.filter(|name| rows.contains(name.as_str()));
    from_reader(rows.as_bytes(), "rows", InputFormat::JsonLines, &fields).unwrap()
}

fn ingest(store: &mut Store, source: Box<dyn Source>, options: &IngestOptions) {
    store.ingest(source, options, Watch::silent(&Cancel::new()), &mut |_| {}).unwrap();
}

/// Builds the store in `storage` and closes it. `committed` is called after commits, the last one included, while the
/// store is open.
pub(crate) fn build(storage: Arc<dyn Storage>, mut committed: impl FnMut()) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("first.jsonl");
    std::fs::write(&input, FIRST).unwrap();
    let fields = [
        ("label", FieldType::Text),
        ("year", FieldType::Integer),
        ("score", FieldType::Float),
        ("good", FieldType::Boolean),
        ("seen", FieldType::Timestamp),
    ];
    let create = CreateOptions {
        fields: fields.map(|(name, kind)| declaration(name, kind)).to_vec(),
        columns: vec![
            column("embedding", "hashed:16", ElementType::F32),
            column("ready", "vectors:4", ElementType::F16),
            column("other", "vectors:3", ElementType::BF16),
        ],
    };
    let mut store = Store::create(storage, create, options()).unwrap();
    committed();
    let ready = IngestOptions { column: Some("ready".to_owned()), ..IngestOptions::default() };
    // A fixed path, so that the store's files are the same each time.
    let remembered = IngestOptions { resume_path: Some("/rows/first.jsonl".to_owned()), ..ready.clone() };
    let first = open_path(Path::new(&input), None, &field_names(), None).unwrap().source;
    ingest(&mut store, first, &remembered);
    committed();
    store.add_field(declaration("late", FieldType::Integer)).unwrap();
    ingest(&mut store, lines(SECOND), &ready);
    committed();
    let small = column("small", "hashed:8", ElementType::I8);
    store.add_column(small, Watch::silent(&Cancel::new())).unwrap();
    store.delete(&DeleteSelection::Keys(vec!["b".to_owned()])).unwrap();
    committed();
    let replace = IngestOptions { on_duplicate: OnDuplicate::Replace, ..ready };
    ingest(&mut store, lines(THIRD), &replace);
    committed();
}

/// The store on a simulated medium, closed.
pub(crate) fn simulated() -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    build(Arc::new(storage.clone()), || {});
    storage
}

/// What the medium held after some of the store's commits, the last one excluded.
pub(crate) fn history() -> Vec<SimulatedStorage> {
    let storage = SimulatedStorage::new();
    let mut states = Vec::new();
    build(Arc::new(storage.clone()), || states.push(storage.duplicate()));
    states.pop();
    states
}
