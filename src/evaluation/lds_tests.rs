//! The score on simulated truths: known values, intervals, determinism.

use super::*;
use crate::stats::spearman_correlation;

/// About normal, mean 0, variance 1.
fn noise(stream: &mut RandomStream) -> f64 {
    (0..12).map(|_| stream.unit()).sum::<f64>() - 6.0
}

/// A truth of one seed whose queries have signals of their own, and group scores: signal plus noise of each of `variances`.
fn simulated(
    queries: usize,
    subsets: usize,
    variances: &[f64],
    seed: u64,
) -> (RetrainingTruth, Vec<Vec<f64>>) {
    let mut stream = RandomStream::new(seed);
    let mut outputs = vec![0.0; subsets * queries];
    let mut methods = vec![vec![0.0; queries * subsets]; variances.len()];
    for subset in 0..subsets {
        for query in 0..queries {
            let signal = noise(&mut stream);
            outputs[subset * queries + query] = signal;
            for (method, variance) in methods.iter_mut().zip(variances) {
                method[query * subsets + subset] = signal + variance.sqrt() * noise(&mut stream);
            }
        }
    }
    (RetrainingTruth::new(outputs, subsets, 1, queries).unwrap(), methods)
}

fn score(
    truth: &RetrainingTruth,
    methods: &[Vec<f64>],
    resamples: usize,
    seed: u64,
) -> Result<LdsReport, LdsError> {
    let methods: Vec<&[f64]> = methods.iter().map(Vec::as_slice).collect();
    linear_datamodelling_score(truth, &methods, LdsOptions { resamples, seed, ..LdsOptions::default() })
}

#[test]
fn the_mean_is_that_of_the_correlations() {
    let (truth, methods) = simulated(7, 30, &[0.5, 4.0], 3);
    let report = score(&truth, &methods, 50, 0).unwrap();
    assert_eq!(report.queries, (0..7).collect::<Vec<_>>());
    for (method, found) in methods.iter().zip(&report.methods) {
        let expected: Vec<f64> = (0..7)
            .map(|query| {
                let scores = &method[query * 30..][..30];
                spearman_correlation(scores, truth.query(query)).unwrap().unwrap()
            })
            .collect();
        for (found, expected) in found.correlations.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert!((found.lds.mean - expected.iter().sum::<f64>() / 7.0).abs() < 1e-12);
        assert!(found.lds.low < found.lds.mean && found.lds.mean < found.lds.high, "{:?}", found.lds);
    }
    assert_eq!(report.ceiling, None);
}

/// The resamples of the fast way, made again by spelling out what is drawn and sorting it.
#[test]
fn resamples_are_those_of_sorting_each_anew() {
    let (truth, mut methods) = simulated(5, 9, &[1.0, 2.0], 8);
    // Equal scores, of which a resample may draw no others.
    methods[1][9..18].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let orders = Orders::new(&truth, &[&methods[0], &methods[1]]).unwrap();
    let fast = orders.resample(200, 6).unwrap();
    let mut stream = RandomStream::new(6);
    let (mut subset_counts, mut query_counts) = (vec![0; 9], vec![0; 5]);
    let (mut undefined, mut expected) = (0, Vec::new());
    for _ in 0..200 {
        draw(&mut subset_counts, &mut stream);
        draw(&mut query_counts, &mut stream);
        let spell = |values: &[f64]| -> Vec<f64> {
            let drawn = values.iter().zip(&subset_counts);
            drawn.flat_map(|(&value, &count)| std::iter::repeat_n(value, count as usize)).collect()
        };
        let (mut sums, mut defined) = ([0.0; 2], 0.0);
        for query in 0..5 {
            let found = [0, 1].map(|method: usize| {
                let scores = &methods[method][query * 9..][..9];
                spearman_correlation(&spell(scores), &spell(truth.query(query))).unwrap()
            });
            let ([Some(first), Some(second)], count) = (found, f64::from(query_counts[query])) else {
                undefined += query_counts[query];
                continue;
            };
            sums = [sums[0] + count * first, sums[1] + count * second];
            defined += count;
        }
        if defined > 0.0 {
            expected.push(sums.map(|sum| sum / defined));
        }
    }
    assert_eq!((fast[0].len(), fast[1].len()), (expected.len(), expected.len()));
    for (resample, expected) in expected.iter().enumerate() {
        for method in [0, 1] {
            assert!((fast[method][resample] - expected[method]).abs() < 1e-12, "{resample}");
        }
    }
    // One resample draws no query but the second, which is not defined on it.
    assert_eq!(expected.len(), 199);
    assert!(undefined > 20, "{undefined}");
}

