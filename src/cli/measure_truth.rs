//! `measure-truth`: what the data does, by retraining.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, value_parser};

use super::failure::Failure;
use super::gradient_arguments::read_asked;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::train_head::HeadArguments;
use crate::answers::truth_report;
use crate::engine::{LabelledText, Snapshot};
use crate::training::{TruthPlan, TruthQuery, measure_store_truth};

/// Retrain the head on random halves of the rows, to have what attribution is measured against
///
/// For each of M random halves the head is trained S times, and asked about every query: the margin log p - log(1 - p)
/// of its label. What is measured is kept in OUT.partial until all is there, so that a stopped measurement goes on.
/// The file is what "ascribe eval lds" takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Example (q.jsonl: {\"key\": ..., \"text\": ..., \"kind\": ...} a line):
  ascribe measure-truth pets --label kind --queries q.jsonl --out t.safetensors")]
pub(super) struct MeasureTruthArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Queries: JSONL with "key", "text" (or "vector") and the label field
    #[arg(long, value_name = "Q.jsonl")]
    queries: PathBuf,
    /// Field with the labels [default: that of the trained head]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Random halves of the rows
    #[arg(long, value_name = "M", default_value_t = 100, value_parser = value_parser!(u32).range(2..))]
    subsets: u32,
    /// Trainings on each half
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    seeds: u32,
    /// Embedding column to classify [default: the first]
    #[arg(long, value_name = "NAME")]
    embedding: Option<String>,
    /// Where the truth goes
    #[arg(long, value_name = "T.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    head: HeadArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Embeddings of queries.
pub(super) fn embedded(
    snapshot: &Snapshot,
    embedding: Option<&str>,
    texts: &[&LabelledText],
) -> Result<Vec<Vec<f32>>, Failure> {
    let embed = |text: &&LabelledText| match text {
        LabelledText::Vector { vector, .. } => Ok(vector.clone()),
        LabelledText::Text { text, .. } => Ok(snapshot.embed(embedding, text)?),
    };
    texts.iter().map(embed).collect()
}

impl MeasureTruthArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let snapshot = self.store.read()?.snapshot();
        let label = match self.label {
            Some(label) => label,
            None => snapshot.head_label(None)?.ok_or_else(|| {
                Failure::Usage("name the field with the labels with --label FIELD".to_owned())
            })?,
        };
        let asked = read_asked(&self.queries, &label)?;
        let texts: Vec<&LabelledText> = asked.iter().map(|asked| &asked.text).collect();
        let vectors = embedded(&snapshot, self.embedding.as_deref(), &texts)?;
        let queries: Vec<TruthQuery> = asked
            .iter()
            .zip(vectors)
            .map(|(asked, vector)| TruthQuery {
                key: asked.key.clone(),
                vector,
                label: asked.label().to_owned(),
            })
            .collect();
        let plan = TruthPlan {
            subsets: self.subsets as usize,
            runs: self.seeds as usize,
            seed: self.head.seed,
            configuration: self.head.configuration(),
        };
        let field = (self.embedding.as_deref(), label.as_str());
        let report = measure_store_truth(&snapshot, field, &queries, &plan, &self.out, session.watch())?;
        session.report(self.output.format, &truth_report(&report, begun.elapsed()))
    }
}
