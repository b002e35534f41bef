//! Time of queries while rows are ingested, indexed and merged beside them, against that of the same queries when nothing
//! else goes on.
//!
//! `cargo bench --bench beside_ingest [-- ROWS WIDTH BATCHES]`: a store of ROWS rows; then a thread commits BATCHES batches of
//! 1,000 rows, one after the other, while another asks for both ends all the time.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::error::Error;
use std::io::Cursor;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use ascribe::base::{Cancel, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Query, QueryInput, Snapshots, Store,
    Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};

use crate::measure::{npy, run, seconds};

/// Rows, values of a row and batches, unless given.
const SIZES_DEFAULT: [usize; 3] = [100_000, 384, 100];
const BATCH_ROWS: usize = 1000;
/// Queries by which the idle time is measured.
const IDLE_QUERIES: usize = 500;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn import(store: &mut Store, first: usize, rows: usize, width: usize) -> Outcome<()> {
    let keys: String = (first..first + rows).map(|row| format!("{{\"key\": \"r{row}\"}}\n")).collect();
    let fields = FieldNames::of_keys_file();
    let mut keys = from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &fields)?;
    let mut stream = RandomStream::new(first as u64);
    let bytes = npy(rows, width, (0..rows * width).map(|_| stream.unit() as f32 - 0.5));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors")?),
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    store.import(import, Watch::silent(&Cancel::new()))?;
    Ok(())
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
        "{name:<14}{:>9} queries, median {:>8.2} ms, 99th percentile {:>8.2} ms",
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
    import(&mut store, 0, rows, width)?;
    store.build_indexes(Watch::silent(&Cancel::new()))?;
    let snapshots = store.snapshots();
    // The first brings the files into the page cache.
    ask(&snapshots, width, |done| done == 20)?;
    let idle = show("idle", &ask(&snapshots, width, |done| done == IDLE_QUERIES)?);
    let is_over = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&snapshots, width, |_| is_over.load(Ordering::Relaxed)));
        let written = (0..batches)
            .try_for_each(|batch| import(&mut store, rows + batch * BATCH_ROWS, BATCH_ROWS, width))
            .and_then(|()| Ok(store.finish_compaction(Watch::silent(&Cancel::new())).map(drop)?));
        is_over.store(true, Ordering::Relaxed);
        let times = asking.join().map_err(|_| "a query panicked")??;
        written.map(|()| times)
    })?;
    let busy = show("beside ingest", &busy);
    let segments = snapshots.latest().statistics().segments;
    println!("99th percentile: {:.2} times the idle one; {segments} segments at the end", busy / idle);
    Ok(())
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, table)
}
