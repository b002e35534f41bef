//! Graphs in a store: who walks them and when, what they find, and that without them nothing is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Cursor;
use std::sync::Arc;

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, DeleteSelection, Import, OnDuplicate, OpenOptions, Plan, Query,
    QueryInput, Reader, Store, Watch, verify,
};
use ascribe::format::GraphMaker;
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use ascribe::storage::{CheckInProcess, Failure, SimulatedStorage, Storage};

const WIDTH: usize = 24;
const ROWS: usize = 6000;
const CENTRES: usize = 60;

fn options() -> OpenOptions {
    OpenOptions { index_rows_min: 1, graph_rows_min: 100, compact: false, ..OpenOptions::default() }
}

fn plain() -> OpenOptions {
    OpenOptions {
        index_rows_min: u32::MAX,
        graph_rows_min: u32::MAX,
        compact: false,
        ..OpenOptions::default()
    }
}

fn normal(stream: &mut RandomStream) -> f32 {
    (0..4).map(|_| stream.unit()).sum::<f64>() as f32 - 2.0
}

/// Rows around centres, of norms that `norm` gives.
fn vectors(rows: usize, seed: u64, norm: impl Fn(&mut RandomStream) -> f32) -> Vec<f32> {
    let mut centre_stream = RandomStream::new(0);
    let centres: Vec<f32> = (0..CENTRES * WIDTH).map(|_| normal(&mut centre_stream)).collect();
    let mut stream = RandomStream::new(seed);
    let mut values = Vec::with_capacity(rows * WIDTH);
    for _ in 0..rows {
        let centre = stream.below(CENTRES as u64) as usize * WIDTH;
        let row: Vec<f32> = (0..WIDTH).map(|at| centres[centre + at] + 0.6 * normal(&mut stream)).collect();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt() / norm(&mut stream);
        values.extend(row.iter().map(|value| value / length));
    }
    values
}

fn build_of(values: &[f32], options: &OpenOptions) -> (Arc<SimulatedStorage>, Store) {
    let storage = Arc::new(SimulatedStorage::new());
    let create = CreateOptions {
        columns: vec![ColumnDefinition {
            element: ElementType::F16,
            ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })
        }],
        fields: vec![FieldDeclaration { name: "n".into(), kind: FieldType::Integer }],
    };
    let mut store = Store::create(medium(&storage), create, options.clone()).unwrap();
    let rows = values.len() / WIDTH;
    let keys: String = (0..rows).map(|row| format!("{{\"key\":\"r{row}\",\"n\":{row}}}\n")).collect();
    let fields = FieldNames::of_keys_file();
    let mut keys = from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &fields).unwrap();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors.npy").unwrap()),
        sketches: None,
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    let cancel = Cancel::new();
    store.import(import, Watch::silent(&cancel)).unwrap();
    store.build_indexes(Watch::silent(&cancel)).unwrap();
    (storage, store)
}

fn medium(storage: &Arc<SimulatedStorage>) -> Arc<dyn Storage> {
    Arc::clone(storage) as Arc<dyn Storage>
}

fn ask(store: &Store, query: &Query) -> Answer {
    store.snapshot().query(query, &Cancel::new()).unwrap()
}

fn question(vector: &[f32], side: Side) -> Query {
    Query { side, ..Query::new(QueryInput::Vector(vector.to_vec())) }
}

fn keys(answer: &Answer) -> Vec<&str> {
    answer.proponents.iter().chain(&answer.opponents).map(|hit| hit.key.as_str()).collect()
}

/// Part of the exact answers that `query` finds, over some questions.
fn recall(store: &Store, queries: &[f32], make: impl Fn(&[f32]) -> Query) -> f64 {
    let (mut found, mut all) = (0, 0);
    for vector in queries.chunks(WIDTH) {
        let query = make(vector);
        let answer = ask(store, &query);
        let exact = ask(store, &Query { exact: true, plan: Plan::Auto, ..query });
        let known = keys(&exact);
        all += known.len();
        found += keys(&answer).into_iter().filter(|key| known.contains(key)).count();
        for hit in answer.proponents.iter().chain(&answer.opponents) {
            let same = exact.proponents.iter().chain(&exact.opponents).find(|other| other.key == hit.key);
            assert!(same.is_none_or(|same| same.score.to_bits() == hit.score.to_bits()), "scores are exact");
        }
    }
    found as f64 / all as f64
}

