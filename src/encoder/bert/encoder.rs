//! The learned encoder.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use candle_core::DType;

use super::super::{Device, EncodeError, Encoder, PreparedText};
use super::configuration::BertConfiguration;
use super::device::open_device;
use super::directory::{BertDirectory, shown};
use super::error::BertError;
use super::forward::{Forward, TensorForward};
use super::model::BertModel;
use super::state::BertState;
use super::tokenizer::BertTokenizer;
use super::weights::{BertWeightFiles, BertWeights};
use crate::base::Fingerprint;

/// The precision of products on a GPU. The processor computes in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BertPrecision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 11 of them the fraction.
    F16,
    /// 16 bits, 8 of them the fraction.
    Bf16,
}

/// The learned encoder: a BERT directory such as MiniLM, with mean pooling and perhaps a projector and normalisation.
///
/// A directory holds `config.json`, `tokenizer.json`, `model.safetensors`, perhaps `projector.safetensors` and
/// `vocab.txt`, and perhaps the files of sentence-transformers (`modules.json`, `1_Pooling/config.json`,
/// `sentence_bert_config.json`). The encoder's [`state`](Encoder::state) is all of it in one byte string, so that a store
/// opens without the directory.
///
/// ```
/// use ascribe::encoder::{BertEncoder, Encoder};
/// # let directory = std::path::Path::new("tests/fixtures/tiny-bert");
/// let encoder = BertEncoder::from_directory(directory)?;
/// let mut vectors = vec![0.0; 2 * encoder.width()];
/// encoder.encode(&["a red house", "a red house"], &mut vectors)?;
/// let (left, right) = vectors.split_at(encoder.width());
/// assert_eq!(left, right);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BertEncoder {
    state: BertState,
    weights: BertWeights,
    tokenizer: BertTokenizer,
    forward: Box<dyn Forward>,
}

impl BertEncoder {
    /// Opens the directory of a model, to compute on the processor.
    ///
    /// # Errors
    /// A file is missing or damaged, the model is of another kind, or its parts belong to different models.
    ///
    /// # Complexity
    /// Reads every byte of the files once for the fingerprint, and once more to check the weights.
    pub fn from_directory(directory: &Path) -> Result<Self, BertError> {
        let read = BertDirectory::read(directory)?;
        let tokenizer_file = shown(directory, "tokenizer.json");
        let tokenizer = BertTokenizer::open(&read.tokenizer, &read.configuration, &tokenizer_file)?;
        if let Some(words) = &read.word_list {
            tokenizer.check_word_list(words, &shown(directory, "vocab.txt"))?;
        }
        let (model, projector) =
            (shown(directory, "model.safetensors"), shown(directory, "projector.safetensors"));
        let files = BertWeightFiles { model: &model, projector: &projector };
        let weights = BertWeights::open(&read.configuration, &read.model, read.projector.as_ref(), files)?;
        let state = BertState::of(read.configuration, read.tokenizer, read.model, read.projector);
        Self::build(state, weights, tokenizer, Device::Cpu, BertPrecision::F32)
    }

    /// Opens the bytes that [`state`](Encoder::state) gave, joined. Weights are read from them where they lie; the
    /// fingerprint is taken as recorded.
    ///
    /// # Errors
    /// The bytes are damaged, or the device cannot be used.
    pub fn from_state(bytes: Bytes, device: Device) -> Result<Self, BertError> {
        let state = BertState::read(&bytes)?;
        let tokenizer = BertTokenizer::open(&state.tokenizer, &state.configuration, "stored tokenizer")?;
        let files = BertWeightFiles { model: "stored weights", projector: "stored projector" };
        let weights = BertWeights::open(&state.configuration, &state.model, state.projector.as_ref(), files)?;
        Self::build(state, weights, tokenizer, device, BertPrecision::F32)
    }

