//! A head trained on a store's embeddings, with the gradients of its rows as a column.

use super::error::TrainingError;
use super::members::{HeadMembers, MemberPlan, train_members};
use super::rows::LabelledRows;
use crate::base::CommitSeq;
use crate::encoder::{Head, HeadSet, QueryGradient};
use crate::engine::{HeadColumn, LabelledTable, SKETCH_COLUMN_NAME, Store, Watch};
use crate::format::NOT_MEASURED;
use crate::sketch::{Checkpoint, GradientSource, SchemaModule, SketchFileError, SketchSchema};
use crate::sources::Place;

/// What a head is trained on and for.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadPlan {
    /// The field with the labels.
    pub label: String,
    /// The embedding column; `None`: the first.
    pub embedding: Option<String>,
    /// Name of the sketch column.
    pub column: String,
    /// How many trainings, and how each is made.
    pub members: MemberPlan,
}

impl HeadPlan {
    /// Five trainings on the first embedding column, for the sketch column `sketch`.
    pub fn of_label(label: &str) -> Self {
        let column = SKETCH_COLUMN_NAME.to_owned();
        Self { label: label.to_owned(), embedding: None, column, members: MemberPlan::default() }
    }
}

/// What the training of a head did.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadReport {
    /// The sketch column.
    pub column: String,
    /// Rows with a label, which were trained on.
    pub rows: u64,
    /// Rows without one: their gradients are zero.
    pub rows_unlabelled: u64,
    /// Classes.
    pub classes: usize,
    /// Checkpoints that gradients were taken at.
    pub members: usize,
    /// Share of the training rows that the last checkpoint of the first run has right, 0 to 1.
    pub accuracy: f64,
    /// Mean over the training rows of 1 - p of the own label there.
    pub mean_own: f64,
    /// The commit that holds the column.
    pub commit: CommitSeq,
}

/// The rows of a store with their labels, which must be of at least two kinds.
pub(super) fn read_labels(
    snapshot: &crate::engine::Snapshot,
    embedding: Option<&str>,
    label: &str,
) -> Result<LabelledTable, TrainingError> {
    let rows = LabelledTable::new(snapshot.labelled_rows(embedding, label).map_err(TrainingError::store)?);
    if rows.classes.len() < 2 {
        let reason = format!(
            "field {label:?} has {} different values: a classifier needs at least 2; name the field with the labels",
            rows.classes.len()
        );
        return Err(TrainingError::Store { reason });
    }
    Ok(rows)
}

/// The rows of a table that have a label.
pub(super) fn labelled_rows(rows: &LabelledTable) -> Result<LabelledRows<'_>, TrainingError> {
    LabelledRows::new(&rows.features, rows.width, &rows.labels, &rows.classes)
}

/// Trains heads on the embeddings of all labelled rows of a store, and keeps the exact factored gradients of every row at
/// the checkpoints after the first epoch and the last of each run, with the head, as a sketch column.
///
/// # Errors
/// See [`TrainingError`]. Nothing of a failed training is visible.
///
/// # Complexity
/// runs x epochs x rows x weights for the training, in parallel over the runs.
pub fn train_store_head(
    store: &mut Store,
    plan: &HeadPlan,
    watch: Watch<'_>,
) -> Result<HeadReport, TrainingError> {
    let snapshot = store.snapshot();
    let rows = read_labels(&snapshot, plan.embedding.as_deref(), &plan.label)?;
    let embedding =
        snapshot.embedding_name(plan.embedding.as_deref()).map_err(TrainingError::store)?.to_owned();
    let labelled = labelled_rows(&rows)?;
    let trained =
        snapshot.in_pool(|| train_members(&labelled, &plan.members, watch.progress, watch.cancel))?;
    let last = trained.members.get(1).or(trained.members.first()).map(|member| &member.head);
    let (accuracy, mean_own) = match last {
        Some(head) => quality(head, &rows)?,
        None => (0.0, 1.0),
    };
    let gradients = HeadSketches::new(&rows, trained)?;
    let head = gradients.heads.to_bytes()?;
    let column = HeadColumn {
        name: &plan.column,
        embedding: &embedding,
        label: &plan.label,
        head: &head,
        keys: &rows.keys,
        gradients: &gradients,
    };
    let commit = store.add_head_column(&column, watch).map_err(TrainingError::store)?;
    Ok(HeadReport {
        column: plan.column.clone(),
        rows: rows.labels.len() as u64,
        rows_unlabelled: (rows.keys.len() - rows.labels.len()) as u64,
        classes: rows.classes.len(),
        members: gradients.heads.heads().len(),
        accuracy,
        mean_own,
        commit,
    })
}

