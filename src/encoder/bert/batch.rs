//! Texts of one forward pass.

use candle_core::{DType, Device, Result, Tensor};

/// Texts given as tokens, padded to the longest.
///
/// ```
/// use ascribe::encoder::BertBatch;
/// let batch = BertBatch::new(&[&[101, 7, 102], &[101, 102]], &candle_core::Device::Cpu)?;
/// assert_eq!((batch.texts(), batch.length()), (2, 3));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BertBatch {
    /// `[texts * length]`.
    tokens: Tensor,
    /// `[texts, length]`, 1 for a token and 0 for padding; absent if nothing is padded.
    present: Option<Tensor>,
    texts: usize,
    length: usize,
}

/// What is added to the attention scores of padding: exp of it is 0 in every precision, and it is finite in each.
const MASKED: f64 = -30_000.0;

impl BertBatch {
    /// A batch of `texts`, each of at least one token.
    ///
    /// # Errors
    /// There is no text, or one without tokens; the device refuses the memory.
    pub fn new(texts: &[&[u32]], device: &Device) -> Result<Self> {
        let length = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        if texts.iter().any(|text| text.is_empty()) || length == 0 {
            return Err(candle_core::Error::msg("a batch needs at least one text, and a text one token"));
        }
        let padded = |text: &&[u32]| {
            let padding = std::iter::repeat_n(0, length - text.len());
            text.iter().copied().chain(padding).collect::<Vec<_>>()
        };
        let tokens = Tensor::from_vec(texts.iter().flat_map(padded).collect(), texts.len() * length, device)?;
        let present = if texts.iter().all(|text| text.len() == length) {
            None
        } else {
            let marks =
                texts.iter().flat_map(|text| (0..length).map(|at| f32::from(u8::from(at < text.len()))));
            Some(Tensor::from_vec(marks.collect(), (texts.len(), length), device)?)
        };
        Ok(Self { tokens, present, texts: texts.len(), length })
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.texts
    }

    /// Tokens of the longest text.
    pub fn length(&self) -> usize {
        self.length
    }

    pub(super) fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// What is added to attention scores, `[texts, 1, 1, length]`; `None` if nothing is padded.
    pub(super) fn attention_mask(&self, precision: DType) -> Result<Option<Tensor>> {
        let Some(present) = &self.present else { return Ok(None) };
        let mask = present.affine(-MASKED, MASKED)?.to_dtype(precision)?;
        mask.reshape((self.texts, 1, 1, self.length)).map(Some)
    }

    /// Mean over the tokens of each text: from `[texts, length, width]` to `[texts, width]`.
    pub(super) fn mean(&self, tokens: &Tensor) -> Result<Tensor> {
        let Some(present) = &self.present else { return tokens.mean(1) };
        let sums = tokens.broadcast_mul(&present.unsqueeze(2)?)?.sum(1)?;
        sums.broadcast_div(&present.sum_keepdim(1)?)
    }
}
