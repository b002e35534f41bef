//! Which rows stand in the graph, and which every walk scores.

use super::column::GraphRows;
use super::error::GraphError;
use super::space::numbers;
use crate::base::limits::{GRAPH_NORM_TOLERANCE, GRAPH_ROWS_MAX, GRAPH_SCANNED_PART, GRAPH_SCANNED_ROWS_MAX};

/// The rows of a column by their norms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Partition {
    /// Rows of the graph, ascending.
    pub(super) graph: Vec<u32>,
    /// The others, ascending.
    pub(super) scanned: Vec<u32>,
    pub(super) graph_norm: f32,
    pub(super) least_norm: f32,
    pub(super) largest_norm: f32,
}

/// Sets the rows of largest norm apart, and those whose numbers are beyond f32.
///
/// # Complexity
/// O(rows), 4 bytes a row.
pub(super) fn partition<R: GraphRows>(rows: &R) -> Result<Partition, GraphError<R::Error>> {
    let row_count = rows.row_count();
    if row_count > GRAPH_ROWS_MAX {
        return Err(GraphError::Refused {
            reason: format!("{row_count} rows are more than {GRAPH_ROWS_MAX}"),
        });
    }
    let all: Vec<u32> = (0..row_count).collect();
    let read = |what: &'static str, bytes: &[u8]| -> Result<Vec<f32>, GraphError<R::Error>> {
        Ok(numbers(what, bytes, row_count)?.iter().map(|number| f32::from_le_bytes(*number)).collect())
    };
    let norms = read("norms", rows.norms_at(&all).map_err(GraphError::Read)?)?;
    let scales = read("scales", rows.scales_at(&all).map_err(GraphError::Read)?)?;
    let is_usable = |row: &u32| {
        let row = *row as usize;
        norms[row].is_finite() && norms[row] >= 0.0 && scales[row].is_finite()
    };
    let (mut graph, mut scanned): (Vec<u32>, Vec<u32>) = all.into_iter().partition(is_usable);
    if scanned.len() > GRAPH_SCANNED_ROWS_MAX as usize {
        return Err(GraphError::Refused { reason: format!("{} rows have norms beyond f32", scanned.len()) });
    }
    let ends = |rows: &[u32]| {
        rows.iter().fold((f32::INFINITY, 0.0_f32), |(least, largest), row| {
            let norm = norms[*row as usize];
            (least.min(norm), largest.max(norm))
        })
    };
    let (least, largest) = ends(&graph);
    if largest - least > GRAPH_NORM_TOLERANCE * largest {
        let apart = (row_count / GRAPH_SCANNED_PART).min(GRAPH_SCANNED_ROWS_MAX - scanned.len() as u32);
        let mut by_norm = graph.clone();
        by_norm.sort_unstable_by(|left, right| {
            norms[*right as usize].total_cmp(&norms[*left as usize]).then(left.cmp(right))
        });
        by_norm.truncate(apart as usize);
        scanned.extend(by_norm);
        scanned.sort_unstable();
        graph.retain(|row| scanned.binary_search(row).is_err());
    }
    let (graph_least, graph_norm) = ends(&graph);
    let has_infinite = norms.iter().any(|norm| !norm.is_finite());
    Ok(Partition {
        graph_norm,
        least_norm: if graph_least.is_finite() { graph_least.min(least) } else { 0.0 },
        largest_norm: if has_infinite { f32::INFINITY } else { largest },
        graph,
        scanned,
    })
}
