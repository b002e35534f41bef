//! What a fit to the other rows says of a row's label.

use super::error::LabelAuditError;
use crate::curvature::{DAMPING_RATIO, MemberGradients, ModuleGradients, leave_one_out_ridge};
use crate::encoder::LayerTangents;
use crate::engine::LabelledTable;

/// What a fit to the other rows says of the labels.
pub(super) struct RidgeVerdict {
    /// How much higher another class than the own label is predicted: -(f_y - max other f).
    pub(super) values: Vec<f64>,
    /// The class that is predicted; the own label where it ties.
    pub(super) suggested: Vec<u32>,
}

/// The rows as gradients whose inner products are the kernel: of the logits by a head's weights, or unit embeddings.
pub(super) fn kernel_rows(rows: &LabelledTable, tangents: Option<Vec<LayerTangents>>) -> MemberGradients {
    let modules = match tangents {
        Some(layers) => layers
            .into_iter()
            .map(|layer| ModuleGradients::Factored {
                rank: 1,
                out: layer.outputs,
                input: layer.inputs,
                u: narrow(&layer.u),
                v: narrow(&layer.v),
            })
            .collect(),
        None => {
            let units: Vec<f64> = rows.features.chunks_exact(rows.width.max(1)).flat_map(unit).collect();
            let matrix = narrow(&units);
            vec![ModuleGradients::Dense { out: 1, input: rows.width, matrix }]
        }
    };
    MemberGradients::new(rows.labels.len(), modules)
}

/// Values as gradients are kept.
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// A vector of length 1 in the same direction; zeros stay.
fn unit(vector: &[f32]) -> Vec<f64> {
    let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    let divisor = if length > 0.0 { length } else { 1.0 };
    vector.iter().map(|value| f64::from(*value) / divisor).collect()
}

/// Asks, for each row, a fit to all the others.
pub(super) fn ridge_verdict(
    kernel: &MemberGradients,
    labels: &[u32],
    classes: usize,
) -> Result<RidgeVerdict, LabelAuditError> {
    let products = kernel.inner_products(kernel);
    let predicted = leave_one_out_ridge(&products, labels, classes, DAMPING_RATIO)?;
    let mut verdict = RidgeVerdict { values: Vec::new(), suggested: Vec::new() };
    for (f, label) in predicted.chunks_exact(classes.max(1)).zip(labels) {
        let (mut best, mut highest) = (*label, f64::NEG_INFINITY);
        for (class, value) in f.iter().enumerate().filter(|(class, _)| *class != *label as usize) {
            if *value > highest {
                (best, highest) = (class as u32, *value);
            }
        }
        let own = f.get(*label as usize).copied().unwrap_or_default();
        verdict.values.push(highest - own);
        verdict.suggested.push(if highest > own { best } else { *label });
    }
    Ok(verdict)
}
