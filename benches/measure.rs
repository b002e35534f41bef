//! What the benches share: the time of a piece of work, the median of several, rows to work on, and the command line.

#![allow(dead_code, reason = "each bench takes what it needs")]
#![allow(clippy::print_stderr, reason = "a bench that fails says why")]

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Instant;

use ascribe::base::RandomStream;

/// Clusters of [`clustered_vectors`].
const CLUSTERS: usize = 1000;

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The value in the middle, the upper one of two; not a number if there are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The sizes of the command line, the others as in `default`; `None` where a test runner starts the program, to list or
/// run tests: it has none. `cargo bench` adds `--bench`.
pub(crate) fn sizes<const N: usize>(default: [usize; N]) -> Option<[usize; N]> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return None;
    }
    let mut sizes = default;
    let numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number);
    Some(sizes)
}

/// Prints the table of a bench for the [`sizes`] of the command line.
pub(crate) fn run<const N: usize, E: Display>(
    default: [usize; N],
    table: impl FnOnce([usize; N]) -> Result<(), E>,
) -> ExitCode {
    match sizes(default).map_or(Ok(()), table) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The bytes of an npy file of `rows` rows.
pub(crate) fn npy(rows: usize, width: usize, values: impl Iterator<Item = f32>) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.reserve_exact(2 + header.len() + 4 * rows * width);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.flat_map(f32::to_le_bytes));
    bytes
}

/// About normal: the sum of four uniform numbers.
fn normal(stream: &mut RandomStream) -> f32 {
    ((0..4).map(|_| stream.unit()).sum::<f64>() - 2.0) as f32 * 1.7
}

/// Vectors of length 1, each near one of the centres, which are the same for every seed.
pub(crate) fn clustered_vectors(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut centres = RandomStream::new(0);
    let centres: Vec<f32> = (0..CLUSTERS * width).map(|_| normal(&mut centres)).collect();
    let mut stream = RandomStream::new(seed);
    let mut values = Vec::with_capacity(count * width);
    for _ in 0..count {
        let centre = stream.below(CLUSTERS as u64) as usize * width;
        let row: Vec<f32> =
            centres[centre..centre + width].iter().map(|value| value + 0.7 * normal(&mut stream)).collect();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.extend(row.iter().map(|value| value / length));
    }
    values
}
