//! Weights of the margin kernel.

/// The least 1 - p that is divided by: below it nothing is left of a gradient in f32.
const OWN_LEAST: f64 = 1e-12;
/// Probabilities along training are kept this far from 0 and 1.
const TRAINED_MARGIN: f64 = 1e-4;

/// What a row of a classifier's training set weighs in the margin kernel at one member's checkpoint.
///
/// The gradient of the loss is (1 - p) times the negated gradient of the margin log p - log(1 - p), so that dividing by
/// 1 - p gives back the margin's. What a row then weighs is taken from the whole course of training instead of its end, where
/// nearly every row is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginWeights {
    /// Scales the row's gradient in the kernel: sqrt(p (1 - p)) / (1 - own p).
    pub factor: f64,
    /// Scales the row's score: sqrt((1 - p) / p).
    pub score: f64,
}

impl MarginWeights {
    /// The weights of a row with `own` = 1 - p of its own label at the checkpoint, and `trained`, the mean probability of
    /// that label over training; `None` if it was not logged: then 1 - `own` is taken.
    ///
    /// ```
    /// use ascribe::curvature::MarginWeights;
    /// let weights = MarginWeights::new(0.5, Some(0.8));
    /// assert!((weights.factor - 0.8).abs() < 1e-7 && (weights.score - 0.5).abs() < 1e-7);
    /// ```
    pub fn new(own: f32, trained: Option<f32>) -> Self {
        let own = f64::from(own);
        let trained = trained.map_or(1.0 - own, f64::from).clamp(TRAINED_MARGIN, 1.0 - TRAINED_MARGIN);
        let left = 1.0 - trained;
        Self { factor: (trained * left).sqrt() / own.max(OWN_LEAST), score: (left / trained).sqrt() }
    }

    /// Weights that change nothing: those of `fisher`.
    pub fn none() -> Self {
        Self { factor: 1.0, score: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_stay_finite_at_both_ends() {
        for own in [0.0, 1e-30, 1e-10, 0.5, 1.0] {
            for trained in [None, Some(0.0), Some(0.5), Some(1.0)] {
                let weights = MarginWeights::new(own, trained);
                assert!(weights.factor.is_finite() && weights.factor > 0.0, "{own} {trained:?}");
                assert!(weights.score.is_finite() && weights.score > 0.0, "{own} {trained:?}");
            }
        }
        assert_eq!(MarginWeights::new(0.25, None), MarginWeights::new(0.25, Some(0.75)));
    }
}
