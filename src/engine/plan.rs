//! Whether the rows of a segment are scanned or found by walking its graph.
//!
//! A scan of the codes is exact, serves both ends in one pass, any filter and any kind of score, and tells exact percentiles.
//! A walk looks at a small part of the rows and may miss some; it pays where rows are many and few are asked for. Which is
//! cheaper follows from the beam that the graph was measured to need.

use crate::attribution::ScoreKind;
use crate::base::limits::{
    GRAPH_FILTER_WIDENING_MAX, GRAPH_NORM_TOLERANCE, GRAPH_RECALL_FLOOR, GRAPH_ROW_COST, GRAPH_ROWS_A_BEAM,
};
use crate::format::GraphHead;

/// How rows were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// By what is cheaper of those that keep the recall that was promised.
    #[default]
    Auto,
    /// Every row is scored.
    Scan,
    /// Graphs are walked wherever there is one, with this many rows in the beam.
    Graph {
        /// Rows that a walk keeps, at least 1.
        beam: usize,
    },
}

/// What is asked of a segment with a graph.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) plan: Plan,
    /// Rows at each end, 0 at one that is not asked for.
    pub(super) limits: [usize; 2],
    pub(super) kind: ScoreKind,
    /// Rows of the segment, and those of them that may be chosen.
    pub(super) rows: u64,
    pub(super) eligible: u64,
}

/// The beam for each end, or why the segment is scanned.
pub(super) fn beams(wish: &Wish, head: &GraphHead) -> Result<[usize; 2], String> {
    if wish.kind != ScoreKind::Dot
        && head.largest_norm - head.least_norm > GRAPH_NORM_TOLERANCE * head.largest_norm
    {
        return Err(format!(
            "rows of different norms are not in the order of {} scores in a graph",
            wish.kind.name()
        ));
    }
    if let Plan::Graph { beam } = wish.plan {
        return Ok(wish.limits.map(|limit| if limit == 0 { 0 } else { beam.max(limit) }));
    }
    let mut beams = [0; 2];
    for (end, name) in ["proponents", "opponents"].into_iter().enumerate() {
        let limit = wish.limits[end];
        if limit == 0 {
            continue;
        }
        // The 10 best and the 100 best were measured.
        let measured = head.recall[2 * end + usize::from(limit > 10)];
        if measured.beam == 0 {
            return Err("the recall of the graph was not measured".to_owned());
        }
        if f64::from(measured.recall) < GRAPH_RECALL_FLOOR {
            return Err(format!(
                "the graph finds {:.3} of the {name}, less than {GRAPH_RECALL_FLOOR}",
                measured.recall
            ));
        }
        beams[end] = (measured.beam as usize * limit.div_ceil(100)).max(limit);
    }
    // Where few rows may be chosen, walks go wider.
    let part = wish.rows.div_ceil(wish.eligible.max(1));
    if part > GRAPH_FILTER_WIDENING_MAX as u64 {
        return Err(format!("the filter passes {} of {} rows", wish.eligible, wish.rows));
    }
    let walked = (beams[0] + beams[1]) as u64 * part * GRAPH_ROWS_A_BEAM;
    if walked * GRAPH_ROW_COST >= wish.rows {
        return Err(format!("a walk would score about {walked} of {} rows", wish.rows));
    }
    Ok(beams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::GraphRecall;

    fn head(beams: [u32; 4], recall: f32) -> GraphHead {
        let recall = beams.map(|beam| GraphRecall { beam, recall });
        GraphHead { recall, least_norm: 1.0, largest_norm: 1.0, ..GraphHead::default() }
    }

    fn wish(limits: [usize; 2]) -> Wish {
        let rows = 1_000_000;
        Wish { plan: Plan::Auto, limits, kind: ScoreKind::Dot, rows, eligible: rows }
    }

    #[test]
    fn the_measured_beam_serves_the_rows_that_are_asked_for() {
        let head = head([32, 192, 1024, 1536], 0.99);
        assert_eq!(beams(&wish([10, 0]), &head), Ok([32, 0]));
        assert_eq!(beams(&wish([11, 0]), &head), Ok([192, 0]));
        assert_eq!(beams(&wish([10, 10]), &head), Ok([32, 1024]));
        assert_eq!(beams(&wish([250, 0]), &head), Ok([576, 0]));
    }

    #[test]
    fn a_scan_is_taken_where_it_is_cheaper_or_surer() {
        let good = head([32, 192, 1024, 1536], 0.99);
        let few = Wish { rows: 3000, eligible: 3000, ..wish([10, 0]) };
        assert!(beams(&few, &good).unwrap_err().contains("of 3000 rows"));
        let selective = Wish { eligible: 10_000, ..wish([10, 0]) };
        assert!(beams(&selective, &good).unwrap_err().contains("passes 10000"));
        let wide = Wish { eligible: 300_000, ..wish([10, 0]) };
        assert_eq!(beams(&wide, &good), Ok([32, 0]));
        assert!(beams(&wish([10, 0]), &head([32; 4], 0.94)).unwrap_err().contains("0.940"));
        assert!(beams(&wish([10, 0]), &head([0; 4], 0.0)).is_err());
        assert!(beams(&wish([100_000, 0]), &good).is_err());
    }

    #[test]
    fn cosines_are_walked_for_only_where_norms_agree() {
        let mut head = head([32, 192, 1024, 1536], 0.99);
        let cosine = Wish { kind: ScoreKind::Cosine, ..wish([10, 0]) };
        assert_eq!(beams(&cosine, &head), Ok([32, 0]));
        head.least_norm = 0.5;
        assert!(beams(&cosine, &head).unwrap_err().contains("cosine"));
        assert_eq!(beams(&wish([10, 0]), &head), Ok([32, 0]));
    }

    #[test]
    fn a_beam_that_was_asked_for_is_taken_as_it_is() {
        let asked = Wish { plan: Plan::Graph { beam: 64 }, rows: 100, ..wish([100, 0]) };
        assert_eq!(beams(&asked, &head([0; 4], 0.0)), Ok([100, 0]));
    }
}
