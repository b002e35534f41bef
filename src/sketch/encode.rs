//! A row's values as stored, with the scales of its parts.

use thiserror::Error;

use super::layout::SketchLayout;
use crate::base::ElementType;
use crate::kernels::{ConvertError, decode, encode, encode_int8};

/// The largest value of an f16 part as stored: far below the largest that f16 holds, with 28 powers of two above its
/// smallest normal value.
const HALF_LARGEST: f32 = 16_384.0;

/// A value that cannot be stored.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("value {index} of module {module:?}, member {member}, {reason}")]
pub struct SketchEncodeError {
    /// Row, counted from the first of the call.
    pub row: usize,
    /// Member, from 0.
    pub member: u32,
    /// The module.
    pub module: String,
    /// Position in its values, from 0.
    pub index: usize,
    /// What is wrong.
    pub reason: String,
}

/// Appends rows of f32 values in an element type, and the scales of their parts where that type has them.
///
/// int8 has a scale for each part of a row (`max / 127`), f16 too (`max / 16384`): gradients of rows that a model has
/// learned are far below what f16 can hold. f32 and bf16 have none.
///
/// # Errors
/// A value is not finite. `bytes` and `scales` are then of no use.
///
/// # Complexity
/// O(values).
pub fn encode_sketch_rows(
    element: ElementType,
    layout: &SketchLayout,
    values: &[f32],
    bytes: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) -> Result<(), SketchEncodeError> {
    let mut scaled = Vec::new();
    for (row, values) in values.chunks_exact(layout.width()).enumerate() {
        for part in layout.parts() {
            let values = &values[part.offset..part.offset + part.width];
            let refuse = |error: ConvertError| SketchEncodeError {
                row,
                member: part.member,
                module: layout.modules()[part.module as usize].name.clone(),
                index: error.index().unwrap_or(0),
                reason: error.reason(),
            };
            match element {
                ElementType::F32 | ElementType::BF16 => encode(element, values, bytes).map_err(refuse)?,
                ElementType::I8 => {
                    let scale = encode_int8(values, bytes).map_err(refuse)?;
                    scales.extend_from_slice(&scale.to_le_bytes());
                }
                ElementType::F16 => {
                    let scale = half_scale(values);
                    scaled.clear();
                    // Not finite values stay so and are refused; 0 / 0 where all are zero must not become one.
                    let divisor = if scale == 0.0 { 1.0 } else { f64::from(scale) };
                    scaled.extend(values.iter().map(|value| (f64::from(*value) / divisor) as f32));
                    encode(element, &scaled, bytes).map_err(refuse)?;
                    scales.extend_from_slice(&scale.to_le_bytes());
                }
            }
        }
    }
    Ok(())
}

fn half_scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return 0.0;
    }
    (largest / HALF_LARGEST).max(f32::from_bits(1))
}

/// The values of stored rows, which `out` then holds row after row in place of what was there.
///
/// # Errors
/// The bytes are not those of whole rows.
pub(super) fn decode_sketch_rows(
    element: ElementType,
    layout: &SketchLayout,
    bytes: &[u8],
    scales: Option<&[u8]>,
    out: &mut Vec<f32>,
) -> Result<(), ConvertError> {
    out.resize(bytes.len() / element.size_bytes(), 0.0);
    decode(element, bytes, out)?;
    let Some(scales) = scales else { return Ok(()) };
    let (scales, _) = scales.as_chunks::<4>();
    let rows = out.chunks_exact_mut(layout.width()).zip(scales.chunks_exact(layout.parts().len()));
    for (values, scales) in rows {
        for (part, scale) in layout.parts().iter().zip(scales) {
            let scale = f32::from_le_bytes(*scale);
            values[part.offset..part.offset + part.width].iter_mut().for_each(|value| *value *= scale);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ModuleEncoding, SketchModule};

    fn layout() -> SketchLayout {
        let (encoding, name) = (ModuleEncoding::Factored, "net".to_owned());
        let module = SketchModule { name, encoding, rank: 1, out: 2, input: 3, terms: 0 };
        SketchLayout::new(vec![module], 1).unwrap()
    }

    #[test]
    fn tiny_gradients_beside_large_inputs_survive_every_element_type() {
        let values = [1e-9, -3e-10, 1.0, 0.25, -0.5, 0.0, 0.0, 4e8, 1e3, 0.0];
        for (element, tolerance) in [
            (ElementType::F32, 0.0),
            (ElementType::F16, 1e-3),
            (ElementType::BF16, 8e-3),
            (ElementType::I8, 8e-3),
        ] {
            let (mut bytes, mut scales, mut back) = (Vec::new(), Vec::new(), Vec::new());
            encode_sketch_rows(element, &layout(), &values, &mut bytes, &mut scales).unwrap();
            let has_scales = matches!(element, ElementType::F16 | ElementType::I8);
            assert_eq!(scales.len(), if has_scales { 2 * 2 * 4 } else { 0 });
            let scales = has_scales.then_some(scales.as_slice());
            decode_sketch_rows(element, &layout(), &bytes, scales, &mut back).unwrap();
            for (part, given) in
                [(0, 2), (2, 5), (5, 7), (7, 10)].map(|(from, to)| (&back[from..to], &values[from..to]))
            {
                let largest = given.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                for (found, given) in part.iter().zip(given) {
                    assert!((found - given).abs() <= tolerance * largest, "{element}: {found} for {given}");
                }
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_named() {
        for element in ElementType::ALL {
            for bad in [f32::NAN, f32::INFINITY] {
                let values = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, bad, 0.0];
                let error = encode_sketch_rows(element, &layout(), &values, &mut Vec::new(), &mut Vec::new());
                let error = error.unwrap_err();
                assert_eq!((error.row, error.index, error.module.as_str()), (1, 1, "net"), "{element}");
            }
        }
    }
}
