//! Whether the rows of a segment are scanned, found by walking its graph, or scored one by one where few pass a filter.
//!
//! A scan of the codes is exact, serves both ends in one pass, any filter and any kind of score, and tells exact percentiles.
//! A walk looks at a small part of the rows and may miss some; it pays where rows are many and few are asked for. Which is
//! cheaper follows from the beam that the graph was measured to need.

use crate::attribution::ScoreKind;
use crate::base::limits::{
    COARSE_LEFT_MAX, GRAPH_FILTER_WIDENING_MAX, GRAPH_NORM_TOLERANCE, GRAPH_RECALL_FLOOR, GRAPH_ROW_COST,
    GRAPH_ROWS_A_BEAM, PREFILTER_ROWS_MIN,
};
use crate::format::GraphHead;

/// How rows were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// By what is cheapest of those that keep the recall that was promised.
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
        let measured = head.measured(end, limit);
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
    let walked = walked_rows(wish, beams);
    if walked * GRAPH_ROW_COST >= wish.rows {
        return Err(format!("a walk would score about {walked} of {} rows", wish.rows));
    }
    Ok(beams)
}

/// About as many rows as a walk with these beams scores.
fn walked_rows(wish: &Wish, beams: [usize; 2]) -> u64 {
    (beams[0] + beams[1]) as u64 * wish.rows.div_ceil(wish.eligible.max(1)) * GRAPH_ROWS_A_BEAM
}

/// Whether only the rows that pass the filter are scored, where a walk would be made with `beams`. The answer is exact, but
/// the percentiles of its rows among all are not known.
pub(super) fn is_prefiltered(wish: &Wish, beams: Option<[usize; 2]>) -> bool {
    wish.plan == Plan::Auto
        && wish.rows >= u64::from(PREFILTER_ROWS_MIN)
        && wish.eligible * GRAPH_ROW_COST < wish.rows
        && beams.is_none_or(|beams| wish.eligible <= walked_rows(wish, beams))
}

/// Whether coarse codes leave few rows to be scored again: of `rows` whose scores are about normally distributed, with
/// `wanted` at an end and a margin of so many of their standard deviations. Scores that reach further than normal ones are
/// told apart better.
pub(super) fn is_coarse_first(wanted: usize, rows: u64, margin_deviations: f64) -> bool {
    let best = wanted as f64 / rows.max(1) as f64;
    best < COARSE_LEFT_MAX && upper_deviations(best) - margin_deviations >= upper_deviations(COARSE_LEFT_MAX)
}

/// How many standard deviations above the mean a part of a normal distribution begins, a part between 0 and 1/2.
///
/// # References
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.2.23; off by at most 4.5e-4.
fn upper_deviations(part: f64) -> f64 {
    let t = (-2.0 * part.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    t - above / (1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::GraphRecall;

    fn head(beams: [u32; 4], recall: f32) -> GraphHead {
        let recall = beams.map(|beam| GraphRecall { beam, recall, is_coarse: true });
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
        let few = Wish { rows: 2000, eligible: 2000, ..wish([10, 0]) };
        assert!(beams(&few, &good).unwrap_err().contains("of 2000 rows"));
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
    fn parts_of_a_normal_distribution_begin_where_tables_say() {
        for (part, deviations) in [(0.5, 0.0), (0.025, 1.959_964), (1e-4, 3.719_016), (1e-6, 4.753_424)] {
            assert!((upper_deviations(part) - deviations).abs() < 4.5e-4, "{part}");
        }
    }

    #[test]
    fn coarse_codes_are_looked_at_where_they_leave_few_rows() {
        // Ten of 100,000 begin at 3.72 deviations; a sixteenth at 1.53.
        assert!(is_coarse_first(10, 100_000, 2.18));
        assert!(!is_coarse_first(10, 100_000, 2.20));
        assert!(!is_coarse_first(10, 1000, 1.25));
        assert!(!is_coarse_first(10, 100, 0.0) && !is_coarse_first(1, 0, 0.0));
        for nothing_known in [f64::INFINITY, f64::NAN] {
            assert!(!is_coarse_first(10, 1_000_000, nothing_known));
        }
    }

    #[test]
    fn rows_that_pass_a_filter_are_scored_alone_where_they_are_few() {
        let few = Wish { eligible: 10_000, ..wish([10, 10]) };
        assert!(is_prefiltered(&few, None));
        // A walk that is about to look at 51,200 rows, and one that finds its way with 5,120.
        assert!(is_prefiltered(&few, Some([32, 0])));
        assert!(!is_prefiltered(&Wish { eligible: 100_000, ..few }, Some([32, 0])));
        assert!(is_prefiltered(&Wish { eligible: 249_999, ..few }, None));
        assert!(!is_prefiltered(&Wish { eligible: 250_000, ..few }, None));
        assert!(!is_prefiltered(&Wish { rows: 16_383, eligible: 1, ..few }, None));
        for plan in [Plan::Scan, Plan::Graph { beam: 10 }] {
            assert!(!is_prefiltered(&Wish { plan, ..few }, None));
        }
    }

    #[test]
    fn a_beam_that_was_asked_for_is_taken_as_it_is() {
        let asked = Wish { plan: Plan::Graph { beam: 64 }, rows: 100, ..wish([100, 0]) };
        assert_eq!(beams(&asked, &head([0; 4], 0.0)), Ok([100, 0]));
    }
}
