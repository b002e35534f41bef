//! What a measurement of faithfulness found, as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::milliseconds;
use super::provenance::Provenance;
use super::report::Report;
use crate::evaluation::{LdsReport, NdcgReport, PairedDifference, PermutationNull, TruthFile};
use crate::stats::Interval;

/// A measured method: how it is shown.
#[derive(Clone, Debug)]
pub struct LdsMethod<'a> {
    /// Its name.
    pub name: &'a str,
    /// The curvature behind it; `None` of scores of embeddings.
    pub curvature: Option<String>,
}

/// All that was measured of some methods, each list in their order.
#[derive(Clone, Debug)]
pub struct LdsEvaluation<'a> {
    /// How they are shown.
    pub methods: Vec<LdsMethod<'a>>,
    /// Their scores.
    pub report: &'a LdsReport,
    /// What chance alone gives.
    pub control: Option<&'a PermutationNull>,
    /// How well their rankings agree with a gradient score, and the name of that.
    pub ndcg: Option<(&'a NdcgReport, &'a str)>,
    /// What they were measured against.
    pub truth: &'a TruthFile,
    /// Members of the sketch column.
    pub members: Option<usize>,
    /// What decided the resamples and permutations.
    pub seed: u64,
    /// Columns and curvatures.
    pub provenance: Provenance<'a>,
}

/// Linear datamodelling scores with their differences, the noise ceiling, what chance alone gives, and NDCG.
pub fn lds_report(evaluation: &LdsEvaluation<'_>, elapsed: Duration) -> Report {
    let LdsEvaluation { report, truth, .. } = evaluation;
    let outputs = truth.outputs();
    let named = Report::new()
        .with("queries", report.queries.len())
        .with("constant_queries", report.constant_outputs)
        .with("subsets", outputs.subsets())
        .with("seeds", outputs.seeds())
        .with("ceiling", report.ceiling.map_or(Value::Null, |ceiling| rounded(ceiling).into()))
        .with("resamples", report.resamples)
        .with("permutations", evaluation.control.map_or(Value::Null, |control| control.permutations.into()))
        .with("seed", evaluation.seed)
        .with("members", evaluation.members.map_or(Value::Null, Value::from))
        .with("truth_fingerprint", truth.fingerprint().map_or(Value::Null, |text| short(text).into()))
        .with("ndcg", evaluation.ndcg.map_or(Value::Null, |(ndcg, exact)| ndcg_value(ndcg, exact)));
    evaluation
        .provenance
        .add_to(named)
        .with("methods", (0..report.methods.len()).map(|at| evaluation.line(at)).collect::<Vec<_>>())
        .with(
            "differences",
            report.differences.iter().map(|pair| evaluation.difference(pair)).collect::<Vec<_>>(),
        )
        .with("elapsed_ms", milliseconds(elapsed))
}

impl LdsEvaluation<'_> {
    fn line(&self, at: usize) -> Value {
        let mut line = Map::new();
        line.insert("score".to_owned(), self.name(at).into());
        if let Some(method) = self.report.methods.get(at) {
            let Interval { mean, low, high } = method.lds;
            let named = [("lds", mean), ("low", low), ("high", high)];
            line.extend(named.map(|(name, value)| (name.to_owned(), rounded(value).into())));
        }
        if let Some(chance) = self.control.and_then(|control| control.methods.get(at)) {
            line.insert("permuted".to_owned(), interval_value(chance));
        }
        if let Some((ndcg, _)) = self.ndcg
            && let Some(own) = ndcg.methods.get(at)
        {
            line.insert(format!("ndcg_at_{}", ndcg.k), interval_value(own));
        }
        let curvature = self.methods.get(at).and_then(|method| method.curvature.as_deref());
        line.insert("curvature".to_owned(), curvature.map_or(Value::Null, Value::from));
        Value::from(line)
    }

    fn name(&self, at: usize) -> &str {
        self.methods.get(at).map_or("", |method| method.name)
    }

    fn difference(&self, pair: &PairedDifference) -> Value {
        let Interval { mean, low, high } = pair.difference;
        let [mean, low, high] = [mean, low, high].map(rounded);
        let (name, other) = (self.name(pair.method), self.name(pair.other));
        json!({"score": name, "minus": other, "difference": mean, "low": low, "high": high})
    }
}

fn ndcg_value(ndcg: &NdcgReport, exact: &str) -> Value {
    json!({
        "k": ndcg.k,
        "exact": exact,
        "queries": ndcg.queries,
        "without_proponents": ndcg.without_proponents,
    })
}

fn interval_value(interval: &Interval) -> Value {
    let [mean, low, high] = [interval.mean, interval.low, interval.high].map(rounded);
    json!({"mean": mean, "low": low, "high": high})
}

/// To six decimals: resamples are far less sure, and longer numbers fill tables.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// As many digits of a fingerprint as other reports show.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}
