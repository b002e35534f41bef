//! What a directory says about the way from tokens to a text: the files of the sentence-transformers layout.

use serde::Deserialize;

use super::configuration::{BertPooling, read_json};
use super::error::BertError;

/// `modules.json`: the parts that a text passes through.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SentenceModules {
    /// Folder of the pooling's configuration.
    pub(super) pooling_folder: String,
    /// Whether vectors are divided by their norm at the end.
    pub(super) normalise: bool,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl SentenceModules {
    /// Reads a transformer, a pooling, and perhaps a normalisation, in this order.
    pub(super) fn from_json(bytes: &[u8], file: &str) -> Result<Self, BertError> {
        let modules: Vec<Module> = read_json(bytes, file)?;
        let kinds: Vec<&str> =
            modules.iter().map(|module| module.kind.rsplit('.').next().unwrap_or_default()).collect();
        let normalise = match kinds.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                return Err(BertError::Unsupported {
                    file: file.to_owned(),
                    field: "the list of modules".to_owned(),
                    found: format!("{kinds:?}"),
                    accepted: "Transformer, Pooling and perhaps Normalize".to_owned(),
                });
            }
        };
        let transformer = modules.first().map(|module| module.path.as_str()).unwrap_or_default();
        let pooling = modules.get(1).map(|module| module.path.as_str()).unwrap_or_default();
        // The name of one folder: a path could lead out of the directory.
        let plain = |name: &str| !name.is_empty() && name != ".." && !name.contains(['/', '\\', ':', '\0']);
        if !transformer.is_empty() || !plain(pooling) {
            return Err(BertError::Unsupported {
                file: file.to_owned(),
                field: "path".to_owned(),
                found: format!("{transformer:?} and {pooling:?}"),
                accepted: "a transformer in the directory itself and a pooling in a folder of it".to_owned(),
            });
        }
        Ok(Self { pooling_folder: pooling.to_owned(), normalise })
    }
}

/// The pooling that a `1_Pooling/config.json` chooses.
pub(super) fn pooling_from_json(bytes: &[u8], file: &str) -> Result<BertPooling, BertError> {
    let fields: serde_json::Map<String, serde_json::Value> = read_json(bytes, file)?;
    let chosen: Vec<&str> = fields
        .iter()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && value.as_bool() != Some(false))
        .map(|(name, _)| name.as_str())
        .collect();
    match chosen.as_slice() {
        ["pooling_mode_mean_tokens"] => Ok(BertPooling::Mean),
        ["pooling_mode_cls_token"] => Ok(BertPooling::First),
        _ => Err(BertError::Unsupported {
            file: file.to_owned(),
            field: "the pooling".to_owned(),
            found: format!("{chosen:?}"),
            accepted: "either pooling_mode_mean_tokens or pooling_mode_cls_token".to_owned(),
        }),
    }
}

#[derive(Deserialize)]
struct TransformerFile {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// The number of tokens that a `sentence_bert_config.json` says, if it does.
pub(super) fn tokens_max_from_json(bytes: &[u8], file: &str) -> Result<Option<usize>, BertError> {
    let read: TransformerFile = read_json(bytes, file)?;
    if read.do_lower_case {
        return Err(BertError::Unsupported {
            file: file.to_owned(),
            field: "do_lower_case".to_owned(),
            found: "true".to_owned(),
            accepted: "false (the tokenizer itself lowers letters)".to_owned(),
        });
    }
    Ok(read.max_seq_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(kinds: &[(&str, &str)]) -> Result<SentenceModules, BertError> {
        let list: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(index, (kind, path))| {
                serde_json::json!({"idx": index, "name": index.to_string(), "path": path,
                    "type": format!("sentence_transformers.models.{kind}")})
            })
            .collect();
        SentenceModules::from_json(serde_json::json!(list).to_string().as_bytes(), "modules.json")
    }

    #[test]
    fn modules_are_read_and_other_ones_refused() {
        let pooled = modules(&[("Transformer", ""), ("Pooling", "1_Pooling")]).unwrap();
        assert_eq!(pooled, SentenceModules { pooling_folder: "1_Pooling".to_owned(), normalise: false });
        let all = [("Transformer", ""), ("Pooling", "p"), ("Normalize", "2_Normalize")];
        assert!(modules(&all).unwrap().normalise);
        let dense = modules(&[("Transformer", ""), ("Pooling", "p"), ("Dense", "2_Dense")]).unwrap_err();
        assert!(dense.to_string().contains("Dense"), "{dense}");
        for path in ["", "..", "../x", "/etc", "a/b", "c:\\x", "a\0"] {
            let error = modules(&[("Transformer", ""), ("Pooling", path)]).unwrap_err();
            assert!(error.to_string().contains("path"), "{error}");
        }
        assert!(modules(&[("Transformer", "0_T"), ("Pooling", "p")]).is_err());
        assert!(modules(&[]).is_err());
        assert!(SentenceModules::from_json(b"{}", "modules.json").is_err());
    }

    #[test]
    fn one_known_pooling_is_read() {
        let read = |text: &str| pooling_from_json(text.as_bytes(), "1_Pooling/config.json");
        let mean = r#"{"word_embedding_dimension": 3, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(read(mean).unwrap(), BertPooling::Mean);
        assert_eq!(read(r#"{"pooling_mode_cls_token": true}"#).unwrap(), BertPooling::First);
        for text in [
            "{}",
            r#"{"pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": 1}"#,
            r#"{"pooling_mode_mean_sqrt_len_tokens": true}"#,
        ] {
            assert!(read(text).unwrap_err().to_string().contains("pooling_mode_mean_tokens"), "{text}");
        }
    }

    #[test]
    fn the_length_may_be_given_or_left_out() {
        let read = |text: &str| tokens_max_from_json(text.as_bytes(), "sentence_bert_config.json");
        assert_eq!(read(r#"{"max_seq_length": 256, "do_lower_case": false}"#).unwrap(), Some(256));
        assert_eq!(read(r#"{"max_seq_length": null}"#).unwrap(), None);
        assert!(read(r#"{"do_lower_case": true}"#).unwrap_err().to_string().contains("do_lower_case"));
        assert!(read(r#"{"max_seq_length": -1}"#).is_err());
    }
}
