//! Coarse codes and filters make scans shorter and their answers no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Cursor;
use std::num::NonZeroUsize;
use std::sync::Arc;

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::limits::{COARSE_ROWS_MIN, PREFILTER_ROWS_MIN};
use ascribe::base::{Cancel, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, DeleteSelection, Hit, IngestOptions, OpenOptions, Query,
    QueryInput, Reader, Store, Watch,
};
use ascribe::sources::{FieldNames, InputFormat, from_reader};
use ascribe::storage::{SimulatedStorage, Storage};

const WIDTH: usize = 40;

/// Rows of each segment: with coarse codes, with 8-bit codes alone, and too few for an index.
const SEGMENTS: [usize; 3] = [PREFILTER_ROWS_MIN as usize + 100, 1500, 100];
const ROWS: u64 = (SEGMENTS[0] + SEGMENTS[1] + SEGMENTS[2]) as u64;

fn options(threads: usize) -> OpenOptions {
    OpenOptions {
        threads: NonZeroUsize::new(threads),
        index_rows_min: 1000,
        compact: false,
        ..OpenOptions::default()
    }
}

/// Rows about a point that is not 0, of which some come twice.
fn vector(seed: u64) -> Vec<f32> {
    let mut stream = RandomStream::new(seed / 2 * 2);
    (0..WIDTH).map(|value| stream.unit() as f32 - 0.5 + value as f32 / 100.0).collect()
}

/// A store with a commit for each number of rows.
fn store_of(segments: &[usize], vector: impl Fn(u64) -> Vec<f32>) -> (Arc<SimulatedStorage>, Store) {
    let storage = Arc::new(SimulatedStorage::new());
    let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })];
    let fields = vec![FieldDeclaration { name: "hundredth".to_owned(), kind: FieldType::Integer }];
    let create = CreateOptions { columns, fields };
    let mut store = Store::create(Arc::clone(&storage) as Arc<dyn Storage>, create, options(2)).unwrap();
    for (segment, &rows) in segments.iter().enumerate() {
        let line = |row: usize| {
            let (seed, hundredth) = ((segment * 100_000 + row) as u64, row * 7 % 100);
            format!("{{\"id\":\"{segment}-{row}\",\"hundredth\":{hundredth},\"v\":{:?}}}\n", vector(seed))
        };
        let lines: String = (0..rows).map(line).collect();
        let fields = FieldNames { key: Some("id".into()), text: None, vector: Some("v".into()) };
        let source = from_reader(Cursor::new(lines), "rows", InputFormat::JsonLines, &fields).unwrap();
        let all = IngestOptions { commit_rows: rows, ..IngestOptions::default() };
        store.ingest(source, &all, Watch::silent(&Cancel::new()), &mut |_| {}).unwrap();
    }
    (storage, store)
}

fn build() -> Arc<SimulatedStorage> {
    let (storage, mut store) = store_of(&SEGMENTS, vector);
    let deleted = (0..1500).step_by(7).flat_map(|row| [format!("0-{row}"), format!("1-{row}")]).collect();
    store.delete(&DeleteSelection::Keys(deleted)).unwrap();
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!(store.snapshot().statistics().index.files, 2);
    storage
}

fn open(storage: &Arc<SimulatedStorage>, threads: usize) -> Reader {
    Reader::open(Arc::clone(storage) as Arc<dyn Storage>, options(threads)).unwrap()
}

fn question(seed: u64) -> Query {
    Query { k: 5, ..Query::new(QueryInput::Vector(vector(1_000_000 + seed))) }
}

fn ask(reader: &Reader, query: &Query) -> Answer {
    reader.snapshot().query(query, &Cancel::new()).unwrap()
}

/// Keys, scores and percentiles of both ends.
fn ends(answer: &Answer) -> Vec<(&str, u64, Option<u64>)> {
    let hits = answer.proponents.iter().chain(&answer.opponents);
    hits.map(|hit| (hit.key.as_str(), hit.score.to_bits(), hit.percentile.map(f64::to_bits))).collect()
}

