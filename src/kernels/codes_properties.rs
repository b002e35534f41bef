//! One suite for sums over codes, stamped on every back-end: each must give the sums of a naive loop in 64 bits.

use super::{CODE_QUERIES_MAX, CodeQueries, KernelError, Kernels, code_row_bytes};
use crate::base::RandomStream;
use crate::base::limits::EMBEDDING_WIDTH_MAX;

/// The step of each value, straight from the definition.
fn steps(query: &[f32], scale: f64) -> Vec<i64> {
    let step = |&value: &f32| if scale == 0.0 { 0 } else { (f64::from(value) / scale).round() as i64 };
    query.iter().map(step).collect()
}

fn naive(row: &[u8], steps: &[i64]) -> i64 {
    row.iter().zip(steps).map(|(&code, step)| i64::from(code as i8) * step).sum()
}

/// `count` rows of random codes, -128 among them, padded.
fn rows(width: usize, count: usize, stream: &mut RandomStream) -> Vec<u8> {
    let mut rows = vec![0; count * code_row_bytes(width)];
    for row in rows.chunks_exact_mut(code_row_bytes(width)) {
        row[..width].iter_mut().for_each(|code| *code = stream.next_u64() as u8);
    }
    rows
}

fn check(kernels: Kernels, queries: &[Vec<f32>], rows: &[u8]) {
    let borrowed: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let quantised = CodeQueries::new(&borrowed).unwrap();
    let row_bytes = code_row_bytes(quantised.width());
    let mut sums = vec![i32::MIN; rows.len() / row_bytes * queries.len()];
    kernels.code_dots(&quantised, rows, &mut sums).unwrap();
    let steps: Vec<Vec<i64>> = queries
        .iter()
        .zip(quantised.queries())
        .map(|(query, described)| steps(query, described.scale))
        .collect();
    let expected: Vec<i64> = rows
        .chunks_exact(row_bytes)
        .flat_map(|row| steps.iter().map(move |steps| naive(row, steps)))
        .collect();
    let sums: Vec<i64> = sums.into_iter().map(i64::from).collect();
    assert_eq!(sums, expected, "{kernels:?}, width {}", quantised.width());
}

#[test]
fn sums_are_those_of_a_naive_loop_on_every_back_end() {
    let mut stream = RandomStream::new(31);
    for width in (1..70).chain([95, 96, 97, 384, 511, 513, 1000]) {
        for count in 1..=CODE_QUERIES_MAX {
            let queries: Vec<Vec<f32>> = (0..count)
                .map(|_| (0..width).map(|_| (stream.unit() * 4.0 - 2.0) as f32).collect())
                .collect();
            let rows = rows(width, 1 + width % 7, &mut stream);
            Kernels::available().iter().for_each(|kernels| check(*kernels, &queries, &rows));
        }
    }
}

#[test]
fn the_largest_sums_fit() {
    for width in [1, 32, 384, 512, 513, 4096, EMBEDDING_WIDTH_MAX - 1, EMBEDDING_WIDTH_MAX] {
        let queries = [vec![7.5; width], vec![-7.5; width]];
        let mut rows = vec![0; 2 * code_row_bytes(width)];
        let (least, most) = rows.split_at_mut(code_row_bytes(width));
        least[..width].fill(0x80);
        most[..width].fill(0x7F);
        Kernels::available().iter().for_each(|kernels| check(*kernels, &queries, &rows));
    }
}

#[test]
fn sums_of_named_rows_are_those_of_a_scan_on_every_back_end() {
    let mut stream = RandomStream::new(33);
    for width in [1, 31, 32, 33, 95, 384, 1000] {
        let rows = rows(width, 50, &mut stream);
        let query: Vec<f32> = (0..width).map(|_| (stream.unit() * 4.0 - 2.0) as f32).collect();
        let queries = CodeQueries::new(&[&query]).unwrap();
        let mut all = vec![0; 50];
        Kernels::by_name("scalar").unwrap().code_dots(&queries, &rows, &mut all).unwrap();
        for kernels in Kernels::available() {
            for count in [0, 1, 2, 3, 4, 33] {
                let named: Vec<u32> = (0..count).map(|_| stream.below(50) as u32).collect();
                let mut sums = vec![i32::MIN; count];
                kernels.code_dots_at(&queries, &rows, &named, &mut sums).unwrap();
                let expected: Vec<i32> = named.iter().map(|row| all[*row as usize]).collect();
                assert_eq!(sums, expected, "{kernels:?}, width {width}");
            }
        }
    }
}

