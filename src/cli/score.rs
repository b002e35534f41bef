//! `score`: the dense matrix of queries and rows.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::gradient_arguments::{curvatures, holds_sketches, read_asked, tensors_of};
use super::matrix_file::MatrixFile;
use super::query::{kinds, member_scores};
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::vector_file::{VectorFile, matrix_of};
use crate::answers::Report;
use crate::attribution::ScoreKind;
use crate::curvature::CurvatureKind;
use crate::engine::{GradientInput, GradientQuery, LabelledText, MemberScores, QueryInput, Snapshot};
use crate::sketch::SketchFile;

/// Vectors that are scored at a time.
const VECTORS_AT_ONCE: usize = 64;

/// Write the scores of all rows for each of some queries
///
/// The matrix is float32 of shape [queries, rows], the rows in the order of ingest; their keys stand beside it. Queries
/// are a sketch file (gradient scores), JSONL with texts and labels (gradient scores by the store's head), or vectors
/// (.npy: learned scores).
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe score models --queries queries.safetensors --out scores.npy")]
pub(super) struct ScoreArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Queries: a sketch file .safetensors, JSONL with text and label, or vectors .npy
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Where the matrix goes
    #[arg(long, value_name = "S.npy")]
    out: PathBuf,
    /// How scores are normalised: dot, cosine (by both norms) or relatif (by the row's norm)
    #[arg(long, value_name = "KIND", default_value = "dot", value_parser = kinds())]
    kind: ScoreKind,
    /// How members become one score: standardised, or the raw mean
    #[arg(long, value_name = "HOW", default_value = "standardised", value_parser = member_scores())]
    members: MemberScores,
    /// Ask only these members, by their numbers from 0, such as 0,1 [default: all]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only_members: Vec<u32>,
    /// Curvature to weigh gradients by [default: the one that was fitted last]
    #[arg(long, value_name = "KIND", value_parser = curvatures())]
    curvature: Option<CurvatureKind>,
    /// Column to ask [default: the only one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

impl ScoreArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let snapshot = self.store.read()?.snapshot();
        let path = &self.queries;
        let is_vectors = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
        let (queries, rows, score) = if is_vectors {
            let (queries, rows) = self.score_vectors(&snapshot, session)?;
            (queries, rows, "learned")
        } else if holds_sketches(path) {
            let bytes = VectorFile::open(path, self.store.no_mmap)?;
            let tensors = tensors_of(path, &bytes)?;
            let sketches = SketchFile::new(&tensors)?;
            let inputs = GradientInput::of_source(&sketches);
            (inputs.len(), self.score_gradients(&snapshot, &inputs, session)?, "gradient")
        } else {
            let column = self.column.as_deref();
            let label = snapshot.head_label(column)?.unwrap_or_else(|| "label".to_owned());
            let texts: Vec<LabelledText> =
                read_asked(path, &label)?.into_iter().map(|asked| asked.text).collect();
            let gradients = snapshot.label_gradients(column, &texts)?;
            let asked = QueryInput::Key(String::new());
            let inputs = GradientInput::of_head(&asked, &gradients);
            (inputs.len(), self.score_gradients(&snapshot, &inputs, session)?, "gradient")
        };
        let report = Report::new()
            .with("queries", queries)
            .with("rows", rows)
            .with("score", score)
            .with("out", self.out.display().to_string())
            .with("elapsed_ms", begun.elapsed().as_secs_f64() * 1e3);
        session.report(self.output.format, &report)
    }

    fn score_gradients(
        &self,
        snapshot: &Snapshot,
        inputs: &[GradientInput<'_>],
        session: &Session<'_>,
    ) -> Result<usize, Failure> {
        let query = GradientQuery {
            kind: self.kind,
            column: self.column.clone(),
            curvature: self.curvature,
            members: self.members,
            only_members: self.only_members.clone(),
            ..GradientQuery::default()
        };
        let keys = snapshot.gradient_keys(self.column.as_deref())?;
        let mut file = MatrixFile::create(&self.out, &[inputs.len(), keys.len()])?;
        let watch = session.watch();
        watch.progress.begin("score", "queries", Some(inputs.len() as u64));
        let scored = snapshot.score_gradients(inputs, &query, &session.cancel, |number, scores| {
            watch.progress.advance(number as u64 + 1);
            file.append(scores)
        });
        watch.progress.end();
        scored?;
        file.finish(&keys)?;
        Ok(keys.len())
    }

    fn score_vectors(&self, snapshot: &Snapshot, session: &Session<'_>) -> Result<(usize, usize), Failure> {
        let bytes = VectorFile::open(&self.queries, self.store.no_mmap)?;
        let matrix = matrix_of(&self.queries, &bytes)?;
        let column = self.column.as_deref();
        let keys = snapshot.column_keys(column)?;
        let mut file = MatrixFile::create(&self.out, &[matrix.rows(), keys.len()])?;
        let mut values = Vec::new();
        for first in (0..matrix.rows()).step_by(VECTORS_AT_ONCE) {
            let count = VECTORS_AT_ONCE.min(matrix.rows() - first);
            let mut vectors = Vec::with_capacity(count);
            for row in first..first + count {
                matrix.read_rows(row, 1, &mut values)?;
                vectors.push(values.clone());
            }
            for scores in snapshot.score_vectors(column, &vectors, self.kind, &session.cancel)? {
                file.append(&scores)?;
            }
        }
        file.finish(&keys)?;
        Ok((matrix.rows(), keys.len()))
    }
}
