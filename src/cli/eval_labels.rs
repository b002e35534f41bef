//! `eval labels`: how well wrong labels are found.

use std::collections::HashMap;
use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::{Provenance, detection_report};
use crate::engine::Snapshot;
use crate::evaluation::{LabelDetection, label_detection};
use crate::monitor::{LabelAudit, LabelAuditOptions, audit_labels};

/// Measure how well wrong labels are found, where the true ones are known
///
/// A row's label is wrong where the fields --label and --clean differ; rows without a true label do not count. AUC is the
/// probability that a wrong label ranks before a right one; low and high are the ends of its 95% interval over the rows.
/// "found at 10%" is the share of all wrong labels among the 10% of rows that rank first, "precision at 10%" their share of
/// those rows. Beside the audit stand its parts alone, and self-influence where "ascribe fit" was run.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat\", \"kind\": \"cat\", \"is\": \"cat\"}' > pets.jsonl
  echo '{\"text\": \"two cats\", \"kind\": \"dog\", \"is\": \"cat\"}' >> pets.jsonl
  ascribe ingest pets pets.jsonl
  ascribe eval labels pets --label kind --clean is")]
pub(super) struct EvalLabelsArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Field with the labels to check
    #[arg(long, value_name = "FIELD")]
    label: String,
    /// Field with the true labels
    #[arg(long, value_name = "FIELD")]
    clean: String,
    /// Sketch column [default: the only one, if there is one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

/// A method that ranks rows, and its value for each row that it has one for.
struct Method {
    name: &'static str,
    values: HashMap<String, f64>,
}

impl EvalLabelsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let snapshot = self.store.read()?.snapshot();
        let options = LabelAuditOptions { label: self.label.clone(), column: self.column.clone() };
        let audit = audit_labels(&snapshot, &options, session.watch())?;
        let flipped = self.flipped(&snapshot, &audit)?;
        let mut methods = of_audit(&audit);
        let fitted = snapshot.gradient_column(self.column.as_deref())?.filter(|column| column.is_fitted);
        let fitted = fitted.map(|column| column.name);
        methods.extend(self_influence(&snapshot, fitted.as_deref(), session)?);
        let mut measured: Vec<(&str, LabelDetection)> = Vec::new();
        for method in &methods {
            let known =
                flipped.iter().filter_map(|(key, flipped)| Some((*method.values.get(key)?, *flipped)));
            let (scores, flipped): (Vec<f64>, Vec<bool>) = known.unzip();
            if let Some(found) = label_detection(&scores, &flipped)? {
                measured.push((method.name, found));
            } else if measured.is_empty() {
                let (rows, wrong) = (flipped.len(), flipped.iter().filter(|flipped| **flipped).count());
                return Err(Failure::Failed(format!(
                    "of {rows} rows with both {:?} and {:?}, {wrong} differ: some have to, and not all",
                    self.label, self.clean
                )));
            }
        }
        let unknown = audit.rows.len() - flipped.len();
        let statistics = snapshot.statistics();
        let provenance = Provenance::new(&statistics, audit.columns.iter().cloned().chain(fitted.clone()));
        let curvature = fitted.and_then(|column| provenance.curvature(&column, None));
        let made_with = (&provenance, curvature.as_deref());
        let report = detection_report(&audit, unknown, &measured, made_with, begun.elapsed());
        session.report(self.output.format, &report)
    }

    /// For each audited row with a true label whether its label is another, in the order of ingest.
    fn flipped(&self, snapshot: &Snapshot, audit: &LabelAudit) -> Result<Vec<(String, bool)>, Failure> {
        let mut flipped = Vec::with_capacity(audit.rows.len());
        for row in super::audit::in_order(audit) {
            let found = snapshot.row(&row.key)?;
            let clean = found.as_ref().and_then(|found| found.metadata.get(&self.clean));
            let clean = match clean {
                None | Some(serde_json::Value::Null) => continue,
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            flipped.push((row.key.clone(), clean != row.label));
        }
        if flipped.is_empty() {
            return Err(Failure::Failed(format!(
                "none of the {} rows with a label has a value in field {:?}: name the field with the true labels",
                audit.rows.len(),
                self.clean
            )));
        }
        Ok(flipped)
    }
}

/// Self-influence by the newest curvature of a sketch column, if there is one.
fn self_influence(
    snapshot: &Snapshot,
    column: Option<&str>,
    session: &Session<'_>,
) -> Result<Option<Method>, Failure> {
    let Some(column) = column else { return Ok(None) };
    let values = snapshot.self_influence(Some(column), None, &session.cancel)?;
    let values = snapshot.gradient_keys(Some(column))?.into_iter().zip(values).collect();
    Ok(Some(Method { name: "self-influence", values }))
}

/// The audit, and its parts alone.
fn of_audit(audit: &LabelAudit) -> Vec<Method> {
    let method = |name, value: fn(&crate::monitor::AuditedRow) -> Option<f64>| {
        let values = audit.rows.iter().filter_map(|row| Some((row.key.clone(), value(row)?)));
        Method { name, values: values.collect() }
    };
    let all = [
        method("audit", |row| Some(row.score)),
        method("training alone", |row| row.training),
        method("leave-one-out fit alone", |row| row.ridge),
        method("nearest rows alone", |row| Some(row.neighbours)),
    ];
    all.into_iter().filter(|method| !method.values.is_empty()).collect()
}
