//! Ready vectors as rows of a mapped matrix.

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};

use super::{Place, SourceError};
use crate::base::ElementType;
use crate::base::limits::EMBEDDING_WIDTH_MAX;

/// How the values stand in the file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    BF16,
    F64,
}

impl Stored {
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Appends the values in `data` in single precision; one of double precision may not be finite then.
    pub(super) fn append(self, data: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(data.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value))),
            Self::F16 => {
                out.extend(data.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f32()));
            }
            Self::BF16 => {
                out.extend(data.as_chunks().0.iter().map(|value| bf16::from_le_bytes(*value).to_f32()));
            }
            Self::F64 => {
                out.extend(data.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value) as f32));
            }
        }
    }
}

/// A matrix of ready vectors, one a row, over the bytes of a file that somebody else holds.
///
/// Read from npy ([`Matrix::from_npy`]) or safetensors ([`Matrix::from_safetensors`]). Nothing is copied until rows
/// are asked for. Whether values are finite is for the reader of the rows to check, block by block, except of double
/// precision, which is checked here because it is converted here.
#[derive(Clone)]
pub struct Matrix<'a> {
    name: String,
    stored: Stored,
    rows: usize,
    width: usize,
    data: &'a [u8],
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Matrix({}, {:?} [{}, {}])", self.name, self.stored, self.rows, self.width)
    }
}

impl<'a> Matrix<'a> {
    /// The matrix of `shape` in `data`; `shape` is `[rows, width]`, or `[width]` of one row.
    pub(super) fn new(
        name: &str,
        stored: Stored,
        shape: &[u64],
        data: &'a [u8],
    ) -> Result<Self, SourceError> {
        let input = name.to_owned();
        let wrong_shape = |expected| SourceError::MatrixShape {
            input: name.to_owned(),
            shape: format!("{shape:?}"),
            expected,
        };
        let (rows, width) = match *shape {
            [width] => (1, width),
            [rows, width] => (rows, width),
            _ => return Err(wrong_shape("write a matrix of shape [rows, width]")),
        };
        let (Ok(rows), Ok(width)) = (usize::try_from(rows), usize::try_from(width)) else {
            return Err(wrong_shape("it does not fit this machine"));
        };
        if width == 0 || width > EMBEDDING_WIDTH_MAX {
            return Err(SourceError::MatrixWidth { input, width });
        }
        let expected_bytes = rows as u128 * width as u128 * stored.size_bytes() as u128;
        if expected_bytes != data.len() as u128 {
            return Err(SourceError::MatrixLength {
                input,
                expected_bytes: u64::try_from(expected_bytes).unwrap_or(u64::MAX),
                got_bytes: data.len() as u64,
            });
        }
        Ok(Self { name: input, stored, rows, width, data })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of one row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Name of the input, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Type of the values as they are given out: that of the file, or f32 where the file has double precision.
    pub fn element(&self) -> ElementType {
        match self.stored {
            Stored::F32 | Stored::F64 => ElementType::F32,
            Stored::F16 => ElementType::F16,
            Stored::BF16 => ElementType::BF16,
        }
    }

    /// The bytes of `rows` (counted from 0) as they stand in the file: `rows.len() * width` little-endian values of
    /// type [`element`](Self::element). `None` if the file has double precision or not so many rows.
    pub fn raw_rows(&self, rows: Range<usize>) -> Option<&'a [u8]> {
        if self.stored == Stored::F64 || rows.start > rows.end || rows.end > self.rows {
            return None;
        }
        // The product of all rows fits: it is the length of the data.
        let row_bytes = self.width * self.stored.size_bytes();
        self.data.get(rows.start * row_bytes..rows.end * row_bytes)
    }

    /// Reads `count` rows from row `first` on (counted from 0) as f32. `out` is emptied and then holds
    /// `count * width` values, row after row.
    ///
    /// # Errors
    /// The matrix has not so many rows, or a value of double precision is not finite in single precision.
    ///
    /// # Complexity
    /// `count * width` conversions; `out` grows to that many values.
    pub fn read_rows(&self, first: usize, count: usize, out: &mut Vec<f32>) -> Result<(), SourceError> {
        out.clear();
        let missing = || SourceError::MatrixRows { input: self.name.clone(), rows: self.rows, first, count };
        let end = first.checked_add(count).filter(|end| *end <= self.rows).ok_or_else(missing)?;
        let row_bytes = self.width * self.stored.size_bytes();
        let data = self.data.get(first * row_bytes..end * row_bytes).ok_or_else(missing)?;
        if self.stored != Stored::F64 {
            self.stored.append(data, out);
            return Ok(());
        }
        out.reserve(count * self.width);
        for (index, value) in data.as_chunks().0.iter().enumerate() {
            out.push(self.narrowed(f64::from_le_bytes(*value), first, index)?);
        }
        Ok(())
    }

