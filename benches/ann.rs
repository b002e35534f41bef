//! This store as one of the programs that `tools/peers/ann` compares: each run does one thing and prints one JSON object.
//!
//! - `plans`: the plans of queries that can be asked for.
//! - `encode MODEL_DIR IN.txt OUT.npy [--threads N]`: the vector of each line.
//! - `build VECTORS.npy STORE [--threads N]`: a new store of these vectors with keys r0, r1 and so on, and its indexes.
//! - `search STORE QUERIES.npy [--k K] [--side proponents|opponents] [--plan scan|graph:EF] [--threads N] [--rounds R]
//!   [--call N] [--found OUT.npy]`: asks every query in each round, N in a call, after a round that is not counted, as the
//!   processes of other libraries are asked the same queries at one setting after the other; the numbers of the rows found, -1
//!   where there were fewer, go to OUT.npy.
//! - `first STORE QUERY.npy [--plan PLAN] [--threads N]`: time from the start of `main` to the first answer.
//!
//! Run without one of these it does nothing. Threads are those of the store.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what this program is for")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ascribe::attribution::Side;
use ascribe::base::Cancel;
use ascribe::base::limits::INDEX_ROWS_MIN;
use ascribe::encoder::{BertEncoder, Encoder, EncoderSpecification, PreparedText};
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Plan, Query, QueryInput,
    Reader, Snapshot, Store, Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use ascribe::storage::FileMap;
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Texts between two lines of progress.
const PROGRESS_TEXTS: usize = 500;

/// Texts that are computed together: of like length, so that little is padded.
const BATCH_TEXTS: usize = 16;

/// Queries of one call unless told otherwise: the peers are given all of a round in one.
const CALL_QUERIES: usize = 256;

const MODES: [&str; 5] = ["plans", "encode", "build", "search", "first"];

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Arguments {
    mode: String,
    paths: Vec<String>,
    threads: usize,
    k: usize,
    side: Side,
    plan: String,
    rounds: usize,
    call: usize,
    found: Option<String>,
}

impl Arguments {
    /// `None` without a mode: `cargo bench` and test runners start this program for no purpose of its own.
    fn parse() -> Outcome<Option<Self>> {
        let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let Some(mode) = given.next().filter(|mode| MODES.contains(&mode.as_str())) else { return Ok(None) };
        let mut read = Self {
            mode,
            paths: Vec::new(),
            threads: std::thread::available_parallelism()?.get(),
            k: 10,
            side: Side::Proponents,
            plan: "scan".to_owned(),
            rounds: 1,
            call: CALL_QUERIES,
            found: None,
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--threads" => read.threads = value()?.parse::<usize>()?.max(1),
                "--k" => read.k = value()?.parse()?,
                "--side" => read.side = side(&value()?)?,
                "--plan" => read.plan = value()?,
                "--rounds" => read.rounds = value()?.parse()?,
                "--call" => read.call = value()?.parse::<usize>()?.max(1),
                "--found" => read.found = Some(value()?),
                option if option.starts_with("--") => return Err(format!("unknown option {option}").into()),
                _ => read.paths.push(argument),
            }
        }
        Ok(Some(read))
    }

    fn paths<const COUNT: usize>(&self) -> Outcome<[&Path; COUNT]> {
        let paths: Vec<&Path> = self.paths.iter().map(Path::new).collect();
        let found = paths.len();
        paths.try_into().map_err(|_| format!("{} takes {COUNT} paths; given: {found}", self.mode).into())
    }

    fn options(&self) -> OpenOptions {
        // A graph for sets of any size, to compare like with like.
        OpenOptions {
            threads: NonZeroUsize::new(self.threads),
            graph_rows_min: INDEX_ROWS_MIN,
            ..OpenOptions::default()
        }
    }
}

fn side(name: &str) -> Outcome<Side> {
    match name {
        "proponents" => Ok(Side::Proponents),
        "opponents" => Ok(Side::Opponents),
        _ => Err(format!("unknown side {name}; use proponents or opponents").into()),
    }
}

/// `query` by the plan of that name. The one place that knows how a plan is asked for.
fn with_plan(query: Query, plan: &str) -> Outcome<Query> {
    match plan.split_once(':') {
        None if plan == "scan" => Ok(Query { plan: Plan::Scan, ..query }),
        Some(("graph", beam)) => Ok(Query { plan: Plan::Graph { beam: beam.parse()? }, ..query }),
        _ => Err(format!("unknown plan {plan}; use scan or graph:EF").into()),
    }
}

