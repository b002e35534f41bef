//! The ends of an interval among resampled figures.

/// The ends of the percentile bootstrap interval of a figure, given what it came to on each resample; sorts `draws`.
///
/// With K = (draws + 1) (1 - `level`) / 2, rounded down but at least 1: the K-th smallest and the K-th largest. `None`
/// where there are no draws, one is not finite, or `level` is not between 0 and 1.
///
/// # Complexity
/// O(draws log draws)
///
/// # References
/// Efron, Tibshirani: An introduction to the bootstrap (1993), sections 12.5 (the rank K) and 13.3 (the percentile
/// interval).
///
/// ```
/// use ascribe::stats::percentile_ends;
/// let mut draws: Vec<f64> = (1..=199).rev().map(f64::from).collect();
/// assert_eq!(percentile_ends(&mut draws, 0.95), Some((5.0, 195.0)));
/// ```
pub fn percentile_ends(draws: &mut [f64], level: f64) -> Option<(f64, f64)> {
    if !(level > 0.0 && level < 1.0) || draws.iter().any(|draw| !draw.is_finite()) {
        return None;
    }
    ranked_ends(draws, level)
}

/// The K-th smallest and the K-th largest of `draws`, which are sorted, whatever they are.
pub(super) fn ranked_ends(draws: &mut [f64], level: f64) -> Option<(f64, f64)> {
    draws.sort_unstable_by(f64::total_cmp);
    // What is lost to rounding must not move a whole number to the one below.
    let rank = (draws.len() as f64 + 1.0) * (1.0 - level) / 2.0 + 1e-9;
    let below = (rank as usize).saturating_sub(1);
    let low = *draws.get(below)?;
    let high = *draws.get(draws.len().checked_sub(below + 1)?)?;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_ranks_of_the_book() {
        let at = |count: u32, level| {
            let mut draws: Vec<f64> = (1..=count).map(f64::from).collect();
            draws.reverse();
            percentile_ends(&mut draws, level)
        };
        assert_eq!(at(1999, 0.95), Some((50.0, 1950.0)));
        assert_eq!(at(1000, 0.95), Some((25.0, 976.0)));
        assert_eq!(at(99, 0.9), Some((5.0, 95.0)));
        assert_eq!(at(5, 0.95), Some((1.0, 5.0)));
        assert_eq!(at(1, 0.95), Some((1.0, 1.0)));
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        assert_eq!(percentile_ends(&mut [], 0.95), None);
        for level in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(percentile_ends(&mut [1.0, 2.0], level), None, "{level}");
        }
        assert_eq!(percentile_ends(&mut [1.0, f64::NAN], 0.5), None);
        assert_eq!(percentile_ends(&mut [1.0, f64::INFINITY], 0.5), None);
    }
}
