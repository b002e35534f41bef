//! The files of an encoder directory.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bytes::Bytes;

use super::configuration::BertConfiguration;
use super::error::BertError;
use super::sentence::{SentenceModules, pooling_from_json, tokens_max_from_json};
use crate::base::limits::BERT_JSON_BYTES_MAX;
use crate::storage::FileMap;

/// What a directory holds; its large files are mapped.
pub(super) struct BertDirectory {
    pub(super) configuration: BertConfiguration,
    pub(super) tokenizer: Bytes,
    pub(super) word_list: Option<Bytes>,
    pub(super) model: Bytes,
    pub(super) projector: Option<Bytes>,
}

impl BertDirectory {
    pub(super) fn read(directory: &Path) -> Result<Self, BertError> {
        let configuration = read_configuration(directory)?;
        Ok(Self {
            configuration,
            tokenizer: read_small(directory, "tokenizer.json")?,
            word_list: optional(read_small(directory, "vocab.txt"), directory, "vocab.txt")?,
            model: map(directory, "model.safetensors")?,
            projector: optional(map(directory, "projector.safetensors"), directory, "projector.safetensors")?,
        })
    }
}

/// The path of a file, for messages.
pub(super) fn shown(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

fn read_configuration(directory: &Path) -> Result<BertConfiguration, BertError> {
    let path = |name: &str| shown(directory, name);
    let bytes = read_small(directory, "config.json")?;
    let mut configuration = BertConfiguration::from_config_json(&bytes, &path("config.json"))?;
    let modules = optional(read_small(directory, "modules.json"), directory, "modules.json")?;
    let Some(modules) = modules else { return Ok(configuration) };
    let modules = SentenceModules::from_json(&modules, &path("modules.json"))?;
    configuration.normalise = modules.normalise;
    let pooling = format!("{}/config.json", modules.pooling_folder);
    configuration.pooling = pooling_from_json(&read_small(directory, &pooling)?, &path(&pooling))?;
    let name = "sentence_bert_config.json";
    if let Some(bytes) = optional(read_small(directory, name), directory, name)?
        && let Some(tokens_max) = tokens_max_from_json(&bytes, &path(name))?
    {
        configuration.limit_tokens(tokens_max, &path(name))?;
    }
    Ok(configuration)
}

fn cannot_read(directory: &Path, name: &str, reason: String) -> BertError {
    BertError::File { file: shown(directory, name), reason }
}

fn read_small(directory: &Path, name: &str) -> Result<Bytes, BertError> {
    let refused = |error: std::io::Error| cannot_read(directory, name, error.to_string());
    let mut bytes = Vec::new();
    let file = File::open(directory.join(name)).map_err(refused)?;
    file.take(BERT_JSON_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() > BERT_JSON_BYTES_MAX {
        let reason = format!("it has more than {BERT_JSON_BYTES_MAX} bytes");
        return Err(cannot_read(directory, name, reason));
    }
    Ok(Bytes::from(bytes))
}

fn map(directory: &Path, name: &str) -> Result<Bytes, BertError> {
    let map = FileMap::open(&directory.join(name))
        .map_err(|error| cannot_read(directory, name, error.to_string()))?;
    Ok(Bytes::from_owner(map))
}

/// `None` if there is no such file.
fn optional(
    read: Result<Bytes, BertError>,
    directory: &Path,
    name: &str,
) -> Result<Option<Bytes>, BertError> {
    match (read, directory.join(name).symlink_metadata()) {
        (Err(_), Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        (read, _) => read.map(Some),
    }
}
