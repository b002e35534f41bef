//! Codes of a column's rows, and how far each row lies from its codes.

use std::error::Error;

use super::RowValues;
use crate::base::{ElementType, RowId};
use crate::kernels::{ConvertError, code_row_bytes, decode, encode_int8};
use thiserror::Error;

/// Rows that cannot be turned into codes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuantiseError<E: Error + 'static> {
    /// Values could not be read.
    #[error("cannot read the values of {count} rows from row {first}: {source}")]
    Values {
        /// First row of the read.
        first: RowId,
        /// Rows of the read.
        count: u32,
        /// Why.
        source: E,
    },
    /// Values are not those of the column, or not finite.
    #[error("row {row} of the column: {source}; run \"ascribe verify\"")]
    Row {
        /// The row.
        row: RowId,
        /// What is wrong.
        source: ConvertError,
    },
    /// Scales are missing.
    #[error("row {row} of the column has no scale; run \"ascribe verify\"")]
    Scale {
        /// The row.
        row: RowId,
    },
}

/// Rows as codes: row r is about `scales[r]` times its codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CodedRows {
    /// Codes of each row, padded with zeros to [`code_row_bytes`].
    pub codes: Vec<u8>,
    /// The value of one step of each row's codes.
    pub scales: Vec<f32>,
    /// For each row at least the Euclidean norm of what its codes leave of it.
    pub errors: Vec<f32>,
    /// The Euclidean norm of each row.
    pub norms: Vec<f32>,
}

impl CodedRows {
    fn clear(&mut self) {
        self.codes.clear();
        self.scales.clear();
        self.errors.clear();
        self.norms.clear();
    }
}

/// Puts rows `first..first + count` into `rows` as codes. Rows that are stored as int8 keep their codes.
///
/// # Errors
/// The values cannot be read or are not finite; what `rows` holds is then of no use.
///
/// # Complexity
/// O(count x width)
///
/// ```
/// use ascribe::base::{ElementType, RowId};
/// use ascribe::index::{CodedRows, RowValues, quantise_rows};
///
/// struct Column(Vec<u8>);
/// impl RowValues for Column {
///     type Error = std::io::Error;
///     fn element(&self) -> ElementType { ElementType::F32 }
///     fn width(&self) -> usize { 2 }
///     fn row_count(&self) -> u32 { 1 }
///     fn values(&self, _: RowId, _: u32) -> std::io::Result<&[u8]> { Ok(&self.0) }
///     fn scales(&self, _: RowId, _: u32) -> std::io::Result<Option<&[u8]>> { Ok(None) }
/// }
/// let column = Column([127.0_f32, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect());
/// let mut rows = CodedRows::default();
/// quantise_rows(&column, RowId(0), 1, &mut rows)?;
/// assert_eq!((rows.codes[0], rows.codes[1], rows.codes.len()), (127, 0, 32));
/// assert_eq!((rows.scales[0], rows.errors[0]), (1.0, 0.25_f32.next_up()));
/// # Ok::<(), ascribe::index::QuantiseError<std::io::Error>>(())
/// ```
pub fn quantise_rows<V: RowValues>(
    column: &V,
    first: RowId,
    count: u32,
    rows: &mut CodedRows,
) -> Result<(), QuantiseError<V::Error>> {
    rows.clear();
    let unreadable = |source| QuantiseError::Values { first, count, source };
    let (element, width) = (column.element(), column.width());
    let bytes = column.values(first, count).map_err(unreadable)?;
    let scales = column.scales(first, count).map_err(unreadable)?;
    let padding = code_row_bytes(width) - width;
    let mut values = vec![0.0; width];
    let row_bytes = (width * element.size_bytes()).max(1);
    for (row, stored) in bytes.chunks_exact(row_bytes).enumerate() {
        let at = RowId(first.0 + row as u32);
        let wrong = |source| QuantiseError::Row { row: at, source };
        decode(element, stored, &mut values).map_err(wrong)?;
        let start = rows.codes.len();
        let scale = if element == ElementType::I8 {
            rows.codes.extend_from_slice(stored);
            let scale = scales.and_then(|scales| scales.as_chunks::<4>().0.get(row));
            f32::from_le_bytes(*scale.ok_or(QuantiseError::Scale { row: at })?)
        } else {
            encode_int8(&values, &mut rows.codes).map_err(wrong)?
        };
        let (mut squares, mut error_squares) = (0.0, 0.0);
        for (&value, &code) in values.iter().zip(&rows.codes[start..]) {
            let coded = f64::from(scale) * f64::from(code as i8);
            let value = if element == ElementType::I8 { coded } else { f64::from(value) };
            squares += value * value;
            error_squares += (value - coded) * (value - coded);
        }
        rows.codes.resize(rows.codes.len() + padding, 0);
        rows.scales.push(scale);
        rows.errors.push(at_least(error_squares.sqrt()));
        rows.norms.push(squares.sqrt() as f32);
    }
    Ok(())
}

