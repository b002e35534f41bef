//! What is wrong with a head, its state or its input.

use thiserror::Error;

use crate::kernels::KernelError;

/// A head that cannot be made, opened or asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A number of the configuration that no head has.
    #[error("the head's {field} is {found}, but must be {accepted}")]
    Number {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The range.
        accepted: String,
    },
    /// Classes that cannot be told apart.
    #[error(
        "class {number} of the head, {class:?}, does not follow the one before: sort the labels and leave repetitions out"
    )]
    ClassOrder {
        /// Number of the class, from 0.
        number: usize,
        /// The class.
        class: String,
    },
    /// Weights of another number of layers, or of values in one of them.
    #[error(
        "the weights of {module} are {found} values, expected {expected}; configuration and weights belong to different heads"
    )]
    Weights {
        /// Name of the layer.
        module: String,
        /// Values given.
        found: usize,
        /// Values of the layer's shape.
        expected: usize,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "weight {index} of {module} is not finite: the training of this head failed; lower the learning rate"
    )]
    WeightNotFinite {
        /// Name of the layer.
        module: String,
        /// Position of the weight, from 0.
        index: usize,
    },
    /// Features that are no whole rows.
    #[error(
        "{values} feature values are no rows of {width}; the head was trained on embeddings of that width"
    )]
    Features {
        /// Values given.
        values: usize,
        /// Values of a row.
        width: usize,
    },
    /// More or fewer labels than rows.
    #[error("{labels} labels for {rows} rows; give one for each")]
    Labels {
        /// Labels given.
        labels: usize,
        /// Rows given.
        rows: usize,
    },
    /// A label that is none of the classes.
    #[error("the label of row {row} is class {label}, but the head has {classes} classes, counted from 0")]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A row for which the head says nothing.
    #[error(
        "the head's answer for row {row} is not finite; check the row's embedding for NaN or huge values"
    )]
    NotFinite {
        /// The row, from 0.
        row: usize,
    },
    /// Bytes that are no head.
    #[error("the stored head is damaged: {reason}; run \"ascribe verify\", or train it again")]
    State {
        /// What is wrong.
        reason: String,
    },
    /// Lengths that do not fit each other.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
