//! Truth files: what retrained models said, with the keys of rows and queries.

use std::collections::HashMap;

use thiserror::Error;

use super::retraining_truth::{RetrainingTruth, TruthError};
use crate::sources::{SourceError, Tensor, TensorElement, TensorSet};

/// A file that is no truth file, or one of other rows.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TruthFileError {
    /// Not a safetensors file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something in it.
    #[error("{input}: {reason}")]
    Content {
        /// The file.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// Its outputs.
    #[error(transparent)]
    Truth(#[from] TruthError),
}

/// A truth file.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthFile {
    name: String,
    /// Keys of the rows that subsets are of.
    train_keys: Vec<String>,
    /// Keys of the queries.
    query_keys: Vec<String>,
    /// [subsets, rows], 1 where a row was trained on.
    subsets: Vec<u8>,
    outputs: RetrainingTruth,
}

impl TruthFile {
    /// Reads the truth in the bytes of a file, which is called `name` in messages.
    ///
    /// # Errors
    /// It is no truth file.
    ///
    /// # Complexity
    /// O(bytes).
    pub fn new(bytes: &[u8], name: &str) -> Result<Self, TruthFileError> {
        let refuse = |reason: String| TruthFileError::Content { input: name.to_owned(), reason };
        let set = TensorSet::new(bytes, name)?;
        let keys = |what: &str| -> Result<Vec<String>, TruthFileError> {
            let text =
                set.metadata(what).ok_or_else(|| refuse(format!("its __metadata__ has no {what:?}")))?;
            serde_json::from_str(text).map_err(|error| refuse(format!("its {what}: {error}")))
        };
        let (train_keys, query_keys) = (keys("train_keys")?, keys("query_keys")?);
        let tensor = |what: &str, element| -> Result<Tensor<'_>, TruthFileError> {
            let found = set.tensor(what).filter(|tensor| tensor.element() == element);
            found.ok_or_else(|| refuse(format!("it has no tensor {what:?} of the right type")))
        };
        let masks = tensor("subsets", TensorElement::U8)?;
        let values = tensor("outputs", TensorElement::Real(crate::base::ElementType::F32))?;
        let count = masks.rows();
        if masks.shape() != [count, train_keys.len()] {
            let shape = masks.shape();
            return Err(refuse(format!("subsets have shape {shape:?} for {} keys", train_keys.len())));
        }
        let runs = match *values.shape() {
            [subsets, queries] if (subsets, queries) == (count, query_keys.len()) => 1,
            [subsets, runs, queries] if (subsets, queries) == (count, query_keys.len()) => runs,
            ref shape => {
                return Err(refuse(format!(
                    "outputs have shape {shape:?} for {count} subsets and {} queries",
                    query_keys.len()
                )));
            }
        };
        let mut row = vec![0; train_keys.len()];
        let mut subsets = Vec::with_capacity(count * train_keys.len());
        for subset in 0..count {
            masks.read_integers(subset, &mut row);
            if row.iter().any(|value| !(0..=1).contains(value)) {
                return Err(refuse(format!("subset {subset} holds another value than 0 and 1")));
            }
            subsets.extend(row.iter().map(|value| *value as u8));
        }
        let mut line = vec![0.0; values.width()];
        let mut outputs = Vec::with_capacity(count * values.width());
        for subset in 0..count {
            values.read_row(subset, &mut line);
            outputs.extend(line.iter().map(|value| f64::from(*value)));
        }
        let outputs = RetrainingTruth::new(outputs, count, runs, query_keys.len())?;
        Ok(Self { name: name.to_owned(), train_keys, query_keys, subsets, outputs })
    }

    /// What the retrained models said.
    pub fn outputs(&self) -> &RetrainingTruth {
        &self.outputs
    }

    /// Keys of the queries, in the order of the outputs.
    pub fn query_keys(&self) -> &[String] {
        &self.query_keys
    }

    /// The subsets as masks over other rows: [subsets, `keys.len()`]. Rows that the truth does not know are in none.
    ///
    /// # Errors
    /// A row of the truth is not among the keys: scores of it would be missing from every subset that has it.
    pub fn subsets_over(&self, keys: &[String]) -> Result<Vec<u8>, TruthFileError> {
        let places: HashMap<&str, usize> =
            keys.iter().enumerate().map(|(place, key)| (key.as_str(), place)).collect();
        let mut known = Vec::with_capacity(self.train_keys.len());
        for key in &self.train_keys {
            let place = places.get(key.as_str()).ok_or_else(|| TruthFileError::Content {
                input: self.name.clone(),
                reason: format!("its row {key:?} is not in the store: the truth was measured on other rows"),
            })?;
            known.push(*place);
        }
        let count = self.outputs.subsets();
        let mut masks = vec![0; count * keys.len()];
        for (subset, own) in self.subsets.chunks(self.train_keys.len().max(1)).enumerate() {
            for (place, value) in known.iter().zip(own) {
                masks[subset * keys.len() + place] = *value;
            }
        }
        Ok(masks)
    }

    /// For each query of the truth its number among `keys`.
    ///
    /// # Errors
    /// A query is not among them.
    pub fn queries_among(&self, keys: &[String]) -> Result<Vec<usize>, TruthFileError> {
        let places: HashMap<&str, usize> =
            keys.iter().enumerate().map(|(place, key)| (key.as_str(), place)).collect();
        let find = |key: &String| {
            places.get(key.as_str()).copied().ok_or_else(|| TruthFileError::Content {
                input: self.name.clone(),
                reason: format!("its query {key:?} is not among those given with --queries"),
            })
        };
        self.query_keys.iter().map(find).collect()
    }
}
