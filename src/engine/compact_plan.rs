//! Which segments to merge.
//!
//! Only neighbours in the order of ingest are merged, and only if they have the same columns. In the background a run of
//! segments is merged from the newest back, as long as the next one has no more rows than those taken already: so sizes
//! grow by powers of two toward one large segment, and a row is written again once in each.
//!
//! # References
//! Size-tiered merging: O'Neil, Cheng, Gawlick, O'Neil: The log-structured merge-tree, Acta Informatica 33, 1996.

use crate::base::ColumnId;
use crate::base::limits::{
    COMPACTION_DELETED_ROWS_MIN, COMPACTION_ROWS_MAX, COMPACTION_ROWS_MIN, COMPACTION_SEGMENTS_MIN,
    COMPACTION_SEGMENTS_SMALL,
};

/// A segment as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentSize {
    pub(super) columns: Vec<ColumnId>,
    pub(super) live_rows: u64,
    pub(super) deleted_rows: u64,
}

/// Neighbours with the same columns.
fn runs(segments: &[SegmentSize]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let lengths = segments.chunk_by(|left, right| left.columns == right.columns).map(<[_]>::len);
    lengths
        .map(|length| {
            start += length;
            start - length..start
        })
        .collect()
}

/// Everything that can be merged or has deleted rows: groups of positions in `segments`, which stand in the order of
/// ingest.
pub(super) fn plan_all(segments: &[SegmentSize]) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    for run in runs(segments) {
        let (mut start, mut rows) = (run.start, 0);
        for position in run.clone() {
            if position > start && rows + segments[position].live_rows > COMPACTION_ROWS_MAX {
                groups.push(start..position);
                (start, rows) = (position, 0);
            }
            rows += segments[position].live_rows;
        }
        groups.push(start..run.end);
    }
    groups.retain(|group| group.len() > 1 || segments[group.start].deleted_rows > 0);
    groups
}

/// What the background merges next, if anything; only segments with all of the store's `columns`: those that lack one may
/// get it from an import, which gives all rows of a segment as they are.
pub(super) fn plan_next(segments: &[SegmentSize], columns: usize) -> Option<std::ops::Range<usize>> {
    for run in runs(segments).into_iter().rev().filter(|run| segments[run.start].columns.len() == columns) {
        for end in (run.start + 1..=run.end).rev() {
            let (mut start, mut rows) = (end - 1, segments[end - 1].live_rows);
            while start > run.start {
                let older = segments[start - 1].live_rows;
                if older > rows || rows + older > COMPACTION_ROWS_MAX {
                    break;
                }
                start -= 1;
                rows += older;
            }
            let count = end - start;
            let is_many = count >= COMPACTION_SEGMENTS_MIN && rows >= COMPACTION_ROWS_MIN;
            if is_many || count >= COMPACTION_SEGMENTS_SMALL {
                return Some(start..end);
            }
        }
    }
    let is_full_of_holes = |segment: &SegmentSize| {
        segment.deleted_rows >= COMPACTION_DELETED_ROWS_MIN
            && 3 * segment.deleted_rows >= segment.live_rows
            && segment.columns.len() == columns
    };
    segments.iter().position(is_full_of_holes).map(|position| position..position + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(live_rows: u64) -> SegmentSize {
        SegmentSize { columns: vec![ColumnId(1)], live_rows, deleted_rows: 0 }
    }

    /// Commits of the given sizes with every merge that is planned; returns the sizes left and rows written by merges.
    fn grow(commits: impl Iterator<Item = u64>) -> (Vec<SegmentSize>, u64) {
        let (mut segments, mut written) = (Vec::new(), 0);
        for rows in commits {
            segments.push(segment(rows));
            while let Some(group) = plan_next(&segments, 1) {
                let rows = segments[group.clone()].iter().map(|segment| segment.live_rows).sum();
                written += rows;
                segments.splice(group, [segment(rows)]);
            }
        }
        (segments, written)
    }

    #[test]
    fn segments_stay_few_and_rows_are_written_a_few_times() {
        for size in [1, 1000, 10_000] {
            let (segments, written) = grow((0..1000).map(|_| size));
            assert_eq!(segments.iter().map(|segment| segment.live_rows).sum::<u64>(), 1000 * size);
            // log2 of a thousand commits, and up to fifteen segments that are too small to count.
            assert!(segments.len() <= 26, "{size}: {} segments", segments.len());
            assert!(written <= 10 * 1000 * size, "{size}: {written} rows");
        }
    }

    #[test]
    fn a_large_segment_is_not_written_again_for_a_few_rows() {
        let (segments, written) = grow([1_000_000].into_iter().chain((0..100).map(|_| 1000)));
        assert_eq!(segments[0].live_rows, 1_000_000);
        assert!(written < 1_000_000, "{written}");
        let (segments, _) = grow((0..8).map(|_| COMPACTION_ROWS_MAX / 4));
        assert_eq!(segments.len(), 2);
    }

    #[test]
    fn segments_of_other_columns_and_those_between_stay_apart() {
        let other = SegmentSize { columns: vec![ColumnId(2)], ..segment(10) };
        let segments = [segment(5), segment(6), other.clone(), segment(7), segment(8)];
        assert_eq!(plan_all(&segments), [0..2, 3..5]);
        let partial: Vec<SegmentSize> = (0..20).map(|_| segment(100_000)).collect();
        assert_eq!(plan_next(&partial, 2), None);
        assert_eq!(plan_next(&partial, 1), Some(0..20));
        assert!(plan_all(&[segment(5), other]).is_empty());
    }

    #[test]
    fn deleted_rows_are_erased_where_they_are_many() {
        let holes = |deleted_rows| SegmentSize { deleted_rows, ..segment(6000) };
        assert_eq!(plan_next(&[segment(9000), holes(2000)], 1), Some(1..2));
        assert_eq!(plan_next(&[segment(9000), holes(1500)], 1), None);
        assert_eq!(plan_all(&[holes(1)]).first(), Some(&(0..1)));
        assert!(plan_all(&[holes(0)]).is_empty());
    }

    #[test]
    fn a_merged_segment_is_never_larger_than_the_cap() {
        let half = segment(COMPACTION_ROWS_MAX / 2);
        let segments = vec![half.clone(), half.clone(), half.clone(), half];
        assert_eq!(plan_all(&segments), [0..2, 2..4]);
    }
}
