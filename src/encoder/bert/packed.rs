//! The forward pass on the processor, over packed weights.
//!
//! Why not candle's: its products pack the weights again at every call and its softmax, GELU and layer norm pass over
//! memory once for each of their steps. Here weights are packed once, texts of different lengths lie one behind the other
//! without padding, and a block of rows stays in the second-level cache from the attention's output through both
//! products of the feed-forward part to the next layer's queries, keys and values.
//!
//! Every value is computed from its own text alone and in one fixed order ([`Kernels`]), so that a text has the same
//! vector, bit for bit, alone or in any batch, with any number of threads, on every back-end.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::configuration::{BertActivation, BertConfiguration, BertPooling};
use super::forward::Forward;
use super::packed_weights::{Norm, PackedLayer, PackedWeights, Projection};
use super::weights::BertWeights;
use crate::kernels::{KernelError, Kernels, Panels, StridedOutput, StridedRows};

/// Rows that go through a layer together: their widest intermediate, four times the hidden size, is to stay in a
/// second-level cache of 512 KiB, while the weights, which stream by once for each block, are not read too often.
const BLOCK_ROWS: usize = 72;

/// Tokens of neighbouring texts that one task takes, unless a single text is longer: two blocks. Twice as many cost 8%
/// of the time of 1024 tokens on two threads, as one thread waits for the other at the end.
const TASK_TOKENS: usize = 144;

/// Query rows of a text whose scores with all its keys are held at once.
const SCORE_ROWS: usize = 48;

/// The model on the processor.
#[derive(Debug)]
pub(super) struct PackedBert {
    weights: PackedWeights,
    kernels: Kernels,
    /// Memory of finished groups and blocks, for the next ones: asking the system for it again costs 3% of the time.
    groups: Mutex<Vec<Rows>>,
    scratches: Mutex<Vec<Scratch>>,
}

/// What a group holds between the parts of a layer, a row a token.
#[derive(Debug, Default)]
struct Rows {
    states: Vec<f32>,
    /// Queries, keys and values.
    mixed: Vec<f32>,
    /// What attention gives, of each text head by head.
    contexts: Vec<f32>,
}

/// Memory of one block or head.
#[derive(Debug, Default)]
struct Scratch {
    narrow: Vec<f32>,
    wide: Vec<f32>,
    scores: Vec<f32>,
    keys: Panels,
    values: Panels,
}

/// Neighbouring texts that go through the model together, a row a token.
struct Group<'a> {
    texts: &'a [&'a [u32]],
    rows: usize,
}

impl<'a> Group<'a> {
    /// Takes texts from the front: one, and more while they stay within `tokens`.
    fn split(texts: &'a [&'a [u32]], tokens: usize) -> (Self, &'a [&'a [u32]]) {
        let (mut count, mut rows) = (0, 0);
        for text in texts {
            if count > 0 && rows + text.len() > tokens {
                break;
            }
            count += 1;
            rows += text.len();
        }
        let (texts, rest) = texts.split_at(count);
        (Self { texts, rows }, rest)
    }

    /// The texts, each with its first row.
    fn with_rows(&self) -> impl Iterator<Item = (usize, &'a [u32])> {
        let mut next = 0;
        self.texts.iter().map(move |text| {
            let first = next;
            next += text.len();
            (first, *text)
        })
    }
}

/// Tokens of a task, so that the tasks are equal and a multiple of the threads.
fn task_tokens(texts: &[&[u32]], threads: usize) -> usize {
    let total: usize = texts.iter().map(|text| text.len()).sum();
    total.div_ceil(total.div_ceil(TASK_TOKENS).max(1).next_multiple_of(threads))
}

/// Rows of a block, so that the blocks are equal and a multiple of the threads.
fn block_rows(rows: usize, threads: usize) -> usize {
    let blocks = rows.div_ceil(BLOCK_ROWS).max(1).next_multiple_of(threads);
    // Of six rows the inner loop of a product makes one step.
    rows.div_ceil(blocks).next_multiple_of(6)
}

impl Forward for PackedBert {
    fn forward(&self, texts: &[&[u32]], out: &mut [f32]) -> Result<(), String> {
        self.encode(texts, out).map_err(|error| error.to_string())
    }
}

impl PackedBert {
    /// The model of these weights, computed by `kernels`.
    pub(super) fn new(configuration: &BertConfiguration, weights: &BertWeights, kernels: Kernels) -> Self {
        let weights = PackedWeights::new(configuration, weights);
        Self { weights, kernels, groups: Mutex::default(), scratches: Mutex::default() }
    }

