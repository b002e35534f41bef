//! Codes of some rows of each target, gathered once and kept with the snapshot.

use std::sync::{Arc, PoisonError};

use super::sampled_codes::SampledCodes;
use super::segment::ScannedCodes;
use super::snapshot::Snapshot;
use super::target::Target;
use crate::base::limits::SAMPLE_ROWS;

/// How many rows lie between those of a sample of all targets.
pub(super) fn sample_step(targets: &[Target<'_>]) -> usize {
    let all: u64 = targets.iter().map(|target| u64::from(target.rows())).sum();
    (all / SAMPLE_ROWS as u64).max(1) as usize
}

/// Codes of every `step`th row of a target, of those that are live: gathered at the first question, as the step is the
/// same for all questions to a column of a snapshot. `None` if they cannot be read.
pub(super) fn sampled_codes(
    snapshot: &Snapshot,
    target: &Target<'_>,
    step: usize,
) -> Option<Arc<SampledCodes>> {
    let place = (target.column.header().column, target.position);
    let samples = || snapshot.inner.samples.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = samples().get(&place) {
        return Some(Arc::clone(known));
    }
    let rows: Vec<u32> = target.sampled_rows(step).collect();
    let sample = SampledCodes::of(&ScannedCodes::of(target.index.as_deref()?), &rows).ok();
    if sample.as_ref().is_none_or(|sample| sample.coarse_margins.is_none()) {
        target.view.segment.indexes.give_up(target.column.header().column);
    }
    let sample = Arc::new(sample?);
    samples().insert(place, Arc::clone(&sample));
    Some(sample)
}
