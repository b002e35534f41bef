//! The weights of a model, each tensor by its role.

use bytes::Bytes;

use super::configuration::BertConfiguration;
use super::error::BertError;
use super::tensor_file::{BertTensor, TensorFile};
use crate::base::limits::EMBEDDING_WIDTH_MAX;

/// A linear layer: y = W x + b.
#[derive(Clone, Debug)]
pub struct BertLinear {
    /// W, `[outputs, inputs]`.
    pub weight: BertTensor,
    /// b, `[outputs]`.
    pub bias: BertTensor,
}

/// A layer normalisation: y = (x - mean) / sqrt(variance + epsilon) * gain + shift.
#[derive(Clone, Debug)]
pub struct BertNorm {
    /// `[hidden_size]`.
    pub gain: BertTensor,
    /// `[hidden_size]`.
    pub shift: BertTensor,
}

/// One layer: attention, then a feed-forward network, each added to its input and normalised.
#[derive(Clone, Debug)]
pub struct BertLayerWeights {
    /// `[hidden_size, hidden_size]`; head h has the outputs from h times the head's size on.
    pub query: BertLinear,
    /// As `query`.
    pub key: BertLinear,
    /// As `query`.
    pub value: BertLinear,
    /// `[hidden_size, hidden_size]`, behind the heads laid end to end.
    pub attention_output: BertLinear,
    /// Behind attention and its input.
    pub attention_norm: BertNorm,
    /// `[intermediate_size, hidden_size]`.
    pub intermediate: BertLinear,
    /// `[hidden_size, intermediate_size]`.
    pub output: BertLinear,
    /// Behind the feed-forward network and its input.
    pub output_norm: BertNorm,
}

/// All weights of a model, each of the shape that the configuration calls for, and finite.
#[derive(Clone, Debug)]
pub struct BertWeights {
    word_embeddings: BertTensor,
    position_embeddings: BertTensor,
    token_type_embeddings: BertTensor,
    embedding_norm: BertNorm,
    layers: Vec<BertLayerWeights>,
    projector: Option<BertLinear>,
    width: usize,
}

