//! The library as programs use it: what a store takes, refuses and answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{Cursor, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, Fingerprint};
use ascribe::encoder::{EncodeError, Encoder, EncoderSpecification};
use ascribe::engine::{
    AlterError, ColumnDefinition, ColumnEncoder, CreateError, CreateOptions, DeleteSelection, EncoderError,
    Import, IngestOptions, IngestReport, OnDuplicate, OpenError, OpenOptions, Query, QueryError, QueryInput,
    Reader, Store, Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, Source, from_reader, open_path};
use ascribe::storage::{SimulatedStorage, Storage};

/// An encoder of the program: the lengths of the text and of its first word, times a factor that makes it another one.
#[derive(Debug)]
struct Lengths(f32);

impl Encoder for Lengths {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.to_le_bytes())
    }

    fn name(&self) -> String {
        format!("lengths:{}", self.0)
    }

    fn width(&self) -> usize {
        2
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError> {
        for (text, vector) in texts.iter().zip(out.chunks_mut(2)) {
            let word = text.split(' ').next().unwrap_or_default();
            vector.copy_from_slice(&[self.0 * text.len() as f32, self.0 * word.len() as f32]);
        }
        Ok(())
    }
}

fn built_in(name: &str, specification: &str, element: ElementType) -> ColumnDefinition {
    let encoder = ColumnEncoder::BuiltIn(EncoderSpecification::parse(specification).unwrap());
    ColumnDefinition { name: name.to_owned(), element, encoder }
}

fn field(name: &str, kind: FieldType) -> FieldDeclaration {
    FieldDeclaration { name: name.to_owned(), kind }
}

fn new_store(columns: Vec<ColumnDefinition>, fields: Vec<FieldDeclaration>) -> (Arc<dyn Storage>, Store) {
    let storage: Arc<dyn Storage> = Arc::new(SimulatedStorage::new());
    let create = CreateOptions { fields, columns };
    let store = Store::create(Arc::clone(&storage), create, OpenOptions::default()).unwrap();
    (storage, store)
}

fn text_store() -> (Arc<dyn Storage>, Store) {
    new_store(
        vec![built_in("embedding", "hashed:32", ElementType::F32)],
        vec![field("year", FieldType::Integer)],
    )
}

fn vector_store(element: ElementType) -> (Arc<dyn Storage>, Store) {
    new_store(vec![built_in("embedding", "vectors:2", element)], Vec::new())
}

fn source(lines: &str, key: Option<&str>, vector: Option<&str>) -> Box<dyn Source> {
    let fields = FieldNames { key: key.map(Into::into), text: None, vector: vector.map(Into::into) };
    from_reader(Cursor::new(lines.to_owned()), "rows", InputFormat::JsonLines, &fields).unwrap()
}

fn ingest(
    store: &mut Store,
    source: Box<dyn Source>,
    options: &IngestOptions,
) -> Result<IngestReport, String> {
    let cancel = Cancel::new();
    store.ingest(source, options, Watch::silent(&cancel), &mut |_| {}).map_err(|error| error.to_string())
}

fn keys_of(store: &Store, filter: &str) -> Vec<String> {
    let query = Query { filter: Some(filter.to_owned()), k: 100, ..Query::text("a b c d") };
    let answer = store.snapshot().query(&query, &Cancel::new()).unwrap();
    answer.proponents.into_iter().map(|hit| hit.key).collect()
}

