//! `eval lds`: how far scores agree with retrained models.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, value_parser};

use super::failure::Failure;
use super::gradient_arguments::{
    AskedText, CANDIDATES_BY, curvatures, holds_sketches, label_field, read_truth_texts, with_truth_sketches,
};
use super::lds_methods::{
    EMBEDDING_SCORES, GRADIENT_SCORE, GradientMethod, HYBRID_SCORE, Measurement, SCORES, gradient_methods,
};
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::vector_file::VectorFile;
use crate::answers::{LdsEvaluation, LdsMethod, Provenance, Report, lds_report};
use crate::base::limits::{ANSWER_ROWS_MAX, HYBRID_CANDIDATES_DEFAULT};
use crate::curvature::CurvatureKind;
use crate::engine::{GradientColumn, Snapshot};
use crate::evaluation::{
    LdsOptions, PermutationOptions, TruthFile, linear_datamodelling_score, permutation_null,
};

/// Measure how far scores agree with retrained models: the linear datamodelling score (LDS)
///
/// For each query the sums of its scores over the rows of each subset are compared with what models trained on these
/// subsets said, by rank correlation; LDS is the mean over queries. low and high are the ends of the 95% interval,
/// resampled over queries and subsets; a difference whose interval leaves out 0 is one. The ceiling is what a perfect
/// method would reach, given the noise of training. With --control, "permuted" tells what chance alone gives: the mean and
/// the 2.5% and 97.5% percentiles of the score over permutations of the subsets. NDCG@20 says how well the 20 rows that a
/// score ranks first agree with the first gradient score, as the exact one; it needs no retraining.
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
    /// Scores to measure: learned (embeddings), same-label (embeddings, of rows with the query's label), gradient, hybrid
    /// (gradient, of candidates; the others count 0)
    #[arg(long, value_name = "SCORES", value_delimiter = ',', default_values = &SCORES[..3], value_parser = SCORES)]
    score: Vec<String>,
    /// Rows that hybrid scores look at
    #[arg(long, value_name = "N", default_value_t = HYBRID_CANDIDATES_DEFAULT as u32, value_parser = value_parser!(u32).range(1..=ANSWER_ROWS_MAX as i64))]
    candidates: u32,
    /// How hybrid scores find these rows: by embedding, or by codes that were kept with the fit [default: codes where they
    /// were kept or for a sketch file, embedding otherwise]
    #[arg(long, value_name = "HOW", value_delimiter = ',', value_parser = CANDIDATES_BY)]
    candidates_by: Vec<String>,
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
    /// Gradient scores of these members alone too, by their numbers from 0, such as 0,1; may be given several times
    #[arg(long, value_name = "N,N", value_parser = member_list)]
    only_members: Vec<MemberList>,
    /// Gradient scores of each member alone too
    #[arg(long)]
    each_member: bool,
    /// Tell what chance alone gives: scores where the subsets have the outputs of others
    #[arg(long)]
    control: bool,
    /// Permutations of the subsets for --control
    #[arg(long, value_name = "N", default_value_t = 200, requires = "control", value_parser = value_parser!(u32).range(39..=100_000))]
    permutations: u32,
    /// Decides the resamples and permutations
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArguments,
}

/// Members that are asked together.
#[derive(Clone, Debug)]
struct MemberList(Vec<u32>);

fn member_list(text: &str) -> Result<MemberList, String> {
    let number = |part: &str| {
        part.trim().parse().map_err(|_| format!("{part:?} is no number of a member: use numbers such as 0,1"))
    };
    text.split(',').map(number).collect::<Result<_, _>>().map(MemberList)
}