/// Accuracy and mean 1 - p of a head on its training rows.
fn quality(head: &Head, rows: &LabelledTable) -> Result<(f64, f64), TrainingError> {
    let margins = head.margin(&rows.features, &rows.labels)?;
    let own = head.own(&rows.features, &rows.labels)?;
    let logits = head.logits(&rows.features)?;
    let classes = rows.classes.len();
    let is_right = |(logits, label): (&[f32], &u32)| {
        let own = logits.get(*label as usize).copied().unwrap_or(f32::NEG_INFINITY);
        logits.iter().all(|other| *other <= own)
    };
    let right = logits.chunks(classes).zip(&rows.labels).filter(|row| is_right(*row)).count();
    let count = margins.len().max(1) as f64;
    Ok((right as f64 / count, own.iter().map(|own| f64::from(*own)).sum::<f64>() / count))
}

/// Gradients of a head's rows, computed one by one.
struct HeadSketches<'a> {
    rows: &'a LabelledTable,
    heads: HeadSet,
    schema: SketchSchema,
    /// Weighted and plain mean of the probability of the own label, of labelled rows.
    course: Vec<[f32; 2]>,
}

impl<'a> HeadSketches<'a> {
    fn new(rows: &'a LabelledTable, trained: HeadMembers) -> Result<Self, TrainingError> {
        let checkpoints = trained
            .members
            .iter()
            .map(|member| Checkpoint { run: member.run as u32, epoch: member.epoch as u32 })
            .collect();
        let weights = &trained.trajectory.weights;
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let course = trained.trajectory.probabilities.chunks(weights.len().max(1)).map(|course| {
            let weighted: f64 =
                course.iter().zip(weights).map(|(p, weight)| f64::from(*p) * f64::from(*weight)).sum();
            let plain: f64 = course.iter().map(|p| f64::from(*p)).sum();
            [(weighted / total) as f32, (plain / course.len() as f64) as f32]
        });
        let course = course.collect();
        let heads = HeadSet::new(trained.members.into_iter().map(|member| member.head).collect())?;
        let modules = heads.heads().first().map(Head::modules).unwrap_or_default();
        let modules = modules.iter().enumerate().map(|(layer, module)| SchemaModule {
            name: module.shape().name.to_owned(),
            out: module.shape().outputs as u32,
            input: module.shape().inputs as u32 + 1,
            bias: true,
            encoding: "factored".to_owned(),
            rank: Some(1),
            terms: None,
            projection: None,
            shared_input: layer == 0,
        });
        let schema =
            SketchSchema::of_modules(checkpoints, "cross-entropy, summed", "true", modules.collect())
                .map_err(|error| TrainingError::Store { reason: error.to_string() })?;
        Ok(Self { rows, heads, schema, course })
    }
}

