//! What the parts of a scan share, and how rows whose scores are known are offered.

use super::snapshot::Snapshot;
use super::target::{Question, Target};
use crate::base::RowId;
use crate::index::{Candidates, Threshold};

/// What the parts of a scan share.
#[derive(Clone, Copy)]
pub(super) struct Scanning<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) targets: &'a [Target<'a>],
    /// For each target whether it is scanned.
    pub(super) is_scanned: &'a [bool],
    pub(super) questions: &'a [Question<'a>],
    /// For each question what the best at each end reach.
    pub(super) thresholds: &'a [[Threshold; 2]],
}

/// Rows that are looked at together before any is looked at alone.
pub(super) const GROUP_ROWS: usize = 16;

/// The most that the upper end of a row of a group reaches, at least 0: of its score after `towards`, and its margin.
pub(super) fn reach_of(scores: &[f64], margins: &[f64], towards: impl Fn(f64) -> f64) -> f64 {
    // Several maxima side by side: one alone would wait for each comparison.
    let mut most = [0.0; 4];
    for (scores, margins) in scores.chunks(4).zip(margins.chunks(4)) {
        for (most, (score, margin)) in most.iter_mut().zip(scores.iter().zip(margins)) {
            let reach = towards(*score) + margin;
            *most = if reach > *most { reach } else { *most };
        }
    }
    most.into_iter().fold(0.0, f64::max)
}

/// Offers the rows that may be chosen to both ends.
pub(super) fn offer(
    number: usize,
    target: &Target<'_>,
    first: RowId,
    scores: &[f64],
    margins: &[f64],
    candidates: &mut [Candidates; 2],
    thresholds: &[Threshold; 2],
) {
    let [proponents, opponents] = candidates;
    let chosen = target.chosen_from();
    let groups = scores.chunks(GROUP_ROWS).zip(margins.chunks(GROUP_ROWS));
    for ((scores, margins), group) in groups.zip(0_u32..) {
        let reach = reach_of(scores, margins, f64::abs);
        let wanted = |end: usize, candidates: &Candidates| {
            if candidates.is_wanted() { thresholds[end].get() } else { f64::INFINITY }
        };
        // Most groups have no row that reaches either end.
        if reach < wanted(0, proponents).min(wanted(1, opponents)) {
            continue;
        }
        let rows = first.0 + group * GROUP_ROWS as u32..;
        for ((&score, &margin), row) in scores.iter().zip(margins).zip(rows) {
            let row = RowId(row);
            let reaches = score + margin >= thresholds[0].get() || margin - score >= thresholds[1].get();
            if reaches && chosen.is_none_or(|chosen| chosen.contains(row)) {
                proponents.offer(number, row, score, margin, &thresholds[0]);
                opponents.offer(number, row, -score, margin, &thresholds[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn what_a_group_reaches_is_the_largest_upper_end() {
        let mut stream = RandomStream::new(3);
        for count in 0..=GROUP_ROWS {
            let scores: Vec<f64> = (0..count).map(|_| stream.unit() - 0.5).collect();
            let margins: Vec<f64> = (0..count).map(|_| stream.unit() * 0.1).collect();
            for sign in [1.0, -1.0] {
                let upper = scores.iter().zip(&margins).map(|(score, margin)| score * sign + margin);
                let reached = reach_of(&scores, &margins, |score| score * sign);
                assert_eq!(reached, upper.fold(0.0, f64::max), "{count} rows");
            }
        }
        assert_eq!(reach_of(&[0.5, -3.0], &[0.0, f64::INFINITY], f64::abs), f64::INFINITY);
    }
}
