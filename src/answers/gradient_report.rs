//! What fits, trainings of heads and measurements of the truth did, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::milliseconds;
use super::report::Report;
use crate::engine::{FitReport, Row};
#[cfg(feature = "bert")]
use crate::training::{HeadReport, TruthReport};

/// What a fit did.
pub fn fit_report(report: &FitReport, elapsed: Duration) -> Report {
    let damping: Vec<Value> = report.damping.iter().flatten().map(|damping| Value::from(*damping)).collect();
    Report::new()
        .with("version", report.version)
        .with("curvature", report.kind.name())
        .with("form", report.form.name())
        .with("column", report.column.as_str())
        .with("rows", report.rows)
        .with("zero_rows", report.zero_rows)
        .with("members", report.members)
        .with("parameters", report.parameters)
        .with("damping", damping)
        .with("bytes", report.bytes)
        .with("commit", report.commit.0)
        .with("elapsed_ms", milliseconds(elapsed))
}

/// Rows with the highest self-influence, of `count`.
pub fn self_report(rows: &[(f64, Row)], count: usize) -> Report {
    let shown = rows.iter().enumerate().map(|(rank, (value, row))| {
        json!({"rank": rank + 1, "key": row.key, "self_influence": value, "text": row.text, "metadata": row.metadata})
    });
    Report::new().with("rows", count).with("highest", shown.collect::<Vec<_>>())
}

/// What the training of a head did.
#[cfg(feature = "bert")]
pub fn head_report(report: &HeadReport, elapsed: Duration) -> Report {
    Report::new()
        .with("column", report.column.as_str())
        .with("rows", report.rows)
        .with("rows_unlabelled", report.rows_unlabelled)
        .with("classes", report.classes)
        .with("members", report.members)
        .with("accuracy", report.accuracy)
        .with("mean_own", report.mean_own)
        .with("commit", report.commit.0)
        .with("elapsed_ms", milliseconds(elapsed))
}

/// What a measurement of the truth did.
#[cfg(feature = "bert")]
pub fn truth_report(report: &TruthReport, elapsed: Duration) -> Report {
    Report::new()
        .with("rows", report.rows)
        .with("queries", report.queries)
        .with("subsets", report.subsets)
        .with("seeds", report.runs)
        .with("resumed", report.resumed)
        .with("fingerprint", report.fingerprint.short())
        .with("elapsed_ms", milliseconds(elapsed))
}
