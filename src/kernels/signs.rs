//! Signs of values, a bit each, and the sums of a query's values with these signs.
//!
//! Sums are whole numbers of the query's steps, the same in any order. Four signs at a time are looked up in a table of the
//! sixteen sums that they can have: a row of 256 signs takes 64 of them, without an instruction that some machines lack.

use super::convert::{ConvertError, check_finite};
use super::error::KernelError;

/// Steps of the largest value of a query.
const STEPS_MAX: f64 = i16::MAX as f64;

/// Signs that are looked up together.
const TOGETHER: usize = 4;

/// Bytes of a row of so many signs: eight a byte, the last one padded.
pub fn sign_row_bytes(width: usize) -> usize {
    width.div_ceil(8)
}

/// Appends the signs of values, a bit each from the lowest of each byte on, 1 for 0 and above; returns what they are multiplied by, the mean
/// of the values' magnitudes.
///
/// # Errors
/// A value is not finite; `out` is unchanged.
///
/// ```
/// let mut signs = Vec::new();
/// let scale = ascribe::kernels::encode_signs(&[1.0, -2.0, 0.0], &mut signs)?;
/// assert_eq!((scale, signs.as_slice()), (1.0, [0b101].as_slice()));
/// # Ok::<(), ascribe::kernels::ConvertError>(())
/// ```
///
/// # References
/// Rastegari et al., "XNOR-Net", ECCV 2016, section 3.1: of all scales this one leaves the least error.
pub fn encode_signs(values: &[f32], out: &mut Vec<u8>) -> Result<f32, ConvertError> {
    check_finite(values)?;
    out.extend(values.chunks(8).map(|values| {
        values
            .iter()
            .enumerate()
            .map(|(bit, value)| u8::from(*value >= 0.0) << bit)
            .fold(0, |all, bit| all | bit)
    }));
    let sum: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
    Ok((sum / values.len().max(1) as f64) as f32)
}

/// A query as whole steps, ready for many rows of signs.
///
/// ```
/// use ascribe::kernels::SignQuery;
/// let query = SignQuery::new(&[1.0, 0.5]);
/// // Both added, and the second one taken away.
/// let sums = query.sums(&[0b11, 0b01])?;
/// let scaled: Vec<f64> = sums.iter().map(|sum| *sum as f64 * query.scale()).collect();
/// assert!((scaled[0] - 1.5).abs() < 1e-4 && (scaled[1] - 0.5).abs() < 1e-4);
/// # Ok::<(), ascribe::kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SignQuery {
    /// The sixteen sums of each four values.
    tables: Vec<[i32; 16]>,
    width: usize,
    scale: f64,
}

impl SignQuery {
    /// The query with these values; those that are not finite count as 0.
    ///
    /// # Complexity
    /// O(width).
    pub fn new(values: &[f32]) -> Self {
        let finite = |value: &f32| if value.is_finite() { f64::from(*value) } else { 0.0 };
        let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(finite(value).abs()));
        let scale = if largest > 0.0 { largest / STEPS_MAX } else { 0.0 };
        let step =
            |value: &f32| if scale > 0.0 { (finite(value) / scale).round_ties_even() as i32 } else { 0 };
        let table = |values: &[f32]| {
            let steps: Vec<i32> = values.iter().map(step).collect();
            std::array::from_fn(|signs| {
                let signed = |(bit, step): (usize, &i32)| if signs >> bit & 1 == 1 { *step } else { -step };
                steps.iter().enumerate().map(signed).sum()
            })
        };
        // Whole bytes are looked up: what is beyond the last value adds nothing.
        let mut tables: Vec<[i32; 16]> = values.chunks(TOGETHER).map(table).collect();
        tables.resize(2 * sign_row_bytes(values.len()), [0; 16]);
        Self { tables, width: values.len(), scale }
    }

    /// What sums are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// For each row of signs the sum of the query's steps, each with its sign.
    ///
    /// # Errors
    /// The bytes are no whole rows.
    ///
    /// # Complexity
    /// O(rows x width / 4).
    pub fn sums(&self, rows: &[u8]) -> Result<Vec<i64>, KernelError> {
        let row_bytes = sign_row_bytes(self.width);
        if row_bytes == 0 || !rows.len().is_multiple_of(row_bytes) {
            let count = rows.len().checked_div(row_bytes).unwrap_or(0);
            return Err(KernelError::CodeBytes { width: self.width, rows: count, given: rows.len() });
        }
        Ok(rows.chunks_exact(row_bytes).map(|row| self.sum(row)).collect())
    }

    /// [`sums`](Self::sums) of one row, of which bytes that are missing count for nothing.
    pub fn sum(&self, row: &[u8]) -> i64 {
        let pairs = self.tables.chunks_exact(2).zip(row);
        pairs
            .map(|(tables, signs)| {
                let (low, high) = (usize::from(signs & 15), usize::from(signs >> 4));
                i64::from(tables[0][low]) + i64::from(tables[1][high])
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn sums_are_those_of_values_with_their_signs() {
        let mut random = RandomStream::new(5);
        for width in [1, 3, 4, 7, 8, 9, 33, 257] {
            let mut draw = || (0..width).map(|_| random.unit() as f32 - 0.5).collect::<Vec<f32>>();
            let (query, rows) = (draw(), [draw(), draw(), draw()]);
            let (mut signs, mut scales) = (Vec::new(), Vec::new());
            for row in &rows {
                scales.push(encode_signs(row, &mut signs).unwrap());
            }
            assert_eq!(signs.len(), 3 * sign_row_bytes(width));
            let asked = SignQuery::new(&query);
            let sums = asked.sums(&signs).unwrap();
            for ((row, sum), scale) in rows.iter().zip(&sums).zip(&scales) {
                let mean = row.iter().map(|value| value.abs()).sum::<f32>() / width as f32;
                assert!((mean - scale).abs() < 1e-6);
                let exact: f64 = query
                    .iter()
                    .zip(row)
                    .map(|(query, row)| f64::from(*query) * if *row >= 0.0 { 1.0 } else { -1.0 })
                    .sum();
                let found = *sum as f64 * asked.scale();
                assert!((found - exact).abs() <= 0.5 * asked.scale() * width as f64, "{found} {exact}");
            }
            assert!(asked.sums(&signs[1..]).is_err() || sign_row_bytes(width) == 1);
        }
        assert!(SignQuery::new(&[]).sums(&[1]).is_err());
    }

    #[test]
    fn values_that_are_not_finite_are_refused_and_in_a_query_count_as_nothing() {
        let mut signs = vec![9];
        assert!(encode_signs(&[1.0, f32::NAN], &mut signs).is_err());
        assert_eq!(signs, [9]);
        assert_eq!(SignQuery::new(&[1.0, f32::INFINITY]), SignQuery::new(&[1.0, 0.0]));
        assert_eq!(SignQuery::new(&[0.0; 9]).sums(&[255, 1]).unwrap(), [0]);
    }
}
