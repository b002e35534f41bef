//! Speed of the learned encoder on the processor, against the same model on candle's operations and against the
//! products that this machine admits at best.
//!
//! `cargo bench --bench encoder [-- --threads N] [--model DIR]`: texts a second at 32, 128 and 256 tokens and 1, 8 and 32
//! texts, medians over interleaved rounds, then one training step. `--serve` answers lines "TOKENS TEXTS" on
//! standard input with the seconds of one pass, for `tools/peers/encoder`.
//!
//! DIR is a BERT directory; without it the one that `tools/fetch-model` brought.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table on standard output is what this is for"
)]

mod measure;
#[path = "../tests/bert/model.rs"]
mod model;

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ascribe::encoder::{BertBatch, BertEncoder, BertModel, BertTrained, Encoder, PreparedText};
use ascribe::kernels::{Kernels, Panels, StridedOutput, StridedRows};
use candle_core::{DType, Device};
use rayon::ThreadPoolBuilder;

use crate::measure::{median, seconds};

/// Rounds of each measurement. Interleaved, so that a slow moment of a shared machine falls on all alike.
const ROUNDS: usize = 7;

/// Tokens of a text, times texts of a batch.
const LENGTHS: [usize; 3] = [32, 128, 256];
const BATCHES: [usize; 3] = [1, 8, 32];

/// Passes of one round, so that a round takes at least as long as a time slice.
const ROUND_TOKENS: usize = 1024;

/// A training step's batch.
const STEP_TEXTS: usize = 16;
const STEP_TOKENS: usize = 64;

/// Texts without words: numbers of tokens spread over the vocabulary, none of them special. The same in the scripts of
/// `tools/peers/encoder`.
fn texts(count: usize, length: usize) -> Vec<Vec<u32>> {
    let token = |text: usize, at: usize| (1000 + (text * 7919 + at * 104_729) % 20_000) as u32;
    (0..count).map(|text| (0..length).map(|at| token(text, at)).collect()).collect()
}

fn prepared(count: usize, length: usize) -> Vec<PreparedText> {
    texts(count, length).into_iter().map(PreparedText::tokens).collect()
}

/// Multiply-adds of a token in the products with weights, in units of 1e9 operations: two for each weight of a layer.
fn operations_per_token(encoder: &BertEncoder) -> f64 {
    let shape = encoder.configuration();
    let layer = 4 * shape.hidden_size * shape.hidden_size + 2 * shape.hidden_size * shape.intermediate_size;
    2.0 * (shape.layers * layer) as f64 / 1e9
}

/// Billions of operations a second of one thread in a product whose factors stay in the cache.
fn product_limit() -> f64 {
    let (rows, depth, columns) = (48, 256, 256);
    let panels = Panels::of_weights(&vec![0.25; columns * depth], columns, depth);
    let values = vec![0.5; rows * depth];
    let mut out = vec![0.0; rows * columns];
    let times = (0..200).map(|_| {
        seconds(|| {
            let rows = StridedRows { values: &values, stride: depth, count: rows };
            let out = StridedOutput { values: &mut out, stride: columns };
            let _ = black_box(Kernels::best().product(rows, &panels, None, out));
        })
    });
    2.0 * (rows * depth * columns) as f64 / times.fold(f64::INFINITY, f64::min) / 1e9
}

struct Arguments {
    model: Option<PathBuf>,
    threads: usize,
    serve: bool,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let threads = std::thread::available_parallelism()?.get();
        let mut read = Self { model: None, threads, serve: false };
        let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--model" => read.model = Some(PathBuf::from(value()?)),
                "--threads" => read.threads = value()?.parse::<usize>()?.max(1),
                "--serve" => read.serve = true,
                _ => {
                    return Err(
                        format!("unknown argument {argument}; use --model, --threads, --serve").into()
                    );
                }
            }
        }
        Ok(read)
    }
}

