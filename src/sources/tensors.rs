//! A matrix from safetensors bytes.

use std::collections::HashSet;
use std::fmt;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::error::{listed, shortened};
use super::matrix::Stored;
use super::{Matrix, SourceError};
use crate::base::limits::TENSOR_HEADER_BYTES_MAX;

/// The tensor that is taken if there are several.
const MATRIX_NAME: &str = "embeddings";

/// The member of the header that is no tensor.
const METADATA_NAME: &str = "__metadata__";

/// Bytes of the length that stands before the header.
const LENGTH_BYTES: usize = 8;

impl<'a> Matrix<'a> {
    /// The matrix in `bytes`, a whole safetensors file, which is called `name` in messages: the tensor `embeddings`,
    /// or else the only tensor with two dimensions.
    ///
    /// Shape `[rows, width]`; types F32, F16, BF16 and F64.
    ///
    /// # Errors
    /// The file is not as the format demands, cut off or added to; there is no such tensor, or its type or shape is
    /// another one.
    ///
    /// # Complexity
    /// Parses the header; memory a small multiple of its length, which is bounded.
    ///
    /// ```
    /// use ascribe::sources::Matrix;
    /// # fn main() -> Result<(), ascribe::sources::SourceError> {
    /// let header = r#"{"embeddings":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    /// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    /// bytes.extend(header.bytes());
    /// bytes.extend([0.5_f32, -2.0].into_iter().flat_map(f32::to_le_bytes));
    /// let matrix = Matrix::from_safetensors(&bytes, "rows.safetensors")?;
    /// let mut values = Vec::new();
    /// matrix.read_rows(0, 1, &mut values)?;
    /// assert_eq!((matrix.rows(), matrix.width(), values), (1, 2, vec![0.5, -2.0]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_safetensors(bytes: &'a [u8], name: &str) -> Result<Self, SourceError> {
        check_header(bytes, name)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| invalid(name, 0, error.to_string()))?;
        let (tensor_name, tensor) = match tensors.iter().find(|(tensor, _)| *tensor == MATRIX_NAME) {
            Some(found) => found,
            None => {
                let matrices: Vec<_> =
                    tensors.iter().filter(|(_, tensor)| tensor.shape().len() == 2).take(2).collect();
                match <[_; 1]>::try_from(matrices) {
                    Ok([only]) => only,
                    Err(matrices) => {
                        let found = if matrices.is_empty() { "no matrix" } else { "more than one matrix" };
                        let mut names = tensors.names();
                        names.sort_unstable();
                        return Err(SourceError::TensorNotFound {
                            input: name.to_owned(),
                            found,
                            present: listed(names),
                        });
                    }
                }
            }
        };
        let named = format!("{name}, tensor {:?},", shortened(tensor_name));
        let stored = match tensor.dtype() {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::BF16,
            Dtype::F64 => Stored::F64,
            other => {
                let accepted = "float32, float16, bfloat16 or float64";
                return Err(SourceError::MatrixType { input: named, found: format!("{other:?}"), accepted });
            }
        };
        if tensor.shape().len() != 2 {
            return Err(SourceError::MatrixShape {
                input: named,
                shape: shortened(&format!("{:?}", tensor.shape())),
                expected: "write a matrix of shape [rows, width]",
            });
        }
        let shape: Vec<u64> = tensor.shape().iter().map(|size| *size as u64).collect();
        Matrix::new(name, stored, &shape, tensor.data())
    }
}

pub(super) fn invalid(name: &str, offset: usize, reason: String) -> SourceError {
    SourceError::MatrixHeader { input: name.to_owned(), format: "safetensors", offset, reason }
}

