//! Values to bytes and back, int8 codes with a scale, the search for values that are not finite.

use half::{bf16, f16};
use thiserror::Error;

use crate::base::ElementType;

/// The largest int8 code. -128 is never written, so that a value and its opposite have opposite codes.
const CODE_MAX: f32 = 127.0;

/// Values looked at together by [`first_non_finite`]: enough for the compiler to use vector registers, few enough to
/// end soon after a hit.
const SEARCH_BLOCK_VALUES: usize = 256;

/// Values that cannot be stored, or bytes of the wrong length.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A NaN or an infinity.
    #[error("value {index} is {value}, not a finite number; correct it at its source")]
    NotFinite {
        /// Position of the first such value, from 0.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A finite value that the element type would round to infinity.
    #[error(
        "value {index} is {value}, out of range of {element}; scale the values down or store them as f32"
    )]
    OutOfRange {
        /// Position of the first such value, from 0.
        index: usize,
        /// The value.
        value: f32,
        /// The element type.
        element: ElementType,
    },
    /// int8 values need a scale a row.
    #[error("int8 codes need one scale a row; encode row by row with encode_int8")]
    NeedsScale,
    /// The bytes are not as many values as the output holds.
    #[error("{bytes} bytes are not {values} {element} values; check the column's width and row count")]
    Length {
        /// The element type.
        element: ElementType,
        /// Bytes given.
        bytes: usize,
        /// Values that the output holds.
        values: usize,
    },
}

impl ConvertError {
    /// Position of the value at fault, from 0, if one is.
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::NotFinite { index, .. } | Self::OutOfRange { index, .. } => Some(*index),
            Self::NeedsScale | Self::Length { .. } => None,
        }
    }

    /// What is wrong with that value, without its position.
    pub fn reason(&self) -> String {
        match self {
            Self::NotFinite { value, .. } => {
                format!("is {value}, not a finite number; correct it at its source")
            }
            Self::OutOfRange { value, element, .. } => {
                format!("is {value}, out of range of {element}; scale the values down or use an f32 column")
            }
            other => other.to_string(),
        }
    }
}

/// Position of the first NaN or infinity among the little-endian values of `bytes`, if any; int8 has neither.
/// Bytes after the last whole value are not looked at.
///
/// ```
/// use ascribe::base::ElementType;
/// let bytes: Vec<u8> = [0.0_f32, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
/// assert_eq!(ascribe::kernels::first_non_finite(ElementType::F32, &bytes), Some(1));
/// ```
pub fn first_non_finite(element: ElementType, bytes: &[u8]) -> Option<usize> {
    // A value is not finite exactly if all bits of its exponent are set.
    match element {
        ElementType::F32 => {
            first_where(bytes, |value| u32::from_le_bytes(value) & 0x7F80_0000 == 0x7F80_0000)
        }
        ElementType::F16 => first_where(bytes, |value| u16::from_le_bytes(value) & 0x7C00 == 0x7C00),
        ElementType::BF16 => first_where(bytes, |value| u16::from_le_bytes(value) & 0x7F80 == 0x7F80),
        ElementType::I8 => None,
    }
}

fn first_where<const SIZE: usize>(bytes: &[u8], is_bad: impl Fn([u8; SIZE]) -> bool) -> Option<usize> {
    let (values, _) = bytes.as_chunks::<SIZE>();
    for (block_index, block) in values.chunks(SEARCH_BLOCK_VALUES).enumerate() {
        // No early end inside a block: that would keep the compiler from using vector registers.
        if block.iter().fold(false, |any, &value| any | is_bad(value)) {
            let inside = block.iter().position(|&value| is_bad(value))?;
            return Some(block_index * SEARCH_BLOCK_VALUES + inside);
        }
    }
    None
}

/// Little-endian values to f32, exactly. Of int8 the codes: the caller multiplies by the row's scale.
///
/// # Errors
/// `bytes` is not `out.len()` values; `out` is unchanged.
///
/// ```
/// use ascribe::base::ElementType;
/// let mut values = [0.0; 2];
/// ascribe::kernels::decode(ElementType::I8, &[3, 0xFF], &mut values)?;
/// assert_eq!(values, [3.0, -1.0]);
/// # Ok::<(), ascribe::kernels::ConvertError>(())
/// ```
pub fn decode(element: ElementType, bytes: &[u8], out: &mut [f32]) -> Result<(), ConvertError> {
    if out.len().checked_mul(element.size_bytes()) != Some(bytes.len()) {
        return Err(ConvertError::Length { element, bytes: bytes.len(), values: out.len() });
    }
    match element {
        ElementType::F32 => decode_with(bytes, out, f32::from_le_bytes),
        ElementType::F16 => decode_with(bytes, out, |value| f16::from_le_bytes(value).to_f32()),
        ElementType::BF16 => decode_with(bytes, out, |value| bf16::from_le_bytes(value).to_f32()),
        ElementType::I8 => decode_with(bytes, out, |value| f32::from(i8::from_le_bytes(value))),
    }
    Ok(())
}

