//! What a head computes, and how it is trained.

use serde::{Deserialize, Serialize};

use super::error::HeadError;
use crate::base::limits::{EMBEDDING_WIDTH_MAX, HEAD_CLASSES_MAX, HEAD_EPOCHS_MAX, HEAD_HIDDEN_MAX};

/// What a head computes, and how it is trained. A training with the same configuration, rows and seed gives the same head.
///
/// The default is a network of one hidden layer that fits nearly all of 2,000 rows at the end of its training, while
/// its first epoch already tells classes apart.
///
/// ```
/// let configuration = ascribe::encoder::HeadConfiguration::default();
/// assert_eq!(configuration.hidden, Some(64));
/// let shapes: Vec<_> =
///     configuration.shapes(384, 10)?.iter().map(|shape| (shape.name, shape.outputs, shape.inputs)).collect();
/// assert_eq!(shapes, [("head.0", 64, 384), ("head.2", 10, 64)]);
/// # Ok::<(), ascribe::encoder::HeadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfiguration {
    /// Hidden units; `None`: logistic regression, one linear layer.
    pub hidden: Option<usize>,
    /// How often training passes over its rows, at least 1.
    pub epochs: usize,
    /// Rows of one step of training. An epoch is cut into steps of nearly equal size, none larger than this.
    pub batch_rows: usize,
    /// Learning rate of the first epoch; [`learning_rate_of`](Self::learning_rate_of) gives that of each.
    pub learning_rate: f64,
    /// Part of each weight that a step takes away, times the learning rate.
    pub weight_decay: f64,
}

/// Shape of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// Name: `head.0` is nearest to the features, `head.2` lies behind the hidden units.
    pub name: &'static str,
    /// Values that the layer gives.
    pub outputs: usize,
    /// Values that it takes, the constant 1 of the bias not counted.
    pub inputs: usize,
}

impl HeadShape {
    /// Number of weights: a bias for each output among them.
    pub fn weights(&self) -> usize {
        self.outputs * (self.inputs + 1)
    }
}

impl Default for HeadConfiguration {
    fn default() -> Self {
        Self { hidden: Some(64), epochs: 20, batch_rows: 64, learning_rate: 0.01, weight_decay: 1e-4 }
    }
}

impl HeadConfiguration {
    /// The learning rate of epoch `number`, counted from 1: falls by the same amount from epoch to epoch, so that it would
    /// be 0 in the one after the last.
    ///
    /// ```
    /// use ascribe::encoder::HeadConfiguration;
    /// let configuration = HeadConfiguration { epochs: 4, learning_rate: 0.5, ..HeadConfiguration::default() };
    /// let rates: Vec<f64> = (1..=4).map(|number| configuration.learning_rate_of(number)).collect();
    /// assert_eq!(rates, [0.5, 0.375, 0.25, 0.125]);
    /// ```
    pub fn learning_rate_of(&self, number: usize) -> f64 {
        let left = (self.epochs + 1).saturating_sub(number.max(1));
        self.learning_rate * left as f64 / self.epochs.max(1) as f64
    }

    /// The layers of a head on `width` features with `classes` classes, in the order in which a row passes them.
    ///
    /// # Errors
    /// A number is out of its range.
    pub fn shapes(&self, width: usize, classes: usize) -> Result<Vec<HeadShape>, HeadError> {
        self.check()?;
        in_range("feature width", width, 1, EMBEDDING_WIDTH_MAX)?;
        in_range("number of classes", classes, 2, HEAD_CLASSES_MAX)?;
        let first = |outputs| HeadShape { name: "head.0", outputs, inputs: width };
        Ok(match self.hidden {
            None => vec![first(classes)],
            Some(hidden) => {
                vec![first(hidden), HeadShape { name: "head.2", outputs: classes, inputs: hidden }]
            }
        })
    }

    /// Whether every number is in its range.
    ///
    /// # Errors
    /// One is not; the error says which.
    pub fn check(&self) -> Result<(), HeadError> {
        if let Some(hidden) = self.hidden {
            in_range("number of hidden units", hidden, 1, HEAD_HIDDEN_MAX)?;
        }
        in_range("number of epochs", self.epochs, 1, HEAD_EPOCHS_MAX)?;
        in_range("number of rows in a step", self.batch_rows, 1, usize::MAX)?;
        let number = |field, value: f64, fine: bool, accepted: &str| {
            let (found, accepted) = (value.to_string(), accepted.to_owned());
            if fine { Ok(()) } else { Err(HeadError::Number { field, found, accepted }) }
        };
        let rate = self.learning_rate;
        number("learning rate", rate, rate > 0.0 && rate <= 10.0, "above 0 and at most 10")?;
        let decay = self.weight_decay;
        number("weight decay", decay, (0.0..=1.0).contains(&decay), "from 0 to 1")
    }
}

fn in_range(field: &'static str, found: usize, least: usize, most: usize) -> Result<(), HeadError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let accepted =
        if most == usize::MAX { format!("at least {least}") } else { format!("from {least} to {most}") };
    Err(HeadError::Number { field, found: found.to_string(), accepted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        let fine = HeadConfiguration::default();
        assert!(fine.check().is_ok());
        for broken in [
            HeadConfiguration { hidden: Some(0), ..fine.clone() },
            HeadConfiguration { hidden: Some(HEAD_HIDDEN_MAX + 1), ..fine.clone() },
            HeadConfiguration { epochs: 0, ..fine.clone() },
            HeadConfiguration { batch_rows: 0, ..fine.clone() },
            HeadConfiguration { learning_rate: f64::NAN, ..fine.clone() },
            HeadConfiguration { learning_rate: 0.0, ..fine.clone() },
            HeadConfiguration { weight_decay: -0.1, ..fine.clone() },
            HeadConfiguration { weight_decay: f64::NAN, ..fine.clone() },
        ] {
            assert!(broken.check().is_err() && broken.shapes(4, 2).is_err(), "{broken:?}");
        }
        for (width, classes) in [(0, 2), (EMBEDDING_WIDTH_MAX + 1, 2), (4, 1), (4, HEAD_CLASSES_MAX + 1)] {
            assert!(fine.shapes(width, classes).is_err(), "{width} {classes}");
        }
    }
}
