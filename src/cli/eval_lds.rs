//! `eval lds`: how far scores agree with retrained models.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, value_parser};

use super::failure::Failure;
use super::gradient_arguments::{curvatures, holds_sketches, keys_beside, read_asked, tensors_of};
use super::measure_truth::embedded;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::vector_file::VectorFile;
use crate::answers::lds_report;
use crate::attribution::ScoreKind;
use crate::curvature::CurvatureKind;
use crate::engine::{GradientInput, GradientQuery, LabelledText, MemberScores, QueryInput, Snapshot};
use crate::evaluation::{LdsOptions, TruthFile, group_sums, keep_same_label, linear_datamodelling_score};
use crate::sketch::{GradientSource, SketchFile};

/// Measure how far scores agree with retrained models: the linear datamodelling score (LDS)
///
/// For each query the sums of its scores over the rows of each subset are compared with what models trained on these
/// subsets said, by rank correlation; LDS is the mean over queries. low and high are the ends of the 95% interval,
/// resampled over queries and subsets; a difference whose interval leaves out 0 is one. The ceiling is what a perfect
/// method would reach, given the noise of training.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe measure-truth pets --label kind --queries q.jsonl --out t.safetensors
  ascribe eval lds pets --truth t.safetensors --queries q.jsonl")]
pub(super) struct LdsArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// What retrained models said, from "ascribe measure-truth" or your own runs
    #[arg(long, value_name = "T.safetensors")]
    truth: PathBuf,
    /// The queries of the truth: JSONL with key, text (or vector) and label, or a sketch file with its keys beside it
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Scores to measure: learned (embeddings), same-label (embeddings, of rows with the query's label), gradient
    #[arg(long, value_name = "SCORES", value_delimiter = ',', default_values = ["learned", "same-label", "gradient"], value_parser = ["learned", "same-label", "gradient"])]
    score: Vec<String>,
    /// Curvatures to weigh gradients by [default: the one that was fitted last]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = curvatures())]
    curvature: Vec<CurvatureKind>,
    /// Field with the labels [default: that of the trained head]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Sketch column [default: the only one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Resamples for the intervals
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..=100_000))]
    resamples: u32,
    /// Compare with permuted truths too, where the score has to be 0
    #[arg(long)]
    control: bool,
    /// Decides the resamples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArguments,
}

/// Group scores of one method, queries x subsets.
struct Measured {
    name: String,
    groups: Vec<f64>,
}

