//! A head as bytes: a safetensors file with the weight and the bias of each layer, and the rest as JSON in its metadata.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::configuration::HeadConfiguration;
use super::error::HeadError;
use super::model::Head;
use crate::base::limits::TENSOR_HEADER_BYTES_MAX;

/// The member of the metadata that holds the JSON.
const METADATA_NAME: &str = "ascribe.head";

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    width: usize,
    classes: Vec<String>,
    configuration: HeadConfiguration,
}

impl Head {
    /// The head as a safetensors file: `head.0.weight` `[outputs, inputs]` and `head.0.bias` `[outputs]`, with hidden units
    /// `head.2.weight` and `head.2.bias` too, all F32; classes and configuration are JSON in the metadata. The same
    /// head always gives the same bytes.
    ///
    /// # Errors
    /// The labels are together longer than the header of such a file may be.
    ///
    /// ```
    /// use ascribe::encoder::{Head, HeadConfiguration};
    /// let logistic = HeadConfiguration { hidden: None, ..HeadConfiguration::default() };
    /// let head = Head::new(vec!["a".into(), "b".into()], logistic, 1, vec![vec![1.0, 2.0, 3.0, 4.0]])?;
    /// assert_eq!(Head::from_bytes(&head.to_bytes()?)?, head);
    /// # Ok::<(), ascribe::encoder::HeadError>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadError> {
        let state = State {
            version: VERSION,
            width: self.width(),
            classes: self.classes().to_vec(),
            configuration: self.configuration().clone(),
        };
        let mut parts = Vec::with_capacity(2 * self.modules().len());
        for module in self.modules() {
            let shape = module.shape();
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for row in module.weights().chunks_exact(shape.inputs + 1) {
                let (inputs, last) = row.split_at(shape.inputs);
                weight.extend(inputs.iter().flat_map(|value| value.to_le_bytes()));
                bias.extend(last.iter().flat_map(|value| value.to_le_bytes()));
            }
            parts.push((format!("{}.weight", shape.name), vec![shape.outputs, shape.inputs], weight));
            parts.push((format!("{}.bias", shape.name), vec![shape.outputs], bias));
        }
        let views = parts.iter().map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
        });
        let metadata = HashMap::from([(METADATA_NAME.to_owned(), serde_json::json!(state).to_string())]);
        let views = views.collect::<Result<Vec<_>, _>>();
        views.and_then(|views| safetensors::serialize(views, Some(metadata))).map_err(damaged)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. The bytes may be anything: no more memory is asked for than a small
    /// multiple of their number.
    ///
    /// # Errors
    /// The bytes are no such file, a number is out of its range, a tensor is missing, superfluous or of another shape or
    /// type, or a weight is not finite.
    ///
    /// # Complexity
    /// Linear in the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeadError> {
        let length = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
        if length > TENSOR_HEADER_BYTES_MAX as u64 {
            return Err(damaged(format!("a header of {length} bytes, more than {TENSOR_HEADER_BYTES_MAX}")));
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_NAME));
        let json = json.ok_or_else(|| damaged(format!("no {METADATA_NAME:?} in its metadata")))?;
        let state: State = serde_json::from_str(json).map_err(damaged)?;
        if state.version != VERSION {
            return Err(damaged(format!("version {}, and this build reads {VERSION}", state.version)));
        }
        let shapes = state.configuration.shapes(state.width, state.classes.len())?;
        if tensors.len() != 2 * shapes.len() {
            return Err(damaged(format!("{} tensors, expected {}", tensors.len(), 2 * shapes.len())));
        }
        let mut weights = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let weight = values(&tensors, &format!("{}.weight", shape.name), &[shape.outputs, shape.inputs])?;
            let bias = values(&tensors, &format!("{}.bias", shape.name), &[shape.outputs])?;
            let mut joined = Vec::with_capacity(weight.len() + bias.len());
            for (row, bias) in weight.chunks_exact(shape.inputs).zip(&bias) {
                joined.extend_from_slice(row);
                joined.push(*bias);
            }
            weights.push(joined);
        }
        Self::new(state.classes, state.configuration, state.width, weights)
    }
}

/// The values of the tensor `name`, which must be F32 and of this shape.
fn values(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, HeadError> {
    let tensor = tensors.tensor(name).map_err(damaged)?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (found, length) = (tensor.dtype(), tensor.shape());
        return Err(damaged(format!("{name} is {found:?} {length:?}, expected F32 {shape:?}")));
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

fn damaged(reason: impl ToString) -> HeadError {
    HeadError::State { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    fn head(hidden: Option<usize>) -> Head {
        let configuration = HeadConfiguration { hidden, ..HeadConfiguration::default() };
        let mut stream = RandomStream::new(9);
        let shapes = configuration.shapes(3, 2).unwrap();
        let draw = |count: usize| (0..count).map(|_| stream.unit() as f32).collect();
        let weights = shapes.iter().map(|shape| shape.weights()).map(draw).collect();
        Head::new(vec!["no".to_owned(), "yes \"é\"".to_owned()], configuration, 3, weights).unwrap()
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        for hidden in [None, Some(5)] {
            let head = head(hidden);
            let bytes = head.to_bytes().unwrap();
            assert_eq!(bytes, head.to_bytes().unwrap());
            let back = Head::from_bytes(&bytes).unwrap();
            assert_eq!(back, head);
            assert_eq!(back.class_of("yes \"é\""), Some(1));
            assert_eq!(back.class_of("maybe"), None);
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = head(Some(5)).to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Head::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Head::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    /// A flipped bit in a weight may give another head; anything else must be an error.
    #[test]
    fn what_is_flipped_is_refused_or_another_head() {
        let head = head(Some(2));
        let bytes = head.to_bytes().unwrap();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let mut refused = 0;
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[place] ^= 1 << bit;
                match Head::from_bytes(&broken) {
                    Ok(other) => assert!(other != head || place < header, "{place} {bit}"),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > header * 4, "{refused} of {header}");
    }

    #[test]
    fn values_and_shapes_that_no_head_has_are_refused() {
        let text = |from: &str, to: &str| {
            let bytes = head(Some(2)).to_bytes().unwrap();
            let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect("it is there");
            [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
        };
        for (from, to) in [
            ("\\\"width\\\":3", "\\\"width\\\":4"),
            ("\\\"width\\\":3", "\\\"width\\\":0"),
            ("\\\"version\\\":1", "\\\"version\\\":2"),
            ("\\\"hidden\\\":2", "\\\"hidden\\\":9"),
            ("head.2.bias", "head.4.bias"),
            ("[2,3]", "[3,2]"),
        ] {
            let found = Head::from_bytes(&text(from, to));
            assert!(found.is_err(), "{from} {to}");
        }
        let mut bytes = head(None).to_bytes().unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(matches!(Head::from_bytes(&bytes), Err(HeadError::WeightNotFinite { .. })));
    }
}
