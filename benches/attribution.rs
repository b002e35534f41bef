//! Speed of attribution by gradients: fitting a curvature, and asking.
//!
//! `cargo bench --bench attribution [-- ROWS MEMBERS MANY_ROWS]` prints three tables:
//! - fitting `margin` in its dual form to ROWS gradients of MEMBERS members of a 64-100-10 classifier: CPU seconds a
//!   member, beside a plain numpy script of the same formula where `ASCRIBE_PEER_PYTHON` names a Python that has numpy
//!   (`tools/peers/curvature/run` sees to it);
//! - one question to them at a time, and batches of 200, in milliseconds a member;
//! - one question to MANY_ROWS gradients of one 100-100-10 classifier through landmarks, beside what the machine admits:
//!   the larger of its bytes at the machine's rate of reading and its multiply-adds at its rate of those, both measured in
//!   the same run; and the same question to candidates that 8-bit codes find.

#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

mod measure;

use std::error::Error;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use ascribe::base::{Cancel, RandomStream};
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{
    ColumnDefinition, CreateOptions, FitOptions, GradientInput, GradientQuery, HybridCandidates,
    HybridQuestion, Import, MemberScores, OnDuplicate, OpenOptions, Store, Watch,
};
use ascribe::kernels::{Kernels, Panels, StridedOutput, StridedRows};
use ascribe::sketch::{GradientSource, SketchFileError, SketchSchema};
use ascribe::sources::{FieldNames, InputFormat, Place, from_reader};

use crate::measure::{median, npy, run, seconds};

/// Rows, members, and rows of the large store, unless given.
const SIZES_DEFAULT: [usize; 3] = [2000, 10, 100_000];

/// Questions that are asked one at a time.
const QUESTIONS: usize = 40;

/// Turns of questions and of the machine's rates.
const ROUNDS: u64 = 5;

/// Coordinates of codes, and candidates that they find.
const CODES: usize = 256;
const CANDIDATES: usize = 500;

/// Questions of a batch.
const BATCH: usize = 200;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Gradients of a classifier with one hidden layer: as many rows as asked for, each made when it is read.
struct Made {
    schema: SketchSchema,
    widths: [usize; 3],
    rows: usize,
    seed: u64,
}

impl Made {
    fn new([input, hidden, classes]: [usize; 3], members: usize, rows: usize, seed: u64) -> Outcome<Self> {
        let checkpoints: Vec<String> =
            (0..members).map(|member| format!(r#"{{"run": {member}, "epoch": 1}}"#)).collect();
        let schema = format!(
            r#"{{"members": {members}, "checkpoints": [{}], "loss": "cross-entropy, summed", "labels": "true", "modules": [
            {{"name": "first", "out": {hidden}, "in": {}, "bias": true, "encoding": "factored", "rank": 1, "shared_input": true}},
            {{"name": "second", "out": {classes}, "in": {}, "bias": true, "encoding": "factored", "rank": 1}}]}}"#,
            checkpoints.join(", "),
            input + 1,
            hidden + 1
        );
        let schema = SketchSchema::parse(&schema)?;
        Ok(Self { schema, widths: [input + 1, hidden, classes], rows, seed })
    }

    /// Inputs near one of ten centres, and gradients that follow them loosely; all members' values, in the order of a row.
    fn values(&self, row: usize) -> Vec<f32> {
        let [input, hidden, classes] = self.widths;
        let mut random = RandomStream::new(self.seed ^ (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let label = random.below(10);
        let mut values = Vec::new();
        for member in 0..self.schema.members() as u64 {
            let mut centre = RandomStream::new(label * 1000 + member);
            let mut draw = |count: usize| {
                (0..count).map(|_| (centre.unit() + random.unit() - 1.0) as f32).collect::<Vec<_>>()
            };
            values.extend(draw(hidden));
            if member == 0 {
                values.extend(draw(input));
            }
            values.extend(draw(classes));
            values.extend(draw(hidden + 1));
        }
        values
    }
}

impl GradientSource for Made {
    fn name(&self) -> &str {
        "made"
    }

    fn schema(&self) -> &SketchSchema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn has_outcomes(&self) -> bool {
        true
    }

    fn place(&self, row: usize) -> Place {
        Place { input: "made".to_owned(), unit: "row", number: row as u64 + 1 }
    }

    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        _terms: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError> {
        values.extend(self.values(row));
        let own = (row % 9 + 1) as f32 / 10.0;
        outcomes.extend((0..self.schema.members()).map(|_| own));
        outcomes.extend([0.7, 0.7]);
        Ok(())
    }
}

fn store_of(made: &Made, folder: &Path) -> Outcome<Store> {
    let columns = vec![ColumnDefinition::sketch(made.schema.clone())];
    let create = CreateOptions { fields: Vec::new(), columns };
    let options = OpenOptions { compact: false, ..OpenOptions::default() };
    let mut store = Store::create_at(folder, create, options)?;
    let keys: String = (0..made.rows).map(|row| format!("{{\"key\": \"r{row}\"}}\n")).collect();
    let fields = FieldNames::of_keys_file();
    let mut keys = from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &fields)?;
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: None,
        sketches: Some(made),
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    store.import(import, Watch::silent(&Cancel::new()))?;
    Ok(store)
}

