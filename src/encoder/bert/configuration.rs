//! What a model computes: its shapes and functions.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::error::BertError;
use crate::base::limits::{
    BERT_HIDDEN_SIZE_MAX, BERT_INTERMEDIATE_SIZE_MAX, BERT_LAYERS_MAX, BERT_POSITIONS_MAX,
    BERT_POSITIONS_MIN, BERT_TOKEN_TYPES_MAX, BERT_VOCABULARY_SIZE_MAX,
};

/// The function between the two halves of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BertActivation {
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// How the vectors of tokens become one of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BertPooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
}

/// All that decides what an encoder computes, beside weights and tokenizer. Every number is within its limit and agrees
/// with the others.
///
/// ```
/// use ascribe::encoder::{BertConfiguration, BertPooling};
/// let json = r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
///     "intermediate_size": 128, "vocab_size": 90, "max_position_embeddings": 64, "hidden_act": "gelu"}"#;
/// let configuration = BertConfiguration::from_config_json(json.as_bytes(), "config.json")?;
/// assert_eq!((configuration.head_size(), configuration.pooling), (8, BertPooling::Mean));
/// let longer = json.replace("64", "1000000");
/// assert!(BertConfiguration::from_config_json(longer.as_bytes(), "config.json").is_err());
/// # Ok::<(), ascribe::encoder::BertError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BertConfiguration {
    /// Values of a token; a multiple of `heads`.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Values of a token between the two halves of a feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the table of tokens.
    pub vocabulary_size: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// Rows of the table of segments, of which the first is used.
    pub token_types: usize,
    /// What is added to the variance in layer normalisation.
    pub layer_norm_epsilon: f64,
    /// The function of the feed-forward layers.
    pub activation: BertActivation,
    /// From tokens to the text.
    pub pooling: BertPooling,
    /// Whether vectors are divided by their Euclidean norm.
    pub normalise: bool,
    /// Tokens of a text that are looked at, those at both ends included; at most `positions`.
    pub tokens_max: usize,
}

/// The fields of `config.json` that matter.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
}

// What the library that writes such files takes where a field is left out.
fn two() -> usize {
    2
}

fn default_epsilon() -> f64 {
    1e-12
}

fn gelu() -> String {
    "gelu".to_owned()
}

impl BertConfiguration {
    /// Reads `config.json` of a model directory, which is called `file` in messages: mean pooling, no normalisation, as
    /// many tokens as there are positions.
    ///
    /// # Errors
    /// The file is no JSON object with these fields, is of a model that computes something else, or a number is out of
    /// range.
    pub fn from_config_json(bytes: &[u8], file: &str) -> Result<Self, BertError> {
        let read: ConfigFile = read_json(bytes, file)?;
        let unsupported = |field: &str, found: &str, accepted: &str| BertError::Unsupported {
            file: file.to_owned(),
            field: field.to_owned(),
            found: format!("{found:?}"),
            accepted: accepted.to_owned(),
        };
        if read.model_type != "bert" {
            return Err(unsupported("model_type", &read.model_type, "\"bert\""));
        }
        let positions = read.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(unsupported("position_embedding_type", positions, "\"absolute\""));
        }
        for (field, value) in
            [("is_decoder", read.is_decoder), ("add_cross_attention", read.add_cross_attention)]
        {
            if value {
                return Err(unsupported(field, "true", "false"));
            }
        }
        let activation = match read.hidden_act.as_str() {
            "gelu" => BertActivation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => BertActivation::GeluTanh,
            "relu" => BertActivation::Relu,
            other => return Err(unsupported("hidden_act", other, "\"gelu\", \"gelu_new\" and \"relu\"")),
        };
        let configuration = Self {
            hidden_size: read.hidden_size,
            layers: read.num_hidden_layers,
            heads: read.num_attention_heads,
            intermediate_size: read.intermediate_size,
            vocabulary_size: read.vocab_size,
            positions: read.max_position_embeddings,
            token_types: read.type_vocab_size,
            layer_norm_epsilon: read.layer_norm_eps,
            activation,
            pooling: BertPooling::Mean,
            normalise: false,
            tokens_max: read.max_position_embeddings,
        };
        configuration.check(file)?;
        Ok(configuration)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// The bytes are no such JSON, or a number is out of range.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self, BertError> {
        let configuration: Self = read_json(bytes, file)?;
        configuration.check(file)?;
        Ok(configuration)
    }

    /// All fields as JSON, always the same bytes for the same fields.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Values of a token in one head of attention.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Lowers `tokens_max` to `limit`, which the file `file` says.
    pub(super) fn limit_tokens(&mut self, limit: usize, file: &str) -> Result<(), BertError> {
        self.tokens_max = limit.min(self.positions);
        self.check(file)
    }

    fn check(&self, file: &str) -> Result<(), BertError> {
        let refused = |field: &'static str, found: String, accepted: String| BertError::Number {
            file: file.to_owned(),
            field,
            found,
            accepted,
        };
        let ranges: [(&'static str, usize, RangeInclusive<usize>); 8] = [
            ("hidden_size", self.hidden_size, 1..=BERT_HIDDEN_SIZE_MAX),
            ("num_hidden_layers", self.layers, 1..=BERT_LAYERS_MAX),
            ("num_attention_heads", self.heads, 1..=self.hidden_size.max(1)),
            ("intermediate_size", self.intermediate_size, 1..=BERT_INTERMEDIATE_SIZE_MAX),
            ("vocab_size", self.vocabulary_size, BERT_POSITIONS_MIN..=BERT_VOCABULARY_SIZE_MAX),
            ("max_position_embeddings", self.positions, BERT_POSITIONS_MIN..=BERT_POSITIONS_MAX),
            ("type_vocab_size", self.token_types, 1..=BERT_TOKEN_TYPES_MAX),
            ("max_seq_length", self.tokens_max, BERT_POSITIONS_MIN..=self.positions.max(BERT_POSITIONS_MIN)),
        ];
        for (field, value, range) in ranges {
            if !range.contains(&value) {
                let accepted = format!("from {} to {}", range.start(), range.end());
                return Err(refused(field, value.to_string(), accepted));
            }
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            let accepted = format!("a multiple of num_attention_heads, {}", self.heads);
            return Err(refused("hidden_size", self.hidden_size.to_string(), accepted));
        }
        // Smaller than f32 can hold would be a division by zero for a token of equal values.
        if !(1e-30..=1.0).contains(&self.layer_norm_epsilon) {
            let found = self.layer_norm_epsilon.to_string();
            return Err(refused("layer_norm_eps", found, "from 1e-30 to 1".to_owned()));
        }
        Ok(())
    }
}

