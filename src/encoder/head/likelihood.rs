//! Probabilities, margins and losses without cancellation.
//!
//! Where a row is fitted, the probability of its label is so near to 1 that 1 - p is lost in its rounding, and with it the
//! gradient of the loss. Here 1 - p is the sum of the probabilities of the other classes, in f64.

use super::error::HeadError;

/// One row's logits, each as its distance below the largest, exponentiated.
pub(super) struct Exponentials {
    /// exp(logit - largest logit), one for each class.
    terms: Vec<f64>,
    /// Their sum.
    total: f64,
}

impl Exponentials {
    /// Those of `logits`, the answer for row `row`, which must be finite.
    pub(super) fn of(logits: &[f32], row: usize) -> Result<Self, HeadError> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(HeadError::NotFinite { row });
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let terms: Vec<f64> =
            logits.iter().map(|logit| libm::exp(f64::from(*logit) - f64::from(largest))).collect();
        let total = terms.iter().sum();
        Ok(Self { terms, total })
    }

    /// Probability of each class.
    pub(super) fn probabilities(&self) -> impl Iterator<Item = f64> {
        self.terms.iter().map(|term| term / self.total)
    }

    /// Probability of one class; 0 of a class that does not exist.
    pub(super) fn probability(&self, class: usize) -> f64 {
        self.terms.get(class).map_or(0.0, |term| term / self.total)
    }

    /// Sum of the probabilities of all classes but `class`.
    pub(super) fn others(&self, class: usize) -> f64 {
        let before = self.terms.get(..class).unwrap_or_default();
        let behind = self.terms.get(class + 1..).unwrap_or_default();
        before.iter().chain(behind).sum::<f64>() / self.total
    }

    /// Gradient of -log p of `class` at the logits: the probability of each other class, and minus their sum for it.
    pub(super) fn loss_gradient(&self, class: usize) -> Vec<f64> {
        let mut gradient: Vec<f64> = self.probabilities().collect();
        if let Some(own) = gradient.get_mut(class) {
            *own = -self.others(class);
        }
        gradient
    }
}

/// log p - log(1 - p) of class `class`, p its probability: its logit less the logarithm of the summed exponentials of the
/// others. Exact where p is next to 1 or to 0.
pub(super) fn margin_of(logits: &[f32], class: usize) -> f64 {
    let others = || logits.iter().enumerate().filter(|(other, _)| *other != class);
    let largest = f64::from(others().map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = others().map(|(_, logit)| libm::exp(f64::from(*logit) - largest)).sum();
    let own = logits.get(class).copied().map_or(f64::NEG_INFINITY, f64::from);
    own - largest - libm::log(sum)
}

/// -log p from a margin m: log(1 + exp(-m)).
pub(super) fn loss_of(margin: f64) -> f64 {
    libm::log1p(libm::exp(-margin.abs())) + (-margin).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_of_sixty_and_more_leaves_every_number_right() {
        for gap in [0.0_f32, 1.0, 20.0, 60.0, 69.0] {
            let logits = [3.0 + gap, 3.0, 3.0];
            let exponentials = Exponentials::of(&logits, 0).unwrap();
            let rest = 2.0 * (-f64::from(gap)).exp();
            let near = |found: f64, expected: f64| (found - expected).abs() <= 1e-12 * expected.abs();
            let own = exponentials.others(0);
            assert!(near(own, rest / (1.0 + rest)), "{gap}: {own}");
            assert!(near(margin_of(&logits, 0), f64::from(gap) - 2.0_f64.ln()), "{gap}");
            assert!(near(loss_of(margin_of(&logits, 0)), rest.ln_1p()), "{gap}");
            // Seen from a class that is as good as excluded.
            let (others, margin) = (exponentials.others(1), margin_of(&logits, 1));
            assert!(near(others, (1.0 + rest / 2.0) / (1.0 + rest)), "{gap}");
            assert!(near(margin, -f64::from(gap) - (rest / 2.0).ln_1p()), "{gap}: {margin}");
            assert!(near(loss_of(margin), f64::from(gap) + rest.ln_1p()), "{gap}");
            let gradient = exponentials.loss_gradient(0);
            assert_eq!(gradient[0], -(gradient[1] + gradient[2]));
            assert!(near(gradient[1], rest / 2.0 / (1.0 + rest)) && gradient[1] > 0.0, "{gap}");
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(matches!(Exponentials::of(&[0.0, broken], 7), Err(HeadError::NotFinite { row: 7 })));
        }
        // Logits at the ends of their range have a margin all the same.
        assert!(Exponentials::of(&[f32::MAX, f32::MIN], 0).unwrap().others(0) == 0.0);
        assert!(margin_of(&[f32::MAX, f32::MIN], 0).is_finite());
    }
}