impl GradientSource for HeadSketches<'_> {
    fn name(&self) -> &str {
        "the classification head"
    }

    fn schema(&self) -> &SketchSchema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.rows.keys.len()
    }

    fn has_outcomes(&self) -> bool {
        true
    }

    fn place(&self, row: usize) -> Place {
        Place { input: "the classification head".to_owned(), unit: "row", number: row as u64 + 1 }
    }

    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        _terms: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError> {
        let Some(number) = self.rows.labelled.get(row).copied().flatten() else {
            values.resize(values.len() + self.schema.layout().width(), 0.0);
            outcomes.resize(outcomes.len() + self.heads.heads().len() + 2, NOT_MEASURED);
            return Ok(());
        };
        let width = self.rows.width;
        let embedding = &self.rows.features[number * width..(number + 1) * width];
        let label = &self.rows.classes[self.rows.labels[number] as usize];
        let gradient = self.heads.gradient(embedding, label).map_err(|error| SketchFileError::Value {
            place: self.place(row),
            what: "the gradient".to_owned(),
            reason: error.to_string(),
        })?;
        values.extend(gradient.values);
        outcomes.extend(gradient.own);
        outcomes.extend(self.course.get(number).copied().unwrap_or([NOT_MEASURED; 2]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use super::*;
    use crate::base::Cancel;
    use crate::encoder::{EncoderSpecification, HeadConfiguration};
    use crate::engine::{ColumnDefinition, CreateOptions, FitOptions, IngestOptions, OpenOptions};
    use crate::sources::{FieldNames, InputFormat, from_reader};
    use crate::storage::SimulatedStorage;

    /// Rows in two segments: labels are texts, a number, null, and one is missing.
    const ROWS: [&str; 2] = [
        r#"{"key": "a", "v": [1, 0, 2], "kind": "right"}
{"key": "b", "v": [-1, 0, 1], "kind": "left"}
{"key": "c", "v": [3, 1, 0], "kind": null}
{"key": "d", "v": [2, -1, 0], "kind": "right"}
"#,
        r#"{"key": "e", "v": [-3, 1, 0]}
{"key": "f", "v": [-2, 0, 1], "kind": "left"}
{"key": "g", "v": [0, 5, 0], "kind": 7}
"#,
    ];

    fn store() -> Store {
        let specification = EncoderSpecification::parse("vectors:3").unwrap();
        let columns = vec![ColumnDefinition::embedding(specification)];
        let create = CreateOptions { columns, ..CreateOptions::default() };
        let storage = Arc::new(SimulatedStorage::new());
        let mut store = Store::create(storage, create, OpenOptions::default()).unwrap();
        for rows in ROWS {
            let fields = FieldNames { key: Some("key".into()), text: None, vector: Some("v".into()) };
            let source = from_reader(Cursor::new(rows), "rows", InputFormat::JsonLines, &fields).unwrap();
            let cancel = Cancel::new();
            store.ingest(source, &IngestOptions::default(), Watch::silent(&cancel), &mut |_| {}).unwrap();
        }
        store
    }

    fn plan() -> HeadPlan {
        let configuration = HeadConfiguration { hidden: Some(4), epochs: 3, ..HeadConfiguration::default() };
        let members = MemberPlan { runs: 2, configuration, ..MemberPlan::default() };
        HeadPlan { members, ..HeadPlan::of_label("kind") }
    }

    #[test]
    fn rows_without_a_label_are_kept_and_not_trained_on() {
        let rows = read_labels(&store().snapshot(), None, "kind").unwrap();
        assert_eq!(rows.keys, ["a", "b", "c", "d", "e", "f", "g"]);
        assert_eq!(rows.classes, ["7", "left", "right"]);
        assert_eq!(rows.labels, [2, 1, 2, 1, 0]);
        assert_eq!(rows.labelled, [Some(0), Some(1), None, Some(2), None, Some(3), Some(4)]);
        assert_eq!(
            rows.features.chunks(3).map(|row| row[0]).collect::<Vec<_>>(),
            [1.0, -1.0, 2.0, -2.0, 0.0]
        );
        let error = read_labels(&store().snapshot(), None, "other").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("\"other\" has 0 different values"), "{error}");
    }

    #[test]
    fn rows_without_a_label_have_a_gradient_of_zeros_of_which_nothing_was_measured() {
        let store = store();
        let rows = read_labels(&store.snapshot(), None, "kind").unwrap();
        let (cancel, plan) = (Cancel::new(), plan());
        let watch = Watch::silent(&cancel);
        let labelled = labelled_rows(&rows).unwrap();
        let trained = train_members(&labelled, &plan.members, watch.progress, watch.cancel).unwrap();
        let gradients = HeadSketches::new(&rows, trained).unwrap();
        assert_eq!((gradients.rows(), gradients.schema().members()), (7, 4));
        for row in 0..7 {
            let (mut values, mut terms, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
            gradients.read_row(row, &mut values, &mut terms, &mut outcomes).unwrap();
            assert_eq!((values.len(), terms.len()), (gradients.schema().layout().width(), 0));
            assert_eq!(outcomes.len(), 4 + 2, "row {row}");
            let is_labelled = rows.labelled[row].is_some();
            assert_eq!(values.iter().any(|value| *value != 0.0), is_labelled, "row {row}");
            let is_measured = |value: &f32| (0.0..=1.0).contains(value);
            assert_eq!(outcomes.iter().all(is_measured), is_labelled, "row {row}: {outcomes:?}");
            assert_eq!(outcomes.iter().any(is_measured), is_labelled, "row {row}: {outcomes:?}");
        }
    }

    #[test]
    fn the_column_holds_every_row_and_is_fitted_with_its_zeros() {
        let mut store = store();
        let cancel = Cancel::new();
        let report = train_store_head(&mut store, &plan(), Watch::silent(&cancel)).unwrap();
        assert_eq!((report.rows, report.rows_unlabelled, report.classes, report.members), (5, 2, 3, 4));
        assert!((0.0..=1.0).contains(&report.accuracy) && (0.0..=1.0).contains(&report.mean_own));
        assert_eq!(store.snapshot().commit(), report.commit);
        assert_eq!(store.snapshot().gradient_keys(None).unwrap().len(), 7);
        let fitted = store.fit(&FitOptions::default(), Watch::silent(&cancel)).unwrap();
        assert_eq!((fitted.rows, fitted.zero_rows), (7, 2));
        assert_eq!(store.snapshot().head_label(None).unwrap().as_deref(), Some("kind"));
    }
}