impl BertWeights {
    /// Finds every tensor in `model`, the bytes of a `model.safetensors`, and the projector there or in `projector`,
    /// the bytes of a `projector.safetensors`. Names may have the prefix `bert.`; other tensors are ignored.
    ///
    /// # Errors
    /// A file is no safetensors file; a tensor is missing, of another shape or type, or holds a value that is not
    /// finite; there are two projectors.
    ///
    /// # Complexity
    /// Reads every value once; copies none.
    pub fn open(
        configuration: &BertConfiguration,
        model: &Bytes,
        projector: Option<&Bytes>,
        files: BertWeightFiles<'_>,
    ) -> Result<Self, BertError> {
        let file = TensorFile::open(model, files.model)?;
        let prefix = if file.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let named = Named { file: &file, prefix };
        let hidden = configuration.hidden_size;
        let table =
            |name: &str, rows: usize| named.tensor(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let layers = (0..configuration.layers).map(|number| named.layer(configuration, number));
        let projector = match projector {
            None => find_projector(&file, hidden, files.model)?,
            Some(_) if file.has("projector.weight") => {
                let reason = format!("it has a projector, and {} has another", files.projector);
                return Err(BertError::TensorFile { file: files.model.to_owned(), reason });
            }
            Some(bytes) => {
                let other = TensorFile::open(bytes, files.projector)?;
                let found = find_projector(&other, hidden, files.projector)?;
                let (file, tensor) = (files.projector.to_owned(), "projector.weight".to_owned());
                Some(found.ok_or(BertError::TensorMissing { file, tensor })?)
            }
        };
        Ok(Self {
            word_embeddings: table("word_embeddings", configuration.vocabulary_size)?,
            position_embeddings: table("position_embeddings", configuration.positions)?,
            token_type_embeddings: table("token_type_embeddings", configuration.token_types)?,
            embedding_norm: named.norm("embeddings.LayerNorm", hidden)?,
            layers: layers.collect::<Result<_, _>>()?,
            width: projector.as_ref().map_or(hidden, |projector| projector.bias.shape()[0]),
            projector,
        })
    }

    /// `[vocabulary_size, hidden_size]`.
    pub fn word_embeddings(&self) -> &BertTensor {
        &self.word_embeddings
    }

    /// `[positions, hidden_size]`.
    pub fn position_embeddings(&self) -> &BertTensor {
        &self.position_embeddings
    }

    /// `[token_types, hidden_size]`, of which the first row is used.
    pub fn token_type_embeddings(&self) -> &BertTensor {
        &self.token_type_embeddings
    }

    /// Behind the sum of the three embeddings of a token.
    pub fn embedding_norm(&self) -> &BertNorm {
        &self.embedding_norm
    }

    /// The layers, in the order in which a text passes them.
    pub fn layers(&self) -> &[BertLayerWeights] {
        &self.layers
    }

    /// `[width, hidden_size]`, behind pooling, if the model has one.
    pub fn projector(&self) -> Option<&BertLinear> {
        self.projector.as_ref()
    }

    /// Values of a text's vector: outputs of the projector, or else `hidden_size`.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// What the files of the weights are called in messages.
#[derive(Clone, Copy, Debug)]
pub struct BertWeightFiles<'a> {
    /// The file of the model.
    pub model: &'a str,
    /// The file of the projector, if it has its own.
    pub projector: &'a str,
}

fn find_projector(file: &TensorFile, hidden: usize, name: &str) -> Result<Option<BertLinear>, BertError> {
    let Some(shape) = file.shape("projector.weight") else { return Ok(None) };
    let width = shape.first().copied().unwrap_or(0);
    if !(1..=EMBEDDING_WIDTH_MAX).contains(&width) {
        let reason =
            format!("tensor \"projector.weight\" has {width} rows, 1 to {EMBEDDING_WIDTH_MAX} are allowed");
        return Err(BertError::TensorFile { file: name.to_owned(), reason });
    }
    let weight = file.tensor("projector.weight", &[width, hidden])?;
    let bias = file.tensor("projector.bias", &[width])?;
    Ok(Some(BertLinear { weight, bias }))
}

/// Tensors of a file whose names have a prefix.
struct Named<'a> {
    file: &'a TensorFile,
    prefix: &'static str,
}

impl Named<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<BertTensor, BertError> {
        self.file.tensor(&format!("{}{name}", self.prefix), shape)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<BertLinear, BertError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(BertLinear { weight, bias: self.tensor(&format!("{name}.bias"), &[outputs])? })
    }

    /// Models that were first trained with TensorFlow call gain and shift `gamma` and `beta`.
    fn norm(&self, name: &str, hidden: usize) -> Result<BertNorm, BertError> {
        let old = self.file.has(&format!("{}{name}.gamma", self.prefix));
        let (gain, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let gain = self.tensor(&format!("{name}.{gain}"), &[hidden])?;
        Ok(BertNorm { gain, shift: self.tensor(&format!("{name}.{shift}"), &[hidden])? })
    }

    fn layer(&self, configuration: &BertConfiguration, number: usize) -> Result<BertLayerWeights, BertError> {
        let (hidden, intermediate) = (configuration.hidden_size, configuration.intermediate_size);
        let named = |name: &str| format!("encoder.layer.{number}.{name}");
        Ok(BertLayerWeights {
            query: self.linear(&named("attention.self.query"), hidden, hidden)?,
            key: self.linear(&named("attention.self.key"), hidden, hidden)?,
            value: self.linear(&named("attention.self.value"), hidden, hidden)?,
            attention_output: self.linear(&named("attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&named("attention.output.LayerNorm"), hidden)?,
            intermediate: self.linear(&named("intermediate.dense"), intermediate, hidden)?,
            output: self.linear(&named("output.dense"), hidden, intermediate)?,
            output_norm: self.norm(&named("output.LayerNorm"), hidden)?,
        })
    }
}