/// Keys and scores.
fn found(answer: &Answer) -> Vec<(&str, u64)> {
    ends(answer).into_iter().map(|(key, score, _)| (key, score)).collect()
}

fn z(hit: &Hit) -> f64 {
    hit.z.unwrap()
}

#[test]
fn coarse_codes_are_looked_at_and_answers_are_those_of_the_exact_scan() {
    let storage = build();
    let reader = open(&storage, 2);
    let mut coarse = 0;
    for seed in 0..30 {
        for side in Side::ALL {
            for (k, kind) in [
                (1, ScoreKind::Dot),
                (20, ScoreKind::Dot),
                (5, ScoreKind::Cosine),
                (5, ScoreKind::Relatif),
                (2000, ScoreKind::Dot),
            ] {
                let query = Query { side, k, kind, ..question(seed) };
                let (answer, exact) =
                    (ask(&reader, &query), ask(&reader, &Query { exact: true, ..query.clone() }));
                assert_eq!(answer.plan, "scan");
                assert_eq!(ends(&answer), ends(&exact), "{query:?}");
                for (hit, exact) in answer.proponents.iter().zip(&exact.proponents) {
                    assert!((z(hit) - z(exact)).abs() < 0.01 * z(exact).abs(), "{} {}", z(hit), z(exact));
                }
                // 64 bytes of 8-bit codes a row, 32 of coarse ones.
                coarse += usize::from(answer.bytes < 60 * ROWS);
            }
        }
    }
    // All but those with k = 2000, for which half of the rows would be left.
    assert_eq!(coarse, 30 * 3 * 4);
}

#[test]
fn answers_have_the_same_bits_alone_and_together_with_one_thread_and_with_two() {
    let storage = build();
    let queries: Vec<Query> = (0..7)
        .map(|seed| match seed {
            // With a query along one value the margin is many deviations.
            3 => {
                let mut one = vec![0.0; WIDTH];
                one[0] = 1.0;
                Query { k: 5, ..Query::new(QueryInput::Vector(one)) }
            }
            _ => question(seed),
        })
        .collect();
    let bits = |answer: &Answer| {
        let z: Vec<u64> =
            answer.proponents.iter().chain(&answer.opponents).map(|hit| z(hit).to_bits()).collect();
        (format!("{:?}", ends(answer)), z)
    };
    let alone: Vec<_> = queries.iter().map(|query| bits(&ask(&open(&storage, 1), query))).collect();
    for threads in [1, 2] {
        let answers = open(&storage, threads).snapshot().query_all(&queries, &Cancel::new()).unwrap();
        assert_eq!(answers.iter().map(bits).collect::<Vec<_>>(), alone);
    }
}

#[test]
fn damaged_coarse_codes_are_left_alone() {
    const { assert!(SEGMENTS[0] > COARSE_ROWS_MIN as usize) };
    let storage = build();
    let name = "segments/1.1.idx";
    let sound = storage.read_file(name).unwrap();
    let queries: Vec<Query> = (0..3).map(question).collect();
    let exact: Vec<Answer> = queries
        .iter()
        .map(|query| ask(&open(&storage, 1), &Query { exact: true, ..query.clone() }))
        .collect();
    for position in (70_000..sound.len() - 600).step_by(32_768) {
        let mut bytes = sound.clone();
        bytes[position] ^= 0x10;
        storage.overwrite_file(name, &bytes).unwrap();
        let reader = open(&storage, 2);
        for (query, exact) in queries.iter().zip(&exact) {
            for _ in 0..2 {
                assert_eq!(ends(&ask(&reader, query)), ends(exact), "byte {position}");
            }
        }
    }
}

