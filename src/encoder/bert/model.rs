//! The model of tensors: differentiable from its vectors back to every weight.

use candle_core::{D, DType, Device, Result, Tensor, Var};

use super::batch::BertBatch;
use super::configuration::{BertConfiguration, BertPooling};
use super::functions::BertFunctions;
use super::parameters::{BertTrained, Layer, Linear, Norm, Parameters};
use super::weights::BertWeights;

/// A BERT encoder over tensors, on a processor or a GPU. Every operation has a gradient, unless the model was made for
/// inference on a GPU.
///
/// # References
/// - Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019, section 3.
/// - Reimers and Gurevych, "Sentence-BERT", 2019, section 3 (pooling).
/// - Sun et al., "AirRep", arXiv 2505.18513 (projector behind mean pooling).
///
/// ```
/// use ascribe::encoder::{BertBatch, BertEncoder, BertModel, BertTrained};
/// # let directory = std::path::Path::new("tests/fixtures/tiny-bert");
/// let encoder = BertEncoder::from_directory(directory)?;
/// let (configuration, weights) = (encoder.configuration(), encoder.weights());
/// let cpu = candle_core::Device::Cpu;
/// let (model, variables) = BertModel::trainable(configuration, weights, &cpu, BertTrained::Projector)?;
/// let vectors = model.forward(&BertBatch::new(&[&[2, 7, 3]], &cpu)?)?;
/// assert_eq!((vectors.dims(), variables.len()), (&[1, 32][..], 2));
/// let gradients = vectors.sum_all()?.backward()?;
/// assert!(variables.iter().all(|(_, variable)| gradients.get(variable).is_some()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BertModel {
    configuration: BertConfiguration,
    parameters: Parameters,
    functions: BertFunctions,
    precision: DType,
    width: usize,
}

impl BertModel {
    /// A model of fixed weights for inference, in `precision` (F32, F16 or BF16; on the processor F32).
    ///
    /// # Errors
    /// The device refuses the memory.
    pub fn fixed(
        configuration: &BertConfiguration,
        weights: &BertWeights,
        device: &Device,
        precision: DType,
    ) -> Result<Self> {
        let functions = match (device, precision) {
            (Device::Cpu, DType::F32) => BertFunctions::Fused,
            (Device::Cpu, _) => BertFunctions::Composed,
            _ => BertFunctions::Inference,
        };
        let parameters = Parameters::fixed(weights, device, precision)?;
        Ok(Self {
            configuration: configuration.clone(),
            parameters,
            functions,
            precision,
            width: weights.width(),
        })
    }

    /// A model in f32 of which `trained` may change, and its variables by the names that their tensors have in the
    /// file. A model without projector gets one that changes nothing at first.
    ///
    /// # Errors
    /// The device refuses the memory.
    pub fn trainable(
        configuration: &BertConfiguration,
        weights: &BertWeights,
        device: &Device,
        trained: BertTrained,
    ) -> Result<(Self, Vec<(String, Var)>)> {
        let functions =
            if matches!(device, Device::Cpu) { BertFunctions::Fused } else { BertFunctions::Composed };
        let (parameters, variables) = Parameters::trainable(weights, device, trained)?;
        let (configuration, width) = (configuration.clone(), weights.width());
        Ok((Self { configuration, parameters, functions, precision: DType::F32, width }, variables))
    }

    /// The same model with every function put together from the library's differentiable operations: the slower form,
    /// by which the other is checked.
    pub fn composed(&self) -> Self {
        Self { functions: BertFunctions::Composed, ..self.clone() }
    }

