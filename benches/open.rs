//! Time from opening a store to its first answer, at two sizes: opening must not depend on the number of rows.
//!
//! `cargo bench --bench open [-- SMALL LARGE WIDTH]`: medians of interleaved rounds, all files in the page cache. The
//! first answer reads every value and verifies every block that it touches; the second one only reads.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ascribe::base::{Cancel, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Query, QueryInput, Reader, Store,
    Watch,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};

use crate::measure::{median, npy, run};

/// Rounds of each measurement. Interleaved, so that a slow moment of a shared machine falls on all alike.
const ROUNDS: usize = 9;

/// Rows of the two stores and values of a row, unless given.
const SIZES_DEFAULT: [usize; 3] = [10_000, 300_000, 384];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn build(path: &Path, rows: usize, width: usize) -> Outcome<()> {
    let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width })];
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create_at(path, create, OpenOptions::default())?;
    let keys: String = (0..rows).map(|row| format!("{{\"key\": \"document-{row:07}\"}}\n")).collect();
    let keys = std::io::Cursor::new(keys);
    let mut keys = from_reader(keys, "keys", InputFormat::JsonLines, &FieldNames::of_keys_file())?;
    let mut stream = RandomStream::new(1);
    let bytes = npy(rows, width, (0..rows * width).map(|_| stream.unit() as f32 - 0.5));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors")?),
        sketches: None,
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    let cancel = Cancel::new();
    store.import(import, Watch::silent(&cancel))?;
    store.build_indexes(Watch::silent(&cancel))?;
    Ok(())
}

/// Milliseconds of opening, the first answer, the second answer.
fn open_and_ask(path: &Path, query: &Query) -> Outcome<[f64; 3]> {
    let cancel = Cancel::new();
    let milliseconds = |begun: Instant| begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let reader = Reader::open_at(path, OpenOptions::default())?;
    let opened = milliseconds(begun);
    let mut times = [opened, 0.0, 0.0];
    for time in &mut times[1..] {
        let begun = Instant::now();
        let answer = reader.snapshot().query(query, &cancel)?;
        *time = milliseconds(begun);
        if answer.proponents.len() != query.k {
            return Err("an answer is too short".into());
        }
    }
    Ok(times)
}

fn table(sizes: [usize; 2], width: usize) -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut stores: Vec<(usize, PathBuf, Vec<[f64; 3]>)> = Vec::new();
    for rows in sizes {
        let path = folder.path().join(rows.to_string());
        build(&path, rows, width)?;
        stores.push((rows, path, Vec::new()));
    }
    let mut stream = RandomStream::new(2);
    let vector: Vec<f32> = (0..width).map(|_| stream.unit() as f32 - 0.5).collect();
    let query = Query::new(QueryInput::Vector(vector));
    // One round beforehand, not counted, brings all files into the page cache.
    for round in 0..=ROUNDS {
        for (_, path, times) in &mut stores {
            let took = open_and_ask(path, &query)?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    println!(
        "one segment of {width} f32 values a row, warm, medians of {ROUNDS} interleaved rounds, in milliseconds"
    );
    println!(
        "{:>10}{:>10}{:>16}{:>16}{:>24}",
        "rows", "opening", "first answer", "second answer", "opening + first answer"
    );
    let mut opening = Vec::new();
    for (rows, _, times) in &stores {
        let [open, first, second] =
            [0, 1, 2].map(|stage| median(times.iter().map(|time| time[stage]).collect()));
        println!("{rows:>10}{open:>10.3}{first:>16.2}{second:>16.2}{:>24.2}", open + first);
        opening.push(open);
    }
    if let [small, large] = opening[..] {
        println!("opening, {} against {} rows: {:.2} times as long", sizes[1], sizes[0], large / small);
    }
    Ok(())
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, |[small, large, width]| table([small, large], width))
}