fn plans() -> Value {
    let known = [("scan", "scan"), ("graph", "graph:64")];
    let usable = known.iter().filter(|(_, plan)| with_plan(Query::text(""), plan).is_ok());
    json!({ "plans": usable.map(|(name, _)| *name).collect::<Vec<_>>() })
}

/// Writes a matrix of `width` columns; `kind` is its type as npy files name it.
fn write_npy(
    path: &Path,
    kind: &str,
    width: usize,
    values: impl ExactSizeIterator<Item = [u8; 4]>,
) -> Outcome<()> {
    let shape = format!("({}, {width})", values.len() / width.max(1));
    // NumPy fills the header up with spaces, so that the values begin at a multiple of 64.
    let header =
        format!("{:117}\n", format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"));
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(header.len() as u16).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for value in values {
        file.write_all(&value)?;
    }
    file.flush()?;
    Ok(())
}

fn read_queries(path: &Path) -> Outcome<Vec<Vec<f32>>> {
    let bytes = FileMap::open(path)?;
    let matrix = Matrix::from_npy(&bytes, &path.to_string_lossy())?;
    let mut values = Vec::new();
    matrix.read_rows(0, matrix.rows(), &mut values)?;
    Ok(values.chunks_exact(matrix.width()).map(<[f32]>::to_vec).collect())
}

fn encode(arguments: &Arguments) -> Outcome<Value> {
    let [model, input, output] = arguments.paths()?;
    let encoder = BertEncoder::from_directory(model)?;
    let text = std::fs::read_to_string(input)?;
    let lines: Vec<&str> = text.lines().collect();
    let width = encoder.width();
    let pool = ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    let begun = Instant::now();
    let mut values = vec![0.0; lines.len() * width];
    for (part, lines) in lines.chunks(PROGRESS_TEXTS).enumerate() {
        let vectors = pool.install(|| encode_part(&encoder, lines))?;
        let start = part * PROGRESS_TEXTS * width;
        values[start..start + vectors.len()].copy_from_slice(&vectors);
        let done = part * PROGRESS_TEXTS + lines.len();
        eprintln!("{done} texts, {:.0} a second", done as f64 / begun.elapsed().as_secs_f64());
    }
    let seconds = begun.elapsed().as_secs_f64();
    write_npy(output, "<f4", width, values.iter().map(|value| value.to_le_bytes()))?;
    Ok(json!({ "texts": lines.len(), "width": width, "seconds": seconds }))
}

/// The vectors of `lines`, computed longest first, in their order.
fn encode_part(encoder: &BertEncoder, lines: &[&str]) -> Result<Vec<f32>, ascribe::encoder::EncodeError> {
    let prepared: Vec<PreparedText> =
        lines.par_iter().map(|line| encoder.prepare(line)).collect::<Result<_, _>>()?;
    let width = encoder.width();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|text| std::cmp::Reverse(prepared[*text].token_count()));
    let batches = order.par_chunks(BATCH_TEXTS).map(|batch| {
        let texts: Vec<PreparedText> = batch.iter().map(|text| prepared[*text].clone()).collect();
        let mut vectors = vec![0.0; texts.len() * width];
        encoder.encode_prepared(&texts, &mut vectors).map(|()| (batch, vectors))
    });
    let mut values = vec![0.0; lines.len() * width];
    for (batch, vectors) in batches.collect::<Result<Vec<_>, _>>()? {
        for (text, vector) in batch.iter().zip(vectors.chunks_exact(width)) {
            values[text * width..(text + 1) * width].copy_from_slice(vector);
        }
    }
    Ok(values)
}

