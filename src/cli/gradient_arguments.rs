//! What verbs that ask about gradients have in common: names of curvatures, files of queries.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::failure::Failure;
use super::vector_file::VectorFile;
use crate::curvature::CurvatureKind;
use crate::engine::LabelledText;
#[cfg(feature = "bert")]
use crate::engine::{GradientInput, Snapshot};
#[cfg(feature = "bert")]
use crate::evaluation::TruthFile;
#[cfg(feature = "bert")]
use crate::sketch::{GradientSource, SketchFile};
use crate::sources::{FieldNames, TensorSet, open_path};

/// How hybrid scores find candidates.
pub(super) const CANDIDATES_BY: [&str; 2] = ["embedding", "codes"];

pub(super) fn curvatures() -> impl TypedValueParser<Value = CurvatureKind> {
    PossibleValuesParser::new(CurvatureKind::ALL.map(CurvatureKind::name))
        .map(|name| CurvatureKind::from_name(&name).unwrap_or(CurvatureKind::Identity))
}

/// A row of a query file: its key, and what is asked about.
#[cfg_attr(
    not(feature = "bert"),
    expect(dead_code, reason = "only what is measured by retraining needs keys")
)]
#[derive(Clone)]
pub(super) struct AskedText {
    pub(super) key: String,
    pub(super) text: LabelledText,
}

#[cfg(feature = "bert")]
impl AskedText {
    pub(super) fn label(&self) -> &str {
        match &self.text {
            LabelledText::Text { label, .. } | LabelledText::Vector { label, .. } => label,
        }
    }
}

/// Reads queries that are texts (field `text`) or embeddings (field `vector`) with labels (field `label_field`), one JSON
/// object a line with its key in `key`.
pub(super) fn read_asked(path: &Path, label_field: &str) -> Result<Vec<AskedText>, Failure> {
    let mut fields = FieldNames::of_keys_file();
    // Whether vectors are given shows in the first row: a field that is named must be in every one.
    if first_has_vector(path)? {
        fields.vector = Some("vector".to_owned());
    }
    let mut opened = open_path(path, None, &fields, None)?;
    let mut asked = Vec::new();
    while let Some(document) = opened.source.next()? {
        let place = document.place.clone();
        let refuse = |what: &str| Failure::Failed(format!("{place}: this query has no {what}"));
        let label = match document.metadata.get(label_field) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => return Err(refuse(&format!("field {label_field:?}"))),
            Some(other) => other.to_string(),
        };
        let key = document.key.ok_or_else(|| refuse("key"))?;
        let text = match (document.vector, document.text) {
            (Some(vector), _) => LabelledText::Vector { vector, label },
            (None, Some(text)) => LabelledText::Text { text, label },
            (None, None) => return Err(refuse("text and no vector")),
        };
        asked.push(AskedText { key, text });
    }
    Ok(asked)
}

fn first_has_vector(path: &Path) -> Result<bool, Failure> {
    let mut opened = open_path(path, None, &FieldNames::of_keys_file(), None)?;
    Ok(opened.source.next()?.is_some_and(|document| document.metadata.contains_key("vector")))
}

/// Keys that stand beside a query file: `Q.keys.jsonl` beside `Q.safetensors`.
#[cfg(feature = "bert")]
fn keys_beside(path: &Path) -> Result<Vec<String>, Failure> {
    let beside = path.with_extension("keys.jsonl");
    let mut opened = open_path(&beside, None, &FieldNames::of_keys_file(), None)?;
    let mut keys = Vec::new();
    while let Some(document) = opened.source.next()? {
        keys.push(document.key.unwrap_or_default());
    }
    Ok(keys)
}

/// Whether a query file holds gradients.
pub(super) fn holds_sketches(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// Hands the gradients of a sketch file of queries to `work`, in the order of a truth.
#[cfg(feature = "bert")]
pub(super) fn with_truth_sketches<T>(
    queries: &Path,
    no_mmap: bool,
    truth: &TruthFile,
    work: impl FnOnce(&[GradientInput<'_>]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let bytes = VectorFile::open(queries, no_mmap)?;
    let tensors = tensors_of(queries, &bytes)?;
    let sketches = SketchFile::new(&tensors)?;
    let order = truth.queries_among(&keys_beside(queries)?)?;
    if let Some(row) = order.iter().find(|row| **row >= sketches.rows()) {
        return Err(Failure::Failed(format!("{} has no row {}", sketches.name(), row + 1)));
    }
    let inputs: Vec<GradientInput<'_>> =
        order.iter().map(|row| GradientInput::Source { source: &sketches, row: *row }).collect();
    work(&inputs)
}

/// Reads queries that are texts or embeddings with labels, in the order of a truth.
#[cfg(feature = "bert")]
pub(super) fn read_truth_texts(
    queries: &Path,
    label_field: &str,
    truth: &TruthFile,
) -> Result<Vec<AskedText>, Failure> {
    let asked = read_asked(queries, label_field)?;
    let keys: Vec<String> = asked.iter().map(|asked| asked.key.clone()).collect();
    let order = truth.queries_among(&keys)?;
    Ok(order.into_iter().map(|number| asked[number].clone()).collect())
}

/// The field with the labels: that of the trained head of a column, `label` without one.
#[cfg(feature = "bert")]
pub(super) fn label_field(snapshot: &Snapshot, column: Option<&str>) -> Result<String, Failure> {
    Ok(snapshot.head_label(column)?.unwrap_or_else(|| "label".to_owned()))
}

/// The tensors of a file.
pub(super) fn tensors_of<'a>(path: &Path, bytes: &'a VectorFile) -> Result<TensorSet<'a>, Failure> {
    Ok(TensorSet::new(bytes, &path.display().to_string())?)
}