/// CPU seconds of this process so far, by all threads; `None` where the system does not tell.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    // Fields 14 and 15, counted from 1: the name in brackets is field 2. A hundredth of a second a tick.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// CPU seconds that the numpy script takes for all members.
fn numpy_seconds(made: &Made, folder: &Path) -> Outcome<Option<f64>> {
    let Ok(python) = std::env::var("ASCRIBE_PEER_PYTHON") else { return Ok(None) };
    let rows: Vec<Vec<f32>> = (0..made.rows).map(|row| made.values(row)).collect();
    let width = rows.first().map_or(0, Vec::len);
    let [input, hidden, classes] = made.widths;
    let path = folder.join("rows.npy");
    std::fs::write(&path, npy(made.rows, width, rows.iter().flatten().copied()))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/peers/curvature/fit.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&path)
        .args([made.schema.members() as usize, hidden, input, classes].map(|number| number.to_string()))
        .env("OPENBLAS_NUM_THREADS", "1")
        .env("MKL_NUM_THREADS", "1")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).trim().parse()?))
}

fn fit_table(made: &Made, store: &mut Store, folder: &Path) -> Outcome<()> {
    let members = f64::from(made.schema.members());
    let options = FitOptions {
        kind: Some(CurvatureKind::Margin),
        form: Some(CurvatureForm::Dual),
        ..FitOptions::default()
    };
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let before = cpu_seconds();
        let begun = Instant::now();
        store.fit(&options, Watch::silent(&Cancel::new()))?;
        wall.push(begun.elapsed().as_secs_f64());
        cpu.extend(before.zip(cpu_seconds()).map(|(before, after)| after - before));
    }
    let (cpu, wall) = (median(cpu) / members, median(wall) / members);
    println!("fit, margin, dual form, {} rows, {members} members", made.rows);
    println!("  CPU seconds a member {cpu:>28.3}\n  seconds a member     {wall:>28.3}");
    match numpy_seconds(made, folder)? {
        Some(seconds) => {
            let numpy = seconds / members;
            println!("  numpy, one thread    {numpy:>28.3}\n  ours / numpy         {:>28.2}", cpu / numpy);
        }
        None => println!("  numpy: not timed, as ASCRIBE_PEER_PYTHON names no Python"),
    }
    Ok(())
}

