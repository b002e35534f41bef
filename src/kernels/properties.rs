//! One suite, stamped on every back-end: each must give the bits of a naive sum written straight from the specification,
//! over values decoded bit by bit.

use proptest::prelude::*;

use super::{KernelError, Kernels};
use crate::base::{ElementType, RandomStream};

/// The value of a stored pattern, from the definition of its format, without any conversion instruction.
fn value_of(element: ElementType, bytes: &[u8]) -> f64 {
    let bits = bytes.iter().rev().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
    match element {
        ElementType::F32 => binary_float(bits, 8, 23),
        ElementType::F16 => binary_float(bits, 5, 10),
        ElementType::BF16 => binary_float(bits, 8, 7),
        ElementType::I8 => f64::from(bits) - if bits > 127 { 256.0 } else { 0.0 },
    }
}

fn binary_float(bits: u32, exponent_bits: i32, fraction_bits: i32) -> f64 {
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1));
    let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let unit = 2.0_f64.powi(1 - bias - fraction_bits);
    let magnitude = match exponent {
        0 => fraction * unit,
        _ => (fraction + 2.0_f64.powi(fraction_bits)) * unit * 2.0_f64.powi(exponent - 1),
    };
    if bits >> (exponent_bits + fraction_bits) == 1 { -magnitude } else { magnitude }
}

/// Steps 1 and 2 of the specification, word for word.
fn naive_sum(products: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0.0; 16];
    for (index, product) in products.enumerate() {
        sums[index % 16] += product;
    }
    for half in [8, 4, 2, 1] {
        for index in 0..half {
            sums[index] += sums[index + half];
        }
    }
    sums[0]
}

fn naive_dot(element: ElementType, query: &[f32], row: &[u8]) -> f64 {
    let values = row.chunks(element.size_bytes()).map(|bytes| value_of(element, bytes));
    naive_sum(query.iter().zip(values).map(|(&factor, value)| f64::from(factor) * value))
}

fn naive_squared_norm(element: ElementType, row: &[u8]) -> f64 {
    naive_sum(
        row.chunks(element.size_bytes()).map(|bytes| value_of(element, bytes)).map(|value| value * value),
    )
}

fn is_finite_pattern(element: ElementType, bits: u32) -> bool {
    match element {
        ElementType::F32 => bits & 0x7F80_0000 != 0x7F80_0000,
        ElementType::F16 => bits & 0x7C00 != 0x7C00,
        ElementType::BF16 => bits & 0x7F80 != 0x7F80,
        ElementType::I8 => true,
    }
}

/// A finite pattern: of any bits or on a border (zeros, smallest), or, `near_one`, of a magnitude between 2^-8 and 2^8:
/// sums of such values round at nearly every step, so that a change of order shows.
fn finite_pattern(element: ElementType, near_one: bool, stream: &mut RandomStream) -> u32 {
    let bits = 8 * element.size_bytes() as u32;
    let (sign, mask) = (1_u32 << (bits - 1), u32::MAX >> (32 - bits));
    let (bias, fraction_bits) = match element {
        ElementType::F32 => (127, 23),
        ElementType::F16 => (15, 10),
        ElementType::BF16 => (127, 7),
        ElementType::I8 => return stream.next_u64() as u32 & mask,
    };
    loop {
        let choice = stream.below(8);
        let random = stream.next_u64() as u32 & mask;
        let pattern = match choice {
            _ if near_one => {
                let exponent = bias - 8 + stream.below(17) as u32;
                (random & (sign | ((1 << fraction_bits) - 1))) | (exponent << fraction_bits)
            }
            0 => random & sign,
            1 => random & sign | 1,
            _ => random,
        };
        if is_finite_pattern(element, pattern) {
            return pattern;
        }
    }
}

struct Case {
    query: Vec<f32>,
    /// `offset` bytes, then the rows: the rows begin at an address of any alignment.
    bytes: Vec<u8>,
    offset: usize,
    rows: usize,
}

