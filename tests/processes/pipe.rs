//! A long pipe into the real program: memory stays flat, a kill loses nothing that was acknowledged, and readers are
//! answered all the while.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ascribe::base::{Cancel, ElementType};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, ColumnEncoder, CreateOptions, OpenOptions, Query, Reader, Store, Watch, verify,
};
use ascribe::storage::{CheckInProcess, DiskOptions, DiskStorage, Storage};

#[cfg(feature = "bert")]
#[path = "../bert/model.rs"]
mod model;

use crate::children::{Child, role, say};
use crate::input::{folder, store_path};

/// What goes through the pipe, and what it may cost.
struct Load {
    documents: u64,
    /// Documents after which memory is measured first.
    measured_at: u64,
    /// Documents after which the first process is killed.
    killed_at: u64,
    /// What the process may grow by from the first measurement to the last, in KiB.
    growth_kib_max: u64,
    /// Questions that the reader must have answered by the end.
    questions_min: u64,
    encoder: EncoderSpecification,
}

fn key_of(number: u64) -> String {
    format!("document-{number:06}")
}

fn write_lines(mut input: BufWriter<ChildStdin>, documents: u64) -> Option<ChildStdin> {
    const WORDS: [&str; 8] = ["rain", "cats", "stone", "music", "bread", "ships", "winter", "glass"];
    for number in 0..documents {
        let word = |step: u64| WORDS[(number / step) as usize % WORDS.len()];
        let (key, text) = (key_of(number), format!("{} and {} in {}", word(1), word(8), word(64)));
        // The reader of the pipe may be killed.
        writeln!(input, "{{\"id\":\"{key}\",\"text\":\"{text}, {number}\",\"n\":{number}}}").ok()?;
    }
    input.into_inner().ok()
}

/// Memory of its own that a process has now, in KiB: not the pages of mapped files, which the system takes back when it
/// needs them. `None` once it is over.
fn own_memory_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Watches the memory of a process until it is over; the largest so far can be read at any time.
fn watch_memory(process: u32) -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    std::thread::spawn(move || {
        while let Some(now) = own_memory_kib(process) {
            seen.fetch_max(now, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    most
}

/// An ingest that a thread feeds; the thread hands back the pipe when all is sent.
struct Ingest {
    process: Process,
    /// The largest memory of its own so far, in KiB.
    most_memory_kib: Arc<AtomicU64>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    feeder: std::thread::JoinHandle<Option<ChildStdin>>,
}

impl Ingest {
    fn start(folder: &Path, documents: u64) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_ascribe"))
            .arg("ingest")
            .arg(store_path(folder))
            .args(["-", "--key", "id", "--on-duplicate", "skip"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = BufWriter::new(process.stdin.take().unwrap());
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let most_memory_kib = watch_memory(process.id());
        Self {
            process,
            most_memory_kib,
            lines,
            feeder: std::thread::spawn(move || write_lines(input, documents)),
        }
    }

    /// Waits until `number` documents are acknowledged; how many are.
    fn wait_for(&mut self, number: u64) -> u64 {
        for line in self.lines.by_ref() {
            let said: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let key = said["last_key"].as_str().unwrap();
            let done = key.strip_prefix("document-").unwrap().parse::<u64>().unwrap() + 1;
            if done >= number {
                return done;
            }
        }
        panic!("the ingest ended before {number} documents were acknowledged");
    }
}

/// A process that asks all along, until a file tells it to stop.
#[test]
fn child_ask() {
    let Some((folder, _)) = role() else { return };
    let mut reader = Reader::open_at(&store_path(&folder), OpenOptions::default()).unwrap();
    let (mut questions, mut rows) = (0_u64, 0);
    let is_over = || folder.join("stop").exists();
    while !is_over() {
        reader.refresh().unwrap();
        let snapshot = reader.snapshot();
        let now = snapshot.row_count();
        assert!(now >= rows, "{} rows are gone", rows - now);
        rows = now;
        if rows > 0 {
            let answer = snapshot.query(&Query::text("cats and rain in winter"), &Cancel::new()).unwrap();
            assert_eq!((answer.rows, answer.proponents.len()), (rows, 10));
            questions += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    say(questions);
}

#[test]
fn a_long_pipe_is_taken_in_with_flat_memory_through_a_kill_while_readers_are_answered() {
    take_in(&Load {
        documents: 200_000,
        measured_at: 50_000,
        killed_at: 100_000,
        // It keeps no row. Merging 150,000 rows takes 20 bytes of each, and a graph, which a merged segment of so many rows
        // gets, 150 bytes while it is built; the rest is for what allocators and an unlucky moment add.
        growth_kib_max: 24 * 1024 + 200_000 * 150 / 1024,
        questions_min: 50,
        encoder: EncoderSpecification::Hashed { width: 64 },
    });
}

#[cfg(feature = "bert")]
#[test]
fn so_is_a_shorter_pipe_into_the_learned_encoder() {
    let Some(path) = model::minilm() else { return };
    take_in(&Load {
        documents: 3_000,
        measured_at: 700,
        killed_at: 1_200,
        growth_kib_max: 24 * 1024,
        questions_min: 20,
        encoder: EncoderSpecification::Directory { path },
    });
}

fn take_in(load: &Load) {
    let begun = Instant::now();
    let folder = folder();
    let encoder = ColumnEncoder::BuiltIn(load.encoder.clone());
    let column = ColumnDefinition { name: "embedding".to_owned(), element: ElementType::F16, encoder };
    let create = CreateOptions { columns: vec![column], ..CreateOptions::default() };
    drop(Store::create_at(&store_path(folder.path()), create, OpenOptions::default()).unwrap());
    let reader = Child::start("pipe::child_ask", folder.path(), "");

    let mut first = Ingest::start(folder.path(), load.documents);
    first.wait_for(load.measured_at);
    let early = first.most_memory_kib.load(Ordering::Relaxed);
    let acknowledged = first.wait_for(load.killed_at);
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    drop(first.feeder.join().unwrap());
    assert!(acknowledged < load.documents, "all was committed before the kill");
    let reopened = Reader::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    assert!(reopened.snapshot().row_count() >= acknowledged);
    drop(reopened);

    let mut second = Ingest::start(folder.path(), load.documents);
    second.wait_for(load.documents);
    let late = second.most_memory_kib.load(Ordering::Relaxed);
    drop(second.feeder.join().unwrap().expect("all was sent"));
    assert!(second.process.wait().unwrap().success());
    std::fs::write(folder.path().join("stop"), "").unwrap();
    let questions: u64 = reader.end()[0].parse().unwrap();

    let snapshot = Reader::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap().snapshot();
    assert_eq!(snapshot.row_count(), load.documents);
    for number in 0..load.documents {
        assert!(snapshot.row(&key_of(number)).unwrap().is_some(), "document {number} is lost");
    }
    println!(
        "{early} KiB after {} documents, {late} KiB after {}; {questions} questions answered, {} segments, {:?}",
        load.measured_at,
        load.documents,
        snapshot.statistics().segments,
        begun.elapsed()
    );
    assert!(late < early + load.growth_kib_max, "{early} KiB, then {late} KiB");
    assert!(questions >= load.questions_min, "{questions} questions");
    let storage: Arc<dyn Storage> =
        Arc::new(DiskStorage::new(store_path(folder.path()), DiskOptions::default()));
    let report = verify(&storage, false, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}
