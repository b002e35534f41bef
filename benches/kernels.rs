//! Speed of the dot-product kernels against the read bandwidth of the machine they run on.
//!
//! `cargo bench --bench kernels [-- ROWS WIDTH]`: for each element type and back-end, the median over interleaved rounds
//! of one query against all rows, on one thread; beside it the time of reading the same bytes as plain u64 words.

#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

mod measure;

use std::hint::black_box;
use std::process::ExitCode;

use ascribe::base::limits::SCAN_CHUNK_ROWS;
use ascribe::base::{ElementType, RandomStream};
use ascribe::kernels::{Kernels, WideQuery};

use crate::measure::{median, seconds, sizes};

/// Rounds of each measurement. Interleaved, so that a slow moment of a shared machine falls on all alike.
const ROUNDS: usize = 9;

/// Values of one row unless given: the width of small sentence encoders. With 100,000 rows of f32, 154 MB: above the
/// last-level cache of a server's share.
const WIDTH_DEFAULT: usize = 384;

/// Rows unless given.
const ROWS_DEFAULT: usize = 100_000;

/// Sums `bytes` as u64 words with independent adders, as fast as the compiler and the memory allow.
fn sum_words(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 16];
    let (words, _) = bytes.as_chunks::<8>();
    let (blocks, rest) = words.as_chunks::<16>();
    for block in blocks {
        for lane in 0..16 {
            sums[lane] = sums[lane].wrapping_add(u64::from_le_bytes(block[lane]));
        }
    }
    let rest = rest.iter().map(|word| u64::from_le_bytes(*word));
    sums.into_iter().chain(rest).fold(0, u64::wrapping_add)
}

fn gigabytes_per_second(bytes: usize, seconds: Vec<f64>) -> f64 {
    bytes as f64 / median(seconds) / 1e9
}

/// Values finite in every element type: any bits but one of each byte, without which no exponent is that of infinity.
fn stored_values(bytes: usize) -> Vec<u8> {
    let mut stream = RandomStream::new(1);
    let mut stored = vec![0; bytes];
    for word in stored.chunks_mut(8) {
        let random = (stream.next_u64() & 0xBFBF_BFBF_BFBF_BFBF).to_le_bytes();
        word.copy_from_slice(&random[..word.len()]);
    }
    stored
}

fn scan(kernels: Kernels, element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) -> bool {
    let chunk_bytes = SCAN_CHUNK_ROWS as usize * query.width() * element.size_bytes();
    let chunks = rows.chunks(chunk_bytes).zip(out.chunks_mut(SCAN_CHUNK_ROWS as usize));
    chunks.fold(true, |fine, (bytes, scores)| fine & kernels.dots_wide(element, query, bytes, scores).is_ok())
}

/// Plain reading of `bytes` on one thread and on two, in GB/s.
fn bandwidth(bytes: &[u8]) -> (f64, f64) {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let (left, right) = bytes.split_at(bytes.len() / 16 * 8);
    for _ in 0..ROUNDS {
        one.push(seconds(|| {
            black_box(sum_words(black_box(bytes)));
        }));
        two.push(seconds(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| black_box(sum_words(black_box(right))));
                black_box(sum_words(black_box(left)));
            });
        }));
    }
    (gigabytes_per_second(bytes.len(), one), gigabytes_per_second(bytes.len(), two))
}

/// Speed of each back-end in GB/s, in the order of [`Kernels::available`], and of reading the same bytes as words.
fn measure(element: ElementType, rows: usize, width: usize) -> Option<(Vec<f64>, f64)> {
    let stored = stored_values(rows * width * element.size_bytes());
    let bytes = stored.as_slice();
    let mut stream = RandomStream::new(2);
    let query: Vec<f32> = (0..width).map(|_| stream.unit() as f32 - 0.5).collect();
    let query = WideQuery::new(&query);
    let backends = Kernels::available();
    let mut times = vec![Vec::new(); backends.len()];
    let mut read = Vec::new();
    let mut out = vec![0.0; rows];
    for _ in 0..ROUNDS {
        read.push(seconds(|| {
            black_box(sum_words(black_box(bytes)));
        }));
        for (kernels, times) in backends.iter().zip(&mut times) {
            let mut fine = true;
            times.push(seconds(|| fine = scan(*kernels, element, &query, black_box(bytes), &mut out)));
            black_box(&out);
            if !fine {
                return None;
            }
        }
    }
    let speeds = times.into_iter().map(|times| gigabytes_per_second(bytes.len(), times)).collect();
    Some((speeds, gigabytes_per_second(bytes.len(), read)))
}

fn table(rows: usize, width: usize) -> Option<()> {
    let stored = stored_values(rows * width * ElementType::F32.size_bytes());
    let (one, two) = bandwidth(&stored);
    println!("{rows} rows x {width} values, one query, medians of {ROUNDS} interleaved rounds");
    println!("plain read of {} MB: {one:.1} GB/s on one thread, {two:.1} on two", stored.len() / 1_000_000);
    drop(stored);
    println!(
        "{:8}{:10}{:>8}{:>14}{:>12}{:>16}",
        "type", "back-end", "GB/s", "Mrows/s", "x scalar", "read / kernel"
    );
    for element in ElementType::ALL {
        let (speeds, read) = measure(element, rows, width)?;
        for (kernels, &speed) in Kernels::available().iter().zip(&speeds) {
            let row_bytes = (width * element.size_bytes()) as f64;
            println!(
                "{:8}{:10}{speed:>8.2}{:>14.2}{:>12.2}{:>16.2}",
                element.name(),
                kernels.name(),
                speed * 1e3 / row_bytes,
                speed / speeds.first()?,
                read / speed,
            );
        }
    }
    Some(())
}

fn main() -> ExitCode {
    let done = sizes([ROWS_DEFAULT, WIDTH_DEFAULT]).is_none_or(|[rows, width]| table(rows, width).is_some());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
