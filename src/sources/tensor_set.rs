//! Named tensors of a safetensors file, row by row.

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::SourceError;
use super::error::shortened;
use super::tensors::{check_header, invalid};
use crate::base::ElementType;

/// How the values of a [`Tensor`] stand in the file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorElement {
    /// Floating-point values of a type that columns have.
    Real(ElementType),
    /// Signed 64-bit integers.
    I64,
    /// Unsigned bytes.
    U8,
}

/// The tensors of a safetensors file, over bytes that somebody else holds.
///
/// ```
/// use ascribe::sources::TensorSet;
/// # fn main() -> Result<(), ascribe::sources::SourceError> {
/// let header = r#"{"__metadata__":{"made":"by hand"},"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
/// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
/// bytes.extend(header.bytes());
/// bytes.extend([0.5_f32, -2.0].into_iter().flat_map(f32::to_le_bytes));
/// let tensors = TensorSet::new(&bytes, "file.safetensors")?;
/// assert_eq!(tensors.metadata("made"), Some("by hand"));
/// let mut values = [0.0];
/// tensors.tensor("x").unwrap().read_row(1, &mut values);
/// assert_eq!(values, [-2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorSet<'a> {
    name: String,
    tensors: SafeTensors<'a>,
    metadata: Vec<(String, String)>,
}

/// One tensor; its first dimension counts rows.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    name: String,
    element: TensorElement,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> TensorSet<'a> {
    /// The tensors in `bytes`, a whole safetensors file, which is called `name` in messages.
    ///
    /// # Errors
    /// The file is not as the format demands, cut off or added to.
    ///
    /// # Complexity
    /// Parses the header; memory a small multiple of its length, which is bounded.
    pub fn new(bytes: &'a [u8], name: &str) -> Result<Self, SourceError> {
        check_header(bytes, name)?;
        let refused = |error: safetensors::SafeTensorError| invalid(name, 0, error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(refused)?;
        let metadata = header.metadata().as_ref();
        let mut metadata: Vec<(String, String)> = metadata
            .map(|entries| entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default();
        metadata.sort();
        let tensors = SafeTensors::deserialize(bytes).map_err(refused)?;
        Ok(Self { name: name.to_owned(), tensors, metadata })
    }

    /// Name of the file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A text that stands beside the tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names = self.tensors.names();
        names.sort_unstable();
        names
    }

    /// The tensor of this name; `None` if there is none, or none of a type that is read.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        let view = self.tensors.tensor(name).ok()?;
        let element = element_of(&view)?;
        Some(Tensor {
            name: format!("{}, tensor {:?}", self.name, shortened(name)),
            element,
            shape: view.shape().to_vec(),
            data: view.data(),
        })
    }
}

fn element_of(view: &TensorView<'_>) -> Option<TensorElement> {
    match view.dtype() {
        Dtype::F32 => Some(TensorElement::Real(ElementType::F32)),
        Dtype::F16 => Some(TensorElement::Real(ElementType::F16)),
        Dtype::BF16 => Some(TensorElement::Real(ElementType::BF16)),
        Dtype::I64 => Some(TensorElement::I64),
        Dtype::U8 => Some(TensorElement::U8),
        _ => None,
    }
}

impl Tensor<'_> {
    /// File and name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its values stand in the file.
    pub fn element(&self) -> TensorElement {
        self.element
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Rows: the first dimension, 1 where it has none.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values of one row: the product of all other dimensions.
    pub fn width(&self) -> usize {
        // The product fits: that of all dimensions is the length of the data.
        self.shape.iter().skip(1).product()
    }

    fn row(&self, row: usize, value_bytes: usize) -> &[u8] {
        let bytes = self.width() * value_bytes;
        self.data.get(row * bytes..(row + 1) * bytes).unwrap_or_default()
    }

    /// Reads row `row` (from 0) as f32 into `out`, which has [`width`](Self::width) places. Whether values are finite is for
    /// the caller to check. Rows that are not there, and tensors of integers, leave `out` as it is.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let TensorElement::Real(element) = self.element else { return };
        let data = self.row(row, element.size_bytes());
        match element {
            ElementType::F32 => fill(out, data, f32::from_le_bytes),
            ElementType::F16 => fill(out, data, |value| f16::from_le_bytes(value).to_f32()),
            ElementType::BF16 => fill(out, data, |value| bf16::from_le_bytes(value).to_f32()),
            ElementType::I8 => {}
        }
    }

    /// Reads row `row` of integers into `out`, as [`read_row`](Self::read_row) reads other values.
    pub fn read_integers(&self, row: usize, out: &mut [i64]) {
        match self.element {
            TensorElement::I64 => fill(out, self.row(row, 8), i64::from_le_bytes),
            TensorElement::U8 => fill(out, self.row(row, 1), |[value]: [u8; 1]| i64::from(value)),
            TensorElement::Real(_) => {}
        }
    }
}

fn fill<T, const SIZE: usize>(out: &mut [T], data: &[u8], value: impl Fn([u8; SIZE]) -> T) {
    let (stored, _) = data.as_chunks::<SIZE>();
    for (to, &from) in out.iter_mut().zip(stored) {
        *to = value(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn rows_of_every_type_are_read() {
        let header = r#"{"a":{"dtype":"F16","shape":[2,1,2],"data_offsets":[0,8]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},
            "c":{"dtype":"I64","shape":[1,2],"data_offsets":[10,26]},
            "d":{"dtype":"U8","shape":[2,1],"data_offsets":[26,28]},
            "e":{"dtype":"F64","shape":[1],"data_offsets":[28,36]}}"#;
        let mut data: Vec<u8> =
            [1.0, -2.0, 0.5, 4.0].iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        data.extend(bf16::from_f32(3.0).to_le_bytes());
        data.extend([-1_i64, 1 << 40].into_iter().flat_map(i64::to_le_bytes));
        data.extend([7, 1]);
        data.extend(1.0_f64.to_le_bytes());
        let bytes = file(header, &data);
        let tensors = TensorSet::new(&bytes, "t").unwrap();
        assert_eq!(tensors.names(), ["a", "b", "c", "d", "e"]);
        let a = tensors.tensor("a").unwrap();
        assert_eq!((a.rows(), a.width(), a.shape()), (2, 2, &[2, 1, 2][..]));
        let mut values = [9.0; 2];
        a.read_row(1, &mut values);
        assert_eq!(values, [0.5, 4.0]);
        a.read_row(2, &mut values);
        assert_eq!(values, [0.5, 4.0]);
        let mut integers = [0; 2];
        tensors.tensor("c").unwrap().read_integers(0, &mut integers);
        assert_eq!(integers, [-1, 1 << 40]);
        let mut byte = [0];
        tensors.tensor("d").unwrap().read_integers(1, &mut byte);
        assert_eq!(byte, [1]);
        assert!(tensors.tensor("e").is_none() && tensors.tensor("f").is_none());
    }

    #[test]
    fn cut_off_files_are_refused() {
        let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#;
        let bytes = file(header, &[0; 4]);
        assert_eq!(TensorSet::new(&bytes, "t").unwrap().metadata("k"), Some("v"));
        for length in 0..bytes.len() {
            assert!(TensorSet::new(&bytes[..length], "t").is_err(), "{length} bytes");
        }
    }
}