fn serve(encoder: &BertEncoder) -> Result<(), Box<dyn Error>> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (length, count) = line.split_once(' ').ok_or("a line is TOKENS TEXTS")?;
        let texts = prepared(count.parse()?, length.parse()?);
        let mut out = vec![0.0; texts.len() * encoder.width()];
        let time = seconds(|| {
            let _ = black_box(encoder.encode_prepared(&texts, &mut out));
        });
        println!("{time} {}", out.first().copied().unwrap_or_default());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn inference(encoder: &BertEncoder, threads: usize) -> Result<(), Box<dyn Error>> {
    let candle = BertModel::fixed(encoder.configuration(), encoder.weights(), &Device::Cpu, DType::F32)?;
    let limit = product_limit();
    println!("{threads} threads; a product in the cache: {limit:.0} GFLOP/s a thread");
    println!(
        "{:>6} {:>6} {:>9} {:>12} {:>9} {:>14}",
        "tokens", "texts", "texts/s", "of the limit", "candle", "times candle"
    );
    let work = operations_per_token(encoder);
    for length in LENGTHS {
        for count in BATCHES {
            let (tokens, ready) = (texts(count, length), prepared(count, length));
            let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
            let mut out = vec![0.0; count * encoder.width()];
            let passes = (ROUND_TOKENS / (count * length)).max(1);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(seconds(|| {
                    for _ in 0..passes {
                        let _ = black_box(encoder.encode_prepared(&ready, &mut out));
                    }
                }));
                theirs.push(seconds(|| {
                    for _ in 0..passes {
                        let batch = BertBatch::new(&tokens, &Device::Cpu);
                        let _ = black_box(batch.and_then(|batch| candle.forward(&batch)));
                    }
                }));
            }
            let rate = |times| (passes * count) as f64 / median(times);
            let (ours, theirs) = (rate(ours), rate(theirs));
            let share = ours * length as f64 * work / (limit * threads as f64);
            println!(
                "{length:>6} {count:>6} {ours:>9.1} {share:>12.2} {theirs:>9.1} {:>14.2}",
                ours / theirs
            );
        }
    }
    Ok(())
}

/// A step over all weights: forward, backward. The optimiser's part is the same for both forms.
fn training(encoder: &BertEncoder) -> Result<(), Box<dyn Error>> {
    let (fused, variables) =
        BertModel::trainable(encoder.configuration(), encoder.weights(), &Device::Cpu, BertTrained::All)?;
    let composed = fused.composed();
    let tokens = texts(STEP_TEXTS, STEP_TOKENS);
    let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let batch = BertBatch::new(&tokens, &Device::Cpu)?;
    let step = |model: &BertModel| -> Result<usize, candle_core::Error> {
        let gradients = model.forward(&batch)?.sqr()?.sum_all()?.backward()?;
        Ok(variables.iter().filter(|(_, variable)| gradients.get(variable).is_some()).count())
    };
    println!(
        "\ntraining step of {STEP_TEXTS} x {STEP_TOKENS} tokens: {} of {} variables have a gradient",
        step(&fused)?,
        variables.len()
    );
    let (mut quick, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        quick.push(seconds(|| drop(black_box(step(&fused)))));
        slow.push(seconds(|| drop(black_box(step(&composed)))));
    }
    let (quick, slow) = (median(quick), median(slow));
    println!(
        "fused {quick:.2} s, composed of candle's operations {slow:.2} s: {:.2} times as fast",
        slow / quick
    );
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let model = arguments.model.or_else(model::minilm).ok_or("no model; tools/fetch-model brings one")?;
    let encoder = BertEncoder::from_directory(&model)?;
    // Candle takes the global pool; both get the same threads.
    ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let pool = ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    if arguments.serve {
        return pool.install(|| serve(&encoder).map_err(|error| error.to_string())).map_err(Into::into);
    }
    pool.install(|| inference(&encoder, arguments.threads).map_err(|error| error.to_string()))?;
    pool.install(|| training(&encoder).map_err(|error| error.to_string())).map_err(Into::into)
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`. Test runners start this program without it, to list or run tests: it has none.
    if !std::env::args().any(|argument| argument == "--bench" || argument == "--serve") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
