//! Time of queries while rows are ingested, indexed and merged beside them, against that of the same queries when nothing
//! else goes on.
//!
//! `cargo bench --bench beside_ingest [-- ROWS WIDTH BATCHES]`: a store of ROWS rows; then a thread commits BATCHES batches of
//! 1,000 rows, one after the other, while another asks for both ends all the time. The batches take the place of the oldest
//! rows, so that a query has as many rows to look at as before. That is done twice: at the rate of an encoder on a GPU, and
//! as fast as the store takes them, which keeps a processor busy with nothing else.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::error::Error;
use std::io::Cursor;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ascribe::base::{Cancel, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Query, QueryInput, Snapshots, Store,
    Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};

use crate::measure::{npy, run, seconds};

/// Rows, values of a row and batches, unless given.
const SIZES_DEFAULT: [usize; 3] = [100_000, 384, 200];
const BATCH_ROWS: usize = 1000;
/// Rows committed in a second, if not as many as can be.
const RATES: [Option<u32>; 2] = [Some(10_000), None];
/// Queries by which the idle time is measured.
const IDLE_QUERIES: usize = 500;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Rows to be imported, made beforehand: a program that feeds a store has them.
struct Batch {
    keys: String,
    vectors: Vec<u8>,
}

impl Batch {
    fn new(seed: usize, first: usize, rows: usize, width: usize) -> Self {
        let mut stream = RandomStream::new(seed as u64);
        Self {
            keys: (first..first + rows).map(|row| format!("{{\"key\": \"r{row}\"}}\n")).collect(),
            vectors: npy(rows, width, (0..rows * width).map(|_| stream.unit() as f32 - 0.5)),
        }
    }

    fn import(&self, store: &mut Store) -> Outcome<()> {
        let fields = FieldNames::of_keys_file();
        let mut keys = from_reader(Cursor::new(self.keys.clone()), "keys", InputFormat::JsonLines, &fields)?;
        let import = Import {
            keys: keys.as_mut(),
            metadata: None,
            embeddings: Some(Matrix::from_npy(&self.vectors, "vectors")?),
            sketches: None,
            column: None,
            on_duplicate: OnDuplicate::Replace,
        };
        store.import(import, Watch::silent(&Cancel::new()))?;
        Ok(())
    }
}

/// Asks until `is_over`; returns the seconds of each query.
fn ask(snapshots: &Snapshots, width: usize, is_over: impl Fn(usize) -> bool) -> Outcome<Vec<f64>> {
    let mut stream = RandomStream::new(7);
    let mut times = Vec::new();
    while !is_over(times.len()) {
        let vector = (0..width).map(|_| stream.unit() as f32 - 0.5).collect();
        let query = Query::new(QueryInput::Vector(vector));
        let mut answer = None;
        times.push(seconds(|| answer = Some(snapshots.latest().query(&query, &Cancel::new()))));
        answer.transpose()?;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn show(name: &str, times: &[f64]) -> f64 {
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN) * 1e3;
    println!(
        "{name:<18}{:>9} queries, median {:>8.2} ms, 99th percentile {:>8.2} ms",
        times.len(),
        at(0.5),
        at(0.99)
    );
    at(0.99)
}

fn table([rows, width, batches]: [usize; 3]) -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width })];
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create_at(&folder.path().join("store"), create, OpenOptions::default())?;
    Batch::new(0, 0, rows, width).import(&mut store)?;
    store.build_indexes(Watch::silent(&Cancel::new()))?;
    let snapshots = store.snapshots();
    // The first brings the files into the page cache.
    ask(&snapshots, width, |done| done == 20)?;
    let idle = show("idle", &ask(&snapshots, width, |done| done == IDLE_QUERIES)?);
    let first = |batch: usize| batch * BATCH_ROWS % rows.saturating_sub(BATCH_ROWS).max(1);
    let batches: Vec<Batch> =
        (0..batches).map(|batch| Batch::new(1 + batch, first(batch), BATCH_ROWS, width)).collect();
    for rate in RATES {
        let busy = beside(&mut store, &batches, width, rate)?;
        let name = rate.map_or("as fast as it can".to_owned(), |rate| format!("{rate} rows/s"));
        let busy = show(&name, &busy);
        let segments = snapshots.latest().statistics().segments;
        println!("  99th percentile: {:.2} times the idle one; {segments} segments at the end", busy / idle);
    }
    Ok(())
}

/// Asks while batches are committed, at most `rate` rows a second; returns the seconds of each query.
fn beside(store: &mut Store, batches: &[Batch], width: usize, rate: Option<u32>) -> Outcome<Vec<f64>> {
    let snapshots = store.snapshots();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&snapshots, width, |_| is_over.load(Ordering::Relaxed)));
        let begun = Instant::now();
        let written = (0_u32..).zip(batches).try_for_each(|(number, batch)| {
            let due = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * BATCH_ROWS as u32 / rate);
            std::thread::sleep((due * number).saturating_sub(begun.elapsed()));
            batch.import(store)
        });
        let rows = (batches.len() * BATCH_ROWS) as f64 / begun.elapsed().as_secs_f64();
        println!("{rows:.0} rows a second committed");
        let written =
            written.and_then(|()| Ok(store.finish_compaction(Watch::silent(&Cancel::new())).map(drop)?));
        is_over.store(true, Ordering::Relaxed);
        let times = asking.join().map_err(|_| "a query panicked")??;
        written.map(|()| times)
    })
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, table)
}