    /// Values of a text's vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vectors of a batch, `[texts, width]`, in f32.
    ///
    /// # Errors
    /// A token is not in the vocabulary, a text is longer than the table of positions, or the device failed.
    pub fn forward(&self, batch: &BertBatch) -> Result<Tensor> {
        let mut tokens = self.embed(batch)?;
        let mask = batch.attention_mask(self.precision)?;
        for layer in &self.parameters.layers {
            tokens = self.layer(layer, &tokens, batch, mask.as_ref())?;
        }
        let shape = (batch.texts(), batch.length(), self.configuration.hidden_size);
        let tokens = tokens.reshape(shape)?.to_dtype(DType::F32)?;
        let pooled = match self.configuration.pooling {
            BertPooling::Mean => batch.mean(&tokens)?,
            BertPooling::First => tokens.narrow(1, 0, 1)?.squeeze(1)?,
        };
        let projected = match &self.parameters.projector {
            Some(projector) => linear(projector, &pooled)?,
            None => pooled,
        };
        if self.configuration.normalise {
            let squares = projected.sqr()?.sum_keepdim(D::Minus1)?;
            // A text of norm 0 stays 0.
            return projected.broadcast_div(&(squares + 1e-24)?.sqrt()?);
        }
        Ok(projected)
    }

    /// The vectors of `texts`, given as tokens, one after the other.
    pub(super) fn encode(&self, texts: &[&[u32]]) -> Result<Vec<f32>> {
        let batch = BertBatch::new(texts, self.parameters.device())?;
        self.forward(&batch)?.flatten_all()?.to_vec1()
    }

    pub(super) fn is_on_gpu(&self) -> bool {
        !matches!(self.parameters.device(), Device::Cpu)
    }

    /// One row a token: the sum of its three embeddings, normalised.
    fn embed(&self, batch: &BertBatch) -> Result<Tensor> {
        let (texts, length, hidden) = (batch.texts(), batch.length(), self.configuration.hidden_size);
        let words = self.parameters.words.index_select(batch.tokens(), 0)?;
        let positions = self.parameters.positions.narrow(0, 0, length)?;
        let places = positions.broadcast_add(&self.parameters.token_types.narrow(0, 0, 1)?)?;
        let sum = words.reshape((texts, length, hidden))?.broadcast_add(&places)?;
        self.norm(&self.parameters.embedding_norm, &sum.reshape((texts * length, hidden))?)
    }

    fn layer(
        &self,
        layer: &Layer,
        tokens: &Tensor,
        batch: &BertBatch,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let attended = linear(&layer.attention_output, &self.attend(layer, tokens, batch, mask)?)?;
        let tokens = self.norm(&layer.attention_norm, &(attended + tokens)?)?;
        let inner = linear(&layer.intermediate, &tokens)?;
        let inner = self.functions.activate(self.configuration.activation, &inner)?;
        self.norm(&layer.output_norm, &(linear(&layer.output, &inner)? + &tokens)?)
    }

    /// Attention of all heads: softmax(Q K^T / sqrt(head size) + mask) V, heads laid end to end.
    fn attend(
        &self,
        layer: &Layer,
        tokens: &Tensor,
        batch: &BertBatch,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (hidden, heads) = (self.configuration.hidden_size, self.configuration.heads);
        let head_size = self.configuration.head_size();
        let all = linear(&layer.query_key_value()?, tokens)?;
        let part = |number: usize| {
            let part = all.narrow(1, number * hidden, hidden)?;
            part.reshape((batch.texts(), batch.length(), heads, head_size))?.transpose(1, 2)?.contiguous()
        };
        let query = (part(0)? * (1.0 / (head_size as f64).sqrt()))?;
        let mut scores = query.matmul(&part(1)?.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let weights = self.functions.softmax(&scores)?;
        let attended = weights.matmul(&part(2)?)?.transpose(1, 2)?;
        attended.reshape((batch.texts() * batch.length(), hidden))
    }

    fn norm(&self, norm: &Norm, values: &Tensor) -> Result<Tensor> {
        let epsilon = self.configuration.layer_norm_epsilon;
        self.functions.layer_norm(values, &norm.gain, &norm.shift, epsilon)
    }
}

/// x W^T + b, a row of x an example.
fn linear(layer: &Linear, values: &Tensor) -> Result<Tensor> {
    values.matmul(&layer.weight.t()?)?.broadcast_add(&layer.bias)
}
