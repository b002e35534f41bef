//! The weights of a model as tensors, fixed or variable.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::tensor_file::BertTensor;
use super::weights::{BertLayerWeights, BertLinear, BertNorm, BertWeights};

/// Which weights of a model training may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BertTrained {
    /// The projector.
    Projector,
    /// The projector and this many layers, the last ones; all where it has fewer.
    LastLayers(usize),
    /// Everything but the table of words, whose gradient would be as large as the table at each step.
    AllButWords,
    /// Everything.
    All,
}

#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[outputs, inputs]`.
    pub(super) weight: Tensor,
    /// `[outputs]`.
    pub(super) bias: Tensor,
}

#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub(super) gain: Tensor,
    pub(super) shift: Tensor,
}

#[derive(Clone, Debug)]
pub(super) struct Layer {
    inputs: Inputs,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) intermediate: Linear,
    pub(super) output: Linear,
    pub(super) output_norm: Norm,
}

/// Query, key and value, for one product.
#[derive(Clone, Debug)]
enum Inputs {
    /// Laid end to end once.
    Joined(Linear),
    /// Variables, to be laid end to end at each step.
    Apart([Linear; 3]),
}

impl Layer {
    /// Query, key and value laid end to end, `[3 hidden_size, hidden_size]`.
    pub(super) fn query_key_value(&self) -> Result<Linear> {
        match &self.inputs {
            Inputs::Joined(linear) => Ok(linear.clone()),
            Inputs::Apart(parts) => join(parts),
        }
    }
}

fn join([query, key, value]: &[Linear; 3]) -> Result<Linear> {
    let weight = Tensor::cat(&[&query.weight, &key.weight, &value.weight], 0)?;
    Ok(Linear { weight, bias: Tensor::cat(&[&query.bias, &key.bias, &value.bias], 0)? })
}

#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub(super) words: Tensor,
    pub(super) positions: Tensor,
    pub(super) token_types: Tensor,
    pub(super) embedding_norm: Norm,
    pub(super) layers: Vec<Layer>,
    /// In f32, as pooling.
    pub(super) projector: Option<Linear>,
}

impl Parameters {
    pub(super) fn fixed(weights: &BertWeights, device: &Device, precision: DType) -> Result<Self> {
        let mut builder = Builder { device, precision, variables: Vec::new() };
        builder.parameters(weights, |_| false)
    }

    /// The parameters and the variables among them, by the names of their tensors.
    pub(super) fn trainable(
        weights: &BertWeights,
        device: &Device,
        trained: BertTrained,
    ) -> Result<(Self, Vec<(String, Var)>)> {
        let layers = weights.layers().len();
        let mut builder = Builder { device, precision: DType::F32, variables: Vec::new() };
        let trains = |part: Part| match (trained, part) {
            (_, Part::Projector) | (BertTrained::All, _) => true,
            (BertTrained::Projector, _) => false,
            (BertTrained::LastLayers(count), Part::Layer(number)) => number >= layers.saturating_sub(count),
            (BertTrained::LastLayers(_), _) => false,
            (BertTrained::AllButWords, part) => part != Part::Words,
        };
        let mut parameters = builder.parameters(weights, trains)?;
        if parameters.projector.is_none() {
            let width = weights.width();
            let weight = builder.variable("projector.weight", &Tensor::eye(width, DType::F32, device)?)?;
            let bias = builder.variable("projector.bias", &Tensor::zeros(width, DType::F32, device)?)?;
            parameters.projector = Some(Linear { weight, bias });
        }
        Ok((parameters, builder.variables))
    }

    pub(super) fn device(&self) -> &Device {
        self.words.device()
    }
}

/// A part of the model that trains or does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Words,
    Embeddings,
    Layer(usize),
    Projector,
}

struct Builder<'a> {
    device: &'a Device,
    precision: DType,
    variables: Vec<(String, Var)>,
}

impl Builder<'_> {
    fn parameters(&mut self, weights: &BertWeights, trains: impl Fn(Part) -> bool) -> Result<Parameters> {
        let embeddings = trains(Part::Embeddings);
        let parts = weights.layers().iter().enumerate();
        Ok(Parameters {
            words: self.tensor(weights.word_embeddings(), trains(Part::Words))?,
            positions: self.tensor(weights.position_embeddings(), embeddings)?,
            token_types: self.tensor(weights.token_type_embeddings(), embeddings)?,
            embedding_norm: self.norm(weights.embedding_norm(), embeddings)?,
            layers: parts
                .map(|(number, layer)| self.layer(layer, trains(Part::Layer(number))))
                .collect::<Result<_>>()?,
            projector: weights
                .projector()
                .map(|projector| self.projector(projector, trains(Part::Projector)))
                .transpose()?,
        })
    }

    fn layer(&mut self, layer: &BertLayerWeights, trains: bool) -> Result<Layer> {
        let parts = [
            self.linear(&layer.query, trains)?,
            self.linear(&layer.key, trains)?,
            self.linear(&layer.value, trains)?,
        ];
        Ok(Layer {
            inputs: if trains { Inputs::Apart(parts) } else { Inputs::Joined(join(&parts)?) },
            attention_output: self.linear(&layer.attention_output, trains)?,
            attention_norm: self.norm(&layer.attention_norm, trains)?,
            intermediate: self.linear(&layer.intermediate, trains)?,
            output: self.linear(&layer.output, trains)?,
            output_norm: self.norm(&layer.output_norm, trains)?,
        })
    }

    fn linear(&mut self, linear: &BertLinear, trains: bool) -> Result<Linear> {
        Ok(Linear { weight: self.tensor(&linear.weight, trains)?, bias: self.tensor(&linear.bias, trains)? })
    }

    fn projector(&mut self, projector: &BertLinear, trains: bool) -> Result<Linear> {
        let precision = std::mem::replace(&mut self.precision, DType::F32);
        let projector = self.linear(projector, trains);
        self.precision = precision;
        projector
    }

    fn norm(&mut self, norm: &BertNorm, trains: bool) -> Result<Norm> {
        Ok(Norm { gain: self.tensor(&norm.gain, trains)?, shift: self.tensor(&norm.shift, trains)? })
    }

    fn tensor(&mut self, tensor: &BertTensor, trains: bool) -> Result<Tensor> {
        let values = Tensor::from_vec(tensor.to_vec(), tensor.shape(), self.device)?;
        if trains { self.variable(tensor.name(), &values) } else { values.to_dtype(self.precision) }
    }

    fn variable(&mut self, name: &str, values: &Tensor) -> Result<Tensor> {
        let variable = Var::from_tensor(values)?;
        let tensor = variable.as_tensor().clone();
        self.variables.push((name.to_owned(), variable));
        Ok(tensor)
    }
}