#[test]
fn another_encoder_is_refused_when_opening_and_its_absence_when_asking() {
    let storage: Arc<dyn Storage> = Arc::new(SimulatedStorage::new());
    let given = ColumnEncoder::Given(Arc::new(Lengths(1.0)));
    let column = ColumnDefinition { name: "own".into(), element: ElementType::F32, encoder: given };
    let create = CreateOptions { columns: vec![column], ..CreateOptions::default() };
    let mut store = Store::create(Arc::clone(&storage), create, OpenOptions::default()).unwrap();
    let rows = source("{\"id\": \"a\", \"text\": \"one two\"}", Some("id"), None);
    ingest(&mut store, rows, &IngestOptions::default()).unwrap();
    drop(store);

    let with = |name: &str, encoder: Arc<dyn Encoder>| OpenOptions {
        encoders: vec![(name.to_owned(), encoder)],
        ..OpenOptions::default()
    };
    let other = Store::open(Arc::clone(&storage), with("own", Arc::new(Lengths(2.0))));
    let Err(OpenError::Encoder(EncoderError::Mismatch { column, expected, found })) = other else {
        panic!("{other:?}");
    };
    assert!(column == "own" && expected.contains("lengths:1") && found.contains("lengths:2"));
    let stray = Reader::open(Arc::clone(&storage), with("embedding", Arc::new(Lengths(1.0))));
    assert!(matches!(stray, Err(OpenError::Encoder(EncoderError::UnknownColumn { .. }))), "{stray:?}");

    let mut without = Store::open(Arc::clone(&storage), OpenOptions::default()).unwrap();
    let asked = without.snapshot().query(&Query::text("one"), &Cancel::new());
    assert!(matches!(asked, Err(QueryError::Encoder(EncoderError::NotGiven { .. }))), "{asked:?}");
    let row = source("{\"id\": \"b\", \"text\": \"x\"}", Some("id"), None);
    let refused = ingest(&mut without, row, &IngestOptions::default()).unwrap_err();
    assert!(refused.contains("lengths:1") && refused.contains("nothing was committed"), "{refused}");
    drop(without);

    let right = Store::open(storage, with("own", Arc::new(Lengths(1.0)))).unwrap();
    let answer = right.snapshot().query(&Query::text("ab"), &Cancel::new()).unwrap();
    assert_eq!((answer.proponents[0].score, answer.encoder.as_str()), (2.0 * 7.0 + 2.0 * 3.0, "lengths:1"));
}

#[test]
fn bad_rows_are_refused_with_their_place_and_nothing_of_their_batch_stays() {
    let (_, mut store) = vector_store(ElementType::F16);
    let good = "{\"id\": \"a\", \"v\": [1, 2]}\n{\"id\": \"b\", \"v\": [3, 4]}\n";
    for (line, reason) in [
        ("{\"id\": \"c\", \"v\": [1, 2, 3]}", "has 3 values, column \"embedding\" has 2"),
        ("{\"id\": \"c\", \"v\": [1, 70000]}", "value 1 of the vector for column \"embedding\" is 70000"),
        ("{\"id\": \"a\", \"v\": [1, 2]}", "came before, at rows, line 1"),
        ("{\"id\": \"c\"}", "vector"),
        ("{\"id\": \"c\", \"v\": [1, 1e300]}", "rows, line 3"),
    ] {
        let rows = source(&format!("{good}{line}\n"), Some("id"), Some("v"));
        let refused = ingest(&mut store, rows, &IngestOptions::default()).unwrap_err();
        assert!(refused.contains("line 3") && refused.contains(reason), "{refused}");
        assert!(refused.contains("nothing was committed"), "{refused}");
        assert_eq!(store.snapshot().row_count(), 0);
        let options =
            IngestOptions { commit_rows: 2, on_duplicate: OnDuplicate::Error, ..IngestOptions::default() };
        let (_, mut by_two) = vector_store(ElementType::F16);
        let rows = source(&format!("{good}{line}\n"), Some("id"), Some("v"));
        let refused = ingest(&mut by_two, rows, &options).unwrap_err();
        assert!(refused.contains("2 rows up to rows, line 2 are committed"), "{refused}");
        assert_eq!(by_two.snapshot().row_count(), 2);
    }
    let (_, mut texts) = text_store();
    let mixed = "{\"text\": \"a\"}\n{\"title\": \"b\"}\n";
    let refused = ingest(&mut texts, source(mixed, None, None), &IngestOptions::default()).unwrap_err();
    assert!(refused.contains("line 2") && refused.contains("--text FIELD"), "{refused}");
    let typed = "{\"text\": \"a\", \"year\": \"1990\"}\n";
    let refused = ingest(&mut texts, source(typed, None, None), &IngestOptions::default()).unwrap_err();
    assert!(refused.contains("field \"year\"") && refused.contains("integer"), "{refused}");
}

