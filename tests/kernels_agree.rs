//! Whole answers have the same bits whichever kernels and however many threads computed them, and they are those of a
//! reference that is written here: every row, one after the other, in the documented order of summation.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends by a panic, and this one tells which back-ends it compared"
)]

use std::num::NonZeroUsize;
use std::path::Path;

use ascribe::attribution::ScoreKind;
use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, ColumnEncoder, CreateOptions, DeleteSelection, Hit, Import, OnDuplicate,
    OpenOptions, Query, QueryInput, Reader, Store, Watch,
};
use ascribe::kernels::Kernels;
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use half::{bf16, f16};

/// No multiple of any vector register.
const WIDTH: usize = 37;

/// Rows of each segment: more than one scan task, several, less than one.
const SEGMENT_ROWS: [usize; 3] = [1500, 2600, 700];

/// Rows asked for at each end.
const K: usize = 60;

/// Shelf of the rows that are deleted by an expression.
const SHELF_DELETED: u64 = 3;

struct Row {
    key: String,
    shelf: u64,
    vector: Vec<f32>,
    is_live: bool,
}

/// Rows of very different sizes, with equal and zero vectors among them. Keys do not stand in the order of the rows.
fn rows() -> Vec<Row> {
    let mut stream = RandomStream::new(7);
    let mut rows: Vec<Row> = Vec::new();
    let count: usize = SEGMENT_ROWS.iter().sum();
    for number in 0..count {
        let size = 2.0_f32.powi(stream.below(12) as i32 - 6);
        let mut vector: Vec<f32> = (0..WIDTH).map(|_| (stream.unit() as f32 - 0.5) * size).collect();
        match number % 10 {
            // Equal to a row of any segment so far.
            3 | 6 if number > 10 => vector.clone_from(&rows[stream.below(number as u64) as usize].vector),
            9 if number % 100 == 99 => vector.fill(0.0),
            _ => {}
        }
        let shelf = stream.below(10);
        let key = format!("{:04}-{number}", stream.below(10_000));
        let is_live = shelf != SHELF_DELETED && number % 41 != 0;
        rows.push(Row { key, shelf, vector, is_live });
    }
    rows
}

fn npy(rows: &[Row]) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {WIDTH}), }}\n", rows.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(rows.iter().flat_map(|row| &row.vector).flat_map(|value| value.to_le_bytes()));
    bytes
}

/// A store of these rows in several segments, some of them deleted, without indexes.
fn build(path: &Path, element: ElementType, rows: &[Row]) {
    let encoder = ColumnEncoder::BuiltIn(EncoderSpecification::Vectors { width: WIDTH });
    let create = CreateOptions {
        fields: vec![FieldDeclaration { name: "shelf".to_owned(), kind: FieldType::Integer }],
        columns: vec![ColumnDefinition { name: "embedding".to_owned(), element, encoder }],
    };
    let plain = OpenOptions { index_rows_min: u32::MAX, ..OpenOptions::default() };
    let mut store = Store::create_at(path, create, plain).unwrap();
    let cancel = Cancel::new();
    let mut rest = rows;
    for count in SEGMENT_ROWS {
        let (part, after) = rest.split_at(count);
        rest = after;
        let keys: String =
            part.iter().map(|row| format!("{{\"key\":\"{}\",\"shelf\":{}}}\n", row.key, row.shelf)).collect();
        let keys = std::io::Cursor::new(keys);
        let mut keys =
            from_reader(keys, "keys.jsonl", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap();
        let bytes = npy(part);
        let import = Import {
            keys: keys.as_mut(),
            metadata: None,
            embeddings: Some(Matrix::from_npy(&bytes, "vectors.npy").unwrap()),
            sketches: None,
            column: None,
            on_duplicate: OnDuplicate::Error,
        };
        store.import(import, Watch::silent(&cancel)).unwrap();
    }
    store.delete(&DeleteSelection::Where(format!("shelf = {SHELF_DELETED}"))).unwrap();
    let others = rows.iter().filter(|row| !row.is_live && row.shelf != SHELF_DELETED);
    store.delete(&DeleteSelection::Keys(others.map(|row| row.key.clone()).collect())).unwrap();
}

/// What is stored of a vector: values, and the factor of int8 codes.
fn stored(element: ElementType, vector: &[f32]) -> (Vec<f64>, f64) {
    let values = |convert: fn(f32) -> f32| vector.iter().map(|&value| f64::from(convert(value))).collect();
    match element {
        ElementType::F32 => (values(|value| value), 1.0),
        ElementType::F16 => (values(|value| f16::from_f32(value).to_f32()), 1.0),
        ElementType::BF16 => (values(|value| bf16::from_f32(value).to_f32()), 1.0),
        ElementType::I8 => {
            let scale = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 127.0;
            let code = |&value: &f32| {
                if scale == 0.0 { 0.0 } else { (f64::from(value) / f64::from(scale)).round_ties_even() }
            };
            (vector.iter().map(code).collect(), f64::from(scale))
        }
    }
}

/// The documented sum: sixteen partial sums, added up as a tree.
fn sum(products: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0.0; 16];
    for (index, product) in products.enumerate() {
        sums[index % 16] += product;
    }
    for half in [8, 4, 2, 1] {
        for index in 0..half {
            sums[index] += sums[index + half];
        }
    }
    sums[0]
}

