//! Tests: made-up gradients and what they weigh.

use super::gradients::{MemberGradients, ModuleGradients};
use super::row_weights::RowWeights;
use crate::base::RandomStream;

/// Gradients of rank 1 of modules with so many outputs and inputs.
pub(super) fn factored(rows: usize, seed: u64, modules: &[[usize; 2]]) -> MemberGradients {
    let mut random = RandomStream::new(seed);
    let mut values = |count: usize| (0..count).map(|_| (random.unit() - 0.4) as f32).collect::<Vec<_>>();
    let modules = modules.iter().map(|[out, input]| ModuleGradients::Factored {
        rank: 1,
        out: *out,
        input: *input,
        u: values(rows * out),
        v: values(rows * input),
    });
    MemberGradients::new(rows, modules.collect())
}

/// Weights of rows that the model is more or less sure of.
pub(super) fn weights(rows: usize) -> Vec<RowWeights> {
    (0..rows).map(|row| RowWeights::margin((row % 5 + 1) as f32 / 7.0, Some(0.4))).collect()
}