    /// See [`Forward::forward`]. Uses the threads of the pool that it is called in.
    ///
    /// Complexity: O(tokens x weights + tokens x longest text x hidden size); memory of about ten times the hidden size
    /// for each token of the texts that are on their way.
    fn encode(&self, texts: &[&[u32]], out: &mut [f32]) -> Result<(), KernelError> {
        let width = self.weights.width();
        let threads = rayon::current_num_threads();
        let task_tokens = task_tokens(texts, threads);
        let mut groups = Vec::new();
        let (mut rest, mut rest_out) = (texts, out);
        while !rest.is_empty() {
            let (group, after) = Group::split(rest, task_tokens);
            let (group_out, out_after) = rest_out.split_at_mut(group.texts.len() * width);
            groups.push((group, group_out));
            (rest, rest_out) = (after, out_after);
        }
        if threads > 1 && groups.len() < threads {
            // Too few texts for a thread each: the threads share the rows of each.
            return groups.into_iter().try_for_each(|(group, out)| self.group(&group, out, threads));
        }
        groups.into_par_iter().try_for_each(|(group, out)| self.group(&group, out, 1))
    }

    fn group(&self, group: &Group<'_>, out: &mut [f32], threads: usize) -> Result<(), KernelError> {
        let hidden = self.weights.hidden;
        let mut rows = take(&self.groups);
        let Rows { states, mixed, contexts } = &mut rows;
        states.resize(group.rows * hidden, 0.0);
        mixed.resize(group.rows * 3 * hidden, 0.0);
        contexts.resize(group.rows * hidden, 0.0);
        self.embed(group, states)?;
        let layers = &self.weights.layers;
        for index in 0..=layers.len() {
            let (last, next) = (index.checked_sub(1).map(|last| &layers[last]), layers.get(index));
            self.each_block(group, threads, states, mixed, |scratch, first, states, mixed| {
                if let Some(last) = last {
                    self.after_attention(last, scratch, group, first, contexts, states)?;
                }
                match next {
                    Some(next) => self.linear(&next.mixed, states, mixed),
                    None => Ok(()),
                }
            })?;
            if next.is_some() {
                self.attend(group, threads, mixed, contexts)?;
            }
        }
        self.pool(group, states, out)?;
        give_back(&self.groups, rows);
        Ok(())
    }

    /// Embeddings of the tokens, normalised.
    fn embed(&self, group: &Group<'_>, states: &mut [f32]) -> Result<(), KernelError> {
        let weights = &self.weights;
        let hidden = weights.hidden;
        let tokens = group.texts.iter().flat_map(|text| text.iter().enumerate());
        for ((position, token), state) in tokens.zip(states.chunks_exact_mut(hidden)) {
            weights.word_embeddings.read(*token as usize * hidden, state);
            let position = &weights.position_embeddings[position * hidden..];
            for ((value, kind), position) in state.iter_mut().zip(&weights.type_embedding).zip(position) {
                *value = *value + kind + position;
            }
        }
        self.normalise(&weights.embedding_norm, states, &[])
    }

    fn normalise(&self, norm: &Norm, values: &mut [f32], residual: &[f32]) -> Result<(), KernelError> {
        let epsilon = self.weights.epsilon;
        self.kernels.layer_norm(values, residual, &norm.gain, &norm.shift, epsilon)
    }

    /// out = rows * weights + bias.
    fn linear(&self, projection: &Projection, rows: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        let (depth, columns) = (projection.weights.depth(), projection.weights.columns());
        let rows = StridedRows { values: rows, stride: depth, count: rows.len() / depth.max(1) };
        let out = StridedOutput { values: out, stride: columns };
        self.kernels.product(rows, &projection.weights, Some(&projection.bias), out)
    }

    /// Calls `work` with each block of rows: memory, the first row, the rows' states, and their queries, keys and values.
    fn each_block(
        &self,
        group: &Group<'_>,
        threads: usize,
        states: &mut [f32],
        mixed: &mut [f32],
        work: impl Fn(&mut Scratch, usize, &mut [f32], &mut [f32]) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let hidden = self.weights.hidden;
        let block = block_rows(group.rows, threads);
        let blocks = states.chunks_mut(block * hidden).zip(mixed.chunks_mut(block * 3 * hidden)).enumerate();
        self.each(threads, blocks, |scratch, (index, (states, mixed))| {
            work(scratch, index * block, states, mixed)
        })
    }

    /// Calls `work` with each task and memory for it, on one thread or on those of the pool.
    fn each<T: Send>(
        &self,
        threads: usize,
        tasks: impl Iterator<Item = T>,
        work: impl Fn(&mut Scratch, T) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let call = |task| {
            let mut scratch = take(&self.scratches);
            let result = work(&mut scratch, task);
            give_back(&self.scratches, scratch);
            result
        };
        if threads == 1 {
            let mut tasks = tasks;
            tasks.try_for_each(call)
        } else {
            tasks.collect::<Vec<_>>().into_par_iter().try_for_each(call)
        }
    }

