//! Floor 3: which rows are looked at.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `candidates.rs` | the rows whose exact score may be among the best |
//! | `coarse_scan.rs` | scores of a range of rows from their coarse codes, and how far each may be off |
//! | `coarsen.rs` | coarse codes of rows |
//! | `code_scan.rs` | scores of a range of rows from their codes, and how far each may be off |
//! | `graph/` | a graph over the codes of a column: built once, walked by queries |
//! | `quantise.rs` | codes of a column's rows, and how far each row lies from its codes |
//! | `sample_column.rs` | a column in memory for the tests of this room |
//! | `scan.rs` | scores of a range of rows by an exact scan over their stored values |

mod candidates;
mod coarse_scan;
mod coarsen;
mod code_scan;
mod graph;
mod quantise;
#[cfg(test)]
mod sample_column;
mod scan;

pub use candidates::{Candidate, Candidates, Threshold};
pub use coarse_scan::{CoarseScorer, DEVIATIONS, RowCoarseCodes, coarse_margin};
pub use coarsen::{CentreSum, CoarseRows, Coarsener, dither};
pub use code_scan::{CodeScorer, NamedCodes, RowCodes};
#[cfg(feature = "hnsw_rs")]
pub use graph::HnswRsBuilder;
pub use graph::{
    BuildStop, CoarseQuestion, CodedSpace, Draft, Found, FrozenColumn, FrozenGraph, GraphBuilder,
    GraphColumn, GraphError, GraphOptions, GraphRows, GraphWork, NativeBuilder, ReadError, Walk, WalkCounts,
    Walker, build_graph,
};
pub use quantise::{CodedRows, QuantiseError, quantise_rows};
pub use scan::{RowScore, RowScorer, RowValues, ScanError, score_rows};
