//! `query`: the most influential rows.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::failure::Failure;
use super::gradient_arguments::{CANDIDATES_BY, curvatures, tensors_of};
use super::schema::parse_device;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::vector_file::{VectorFile, matrix_of};
use crate::answers::{AnswerDetail, AnswerWriter, question_value};
use crate::attribution::{ScoreKind, Side};
use crate::base::limits::{ANSWER_ROWS_MAX, HYBRID_CANDIDATES_DEFAULT};
use crate::curvature::CurvatureKind;
use crate::encoder::Device;
use crate::engine::{
    Answer, GradientInput, GradientQuery, HybridCandidates, HybridQuestion, LabelledText, MemberScores,
    Query, QueryInput, Snapshot,
};
use crate::sketch::SketchFile;

/// Vectors of a file that are asked about together: enough for several passes, few beside their answers.
const QUERIES_TOGETHER: usize = 64;

/// Ask which rows have the most influence on a text, a row or a vector
///
/// Proponents have a positive score: more weight on them helps the query. Opponents have a negative one: more weight
/// on them hurts it. z says how many standard deviations a score lies from the mean over all rows, percentile how
/// many per cent of the rows score lower.
#[derive(Args, Debug)]
#[command(
    override_usage = "ascribe query [OPTIONS] <STORE> <TEXT|--key <KEY>|--vector <FILE>|--sketch <FILE>>",
    after_help = "\
Example:
  ascribe create pets --encoder hashed
  echo '{\"text\": \"a cat on a mat\"}' | ascribe ingest pets -
  ascribe query pets 'cats and mats' -k 3"
)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    question: Question,
    /// Rows at each end
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = parse_count)]
    k: usize,
    /// Which ends to show
    #[arg(long, value_name = "SIDE", default_value = "both", value_parser = sides())]
    side: Side,
    /// Only rows for which this SQL condition over declared fields is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// How scores are normalised: dot, cosine (by both norms) or relatif (by the row's norm)
    #[arg(long, value_name = "KIND", default_value = "dot", value_parser = kinds())]
    kind: ScoreKind,
    /// Column to ask [default: the first]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Where a model encodes the text: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = parse_device)]
    device: Device,
    /// Score every row by its stored values, never use an index
    #[arg(long)]
    exact: bool,
    /// Score every row even where a graph or a filter would spare it, to tell exact percentiles
    #[arg(long)]
    background: bool,
    /// Which scores: learned, of embeddings; gradient, of sketches; or hybrid, of the sketches of some rows that are found
    /// faster (see --candidates-by)
    #[arg(long, value_name = "SCORE", default_value = "learned", value_parser = ["learned", "gradient", "hybrid"])]
    score: String,
    /// Rows that hybrid scores look at
    #[arg(long, value_name = "N", default_value_t = HYBRID_CANDIDATES_DEFAULT, value_parser = parse_count)]
    candidates: usize,
    /// How hybrid scores find these rows: embedding, those whose embeddings are most like the question's; codes, of the
    /// strongest by 8-bit codes of gradients ("ascribe fit --codes") [default: codes where they were
    /// kept or there is no embedding, embedding otherwise]
    #[arg(long, value_name = "HOW", value_parser = CANDIDATES_BY)]
    candidates_by: Option<String>,
    /// Label that TEXT is asked about with, for gradient scores by the store's head
    #[arg(long, value_name = "L", requires = "text")]
    label: Option<String>,
    /// Curvature to weigh gradients by [default: the one that was fitted last]
    #[arg(long, value_name = "KIND", value_parser = curvatures())]
    curvature: Option<CurvatureKind>,
    /// How members of gradient scores become one: standardised, or the raw mean
    #[arg(long, value_name = "HOW", default_value = "standardised", value_parser = member_scores())]
    members: MemberScores,
    /// Ask only these members, by their numbers from 0, such as 0,1 [default: all]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only_members: Vec<u32>,
    /// Show what each module contributes to a gradient score
    #[arg(long)]
    layers: bool,
    /// Predict how the query's loss would change without the rows for which this SQL condition is true
    #[arg(long, value_name = "EXPR")]
    without: Option<String>,
    /// Show how the answer came about
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Question {
    /// Text to ask about
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Row of the store to ask about, by its key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// Vectors to ask about: .npy or .safetensors of shape [DIM] or [N, DIM]; several rows give several answers
    #[arg(long, value_name = "FILE")]
    vector: Option<PathBuf>,
    /// Gradients to ask about: a sketch file; several rows give several answers
    #[arg(long, value_name = "FILE")]
    sketch: Option<PathBuf>,
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=ANSWER_ROWS_MAX).contains(count));
    count.ok_or_else(|| format!("use a number from 1 to {ANSWER_ROWS_MAX}"))
}

