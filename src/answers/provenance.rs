//! What figures were computed with: the state of the store, its columns and curvatures.

use serde_json::{Value, json};

use super::report::Report;
use crate::engine::Statistics;

/// What figures were computed with, so that they can be told from figures of another state, encoder, head or fit.
#[derive(Clone, Debug)]
pub struct Provenance<'a> {
    statistics: &'a Statistics,
    columns: Vec<String>,
}

impl<'a> Provenance<'a> {
    /// Figures from the columns of these names, in this order; a name that comes again counts once.
    pub fn new(statistics: &'a Statistics, columns: impl IntoIterator<Item = String>) -> Self {
        let mut once: Vec<String> = Vec::new();
        for name in columns {
            if !once.contains(&name) {
                once.push(name);
            }
        }
        Self { statistics, columns: once }
    }

    /// The curvature that gradients of a column are weighed by, such as `margin (dual), version 3`: the newest, or the newest
    /// of a kind. `None` if there is none.
    pub fn curvature(&self, column: &str, kind: Option<&str>) -> Option<String> {
        let mut fitted = self.statistics.curvatures.iter();
        let chosen = fitted.rfind(|own| own.column == column && kind.is_none_or(|kind| own.kind == kind))?;
        Some(chosen.title())
    }

    /// Adds the commit, and each column with its encoder and the fingerprint of encoder or sketch schema.
    pub(super) fn add_to(&self, report: Report) -> Report {
        let all = self.statistics.embeddings.iter().chain(&self.statistics.sketches);
        let all: Vec<_> = all.collect();
        let columns = self.columns.iter().filter_map(|name| all.iter().find(|column| column.name == *name));
        let columns = columns.map(|column| {
            let fingerprint = column.fingerprint.map(|fingerprint| fingerprint.to_string());
            json!({"name": column.name, "encoder": column.encoder, "fingerprint": fingerprint})
        });
        report.with("commit", self.statistics.commit.0).with("columns", columns.collect::<Value>())
    }
}
