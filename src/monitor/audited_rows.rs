//! The rows of a store that have a label, with what is known of them.

use std::collections::HashMap;

use super::error::LabelAuditError;
use crate::engine::{GradientColumn, LabelledTable, Snapshot};

/// Live rows with an embedding, in the order of ingest, with their labels.
pub(super) fn read_labels(
    snapshot: &Snapshot,
    embedding: Option<&str>,
    label: &str,
) -> Result<LabelledTable, LabelAuditError> {
    let rows = LabelledTable::new(snapshot.labelled_rows(embedding, label)?);
    let label = label.to_owned();
    match rows.classes.as_slice() {
        [] => {
            let names = snapshot.fields().iter().map(|field| field.name.as_str());
            let known = names.collect::<Vec<_>>().join(", ");
            Err(LabelAuditError::NoLabels { label, rows: rows.keys.len(), known })
        }
        [only] => Err(LabelAuditError::OneLabel { label, only: only.clone(), rows: rows.labels.len() }),
        _ => Ok(rows),
    }
}

/// 1 - the mean probability of each row's own label over the logged epochs; where no row has one logged, 1 - that at the
/// earliest checkpoint. `None` of rows of which nothing was measured.
pub(super) struct Course {
    pub(super) values: Vec<Option<f64>>,
    /// Whether these are means over logged epochs.
    pub(super) is_logged: bool,
}

impl Course {
    pub(super) fn read(
        snapshot: &Snapshot,
        column: &GradientColumn,
        rows: &LabelledTable,
    ) -> Result<Self, LabelAuditError> {
        let member = earliest(column);
        let outcomes: HashMap<String, _> = snapshot.outcomes(Some(&column.name))?.into_iter().collect();
        let own = |key: &String| outcomes.get(key).and_then(Option::as_ref);
        let logged: Vec<Option<f64>> =
            rows.labelled_keys().map(|key| Some(1.0 - f64::from(own(key)?.logged?))).collect();
        // The two are of different scale: ranked together, they would say which rows were logged.
        if logged.iter().any(Option::is_some) {
            return Ok(Self { values: logged, is_logged: true });
        }
        let values = rows.labelled_keys().map(|key| own(key)?.own.get(member).map(|own| f64::from(*own)));
        Ok(Self { values: values.collect(), is_logged: false })
    }
}

/// The first of the members whose gradients were taken after the fewest epochs.
pub(super) fn earliest(column: &GradientColumn) -> usize {
    let members = column.checkpoints.iter().enumerate();
    members.min_by_key(|(_, checkpoint)| checkpoint.epoch).map_or(0, |(member, _)| member)
}
