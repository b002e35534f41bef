//! Time of building a graph and of walking over it.
//!
//! `cargo bench --bench graph [-- ROWS WIDTH]`: clustered rows of length 1, as embeddings of texts are. A graph is built with
//! one thread and with two; then for each beam the recall of the 10 best rows, by codes, the rows scored, and the time of a
//! walk, the median of all questions.

#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

mod measure;

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use ascribe::base::{Cancel, RowId};
use ascribe::index::{
    FrozenColumn, FrozenGraph, GraphOptions, GraphRows, GraphWork, NativeBuilder, Walk, Walker, build_graph,
};
use ascribe::kernels::{CodeQueries, Kernels, code_row_bytes, encode_int8};

use crate::measure::{clustered_vectors, median, run, seconds};

/// Rows and values of a row, unless given.
const SIZES_DEFAULT: [usize; 2] = [100_000, 384];

/// Questions.
const QUESTIONS: usize = 200;

/// Beams of the table.
const BEAMS: [usize; 7] = [10, 16, 32, 64, 128, 256, 512];

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Codes in memory.
struct Rows {
    width: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
    norms: Vec<u8>,
}

impl Rows {
    fn of(values: &[f32], width: usize) -> Outcome<Self> {
        let mut rows = Self { width, codes: Vec::new(), scales: Vec::new(), norms: Vec::new() };
        for (row, values) in values.chunks_exact(width).enumerate() {
            rows.scales.extend(encode_int8(values, &mut rows.codes)?.to_le_bytes());
            rows.codes.resize((row + 1) * code_row_bytes(width), 0);
            rows.norms.extend(1.0_f32.to_le_bytes());
        }
        Ok(rows)
    }
}

impl GraphRows for Rows {
    type Error = Infallible;

    fn row_count(&self) -> u32 {
        (self.scales.len() / 4) as u32
    }

    fn width(&self) -> usize {
        self.width
    }

    fn codes_at(&self, _rows: &[u32]) -> Result<&[u8], Infallible> {
        Ok(&self.codes)
    }

    fn scales_at(&self, _rows: &[u32]) -> Result<&[u8], Infallible> {
        Ok(&self.scales)
    }

    fn norms_at(&self, _rows: &[u32]) -> Result<&[u8], Infallible> {
        Ok(&self.norms)
    }
}

fn build(rows: &Rows, threads: usize) -> Outcome<FrozenGraph> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let (cancel, mut advance) = (Cancel::new(), |_| ());
    let mut work = GraphWork { pool: &pool, pause: &|| (), cancel: &cancel, advance: &mut advance };
    let begun = Instant::now();
    let graph = build_graph(&NativeBuilder, rows, &GraphOptions::default(), &mut work)?;
    println!("built with {threads} thread(s) in {:.2} s", begun.elapsed().as_secs_f64());
    Ok(graph)
}

/// The rows of the 10 highest scores by codes.
fn best(rows: &Rows, query: &CodeQueries) -> Outcome<Vec<RowId>> {
    let mut sums = vec![0; rows.row_count() as usize];
    Kernels::best().code_dots(query, &rows.codes, &mut sums)?;
    let scales = rows.scales.as_chunks::<4>().0.iter().map(|scale| f64::from(f32::from_le_bytes(*scale)));
    let mut scores: Vec<(f64, u32)> =
        sums.iter().zip(scales).map(|(sum, scale)| f64::from(*sum) * scale).zip(0..).collect();
    scores.sort_by(|left, right| right.0.total_cmp(&left.0));
    Ok(scores.iter().take(10).map(|(_, row)| RowId(*row)).collect())
}

fn table([rows, width]: [usize; 2]) -> Outcome<()> {
    let coded = Rows::of(&clustered_vectors(rows, width, 1), width)?;
    let graph = build(&coded, 1)?;
    if build(&coded, 2)? != graph {
        return Err("two threads made another graph".into());
    }
    println!("{:?}", graph.head);
    let column = FrozenColumn { rows: &coded, graph: &graph };
    let questions = clustered_vectors(QUESTIONS, width, 2);
    let queries = questions
        .chunks_exact(width)
        .map(|values| CodeQueries::new(&[values]))
        .collect::<Result<Vec<_>, _>>()?;
    let truth = queries.iter().map(|query| best(&coded, query)).collect::<Outcome<Vec<_>>>()?;
    println!("{rows} rows of {width} values, {QUESTIONS} questions, one thread");
    println!("{:>6}{:>12}{:>14}{:>12}", "beam", "recall@10", "rows scored", "ms");
    let mut walker = Walker::default();
    for beam in BEAMS {
        let (mut hits, mut scored, mut times) = (0, 0, Vec::new());
        for (query, truth) in queries.iter().zip(&truth) {
            let walk = Walk {
                kernels: Kernels::best(),
                query,
                coarse: None,
                opponents: false,
                beam,
                eligible: None,
            };
            let mut result = Ok(Default::default());
            times.push(seconds(|| result = walker.walk(&column, &[walk])));
            let found = result?.pop().unwrap_or_default();
            scored += found.counts.rows;
            hits += found.rows.iter().take(10).filter(|(row, _)| truth.contains(row)).count();
        }
        let recall = hits as f64 / (10 * QUESTIONS) as f64;
        println!("{beam:>6}{recall:>12.4}{:>14}{:>12.4}", scored / QUESTIONS as u64, median(times) * 1e3);
    }
    Ok(())
}

fn main() -> ExitCode {
    run(SIZES_DEFAULT, table)
}