    /// The same encoder on another device, or in another precision there. On the processor `precision` is ignored.
    ///
    /// # Errors
    /// The device cannot be used, or refuses the memory.
    pub fn on_device(self, device: Device, precision: BertPrecision) -> Result<Self, BertError> {
        Self::build(self.state, self.weights, self.tokenizer, device, precision)
    }

    /// What the encoder computes.
    pub fn configuration(&self) -> &BertConfiguration {
        &self.state.configuration
    }

    /// The encoder's weights.
    pub fn weights(&self) -> &BertWeights {
        &self.weights
    }

    /// The encoder's tokenizer.
    pub fn tokenizer(&self) -> &BertTokenizer {
        &self.tokenizer
    }

    fn build(
        state: BertState,
        weights: BertWeights,
        tokenizer: BertTokenizer,
        device: Device,
        precision: BertPrecision,
    ) -> Result<Self, BertError> {
        let forward = open_forward(&state.configuration, &weights, device, precision)?;
        Ok(Self { state, weights, tokenizer, forward })
    }

    fn check_tokens<'a>(&self, text: &'a PreparedText) -> Result<&'a [u32], EncodeError> {
        let elsewhere = || EncodeError::PreparedElsewhere { encoder: self.name() };
        let tokens = text.as_tokens().ok_or_else(elsewhere)?;
        let configuration = &self.state.configuration;
        let known = |token: &u32| (*token as usize) < configuration.vocabulary_size;
        let fits = (1..=configuration.tokens_max).contains(&tokens.len());
        if fits && tokens.iter().all(known) { Ok(tokens) } else { Err(elsewhere()) }
    }

    fn failed(&self, reason: String) -> EncodeError {
        EncodeError::Failed { encoder: self.name(), reason }
    }
}

/// What computes on `device`.
fn open_forward(
    configuration: &BertConfiguration,
    weights: &BertWeights,
    device: Device,
    precision: BertPrecision,
) -> Result<Box<dyn Forward>, BertError> {
    let precision = match (device, precision) {
        (Device::Cpu, _) | (_, BertPrecision::F32) => DType::F32,
        (_, BertPrecision::F16) => DType::F16,
        (_, BertPrecision::Bf16) => DType::BF16,
    };
    let model = BertModel::fixed(configuration, weights, &open_device(device)?, precision)
        .map_err(|error| BertError::Arithmetic { reason: error.to_string() })?;
    Ok(Box::new(TensorForward::new(model)))
}

impl Encoder for BertEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.state.fingerprint
    }

    fn name(&self) -> String {
        format!("bert:{}", self.weights.width())
    }

    fn width(&self) -> usize {
        self.weights.width()
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn state(&self) -> Option<Vec<Bytes>> {
        Some(self.state.pieces())
    }

    fn prepare(&self, text: &str) -> Result<PreparedText, EncodeError> {
        let tokens = self.tokenizer.tokens(text).map_err(|reason| self.failed(reason))?;
        Ok(PreparedText::tokens(tokens))
    }

    fn encode_prepared(&self, texts: &[PreparedText], out: &mut [f32]) -> Result<(), EncodeError> {
        let needed = texts.len().saturating_mul(self.width());
        if out.len() != needed {
            let (encoder, texts, given) = (self.name(), texts.len(), out.len());
            return Err(EncodeError::OutputLength { encoder, texts, given, needed });
        }
        let tokens =
            texts.iter().map(|text| self.check_tokens(text)).collect::<Result<Vec<_>, EncodeError>>()?;
        self.forward.forward(&tokens, out).map_err(|reason| self.failed(reason))?;
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let text = at / self.width();
                Err(self.failed(format!("the vector of text {text} has a value that is not finite")))
            }
        }
    }

    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError> {
        let prepared =
            texts.iter().map(|text| self.prepare(text)).collect::<Result<Vec<_>, EncodeError>>()?;
        self.encode_prepared(&prepared, out)
    }
}

impl fmt::Debug for BertEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BertEncoder(width {}, {})", self.weights.width(), self.state.fingerprint.short())
    }
}