/// The f32 next above `value`; 0 stays 0.
fn at_least(value: f64) -> f32 {
    if value == 0.0 { 0.0 } else { (value as f32).next_up() }
}

#[cfg(test)]
mod tests {
    use super::super::sample_column::{SampleColumn, vector};
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn codes_with_their_error_cover_the_row() {
        for element in ElementType::ALL {
            for width in [1, 31, 32, 33, 384] {
                let column = SampleColumn::random(element, width, 40);
                let mut coded = CodedRows::default();
                quantise_rows(&column, RowId(7), 20, &mut coded).unwrap();
                assert_eq!(coded.codes.len(), 20 * code_row_bytes(width));
                for (index, codes) in coded.codes.chunks_exact(code_row_bytes(width)).enumerate() {
                    let row = column.row(index + 7);
                    let scale = f64::from(coded.scales[index]);
                    let square =
                        |(value, &code): (&f64, &u8)| (value - scale * f64::from(code as i8)).powi(2);
                    let error = row.iter().zip(codes).map(square).sum::<f64>().sqrt();
                    assert!(error <= f64::from(coded.errors[index]), "{element} {width} {index}");
                    assert!(f64::from(coded.errors[index]) <= error * 1.000_001, "{element} {width} {index}");
                    let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
                    assert!((f64::from(coded.norms[index]) - norm).abs() <= 1e-7 * norm);
                    assert!(codes[width..].iter().all(|code| *code == 0));
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_or_damaged_is_named() {
        let mut column = SampleColumn::random(ElementType::F32, 8, 20);
        column.bytes[13 * 32..13 * 32 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut coded = CodedRows::default();
        let error = quantise_rows(&column, RowId(10), 5, &mut coded).unwrap_err();
        assert!(matches!(error, QuantiseError::Row { row: RowId(13), .. }), "{error}");
        column.damaged_from = 10;
        let error = quantise_rows(&column, RowId(10), 5, &mut coded).unwrap_err();
        assert!(error.to_string().contains("block 7 is damaged"), "{error}");
        let mut column = SampleColumn::random(ElementType::I8, 8, 20);
        column.scales = None;
        let error = quantise_rows(&column, RowId(3), 5, &mut coded).unwrap_err();
        assert!(matches!(error, QuantiseError::Scale { row: RowId(3) }), "{error}");
    }

    #[test]
    fn a_vector_of_the_largest_values_is_coded() {
        let mut stream = RandomStream::new(1);
        let values: Vec<f32> = vector(40, &mut stream).iter().map(|value| value * (f32::MAX / 2.0)).collect();
        let column = SampleColumn::of_rows(40, &values);
        let mut coded = CodedRows::default();
        quantise_rows(&column, RowId(0), 1, &mut coded).unwrap();
        // Its norm is beyond f32: the bound says that nothing is known.
        assert!(coded.norms[0] == f32::INFINITY || coded.norms[0] > f32::MAX / 2.0);
    }
}
