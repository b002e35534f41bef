//! Tests: made-up gradients and what they weigh.

use super::gradients::{MemberGradients, ModuleGradients};
use super::row_weights::RowWeights;
use crate::base::RandomStream;
use crate::format::SPARSE_PADDING;

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

/// Gradients of modules of every encoding, one of them of two pairs and one with padded places.
pub(super) fn of_every_encoding(rows: usize) -> MemberGradients {
    let mut random = RandomStream::new(11);
    let mut draw =
        |values: usize| (0..rows * values).map(|_| random.unit() as f32 - 0.4).collect::<Vec<f32>>();
    let places = (0..rows as u32).flat_map(|row| [row % 4, SPARSE_PADDING, 4]).collect();
    let modules = vec![
        ModuleGradients::Factored { rank: 1, out: 3, input: 5, u: draw(3), v: draw(5) },
        ModuleGradients::Factored { rank: 2, out: 4, input: 3, u: draw(8), v: draw(6) },
        ModuleGradients::Dense { out: 2, input: 3, matrix: draw(6) },
        ModuleGradients::Sparse { rank: 2, out: 2, terms: 3, input: 5, u: draw(4), v: draw(6), places },
    ];
    MemberGradients::new(rows, modules)
}

/// Weights of rows that the model is more or less sure of.
pub(super) fn weights(rows: usize) -> Vec<RowWeights> {
    (0..rows).map(|row| RowWeights::margin((row % 5 + 1) as f32 / 7.0, Some(0.4))).collect()
}
