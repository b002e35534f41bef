//! Speed of an import of ready vectors against a plain write of the same bytes to the same disk.
//!
//! `cargo bench --bench import [-- ROWS WIDTH]`: medians of interleaved rounds. The plain write is one file, written
//! front to back and synced, as is its folder; the import is [`Store::import`] into an empty store, durable when it
//! returns, from a mapped npy file and a keys file. Both read from the page cache.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ascribe::base::{Cancel, ElementType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Store, Watch};
use ascribe::sources::{FieldNames, Matrix, Source, open_path};
use ascribe::storage::FileMap;

use crate::measure::{median, run};

/// Rounds of each measurement. Interleaved, so that a slow moment of a shared disk falls on all alike.
const ROUNDS: usize = 7;

/// Rows unless given.
const ROWS_DEFAULT: usize = 100_000;

/// Values of a row unless given.
const WIDTH_DEFAULT: usize = 384;

/// Bytes of one write of the plain file.
const WRITE_BYTES: usize = 1024 * 1024;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn write_inputs(folder: &Path, rows: usize, width: usize) -> Outcome<()> {
    let mut stream = RandomStream::new(1);
    let mut npy = std::io::BufWriter::new(File::create(folder.join("vectors.npy"))?);
    // NumPy fills the header up with spaces, so that the values begin at a multiple of 64.
    let shape = format!("({rows}, {width})");
    let header =
        format!("{:117}\n", format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
    npy.write_all(b"\x93NUMPY\x01\x00")?;
    npy.write_all(&(header.len() as u16).to_le_bytes())?;
    npy.write_all(header.as_bytes())?;
    for _ in 0..rows * width {
        npy.write_all(&(stream.unit() as f32 - 0.5).to_le_bytes())?;
    }
    npy.into_inner()?.sync_all()?;
    let mut keys = std::io::BufWriter::new(File::create(folder.join("keys.jsonl"))?);
    for row in 0..rows {
        writeln!(keys, "{{\"key\": \"document-{row:07}\"}}")?;
    }
    keys.into_inner()?.sync_all()?;
    Ok(())
}

fn open_keys(folder: &Path) -> Outcome<Box<dyn Source>> {
    Ok(open_path(&folder.join("keys.jsonl"), None, &FieldNames::of_keys_file(), None)?.source)
}

/// Seconds of a plain write of `parts`.
fn plain_write(folder: &Path, parts: &[&[u8]]) -> Outcome<f64> {
    let path = folder.join("plain");
    let begun = Instant::now();
    let mut file = File::create_new(&path)?;
    for bytes in parts.iter().flat_map(|part| part.chunks(WRITE_BYTES)) {
        file.write_all(bytes)?;
    }
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(seconds)
}

/// Seconds of an import into an empty store.
fn import(folder: &Path, vectors: &[u8], width: usize) -> Outcome<f64> {
    let path = folder.join("store");
    let columns = vec![ColumnDefinition {
        element: ElementType::F32,
        ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width })
    }];
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create_at(&path, create, OpenOptions::default())?;
    let cancel = Cancel::new();
    let begun = Instant::now();
    let mut keys = open_keys(folder)?;
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(vectors, "vectors.npy")?),
        sketches: None,
        column: None,
        on_duplicate: OnDuplicate::Error,
    };
    let report = store.import(import, Watch::silent(&cancel))?;
    let seconds = begun.elapsed().as_secs_f64();
    if report.commit.is_none() {
        return Err("nothing was imported".into());
    }
    drop(store);
    std::fs::remove_dir_all(&path)?;
    Ok(seconds)
}

/// Seconds of reading the keys alone.
fn read_keys(folder: &Path) -> Outcome<f64> {
    let begun = Instant::now();
    let mut keys = open_keys(folder)?;
    while keys.next()?.is_some() {}
    Ok(begun.elapsed().as_secs_f64())
}

fn table(rows: usize, width: usize) -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    write_inputs(folder.path(), rows, width)?;
    let vectors = FileMap::open(&folder.path().join("vectors.npy"))?;
    let keys = std::fs::read(folder.path().join("keys.jsonl"))?;
    let megabytes = (vectors.len() + keys.len()) as f64 / 1e6;
    let (mut plain, mut imported, mut read) = (Vec::new(), Vec::new(), Vec::new());
    // One round beforehand, not counted: the first writes of a new folder find a disk at rest.
    for round in 0..=ROUNDS {
        let seconds = plain_write(folder.path(), &[&vectors, &keys])?;
        let import_seconds = import(folder.path(), &vectors, width)?;
        let read_seconds = read_keys(folder.path())?;
        if round > 0 {
            plain.push(seconds);
            imported.push(import_seconds);
            read.push(read_seconds);
        }
    }
    println!(
        "{rows} rows x {width} values with keys, {megabytes:.1} MB, medians of {ROUNDS} interleaved rounds"
    );
    println!("{:20}{:>10}{:>10}{:>14}", "", "seconds", "MB/s", "rows/s");
    let (plain, imported, read) = (median(plain), median(imported), median(read));
    for (name, seconds) in [("plain write + sync", plain), ("import", imported), ("reading keys alone", read)]
    {
        println!("{name:20}{seconds:>10.3}{:>10.1}{:>14.0}", megabytes / seconds, rows as f64 / seconds);
    }
    println!("import / plain write: {:.2} of its speed", plain / imported);
    Ok(())
}

fn main() -> ExitCode {
    run([ROWS_DEFAULT, WIDTH_DEFAULT], |[rows, width]| table(rows, width))
}
