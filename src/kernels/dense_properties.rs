//! Products and functions against their specification, on every back-end of this machine.

use super::{BilinearPart, KernelError, Kernels, Panels, StridedOutput, StridedRows};
use crate::base::RandomStream;

const SEED: u64 = 20;

fn values(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(SEED, |seed, byte| seed * 31 + u64::from(byte));
    let mut random = RandomStream::new(seed);
    (0..count).map(|_| (random.unit() * 4.0 - 2.0) as f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Row times column by the words of the specification.
fn chain(row: &[f32], column: impl Iterator<Item = f32>, bias: Option<f32>) -> f32 {
    let sum = row.iter().zip(column).fold(0.0, |sum, (left, right)| left.mul_add(right, sum));
    bias.map_or(sum, |bias| sum + bias)
}

#[test]
fn every_back_end_gives_the_chain_of_fused_multiply_adds() {
    let shapes = [(1, 1, 1), (2, 3, 16), (5, 32, 17), (7, 256, 31), (13, 257, 48), (25, 600, 5), (12, 0, 3)];
    for (count, depth, columns) in shapes {
        let (row_stride, out_stride) = (depth + 3, columns + 2);
        let left = values("left", count * row_stride);
        let weights = values("weights", columns * depth);
        let bias = values("bias", columns);
        let panels = Panels::of_weights(&weights, columns, depth);
        for bias in [None, Some(bias.as_slice())] {
            for kernels in Kernels::available() {
                let mut out = vec![7.5; count * out_stride];
                let rows = StridedRows { values: &left, stride: row_stride, count };
                let output = StridedOutput { values: &mut out, stride: out_stride };
                kernels.product(rows, &panels, bias, output).unwrap();
                for (row, out) in out.chunks(out_stride).enumerate() {
                    let left = &left[row * row_stride..][..depth];
                    for column in 0..columns {
                        let weights = weights[column * depth..][..depth].iter().copied();
                        let expected = chain(left, weights, bias.map(|bias| bias[column]));
                        let at =
                            format!("{kernels:?}, row {row}, column {column} of {count}x{depth}x{columns}");
                        assert_eq!(out[column].to_bits(), expected.to_bits(), "{at}");
                    }
                    assert_eq!(out[columns..], [7.5; 2], "between the rows");
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_others() {
    let (count, depth, columns) = (29, 300, 40);
    let left = values("left", count * depth);
    let panels = Panels::of_weights(&values("weights", columns * depth), columns, depth);
    for kernels in Kernels::available() {
        let mut together = vec![0.0; count * columns];
        let rows = StridedRows { values: &left, stride: depth, count };
        let out = StridedOutput { values: &mut together, stride: columns };
        kernels.product(rows, &panels, None, out).unwrap();
        for (row, expected) in left.chunks(depth).zip(together.chunks(columns)) {
            let mut alone = vec![0.0; columns];
            let rows = StridedRows { values: row, stride: depth, count: 1 };
            let out = StridedOutput { values: &mut alone, stride: columns };
            kernels.product(rows, &panels, None, out).unwrap();
            assert_eq!(bits(&alone), bits(expected));
        }
    }
}

/// A quarter and u^T W v of one row for some matrices by the words of the specification; `groups` are the numbers of panels that have sums of
/// their own, one after the other.
fn form(row: &[f32], parts: &[(&[f32], [usize; 4])], groups: &[usize]) -> f64 {
    let mut panels = parts.iter().flat_map(|(weights, [columns, depth, left, right])| {
        let v = &row[*right..][..*depth];
        (0..*columns).step_by(16).map(move |first| {
            let own = (first..(first + 16).min(*columns)).map(move |j| {
                (row[left + j], chain(&weights[j * depth..][..*depth], v.iter().copied(), None))
            });
            own.collect::<Vec<_>>()
        })
    });
    let mut total = 0.25;
    for group in groups {
        let mut sums = [0.0_f32; 16];
        for panel in panels.by_ref().take(*group) {
            for (lane, (u, through)) in panel.into_iter().enumerate() {
                sums[lane] = through.mul_add(u, sums[lane]);
            }
        }
        for half in [8, 4, 2, 1] {
            (0..half).for_each(|lane| sums[lane] += sums[lane + half]);
        }
        total += f64::from(sums[0]);
    }
    assert_eq!(panels.count(), 0, "the groups hold all panels");
    total
}

#[test]
fn every_back_end_gives_the_same_forms() {
    // Columns, depth, where u and v begin; and how panels are grouped.
    let shapes: [(&[[usize; 4]], &[usize]); 5] = [
        (&[[1, 1, 0, 1]], &[1]),
        (&[[100, 101, 0, 100], [10, 101, 201, 211]], &[8]),
        (&[[17, 5, 3, 20], [17, 5, 30, 20]], &[4]),
        (&[[40, 5000, 5000, 0], [16, 3, 0, 9]], &[1, 1, 2]),
        (&[], &[]),
    ];
    for (shapes, groups) in shapes {
        let weights: Vec<Vec<f32>> =
            shapes.iter().map(|[columns, depth, ..]| values("w", columns * depth)).collect();
        let panels: Vec<Panels> = weights
            .iter()
            .zip(shapes)
            .map(|(weights, [columns, depth, ..])| Panels::of_weights(weights, *columns, *depth))
            .collect();
        let parts: Vec<BilinearPart<'_>> = panels
            .iter()
            .zip(shapes)
            .map(|(matrix, [.., left, right])| BilinearPart { matrix, left: *left, right: *right })
            .collect();
        let spoken: Vec<(&[f32], [usize; 4])> =
            weights.iter().map(Vec::as_slice).zip(shapes.iter().copied()).collect();
        let ends = shapes.iter().map(|[columns, depth, left, right]| (left + columns).max(right + depth));
        let stride = ends.max().unwrap_or(0) + 2;
        for count in [1, 11, 12, 13, 29] {
            let rows = values("rows", count * stride);
            for kernels in Kernels::available() {
                let mut out = vec![0.25; count];
                let given = StridedRows { values: &rows[..count * stride - 2], stride, count };
                kernels.add_forms(given, &parts, &mut out).unwrap();
                for (row, found) in rows.chunks(stride).zip(out) {
                    let expected = form(row, &spoken, groups);
                    assert_eq!(found.to_bits(), expected.to_bits(), "{kernels:?} {shapes:?} {count}");
                }
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let panels = Panels::of_weights(&[1.0; 6], 2, 3);
    let kernels = Kernels::best();
    let product = |values: usize, bias: usize, out: usize| {
        let (values, bias, mut out) = (vec![1.0; values], vec![1.0; bias], vec![9.0; out]);
        let rows = StridedRows { values: &values, stride: 3, count: 2 };
        let output = StridedOutput { values: &mut out, stride: 2 };
        let result = kernels.product(rows, &panels, Some(&bias), output);
        assert!(result.is_ok() || out.iter().all(|value| *value == 9.0));
        result
    };
    assert_eq!(product(6, 2, 4), Ok(()));
    let error = |what, given, needed| Err(KernelError::Matrix { what, given, needed });
    assert_eq!(product(5, 2, 4), error("left factor", 5, 6));
    assert_eq!(product(6, 3, 4), error("bias", 3, 2));
    assert_eq!(product(6, 2, 3), error("product", 3, 4));
    let forms = |values: usize, left: usize, right: usize, count: usize| {
        let (values, mut out) = (vec![1.0; values], vec![9.0; count]);
        let rows = StridedRows { values: &values, stride: 5, count: 2 };
        let result = kernels.add_forms(rows, &[BilinearPart { matrix: &panels, left, right }], &mut out);
        assert!(result.is_ok() || out.iter().all(|value| *value == 9.0));
        result
    };
    assert_eq!(forms(10, 0, 2, 2), Ok(()));
    assert_eq!(forms(9, 0, 2, 2), error("rows of vectors", 9, 10));
    assert_eq!(forms(9, 3, 0, 2), error("rows of vectors", 9, 10));
    assert_eq!(forms(10, usize::MAX, 0, 2), error("rows of vectors", 10, usize::MAX));
    assert_eq!(forms(10, 0, 2, 1), error("forms", 1, 2));
    let norm = |values: usize, residual: usize, gain: usize, shift: usize| {
        let mut values = vec![1.0; values];
        kernels.layer_norm(&mut values, &vec![0.0; residual], &vec![1.0; gain], &vec![0.0; shift], 1e-12)
    };
    assert_eq!(norm(6, 6, 3, 3), Ok(()));
    assert_eq!(norm(7, 7, 3, 3), error("rows", 7, 6));
    assert_eq!(norm(6, 5, 3, 3), error("residual", 5, 6));
    assert_eq!(norm(6, 6, 3, 2), error("shift", 2, 3));
    assert_eq!(norm(0, 0, 0, 0), Ok(()));
    kernels.softmax(&mut [], 1.0);
    kernels.gelu(&mut []);
}

#[test]
fn both_forms_of_gelu_are_near_the_exact_ones_everywhere() {
    let inputs: Vec<f32> =
        (-80_000..=80_000).map(|step| step as f32 * 1e-4).chain([1e-30, -1e-30, 1e4, -1e4, 0.0]).collect();
    for kernels in Kernels::available() {
        let mut outputs = inputs.clone();
        kernels.gelu(&mut outputs);
        for (x, found) in inputs.iter().zip(&outputs) {
            let x = f64::from(*x);
            let exact = x * 0.5 * (1.0 + libm::erf(x / 2.0_f64.sqrt()));
            assert!(
                (f64::from(*found) - exact).abs() < 4e-7 * x.abs().max(1.0),
                "{x}: {found}, exact {exact}"
            );
        }
    }
}

#[test]
fn softmax_and_layer_norm_are_near_the_exact_ones() {
    for width in [1, 2, 15, 16, 17, 100, 384] {
        let row = values("row", width);
        for kernels in Kernels::available() {
            let mut out = row.clone();
            kernels.softmax(&mut out, 3.0);
            let powers: Vec<f64> = row.iter().map(|x| (3.0 * f64::from(*x)).exp()).collect();
            let sum: f64 = powers.iter().sum();
            for (found, power) in out.iter().zip(powers) {
                assert!((f64::from(*found) - power / sum).abs() < 1e-6 * (power / sum) + 1e-9);
            }

            let (gain, shift, residual) =
                (values("gain", width), values("shift", width), values("residual", width));
            let mut out = row.clone();
            kernels.layer_norm(&mut out, &residual, &gain, &shift, 1e-5).unwrap();
            let sums: Vec<f64> = row.iter().zip(&residual).map(|(x, y)| f64::from(*x + *y)).collect();
            let mean = sums.iter().sum::<f64>() / width as f64;
            let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            for (index, found) in out.iter().enumerate() {
                let normal = (sums[index] - mean) / (variance + 1e-5).sqrt();
                let exact = normal * f64::from(gain[index]) + f64::from(shift[index]);
                assert!((f64::from(*found) - exact).abs() < 2e-6 * exact.abs().max(1.0), "{found}, {exact}");
            }
        }
    }
}

#[test]
fn very_unlike_scores_give_a_softmax_of_ones_and_almost_zeros() {
    for kernels in Kernels::available() {
        let mut row = [1e4, -1e4, 0.0, f32::MIN];
        kernels.softmax(&mut row, 1.0);
        assert_eq!(row[0], 1.0);
        assert!(row[1..].iter().all(|share| *share < 1e-37), "{row:?}");
    }
}

#[test]
fn all_back_ends_give_the_same_bits() {
    for width in [1, 9, 16, 33, 200] {
        let mut seen: Vec<Vec<u32>> = Vec::new();
        for kernels in Kernels::available() {
            let mut out: Vec<f32> = values("bits", 5 * width).iter().map(|value| value * 9.0).collect();
            kernels.gelu(&mut out);
            kernels.gelu_tanh(&mut out);
            let (residual, gain) = (values("residual", 5 * width), values("gain", width));
            kernels.layer_norm(&mut out, &residual, &gain, &gain, 1e-12).unwrap();
            out.chunks_mut(width).for_each(|row| kernels.softmax(row, 0.3));
            seen.push(bits(&out));
        }
        assert!(seen.iter().all(|bits| *bits == seen[0]), "width {width}");
    }
}
