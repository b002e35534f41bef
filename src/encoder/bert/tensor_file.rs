//! Tensors in safetensors bytes, found by name and checked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::configuration::read_json;
use super::error::BertError;
use crate::base::ElementType;
use crate::base::limits::TENSOR_HEADER_BYTES_MAX;
use crate::kernels::{decode, first_non_finite};

/// Bytes of the length that stands before the header.
const LENGTH_BYTES: usize = 8;

/// The member of the header that is no tensor.
const METADATA_NAME: &str = "__metadata__";

/// One tensor of a model: finite values in row-major order, still as they are stored.
#[derive(Clone)]
pub struct BertTensor {
    name: String,
    shape: Vec<usize>,
    element: ElementType,
    bytes: Bytes,
}

impl BertTensor {
    /// Name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lengths of its one or two dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All values, widened to f32 exactly.
    ///
    /// # Complexity
    /// Linear in the number of values, which are copied.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.read(0, &mut values);
        values
    }

    /// Fills `out` with the values from `first` on, widened to f32 exactly; what would lie behind the last is not
    /// changed. Of a matrix, row i begins at i times its columns.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        let size = self.element.size_bytes();
        let values = self.bytes.get(first.saturating_mul(size)..).unwrap_or_default();
        let count = out.len().min(values.len() / size);
        // The lengths agree by construction.
        let _ = decode(self.element, &values[..count * size], &mut out[..count]);
    }
}

impl fmt::Debug for BertTensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BertTensor({} {:?} {})", self.name, self.shape, self.element)
    }
}

/// A safetensors file whose header was read.
pub(super) struct TensorFile {
    file: String,
    tensors: BTreeMap<String, TensorInfo>,
    data: Bytes,
}

impl TensorFile {
    /// Reads the header of `bytes`, a whole safetensors file, which is called `file` in messages.
    pub(super) fn open(bytes: &Bytes, file: &str) -> Result<Self, BertError> {
        let invalid = |reason: String| BertError::TensorFile { file: file.to_owned(), reason };
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(invalid("it ends before its header".to_owned()));
        };
        let length = u64::from_le_bytes(*length);
        if length > TENSOR_HEADER_BYTES_MAX as u64 {
            let reason = format!("a header of {length} bytes, at most {TENSOR_HEADER_BYTES_MAX} are allowed");
            return Err(invalid(reason));
        }
        let length = length as usize;
        let Some(header) = rest.get(..length) else {
            return Err(invalid(format!("it ends inside its header of {length} bytes")));
        };
        let Header(tensors) = read_json(header, file).map_err(|error| match error {
            BertError::Json { reason, .. } => invalid(reason),
            other => other,
        })?;
        let data = bytes.slice(LENGTH_BYTES + length..);
        let end = tensors.values().map(|tensor| tensor.data_offsets.1).max().unwrap_or(0);
        if end != data.len() {
            return Err(invalid(format!(
                "its tensors end at byte {end} of the data, which has {}",
                data.len()
            )));
        }
        Ok(Self { file: file.to_owned(), tensors, data })
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name`, if its shape is `expected`, its type one that this encoder knows, and its values finite.
    pub(super) fn tensor(&self, name: &str, expected: &[usize]) -> Result<BertTensor, BertError> {
        let (file, tensor) = (self.file.clone(), name.to_owned());
        let Some(found) = self.tensors.get(name) else {
            return Err(BertError::TensorMissing { file, tensor });
        };
        if found.shape != expected {
            let (found, expected) = (found.shape.clone(), expected.to_vec());
            return Err(BertError::TensorShape { file, tensor, found, expected });
        }
        let element = match found.dtype {
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            other => return Err(BertError::TensorType { file, tensor, found: format!("{other:?}") }),
        };
        let (start, end) = found.data_offsets;
        let size = expected.iter().try_fold(element.size_bytes(), |size, length| size.checked_mul(*length));
        if start > end || end > self.data.len() || size != Some(end - start) {
            let reason =
                format!("tensor {name:?} lies at bytes {start} to {end}, which is not its shape's size");
            return Err(BertError::TensorFile { file, reason });
        }
        let bytes = self.data.slice(start..end);
        if let Some(index) = first_non_finite(element, &bytes) {
            return Err(BertError::TensorNotFinite { file, tensor, index });
        }
        Ok(BertTensor { name: tensor, shape: expected.to_vec(), element, bytes })
    }

    /// Shape of the tensor `name`, if there is one.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }
}

/// Tensors by name; a name that stands twice is an error.
struct Header(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_NAME {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match tensors.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(map.next_value::<TensorInfo>()?);
                }
                Entry::Occupied(place) => {
                    return Err(A::Error::custom(format!("tensor {:?} stands there twice", place.key())));
                }
            }
        }
        Ok(Header(tensors))
    }
}