/// Parses JSON that is called `file` in messages.
pub(super) fn read_json<'de, T: Deserialize<'de>>(bytes: &'de [u8], file: &str) -> Result<T, BertError> {
    serde_json::from_slice(bytes)
        .map_err(|error| BertError::Json { file: file.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Value {
        json!({"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
            "intermediate_size": 1536, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "hidden_act": "gelu", "position_embedding_type": "absolute", "use_cache": true})
    }

    fn read(value: &Value) -> Result<BertConfiguration, BertError> {
        BertConfiguration::from_config_json(value.to_string().as_bytes(), "config.json")
    }

    #[test]
    fn fields_are_read_and_others_ignored() {
        let configuration = read(&sample()).unwrap();
        assert_eq!((configuration.hidden_size, configuration.layers, configuration.heads), (384, 6, 12));
        assert_eq!((configuration.positions, configuration.tokens_max), (512, 512));
        assert_eq!((configuration.head_size(), configuration.vocabulary_size), (32, 30522));
        assert_eq!((configuration.intermediate_size, configuration.token_types), (1536, 2));
        assert_eq!((configuration.activation, configuration.normalise), (BertActivation::Gelu, false));
        assert_eq!(configuration.layer_norm_epsilon, 1e-12);
    }

    #[test]
    fn another_model_is_refused_with_the_field() {
        for (field, value) in [
            ("model_type", json!("roberta")),
            ("hidden_act", json!("silu")),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("add_cross_attention", json!(true)),
            ("hidden_size", json!(0)),
            ("hidden_size", json!(385)),
            ("hidden_size", json!(1_u64 << 40)),
            ("num_hidden_layers", json!(0)),
            ("num_hidden_layers", json!(129)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(385)),
            ("intermediate_size", json!(0)),
            ("vocab_size", json!(u64::MAX)),
            ("vocab_size", json!(2)),
            ("max_position_embeddings", json!(2)),
            ("max_position_embeddings", json!(8193)),
            ("type_vocab_size", json!(0)),
            ("layer_norm_eps", json!(0.0)),
            ("layer_norm_eps", json!(1e300)),
            ("layer_norm_eps", json!(-1e-12)),
        ] {
            let mut changed = sample();
            changed[field] = value.clone();
            let message = read(&changed).unwrap_err().to_string();
            assert!(message.starts_with("config.json: ") && message.contains(field), "{message}");
        }
        for field in ["model_type", "hidden_size", "vocab_size", "max_position_embeddings"] {
            let mut changed = sample();
            changed.as_object_mut().unwrap().remove(field);
            let message = read(&changed).unwrap_err().to_string();
            assert!(message.contains(&format!("missing field `{field}`")), "{message}");
        }
        for field in ["hidden_size", "num_attention_heads", "layer_norm_eps", "hidden_act"] {
            let mut changed = sample();
            changed[field] = json!([]);
            assert!(matches!(read(&changed), Err(BertError::Json { .. })), "{field}");
        }
    }

    #[test]
    fn json_reads_back_and_a_change_of_it_is_refused_or_another_configuration() {
        let mut configuration = read(&sample()).unwrap();
        configuration.pooling = BertPooling::First;
        configuration.normalise = true;
        configuration.tokens_max = 256;
        let json = configuration.to_json();
        assert_eq!(BertConfiguration::from_json(json.as_bytes(), "state").unwrap(), configuration);
        let mut bytes = json.into_bytes();
        for at in 0..bytes.len() {
            assert!(BertConfiguration::from_json(&bytes[..at], "state").is_err(), "{at}");
            bytes[at] ^= 1;
            if let Ok(read) = BertConfiguration::from_json(&bytes, "state") {
                assert_ne!(read, configuration, "{at}");
            }
            bytes[at] ^= 1;
        }
    }
}