/// The sum with the rounding errors of its additions added back: exact up to the last bits.
fn compensated_sum(products: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0);
    for product in products {
        let next = total + product;
        lost +=
            if total.abs() >= product.abs() { (total - next) + product } else { (product - next) + total };
        total = next;
    }
    total + lost
}

fn reference_score(element: ElementType, kind: ScoreKind, query: &[f32], vector: &[f32]) -> f64 {
    let (values, scale) = stored(element, vector);
    let products = || query.iter().zip(&values).map(|(left, right)| f64::from(*left) * right);
    let dot = sum(products());
    let sizes: f64 = products().map(f64::abs).sum();
    assert!((dot - compensated_sum(products())).abs() <= 1e-14 * sizes, "{dot} is no dot product");
    let dot = dot * scale;
    let norm = sum(values.iter().map(|value| value * value)).sqrt() * scale;
    let query_norm = sum(query.iter().map(|value| f64::from(*value) * f64::from(*value))).sqrt();
    let divisor = match kind {
        ScoreKind::Dot => return dot,
        ScoreKind::Cosine => query_norm * norm,
        ScoreKind::Relatif => norm,
    };
    if divisor == 0.0 { 0.0 } else { dot / divisor }
}

/// One end of the answer, by sorting all rows: keys and scores, strongest first.
fn reference_end(
    scored: &[(f64, &Row)],
    sign: f64,
    may_be_chosen: impl Fn(&Row) -> bool,
) -> Vec<(f64, String)> {
    let mut end: Vec<(f64, String)> = scored
        .iter()
        .filter(|(score, row)| sign * score > 0.0 && may_be_chosen(row))
        .map(|(score, row)| (*score, row.key.clone()))
        .collect();
    end.sort_by(|(left, left_key), (right, right_key)| {
        (sign * right).total_cmp(&(sign * left)).then_with(|| left_key.cmp(right_key))
    });
    end.truncate(K);
    end
}

/// Compares one end of an answer with all rows' scores, taken one by one.
/// `z_tolerance` is relative to 1 + |z|; all else is exact.
fn check_end(
    hits: &[Hit],
    scored: &[(f64, &Row)],
    sign: f64,
    z_tolerance: f64,
    may_be_chosen: impl Fn(&Row) -> bool,
) {
    let expected = reference_end(scored, sign, may_be_chosen);
    let found: Vec<(f64, String)> = hits.iter().map(|hit| (hit.score, hit.key.clone())).collect();
    assert_eq!(found, expected);
    let count = scored.len() as f64;
    let mean = compensated_sum(scored.iter().map(|(score, _)| *score)) / count;
    let squares = scored.iter().map(|(score, _)| (score - mean) * (score - mean));
    let deviation = (compensated_sum(squares) / count).sqrt();
    for (index, hit) in hits.iter().enumerate() {
        assert_eq!(hit.rank, index + 1);
        let z = (hit.score - mean) / deviation;
        assert!((hit.z.unwrap() - z).abs() <= z_tolerance * (1.0 + z.abs()), "{:?}, expected {z}", hit.z);
        let lower = scored.iter().filter(|(score, _)| *score < hit.score).count() as f64;
        let equal = scored.iter().filter(|(score, _)| *score == hit.score).count() as f64;
        assert_eq!(hit.percentile, Some(100.0 * ((lower + 0.5 * equal) / count)));
    }
}

/// Everything of an answer but the times, with the bits of its numbers.
fn bits(answer: &Answer) -> Vec<String> {
    let head = (answer.rows, answer.eligible_rows, answer.segments, answer.bytes, answer.plan);
    let hit = |hit: &Hit| {
        let numbers = (hit.score.to_bits(), hit.z.map(f64::to_bits), hit.percentile.map(f64::to_bits));
        format!("{} {} {numbers:x?} {:?}", hit.rank, hit.key, hit.metadata)
    };
    let ends = answer.proponents.iter().map(hit).chain(["opponents".to_owned()]);
    [format!("{head:?}")].into_iter().chain(ends).chain(answer.opponents.iter().map(hit)).collect()
}

/// Indexes even the smallest segment.
fn indexing() -> OpenOptions {
    OpenOptions { index_rows_min: 1, ..OpenOptions::default() }
}

