//! Time of a query over one segment against the time to read its codes once: a scan can take no less.
//!
//! `cargo bench --bench search [-- ROWS WIDTH THREADS]`: medians of interleaved rounds, all files in the page cache. Rows are
//! clustered and of length 1, as embeddings of texts are; each round asks another question, and every answer by codes is
//! compared with that of the exact scan.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ascribe::attribution::Side;
use ascribe::base::{Cancel, FieldDeclaration, FieldType};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, Import, OnDuplicate, OpenOptions, Plan, Query, QueryInput,
    Reader, Store, Watch,
};
use ascribe::kernels::code_row_bytes;
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};

use crate::measure::{clustered_vectors, median, npy, run, seconds};

/// Rounds of each measurement. Interleaved, so that a slow moment of a shared machine falls on all alike.
const ROUNDS: usize = 21;

/// Rows, values of a row and threads, unless given.
const SIZES_DEFAULT: [usize; 3] = [100_000, 384, 1];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn build(path: &Path, rows: usize, width: usize) -> Outcome<()> {
    let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width })];
    let fields = vec![FieldDeclaration { name: "hundredth".to_owned(), kind: FieldType::Integer }];
    let create = CreateOptions { columns, fields };
    let mut store = Store::create_at(path, create, OpenOptions::default())?;
    let keys: String = (0..rows)
        .map(|row| format!("{{\"key\": \"document-{row:07}\", \"hundredth\": {}}}\n", row * 7 % 100))
        .collect();
    let keys = std::io::Cursor::new(keys);
    let mut keys = from_reader(keys, "keys", InputFormat::JsonLines, &FieldNames::of_keys_file())?;
    let bytes = npy(rows, width, clustered_vectors(rows, width, 1).into_iter());
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
    let begun = Instant::now();
    store.build_indexes(Watch::silent(&cancel))?;
    println!("index built in {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Keys and scores of both ends.
fn ends(answer: &Answer) -> Vec<(&str, f64)> {
    let hits = answer.proponents.iter().chain(&answer.opponents);
    hits.map(|hit| (hit.key.as_str(), hit.score)).collect()
}

/// Prints a line for each form: seconds, rows that were scored again, and what was found of how many by which plan.
fn show<'a>(read: f64, forms: impl Iterator<Item = (&'a str, Vec<f64>, u64, (usize, usize, &'a str))>) {
    println!(
        "{:<44}{:>10}{:>22}{:>24}{:>8}{:>8}",
        "", "ms", "times reading codes", "most rows scored again", "plan", "recall"
    );
    println!("{:<44}{:>10.3}", "reading the codes once, one thread", read * 1e3);
    for (name, times, rescored, (found, all, plan)) in forms {
        let (time, recall) = (median(times), found as f64 / all as f64);
        let (ms, ratio) = (time * 1e3, time / read);
        println!("{name:<44}{ms:>10.3}{ratio:>22.2}{rescored:>24}{plan:>8}{recall:>8.3}");
    }
}

/// What is asked in each round.
fn forms() -> [(&'static str, Query); 10] {
    let filter = Some("hundredth = 3".to_owned());
    let scan = |side| Query { side, plan: Plan::Scan, ..Query::text("") };
    [
        ("10 proponents", scan(Side::Proponents)),
        ("10 proponents and 10 opponents", scan(Side::Both)),
        ("100 proponents", Query { k: 100, ..scan(Side::Proponents) }),
        ("10 and 10 of one row in a hundred", Query { filter: filter.clone(), ..scan(Side::Both) }),
        ("10 proponents, exact scan", Query { exact: true, ..scan(Side::Proponents) }),
        (
            "10 and 10 of one in a hundred, exact",
            Query { filter: filter.clone(), exact: true, ..scan(Side::Both) },
        ),
        ("10 and 10 of one in a hundred, as planned", Query { filter: filter.clone(), ..Query::text("") }),
        ("10 proponents, as planned", Query { side: Side::Proponents, ..Query::text("") }),
        ("100 proponents, as planned", Query { side: Side::Proponents, k: 100, ..Query::text("") }),
        ("10 proponents and 10 opponents, as planned", Query::text("")),
    ]
}

fn table([rows, width, threads]: [usize; 3]) -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("store");
    build(&path, rows, width)?;
    let options = OpenOptions { threads: NonZeroUsize::new(threads), ..OpenOptions::default() };
    let reader = Reader::open_at(&path, options)?;
    let questions = clustered_vectors(ROUNDS + 1, width, 2);
    let forms = forms();
    let exact_of = [0, 1, 2, 3, 4, 5, 5, 0, 2, 1];
    let mut found = vec![(0_usize, 0_usize, ""); forms.len()];
    let codes = vec![1_u8; rows * code_row_bytes(width)];
    let mut reads = Vec::new();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); forms.len()];
    let mut rescored = vec![0; forms.len()];
    for (round, question) in questions.chunks_exact(width).enumerate() {
        let read = seconds(|| {
            let words = codes.as_chunks::<64>().0.iter();
            black_box(words.fold([0_u64; 8], |mut sums, block| {
                for (sum, word) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
                    *sum ^= u64::from_le_bytes(*word);
                }
                sums
            }));
        });
        let mut answers = Vec::new();
        for (form, (_, query)) in forms.iter().enumerate() {
            let query = Query { input: QueryInput::Vector(question.to_vec()), ..query.clone() };
            let begun = Instant::now();
            let answer = reader.snapshot().query(&query, &Cancel::new())?;
            let took = begun.elapsed().as_secs_f64();
            // One round beforehand, not counted, brings all files into the page cache and checks their blocks.
            if round > 0 {
                times[form].push(took);
                rescored[form] = rescored[form].max(answer.rows_exact);
            }
            answers.push(answer);
        }
        let filtered = ends(&answers[5]);
        if ends(&answers[0]) != ends(&answers[4])
            || [3, 6].iter().any(|form| ends(&answers[*form]) != filtered)
        {
            return Err("an answer by codes is not that of the exact scan".into());
        }
        for ((answer, exact), (found, all, plan)) in answers.iter().zip(exact_of).zip(&mut found) {
            let known = ends(&answers[exact]);
            *all += known.len();
            *found += ends(answer).iter().filter(|hit| known.contains(hit)).count();
            *plan = answer.plan;
        }
        if round > 0 {
            reads.push(read);
        }
    }
    println!(
        "{rows} rows of {width} f32 values, {threads} thread(s), warm, medians of {ROUNDS} interleaved rounds"
    );
    let shown = forms.iter().map(|(name, _)| *name).zip(times).zip(rescored).zip(found);
    show(median(reads), shown.map(|(((name, times), rescored), found)| (name, times, rescored, found)));
    Ok(())
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, table)
}
