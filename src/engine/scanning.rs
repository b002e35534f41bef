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
        let reach = scores.iter().zip(margins).fold(0.0, |most: f64, (score, margin)| {
            let reach = score.abs() + margin;
            if reach > most { reach } else { most }
        });
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