    /// The rest of a layer for the rows from `first`: attention's output projection, feed-forward, both norms.
    fn after_attention(
        &self,
        layer: &PackedLayer,
        scratch: &mut Scratch,
        group: &Group<'_>,
        first: usize,
        contexts: &[f32],
        states: &mut [f32],
    ) -> Result<(), KernelError> {
        let hidden = self.weights.hidden;
        let rows = states.len() / hidden;
        let Scratch { narrow, wide, .. } = scratch;
        narrow.resize(rows * hidden, 0.0);
        self.gather(group, first, contexts, narrow);
        wide.resize(rows * hidden, 0.0);
        self.linear(&layer.attention_output, narrow, wide)?;
        self.normalise(&layer.attention_norm, states, wide)?;
        wide.resize(rows * layer.intermediate.weights.columns(), 0.0);
        self.linear(&layer.intermediate, states, wide)?;
        match self.weights.activation {
            BertActivation::Gelu => self.kernels.gelu(wide),
            BertActivation::GeluTanh => self.kernels.gelu_tanh(wide),
            BertActivation::Relu => wide.iter_mut().for_each(|value| *value = value.max(0.0)),
        }
        self.linear(&layer.output, wide, narrow)?;
        self.normalise(&layer.output_norm, states, narrow)
    }

    /// The contexts of neighbouring rows, whose heads lie apart, as rows of all heads.
    fn gather(&self, group: &Group<'_>, first: usize, contexts: &[f32], rows: &mut [f32]) {
        let (hidden, size) = (self.weights.hidden, self.weights.head_size());
        let end = first + rows.len() / hidden;
        for (begin, text) in group.with_rows() {
            for row in first.max(begin)..end.min(begin + text.len()) {
                let heads = rows[(row - first) * hidden..][..hidden].chunks_exact_mut(size);
                for (head, to) in heads.enumerate() {
                    let from = begin * hidden + (head * text.len() + row - begin) * size;
                    to.copy_from_slice(&contexts[from..from + size]);
                }
            }
        }
    }

    /// softmax(Q K^T / sqrt(size)) V for every head of every text. The contexts of a text lie head by head, so that
    /// threads can write them side by side.
    fn attend(
        &self,
        group: &Group<'_>,
        threads: usize,
        mixed: &[f32],
        contexts: &mut [f32],
    ) -> Result<(), KernelError> {
        let (hidden, size) = (self.weights.hidden, self.weights.head_size());
        let mut rest = contexts;
        let mut tasks = Vec::with_capacity(group.texts.len() * self.weights.heads);
        for (begin, text) in group.with_rows() {
            let (of_text, after) = rest.split_at_mut(text.len() * hidden);
            rest = after;
            let mixed = &mixed[begin * 3 * hidden..][..text.len() * 3 * hidden];
            let heads = of_text.chunks_exact_mut((text.len() * size).max(1)).enumerate();
            tasks.extend(heads.map(|(head, context)| (mixed, head, context)));
        }
        self.each(threads, tasks.into_iter(), |scratch, (mixed, head, context)| {
            self.attend_head(scratch, mixed, head, context)
        })
    }

    /// One head of one text: `mixed` holds its queries, keys and values, a row a token.
    fn attend_head(
        &self,
        scratch: &mut Scratch,
        mixed: &[f32],
        head: usize,
        context: &mut [f32],
    ) -> Result<(), KernelError> {
        let (hidden, size) = (self.weights.hidden, self.weights.head_size());
        let (stride, length) = (3 * hidden, context.len() / size);
        let Scratch { scores, keys, values, .. } = scratch;
        keys.pack_transposed(&mixed[hidden + head * size..], stride, length, size);
        values.pack_rows(&mixed[2 * hidden + head * size..], stride, size, length);
        let scale = 1.0 / (size as f32).sqrt();
        for (index, context) in context.chunks_mut(SCORE_ROWS * size).enumerate() {
            let count = context.len() / size;
            let queries = &mixed[index * SCORE_ROWS * stride + head * size..];
            scores.resize(count * length, 0.0);
            let rows = StridedRows { values: queries, stride, count };
            self.kernels.product(rows, keys, None, StridedOutput { values: scores, stride: length })?;
            scores.chunks_exact_mut(length).for_each(|row| self.kernels.softmax(row, scale));
            let rows = StridedRows { values: scores, stride: length, count };
            self.kernels.product(rows, values, None, StridedOutput { values: context, stride: size })?;
        }
        Ok(())
    }