#[test]
fn rows_without_a_key_get_a_content_hash_with_a_counter() {
    let (_, mut store) = text_store();
    let rows = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"a\"}\n";
    ingest(&mut store, source(rows, None, None), &IngestOptions::default()).unwrap();
    ingest(&mut store, source(rows, None, None), &IngestOptions::default()).unwrap();
    let all = store.snapshot();
    assert_eq!(all.row_count(), 6, "equal rows are different rows");
    let skip = IngestOptions { on_duplicate: OnDuplicate::Skip, ..IngestOptions::default() };
    let report = ingest(&mut store, source(rows, None, None), &skip).unwrap();
    assert_eq!((report.rows_added, report.rows_skipped), (0, 3), "equal content is known");
    let answer = all.query(&Query::text("a"), &Cancel::new()).unwrap();
    let key = &answer.proponents[0].key;
    let (hash, counter) = key.rsplit_once('-').unwrap();
    assert!(hash.len() == 32 && counter.parse::<u64>().is_ok(), "{key}");
}

#[test]
fn a_file_is_resumed_where_it_grew_and_begun_again_where_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let resume_path = Some(path.display().to_string());
    let options = IngestOptions { commit_rows: 2, resume_path, ..IngestOptions::default() };
    let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
    let (_, mut store) = text_store();
    let mut run = |content: &str| {
        std::fs::write(&path, content).unwrap();
        let position = store.source_position(&path.display().to_string());
        let opened = open_path(&path, None, &fields, position.as_ref()).unwrap();
        let report = ingest(&mut store, opened.source, &options);
        (report.map(|report| report.rows_read), store.snapshot().row_count())
    };
    let line = |number: usize| format!("{{\"id\": \"r{number}\", \"text\": \"text {number}\"}}\n");
    let three: String = (0..3).map(line).collect();
    let five: String = (0..5).map(line).collect();
    assert_eq!(run(&three), (Ok(3), 3));
    assert_eq!(run(&three), (Ok(0), 3));
    assert_eq!(run(&five), (Ok(2), 5));
    let (refused, rows) = run(&five.replace("text 1", "other"));
    assert!(refused.unwrap_err().contains("\"r0\" is in the store already"));
    assert_eq!(rows, 5);
}

#[test]
fn a_silent_pipe_is_committed_in_time_and_can_be_given_up() {
    let (_, mut store) = text_store();
    let (read, mut write) = std::io::pipe().unwrap();
    let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
    let rows = from_reader(read, "pipe", InputFormat::JsonLines, &fields).unwrap();
    let every = Some(Duration::from_millis(20));
    let options = IngestOptions { commit_every: every, ..IngestOptions::default() };
    let cancel = Cancel::new();
    let (sender, commits) = mpsc::channel();
    let snapshots = store.snapshots();
    let stop = cancel.clone();
    let feeder = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for number in 0..3 {
            write.write_all(format!("{{\"id\": \"p{number}\", \"text\": \"t\"}}\n").as_bytes()).unwrap();
            write.flush().unwrap();
            // The next line is written only after this one is committed, although the pipe stays open.
            seen.push(commits.recv_timeout(Duration::from_secs(30)).unwrap());
        }
        stop.cancel();
        (seen, write)
    });
    let report = store
        .ingest(rows, &options, Watch::silent(&cancel), &mut |commit| {
            sender.send((commit.committed, commit.last_key.clone())).unwrap();
        })
        .unwrap();
    let (seen, _still_open) = feeder.join().unwrap();
    assert!(report.cancelled && report.rows_added == 3, "{report:?}");
    assert_eq!(seen, [(1, "p0".to_owned()), (2, "p1".to_owned()), (3, "p2".to_owned())]);
    assert_eq!(snapshots.latest().row_count(), 3);
}

