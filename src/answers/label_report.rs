//! What an audit of labels and its evaluation say, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::milliseconds;
use super::provenance::Provenance;
use super::report::Report;
use crate::engine::Row;
use crate::evaluation::LabelDetection;
use crate::monitor::{AuditedRow, LabelAudit};

/// The most suspicious rows of an audit, as many as there are `rows`, which are theirs.
pub fn audit_report(
    audit: &LabelAudit,
    rows: &[Row],
    provenance: &Provenance<'_>,
    elapsed: Duration,
) -> Report {
    let shown = audit.rows.iter().zip(rows).enumerate().map(|(rank, (audited, row))| {
        let AuditedRow { key, label, suggested, training, ridge, neighbours, score, .. } = audited;
        json!({
            "rank": rank + 1, "key": key, "label": label, "suggested": suggested, "score": rounded(*score),
            "training": training.map(rounded), "ridge": ridge.map(rounded),
            "neighbours": rounded(*neighbours), "text": row.text,
        })
    });
    let named = Report::new()
        .with("rows", audit.rows.len())
        .with("unlabelled", audit.unlabelled)
        .with("classes", audit.classes)
        .with("disputed", audit.rows.iter().filter(|row| row.suggested != row.label).count())
        .with("training", audit.training.name())
        .with("kernel", audit.kernel.name())
        .with("notes", audit.notes.join("; "));
    provenance
        .add_to(named)
        .with("elapsed_ms", milliseconds(elapsed))
        .with("suspicious", shown.collect::<Vec<_>>())
}

/// How well some methods find wrong labels; with `curvature` that behind self-influence.
pub fn detection_report(
    audit: &LabelAudit,
    unknown: usize,
    methods: &[(&str, LabelDetection)],
    (provenance, curvature): (&Provenance<'_>, Option<&str>),
    elapsed: Duration,
) -> Report {
    let lines = methods.iter().map(|(name, found)| {
        json!({
            "method": name, "rows": found.rows, "flipped": found.flipped,
            "auc": rounded(found.auc.mean), "low": rounded(found.auc.low), "high": rounded(found.auc.high),
            "found_at_10%": rounded(found.top_tenth.recall),
            "precision_at_10%": rounded(found.top_tenth.precision),
            "found_at_20%": rounded(found.top_fifth.recall),
            "precision_at_20%": rounded(found.top_fifth.precision),
        })
    });
    let of_audit = methods.first().map(|(_, found)| *found);
    let count =
        |of: fn(&LabelDetection) -> usize| of_audit.as_ref().map_or(Value::from(0), |found| of(found).into());
    let named = Report::new()
        .with("rows", count(|found| found.rows))
        .with("flipped", count(|found| found.flipped))
        .with("unknown", unknown)
        .with("resamples", count(|found| found.resamples))
        .with("seed", of_audit.map_or(0, |found| found.seed))
        .with("training", audit.training.name())
        .with("kernel", audit.kernel.name())
        .with("curvature", curvature.map_or(Value::Null, Value::from))
        .with("notes", audit.notes.join("; "));
    provenance
        .add_to(named)
        .with("methods", lines.collect::<Vec<_>>())
        .with("elapsed_ms", milliseconds(elapsed))
}

/// To four decimals: what follows says nothing of a rank, and fills tables.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