fn random_case(element: ElementType, width: usize, rows: usize, offset: usize, seed: u64) -> Case {
    let mut stream = RandomStream::new(seed);
    let near_one = stream.below(2) == 0;
    let query =
        (0..width).map(|_| f32::from_bits(finite_pattern(ElementType::F32, near_one, &mut stream))).collect();
    let mut bytes = vec![0xFF; offset];
    for _ in 0..width * rows {
        let pattern = finite_pattern(element, near_one, &mut stream).to_le_bytes();
        bytes.extend_from_slice(&pattern[..element.size_bytes()]);
    }
    Case { query, bytes, offset, rows }
}

fn check_case(kernels: Kernels, element: ElementType, case: &Case) {
    let row_bytes = case.query.len() * element.size_bytes();
    let rows = &case.bytes[case.offset..];
    let mut dots = vec![f64::NAN; case.rows];
    kernels.dots(element, &case.query, rows, &mut dots).unwrap();
    let mut norms = vec![f64::NAN; case.rows];
    kernels.squared_norms(element, case.query.len(), rows, &mut norms).unwrap();
    for (index, row) in rows.chunks(row_bytes).enumerate() {
        let expected = naive_dot(element, &case.query, row);
        assert_eq!(
            dots[index].to_bits(),
            expected.to_bits(),
            "dot of row {index}: {} {expected}",
            dots[index]
        );
        let expected = naive_squared_norm(element, row);
        assert_eq!(
            norms[index].to_bits(),
            expected.to_bits(),
            "norm of row {index}: {} {expected}",
            norms[index]
        );
    }
}

/// Every finite pattern of a 16- or 8-bit type, in every lane of a whole block, and alone in an incomplete one.
fn check_all_patterns(kernels: Kernels, element: ElementType) {
    let patterns: Vec<u32> =
        (0..1_u32 << (8 * element.size_bytes())).filter(|&bits| is_finite_pattern(element, bits)).collect();
    let stored = |bits: u32| bits.to_le_bytes()[..element.size_bytes()].to_vec();
    let values: Vec<f64> = patterns.iter().map(|&bits| value_of(element, &stored(bits))).collect();
    let narrow: Vec<u8> = patterns.iter().flat_map(|&bits| stored(bits)).collect();
    let mut out = vec![f64::NAN; patterns.len()];
    kernels.dots(element, &[1.0], &narrow, &mut out).unwrap();
    assert_eq!(out, values);
    kernels.squared_norms(element, 1, &narrow, &mut out).unwrap();
    assert!(out.iter().zip(&values).all(|(norm, value)| *norm == value * value));
    for lane in 0..16 {
        let mut query = [0.0; 16];
        query[lane] = 1.0;
        let mut rows = Vec::with_capacity(narrow.len() * 16);
        for &bits in &patterns {
            // The other lanes hold another finite value, so that a lane read from the wrong place shows.
            for place in 0..16 {
                rows.extend(stored(if place == lane { bits } else { 1 + place as u32 }));
            }
        }
        kernels.dots(element, &query, &rows, &mut out).unwrap();
        assert_eq!(out, values, "lane {lane}");
    }
}

fn check_not_finite(kernels: Kernels) {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 15, 16, 18] {
            let mut row = [1.0_f32; 19];
            row[place] = bad;
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut out = [0.0];
            kernels.dots(ElementType::F32, &[1.0; 19], &bytes, &mut out).unwrap();
            assert!(!out[0].is_finite(), "{bad} at {place} gave {}", out[0]);
        }
    }
}