/// The score that is to be expected of noise of variance v on a signal of variance 1, over so many subsets: two normal
/// variables with correlation r = 1 / sqrt(1 + v) have
/// 6 / (pi (subsets + 1)) (asin r + (subsets - 2) asin(r / 2)).
/// Moran: Rank correlation and product-moment correlation, Biometrika 35 (1948).
fn expected(variance: f64, subsets: f64) -> f64 {
    let r = 1.0 / (1.0 + variance).sqrt();
    6.0 / (std::f64::consts::PI * (subsets + 1.0)) * (r.asin() + (subsets - 2.0) * (r / 2.0).asin())
}

#[test]
fn intervals_cover_the_score_that_is_to_be_expected() {
    let (mut strong, mut weak, mut difference) = (0, 0, 0);
    for seed in 0..100 {
        let (truth, methods) = simulated(15, 40, &[0.05, 8.0], 1000 + seed);
        let report = score(&truth, &methods, 300, seed).unwrap();
        let covers = |of: Interval, value: f64| usize::from(of.low <= value && value <= of.high);
        strong += covers(report.methods[0].lds, expected(0.05, 40.0));
        weak += covers(report.methods[1].lds, expected(8.0, 40.0));
        difference += covers(report.differences[0].difference, expected(0.05, 40.0) - expected(8.0, 40.0));
        assert!(report.differences[0].excludes_zero() && report.methods[0].lds.high <= 1.0, "{report:?}");
    }
    // Resampling two ways at once promises the level at least.
    assert!(strong >= 90 && weak >= 90 && difference >= 90, "{strong}, {weak}, {difference}");
}

/// Of many queries and few subsets, draws lie close together and well below the score: unmoved, their interval would not
/// reach it.
#[test]
fn the_score_lies_in_the_middle_of_its_draws() {
    let (truth, methods) = simulated(200, 25, &[0.1], 31);
    let lds = score(&truth, &methods, 200, 0).unwrap().methods[0].lds;
    assert!((f64::midpoint(lds.low, lds.high) - lds.mean).abs() < 0.15 * (lds.high - lds.low), "{lds:?}");
    assert!(lds.high - lds.low < 0.04, "{lds:?}");
}

/// What queries have in common lies in the subsets: without resampling these too, the intervals would be points.
#[test]
fn queries_that_are_all_alike_narrow_no_interval() {
    let mut covered = 0;
    for seed in 0..60 {
        let (one, method) = simulated(1, 40, &[1.0], 5000 + seed);
        let outputs = one.query(0).iter().flat_map(|&output| [output; 15]).collect();
        let truth = RetrainingTruth::new(outputs, 40, 1, 15).unwrap();
        let lds = score(&truth, &[method[0].repeat(15)], 300, seed).unwrap().methods[0].lds;
        covered += usize::from(lds.low <= expected(1.0, 40.0) && expected(1.0, 40.0) <= lds.high);
        assert!(lds.high - lds.low > 0.1, "{lds:?}");
    }
    assert!((50..60).contains(&covered), "{covered} of 60");
}

#[test]
fn rising_maps_and_the_order_of_methods_change_nothing() {
    let (truth, methods) = simulated(6, 25, &[1.0, 1.5], 4);
    let report = score(&truth, &methods, 100, 2).unwrap();
    let mapped: Vec<Vec<f64>> =
        methods.iter().map(|method| method.iter().map(|value| value.exp() - 7.0).collect()).collect();
    assert_eq!(score(&truth, &mapped, 100, 2).unwrap(), report);
    let swapped = score(&truth, &[methods[1].clone(), methods[0].clone()], 100, 2).unwrap();
    assert_eq!(swapped.methods[0], report.methods[1]);
    let (there, back) = (report.differences[0].difference, swapped.differences[0].difference);
    assert_eq!((there.mean, there.low, there.high), (-back.mean, -back.high, -back.low));
    let negated: Vec<f64> = methods[0].iter().map(|value| -value).collect();
    let opposite = score(&truth, &[negated], 100, 2).unwrap().methods[0].lds;
    assert!((opposite.mean + report.methods[0].lds.mean).abs() < 1e-12);
}

#[test]
fn one_seed_gives_one_report_and_another_another() {
    let (truth, methods) = simulated(6, 25, &[1.0, 1.5, 2.0], 4);
    let report = score(&truth, &methods, 100, 2).unwrap();
    assert_eq!(score(&truth, &methods, 100, 2).unwrap(), report);
    let other = score(&truth, &methods, 100, 3).unwrap();
    assert_eq!(other.methods[0].correlations, report.methods[0].correlations);
    assert_ne!(other.methods[0].lds, report.methods[0].lds);
    let pairs: Vec<(usize, usize)> =
        report.differences.iter().map(|pair| (pair.method, pair.other)).collect();
    assert_eq!(pairs, [(0, 1), (0, 2), (1, 2)]);
}

