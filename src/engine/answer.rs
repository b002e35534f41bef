//! Questions and answers.

use std::time::Duration;

use serde_json::{Map, Value};

use super::plan::Plan;
use crate::attribution::{ScoreKind, Side};
use crate::base::{CommitSeq, ElementType, FieldDeclaration, Fingerprint};
use crate::format::{GraphHead, GraphMaker, GraphRecall};

/// What is asked about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum QueryInput {
    /// A text, encoded by the column's encoder.
    Text(String),
    /// A row of the store, by its key: its own stored vector.
    Key(String),
    /// A ready vector of the column's width.
    Vector(Vec<f32>),
    /// A gradient that is no row of the store.
    Sketch {
        /// Where it comes from.
        source: String,
        /// Which of its rows, from 0.
        row: usize,
    },
}

/// A question: which rows have the most influence on this?
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What is asked about.
    pub input: QueryInput,
    /// Rows at each end, at least 1.
    pub k: usize,
    /// Which ends.
    pub side: Side,
    /// Only rows for which this expression over declared fields is true.
    pub filter: Option<String>,
    /// How scores are normalised.
    pub kind: ScoreKind,
    /// The column to ask; `None`: the first.
    pub column: Option<String>,
    /// Score every row by its stored values, never use an index.
    pub exact: bool,
    /// Tell the exact percentile of each row of the answer, for which every row is scored.
    pub background: bool,
    /// How rows are to be found.
    pub plan: Plan,
}

impl Query {
    /// The ten strongest rows at each end for `input`.
    pub fn new(input: QueryInput) -> Self {
        Self {
            input,
            k: 10,
            side: Side::Both,
            filter: None,
            kind: ScoreKind::Dot,
            column: None,
            exact: false,
            background: false,
            plan: Plan::Auto,
        }
    }

    /// Whether the two differ in nothing but what they ask about.
    pub(super) fn differs_only_in_input(&self, other: &Self) -> bool {
        let Self { input: _, k, side, filter, kind, column, exact, background, plan } = self;
        (k, side, filter, kind) == (&other.k, &other.side, &other.filter, &other.kind)
            && (column, exact, background, plan)
                == (&other.column, &other.exact, &other.background, &other.plan)
    }

    /// The ten strongest rows at each end for a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(QueryInput::Text(text.into()))
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Place at its end, from 1.
    pub rank: usize,
    /// Key of the row.
    pub key: String,
    /// Score: positive = giving the row more weight helps the query.
    pub score: f64,
    /// Standard deviations between this score and the mean over all live rows; `None` where all scores are equal. Where
    /// rows were scored by codes, mean and deviation are those of the scores by codes; where not all rows were
    /// scored, those of [`SAMPLE_ROWS`](crate::base::limits::SAMPLE_ROWS) rows.
    pub z: Option<f64>,
    /// Per cent of all live rows with a lower score, equal ones counted half. `None` where not all rows were scored:
    /// a graph was walked, or a filter left few.
    pub percentile: Option<f64>,
    /// Text of the row; empty if it has none.
    pub text: String,
    /// Declared and undeclared fields.
    pub metadata: Map<String, Value>,
    /// What each module contributes to a gradient score, where that was asked for: they add up to it.
    pub layers: Vec<(String, f64)>,
}

/// What is predicted to happen without some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Without {
    /// How many rows.
    pub rows: u64,
    /// Predicted change of the query's loss if the model had been trained without them: the sum of their scores (the plain
    /// mean over members) over the number of rows.
    pub change: f64,
}

/// Time that the stages of a query took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStages {
    /// Encoding the question.
    pub encode: Duration,
    /// Evaluating the filter.
    pub filter: Duration,
    /// Scoring rows.
    pub scan: Duration,
    /// Choosing rows, and how unusual they are.
    pub select: Duration,
    /// Reading keys, texts and metadata of the chosen rows.
    pub fetch: Duration,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was asked about.
    pub input: QueryInput,
    /// Which scores: `learned` of embeddings, `gradient` of sketches.
    pub score: &'static str,
    /// The column that answered.
    pub column: String,
    /// Name of the encoder that the column was built with.
    pub encoder: String,
    /// The curvature of gradient scores; `None` of learned ones.
    pub curvature: Option<String>,
    /// How scores are normalised.
    pub kind: ScoreKind,
    /// How rows were looked at: `scan`, every one of them; `prefilter`, those that pass the filter, and no others;
    /// `graph`, those that walks were led to, which may miss some; or `candidates`, those that embeddings or codes found.
    pub plan: &'static str,
    /// Why no graph was walked, where there is one; empty otherwise.
    pub plan_reason: String,
    /// Live rows with a value in the column.
    pub rows: u64,
    /// Rows that pass the filter; `rows` without one. Where the plan is `candidates`, how many those are.
    pub eligible_rows: u64,
    /// Segments looked at.
    pub segments: usize,
    /// About the bytes of values and codes that were looked at: how many rows were scored by more than 4-bit codes depends on
    /// how threads came to know what the best reach.
    pub bytes: u64,
    /// Rows that were scored by their codes, to find those to score exactly.
    pub rows_by_codes: u64,
    /// Rows whose links were followed in graphs.
    pub hops: u64,
    /// Rows that were scored exactly. All scores of the answer are.
    pub rows_exact: u64,
    /// Time from question to answer; of questions that shared a pass from the first of them to this answer.
    pub elapsed: Duration,
    /// Where that time went; encoding and scan are those of all questions of the pass, loading an encoder and the filter
    /// those of all questions of the call that differ in nothing else.
    pub stages: QueryStages,
    /// What is predicted to happen without some rows, where that was asked for.
    pub without: Option<Without>,
    /// Rows with the highest positive scores, highest first.
    pub proponents: Vec<Hit>,
    /// Rows with the lowest negative scores, lowest first.
    pub opponents: Vec<Hit>,
}