#[test]
fn a_field_declared_later_counts_for_rows_that_were_there() {
    let (_, mut store) = text_store();
    let rows = "{\"id\": \"a\", \"text\": \"a b\", \"stars\": 3}\n{\"id\": \"b\", \"text\": \"a c\"}\n";
    ingest(&mut store, source(rows, Some("id"), None), &IngestOptions::default()).unwrap();
    let wrong = store.add_field(field("stars", FieldType::Boolean));
    assert!(matches!(&wrong, Err(AlterError::Value { key, .. }) if key == "a"), "{wrong:?}");
    store.add_field(field("stars", FieldType::Integer)).unwrap();
    assert!(matches!(store.add_field(field("stars", FieldType::Text)), Err(AlterError::Definition(_))));
    let more = "{\"id\": \"c\", \"text\": \"a d\", \"stars\": 5}\n";
    ingest(&mut store, source(more, Some("id"), None), &IngestOptions::default()).unwrap();
    let mut keys = keys_of(&store, "stars >= 3");
    keys.sort();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(keys_of(&store, "stars IS NULL"), ["b"]);
    let row = store.snapshot().row("a").unwrap().unwrap();
    assert_eq!(row.metadata["stars"], 3);
}

#[test]
fn csv_values_take_the_declared_types() {
    let (_, mut store) = text_store();
    let csv = "id,text,year,note\na,a b,1990,x\nb,a c,,y\n";
    let fields = FieldNames { key: Some("id".into()), ..FieldNames::default() };
    let rows = from_reader(Cursor::new(csv), "rows.csv", InputFormat::Csv, &fields).unwrap();
    ingest(&mut store, rows, &IngestOptions::default()).unwrap();
    assert_eq!(keys_of(&store, "year = 1990"), ["a"]);
    assert_eq!(keys_of(&store, "year IS NULL"), ["b"]);
    let bad =
        from_reader(Cursor::new("id,text,year\nc,a,MM\n"), "rows.csv", InputFormat::Csv, &fields).unwrap();
    let refused = ingest(&mut store, bad, &IngestOptions::default()).unwrap_err();
    assert!(refused.contains("rows.csv") && refused.contains("\"year\""), "{refused}");
}

fn npy(rows: usize, values: &[f32]) -> Vec<u8> {
    let width = values.len() / rows;
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn import(store: &mut Store, keys: &str, values: &[f32], column: Option<&str>) -> Result<bool, String> {
    let rows = keys.lines().count();
    let bytes = npy(rows, values);
    let fields = FieldNames::of_keys_file();
    let mut keys =
        from_reader(Cursor::new(keys.to_owned()), "keys", InputFormat::JsonLines, &fields).unwrap();
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "E.npy").unwrap()),
        sketches: None,
        column: column.map(Into::into),
        on_duplicate: OnDuplicate::Error,
    };
    let cancel = Cancel::new();
    store
        .import(import, Watch::silent(&cancel))
        .map(|report| report.filled)
        .map_err(|error| error.to_string())
}

