//! What the nearest rows say of a row's label.

use rayon::prelude::*;

use super::error::LabelAuditError;
use crate::attribution::ScoreKind;
use crate::engine::{LabelledTable, Snapshot, Watch};

/// Neighbours that are asked.
const NEIGHBOURS: usize = 20;

/// Cosines that are held at a time.
const COSINES_HELD: usize = 1 << 22;

/// What the nearest rows say of a row's label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeighbourVote {
    /// Their share with the same label, each weighted by its cosine, 0 to 1.
    pub share: f64,
    /// The label with the largest share; the own one where it ties.
    pub best: u32,
}

/// What the `k` rows with the highest cosine to row `own` say of its label, itself left out; of equal cosines the first
/// rows. A cosine below 0 has no weight; where all have none, each row counts the same. `None` where there is no other
/// row.
///
/// # Complexity
/// O(rows + k log k)
///
/// ```
/// use ascribe::monitor::neighbour_vote;
/// let vote = neighbour_vote(&[1.0, 0.6, 0.2, 0.1], &[0, 1, 0, 1], 0, 2).expect("there are others");
/// assert!((vote.share - 0.25).abs() < 1e-12 && vote.best == 1);
/// ```
pub fn neighbour_vote(cosines: &[f64], labels: &[u32], own: usize, k: usize) -> Option<NeighbourVote> {
    let mut others: Vec<(f64, usize)> = cosines.iter().copied().zip(0..labels.len()).collect();
    let label = *labels.get(own)?;
    others.retain(|(_, row)| *row != own);
    let nearest = |left: &(f64, usize), right: &(f64, usize)| {
        right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1))
    };
    if k < others.len() {
        others.select_nth_unstable_by(k, nearest);
        others.truncate(k);
    }
    others.sort_unstable_by(nearest);
    let has_weights = others.iter().any(|(cosine, _)| *cosine > 0.0);
    let weight = |cosine: f64| if has_weights { cosine.max(0.0) } else { 1.0 };
    let mut votes: Vec<(u32, f64)> = Vec::new();
    for (cosine, row) in &others {
        let (voted, weight) = (*labels.get(*row)?, weight(*cosine));
        match votes.iter_mut().find(|(label, _)| *label == voted) {
            Some((_, sum)) => *sum += weight,
            None => votes.push((voted, weight)),
        }
    }
    let total: f64 = votes.iter().map(|(_, sum)| sum).sum();
    let same = votes.iter().find(|(voted, _)| *voted == label).map_or(0.0, |(_, sum)| *sum);
    let mut best = (label, same);
    for (voted, sum) in votes {
        if sum > best.1 {
            best = (voted, sum);
        }
    }
    (total > 0.0).then_some(NeighbourVote { share: same / total, best: best.0 })
}

/// What the nearest rows by embedding say of each row.
pub(super) fn neighbour_votes(
    snapshot: &Snapshot,
    embedding: Option<&str>,
    rows: &LabelledTable,
    watch: Watch<'_>,
) -> Result<Vec<NeighbourVote>, LabelAuditError> {
    let at_once = (COSINES_HELD / rows.labelled.len().max(1)).clamp(1, 256);
    let mut votes = Vec::with_capacity(rows.labels.len());
    watch.progress.begin("neighbours", "rows", Some(rows.labels.len() as u64));
    for block in rows.features.chunks(at_once * rows.width.max(1)) {
        let vectors: Vec<Vec<f32>> = block.chunks(rows.width.max(1)).map(<[f32]>::to_vec).collect();
        let scored = snapshot.score_vectors(embedding, &vectors, ScoreKind::Cosine, watch.cancel);
        let scored = scored.inspect_err(|_| watch.progress.end())?;
        let first = votes.len();
        let vote = |(at, cosines): (usize, &Vec<f64>)| {
            let labelled = cosines.iter().zip(&rows.labelled).filter(|(_, number)| number.is_some());
            let labelled: Vec<f64> = labelled.map(|(cosine, _)| *cosine).collect();
            neighbour_vote(&labelled, &rows.labels, first + at, NEIGHBOURS)
        };
        let voted: Vec<_> = snapshot.in_pool(|| scored.par_iter().enumerate().map(vote).collect());
        // There are two labels, so two rows: none is without a neighbour.
        votes.extend(voted.into_iter().flatten());
        watch.progress.advance(votes.len() as u64);
    }
    watch.progress.end();
    Ok(votes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(cosines: &[f64], labels: &[u32], own: usize, k: usize) -> (f64, u32) {
        neighbour_vote(cosines, labels, own, k).map(|vote| (vote.share, vote.best)).unwrap()
    }

    #[test]
    fn the_row_itself_and_far_rows_have_no_say() {
        let labels = [0, 0, 1, 1, 0];
        assert_eq!(vote(&[1.0, 0.5, 0.5, 0.4, 0.3], &labels, 0, 1), (1.0, 0));
        assert_eq!(vote(&[0.5, 1.0, 0.5, 0.5, 0.3], &labels, 1, 3), (1.0 / 3.0, 1));
        assert_eq!(vote(&[1.0, 0.5, 0.5, 0.5, 0.5], &labels, 0, 20), (0.5, 0));
        // Of equal cosines the first rows.
        assert_eq!(vote(&[1.0, 0.5, 0.5, 0.5, 0.5], &labels, 0, 2), (0.5, 0));
    }

    #[test]
    fn cosines_below_zero_have_no_weight_unless_all_are() {
        assert_eq!(vote(&[1.0, -0.5, 0.25], &[0, 0, 1], 0, 2), (0.0, 1));
        assert_eq!(vote(&[1.0, -0.5, -0.25, 0.0], &[0, 0, 1, 0], 0, 3), (2.0 / 3.0, 0));
        assert_eq!(neighbour_vote(&[1.0], &[0], 0, 3), None);
        assert_eq!(neighbour_vote(&[1.0], &[0], 1, 3), None);
    }
}