fn decode_with<const SIZE: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; SIZE]) -> f32) {
    let (stored, _) = bytes.as_chunks::<SIZE>();
    for (to, &from) in out.iter_mut().zip(stored) {
        *to = value(from);
    }
}

/// Appends `values` as little-endian f32, f16 or bf16, rounded to the nearest (ties to even).
///
/// # Errors
/// A value is not finite, or would round to infinity; or `element` is int8 (see [`encode_int8`]). `out` is unchanged.
///
/// ```
/// use ascribe::base::ElementType;
/// use ascribe::kernels::{ConvertError, encode};
/// let mut bytes = Vec::new();
/// encode(ElementType::F16, &[1.0], &mut bytes)?;
/// assert_eq!(bytes, [0x00, 0x3C]);
/// let error = encode(ElementType::F16, &[1.0, 70_000.0], &mut bytes);
/// assert!(matches!(error, Err(ConvertError::OutOfRange { index: 1, .. })));
/// # Ok::<(), ConvertError>(())
/// ```
pub fn encode(element: ElementType, values: &[f32], out: &mut Vec<u8>) -> Result<(), ConvertError> {
    check_finite(values)?;
    let start = out.len();
    match element {
        ElementType::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        ElementType::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
        ElementType::BF16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        ElementType::I8 => return Err(ConvertError::NeedsScale),
    }
    // All inputs are finite, so that an infinity can only have come from rounding.
    if let Some(index) = first_non_finite(element, &out[start..]) {
        out.truncate(start);
        return Err(ConvertError::OutOfRange { index, value: values[index], element });
    }
    Ok(())
}

/// Appends one row as int8 codes and returns its scale: value ~ scale x code, codes in -127..=127.
///
/// scale = max|x| / 127 in f32, code = x / scale rounded to the nearest (ties to even), so that no value is off by more
/// than half a scale. A row of zeros has scale 0 and codes 0. Where max|x| / 127 is subnormal and rounds down so far
/// that a code would pass 127, the next scale above it is taken.
///
/// # Errors
/// A value is not finite; `out` is unchanged.
///
/// ```
/// let mut codes = Vec::new();
/// let scale = ascribe::kernels::encode_int8(&[1.0, -254.0, 0.0], &mut codes)?;
/// assert_eq!(scale, 2.0);
/// assert_eq!(codes, [0, 0x81, 0]);
/// # Ok::<(), ascribe::kernels::ConvertError>(())
/// ```
pub fn encode_int8(row: &[f32], out: &mut Vec<u8>) -> Result<f32, ConvertError> {
    check_finite(row)?;
    let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        out.resize(out.len() + row.len(), 0);
        return Ok(0.0);
    }
    let scale = scale_of(largest);
    // The quotient of two f32 in f64 keeps far more bits than a tie between two codes has.
    let divisor = f64::from(scale);
    out.extend(row.iter().map(|&value| (f64::from(value) / divisor).round_ties_even() as i8 as u8));
    Ok(scale)
}

fn scale_of(largest: f32) -> f32 {
    let scale = largest / CODE_MAX;
    let passes = (f64::from(largest) / f64::from(scale)).round_ties_even() > f64::from(CODE_MAX);
    if passes { scale.next_up() } else { scale }
}