impl LdsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let has_sketches = holds_sketches(&self.queries);
        let is_hybrid = self.is_wanted(HYBRID_SCORE);
        if !is_hybrid && !self.candidates_by.is_empty() {
            return Err(Failure::Usage("--candidates-by belongs to --score hybrid: name it too".to_owned()));
        }
        let by_embedding = self.candidates_by.iter().any(|by| by == CANDIDATES_BY[0]);
        if has_sketches && is_hybrid && by_embedding {
            let text = "candidates by embedding need embeddings, which a sketch file has not: take codes, or give --queries as JSONL with texts (or vectors) and labels";
            return Err(Failure::Usage(text.to_owned()));
        }
        let has_gradients = has_sketches || is_hybrid || self.is_wanted(GRADIENT_SCORE);
        if !has_gradients && (self.each_member || !self.only_members.is_empty()) {
            let text = "--only-members and --each-member belong to --score gradient: name it too";
            return Err(Failure::Usage(text.to_owned()));
        }
        let snapshot = self.store.read()?.snapshot();
        let bytes = VectorFile::open(&self.truth, self.store.no_mmap)?;
        let truth = TruthFile::new(&bytes, &self.truth.display().to_string())?;
        let mut measurement = Measurement::new(&snapshot, &truth, &session.cancel, self.column.as_deref());
        let methods = if has_gradients {
            measurement.rank_rows(!has_sketches && self.has_embeddings())?;
            self.gradient_methods(&snapshot)?
        } else {
            Vec::new()
        };
        if has_sketches {
            with_truth_sketches(&self.queries, self.store.no_mmap, &truth, |inputs| {
                if let (true, Some(method)) = (is_hybrid, methods.first()) {
                    measurement.measure_by_codes(inputs, method, self.candidates as usize)?;
                }
                measurement.measure_gradients(inputs, &methods)
            })?;
        } else {
            self.measure_texts(&mut measurement, &methods)?;
        }
        let report = self.report(&measurement, begun)?;
        session.report(self.output.format, &report)
    }

    fn is_wanted(&self, score: &str) -> bool {
        self.score.iter().any(|wanted| wanted == score)
    }

    fn has_embeddings(&self) -> bool {
        EMBEDDING_SCORES.iter().any(|score| self.is_wanted(score))
    }

    fn gradient_methods(&self, snapshot: &Snapshot) -> Result<Vec<GradientMethod>, Failure> {
        let mut members: Vec<Vec<u32>> = self.only_members.iter().map(|list| list.0.clone()).collect();
        if self.each_member {
            let column = snapshot.gradient_column(self.column.as_deref())?;
            let count = column.map_or(0, |column| column.checkpoints.len());
            members.extend((0..count as u32).map(|member| vec![member]));
        }
        Ok(gradient_methods(&self.curvature, &members))
    }

    fn measure_texts(
        &self,
        measurement: &mut Measurement<'_>,
        methods: &[GradientMethod],
    ) -> Result<(), Failure> {
        let label = match &self.label {
            Some(label) => label.clone(),
            None => label_field(measurement.snapshot, self.column.as_deref())?,
        };
        let asked = read_truth_texts(&self.queries, &label, measurement.truth)?;
        let asked: Vec<&AskedText> = asked.iter().collect();
        if self.has_embeddings() {
            measurement.measure_embeddings(&asked, &label, |score| self.is_wanted(score))?;
        }
        if self.is_wanted(GRADIENT_SCORE) || self.is_wanted(HYBRID_SCORE) {
            let by: Vec<&str> = match self.candidates_by.as_slice() {
                [] => vec![CANDIDATES_BY[usize::from(measurement.has_codes(methods)?)]],
                named => CANDIDATES_BY.into_iter().filter(|by| named.iter().any(|own| own == by)).collect(),
            };
            let hybrid = if self.is_wanted(HYBRID_SCORE) { by } else { Vec::new() };
            measurement.measure_text_gradients(&asked, methods, (&hybrid, self.candidates as usize))?;
        }
        Ok(())
    }

    fn report(&self, measurement: &Measurement<'_>, begun: Instant) -> Result<Report, Failure> {
        let outputs = measurement.truth.outputs();
        let options =
            LdsOptions { resamples: self.resamples as usize, seed: self.seed, ..LdsOptions::default() };
        let groups: Vec<&[f64]> =
            measurement.measured.iter().map(|measured| measured.groups.as_slice()).collect();
        let report = linear_datamodelling_score(outputs, &groups, options)?;
        let control = PermutationOptions {
            permutations: self.permutations as usize,
            level: options.level,
            seed: self.seed,
        };
        let control = self.control.then(|| permutation_null(outputs, &groups, control)).transpose()?;
        let rankings = measurement.rankings.as_ref();
        let ndcg = rankings.and_then(|all| all.report(options.level, options.resamples, self.seed));
        let statistics = measurement.snapshot.statistics();
        let gradients = match measurement.rankings {
            Some(_) => measurement.snapshot.gradient_column(self.column.as_deref())?,
            None => None,
        };
        let provenance = Provenance::new(&statistics, self.columns(measurement, gradients.as_ref())?);
        let methods = measurement.measured.iter().map(|measured| {
            let (gradient, column) = (measured.gradient.as_ref(), gradients.as_ref());
            let curvature = gradient.zip(column).and_then(|(gradient, column)| {
                provenance.curvature(&column.name, gradient.curvature.map(CurvatureKind::name))
            });
            LdsMethod { name: &measured.name, curvature }
        });
        let evaluation = LdsEvaluation {
            methods: methods.collect(),
            report: &report,
            control: control.as_ref(),
            ndcg: ndcg.as_ref().zip(rankings.map(|all| all.exact.as_str())),
            truth: measurement.truth,
            members: gradients.as_ref().map(|column| column.checkpoints.len()),
            seed: self.seed,
            provenance: provenance.clone(),
        };
        Ok(lds_report(&evaluation, begun.elapsed()))
    }

    /// Names of the columns that scores were computed from.
    fn columns(
        &self,
        measurement: &Measurement<'_>,
        gradients: Option<&GradientColumn>,
    ) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        if measurement.measured.iter().any(|measured| measured.gradient.is_none()) {
            names.push(measurement.snapshot.embedding_name(None)?.to_owned());
        }
        if let Some(column) = gradients {
            names.extend(column.head.as_ref().and_then(|head| head.embedding.clone()));
            names.push(column.name.clone());
        }
        Ok(names)
    }
}