fn build(arguments: &Arguments) -> Outcome<Value> {
    let [vectors, path] = arguments.paths()?;
    let bytes = FileMap::open(vectors)?;
    let matrix = Matrix::from_npy(&bytes, &vectors.to_string_lossy())?;
    let (rows, width) = (matrix.rows(), matrix.width());
    let keys: String = (0..rows).map(|row| format!("{{\"key\": \"r{row}\"}}\n")).collect();
    let begun = Instant::now();
    let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width })];
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create_at(path, create, arguments.options())?;
    let mut keys =
        from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &FieldNames::of_keys_file())?;
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(matrix),
        sketches: None,
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    let cancel = Cancel::new();
    store.import(import, Watch::silent(&cancel))?;
    let import_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    store.build_indexes(Watch::silent(&cancel))?;
    let index_seconds = begun.elapsed().as_secs_f64();
    let statistics = store.snapshot().statistics();
    Ok(json!({
        "rows": rows,
        "width": width,
        "import_seconds": import_seconds,
        "index_seconds": index_seconds,
        "disk_bytes": statistics.bytes_on_disk,
        "index_bytes": statistics.index.bytes,
        "peak_bytes": process_bytes("VmHWM"),
    }))
}

/// Asks all of `queries`; the numbers of the rows found, `k` for each query in their order, -1 for none. Nothing else of an
/// answer is kept, so that the memory of the process is that of the store.
fn ask(snapshot: &Snapshot, queries: &[Query], k: usize, call: usize) -> Outcome<Vec<i32>> {
    let cancel = Cancel::new();
    let mut found = vec![-1; queries.len() * k];
    for (asked, found) in queries.chunks(call).zip(found.chunks_mut(call * k)) {
        for (answer, found) in snapshot.query_all(asked, &cancel)?.iter().zip(found.chunks_mut(k)) {
            let rows = row_numbers(answer)?;
            found[..rows.len()].copy_from_slice(&rows);
        }
    }
    Ok(found)
}

/// The rows of the one end that was asked for, by their keys r0, r1 and so on.
fn row_numbers(answer: &Answer) -> Result<Vec<i32>, String> {
    let number = |key: &str| key.strip_prefix('r').and_then(|number| number.parse().ok());
    let hits = answer.proponents.iter().chain(&answer.opponents);
    hits.map(|hit| {
        number(&hit.key).ok_or_else(|| {
            format!("key {:?} is none of r0, r1, ...: build the store with this program", hit.key)
        })
    })
    .collect()
}

fn search(arguments: &Arguments) -> Outcome<Value> {
    let [path, queries] = arguments.paths()?;
    let (k, side, call) = (arguments.k, arguments.side, arguments.call);
    let query =
        |vector| with_plan(Query { k, side, ..Query::new(QueryInput::Vector(vector)) }, &arguments.plan);
    let queries: Vec<Query> = read_queries(queries)?.into_iter().map(query).collect::<Outcome<_>>()?;
    let base = process_bytes("VmRSS");
    let reader = Reader::open_at(path, arguments.options())?;
    let snapshot = reader.snapshot();
    ask(&snapshot, &queries, k, call)?;
    let (mut seconds, mut found) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let begun = Instant::now();
        found = ask(&snapshot, &queries, k, call)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    if let Some(path) = &arguments.found {
        write_npy(Path::new(path), "<i4", k, found.iter().map(|row| row.to_le_bytes()))?;
    }
    let statistics = snapshot.statistics();
    Ok(json!({
        "seconds": seconds,
        "queries": queries.len(),
        "heap_bytes": statistics.bytes_heap,
        "mapped_bytes": statistics.bytes_mapped,
        "base_bytes": base,
        "peak_bytes": process_bytes("VmHWM"),
        "own_bytes": process_bytes("RssAnon"),
    }))
}

fn first(arguments: &Arguments, begun: Instant) -> Outcome<Value> {
    let [path, query] = arguments.paths()?;
    let vector = read_queries(query)?.into_iter().next().ok_or("the queries file is empty")?;
    let reader = Reader::open_at(path, arguments.options())?;
    let query = Query { side: Side::Proponents, ..Query::new(QueryInput::Vector(vector)) };
    let answer = reader.snapshot().query(&with_plan(query, &arguments.plan)?, &Cancel::new())?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({ "seconds": seconds, "rows_found": answer.proponents.len() }))
}

/// A size out of this process's status; `None` on systems other than Linux.
fn process_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn run(begun: Instant) -> Outcome<()> {
    let Some(arguments) = Arguments::parse()? else { return Ok(()) };
    let printed = match arguments.mode.as_str() {
        "encode" => encode(&arguments)?,
        "build" => build(&arguments)?,
        "search" => search(&arguments)?,
        "first" => first(&arguments, begun)?,
        _ => plans(),
    };
    println!("{printed}");
    Ok(())
}

fn main() -> ExitCode {
    let begun = Instant::now();
    match run(begun) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
