//! Heads of several members, side by side.

use super::error::HeadError;
use super::model::Head;
use crate::base::{ByteReader, put_u32, put_u64};
use crate::encoder::gradient::{GradientRow, LayerTangents, QueryGradient, QueryGradientError};

/// The heads of a sketch column's members: they have the same classes and layers, and take the same embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSet {
    heads: Vec<Head>,
}

impl HeadSet {
    /// The heads of all members, in their order.
    ///
    /// # Errors
    /// There are none, or they differ in classes or layers.
    pub fn new(heads: Vec<Head>) -> Result<Self, HeadError> {
        let unlike = |reason: &str| HeadError::State { reason: reason.to_owned() };
        let first = heads.first().ok_or_else(|| unlike("there are no heads in it"))?;
        let shapes = |head: &Head| head.modules().iter().map(|module| module.shape()).collect::<Vec<_>>();
        let is_like = |head: &&Head| head.classes() == first.classes() && shapes(head) == shapes(first);
        if heads.iter().filter(is_like).count() == heads.len() {
            Ok(Self { heads })
        } else {
            Err(unlike("its heads differ in classes or layers"))
        }
    }

    /// The heads.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// All heads as bytes: their number, then each with its length before it.
    ///
    /// # Errors
    /// As [`Head::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadError> {
        let mut bytes = Vec::new();
        put_u32(&mut bytes, self.heads.len() as u32);
        for head in &self.heads {
            let own = head.to_bytes()?;
            put_u64(&mut bytes, own.len() as u64);
            bytes.extend(own);
        }
        Ok(bytes)
    }

    /// The heads that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeadError> {
        let cut_off = |_| HeadError::State { reason: "it is cut off".to_owned() };
        let mut reader = ByteReader::new(bytes);
        let count = reader.u32().map_err(cut_off)?;
        let mut heads = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(reader.u64().map_err(cut_off)?).unwrap_or(usize::MAX);
            heads.push(Head::from_bytes(reader.take(length).map_err(cut_off)?)?);
        }
        if reader.remaining() > 0 {
            return Err(HeadError::State { reason: "bytes follow its last head".to_owned() });
        }
        Self::new(heads)
    }
}

impl QueryGradient for HeadSet {
    fn width(&self) -> usize {
        self.heads.first().map_or(0, Head::width)
    }

    fn classes(&self) -> &[String] {
        self.heads.first().map(Head::classes).unwrap_or_default()
    }

    fn gradient(&self, embedding: &[f32], label: &str) -> Result<GradientRow, QueryGradientError> {
        let mut row = GradientRow::default();
        for (member, head) in self.heads.iter().enumerate() {
            let class = head.class_of(label).ok_or_else(|| QueryGradientError::Label {
                label: label.to_owned(),
                known: head.classes().join(", "),
            })?;
            let gradients = head.gradients(embedding, &[class]).map_err(|error| {
                QueryGradientError::Head { reason: format!("gives no gradient: {error}") }
            })?;
            for (layer, module) in gradients.modules.into_iter().enumerate() {
                row.values.extend(module.u);
                // The input of the first layer is the embedding, which all members share.
                if layer > 0 || member == 0 {
                    row.values.extend(module.v);
                }
            }
            row.own.extend(gradients.own);
        }
        Ok(row)
    }

    fn tangents(&self, member: usize, embeddings: &[f32]) -> Result<Vec<LayerTangents>, QueryGradientError> {
        let head = self.heads.get(member).ok_or_else(|| QueryGradientError::Head {
            reason: format!("has {} members, counted from 0, and not {member}", self.heads.len()),
        })?;
        head.tangents(embeddings)
            .map_err(|error| QueryGradientError::Head { reason: format!("cannot be applied: {error}") })
    }
}

#[cfg(test)]
mod tests {
    use super::super::configuration::HeadConfiguration;
    use super::*;

    fn head(weight: f32) -> Head {
        let configuration = HeadConfiguration { hidden: Some(2), ..HeadConfiguration::default() };
        let weights = vec![vec![weight; 2 * 4], vec![0.5, -0.25, 0.1, weight, 0.3, 0.2]];
        Head::new(vec!["a".into(), "b".into()], configuration, 3, weights).unwrap()
    }

    #[test]
    fn sets_come_back_and_damaged_ones_are_refused() {
        let set = HeadSet::new(vec![head(0.5), head(-0.25)]).unwrap();
        let bytes = set.to_bytes().unwrap();
        assert_eq!(HeadSet::from_bytes(&bytes).unwrap(), set);
        for length in 0..bytes.len() {
            assert!(HeadSet::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(HeadSet::from_bytes(&[bytes.clone(), vec![0]].concat()).is_err());
        assert!(HeadSet::new(Vec::new()).is_err());
    }

    #[test]
    fn the_input_of_the_first_layer_is_kept_once() {
        let set = HeadSet::new(vec![head(0.5), head(-0.25)]).unwrap();
        let row = set.gradient(&[1.0, 2.0, 3.0], "b").unwrap();
        // Twice u of both layers and v of the second, and once v of the first.
        assert_eq!(row.values.len(), 2 * (2 + 2 + 3) + 4);
        assert_eq!(row.values[2..6], [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(row.own.len(), 2);
        let error = set.gradient(&[1.0, 2.0, 3.0], "c").unwrap_err().to_string();
        assert!(error.contains("\"c\" is none of the classes, which are a, b"), "{error}");
    }
}