    /// `value` in single precision; it is number `index` of the rows from `first` on.
    fn narrowed(&self, value: f64, first: usize, index: usize) -> Result<f32, SourceError> {
        let narrow = value as f32;
        if narrow.is_finite() {
            return Ok(narrow);
        }
        let number = (first + index / self.width) as u64 + 1;
        Err(SourceError::MatrixValue {
            place: Place { input: self.name.clone(), unit: "row", number },
            column: index % self.width + 1,
            found: value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
        values.into_iter().flatten().collect()
    }

    fn read(matrix: &Matrix<'_>, first: usize, count: usize) -> Result<Vec<f32>, SourceError> {
        let mut out = vec![9.0];
        matrix.read_rows(first, count, &mut out).map(|()| out)
    }

    #[test]
    fn every_stored_type_reads_as_its_values() {
        let values = [1.0, -0.5, 3.25, 0.0, 65504.0, -2.0];
        let stored = [
            (Stored::F32, ElementType::F32, bytes_of(values.map(|value| (value as f32).to_le_bytes()))),
            (Stored::F16, ElementType::F16, bytes_of(values.map(|value| f16::from_f64(value).to_le_bytes()))),
            (Stored::F64, ElementType::F32, bytes_of(values.map(f64::to_le_bytes))),
        ];
        for (stored, element, data) in stored {
            let matrix = Matrix::new("m", stored, &[3, 2], &data).unwrap();
            assert_eq!((matrix.rows(), matrix.width(), matrix.element()), (3, 2, element));
            assert_eq!(read(&matrix, 0, 3).unwrap(), values.map(|value| value as f32));
            assert_eq!(read(&matrix, 2, 1).unwrap(), [65504.0, -2.0]);
            assert!(read(&matrix, 3, 0).unwrap().is_empty());
        }
        let data = bytes_of([1.0, -256.0].map(|value| bf16::from_f32(value).to_le_bytes()));
        let matrix = Matrix::new("m", Stored::BF16, &[1, 2], &data).unwrap();
        assert_eq!((matrix.element(), read(&matrix, 0, 1).unwrap()), (ElementType::BF16, vec![1.0, -256.0]));
    }

    #[test]
    fn raw_rows_are_the_stored_bytes() {
        let data: Vec<u8> = (0..24).collect();
        let matrix = Matrix::new("m", Stored::F32, &[3, 2], &data).unwrap();
        assert_eq!(matrix.raw_rows(1..3), Some(&data[8..24]));
        assert_eq!(matrix.raw_rows(3..3), Some(&data[..0]));
        assert_eq!(matrix.raw_rows(2..4), None);
        assert_eq!(matrix.raw_rows(0..usize::MAX), None);
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = matrix.raw_rows(2..1);
        assert_eq!(reversed, None);
        assert_eq!(Matrix::new("m", Stored::F64, &[3, 1], &data).unwrap().raw_rows(0..1), None);
    }

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let matrix = Matrix::new("m", Stored::F32, &[2, 1], &[0; 8]).unwrap();
        for (first, count) in [(0, 3), (2, 1), (usize::MAX, 2), (1, usize::MAX)] {
            assert!(matches!(read(&matrix, first, count), Err(SourceError::MatrixRows { rows: 2, .. })));
        }
    }

    #[test]
    fn double_precision_is_checked_and_the_others_are_passed_on() {
        for bad in [1e39, f64::NAN, f64::NEG_INFINITY] {
            let data = bytes_of([0.0, 1.0, 2.0, bad].map(f64::to_le_bytes));
            let matrix = Matrix::new("m.npy", Stored::F64, &[2, 2], &data).unwrap();
            assert_eq!(read(&matrix, 0, 1).unwrap(), [0.0, 1.0]);
            for first in [0, 1] {
                let error = read(&matrix, first, 2 - first).unwrap_err().to_string();
                assert!(error.starts_with("m.npy, row 2: value 2 is "), "{error}");
            }
        }
        let data = f32::NAN.to_le_bytes();
        let matrix = Matrix::new("m", Stored::F32, &[1], &data).unwrap();
        assert!(read(&matrix, 0, 1).unwrap()[0].is_nan());
    }

    #[test]
    fn shapes_and_lengths_must_agree() {
        let new = |shape: &[u64], length| {
            Matrix::new("m", Stored::F32, shape, vec![0; length].leak())
                .map(|matrix| (matrix.rows, matrix.width))
        };
        assert_eq!(new(&[2], 8).unwrap(), (1, 2));
        assert_eq!(new(&[0, 2], 0).unwrap(), (0, 2));
        for (shape, length) in
            [(&[2_u64, 2][..], 15), (&[2, 2], 17), (&[u64::MAX, 65_536], 8), (&[1 << 62, 1], 0)]
        {
            assert!(matches!(new(shape, length), Err(SourceError::MatrixLength { .. })), "{shape:?}");
        }
        for shape in [&[0_u64][..], &[3, 0], &[0, 65_537], &[1, u64::MAX]] {
            assert!(matches!(new(shape, 0), Err(SourceError::MatrixWidth { .. })), "{shape:?}");
        }
        for shape in [&[][..], &[1, 1, 1]] {
            assert!(matches!(new(shape, 4), Err(SourceError::MatrixShape { .. })), "{shape:?}");
        }
    }
}