fn check_lengths(kernels: Kernels) {
    let mut out = [7.0; 2];
    let error = kernels.dots(ElementType::F16, &[1.0; 3], &[0; 11], &mut out);
    let expected = KernelError::RowBytes { element: ElementType::F16, width: 3, rows: 2, given: 11 };
    assert_eq!(error, Err(expected));
    assert!(kernels.dots(ElementType::F32, &[1.0; 3], &[0; 12], &mut out).is_err());
    assert!(kernels.squared_norms(ElementType::I8, 3, &[0; 7], &mut out).is_err());
    assert!(kernels.squared_norms(ElementType::F32, usize::MAX, &[], &mut out).is_err());
    assert!(kernels.squared_norms(ElementType::F32, usize::MAX, &[], &mut []).is_err());
    assert_eq!(out, [7.0; 2], "a refused call changes nothing");
    assert_eq!(kernels.dots(ElementType::F32, &[1.0; 3], &[], &mut []), Ok(()));
    assert_eq!(kernels.dots(ElementType::F32, &[], &[], &mut out), Ok(()));
    assert_eq!(out, [0.0; 2], "rows of no values have dot product 0");
}

macro_rules! stamp {
    ($backend:ident) => {
        mod $backend {
            use super::*;

            /// The back-end, or `None` (and a line in the test's output) where the processor lacks it.
            fn kernels() -> Option<Kernels> {
                let kernels = Kernels::by_name(stringify!($backend));
                let ran =
                    if kernels.is_some() { "runs" } else { "is not on this machine, nothing is tested" };
                println!("back-end {} {ran}", stringify!($backend));
                kernels
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(512))]
                #[test]
                fn random_rows_give_the_bits_of_the_naive_sum(
                    code in 0..ElementType::ALL.len(),
                    width in prop_oneof![9 => 1..100_usize, 1 => Just(384_usize)],
                    rows in 0..11_usize,
                    offset in 0..65_usize,
                    seed in any::<u64>(),
                ) {
                    if let Some(kernels) = Kernels::by_name(stringify!($backend)) {
                        let element = ElementType::ALL[code];
                        check_case(kernels, element, &random_case(element, width, rows, offset, seed));
                    }
                }
            }

            #[test]
            fn every_width_gives_the_bits_of_the_naive_sum() {
                let Some(kernels) = kernels() else { return };
                for element in ElementType::ALL {
                    for width in (1..100).chain([384, 1000]) {
                        check_case(
                            kernels,
                            element,
                            &random_case(element, width, 7, width % 5, width as u64),
                        );
                    }
                }
            }

            #[test]
            fn every_f16_pattern_in_every_lane() {
                kernels().into_iter().for_each(|kernels| check_all_patterns(kernels, ElementType::F16));
            }

            #[test]
            fn every_bf16_pattern_in_every_lane() {
                kernels().into_iter().for_each(|kernels| check_all_patterns(kernels, ElementType::BF16));
            }

            #[test]
            fn every_int8_code_in_every_lane() {
                kernels().into_iter().for_each(|kernels| check_all_patterns(kernels, ElementType::I8));
            }

            #[test]
            fn values_that_are_not_finite_show_in_the_sum() {
                kernels().into_iter().for_each(check_not_finite);
            }

            #[test]
            fn wrong_lengths_are_refused() {
                kernels().into_iter().for_each(check_lengths);
            }
        }
    };
}

stamp!(scalar);
stamp!(avx2);
stamp!(avx512);

#[test]
fn back_ends_are_found_by_their_names() {
    let names: Vec<_> = Kernels::available().iter().map(|kernels| kernels.name()).collect();
    println!("back-ends on this machine: {names:?}");
    assert_eq!(names[0], "scalar");
    assert_eq!(Kernels::best().name(), names[names.len() - 1]);
    for name in names {
        assert_eq!(Kernels::by_name(name).map(Kernels::name), Some(name));
    }
}

#[test]
fn a_dot_product_of_two_vectors_is_that_of_a_stored_row() {
    let case = random_case(ElementType::F32, 77, 1, 0, 9);
    let mut other = vec![0.0; 77];
    super::decode(ElementType::F32, &case.bytes, &mut other).unwrap();
    let expected = naive_dot(ElementType::F32, &case.query, &case.bytes);
    for kernels in Kernels::available() {
        assert_eq!(kernels.dot(&case.query, &other).unwrap().to_bits(), expected.to_bits());
    }
    assert_eq!(Kernels::best().dot(&[1.0], &[]), Err(KernelError::Widths { left: 1, right: 0 }));
}