/// A method against itself differs by nothing, on each resample: the resamples are the same.
#[test]
fn differences_are_paired() {
    let (truth, methods) = simulated(6, 25, &[1.0], 4);
    let report = score(&truth, &[methods[0].clone(), methods[0].clone()], 100, 2).unwrap();
    assert_eq!(report.differences[0].difference, Interval { mean: 0.0, low: 0.0, high: 0.0 });
    assert!(!report.differences[0].excludes_zero());
}

#[test]
fn constant_queries_are_left_out_and_counted() {
    // [4 subsets x 1 seed x 4 queries]: query 1 has constant outputs.
    let outputs: Vec<f64> =
        (0..4).flat_map(|subset| [f64::from(subset), 5.0, -f64::from(subset), f64::from(subset)]).collect();
    let truth = RetrainingTruth::new(outputs, 4, 1, 4).unwrap();
    let rising = [1.0, 2.0, 3.0, 4.0];
    let first = [rising, [7.0; 4], rising, rising].concat();
    let second = [rising, rising, rising, [7.0; 4]].concat();
    let report = score(&truth, &[first, second], 50, 0).unwrap();
    assert_eq!(report.queries, [0, 2]);
    assert_eq!(report.constant_outputs, 1);
    assert_eq!((report.methods[0].constant_scores, report.methods[1].constant_scores), (0, 1));
    assert_eq!(report.methods[0].correlations, [1.0, -1.0]);
    assert_eq!(report.methods[0].lds.mean, 0.0);
}

/// The ceiling is that of the queries that count: the third one, without noise, does not.
#[test]
fn the_ceiling_is_the_mean_over_queries_that_count() {
    // [3 subsets x 2 seeds x 3 queries]
    let outputs = vec![
        1.0, 1.0, 1.0, 1.0, 1.0, 1.0, //
        2.0, 2.0, 2.0, 3.0, 2.0, 2.0, //
        3.0, 3.0, 3.0, 2.0, 3.0, 3.0,
    ];
    let truth = RetrainingTruth::new(outputs, 3, 2, 3).unwrap();
    let method = vec![1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0];
    let report = score(&truth, &[method], 50, 0).unwrap();
    let expected = f64::midpoint((2.0_f64 / 3.0).sqrt(), 1.0);
    assert!((report.ceiling.unwrap() - expected).abs() < 1e-12, "{:?}", report.ceiling);
}

#[test]
fn bad_input_is_refused() {
    let (truth, methods) = simulated(2, 3, &[1.0], 4);
    assert_eq!(score(&truth, &[], 10, 0), Err(LdsError::NoMethods));
    let shape = LdsError::Shape { method: 1, values: 5, queries: 2, subsets: 3 };
    assert_eq!(score(&truth, &[methods[0].clone(), vec![0.0; 5]], 10, 0), Err(shape));
    let mut infinite = methods[0].clone();
    infinite[4] = f64::NEG_INFINITY;
    let expected = LdsError::NotFinite { method: 0, query: 1, subset: 1, value: f64::NEG_INFINITY };
    assert_eq!(score(&truth, &[infinite], 10, 0), Err(expected));
    assert!(matches!(score(&truth, &methods, 0, 0), Err(LdsError::Options { resamples: 0, .. })));
    for level in [0.0, 1.0, f64::NAN] {
        let options = LdsOptions { level, ..LdsOptions::default() };
        let found = linear_datamodelling_score(&truth, &[&methods[0]], options);
        assert!(matches!(found, Err(LdsError::Options { .. })), "{level}");
    }
    assert_eq!(score(&truth, &[vec![2.0; 6]], 10, 0), Err(LdsError::NoQueries { queries: 2 }));
    let one = RetrainingTruth::new(vec![1.0, 2.0], 1, 1, 2).unwrap();
    assert_eq!(score(&one, &[vec![1.0, 2.0]], 10, 0), Err(LdsError::NoQueries { queries: 2 }));
    // Of two subsets, half of the resamples are of one alone: some seed draws none but these.
    let two = RetrainingTruth::new(vec![1.0, 2.0], 2, 1, 1).unwrap();
    let found: Vec<_> = (0..16).map(|seed| score(&two, &[vec![1.0, 2.0]], 1, seed)).collect();
    assert!(found.contains(&Err(LdsError::NoResamples { resamples: 1, subsets: 2 })));
    assert!(found.iter().any(Result::is_ok));
}