/// Milliseconds of each question, asked one at a time after some that are not counted.
fn single(store: &Store, questions: &Made, query: &GradientQuery) -> Outcome<Vec<f64>> {
    let (snapshot, cancel) = (store.snapshot(), Cancel::new());
    let mut times = Vec::new();
    for round in 0..2 {
        for row in 0..questions.rows() {
            let input = [GradientInput::Source { source: questions, row }];
            let mut answered = Ok(Vec::new());
            let time = seconds(|| answered = snapshot.query_gradients(&input, query, &cancel));
            black_box(answered?);
            if round > 0 {
                times.push(time * 1e3);
            }
        }
    }
    Ok(times)
}

fn query_table(made: &Made, store: &Store) -> Outcome<()> {
    let members = f64::from(made.schema.members());
    let [input, hidden, classes] = [made.widths[0] - 1, made.widths[1], made.widths[2]];
    let of = |rows: usize| Made::new([input, hidden, classes], members as usize, rows, 77);
    let times = single(store, &of(QUESTIONS)?, &GradientQuery::default())?;
    println!("one question, 10 rows at each end, {} rows, {members} members", made.rows);
    println!("  ms a member, median  {:>28.3}", median(times.clone()) / members);
    let worst = times.iter().copied().fold(0.0, f64::max);
    println!("  ms a member, slowest {:>28.3}", worst / members);
    let (questions, snapshot, cancel) = (of(BATCH)?, store.snapshot(), Cancel::new());
    let inputs = GradientInput::of_source(&questions);
    for (name, is_whole) in [("rows at both ends", false), ("whole rows of scores", true)] {
        let mut times = Vec::new();
        for _ in 0..3 {
            let begun = Instant::now();
            let query = GradientQuery::default();
            if is_whole {
                snapshot.score_gradients(&inputs, &query, &cancel, |_, scores| {
                    black_box(scores);
                    Ok::<(), ascribe::engine::GradientError>(())
                })?;
            } else {
                black_box(snapshot.query_gradients(&inputs, &query, &cancel)?);
            }
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let each = median(times) / BATCH as f64 / members;
        println!("  batch of {BATCH}, {name:<22}{each:>17.3} ms a question and member");
    }
    Ok(())
}

/// Bytes a second that two threads read from memory, as words of a large vector.
fn bytes_a_second(threads: usize) -> f64 {
    let words = vec![1_u64; 32 << 20];
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(seconds(|| {
            std::thread::scope(|scope| {
                for part in words.chunks(words.len().div_ceil(threads)) {
                    scope.spawn(move || {
                        let mut sums = [0_u64; 16];
                        for block in part.as_chunks::<16>().0 {
                            for lane in 0..16 {
                                sums[lane] = sums[lane].wrapping_add(block[lane]);
                            }
                        }
                        black_box(sums)
                    });
                }
            });
        }));
    }
    (words.len() * 8) as f64 / median(times)
}

/// Multiply-adds of f32 values a second, of a product of matrices that stay in the cache of each thread.
fn multiply_adds_a_second(threads: usize) -> f64 {
    const SIDE: usize = 240;
    const ROUNDS: usize = 200;
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(seconds(|| {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        let rows = vec![1.0_f32; SIDE * SIDE];
                        let panels = Panels::of_weights(&rows, SIDE, SIDE);
                        let mut out = vec![0.0; SIDE * SIDE];
                        for _ in 0..ROUNDS {
                            let rows = StridedRows { values: &rows, stride: SIDE, count: SIDE };
                            let out = StridedOutput { values: &mut out, stride: SIDE };
                            let done = Kernels::best().product(rows, &panels, None, out);
                            black_box(done.is_ok());
                        }
                    });
                }
            });
        }));
    }
    (threads * ROUNDS * SIDE * SIDE * SIDE) as f64 / median(times)
}