#[test]
fn where_a_filter_leaves_few_rows_the_others_are_not_looked_at() {
    let storage = build();
    let reader = open(&storage, 2);
    let eligible = |answer: &Answer| answer.eligible_rows;
    for seed in 0..20 {
        for (side, kind) in [(Side::Both, ScoreKind::Dot), (Side::Opponents, ScoreKind::Cosine)] {
            let filter = Some(format!("hundredth = {seed}"));
            let query = Query { filter, side, kind, k: 30, ..question(seed) };
            let answer = ask(&reader, &query);
            let exact = ask(&reader, &Query { exact: true, ..query.clone() });
            assert_eq!((answer.plan, exact.plan), ("prefilter", "scan"));
            assert_eq!(found(&answer), found(&exact));
            assert_eq!(eligible(&answer), eligible(&exact));
            // Those that pass, and all of the segment that is too small to leave any out.
            assert!(answer.rows_by_codes < 180 + 1500, "{}", answer.rows_by_codes);
            let hits = || answer.proponents.iter().chain(&answer.opponents);
            assert!(hits().all(|hit| hit.percentile.is_none()));
            for (hit, exact) in hits().zip(exact.proponents.iter().chain(&exact.opponents)) {
                assert!((z(hit) - z(exact)).abs() < 0.2 * z(exact).abs() + 0.2, "{} {}", z(hit), z(exact));
            }
            let told = ask(&reader, &Query { background: true, ..query });
            assert_eq!((told.plan, ends(&told)), ("scan", ends(&exact)));
        }
    }
    // Half of the rows are scanned.
    let query = Query { filter: Some("hundredth < 50".to_owned()), ..question(1) };
    let answer = ask(&reader, &query);
    assert_eq!(answer.plan, "scan");
    assert_eq!(ends(&answer), ends(&ask(&reader, &Query { exact: true, ..query })));
    // None.
    let none = ask(&reader, &Query { filter: Some("hundredth > 100".to_owned()), ..question(1) });
    assert_eq!((none.plan, none.eligible_rows, found(&none).len()), ("prefilter", 0, 0));
}

#[test]
fn damaged_codes_are_left_alone_where_a_filter_leaves_few_rows() {
    let storage = build();
    let query = Query { filter: Some("hundredth = 3".to_owned()), ..question(1) };
    let exact = ask(&open(&storage, 1), &Query { exact: true, ..query.clone() });
    let name = "segments/1.1.idx";
    let mut bytes = storage.read_file(name).unwrap();
    bytes[70_000] ^= 0x10;
    storage.overwrite_file(name, &bytes).unwrap();
    let reader = open(&storage, 2);
    for _ in 0..2 {
        let answer = ask(&reader, &query);
        assert_eq!((answer.plan, ends(&answer)), ("scan", ends(&exact)));
    }
}

/// The error of coarse codes is no part of the deviation of the scores.
#[test]
fn mean_and_deviation_are_those_of_the_rows() {
    // With one value that is larger than the others steps are large.
    let (_, store) = store_of(&[6000], |seed| {
        let mut values = vector(seed);
        values[0] *= 3.0;
        values
    });
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    for seed in 0..5 {
        for kind in [ScoreKind::Dot, ScoreKind::Cosine, ScoreKind::Relatif] {
            let query = Query { kind, k: 1, ..question(seed) };
            let [answer, exact] = [false, true].map(|exact| {
                store.snapshot().query(&Query { exact, ..query.clone() }, &Cancel::new()).unwrap()
            });
            assert!(answer.bytes < 75 * 6000, "coarse codes were looked at: {}", answer.bytes);
            let (own, other) = (z(&answer.proponents[0]), z(&exact.proponents[0]));
            assert!((own - other).abs() < 0.006 * other, "{kind:?}: {own} {other}");
        }
    }
}

/// Whether percentiles are told follows from the size of segments, which is what merging changes.
#[test]
fn segments_merge_to_one_that_is_large_enough_for_filters_to_come_first() {
    let (_, store) = store_of(&[PREFILTER_ROWS_MIN as usize / 4 + 100; 4], vector);
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    let query = Query { filter: Some("hundredth = 3".to_owned()), ..question(1) };
    let before = store.snapshot().query(&query, &Cancel::new()).unwrap();
    let report = store.compact(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!((before.plan, before.segments, report.merges), ("scan", 4, 1));
    let after = store.snapshot().query(&query, &Cancel::new()).unwrap();
    assert_eq!((after.plan, after.segments, found(&after)), ("prefilter", 1, found(&before)));
}
