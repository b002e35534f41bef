//! What other operations did and found, as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::milliseconds;
use crate::base::{CommitSeq, FieldDeclaration, FieldValue, StageCount};
use crate::engine::{
    ColumnStatistics, CompactReport, CurvatureStatistics, DeleteReport, GraphStatistics, ImportReport,
    IndexStatistics, IngestReport, Statistics, VerifyReport,
};
use crate::evaluation::RecallReport;
use crate::stats::Interval;

/// The result of an operation: named values in a stable order.
///
/// A value whose name begins with `bytes` counts bytes, one that ends in `_ms` is in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    values: Map<String, Value>,
}

impl Report {
    /// A report without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    ///
    /// ```
    /// use ascribe::answers::Report;
    /// let report = Report::new().with("rows", 3).with("commit", 7);
    /// assert_eq!(report.to_value().to_string(), r#"{"rows":3,"commit":7}"#);
    /// ```
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// The report as one JSON object.
    pub fn to_value(&self) -> Value {
        Value::from(self.values.clone())
    }

    /// Names and values in their order.
    pub(super) fn values(&self) -> &Map<String, Value> {
        &self.values
    }
}

fn commit_value(commit: Option<CommitSeq>) -> Value {
    commit.map_or(Value::Null, |commit| Value::from(commit.0))
}

fn fields_value(fields: &[FieldDeclaration]) -> Value {
    fields.iter().map(|field| json!({"name": field.name, "type": field.kind.name()})).collect()
}

fn column_value(column: &ColumnStatistics) -> Value {
    json!({
        "name": column.name,
        "encoder": column.encoder,
        "element": column.element.name(),
        "width": column.width,
        "rows": column.rows,
        "bytes": column.bytes,
        "fingerprint": column.fingerprint.map(|fingerprint| fingerprint.to_string()),
    })
}

fn index_value(index: &IndexStatistics) -> Value {
    if index.files == 0 && index.damaged == 0 && index.graphs.is_none() && index.damaged_graphs == 0 {
        return Value::Null;
    }
    json!({
        "files": index.files,
        "rows": index.rows,
        "bytes": index.bytes,
        "damaged": index.damaged,
        "graph": index.graphs.as_ref().map(graph_value),
        "damaged_graphs": index.damaged_graphs,
    })
}

fn graph_value(graphs: &GraphStatistics) -> Value {
    let [proponents, more_proponents, opponents, more_opponents] =
        graphs.recall.map(|recall| json!({"recall": recall.recall, "beam": recall.beam}));
    json!({
        "files": graphs.files,
        "rows": graphs.rows,
        "bytes": graphs.bytes,
        "reachable_rows": graphs.reachable_rows,
        "made_by": graphs.makers.iter().map(|maker| maker.name()).collect::<Vec<_>>(),
        "proponents": {"10": proponents, "100": more_proponents},
        "opponents": {"10": opponents, "100": more_opponents},
    })
}

/// What `stats` shows. `embedding` and `sketch` list the columns; `curvature` and `index` are null as long as the
/// store has none.
pub fn statistics_report(statistics: &Statistics) -> Report {
    let microseconds = i64::try_from(statistics.commit_unix_ms).unwrap_or(i64::MAX).saturating_mul(1000);
    Report::new()
        .with("rows", statistics.rows)
        .with("deleted_rows", statistics.deleted_rows)
        .with("segments", statistics.segments)
        .with("bytes_on_disk", statistics.bytes_on_disk)
        .with("bytes_mapped", statistics.bytes_mapped)
        .with("bytes_heap", statistics.bytes_heap)
        .with("commit", statistics.commit.0)
        .with("commit_operation", statistics.commit_operation.as_str())
        .with("commit_time", FieldValue::Timestamp(microseconds).to_json())
        .with("format_version", statistics.format_version)
        .with("fields", fields_value(&statistics.fields))
        .with("embedding", statistics.embeddings.iter().map(column_value).collect::<Value>())
        .with("sketch", statistics.sketches.iter().map(column_value).collect::<Value>())
        .with("curvature", curvature_value(&statistics.curvatures))
        .with("index", index_value(&statistics.index))
}

/// Null where nothing was fitted yet.
fn curvature_value(curvatures: &[CurvatureStatistics]) -> Value {
    if curvatures.is_empty() {
        return Value::Null;
    }
    let fitted = curvatures.iter().map(|curvature| {
        json!({
            "version": curvature.version,
            "column": curvature.column,
            "kind": curvature.kind,
            "form": curvature.form,
            "rows": curvature.rows,
            "zero_rows": curvature.zero_rows,
            "bytes": curvature.bytes,
            "commit": curvature.commit.0,
        })
    });
    fitted.collect()
}