fn landmarks_table(rows: usize, folder: &Path) -> Outcome<()> {
    const SHAPE: [usize; 3] = [100, 100, 10];
    let made = Made::new(SHAPE, 1, rows, 5)?;
    let mut store = store_of(&made, folder)?;
    let landmarks = 1000.min(rows / 2);
    let options = FitOptions {
        kind: Some(CurvatureKind::Margin),
        form: Some(CurvatureForm::Landmarks),
        landmarks: Some(landmarks),
        ..FitOptions::default()
    };
    let begun = Instant::now();
    store.fit(&options, Watch::silent(&Cancel::new()))?;
    println!("one question, 10 rows at each end, {rows} rows of a 100-100-10 model, {landmarks} landmarks");
    println!("  fit, s               {:>28.1}", begun.elapsed().as_secs_f64());
    let query = GradientQuery { members: MemberScores::Raw, ..GradientQuery::default() };
    let threads = std::thread::available_parallelism()?.get();
    // In turns, so that a slow moment of a shared machine falls on all alike.
    let (mut times, mut rates, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        times.extend(single(&store, &Made::new(SHAPE, 1, QUESTIONS / ROUNDS as usize, 78 + round)?, &query)?);
        rates.push(bytes_a_second(threads));
        speeds.push(multiply_adds_a_second(threads));
    }
    let [input, hidden, classes] = made.widths;
    let parameters = hidden * input + classes * (hidden + 1);
    let of_rows = rows * 4 * (hidden + input + classes + hidden + 1);
    let of_landmarks = landmarks * (4 * parameters + 8 * landmarks);
    let bytes = of_rows + of_landmarks;
    // Through the matrix of each module for each row; the landmarks' sums with the gradient, and their part of the direction.
    let adds = rows * (parameters + hidden + classes) + landmarks * (2 * parameters + landmarks);
    let (rate, speed) = (median(rates), median(speeds));
    let reading = bytes as f64 / rate * 1e3;
    let computing = adds as f64 / speed * 1e3;
    let limit = reading.max(computing);
    let time = median(times.clone());
    println!("  ms, median           {time:>28.2}");
    println!("  ms, slowest          {:>28.2}", times.into_iter().fold(0.0, f64::max));
    println!("  reading: {:.0} MB at {:.1} GB/s, ms {reading:>12.2}", bytes as f64 / 1e6, rate / 1e9);
    println!("  computing: {:.0} M at {:.1} G/s, ms {computing:>13.2}", adds as f64 / 1e6, speed / 1e9);
    println!("  time / limit         {:>28.2}", time / limit);
    let options = FitOptions { codes: Some(CODES), ..options };
    let begun = Instant::now();
    store.fit(&options, Watch::silent(&Cancel::new()))?;
    println!("  fit with codes, s    {:>28.1}", begun.elapsed().as_secs_f64());
    let times = by_codes(&store, &Made::new(SHAPE, 1, QUESTIONS, 99)?, &query)?;
    println!("  {CANDIDATES} candidates by {CODES} codes, ms, median {:>8.2}", median(times));
    Ok(())
}

/// Milliseconds of each question whose candidates codes find, after some that are not counted.
fn by_codes(store: &Store, questions: &Made, query: &GradientQuery) -> Outcome<Vec<f64>> {
    let (snapshot, cancel) = (store.snapshot(), Cancel::new());
    let mut times = Vec::new();
    for round in 0..2 {
        for row in 0..questions.rows() {
            let gradient = GradientInput::Source { source: questions, row };
            let question = [HybridQuestion { candidates: HybridCandidates::Codes, gradient }];
            let mut answered = Ok(Vec::new());
            let time = seconds(|| answered = snapshot.query_hybrid(&question, query, CANDIDATES, &cancel));
            black_box(answered?);
            if round > 0 {
                times.push(time * 1e3);
            }
        }
    }
    Ok(times)
}

fn table([rows, members, many]: [usize; 3]) -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    if rows > 0 {
        let made = Made::new([64, 100, 10], members, rows, 1)?;
        let mut store = store_of(&made, &folder.path().join("rows"))?;
        fit_table(&made, &mut store, folder.path())?;
        query_table(&made, &store)?;
    }
    if many > 0 {
        landmarks_table(many, &folder.path().join("many"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, table)
}
