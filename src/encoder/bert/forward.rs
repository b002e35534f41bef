//! What computes vectors from tokens.

use std::fmt::Debug;

use super::model::BertModel;

/// Computes the vectors of texts that are given as tokens: by the model of tensors, or by another way that gives the
/// same vectors.
pub(super) trait Forward: Send + Sync + Debug {
    /// Writes the vector of `texts[i]` to `out[i * width..(i + 1) * width]`. Each text has at least one token and at most
    /// as many as the configuration says, each in the vocabulary; `out` has the right length.
    ///
    /// # Errors
    /// Why it did not work: the device failed.
    fn forward(&self, texts: &[&[u32]], out: &mut [f32]) -> Result<(), String>;
}

/// A model of tensors, given texts in batches of similar length.
#[derive(Debug)]
pub(super) struct TensorForward {
    model: BertModel,
    batch_tokens: usize,
}

/// Tokens of a batch, padding included: beyond them intermediate values leave the processor's cache.
const CPU_BATCH_TOKENS: usize = 1024;

/// Tokens of a batch on a GPU, which needs as many to be busy.
const GPU_BATCH_TOKENS: usize = 16 * 1024;

impl TensorForward {
    pub(super) fn new(model: BertModel) -> Self {
        let batch_tokens = if model.is_on_gpu() { GPU_BATCH_TOKENS } else { CPU_BATCH_TOKENS };
        Self { model, batch_tokens }
    }
}

impl Forward for TensorForward {
    fn forward(&self, texts: &[&[u32]], out: &mut [f32]) -> Result<(), String> {
        let width = self.model.width();
        // Longest first: the largest batch asks for its memory at once.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(texts[*index].len()));
        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let length = texts[*first].len().max(1);
            let (batch, behind) = rest.split_at((self.batch_tokens / length).clamp(1, rest.len()));
            let tokens: Vec<&[u32]> = batch.iter().map(|index| texts[*index]).collect();
            let vectors = self.model.encode(&tokens).map_err(|error| error.to_string())?;
            for (index, vector) in batch.iter().zip(vectors.chunks_exact(width)) {
                out[index * width..(index + 1) * width].copy_from_slice(vector);
            }
            rest = behind;
        }
        Ok(())
    }
}
