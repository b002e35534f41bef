//! What turns an embedding and a label into a gradient.

use std::fmt;

use thiserror::Error;

/// A gradient that cannot be computed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryGradientError {
    /// A label that the model does not know.
    #[error("{label:?} is none of the classes, which are {known}")]
    Label {
        /// The label given.
        label: String,
        /// The classes.
        known: String,
    },
    /// The model is damaged, or in a build without it.
    #[error("the classification head {reason}")]
    Head {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// The gradient of one row at all members' checkpoints, in the order of a sketch column's values, and what was measured of
/// the row beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientRow {
    /// Values of all members.
    pub values: Vec<f32>,
    /// 1 - p of the label at each member's checkpoint.
    pub own: Vec<f32>,
}

/// How a model's logits move with the weights of one layer at some embeddings, as far as rows are compared by it: the
/// derivative of logit c by the weights is j_c v^T, and sum over c of (j_c . j'_c)(v . v') is (u . u')(v . v').
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTangents {
    /// Values of a vector u.
    pub outputs: usize,
    /// Values of a vector v: those that the layer takes, and the constant 1 of the bias.
    pub inputs: usize,
    /// [rows, outputs].
    pub u: Vec<f64>,
    /// [rows, inputs].
    pub v: Vec<f64>,
}

/// A model that gives the gradient of its loss for an embedding and a label.
pub trait QueryGradient: fmt::Debug + Send + Sync {
    /// Values of an embedding.
    fn width(&self) -> usize;

    /// The labels that it knows.
    fn classes(&self) -> &[String];

    /// The gradient of one embedding and label.
    ///
    /// # Errors
    /// The label is none of the classes, or the embedding has another width.
    fn gradient(&self, embedding: &[f32], label: &str) -> Result<GradientRow, QueryGradientError>;

    /// How the logits at `member`'s checkpoint, counted from 0, move with the weights of each layer, at the rows of
    /// `embeddings`.
    ///
    /// # Errors
    /// There is no such member, or the embeddings are no rows of the model's width.
    fn tangents(&self, member: usize, embeddings: &[f32]) -> Result<Vec<LayerTangents>, QueryGradientError>;
}
