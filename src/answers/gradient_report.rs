//! What fits, trainings of heads and measurements of the truth did, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::milliseconds;
use super::report::Report;
use crate::engine::{FitReport, FitSums, Row};
use crate::stats::Interval;
#[cfg(feature = "bert")]
use crate::training::{HeadReport, TruthReport};

/// What a fit did.
pub fn fit_report(report: &FitReport, search: Option<&DampingSearch>, elapsed: Duration) -> Report {
    let damping: Vec<Value> = report.damping.iter().flatten().map(|damping| Value::from(*damping)).collect();
    let mut shown = Report::new()
        .with("version", report.version)
        .with("curvature", report.kind.name())
        .with("form", report.form.name())
        .with("column", report.column.as_str())
        .with("rows", report.rows)
        .with("zero_rows", report.zero_rows)
        .with("members", report.members)
        .with("parameters", report.parameters)
        .with("damping", damping);
    if let Some(error) = report.landmark_error {
        shown = shown.with("landmark_error", error);
    }
    if let Some(factors) = report.factors {
        shown = shown.with("factors", factors.name());
    }
    if let Some(codes) = report.codes {
        shown = shown
            .with("codes", codes.coordinates)
            .with("code_bits", u8::from(codes.bits))
            .with("codes_share", codes.share);
    }
    if let Some(sums) = &report.sums {
        shown = shown.with("sums", sums_shown(sums));
    }
    if let Some(search) = search {
        shown = search.shown(shown);
    }
    shown
        .with("bytes", report.bytes)
        .with("commit", report.commit.0)
        .with("elapsed_ms", milliseconds(elapsed))
}

fn sums_shown(sums: &FitSums) -> Value {
    let mut shown = json!({
        "segments": sums.segments,
        "kept": sums.kept,
        "rows_added": sums.rows_added,
        "rows_taken_away": sums.rows_taken_away,
    });
    if let Some(reason) = &sums.unwritten {
        shown["unwritten"] = reason.as_str().into();
    }
    shown
}

/// Damping as a share of the trace (or of each module's mean), and the LDS it gave on the subsets that chose.
pub type DampingTrial = (f64, Interval);

/// How a damping was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct DampingSearch {
    /// Queries of the truth.
    pub queries: usize,
    /// Subsets that chose, and subsets that measured what was chosen.
    pub subsets: [usize; 2],
    /// Decides which are which.
    pub seed: u64,
    /// In ascending order of damping.
    pub trials: Vec<DampingTrial>,
    /// Place of the trial that was chosen.
    pub chosen: usize,
    /// Place of the trial with the damping that is taken without a truth.
    pub default: usize,
    /// LDS of both on the subsets that measured.
    pub held_out: [Interval; 2],
    /// The former less the latter, paired.
    pub difference: Interval,
}

impl DampingSearch {
    /// The damping that was chosen.
    pub fn ratio(&self) -> f64 {
        self.trials[self.chosen].0
    }

    fn shown(&self, report: Report) -> Report {
        let trials = self.trials.iter().enumerate().map(|(at, (ratio, lds))| {
            json!({"damping": ratio, "lds": lds.mean, "low": lds.low, "high": lds.high, "chosen": at == self.chosen})
        });
        let of =
            |interval: &Interval| json!({"lds": interval.mean, "low": interval.low, "high": interval.high});
        report
            .with("queries", self.queries)
            .with("subsets_choosing", self.subsets[0])
            .with("subsets_held_out", self.subsets[1])
            .with("seed", self.seed)
            .with("trials", trials.collect::<Vec<_>>())
            .with("held_out_chosen", of(&self.held_out[0]))
            .with("held_out_default", of(&self.held_out[1]))
            .with("held_out_difference", of(&self.difference))
    }
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