#[test]
fn walks_find_what_a_scan_finds_and_the_plan_says_which_it_was() {
    let (storage, store) = build_of(&vectors(ROWS, 1, |_| 1.0), &options());
    let queries = vectors(50, 2, |_| 1.0);
    let statistics = store.snapshot().statistics();
    let graphs = statistics.index.graphs.clone().unwrap();
    assert_eq!((graphs.files, graphs.rows, graphs.reachable_rows), (1, ROWS as u64, ROWS as u64));
    assert_eq!(graphs.makers, [GraphMaker::Native]);
    assert!(graphs.recall.iter().all(|recall| recall.recall > 0.95 && recall.beam > 0), "{graphs:?}");

    // Both ends cost a walk more than a scan of so few rows.
    let both = ask(&store, &question(&queries[..WIDTH], Side::Both));
    assert_eq!(both.plan, "scan");
    assert!(both.plan_reason.contains("a walk would score"), "{}", both.plan_reason);
    assert!(both.proponents.iter().all(|hit| hit.percentile.is_some()));
    let one = ask(&store, &question(&queries[..WIDTH], Side::Proponents));
    assert_eq!((one.plan, one.plan_reason.as_str()), ("graph", ""));
    assert!(one.hops > 0 && one.rows_by_codes < ROWS as u64 / 2 && one.rows_exact < 200, "{one:?}");
    assert!(one.proponents.iter().all(|hit| hit.percentile.is_none() && hit.z.is_some_and(|z| z > 1.0)));
    let exact = ask(&store, &Query { exact: true, ..question(&queries[..WIDTH], Side::Proponents) });
    assert_eq!((exact.plan, exact.rows_by_codes), ("scan", 0));
    let (near, far) = (one.proponents[0].z.unwrap(), exact.proponents[0].z.unwrap());
    assert!((near / far - 1.0).abs() < 0.25, "{near} {far}");
    let told = ask(&store, &Query { background: true, ..question(&queries[..WIDTH], Side::Proponents) });
    assert_eq!(told.proponents[0].percentile, exact.proponents[0].percentile);

    assert!(recall(&store, &queries, |vector| question(vector, Side::Proponents)) >= 0.98);
    for side in [Side::Proponents, Side::Opponents] {
        let wide =
            |vector: &[f32]| Query { plan: Plan::Graph { beam: 1500 }, k: 20, ..question(vector, side) };
        assert!(recall(&store, &queries, wide) >= 0.98);
    }
    // Cosines are in the same order where all norms agree.
    let cosine = |vector: &[f32]| Query { kind: ScoreKind::Cosine, ..question(vector, Side::Proponents) };
    assert_eq!(ask(&store, &cosine(&queries[..WIDTH])).plan, "graph");
    assert!(recall(&store, &queries, cosine) >= 0.98);
    // Several at once are answered as one by one.
    let several: Vec<Query> =
        queries.chunks(WIDTH).take(9).map(|vector| question(vector, Side::Proponents)).collect();
    let answers = store.snapshot().query_all(&several, &Cancel::new()).unwrap();
    for (query, answer) in several.iter().zip(&answers) {
        assert_eq!(keys(answer), keys(&ask(&store, query)));
    }
    drop(store);
    let report = verify(&medium(&storage), true, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn every_row_is_found_by_its_own_vector() {
    let values = vectors(ROWS, 1, |_| 1.0);
    let (_, store) = build_of(&values, &options());
    let mut missed = 0;
    for (row, vector) in values.chunks(WIDTH).enumerate() {
        let answer = ask(&store, &Query { k: 1, ..question(vector, Side::Proponents) });
        assert_eq!(answer.plan, "graph");
        missed += usize::from(answer.proponents[0].key != format!("r{row}"));
    }
    assert_eq!(missed, 0);
}

/// Raw inner products on a graph collapse there.
#[test]
fn norms_over_three_decades_keep_recall_at_both_ends() {
    let spread = |stream: &mut RandomStream| 10.0_f32.powf(3.0 * stream.unit() as f32 - 1.5);
    let (_, store) = build_of(&vectors(ROWS, 1, spread), &options());
    let queries = vectors(40, 2, |_| 1.0);
    for side in [Side::Proponents, Side::Opponents, Side::Both] {
        let planned = recall(&store, &queries, |vector| question(vector, side));
        assert!(planned >= 0.95, "{side:?}: {planned}");
    }
    let graphs = store.snapshot().statistics().index.graphs.unwrap();
    assert_eq!(graphs.reachable_rows, ROWS as u64);
    for (side, recall_10) in [(Side::Proponents, graphs.recall[0]), (Side::Opponents, graphs.recall[2])] {
        let plan = Plan::Graph { beam: recall_10.beam as usize };
        let walked = recall(&store, &queries, |vector| Query { plan, ..question(vector, side) });
        assert!(walked >= 0.95, "{side:?}: {walked} at {recall_10:?}");
    }
    let cosine = Query { kind: ScoreKind::Cosine, ..question(&queries[..WIDTH], Side::Proponents) };
    let answer = ask(&store, &cosine);
    assert_eq!(answer.plan, "scan");
    assert!(answer.plan_reason.contains("norms"), "{}", answer.plan_reason);
}

#[test]
fn deleted_rows_and_those_that_a_filter_refuses_are_not_found() {
    let (_, mut store) = build_of(&vectors(ROWS, 1, |_| 1.0), &options());
    let queries = vectors(30, 2, |_| 1.0);
    store.delete(&DeleteSelection::Where("n IN (1, 2, 3) OR n > 5000".into())).unwrap();
    let live = |answer: &Answer| {
        let numbers =
            keys(answer).into_iter().map(|key| key[1..].parse::<usize>().unwrap()).collect::<Vec<_>>();
        numbers.iter().all(|number| *number <= 5000 && ![1, 2, 3].contains(number))
    };
    let asked = |filter: Option<&str>, beam| {
        let filter = filter.map(str::to_owned);
        move |vector: &[f32]| Query {
            filter: filter.clone(),
            plan: Plan::Graph { beam },
            ..question(vector, Side::Proponents)
        }
    };
    assert!(recall(&store, &queries, asked(None, 64)) >= 0.97);
    assert!(recall(&store, &queries, asked(Some("n < 2000"), 96)) >= 0.97);
    for vector in queries.chunks(WIDTH) {
        let answer = ask(&store, &asked(Some("n < 2000"), 96)(vector));
        assert!(live(&answer) && answer.plan == "graph");
        assert!(keys(&answer).iter().all(|key| key[1..].parse::<usize>().unwrap() < 2000));
    }
    // A selective filter is scanned, and answers exactly.
    let selective = Query {
        filter: Some("n BETWEEN 100 AND 160".into()),
        ..question(&queries[..WIDTH], Side::Proponents)
    };
    let answer = ask(&store, &selective);
    assert_eq!(answer.plan, "scan");
    assert!(answer.plan_reason.contains("the filter passes 61 of 6000 rows"), "{}", answer.plan_reason);
    assert_eq!(
        recall(&store, &queries, |vector| Query {
            input: QueryInput::Vector(vector.to_vec()),
            ..selective.clone()
        }),
        1.0
    );
}

#[test]
fn a_damaged_graph_is_left_alone_told_and_built_anew() {
    let (storage, store) = build_of(&vectors(ROWS / 4, 1, |_| 1.0), &options());
    drop(store);
    let name = "segments/1.1.graph";
    let sound = storage.read_file(name).unwrap();
    let queries = vectors(3, 2, |_| 1.0);
    let plan = Plan::Graph { beam: 200 };
    let answers = |reader: &Reader| -> Vec<Answer> {
        let asked = queries.chunks(WIDTH).map(|vector| Query { plan, ..question(vector, Side::Proponents) });
        asked.map(|query| reader.snapshot().query(&query, &Cancel::new()).unwrap()).collect()
    };
    let open = || Reader::open(medium(&storage), options()).unwrap();
    let expected: Vec<String> =
        answers(&open()).iter().flat_map(|answer| keys(answer)).map(str::to_owned).collect();
    let mut damaged: Vec<Vec<u8>> =
        [0, 100, 700, sound.len() - 1].map(|length| sound[..length].to_vec()).into();
    for position in (0..sound.len()).step_by(sound.len() / 60) {
        let mut bytes = sound.clone();
        bytes[position] ^= 0x10;
        damaged.push(bytes);
    }
    for bytes in damaged {
        storage.overwrite_file(name, &bytes).unwrap();
        let found = answers(&open());
        let found: Vec<&str> = found.iter().flat_map(|answer| keys(answer)).collect();
        assert!(found.iter().zip(&expected).filter(|(left, right)| left != right).count() <= 1, "{found:?}");
        let report = verify(&medium(&storage), true, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
        assert!(report.problems.len() == 1 && report.problems[0].place.contains(name), "{report:?}");
    }
    storage.remove(name).unwrap();
    assert!(answers(&open()).iter().all(|answer| answer.plan == "scan"));
    let store = Store::open(medium(&storage), options()).unwrap();
    assert_eq!(store.build_indexes(Watch::silent(&Cancel::new())).unwrap().graphs, 1);
    assert!(storage.read_file(name).unwrap() == sound, "the same rows give the same graph");
}

#[test]
fn every_operation_may_fail_while_a_graph_is_built() {
    let (whole, store) = build_of(&vectors(300, 1, |_| 1.0), &plain());
    drop(store);
    let query = question(&vectors(1, 2, |_| 1.0), Side::Both);
    let expected = {
        let reader = Reader::open(medium(&whole), plain()).unwrap();
        let answer = reader.snapshot().query(&query, &Cancel::new()).unwrap();
        keys(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for failure in [Failure::Once, Failure::Forever] {
        for count in 1.. {
            let storage = Arc::new(whole.duplicate());
            storage.fail_operation(count, failure);
            let before = storage.operations();
            if let Ok(store) = Store::open(medium(&storage), options()) {
                let _ = store.build_indexes(Watch::silent(&Cancel::new()));
            }
            let is_over = storage.operations() - before < count;
            for survivor in [storage.duplicate(), storage.crash(count)] {
                let survivor = Arc::new(survivor);
                let store = Store::open(medium(&survivor), options()).unwrap();
                store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
                let wide = Query { plan: Plan::Graph { beam: 300 }, ..query.clone() };
                let answer = ask(&store, &wide);
                assert_eq!(
                    (keys(&answer), answer.plan),
                    (expected.iter().map(String::as_str).collect(), "graph")
                );
            }
            if is_over {
                break;
            }
        }
    }
}

#[cfg(feature = "hnsw_rs")]
#[test]
fn the_other_builder_is_taken_where_it_is_named() {
    let values = vectors(ROWS / 4, 1, |_| 1.0);
    let (storage, store) = build_of(&values, &options());
    drop(store);
    let other = OpenOptions { graph: Some(GraphMaker::HnswRs), ..options() };
    let store = Store::open(medium(&storage), other).unwrap();
    store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    let graphs = store.snapshot().statistics().index.graphs.unwrap();
    assert_eq!((graphs.makers, graphs.reachable_rows), (vec![GraphMaker::HnswRs], ROWS as u64 / 4));
    let queries = vectors(30, 2, |_| 1.0);
    let plan = Plan::Graph { beam: 100 };
    assert!(recall(&store, &queries, |vector| Query { plan, ..question(vector, Side::Proponents) }) >= 0.95);
    drop(store);
    // Nobody named: what is there stays.
    let store = Store::open(medium(&storage), options()).unwrap();
    assert_eq!(store.build_indexes(Watch::silent(&Cancel::new())).unwrap().graphs, 0);
}