#[test]
fn an_import_adds_rows_or_fills_a_column_that_they_lack() {
    let (_, mut store) = vector_store(ElementType::F32);
    let keys = "{\"key\": \"a\", \"year\": 1}\n{\"key\": \"b\"}\n{\"key\": \"c\"}\n";
    assert_eq!(import(&mut store, keys, &[1.0, 0.0, 0.0, 1.0, -1.0, 0.0], None), Ok(false));
    assert!(import(&mut store, keys, &[1.0; 6], None).unwrap_err().contains("\"a\" is in the store already"));
    let nan = import(&mut store, "{\"key\": \"d\"}\n", &[1.0, f32::NAN], None).unwrap_err();
    assert!(nan.contains("E.npy, row 1") && nan.contains("value 1"), "{nan}");
    assert!(
        import(&mut store, "{\"key\": \"d\"}\n", &[1.0; 3], None).unwrap_err().contains("has 3 values a row")
    );

    let cancel = Cancel::new();
    let second = built_in("second", "vectors:1", ElementType::I8);
    store.add_column(second, Watch::silent(&cancel)).unwrap();
    store.delete(&DeleteSelection::Keys(vec!["b".into()])).unwrap();
    let ask = |store: &Store, column: &str, vector: Vec<f32>| {
        let query = Query {
            column: Some(column.into()),
            kind: ScoreKind::Dot,
            ..Query::new(QueryInput::Vector(vector))
        };
        store.snapshot().query(&query, &Cancel::new()).unwrap()
    };
    assert_eq!(ask(&store, "second", vec![1.0]).rows, 0);
    let partial = import(&mut store, "{\"key\": \"c\"}\n", &[2.0], Some("second")).unwrap_err();
    assert!(partial.contains("\"a\"") && partial.contains("needs all of them"), "{partial}");
    let two = "{\"key\": \"c\"}\n{\"key\": \"a\"}\n";
    assert_eq!(import(&mut store, two, &[2.0, -4.0], Some("second")), Ok(true));
    let answer = ask(&store, "second", vec![1.0]);
    assert_eq!(
        (answer.rows, answer.proponents[0].key.as_str(), answer.opponents[0].key.as_str()),
        (2, "c", "a")
    );
    assert!((answer.opponents[0].score + 4.0).abs() < 1e-6, "{answer:?}");
    assert_eq!(ask(&store, "embedding", vec![1.0, 0.0]).proponents[0].key, "a");
    assert!(import(&mut store, two, &[1.0, 1.0], Some("second")).is_err(), "the column is there already");
}

#[test]
fn the_column_of_vectors_need_be_named_only_where_vectors_come() {
    let columns = vec![
        built_in("embedding", "hashed:16", ElementType::F32),
        built_in("one", "vectors:2", ElementType::F32),
        built_in("two", "vectors:2", ElementType::F32),
    ];
    let (_, mut store) = new_store(columns, Vec::new());
    let text = source("{\"id\": \"a\", \"text\": \"a\"}\n", Some("id"), None);
    ingest(&mut store, text, &IngestOptions::default()).unwrap();
    let with_vector = "{\"id\": \"b\", \"text\": \"b\", \"v\": [1, 2]}\n";
    let unnamed = ingest(&mut store, source(with_vector, Some("id"), Some("v")), &IngestOptions::default());
    assert!(unnamed.unwrap_err().contains("several columns take ready vectors (one, two)"));
    let options = IngestOptions { column: Some("two".into()), ..IngestOptions::default() };
    ingest(&mut store, source(with_vector, Some("id"), Some("v")), &options).unwrap();
    let rows: Vec<u64> = store.snapshot().statistics().embeddings.iter().map(|column| column.rows).collect();
    assert_eq!(rows, [2, 0, 1]);
}