#[test]
fn sums_of_pairs_of_rows_are_those_of_a_naive_loop_on_every_back_end() {
    let mut stream = RandomStream::new(34);
    for width in [1, 31, 32, 33, 95, 384, 1000, EMBEDDING_WIDTH_MAX] {
        let mut rows = rows(width, 50, &mut stream);
        let bytes = code_row_bytes(width);
        rows[3 * bytes..][..width].fill(0x80);
        for own in [3, 7] {
            let own = &rows[own * bytes..][..bytes];
            let steps = naive_steps(own);
            for kernels in Kernels::available() {
                for count in [0, 1, 2, 33] {
                    let drawn = (0..count).map(|place| if place == 1 { 3 } else { stream.below(50) as u32 });
                    let named: Vec<u32> = drawn.collect();
                    let mut sums = vec![i32::MIN; count];
                    kernels.row_dots_at(width, own, &rows, &named, &mut sums).unwrap();
                    let expected =
                        named.iter().map(|row| naive(&rows[*row as usize * bytes..][..bytes], &steps));
                    let expected: Vec<i64> = expected.collect();
                    let sums: Vec<i64> = sums.into_iter().map(i64::from).collect();
                    assert_eq!(sums, expected, "{kernels:?}, width {width}");
                }
            }
        }
    }
}

fn naive_steps(row: &[u8]) -> Vec<i64> {
    row.iter().map(|code| i64::from(*code as i8)).collect()
}

#[test]
fn rows_that_are_not_there_are_named() {
    let queries = CodeQueries::new(&[&[1.0; 33]]).unwrap();
    for kernels in Kernels::available() {
        for row in [3, 1 << 20, u32::MAX] {
            let mut sums = [0; 3];
            let result = kernels.code_dots_at(&queries, &[1; 3 * 64], &[2, row, 0], &mut sums);
            assert_eq!(result, Err(KernelError::CodeRow { row, rows: 3 }));
        }
        let result = kernels.code_dots_at(&queries, &[1; 3 * 64], &[2, 1], &mut [0; 3]);
        assert_eq!(result, Err(KernelError::Places { named: 2, places: 3 }));
        let two = CodeQueries::new(&[&[1.0; 33], &[1.0; 33]]).unwrap();
        let result = kernels.code_dots_at(&two, &[1; 3 * 64], &[0], &mut [0]);
        assert_eq!(result, Err(KernelError::Queries { given: 2, most: 1 }));
        let pairs = |own: &[u8], named: &[u32], places: usize| {
            kernels.row_dots_at(33, own, &[1; 3 * 64], named, &mut vec![0; places])
        };
        for row in [3, 1 << 20, u32::MAX] {
            assert_eq!(pairs(&[1; 64], &[2, row, 0], 3), Err(KernelError::CodeRow { row, rows: 3 }));
        }
        assert_eq!(pairs(&[1; 64], &[2, 1], 3), Err(KernelError::Places { named: 2, places: 3 }));
        let short = pairs(&[1; 33], &[0], 1);
        assert_eq!(short, Err(KernelError::CodeBytes { width: 33, rows: 1, given: 33 }));
    }
}

#[test]
fn the_error_of_a_query_is_what_its_steps_leave() {
    let mut stream = RandomStream::new(32);
    for width in [1, 31, 384, 20_000] {
        let query: Vec<f32> = (0..width).map(|_| (stream.unit() - 0.5) as f32).collect();
        let queries = CodeQueries::new(&[&query]).unwrap();
        let described = queries.queries()[0];
        let squares: f64 = query
            .iter()
            .zip(steps(&query, described.scale))
            .map(|(&value, step)| (f64::from(value) - described.scale * step as f64).powi(2))
            .sum();
        assert!((described.error_norm - squares.sqrt()).abs() <= 1e-12 * described.norm, "{width}");
        assert!(described.error_norm <= 1e-3 * described.norm || width > 10_000, "{width}: {described:?}");
    }
}

#[test]
fn queries_without_a_direction_or_a_number_are_zero() {
    for query in [vec![0.0; 40], vec![f32::NAN; 40], vec![f32::INFINITY; 40]] {
        let queries = CodeQueries::new(&[&query]).unwrap();
        let described = queries.queries()[0];
        assert_eq!((described.scale, described.norm, described.error_norm), (0.0, 0.0, 0.0));
        let mut sums = [1; 2];
        Kernels::best().code_dots(&queries, &[0x55; 128], &mut sums).unwrap();
        assert_eq!(sums, [0, 0]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let query = [1.0; 33];
    let many = [query.as_slice(); CODE_QUERIES_MAX + 1];
    assert_eq!(CodeQueries::new(&many), Err(KernelError::Queries { given: 5, most: 4 }));
    assert_eq!(CodeQueries::new(&[]), Err(KernelError::Queries { given: 0, most: 4 }));
    assert_eq!(CodeQueries::new(&[&query, &[1.0]]), Err(KernelError::Widths { left: 33, right: 1 }));
    let queries = CodeQueries::new(&[&query, &query]).unwrap();
    for (bytes, places) in [(64, 1), (63, 2), (33, 2), (128, 2), (64, 4), (0, 2)] {
        let mut sums = vec![9; places];
        let result = Kernels::best().code_dots(&queries, &vec![0; bytes], &mut sums);
        assert!(matches!(result, Err(KernelError::CodeBytes { width: 33, .. })), "{bytes} {places}");
        assert!(sums.iter().all(|sum| *sum == 9));
    }
    assert_eq!(Kernels::best().code_dots(&queries, &[], &mut []), Ok(()));
}