/// What `verify` did and found; `ok` says whether all is well.
pub fn verify_report(report: &VerifyReport) -> Report {
    let problems = report.problems.iter();
    Report::new()
        .with("ok", report.problems.is_empty())
        .with("commit", commit_value(report.commit))
        .with("files", report.files)
        .with("bytes", report.bytes)
        .with("rows", report.rows)
        .with("catalog_checked", report.catalog)
        .with(
            "problems",
            problems
                .map(|problem| json!({"place": problem.place, "message": problem.message}))
                .collect::<Value>(),
        )
}

/// A rate to three digits or the whole number.
fn rate_value(rate: f64) -> Value {
    if rate >= 100.0 { Value::from(rate.round() as u64) } else { Value::from((rate * 10.0).round() / 10.0) }
}

fn stage_value(stage: &StageCount) -> Value {
    json!({
        "stage": stage.name,
        "items": stage.items,
        "tokens": stage.tokens,
        "bytes": stage.bytes,
        "items_per_s": stage.items_per_second().map(rate_value),
        "busy_ms": milliseconds(stage.busy),
        "input_wait_ms": milliseconds(stage.input_wait),
        "output_wait_ms": milliseconds(stage.output_wait),
    })
}

/// What the stages of an ingest did, and what they waited for.
pub fn stages_report(stages: &[StageCount]) -> Report {
    Report::new().with("stages", stages.iter().map(stage_value).collect::<Value>())
}

/// What an ingest did. `rows` is the number of live rows of the store afterwards. Its stages, as in [`stages_report`],
/// are there unless they were taken out.
pub fn ingest_report(report: &IngestReport, rows: u64, elapsed: Duration) -> Report {
    let done = Report::new()
        .with("rows_read", report.rows_read)
        .with("rows_added", report.rows_added)
        .with("rows_skipped", report.rows_skipped)
        .with("rows_replaced", report.rows_replaced)
        .with("commits", report.commits)
        .with("commit", commit_value(report.commit))
        .with("rows", rows)
        .with("elapsed_ms", milliseconds(elapsed));
    if report.stages.is_empty() {
        return done;
    }
    done.with("stages", report.stages.iter().map(stage_value).collect::<Value>())
}

/// What an import did. `filled` says that the rows were there before and a column of theirs was filled.
pub fn import_report(report: &ImportReport, rows: u64, elapsed: Duration) -> Report {
    Report::new()
        .with("rows_imported", report.rows)
        .with("rows_skipped", report.rows_skipped)
        .with("filled", report.filled)
        .with("commit", commit_value(report.commit))
        .with("rows", rows)
        .with("elapsed_ms", milliseconds(elapsed))
}

/// What a delete did. `rows` is the number of live rows of the store afterwards.
pub fn delete_report(report: &DeleteReport, rows: u64) -> Report {
    Report::new()
        .with("rows_deleted", report.rows)
        .with("commit", commit_value(report.commit))
        .with("rows", rows)
}

/// What a compaction did, and what the store looks like afterwards.
pub fn compact_report(report: &CompactReport, statistics: &Statistics, elapsed: Duration) -> Report {
    Report::new()
        .with("merges", report.merges)
        .with("segments_merged", report.segments_merged)
        .with("rows_written", report.rows)
        .with("rows_erased", report.rows_erased)
        .with("bytes_before", report.bytes_before)
        .with("bytes_after", report.bytes_after)
        .with("segments", statistics.segments)
        .with("rows", statistics.rows)
        .with("commit", statistics.commit.0)
        .with("elapsed_ms", milliseconds(elapsed))
}

/// A recall and the ends of its interval, to six digits.
fn recall_value(recall: &Interval) -> Value {
    let [recall, low, high] = [recall.mean, recall.low, recall.high].map(|part| (part * 1e6).round() / 1e6);
    json!({"recall": recall, "low": low, "high": high})
}

/// What `eval recall` measured. `planned_ms` and `exact_ms` are medians of answers for one end.
pub fn recall_report(report: &RecallReport, elapsed: Duration) -> Report {
    let plans: Map<String, Value> =
        report.plans.iter().map(|(plan, answers)| ((*plan).to_owned(), Value::from(*answers))).collect();
    Report::new()
        .with("rows", report.rows)
        .with("k", report.k)
        .with("queries", report.queries)
        .with("proponents", recall_value(&report.proponents))
        .with("opponents", recall_value(&report.opponents))
        .with("plans", plans)
        .with("planned_ms", milliseconds(report.planned))
        .with("exact_ms", milliseconds(report.exact))
        .with("elapsed_ms", milliseconds(elapsed))
}

/// What a store looks like after its schema was made or changed.
pub fn schema_report(statistics: &Statistics) -> Report {
    let columns = statistics.embeddings.iter().chain(&statistics.sketches);
    let column = |column: &ColumnStatistics| {
        json!({
            "name": column.name,
            "encoder": column.encoder,
            "element": column.element.name(),
            "width": column.width,
        })
    };
    Report::new()
        .with("commit", statistics.commit.0)
        .with("rows", statistics.rows)
        .with("fields", fields_value(&statistics.fields))
        .with("columns", columns.map(column).collect::<Value>())
}
