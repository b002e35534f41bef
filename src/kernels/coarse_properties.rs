//! The suite for sums over coarse codes, stamped on every back-end: each must give the sums of a naive loop in 64 bits.

use super::{
    COARSE_CODE_MAX, CODE_QUERIES_MAX, CoarseQueries, CoarseScore, CoarseTerms, KernelError, Kernels,
    coarse_row_bytes, pack_coarse,
};
use crate::base::RandomStream;
use crate::base::limits::EMBEDDING_WIDTH_MAX;

fn check(kernels: Kernels, queries: &[Vec<f32>], rows: &[Vec<i8>]) {
    let borrowed: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let quantised = CoarseQueries::new(&borrowed).unwrap();
    let mut packed = Vec::new();
    rows.iter().for_each(|row| pack_coarse(row, &mut packed));
    let mut sums = vec![i32::MIN; rows.len() * queries.len()];
    kernels.coarse_dots(&quantised, &packed, &mut sums).unwrap();
    let naive = |row: &[i8], query: &[f32], scale: f64| {
        let step = |value: f32| if scale == 0.0 { 0 } else { (f64::from(value) / scale).round() as i64 };
        row.iter().zip(query).map(|(code, value)| i64::from(*code) * step(*value)).sum::<i64>()
    };
    let of_row = |row: &Vec<i8>| {
        let described = queries.iter().zip(quantised.queries());
        described.map(|(query, described)| naive(row, query, described.scale)).collect::<Vec<_>>()
    };
    let expected: Vec<i64> = rows.iter().flat_map(of_row).collect();
    let sums: Vec<i64> = sums.into_iter().map(i64::from).collect();
    assert_eq!(sums, expected, "{kernels:?}, width {}", quantised.width());
}

#[test]
fn sums_are_those_of_a_naive_loop_on_every_back_end() {
    let mut stream = RandomStream::new(41);
    for width in (1..140).chain([384, 511, 513, 1000]) {
        for count in 1..=CODE_QUERIES_MAX {
            let queries: Vec<Vec<f32>> = (0..count)
                .map(|_| (0..width).map(|_| (stream.unit() * 4.0 - 2.0) as f32).collect())
                .collect();
            let mut row = || (0..width).map(|_| stream.below(15) as i8 - COARSE_CODE_MAX).collect();
            let rows: Vec<Vec<i8>> = (0..1 + width % 7).map(|_| row()).collect();
            Kernels::available().iter().for_each(|kernels| check(*kernels, &queries, &rows));
        }
    }
}

#[test]
fn the_largest_sums_fit() {
    for width in [1, 64, 384, 513, EMBEDDING_WIDTH_MAX - 1, EMBEDDING_WIDTH_MAX] {
        let queries = [vec![7.5; width], vec![-7.5; width]];
        let rows = [vec![COARSE_CODE_MAX; width], vec![-COARSE_CODE_MAX; width]];
        Kernels::available().iter().for_each(|kernels| check(*kernels, &queries, &rows));
    }
}

#[test]
fn codes_beyond_the_range_are_those_at_its_end() {
    let (mut beyond, mut at) = (Vec::new(), Vec::new());
    pack_coarse(&[i8::MIN, i8::MAX, -8, 8], &mut beyond);
    pack_coarse(&[-7, 7, -7, 7], &mut at);
    assert_eq!(beyond, at);
}

#[test]
fn what_does_not_fit_is_refused() {
    let query = [1.0; 65];
    let many = [query.as_slice(); CODE_QUERIES_MAX + 1];
    assert_eq!(CoarseQueries::new(&many), Err(KernelError::Queries { given: 5, most: 4 }));
    assert_eq!(CoarseQueries::new(&[]), Err(KernelError::Queries { given: 0, most: 4 }));
    assert_eq!(CoarseQueries::new(&[&query, &[1.0]]), Err(KernelError::Widths { left: 65, right: 1 }));
    let queries = CoarseQueries::new(&[&query, &query]).unwrap();
    assert_eq!(coarse_row_bytes(65), 64);
    for (bytes, places) in [(64, 1), (63, 2), (33, 2), (128, 2), (64, 4), (0, 2)] {
        let mut sums = vec![9; places];
        for kernels in Kernels::available() {
            let result = kernels.coarse_dots(&queries, &vec![0; bytes], &mut sums);
            assert!(matches!(result, Err(KernelError::CodeBytes { width: 65, .. })), "{bytes} {places}");
            assert!(sums.iter().all(|sum| *sum == 9));
        }
    }
    assert_eq!(Kernels::best().coarse_dots(&queries, &[], &mut []), Ok(()));
    let zero = CoarseQueries::new(&[&[0.0; 65]]).unwrap();
    let mut sums = [1];
    Kernels::best().coarse_dots(&zero, &[0x5A; 64], &mut sums).unwrap();
    assert_eq!((sums, zero.queries()[0].scale), ([0], 0.0));
}