    /// One vector from each text's rows, projected and normalised as the model asks.
    fn pool(&self, group: &Group<'_>, states: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        let hidden = self.weights.hidden;
        let mut pooled = vec![0.0; hidden];
        for ((begin, text), vector) in group.with_rows().zip(out.chunks_exact_mut(self.weights.width())) {
            let states = &states[begin * hidden..][..text.len() * hidden];
            match self.weights.pooling {
                BertPooling::Mean => mean(states, &mut pooled),
                BertPooling::First => pooled.copy_from_slice(&states[..hidden]),
            }
            match &self.weights.projector {
                Some(projector) => self.linear(projector, &pooled, vector)?,
                None => vector.copy_from_slice(&pooled),
            }
            if self.weights.normalised {
                divide_by_length(vector);
            }
        }
        Ok(())
    }
}

fn take<T: Default>(free: &Mutex<Vec<T>>) -> T {
    free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
}

fn give_back<T>(free: &Mutex<Vec<T>>, memory: T) {
    free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
}

/// The mean of at least one row.
fn mean(rows: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let count = rows.len() / out.len();
    for row in rows.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    out.iter_mut().for_each(|sum| *sum /= count as f32);
}

/// Divides by the Euclidean length, or by 1e-12 if that is larger, as sentence encoders do.
fn divide_by_length(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    let length = square.sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::encoder::{BertEncoder, Encoder};

    fn tiny() -> BertEncoder {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert");
        BertEncoder::from_directory(&directory).unwrap()
    }

    fn packed(encoder: &BertEncoder, kernels: Kernels) -> PackedBert {
        PackedBert::new(encoder.configuration(), encoder.weights(), kernels)
    }

    fn vectors(model: &PackedBert, texts: &[&[u32]], threads: usize) -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = vec![0.0; texts.len() * model.weights.width()];
        pool.install(|| model.forward(texts, &mut out)).unwrap();
        out.into_iter().map(f32::to_bits).collect()
    }

    /// Texts of 1 to `longest` tokens.
    fn texts(encoder: &BertEncoder, count: usize, longest: usize) -> Vec<Vec<u32>> {
        let vocabulary = encoder.configuration().vocabulary_size;
        (0..count)
            .map(|text| {
                (0..1 + text * 7 % longest).map(move |at| ((text * 31 + at * 17) % vocabulary) as u32)
            })
            .map(Iterator::collect)
            .collect()
    }

    #[test]
    fn a_text_has_the_same_bits_alone_in_any_batch_and_with_any_number_of_threads() {
        let encoder = tiny();
        let longest = encoder.configuration().tokens_max;
        let texts = texts(&encoder, 60, longest);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let model = packed(&encoder, Kernels::best());
        let together = vectors(&model, &texts, 1);
        let alone: Vec<u32> = texts.iter().flat_map(|text| vectors(&model, &[text], 1)).collect();
        assert_eq!(together, alone);
        for threads in [2, 3] {
            assert_eq!(together, vectors(&model, &texts, threads), "{threads} threads");
            let alone: Vec<u32> = texts.iter().flat_map(|text| vectors(&model, &[text], threads)).collect();
            assert_eq!(together, alone, "{threads} threads for one text");
        }
    }

    #[test]
    fn every_back_end_gives_the_same_bits() {
        let encoder = tiny();
        let texts = texts(&encoder, 9, 40);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let bits: Vec<_> = Kernels::available()
            .iter()
            .map(|kernels| vectors(&packed(&encoder, *kernels), &texts, 2))
            .collect();
        assert!(bits.iter().all(|found| *found == bits[0]));
    }

    #[test]
    fn tasks_and_blocks_are_equal_and_a_multiple_of_the_threads() {
        let text = vec![0; 32];
        let texts = vec![text.as_slice(); 32];
        for (threads, expected) in [(1, 128), (2, 128), (3, 114), (16, 64)] {
            assert_eq!(task_tokens(&texts, threads), expected, "{threads} threads");
        }
        for (rows, threads, expected) in [(1, 1, 6), (72, 1, 72), (73, 1, 42), (32, 2, 18), (512, 2, 66)] {
            assert_eq!(block_rows(rows, threads), expected, "{rows} rows, {threads} threads");
        }
        let (group, rest) = Group::split(&texts, 100);
        assert_eq!((group.texts.len(), group.rows, rest.len()), (3, 96, 29));
        let (group, _) = Group::split(&texts, 5);
        assert_eq!((group.texts.len(), group.rows), (1, 32));
    }

    #[test]
    fn no_texts_give_no_vectors() {
        let encoder = tiny();
        let model = packed(&encoder, Kernels::best());
        assert_eq!(model.forward(&[], &mut []), Ok(()));
        assert_eq!(model.weights.width(), encoder.width());
    }
}
