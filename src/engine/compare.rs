//! Whether merged rows answer as they did before.
//!
//! Counts can agree where rows were lost and others doubled. So rows are looked up by their keys, and questions are asked of
//! the old segments and of the new one: at both ends, by codes and exactly, with and without filters.

use super::answer::{Answer, Hit, Query, QueryInput};
use super::compact_error::CompactError;
use super::merge::Merged;
use super::query_error::QueryError;
use super::segment::{Segment, SegmentView};
use super::snapshot::Snapshot;
use crate::base::{Cancel, FieldDeclaration, FieldValue, RowId, RowSet};
use crate::format::{ColumnKind, metadata_value};
use std::sync::Arc;

/// Rows that are looked up, and vectors that are asked about.
const SAMPLE_ROWS: usize = 64;
const SAMPLE_QUERIES: usize = 4;
/// Fields that filters are tried on.
const SAMPLE_FIELDS: usize = 3;

/// Checks that the merged segment answers as its sources do, and returns it: open, and with the blocks that queries look at
/// checked, so that the first query after the commit does not have to. `None` if it has no rows.
///
/// # Errors
/// It does not, or one of the two cannot be asked.
///
/// # Complexity
/// Some dozen queries for each column.
pub(super) fn compare(
    snapshot: &Snapshot,
    merged: &Merged,
    cancel: &Cancel,
) -> Result<Option<Arc<Segment>>, CompactError> {
    let differs = |reason: String| Err(CompactError::Differs { reason });
    let mut sources = merged.sources().to_vec();
    sources.sort_by_key(|view| view.segment.record.id);
    // In the pool of the others, queries would wait for the whole of each of these.
    let context = snapshot.inner.context.beside()?;
    let old = snapshot.of_segments(&context, sources);
    let Some(record) = merged.record() else {
        return if old.row_count() == 0 { Ok(None) } else { differs("rows are missing".to_owned()) };
    };
    let segment = Arc::new(Segment::open(snapshot.inner.context.storage.as_ref(), record, None)?);
    let new = snapshot.of_segments(&context, vec![SegmentView::new(Arc::clone(&segment), RowSet::new())]);
    if old.row_count() != new.row_count() {
        return differs(format!("{} rows became {}", old.row_count(), new.row_count()));
    }
    let rows = sample_rows(&old, SAMPLE_ROWS);
    let mut keys = Vec::with_capacity(rows.len());
    for &(segment, row) in &rows {
        let before = old.row_at(segment, row)?;
        let after = new.row(&before.key)?;
        if after.as_ref() != Some(&before) {
            return differs(format!("the row with key {:?} is another", before.key));
        }
        keys.push(before.key);
    }
    let filters = filters(&old, &rows)?;
    let columns = snapshot.inner.state.store.columns.iter();
    for column in columns.filter(|column| matches!(column.kind, ColumnKind::Embedding(_))) {
        if !record.columns.iter().any(|file| file.column == column.id) {
            continue;
        }
        let step = keys.len().div_ceil(SAMPLE_QUERIES).max(1);
        let ask_about = |key: &String| Query {
            column: Some(column.name.clone()),
            // Scanned on both sides: plans, and with them whether percentiles are told, depend on the size of segments.
            background: true,
            ..Query::new(QueryInput::Key(key.clone()))
        };
        let asked: Vec<Query> = keys.iter().step_by(step).map(ask_about).collect();
        // One without an index: every stored value is read once.
        let exact = asked.iter().take(1).map(|query| Query { exact: true, ..query.clone() }).collect();
        let filtered = filters.iter().map(|filter| {
            asked.iter().map(|query| Query { filter: Some(filter.clone()), ..query.clone() }).collect()
        });
        for queries in [exact, asked.clone()].into_iter().chain(filtered) {
            let (before, after) = (ask(&old, &queries, cancel)?, ask(&new, &queries, cancel)?);
            for (query, (before, after)) in queries.iter().zip(before.iter().zip(&after)) {
                if let Some(reason) = difference(before, after) {
                    let Query { input, filter, .. } = query;
                    return differs(format!("asked about {input:?} with filter {filter:?}: {reason}"));
                }
            }
        }
    }
    Ok(Some(segment))
}

/// Asks about several rows in one pass.
fn ask(snapshot: &Snapshot, queries: &[Query], cancel: &Cancel) -> Result<Vec<Answer>, CompactError> {
    snapshot.query_all(queries, cancel).map_err(|error| match error {
        QueryError::Cancelled => CompactError::Cancelled,
        error => error.into(),
    })
}

/// Live rows, evenly spread.
fn sample_rows(snapshot: &Snapshot, count: usize) -> Vec<(usize, RowId)> {
    let step = (snapshot.row_count() as usize / count).max(1);
    let numbers = (0..snapshot.row_count()).step_by(step).take(count);
    numbers.filter_map(|number| snapshot.live_row(number)).collect()
}

/// For some fields a filter that chooses the rows with the value of a sampled row, and one for the others.
fn filters(snapshot: &Snapshot, rows: &[(usize, RowId)]) -> Result<Vec<String>, CompactError> {
    let mut filters = Vec::new();
    let Some(&(segment, row)) = rows.get(rows.len() / 2) else { return Ok(filters) };
    let declared = snapshot.fields();
    let batch = snapshot.inner.segments[segment].segment.fields(declared)?;
    for FieldDeclaration { name, .. } in declared.iter().take(SAMPLE_FIELDS) {
        let literal = match metadata_value(&batch, name, row) {
            Some(FieldValue::Text(text)) => Some(format!("'{}'", text.replace('\'', "''"))),
            Some(FieldValue::Integer(number)) => Some(number.to_string()),
            Some(FieldValue::Boolean(truth)) => Some(truth.to_string()),
            _ => None,
        };
        filters.push(match literal {
            Some(literal) => format!("\"{name}\" = {literal}"),
            None => format!("\"{name}\" IS NULL"),
        });
    }
    Ok(filters)
}

/// The first difference between two answers that ought to be the same. Mean and deviation are not compared: those of
/// scores by codes depend on which rows have an index.
fn difference(before: &Answer, after: &Answer) -> Option<String> {
    if (before.rows, before.eligible_rows) != (after.rows, after.eligible_rows) {
        return Some(format!("{} rows to choose from became {}", before.eligible_rows, after.eligible_rows));
    }
    let is_same = |(left, right): (&Hit, &Hit)| {
        let shown = |hit: &Hit| (hit.key.clone(), hit.score.to_bits(), hit.percentile.map(f64::to_bits));
        shown(left) == shown(right) && left.text == right.text && left.metadata == right.metadata
    };
    let ends = [(&before.proponents, &after.proponents), (&before.opponents, &after.opponents)];
    for ((left, right), name) in ends.into_iter().zip(["proponents", "opponents"]) {
        if left.len() != right.len() {
            return Some(format!("{} {name} became {}", left.len(), right.len()));
        }
        if let Some(place) = left.iter().zip(right).position(|pair| !is_same(pair)) {
            return Some(format!("{name} differ at rank {}", place + 1));
        }
    }
    None
}