#[test]
fn scores_have_the_same_bits_on_every_back_end_and_what_is_unknown_is_infinitely_off() {
    let mut stream = RandomStream::new(43);
    for count in (0..40).chain([1024]) {
        let mut numbers =
            || -> Vec<[u8; 4]> { (0..count).map(|_| ((stream.unit() * 3.0) as f32).to_le_bytes()).collect() };
        let (mut scales, norms, errors) = (numbers(), numbers(), numbers());
        if let Some(first) = scales.first_mut() {
            *first = f32::NAN.to_le_bytes();
        }
        let sums: Vec<i32> = (0..count).map(|_| stream.below(200_000) as i32 - 100_000).collect();
        let margins = [0.3, 0.01, 1.1, 1e-6];
        let score = CoarseScore { base: 0.7, step: 3e-4, dithered: 0.2 };
        let terms = CoarseTerms { score, margins, lost: 1e-7 };
        for kernels in Kernels::available() {
            let (mut scores, mut off) = (vec![9.0; count], vec![9.0; count]);
            kernels.coarse_scores(&terms, &sums, [&scales, &norms, &errors], &mut scores, &mut off).unwrap();
            for row in 1..count {
                let [scale, norm, error] =
                    [&scales, &norms, &errors].map(|numbers| f64::from(f32::from_le_bytes(numbers[row])));
                let score = 0.7 + scale * (f64::from(sums[row]) * 3e-4 - 0.2);
                let margin = 0.3 * scale + 0.01 * norm + 1.1 * error + (1e-7 + 1e-6 * score.abs());
                assert_eq!((scores[row], off[row]), (score, margin), "{kernels:?} row {row} of {count}");
            }
            assert!(off.first().is_none_or(|off| *off == f64::INFINITY));
            assert!(scores.first().is_none_or(|score| *score == 0.0));
            let mut short = vec![9.0; count + 1];
            let refused =
                kernels.coarse_scores(&terms, &sums, [&scales, &norms, &errors], &mut short, &mut off);
            assert_eq!(refused, Err(KernelError::Places { named: count, places: count + 1 }));
            assert!(short.iter().all(|score| *score == 9.0));
        }
    }
}

#[test]
fn scores_of_named_rows_are_those_of_their_sums_on_every_back_end() {
    let mut stream = RandomStream::new(44);
    for width in [1, 63, 64, 65, 384, 513] {
        let query: Vec<f32> = (0..width).map(|_| (stream.unit() * 4.0 - 2.0) as f32).collect();
        let queries = CoarseQueries::new(&[&query]).unwrap();
        let mut packed = Vec::new();
        for _ in 0..50 {
            let row: Vec<i8> = (0..width).map(|_| stream.below(15) as i8 - COARSE_CODE_MAX).collect();
            pack_coarse(&row, &mut packed);
        }
        let scales: Vec<[u8; 4]> = (0..50).map(|_| ((stream.unit() * 3.0) as f32).to_le_bytes()).collect();
        let mut sums = vec![0; 50];
        Kernels::by_name("scalar").unwrap().coarse_dots(&queries, &packed, &mut sums).unwrap();
        let score = CoarseScore { base: -0.3, step: queries.queries()[0].scale, dithered: 0.1 };
        for kernels in Kernels::available() {
            for count in [0, 1, 2, 3, 4, 33] {
                let named: Vec<u32> = (0..count).map(|_| stream.below(50) as u32).collect();
                let mut scores = vec![f32::NAN; count];
                kernels.coarse_scores_at(&queries, -score, (&packed, &scales), &named, &mut scores).unwrap();
                let expected = named.iter().map(|&row| {
                    let scale = f64::from(f32::from_le_bytes(scales[row as usize]));
                    -(-0.3 + scale * (f64::from(sums[row as usize]) * score.step - 0.1)) as f32
                });
                assert_eq!(scores, expected.collect::<Vec<_>>(), "{kernels:?}, width {width}");
            }
        }
    }
}

#[test]
fn named_rows_that_are_not_there_are_told() {
    let queries = CoarseQueries::new(&[&[1.0; 65]]).unwrap();
    let (score, scales) = (CoarseScore::default(), [[0; 4]; 4]);
    for kernels in Kernels::available() {
        for (row, there) in [(3, 4), (1 << 20, 4), (u32::MAX, 4), (2, 2)] {
            let rows = (&[0x88; 3 * 64][..], &scales[..there]);
            let result = kernels.coarse_scores_at(&queries, score, rows, &[1, row, 0], &mut [0.0; 3]);
            assert_eq!(result, Err(KernelError::CodeRow { row, rows: there.min(3) }));
        }
        let rows = (&[0x88; 3 * 64][..], &scales[..]);
        let result = kernels.coarse_scores_at(&queries, score, rows, &[2, 1], &mut [0.0; 3]);
        assert_eq!(result, Err(KernelError::Places { named: 2, places: 3 }));
        let two = CoarseQueries::new(&[&[1.0; 65], &[1.0; 65]]).unwrap();
        let result = kernels.coarse_scores_at(&two, score, rows, &[0], &mut [0.0]);
        assert_eq!(result, Err(KernelError::Queries { given: 2, most: 1 }));
    }
}