fn sides() -> impl TypedValueParser<Value = Side> {
    PossibleValuesParser::new(Side::ALL.map(Side::name))
        .map(|name| Side::from_name(&name).unwrap_or_default())
}

pub(super) fn member_scores() -> impl TypedValueParser<Value = MemberScores> {
    PossibleValuesParser::new(["standardised", "raw"]).map(|name| match name.as_str() {
        "raw" => MemberScores::Raw,
        _ => MemberScores::Standardised,
    })
}

pub(super) fn kinds() -> impl TypedValueParser<Value = ScoreKind> {
    PossibleValuesParser::new(ScoreKind::ALL.map(ScoreKind::name))
        .map(|name| ScoreKind::from_name(&name).unwrap_or_default())
}

impl QueryArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let reader = self.store.read_on(&[self.device])?;
        let snapshot = reader.snapshot();
        let detail = if self.explain { AnswerDetail::Explained } else { AnswerDetail::Plain };
        let mut writer = AnswerWriter::new(self.output.format, session.page, detail);
        if self.candidates_by.is_some() && self.score != "hybrid" {
            return Err(Failure::Usage("--candidates-by belongs to --score hybrid".to_owned()));
        }
        if self.score != "learned" || self.question.sketch.is_some() {
            return self.run_gradients(&snapshot, writer, session);
        }
        if self.layers || self.without.is_some() || self.curvature.is_some() || self.label.is_some() {
            let text = "--layers, --without, --curvature and --label belong to --score gradient (or, the last two, hybrid)";
            return Err(Failure::Usage(text.to_owned()));
        }
        if let Some(path) = &self.question.vector {
            return self.run_vectors(path, &snapshot, writer, session);
        }
        let input = match (&self.question.text, &self.question.key) {
            (Some(text), _) => QueryInput::Text(text.clone()),
            (None, key) => QueryInput::Key(key.clone().unwrap_or_default()),
        };
        let question = question_value(&input);
        let answer = snapshot.query(&self.query(input), &session.cancel)?;
        writer.write(session.out, &question, &answer).map_err(Failure::Output)
    }

    fn gradient_query(&self) -> GradientQuery {
        GradientQuery {
            k: self.k,
            side: self.side,
            filter: self.filter.clone(),
            kind: self.kind,
            column: self.column.clone(),
            curvature: self.curvature,
            members: self.members,
            only_members: self.only_members.clone(),
            layers: self.layers,
            without: self.without.clone(),
        }
    }

    /// How hybrid scores find candidates.
    fn found_by(&self, snapshot: &Snapshot) -> Result<HybridCandidates<'_>, Failure> {
        // Codes agree better with the scores of all rows than embeddings do.
        let by = match self.candidates_by.as_deref() {
            None if snapshot.has_codes(&self.gradient_query())? => Some(CANDIDATES_BY[1]),
            by => by,
        };
        let input = match (&self.question.text, &self.question.key) {
            (Some(text), _) => Some(QueryInput::Text(text.clone())),
            (None, Some(key)) => Some(QueryInput::Key(key.clone())),
            (None, None) => None,
        };
        match input {
            Some(input) if by != Some(CANDIDATES_BY[1]) && (by.is_some() || snapshot.has_embeddings()) => {
                Ok(HybridCandidates::Embedding { input, column: None })
            }
            None if by == Some(CANDIDATES_BY[0]) => {
                let text = "a sketch file has no embedding: leave --candidates-by away, or take codes";
                Err(Failure::Usage(text.to_owned()))
            }
            _ => Ok(HybridCandidates::Codes),
        }
    }

    /// Answers to some gradients, of all rows or of candidates.
    fn answers(
        &self,
        snapshot: &Snapshot,
        inputs: &[GradientInput<'_>],
        session: &Session<'_>,
    ) -> Result<Vec<Answer>, Failure> {
        let query = self.gradient_query();
        if self.score != "hybrid" {
            return Ok(snapshot.query_gradients(inputs, &query, &session.cancel)?);
        }
        let candidates = self.found_by(snapshot)?;
        let question = |gradient: &_| HybridQuestion { candidates: candidates.clone(), gradient: *gradient };
        let questions: Vec<HybridQuestion<'_>> = inputs.iter().map(question).collect();
        Ok(snapshot.query_hybrid(&questions, &query, self.candidates, &session.cancel)?)
    }

    fn run_gradients(
        &self,
        snapshot: &Snapshot,
        mut writer: AnswerWriter,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let bytes = match &self.question.sketch {
            Some(path) => Some((path, VectorFile::open(path, self.store.no_mmap)?)),
            None => None,
        };
        let tensors = match &bytes {
            Some((path, bytes)) => Some(tensors_of(path, bytes)?),
            None => None,
        };
        let sketches = tensors.as_ref().map(SketchFile::new).transpose()?;
        let (text, label) = (self.question.text.clone().unwrap_or_default(), self.label.clone());
        let asked = QueryInput::Text(text.clone());
        let mut gradients = Vec::new();
        let inputs: Vec<GradientInput<'_>> = match (&sketches, &self.question.key, label) {
            (Some(sketches), _, _) => GradientInput::of_source(sketches),
            (None, Some(key), _) => vec![GradientInput::Key(key)],
            (None, None, Some(label)) => {
                let column = self.column.as_deref();
                gradients.extend(snapshot.label_gradients(column, &[LabelledText::Text { text, label }])?);
                GradientInput::of_head(&asked, &gradients)
            }
            (None, None, None) => {
                let text = "a gradient is that of a text with a label (TEXT --label L), of a row (--key K) or of a sketch file (--sketch FILE)";
                return Err(Failure::Usage(text.to_owned()));
            }
        };
        if inputs.len() > 1 {
            writer = writer.of_several();
        }
        for inputs in inputs.chunks(QUERIES_TOGETHER) {
            let answers = self.answers(snapshot, inputs, session)?;
            self.write_answers(&answers, &mut writer, session)?;
        }
        Ok(())
    }

    fn write_answers(
        &self,
        answers: &[Answer],
        writer: &mut AnswerWriter,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        for answer in answers {
            let mut question = question_value(&answer.input);
            if let Some(label) = &self.label {
                question["label"] = json!(label);
            }
            writer.write(session.out, &question, answer).map_err(Failure::Output)?;
        }
        Ok(())
    }

    fn run_vectors(
        &self,
        path: &Path,
        snapshot: &Snapshot,
        mut writer: AnswerWriter,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let bytes = VectorFile::open(path, self.store.no_mmap)?;
        let matrix = matrix_of(path, &bytes)?;
        let file = path.display().to_string();
        if matrix.rows() > 1 {
            writer = writer.of_several();
        }
        // Row 0 of one is not worth saying.
        let question = |row: usize| {
            if matrix.rows() > 1 {
                json!({"kind": "vector", "value": file, "row": row + 1})
            } else {
                json!({"kind": "vector", "value": file})
            }
        };
        let mut values = Vec::new();
        for first in (0..matrix.rows()).step_by(QUERIES_TOGETHER) {
            let rows = first..matrix.rows().min(first + QUERIES_TOGETHER);
            let mut queries = Vec::new();
            for row in rows.clone() {
                matrix.read_rows(row, 1, &mut values)?;
                queries.push(self.query(QueryInput::Vector(values.clone())));
            }
            let answers = snapshot.query_all(&queries, &session.cancel).or_else(|_| {
                // One by one, to say which of them cannot be answered.
                let answers = rows.clone().zip(&queries).map(|(row, query)| {
                    snapshot.query(query, &session.cancel).map_err(|error| match Failure::from(error) {
                        Failure::Failed(text) => Failure::Failed(format!("{file}, row {}: {text}", row + 1)),
                        other => other,
                    })
                });
                answers.collect::<Result<Vec<_>, _>>()
            })?;
            for (row, answer) in rows.zip(answers) {
                writer.write(session.out, &question(row), &answer).map_err(Failure::Output)?;
            }
        }
        Ok(())
    }

    fn query(&self, input: QueryInput) -> Query {
        Query {
            k: self.k,
            side: self.side,
            filter: self.filter.clone(),
            kind: self.kind,
            column: self.column.clone(),
            exact: self.exact,
            background: self.background,
            ..Query::new(input)
        }
    }
}