/// Bounds the header and every offset in it before the parser sees them: the parser allows 100 MB of header, adds
/// offsets without a check for overflow, and takes the last of two tensors with the same name.
pub(super) fn check_header(bytes: &[u8], name: &str) -> Result<(), SourceError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(invalid(name, bytes.len(), "it ends before its header".to_owned()));
    };
    let length = u64::from_le_bytes(*length);
    if length > TENSOR_HEADER_BYTES_MAX as u64 {
        let reason = format!("a header of {length} bytes, at most {TENSOR_HEADER_BYTES_MAX} are allowed");
        return Err(invalid(name, 0, reason));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        let reason = format!("it ends inside its header of {length} bytes");
        return Err(invalid(name, bytes.len(), reason));
    };
    let refused = |error: serde_json::Error| {
        invalid(name, LENGTH_BYTES + error.column().saturating_sub(1), error.to_string())
    };
    let Tensors { end } = serde_json::from_slice(header).map_err(refused)?;
    if end != data.len() as u64 {
        return Err(SourceError::MatrixLength {
            input: name.to_owned(),
            expected_bytes: end,
            got_bytes: data.len() as u64,
        });
    }
    Ok(())
}

/// A header of which only the offsets are kept.
struct Tensors {
    /// Highest end of a tensor, in bytes behind the header.
    end: u64,
}

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tensors, A::Error> {
        let mut seen = HashSet::new();
        let mut end = 0;
        while let Some(name) = members.next_key::<String>()? {
            if name == METADATA_NAME {
                members.next_value::<IgnoredAny>()?;
            } else {
                let tensor: Tensor = members.next_value()?;
                end = end.max(tensor.data_offsets.0).max(tensor.data_offsets.1);
            }
            if let Some(name) = seen.replace(name) {
                return Err(A::Error::custom(format!("the name {:?} stands twice", shortened(&name))));
            }
        }
        Ok(Tensors { end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ElementType;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn tensor(name: &str, kind: &str, shape: &str, from: u64, to: u64) -> String {
        format!("\"{name}\":{{\"dtype\":\"{kind}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    }

    fn refusal(header: &str, data: &[u8]) -> String {
        Matrix::from_safetensors(&file(header, data), "m.st").expect_err(header).to_string()
    }

    #[test]
    fn the_named_or_the_only_matrix_is_taken() {
        let data: Vec<u8> = (0..24).collect();
        let vector = tensor("bias", "F32", "[2]", 0, 8);
        let other = tensor("other", "F16", "[2,2]", 8, 16);
        let named = tensor("embeddings", "F32", "[1,2]", 16, 24);
        let metadata = "\"__metadata__\":{\"made\":\"by hand\"}";
        let bytes = file(&format!("{{{metadata},{named},{vector},{other}}}   "), &data);
        let matrix = Matrix::from_safetensors(&bytes, "m.st").unwrap();
        assert_eq!((matrix.element(), matrix.raw_rows(0..1)), (ElementType::F32, Some(&data[16..24])));
        let bytes = file(&format!("{{{vector},{other}}}"), &data[..16]);
        let matrix = Matrix::from_safetensors(&bytes, "m.st").unwrap();
        assert_eq!((matrix.element(), matrix.raw_rows(0..2)), (ElementType::F16, Some(&data[8..16])));
    }

    #[test]
    fn every_float_type_is_read() {
        for (kind, size, element) in [
            ("F32", 4, ElementType::F32),
            ("F16", 2, ElementType::F16),
            ("BF16", 2, ElementType::BF16),
            ("F64", 8, ElementType::F32),
        ] {
            let bytes = file(
                &format!("{{{}}}", tensor("x", kind, "[3,1]", 0, 3 * size)),
                &vec![0; 3 * size as usize],
            );
            let matrix = Matrix::from_safetensors(&bytes, "m.st").unwrap();
            assert_eq!((matrix.rows(), matrix.width(), matrix.element()), (3, 1, element));
        }
    }

    #[test]
    fn refusals_say_what_where_and_what_to_do() {
        let one = |kind, shape, to| format!("{{{}}}", tensor("embeddings", kind, shape, 0, to));
        let two = format!("{{{},{}}}", tensor("b", "F32", "[1,1]", 0, 4), tensor("a", "F32", "[1,1]", 4, 8));
        let overlapping = format!(
            "{{{},{}}}",
            tensor("b", "F32", "[1,2]", 0, 8),
            tensor("embeddings", "F32", "[1,1]", 4, 8)
        );
        let twice =
            format!("{{{},{}}}", tensor("a", "F32", "[1,2]", 0, 8), tensor("a", "F32", "[2,1]", 0, 8));
        let cases = [
            (one("I64", "[1,1]", 8), "tensor \"embeddings\", holds values of type I64"),
            (one("F32", "[2]", 8), "has shape [2]"),
            (one("F32", "[1,1,2]", 8), "has shape [1, 1, 2]"),
            (one("F32", "[1,2]", 4), "has 8 bytes of values, its header says 4"),
            (one("F32", "[1,3]", 12), "has 8 bytes of values, its header says 12"),
            (one("F32", "[1,3]", 8), "is not a valid safetensors file"),
            (one("F32", "[4611686018427387904,4]", 8), "is not a valid safetensors file"),
            (
                two,
                "no tensor \"embeddings\" and more than one matrix; name the matrix \"embeddings\". The tensors are \"a\", \"b\"",
            ),
            (overlapping, "is not a valid safetensors file"),
            (twice, "the name \"a\" stands twice"),
            (format!("{{{}}}", tensor("a", "F32", "[2]", 0, 8)), "and no matrix"),
            ("[]".to_owned(), "expected an object of tensors"),
            ("{\"a\":{}}".to_owned(), "missing field `data_offsets`"),
            ("{".to_owned(), "EOF"),
        ];
        for (header, expected) in cases {
            let text = refusal(&header, &[0; 8]);
            assert!(text.starts_with("m.st") && text.contains(expected), "{header}: {text}");
        }
    }

    #[test]
    fn offsets_near_the_end_of_the_address_space_do_not_overflow() {
        // Eight tensors of 2^61 - 1 values each end just below 2^64: the parser would add the header's length to that.
        let size = (1_u64 << 61) - 1;
        let tensors: Vec<_> = (0..8)
            .map(|number| {
                let name = format!("t{number}");
                tensor(&name, "U8", &format!("[{size}]"), number * size, (number + 1) * size)
            })
            .collect();
        let text = refusal(&format!("{{{}}}", tensors.join(",")), &[0; 8]);
        assert!(text.contains("its header says 18446744073709551608"), "{text}");
    }

    #[test]
    fn header_lengths_are_bounded() {
        let mut bytes = file("{}", &[]);
        for length in [3, 1 << 20, TENSOR_HEADER_BYTES_MAX as u64 + 1, u64::MAX - 7, u64::MAX] {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            let text = Matrix::from_safetensors(&bytes, "m.st").unwrap_err().to_string();
            assert!(text.contains(&format!("header of {length} bytes")), "{text}");
        }
    }

    #[test]
    fn cut_off_extended_and_changed_files_never_panic() {
        let header =
            format!("{{{},{}}}", tensor("embeddings", "F32", "[2,1]", 0, 8), tensor("b", "U8", "[1]", 8, 9));
        let bytes = file(&header, &[0; 9]);
        assert!(Matrix::from_safetensors(&bytes, "m.st").is_ok());
        for length in 0..bytes.len() {
            assert!(Matrix::from_safetensors(&bytes[..length], "m.st").is_err(), "{length} bytes");
        }
        assert!(Matrix::from_safetensors(&[bytes.clone(), vec![0]].concat(), "m.st").is_err());
        for (offset, change) in
            (0..bytes.len()).flat_map(|offset| (1..=255_u8).map(move |change| (offset, change)))
        {
            let mut changed = bytes.clone();
            changed[offset] ^= change;
            if let Ok(matrix) = Matrix::from_safetensors(&changed, "m.st") {
                let rows = matrix.rows();
                let _ = matrix.read_rows(0, rows, &mut Vec::new());
            }
        }
    }
}