fn readers(path: &Path) -> Vec<(String, Reader)> {
    let mut readers = Vec::new();
    for &kernels in Kernels::available() {
        for threads in [1, 2] {
            let options = OpenOptions { threads: NonZeroUsize::new(threads), kernels, ..indexing() };
            let name = format!("{} with {threads} thread(s)", kernels.name());
            readers.push((name, Reader::open_at(path, options).unwrap()));
        }
    }
    readers
}

/// Of every kind of score, with and without filter, by vector and by key: all back-ends and numbers of threads give one
/// answer, and it is the reference's; with indexes too, and with indexes that are not to be used.
fn agree(element: ElementType) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let rows = rows();
    build(&path, element, &rows);
    compare(element, &rows, &readers(&path), false, false);
    let store = Store::open_at(&path, indexing()).unwrap();
    let report = store.build_indexes(Watch::silent(&Cancel::new())).unwrap();
    assert_eq!((report.built, report.rows), (SEGMENT_ROWS.len(), rows.len() as u64));
    let readers = readers(&path);
    compare(element, &rows, &readers, true, false);
    compare(element, &rows, &readers[..1], true, true);
}

fn compare(element: ElementType, rows: &[Row], readers: &[(String, Reader)], is_indexed: bool, exact: bool) {
    let names: Vec<&str> = readers.iter().map(|(name, _)| name.as_str()).collect();
    println!("{element}: {}", names.join(", "));
    let asked = &rows[1234];
    assert!(asked.is_live);
    let (values, scale) = stored(element, &asked.vector);
    let by_key: Vec<f32> = values.iter().map(|value| (*value as f32) * scale as f32).collect();
    let mut stream = RandomStream::new(99);
    let free: Vec<f32> = (0..WIDTH).map(|_| stream.unit() as f32 - 0.5).collect();
    let inputs = [(QueryInput::Vector(free.clone()), free), (QueryInput::Key(asked.key.clone()), by_key)];
    for kind in ScoreKind::ALL {
        for (input, vector) in &inputs {
            let score = |row: &'_ Row| reference_score(element, kind, vector, &row.vector);
            let scored: Vec<(f64, &Row)> =
                rows.iter().filter(|row| row.is_live).map(|row| (score(row), row)).collect();
            for shelves in [10, 2] {
                let filter = (shelves < 10).then(|| format!("shelf < {shelves}"));
                let query = Query { k: K, kind, filter, exact, ..Query::new(input.clone()) };
                let answers: Vec<Answer> = readers
                    .iter()
                    .map(|(_, reader)| reader.snapshot().query(&query, &Cancel::new()).unwrap())
                    .collect();
                for (answer, name) in answers.iter().zip(&names) {
                    assert_eq!(bits(answer), bits(&answers[0]), "{name} against {}: {query:?}", names[0]);
                }
                let by_codes = if is_indexed && !exact { rows.len() as u64 } else { 0 };
                assert_eq!(answers[0].rows_by_codes, by_codes);
                assert_eq!(answers[0].rows_exact < rows.len() as u64, by_codes > 0);
                let may_be_chosen = |row: &Row| row.shelf < shelves;
                assert_eq!(answers[0].rows, scored.len() as u64);
                let z_tolerance = if by_codes > 0 { 1e-3 } else { 1e-9 };
                check_end(&answers[0].proponents, &scored, 1.0, z_tolerance, may_be_chosen);
                check_end(&answers[0].opponents, &scored, -1.0, z_tolerance, may_be_chosen);
                assert_eq!((answers[0].proponents.len(), answers[0].opponents.len()), (K, K));
            }
        }
    }
}

#[test]
fn f32_answers_agree() {
    agree(ElementType::F32);
}

#[test]
fn f16_answers_agree() {
    agree(ElementType::F16);
}

#[test]
fn bf16_answers_agree() {
    agree(ElementType::BF16);
}

#[test]
fn int8_answers_agree() {
    agree(ElementType::I8);
}

/// The rows are worth comparing: among the ends there are ties that only the key decides.
#[test]
fn the_rows_have_ties_at_the_ends() {
    let rows = rows();
    let mut stream = RandomStream::new(99);
    let query: Vec<f32> = (0..WIDTH).map(|_| stream.unit() as f32 - 0.5).collect();
    let scored: Vec<(f64, &Row)> = rows
        .iter()
        .filter(|row| row.is_live)
        .map(|row| (reference_score(ElementType::F32, ScoreKind::Dot, &query, &row.vector), row))
        .collect();
    for sign in [1.0, -1.0] {
        let end = reference_end(&scored, sign, |_| true);
        let ties = end.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert!(ties >= 5, "{ties} ties");
    }
}