impl LdsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let snapshot = self.store.read()?.snapshot();
        let bytes = VectorFile::open(&self.truth, self.store.no_mmap)?;
        let truth = TruthFile::new(&bytes, &self.truth.display().to_string())?;
        let mut methods = Vec::new();
        if holds_sketches(&self.queries) {
            self.measure_sketches(&snapshot, &truth, &mut methods, session)?;
        } else {
            self.measure_texts(&snapshot, &truth, &mut methods, session)?;
        }
        let options =
            LdsOptions { resamples: self.resamples as usize, seed: self.seed, ..LdsOptions::default() };
        let groups: Vec<&[f64]> = methods.iter().map(|method| method.groups.as_slice()).collect();
        let report = linear_datamodelling_score(truth.outputs(), &groups, options)?;
        let control = if self.control {
            Some(linear_datamodelling_score(&truth.outputs().permuted(self.seed), &groups, options)?)
        } else {
            None
        };
        let named: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
        let shape = (truth.outputs().subsets(), truth.outputs().seeds());
        let report = lds_report(&report, control.as_ref(), &named, shape, self.seed, begun.elapsed());
        session.report(self.output.format, &report)
    }

    fn measure_sketches(
        &self,
        snapshot: &Snapshot,
        truth: &TruthFile,
        methods: &mut Vec<Measured>,
        session: &Session<'_>,
    ) -> Result<(), Failure> {
        let bytes = VectorFile::open(&self.queries, self.store.no_mmap)?;
        let tensors = tensors_of(&self.queries, &bytes)?;
        let sketches = SketchFile::new(&tensors)?;
        let order = truth.queries_among(&keys_beside(&self.queries)?)?;
        if let Some(row) = order.iter().find(|row| **row >= sketches.rows()) {
            return Err(Failure::Failed(format!("{} has no row {}", sketches.name(), row + 1)));
        }
        let inputs: Vec<GradientInput<'_>> =
            order.iter().map(|row| GradientInput::Source { source: &sketches, row: *row }).collect();
        self.measure_gradients(snapshot, truth, &inputs, methods, session)
    }

    fn measure_texts(
        &self,
        snapshot: &Snapshot,
        truth: &TruthFile,
        methods: &mut Vec<Measured>,
        session: &Session<'_>,
    ) -> Result<(), Failure> {
        let column = self.column.as_deref();
        let is_wanted = |score: &str| self.score.iter().any(|wanted| wanted == score);
        let label = match &self.label {
            Some(label) => label.clone(),
            None => snapshot.head_label(column)?.unwrap_or_else(|| "label".to_owned()),
        };
        let asked = read_asked(&self.queries, &label)?;
        let keys: Vec<String> = asked.iter().map(|asked| asked.key.clone()).collect();
        let order = truth.queries_among(&keys)?;
        let texts: Vec<&LabelledText> = order.iter().map(|number| &asked[*number].text).collect();
        if is_wanted("learned") || is_wanted("same-label") {
            let vectors = embedded(snapshot, None, &texts)?;
            let keys = snapshot.column_keys(None)?;
            let (masks, rows) = (truth.subsets_over(&keys)?, keys.len());
            if is_wanted("learned") {
                let scores = snapshot.score_vectors(None, &vectors, ScoreKind::Dot, &session.cancel)?;
                let groups = group_sums(&scores.concat(), &masks, rows)?;
                methods.push(Measured { name: "learned".to_owned(), groups });
            }
            if is_wanted("same-label") {
                let mut scores =
                    snapshot.score_vectors(None, &vectors, ScoreKind::Cosine, &session.cancel)?;
                let labels = snapshot.labelled_rows(None, &label)?;
                let of_rows: Vec<Option<&str>> =
                    labels.iter().map(|(_, _, label)| label.as_deref()).collect();
                let of_queries = order.iter().map(|number| asked[*number].label());
                keep_same_label(&mut scores, of_queries, &of_rows);
                let groups = group_sums(&scores.concat(), &masks, rows)?;
                methods.push(Measured { name: "embedding cosine x same label".to_owned(), groups });
            }
        }
        if is_wanted("gradient") {
            let texts: Vec<LabelledText> = texts.into_iter().cloned().collect();
            let gradients = snapshot.label_gradients(column, &texts)?;
            let asked = QueryInput::Key(String::new());
            let inputs = GradientInput::of_head(&asked, &gradients);
            self.measure_gradients(snapshot, truth, &inputs, methods, session)?;
        }
        Ok(())
    }

    fn measure_gradients(
        &self,
        snapshot: &Snapshot,
        truth: &TruthFile,
        inputs: &[GradientInput<'_>],
        methods: &mut Vec<Measured>,
        session: &Session<'_>,
    ) -> Result<(), Failure> {
        let column = self.column.as_deref();
        let keys = snapshot.gradient_keys(column)?;
        let masks = truth.subsets_over(&keys)?;
        let kinds: Vec<Option<CurvatureKind>> = if self.curvature.is_empty() {
            vec![None]
        } else {
            self.curvature.iter().copied().map(Some).collect()
        };
        for kind in kinds {
            let query = GradientQuery {
                column: self.column.clone(),
                curvature: kind,
                members: MemberScores::Standardised,
                ..GradientQuery::default()
            };
            let mut groups = Vec::with_capacity(inputs.len() * truth.outputs().subsets());
            snapshot.score_gradients(inputs, &query, &session.cancel, |_, scores| {
                groups.extend(group_sums(scores, &masks, keys.len())?);
                Ok::<(), Failure>(())
            })?;
            let name = kind.map_or("gradient".to_owned(), |kind| format!("gradient, {}", kind.name()));
            methods.push(Measured { name, groups });
        }
        Ok(())
    }
}