/// A row of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Its text; empty if it has none.
    pub text: String,
    /// Declared and undeclared fields.
    pub metadata: Map<String, Value>,
}

/// A column, as `stats` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnStatistics {
    /// Name.
    pub name: String,
    /// Encoder, such as `hashed:256`; `None` for a sketch column.
    pub encoder: Option<String>,
    /// Fingerprint of the encoder (or of the sketch schema); `None` until the first rows fixed it.
    pub fingerprint: Option<Fingerprint>,
    /// How a value is stored.
    pub element: ElementType,
    /// Values a row.
    pub width: usize,
    /// Live rows that have a value.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A fitted curvature, as `stats` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurvatureStatistics {
    /// Version.
    pub version: u64,
    /// The sketch column that it was fitted to.
    pub column: String,
    /// Which: `margin`, `fisher`, `diagonal` or `identity`.
    pub kind: String,
    /// How it is computed: `direct`, `dual`, `primal` or `landmarks`.
    pub form: String,
    /// Rows that it was fitted to.
    pub rows: u64,
    /// Rows among them whose gradients are zero: they are kept, and score 0. `None` where its file does not tell.
    pub zero_rows: Option<u64>,
    /// Bytes of its file.
    pub bytes: u64,
    /// The first commit that has it.
    pub commit: CommitSeq,
}

impl CurvatureStatistics {
    /// Name for answers and reports, such as `margin (dual), version 3`.
    pub fn title(&self) -> String {
        curvature_title(&self.kind, &self.form, self.version)
    }
}

pub(super) fn curvature_title(kind: &str, form: &str, version: u64) -> String {
    format!("{kind} ({form}), version {version}")
}

/// The indexes of a store's columns, as `stats` shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexStatistics {
    /// Indexes that queries use.
    pub files: usize,
    /// Their rows, deleted ones counted.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Indexes that are damaged and not used.
    pub damaged: usize,
    /// Graphs over the codes, if there are any.
    pub graphs: Option<GraphStatistics>,
    /// Graphs that are damaged and not used.
    pub damaged_graphs: usize,
}

/// The graphs of a store's columns: what they promise is what the worst of them does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphStatistics {
    /// Graphs that queries may walk.
    pub files: usize,
    /// Rows of their segments, deleted ones counted.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that a walk can reach.
    pub reachable_rows: u64,
    /// Who made them.
    pub makers: Vec<GraphMaker>,
    /// Least measured recall of the 10 and of the 100 best proponents, then of the opponents, 0 to 1, with the beam that it
    /// was measured at.
    pub recall: [GraphRecall; 4],
}

impl GraphStatistics {
    /// Counts a graph in.
    pub(super) fn add(&mut self, head: &GraphHead, rows: u32, bytes: u64) {
        self.files += 1;
        self.rows += u64::from(rows);
        self.bytes += bytes;
        self.reachable_rows += u64::from(head.reachable_rows);
        if !self.makers.contains(&head.maker) {
            self.makers.push(head.maker);
        }
        for (least, measured) in self.recall.iter_mut().zip(head.recall) {
            if self.files == 1 || measured.recall < least.recall {
                *least = measured;
            }
        }
    }
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Live rows.
    pub rows: u64,
    /// Rows that are deleted but still take room.
    pub deleted_rows: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of all files of this commit, with catalog and manifest.
    pub bytes_on_disk: u64,
    /// Bytes of sealed files that are memory-mapped.
    pub bytes_mapped: u64,
    /// Bytes of sealed files that are held in memory.
    pub bytes_heap: u64,
    /// Declared fields.
    pub fields: Vec<FieldDeclaration>,
    /// Embedding columns.
    pub embeddings: Vec<ColumnStatistics>,
    /// Sketch columns.
    pub sketches: Vec<ColumnStatistics>,
    /// Fitted curvatures of sketch columns.
    pub curvatures: Vec<CurvatureStatistics>,
    /// Indexes of columns.
    pub index: IndexStatistics,
    /// The commit.
    pub commit: CommitSeq,
    /// When it was made, milliseconds since 1970-01-01 UTC.
    pub commit_unix_ms: u64,
    /// What it did.
    pub commit_operation: String,
    /// Format version.
    pub format_version: u16,
}

/// Something wrong that `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or record.
    pub place: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What `verify` did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Commit that was checked; `None` if not even the manifest could be read.
    pub commit: Option<CommitSeq>,
    /// Files checked.
    pub files: usize,
    /// Bytes read for checking.
    pub bytes: u64,
    /// Rows cross-checked (`deep` only).
    pub rows: u64,
    /// Whether the catalog was checked too: not if another process is writing.
    pub catalog: bool,
    /// What is wrong; empty if all is well.
    pub problems: Vec<Problem>,
}
