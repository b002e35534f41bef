//! Weights of a model, laid out for the forward pass on the processor.

use super::configuration::{BertActivation, BertConfiguration, BertPooling};
use super::tensor_file::BertTensor;
use super::weights::{BertLayerWeights, BertLinear, BertNorm, BertWeights};
use crate::kernels::Panels;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Projection {
    pub(super) weights: Panels,
    /// A value for each column of the weights.
    pub(super) bias: Vec<f32>,
}

/// Gain and shift of a layer normalisation.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) gain: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct PackedLayer {
    /// Queries, keys and values in one product: hidden to three times hidden.
    pub(super) mixed: Projection,
    pub(super) attention_output: Projection,
    pub(super) attention_norm: Norm,
    /// Hidden to intermediate.
    pub(super) intermediate: Projection,
    /// Intermediate to hidden.
    pub(super) output: Projection,
    pub(super) output_norm: Norm,
}

/// All weights, and what is computed with them.
#[derive(Debug)]
pub(super) struct PackedWeights {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) epsilon: f32,
    pub(super) activation: BertActivation,
    pub(super) pooling: BertPooling,
    pub(super) normalised: bool,
    /// Left where it lies: the largest tensor, of which few rows are read.
    pub(super) word_embeddings: BertTensor,
    /// A row of `hidden` values a position.
    pub(super) position_embeddings: Vec<f32>,
    /// The embedding of the first segment: a text is one segment.
    pub(super) type_embedding: Vec<f32>,
    pub(super) embedding_norm: Norm,
    pub(super) layers: Vec<PackedLayer>,
    pub(super) projector: Option<Projection>,
}

impl PackedWeights {
    /// Packs the weights of a model: 4 bytes a value, the embeddings of words excepted.
    pub(super) fn new(configuration: &BertConfiguration, weights: &BertWeights) -> Self {
        let hidden = configuration.hidden_size;
        let mut type_embedding = vec![0.0; hidden];
        weights.token_type_embeddings().read(0, &mut type_embedding);
        Self {
            hidden,
            heads: configuration.heads,
            epsilon: configuration.layer_norm_epsilon as f32,
            activation: configuration.activation,
            pooling: configuration.pooling,
            normalised: configuration.normalise,
            word_embeddings: weights.word_embeddings().clone(),
            position_embeddings: weights.position_embeddings().to_vec(),
            type_embedding,
            embedding_norm: norm(weights.embedding_norm()),
            layers: weights.layers().iter().map(layer).collect(),
            projector: weights.projector().map(|projector| projection(&[projector])),
        }
    }

    /// Values of a vector.
    pub(super) fn width(&self) -> usize {
        self.projector.as_ref().map_or(self.hidden, |projector| projector.weights.columns())
    }

    /// Values of a head.
    pub(super) fn head_size(&self) -> usize {
        self.hidden / self.heads
    }
}

fn layer(weights: &BertLayerWeights) -> PackedLayer {
    PackedLayer {
        mixed: projection(&[&weights.query, &weights.key, &weights.value]),
        attention_output: projection(&[&weights.attention_output]),
        attention_norm: norm(&weights.attention_norm),
        intermediate: projection(&[&weights.intermediate]),
        output: projection(&[&weights.output]),
        output_norm: norm(&weights.output_norm),
    }
}

/// Layers of the same input as one, their outputs side by side.
fn projection(layers: &[&BertLinear]) -> Projection {
    let weights: Vec<f32> = layers.iter().flat_map(|layer| layer.weight.to_vec()).collect();
    let bias: Vec<f32> = layers.iter().flat_map(|layer| layer.bias.to_vec()).collect();
    let depth = weights.len() / bias.len().max(1);
    Projection { weights: Panels::of_weights(&weights, bias.len(), depth), bias }
}

fn norm(weights: &BertNorm) -> Norm {
    Norm { gain: weights.gain.to_vec(), shift: weights.shift.to_vec() }
}