#[test]
fn a_snapshot_does_not_change_while_it_is_held() {
    let (_, mut store) = text_store();
    let rows = "{\"id\": \"a\", \"text\": \"a b\"}\n{\"id\": \"b\", \"text\": \"a c\"}\n";
    ingest(&mut store, source(rows, Some("id"), None), &IngestOptions::default()).unwrap();
    let cancel = Cancel::new();
    store.add_column(built_in("other", "hashed:16", ElementType::F16), Watch::silent(&cancel)).unwrap();
    let held = store.snapshot();
    let question = Query { column: Some("other".into()), ..Query::text("a") };
    let before = held.query(&question, &cancel).unwrap();
    store.delete(&DeleteSelection::Where("year IS NULL".into())).unwrap();
    store.drop_column("other").unwrap();
    let replaced = "{\"id\": \"a\", \"text\": \"z\"}\n";
    ingest(&mut store, source(replaced, Some("id"), None), &IngestOptions::default()).unwrap();
    let after = held.query(&question, &cancel).unwrap();
    assert_eq!((&after.proponents, &after.opponents), (&before.proponents, &before.opponents));
    assert_eq!((held.row_count(), store.snapshot().row_count()), (2, 1));
    assert!(matches!(store.snapshot().query(&question, &cancel), Err(QueryError::UnknownColumn { .. })));
    assert!(matches!(store.drop_column("embedding"), Err(AlterError::LastColumn { .. })));
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let (_, mut store) = text_store();
    let ask = |store: &Store, query: Query| store.snapshot().query(&query, &Cancel::new());
    assert!(matches!(ask(&store, Query::text("a")), Err(QueryError::Empty)));
    let rows = "{\"id\": \"a\", \"text\": \"a b\"}\n";
    ingest(&mut store, source(rows, Some("id"), None), &IngestOptions::default()).unwrap();
    assert!(matches!(ask(&store, Query { k: 0, ..Query::text("a") }), Err(QueryError::NoRows)));
    assert!(matches!(ask(&store, Query { k: usize::MAX, ..Query::text("a") }), Err(QueryError::Size(_))));
    let unknown = Query::new(QueryInput::Key("zz".into()));
    assert!(matches!(ask(&store, unknown), Err(QueryError::UnknownKey { .. })));
    let narrow = Query::new(QueryInput::Vector(vec![1.0]));
    assert!(matches!(ask(&store, narrow), Err(QueryError::Vector { .. })));
    let infinite = Query::new(QueryInput::Vector(vec![f32::INFINITY; 32]));
    assert!(matches!(ask(&store, infinite), Err(QueryError::Vector { .. })));
    let filter = Query { filter: Some("yaer = 1".into()), ..Query::text("a") };
    assert!(matches!(ask(&store, filter), Err(QueryError::Filter(_))));
    let nothing = ask(&store, Query { side: Side::Opponents, ..Query::text("") }).unwrap();
    assert!(nothing.proponents.is_empty() && nothing.opponents.is_empty(), "a score of 0 is at neither end");
    let cancelled = Cancel::new();
    cancelled.cancel();
    let stopped = store.snapshot().query(&Query::text("a"), &cancelled);
    assert!(matches!(stopped, Err(QueryError::Cancelled)));
}

#[test]
fn stores_that_make_no_sense_are_refused() {
    let storage: Arc<dyn Storage> = Arc::new(SimulatedStorage::new());
    let create = |columns: Vec<ColumnDefinition>, fields: Vec<FieldDeclaration>| {
        Store::create(Arc::clone(&storage), CreateOptions { fields, columns }, OpenOptions::default())
    };
    let column = || built_in("embedding", "hashed:16", ElementType::F32);
    assert!(matches!(create(Vec::new(), Vec::new()), Err(CreateError::NoColumn)));
    assert!(matches!(create(vec![column(), column()], Vec::new()), Err(CreateError::Definition { .. })));
    let twice = vec![field("x", FieldType::Text), field("x", FieldType::Float)];
    assert!(matches!(create(vec![column()], twice), Err(CreateError::Definition { .. })));
    let path = vec![field("../x", FieldType::Text)];
    assert!(matches!(create(vec![column()], path), Err(CreateError::Name(_))));
    assert!(Store::open(Arc::clone(&storage), OpenOptions::default()).is_err(), "nothing was created");
    create(vec![column()], Vec::new()).unwrap();
    assert!(matches!(create(vec![column()], Vec::new()), Err(CreateError::Writer(_))), "it is there already");
}