pub(super) fn check_finite(values: &[f32]) -> Result<(), ConvertError> {
    for (block_index, block) in values.chunks(SEARCH_BLOCK_VALUES).enumerate() {
        if block.iter().fold(false, |any, value| any | !value.is_finite()) {
            for (inside, &value) in block.iter().enumerate() {
                if !value.is_finite() {
                    return Err(ConvertError::NotFinite {
                        index: block_index * SEARCH_BLOCK_VALUES + inside,
                        value,
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes one value of a 16-bit type; `None` where it is out of range.
    fn encoded(element: ElementType, value: f32) -> Option<u16> {
        let mut bytes = Vec::new();
        match encode(element, &[value], &mut bytes) {
            Ok(()) => Some(u16::from_le_bytes([bytes[0], bytes[1]])),
            Err(ConvertError::OutOfRange { index: 0, .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Between any two neighbours: below the middle goes down, above goes up, the middle to the even pattern.
    fn check_rounding(element: ElementType, infinity: u16) {
        for low in 0..infinity {
            let mut ends = [0.0_f32; 2];
            let bytes = [low.to_le_bytes(), (low + 1).to_le_bytes()].concat();
            decode(element, &bytes, &mut ends).unwrap();
            // Above the largest value, the step to the value that would come next.
            let step = if low + 1 == infinity {
                let mut before = [0.0_f32];
                decode(element, &(low - 1).to_le_bytes(), &mut before).unwrap();
                f64::from(ends[0]) - f64::from(before[0])
            } else {
                f64::from(ends[1]) - f64::from(ends[0])
            };
            let middle = (f64::from(ends[0]) + step / 2.0) as f32;
            let even = if low % 2 == 0 { low } else { low + 1 };
            for (value, expected) in
                [(ends[0], low), (middle.next_down(), low), (middle, even), (middle.next_up(), low + 1)]
            {
                let expected = (expected < infinity).then_some(expected);
                assert_eq!(encoded(element, value), expected, "{value} near pattern {low:#06x}");
                let negative = expected.map(|pattern| pattern | 0x8000);
                assert_eq!(encoded(element, -value), negative, "-{value} near pattern {low:#06x}");
            }
        }
    }

    #[test]
    fn f16_rounds_to_nearest_even_everywhere() {
        check_rounding(ElementType::F16, 0x7C00);
    }

    #[test]
    fn bf16_rounds_to_nearest_even_everywhere() {
        check_rounding(ElementType::BF16, 0x7F80);
    }

    #[test]
    fn the_first_value_out_of_range_is_named_and_nothing_is_written() {
        let mut out = vec![1, 2, 3];
        let error = encode(ElementType::F16, &[65_519.0, -65_520.0, 1e9], &mut out);
        let expected = ConvertError::OutOfRange { index: 1, value: -65_520.0, element: ElementType::F16 };
        assert_eq!(error, Err(expected));
        assert!(encode(ElementType::BF16, &[f32::MAX], &mut out).is_err());
        assert_eq!(encode(ElementType::I8, &[1.0], &mut out), Err(ConvertError::NeedsScale));
        for element in ElementType::ALL {
            let error = encode(element, &[0.0, f32::NEG_INFINITY], &mut out).unwrap_err();
            assert_eq!(error, ConvertError::NotFinite { index: 1, value: f32::NEG_INFINITY });
        }
        assert!(matches!(encode_int8(&[f32::NAN], &mut out), Err(ConvertError::NotFinite { index: 0, .. })));
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found_in_any_place() {
        for length in [1, 255, 256, 257, 700] {
            for place in [0, length / 2, length - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7F80_0001)] {
                    let mut values = vec![f32::MAX; length];
                    values[place] = bad;
                    values[length - 1] = bad;
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    assert_eq!(first_non_finite(ElementType::F32, &bytes), Some(place));
                    let upper: Vec<u8> = bytes.chunks(4).flat_map(|value| [value[2], value[3]]).collect();
                    assert_eq!(first_non_finite(ElementType::BF16, &upper), Some(place));
                    assert_eq!(first_non_finite(ElementType::I8, &bytes), None);
                    assert!(
                        matches!(check_finite(&values), Err(ConvertError::NotFinite { index, .. }) if index == place)
                    );
                }
            }
        }
        for bits in 0..=u16::MAX {
            let expected = (!f16::from_bits(bits).is_finite()).then_some(0);
            assert_eq!(first_non_finite(ElementType::F16, &bits.to_le_bytes()), expected);
        }
        assert_eq!(first_non_finite(ElementType::F32, &[0xFF; 3]), None, "no whole value");
    }

    #[test]
    fn lengths_are_checked_when_decoding() {
        let mut out = [5.0; 2];
        let error = decode(ElementType::BF16, &[0; 3], &mut out);
        assert_eq!(error, Err(ConvertError::Length { element: ElementType::BF16, bytes: 3, values: 2 }));
        assert_eq!(out, [5.0; 2]);
    }

    #[test]
    fn tiny_rows_keep_their_codes_in_range() {
        for units in 1..2_000_u32 {
            let row = [f32::from_bits(units), -f32::from_bits(units), f32::from_bits(units / 2)];
            check_int8(&row);
        }
        check_int8(&[f32::MAX, f32::MIN, 1.0]);
    }

    fn check_int8(row: &[f32]) {
        let mut codes = Vec::new();
        let scale = f64::from(encode_int8(row, &mut codes).unwrap());
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert_eq!(codes.len(), row.len());
        for (&value, &code) in row.iter().zip(&codes) {
            let code = code as i8;
            assert_ne!(code, i8::MIN);
            let error = (f64::from(value) - scale * f64::from(code)).abs();
            assert!(error <= scale / 2.0, "{value} as {code} x {scale} is off by {error}");
            if value.abs() == largest && largest >= f32::MIN_POSITIVE * 127.0 {
                assert_eq!(code.unsigned_abs(), 127);
            }
        }
    }

    #[test]
    fn codes_of_ties_are_even_and_zeros_stay() {
        let mut codes = Vec::new();
        assert_eq!(encode_int8(&[0.5, 1.5, 2.5, -2.5, 127.0], &mut codes), Ok(1.0));
        assert_eq!(codes, [0, 2, 2, 0xFE, 127]);
        assert_eq!(encode_int8(&[0.0, -0.0], &mut codes), Ok(0.0));
        assert_eq!(codes[5..], [0, 0]);
    }

    proptest! {
        #[test]
        fn no_int8_value_is_off_by_more_than_half_a_scale(bits in prop::collection::vec(any::<u32>(), 1..40)) {
            let row: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|value| value.is_finite()).collect();
            check_int8(&row);
        }

        #[test]
        fn f32_values_come_back(bits in prop::collection::vec(any::<u32>(), 0..40)) {
            let row: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|value| value.is_finite()).collect();
            let mut bytes = Vec::new();
            encode(ElementType::F32, &row, &mut bytes).unwrap();
            let mut back = vec![f32::NAN; row.len()];
            decode(ElementType::F32, &bytes, &mut back).unwrap();
            prop_assert_eq!(row.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), back.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
}
