//! What a row weighs in a kernel, and its score.

/// The least 1 - p that is divided by: below it nothing is left of a gradient in f32.
const OWN_LEAST: f64 = 1e-12;
/// Probabilities along training are kept this far from 0 and 1.
const TRAINED_MARGIN: f64 = 1e-4;

/// What a row weighs in a kernel at one member's checkpoint.
///
/// The gradient of a classifier's loss is (1 - p) times the negated gradient of the margin log p - log(1 - p), so that dividing by
/// 1 - p gives back the margin's. What a row then weighs in the margin kernel is taken from the whole course of training instead of its
/// end, where nearly every row is fitted; TRAK leaves it at 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowWeights {
    /// Scales the row's gradient in the kernel.
    pub factor: f64,
    /// Scales the row's score.
    pub score: f64,
}

impl RowWeights {
    /// The weights in the margin kernel, sqrt(p (1 - p)) / (1 - own p) and sqrt((1 - p) / p), of a row with `own` = 1 - p of its own label at the checkpoint, and `trained`, the mean probability of
    /// that label over training; `None` if it was not logged: then 1 - `own` is taken.
    ///
    /// ```
    /// use ascribe::curvature::RowWeights;
    /// let weights = RowWeights::margin(0.5, Some(0.8));
    /// assert!((weights.factor - 0.8).abs() < 1e-7 && (weights.score - 0.5).abs() < 1e-7);
    /// ```
    pub fn margin(own: f32, trained: Option<f32>) -> Self {
        let own = f64::from(own);
        let trained = trained.map_or(1.0 - own, f64::from).clamp(TRAINED_MARGIN, 1.0 - TRAINED_MARGIN);
        let left = 1.0 - trained;
        Self { factor: (trained * left).sqrt() / own.max(OWN_LEAST), score: (left / trained).sqrt() }
    }

    /// The weights in TRAK of a row with `own` = 1 - p of its own label at the checkpoint: the margin's gradient as it is, and 1 - p, the
    /// derivative of the loss by the margin, for the score.
    ///
    /// ```
    /// use ascribe::curvature::RowWeights;
    /// let weights = RowWeights::trak(0.25);
    /// assert_eq!((weights.factor, weights.score), (4.0, 0.25));
    /// ```
    ///
    /// # References
    /// Park et al., "TRAK: Attributing Model Behavior at Scale", arXiv 2303.14186, section 3.
    pub fn trak(own: f32) -> Self {
        let own = f64::from(own);
        Self { factor: 1.0 / own.max(OWN_LEAST), score: own }
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
                let weights = RowWeights::margin(own, trained);
                assert!(weights.factor.is_finite() && weights.factor > 0.0, "{own} {trained:?}");
                assert!(weights.score.is_finite() && weights.score > 0.0, "{own} {trained:?}");
            }
        }
        assert_eq!(RowWeights::margin(0.25, None), RowWeights::margin(0.25, Some(0.75)));
    }
}
