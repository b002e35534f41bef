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
    fingerprint: Option<String>,
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
        let fingerprint = set.metadata("fingerprint").map(str::to_owned);
        Ok(Self { name: name.to_owned(), train_keys, query_keys, subsets, outputs, fingerprint })
    }

    /// What the retrained models said.
    pub fn outputs(&self) -> &RetrainingTruth {
        &self.outputs
    }

    /// What identifies the rows, queries and settings that were measured; `None` where the file does not say.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
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

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    /// What stands in a file: three subsets of four rows, and two queries.
    #[derive(Clone)]
    struct Parts {
        train_keys: &'static str,
        query_keys: &'static str,
        fingerprint: &'static str,
        subsets: (Dtype, Vec<usize>, Vec<u8>),
        outputs: (Dtype, Vec<usize>, Vec<f32>),
    }

    fn parts() -> Parts {
        Parts {
            train_keys: r#"["a", "b", "c", "d"]"#,
            query_keys: r#"["q", "p"]"#,
            fingerprint: "",
            subsets: (Dtype::U8, vec![3, 4], vec![1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1]),
            outputs: (Dtype::F32, vec![3, 2], vec![1.0, -1.0, 2.0, -2.0, 3.0, -3.0]),
        }
    }

    fn read(parts: &Parts) -> Result<TruthFile, String> {
        let outputs: Vec<u8> = parts.outputs.2.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors = [
            ("subsets", TensorView::new(parts.subsets.0, parts.subsets.1.clone(), &parts.subsets.2).unwrap()),
            ("outputs", TensorView::new(parts.outputs.0, parts.outputs.1.clone(), &outputs).unwrap()),
        ];
        let metadata = [
            ("train_keys", parts.train_keys),
            ("query_keys", parts.query_keys),
            ("fingerprint", parts.fingerprint),
        ];
        let metadata = metadata.into_iter().filter(|(_, text)| !text.is_empty());
        let metadata = metadata.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
        TruthFile::new(&bytes, "t.safetensors").map_err(|error| error.to_string())
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn outputs_of_one_or_several_seeds_are_read() {
        let one = read(&parts()).unwrap();
        assert_eq!((one.outputs().subsets(), one.outputs().seeds(), one.outputs().queries()), (3, 1, 2));
        assert_eq!(one.outputs().query(1), [-1.0, -2.0, -3.0]);
        assert_eq!((one.query_keys(), one.fingerprint()), (&keys(&["q", "p"])[..], None));
        let mut several = parts();
        several.fingerprint = "ab12";
        several.outputs = (Dtype::F32, vec![3, 2, 2], (0..12).map(|value| value as f32).collect());
        let several = read(&several).unwrap();
        assert_eq!(several.fingerprint(), Some("ab12"));
        assert_eq!((several.outputs().subsets(), several.outputs().seeds()), (3, 2));
        // The mean over the seeds of each subset.
        assert_eq!(several.outputs().query(0), [1.0, 5.0, 9.0]);
    }

    #[test]
    fn subsets_and_queries_are_matched_by_key() {
        let truth = read(&parts()).unwrap();
        // Another order, and a row that the truth does not know.
        let masks = truth.subsets_over(&keys(&["d", "new", "b", "a", "c"])).unwrap();
        assert_eq!(masks, [0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0]);
        let error = truth.subsets_over(&keys(&["a", "b", "d"])).unwrap_err().to_string();
        assert!(error.contains("t.safetensors") && error.contains("\"c\" is not in the store"), "{error}");
        assert_eq!(truth.queries_among(&keys(&["p", "other", "q"])).unwrap(), [2, 0]);
        let error = truth.queries_among(&keys(&["p"])).unwrap_err().to_string();
        assert!(error.contains("\"q\"") && error.contains("--queries"), "{error}");
    }

    #[test]
    fn what_is_no_truth_is_refused_with_the_reason() {
        type Change = fn(&mut Parts);
        let cases: [(Change, &str); 11] = [
            (|parts| parts.train_keys = "", "no \"train_keys\""),
            (|parts| parts.query_keys = "", "no \"query_keys\""),
            (|parts| parts.train_keys = "[1, 2, 3, 4]", "its train_keys"),
            (|parts| parts.train_keys = "[\"a\"]", "shape [3, 4] for 1 keys"),
            (|parts| parts.query_keys = "[\"q\"]", "shape [3, 2] for 3 subsets and 1 queries"),
            (|parts| parts.subsets.0 = Dtype::I8, "\"subsets\" of the right type"),
            (|parts| parts.outputs.0 = Dtype::I32, "\"outputs\" of the right type"),
            (|parts| parts.subsets.1 = vec![12], "shape [12]"),
            (|parts| parts.outputs.1 = vec![2, 3], "shape [2, 3]"),
            (|parts| parts.subsets.2[6] = 2, "subset 1 holds another value"),
            (|parts| parts.outputs.2[4] = f32::NAN, "is NaN"),
        ];
        for (change, said) in cases {
            let mut changed = parts();
            change(&mut changed);
            let error = read(&changed).expect_err(said);
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
        assert!(TruthFile::new(b"no tensors", "t").is_err());
    }
}
