//! The rows of a store that have a label, with what is known of them.

use std::collections::HashMap;

use super::error::LabelAuditError;
use crate::engine::{GradientColumn, Snapshot};

/// Live rows with an embedding and a label, in the order of ingest.
pub(super) struct AuditedRows {
    pub(super) keys: Vec<String>,
    pub(super) width: usize,
    /// `keys.len()` x `width`.
    pub(super) embeddings: Vec<f32>,
    /// Numbers of `classes`.
    pub(super) labels: Vec<u32>,
    /// All labels, sorted.
    pub(super) classes: Vec<String>,
    /// For each live row with an embedding its number among those with a label.
    pub(super) numbers: Vec<Option<usize>>,
}

impl AuditedRows {
    pub(super) fn read(
        snapshot: &Snapshot,
        embedding: Option<&str>,
        label: &str,
    ) -> Result<Self, LabelAuditError> {
        let rows = snapshot.labelled_rows(embedding, label)?;
        let mut classes: Vec<String> = rows.iter().filter_map(|(_, _, label)| label.clone()).collect();
        let labelled = classes.len();
        classes.sort();
        classes.dedup();
        let label = label.to_owned();
        match classes.as_slice() {
            [] => {
                let names = snapshot.fields().iter().map(|field| field.name.as_str());
                let known = names.collect::<Vec<_>>().join(", ");
                return Err(LabelAuditError::NoLabels { label, rows: rows.len(), known });
            }
            [only] => return Err(LabelAuditError::OneLabel { label, only: only.clone(), rows: labelled }),
            _ => {}
        }
        let width = rows.first().map_or(0, |(_, vector, _)| vector.len());
        let mut read = Self {
            keys: Vec::with_capacity(labelled),
            width,
            embeddings: Vec::with_capacity(labelled * width),
            labels: Vec::with_capacity(labelled),
            classes,
            numbers: Vec::with_capacity(rows.len()),
        };
        for (key, vector, label) in rows {
            let class = label.and_then(|label| read.classes.binary_search(&label).ok());
            read.numbers.push(class.map(|class| {
                read.keys.push(key);
                read.embeddings.extend(vector);
                read.labels.push(class as u32);
                read.keys.len() - 1
            }));
        }
        Ok(read)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
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
        rows: &AuditedRows,
    ) -> Result<Self, LabelAuditError> {
        let member = earliest(column);
        let outcomes: HashMap<String, _> = snapshot.outcomes(Some(&column.name))?.into_iter().collect();
        let own = |key: &String| outcomes.get(key).and_then(Option::as_ref);
        let logged: Vec<Option<f64>> =
            rows.keys.iter().map(|key| Some(1.0 - f64::from(own(key)?.logged?))).collect();
        // The two are of different scale: ranked together, they would say which rows were logged.
        if logged.iter().any(Option::is_some) {
            return Ok(Self { values: logged, is_logged: true });
        }
        let values = rows.keys.iter().map(|key| own(key)?.own.get(member).map(|own| f64::from(*own)));
        Ok(Self { values: values.collect(), is_logged: false })
    }
}

/// The first of the members whose gradients were taken after the fewest epochs.
pub(super) fn earliest(column: &GradientColumn) -> usize {
    let members = column.checkpoints.iter().enumerate();
    members.min_by_key(|(_, checkpoint)| checkpoint.epoch).map_or(0, |(member, _)| member)
}
