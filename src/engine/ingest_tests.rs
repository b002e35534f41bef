//! The stages of an ingest with encoders that watch, wait and fail.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Map;

use super::{
    ColumnDefinition, ColumnEncoder, CreateOptions, IngestCommit, IngestOptions, IngestReport, OnDuplicate,
    OpenOptions, Query, QueryInput, Store, Watch,
};
use crate::base::{Cancel, ElementType, Fingerprint};
use crate::encoder::{EncodeError, Encoder, EncoderSpecification};
use crate::sources::{Document, Place, Position, Source, SourceError};
use crate::storage::SimulatedStorage;

const LONG: Duration = Duration::from_secs(30);

type OnText = dyn Fn(&str) -> Result<(), EncodeError> + Send + Sync;

/// An encoder whose vector is the length of the text; it asks `on_text` first.
struct Watched {
    on_text: Box<OnText>,
    encoded: AtomicU64,
}

impl Watched {
    fn new(on_text: impl Fn(&str) -> Result<(), EncodeError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { on_text: Box::new(on_text), encoded: AtomicU64::new(0) })
    }

    fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watched")
    }
}

impl Encoder for Watched {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(b"watched")
    }

    fn name(&self) -> String {
        "watched".to_owned()
    }

    fn width(&self) -> usize {
        1
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError> {
        for (text, value) in texts.iter().zip(out) {
            (self.on_text)(text)?;
            *value = text.len() as f32;
            self.encoded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Documents made on demand, with the texts and keys that a function gives; counts those taken.
struct Made<F> {
    make: F,
    taken: Arc<AtomicUsize>,
}

impl<F: FnMut(usize) -> Option<(String, String)> + Send> Source for Made<F> {
    fn next(&mut self) -> Result<Option<Document>, SourceError> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place { input: "made".to_owned(), unit: "row", number: number as u64 + 1 };
        let document = (self.make)(number).map(|(key, text)| Document {
            key: Some(key),
            text: Some(text),
            vector: None,
            metadata: Map::new(),
            place,
        });
        Ok(document)
    }

    fn position(&self) -> Option<Position> {
        None
    }

    fn name(&self) -> &str {
        "made"
    }

    fn total_bytes(&self) -> Option<u64> {
        None
    }

    fn consumed_bytes(&self) -> u64 {
        0
    }
}

fn made(make: impl FnMut(usize) -> Option<(String, String)> + Send + 'static) -> Box<dyn Source> {
    Box::new(Made { make, taken: Arc::default() })
}

/// Rows `r0`, `r1`, ... whose text is `text N` and a run of letters that makes lengths differ.
fn rows(count: usize) -> Box<dyn Source> {
    made(move |number| (number < count).then(|| (format!("r{number}"), text_of(number))))
}

fn text_of(number: usize) -> String {
    format!("text {number} {}", "x".repeat(number * 7919 % 97))
}

fn store(encoder: &Arc<Watched>) -> Store {
    let given = ColumnEncoder::Given(Arc::clone(encoder) as Arc<dyn Encoder>);
    let watched = ColumnDefinition { name: "watched".into(), element: ElementType::F32, encoder: given };
    let hashed = ColumnEncoder::BuiltIn(EncoderSpecification::Hashed { width: 16 });
    let hashed = ColumnDefinition { name: "hashed".into(), element: ElementType::F32, encoder: hashed };
    let create = CreateOptions { columns: vec![watched, hashed], ..CreateOptions::default() };
    Store::create(Arc::new(SimulatedStorage::new()), create, OpenOptions::default()).unwrap()
}

fn by(commit_rows: usize) -> IngestOptions {
    IngestOptions { commit_rows, ..IngestOptions::default() }
}

fn ingest(
    store: &mut Store,
    source: Box<dyn Source>,
    options: &IngestOptions,
    on_commit: &mut dyn FnMut(&IngestCommit),
) -> Result<IngestReport, String> {
    let cancel = Cancel::new();
    store.ingest(source, options, Watch::silent(&cancel), on_commit).map_err(|error| error.to_string())
}

/// Ingests one row, so that no later ingest begins with gathering rows to fit to.
fn fit(store: &mut Store) {
    let row = made(|number| (number == 0).then(|| ("fit".to_owned(), "fit".to_owned())));
    ingest(store, row, &by(1), &mut |_| {}).unwrap();
}

#[test]
fn the_next_commit_is_encoded_while_one_is_written() {
    let (sender, begun) = mpsc::channel();
    let sender = Mutex::new(sender);
    let encoder = Watched::new(move |text| {
        if text.starts_with("text 3 ") {
            sender.lock().unwrap().send(()).unwrap();
        }
        Ok(())
    });
    let mut store = store(&encoder);
    fit(&mut store);
    let mut commits = 0;
    let report = ingest(&mut store, rows(6), &by(2), &mut |_| {
        commits += 1;
        if commits == 1 {
            // Nothing more is written until this returns: rows 2 and 3 are encoded meanwhile, or never.
            begun.recv_timeout(LONG).expect("the second commit was not encoded during the first");
        }
    })
    .unwrap();
    assert_eq!((report.rows_read, report.rows_added, report.commits, commits), (6, 6, 3, 3));
    let counts: Vec<(&str, u64)> =
        report.stages.iter().map(|stage| (stage.name.as_str(), stage.items)).collect();
    // Two columns of texts: each text is encoded twice.
    let expected = [("read", 6), ("prepare", 6), ("encode cpu", 12), ("write", 6), ("commit", 3)];
    assert_eq!(counts, expected);
    assert!(report.stages[2].tokens > 12 && report.stages[3].bytes > 0, "{:?}", report.stages);
}

#[test]
fn every_row_gets_its_own_vectors_whatever_the_tasks() {
    for batch_texts in [None, std::num::NonZeroUsize::new(1), std::num::NonZeroUsize::new(7)] {
        let mut store = store(&Watched::new(|_| Ok(())));
        let options = IngestOptions { batch_texts, ..by(150) };
        // Some keys come again, in the same commit and in a later one: their vectors must be left out too.
        let key = |number: usize| if number % 10 == 9 { number - 9 } else { number };
        let source =
            made(move |number| (number < 400).then(|| (format!("r{}", key(number)), text_of(number))));
        let skip = IngestOptions { on_duplicate: OnDuplicate::Skip, ..options };
        let report = ingest(&mut store, source, &skip, &mut |_| {}).unwrap();
        assert_eq!((report.rows_added, report.rows_skipped), (360, 40));
        let column = Some("watched".to_owned());
        let query = Query { k: 400, column, ..Query::new(QueryInput::Vector(vec![1.0])) };
        let answer = store.snapshot().query(&query, &Cancel::new()).unwrap();
        assert_eq!(answer.proponents.len(), 360);
        for hit in &answer.proponents {
            assert_eq!(hit.score, hit.text.len() as f64, "{hit:?}");
            assert_eq!(hit.text, text_of(hit.key[1..].parse().unwrap()));
        }
        let own = Query { k: 1, column: Some("hashed".to_owned()), ..Query::text(text_of(123)) };
        let nearest = store.snapshot().query(&own, &Cancel::new()).unwrap();
        assert!((nearest.proponents[0].score - 1.0).abs() < 1e-6, "{nearest:?}");
    }
}

#[test]
fn a_failure_in_the_middle_leaves_all_before_it_and_nothing_behind() {
    let failed = || EncodeError::Failed { encoder: "watched".into(), reason: "row 5 is cursed".into() };
    let fails = Watched::new(move |text| if text.starts_with("text 5 ") { Err(failed()) } else { Ok(()) });
    let panics = Watched::new(|text| {
        assert!(!text.starts_with("text 5 "), "row 5 is cursed");
        Ok(())
    });
    for (encoder, reason) in [(fails, "failed: row 5 is cursed"), (panics, "it panicked (row 5 is cursed)")] {
        let mut store = store(&encoder);
        fit(&mut store);
        let mut last = None;
        let refused = ingest(&mut store, rows(100), &by(2), &mut |commit| last = Some(commit.clone()));
        let text = refused.unwrap_err();
        assert!(text.contains(reason), "{text}");
        assert!(text.ends_with("4 rows up to made, row 4 are committed and stay"), "{text}");
        assert_eq!(last.map(|commit| (commit.committed, commit.last_key)), Some((4, "r3".to_owned())));
        assert_eq!(store.snapshot().row_count(), 5);
        // The store goes on as if nothing had been.
        let rest = made(|number| (number < 9).then(|| (format!("s{number}"), "other".to_owned())));
        assert_eq!(ingest(&mut store, rest, &by(4), &mut |_| {}).unwrap().rows_added, 9);
        let atomic = IngestOptions { atomic: true, ..by(2) };
        let cursed = made(|number| Some((format!("t{number}"), format!("text {number} "))));
        let text = ingest(&mut store, cursed, &atomic, &mut |_| {}).unwrap_err();
        assert!(text.ends_with("nothing was committed"), "{text}");
        assert_eq!(store.snapshot().row_count(), 14);
    }
}

#[test]
fn rows_that_are_there_are_not_encoded_again() {
    let encoder = Watched::new(|_| Ok(()));
    let mut store = store(&encoder);
    ingest(&mut store, rows(40), &by(10), &mut |_| {}).unwrap();
    assert_eq!(encoder.encoded(), 40);
    let commit = store.snapshot().commit();
    let skip = IngestOptions { on_duplicate: OnDuplicate::Skip, ..by(10) };
    let mut told = Vec::new();
    let report = ingest(&mut store, rows(45), &skip, &mut |commit| {
        told.push((commit.committed, commit.last_key.clone(), commit.rows));
    });
    let report = report.unwrap();
    assert_eq!((encoder.encoded(), report.rows_skipped, report.rows_added), (45, 40, 5));
    // Who sends hears that old rows are safe, though there was nothing to commit.
    assert_eq!(told.len(), 5);
    assert_eq!((told[0].clone(), told[4].clone()), ((0, "r9".to_owned(), 0), (5, "r44".to_owned(), 5)));
    assert_eq!((report.commits, store.snapshot().commit().0), (1, commit.0 + 1));
    let again = ingest(&mut store, rows(45), &by(10), &mut |_| {}).unwrap_err();
    assert!(again.contains("\"r0\" is in the store already"), "{again}");
}

#[test]
fn long_documents_do_not_pile_up_before_a_slow_encoder() {
    const TEXT_BYTES: usize = 4 << 20;
    let mut store = store(&Watched::new(|_| Ok(())));
    store.drop_column("hashed").unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let make = |number: usize| (number < 60).then(|| (format!("r{number}"), "x".repeat(TEXT_BYTES)));
    let source = Box::new(Made { make, taken: Arc::clone(&taken) });
    let mut most_ahead = 0;
    ingest(&mut store, source, &by(2), &mut |commit| {
        // The stages before go on until there is no room.
        std::thread::sleep(Duration::from_millis(if commit.committed == 2 { 500 } else { 0 }));
        most_ahead = most_ahead.max(taken.load(Ordering::Relaxed) - commit.committed as usize);
    })
    .unwrap();
    // Four commits of two between the stages and in them, 16 MiB before the first stage, and one in each hand.
    assert!((8..=18).contains(&most_ahead), "{most_ahead} documents were held");
}

#[test]
fn a_request_to_stop_ends_all_stages_soon() {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let seen = AtomicUsize::new(0);
    let encoder = Watched::new(move |_| {
        std::thread::sleep(Duration::from_millis(1));
        if seen.fetch_add(1, Ordering::Relaxed) == 30 {
            stop.cancel();
        }
        Ok(())
    });
    let mut store = store(&encoder);
    fit(&mut store);
    let endless = made(|number| Some((format!("r{number}"), text_of(number))));
    let mut last = 0;
    let report = store
        .ingest(endless, &by(10), Watch::silent(&cancel), &mut |commit| last = commit.committed)
        .unwrap();
    assert!(report.cancelled && report.rows_added == last && last.is_multiple_of(10), "{report:?}");
    assert_eq!(store.snapshot().row_count(), last + 1);
    assert!(encoder.encoded() < 200, "{} texts were still encoded", encoder.encoded());
}

#[test]
fn a_column_added_later_has_the_vectors_of_all_rows() {
    let mut store = store(&Watched::new(|_| Ok(())));
    ingest(&mut store, rows(300), &by(100), &mut |_| {}).unwrap();
    let later = Watched::new(|_| Ok(()));
    let given = ColumnEncoder::Given(Arc::clone(&later) as Arc<dyn Encoder>);
    let column = ColumnDefinition { name: "later".into(), element: ElementType::F32, encoder: given };
    let cancel = Cancel::new();
    let stopped = Cancel::new();
    stopped.cancel();
    assert!(store.add_column(column.clone(), Watch::silent(&stopped)).is_err());
    assert_eq!(store.snapshot().column_names().count(), 2);
    store.add_column(column, Watch::silent(&cancel)).unwrap();
    let ask = |name: &str| {
        let column = Some(name.to_owned());
        let query = Query { k: 300, column, ..Query::new(QueryInput::Vector(vec![1.0])) };
        store.snapshot().query(&query, &cancel).unwrap().proponents
    };
    assert_eq!(ask("later"), ask("watched"));
    assert!(ask("later").iter().all(|hit| hit.score == hit.text.len() as f64));
    assert_eq!(ask("later").iter().map(|hit| hit.key.clone()).collect::<BTreeSet<_>>().len(), 300);
}
