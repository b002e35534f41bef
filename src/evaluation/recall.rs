//! Recall of the planner against exact answers, with intervals.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use super::hits::recall_of;
use crate::attribution::Side;
use crate::base::limits::RECALL_QUERIES_MAX;
use crate::engine::{Answer, Hit, Query, QueryError, QueryInput, Snapshot, Watch};
use crate::stats::{Interval, mean_interval};

/// Part of the intervals that cover the recall over all rows as questions.
const LEVEL: f64 = 0.95;

/// Resamples behind an interval. One more times 0.05 / 2 is a whole rank.
const RESAMPLES: usize = 1999;

/// How recall is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallOptions {
    /// Rows at each end, at least 1.
    pub k: usize,
    /// Questions, at least 1; there are never more than rows.
    pub queries: usize,
    /// The column to ask; `None`: the first.
    pub column: Option<String>,
    /// Only rows for which this expression over declared fields is true may be found; any row may be asked about.
    pub filter: Option<String>,
    /// Decides which rows are asked about, and how intervals are resampled.
    pub seed: u64,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self { k: 10, queries: 200, column: None, filter: None, seed: 0 }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallReport {
    /// Live rows with a value in the column.
    pub rows: u64,
    /// Rows that were asked for at each end.
    pub k: usize,
    /// Questions.
    pub queries: usize,
    /// Recall of the proponents, mean over the questions, with its 95% interval.
    pub proponents: Interval,
    /// Recall of the opponents likewise.
    pub opponents: Interval,
    /// Answers of the planner by [plan](Answer::plan): one for each question and end.
    pub plans: BTreeMap<&'static str, usize>,
    /// Median time of an answer of the planner, for one end.
    pub planned: Duration,
    /// Median time of an exact answer, for one end.
    pub exact: Duration,
}

/// Why recall cannot be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecallError {
    /// There is nothing to ask about.
    #[error("column {column:?} has no live rows to ask about: ingest some first, or measure another column")]
    NoRows {
        /// The column.
        column: String,
    },
    /// No questions, or more than intervals are made for.
    #[error("recall cannot be measured with {queries} queries: use a number from 1 to {RECALL_QUERIES_MAX}")]
    Queries {
        /// The number given.
        queries: usize,
    },
    /// A question cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Measures which part of the exact answers the planner finds, on rows of the store as questions.
///
/// The rows are drawn evenly, without repetition, from those with a value in the column. Each is asked about by its own
/// stored vector, and may be found itself; each end is asked for apart, because plans may differ between them, and each
/// once as the planner answers and once exactly. How an answer is counted: [`recall_of`].
///
/// # Errors
/// See [`RecallError`].
///
/// # Complexity
/// Two planned and two exact answers a question; in a column that only part of the rows have, drawn rows without a value
/// are passed over.
pub fn measure_recall(
    snapshot: &Snapshot,
    options: &RecallOptions,
    watch: Watch<'_>,
) -> Result<RecallReport, RecallError> {
    if !(1..=RECALL_QUERIES_MAX).contains(&options.queries) {
        return Err(RecallError::Queries { queries: options.queries });
    }
    let (column, rows) = asked_column(snapshot, options.column.as_deref())?;
    let queries = usize::try_from(rows).map_or(options.queries, |rows| rows.min(options.queries));
    watch.progress.begin("recall", "queries", Some(queries as u64));
    let measured = ask(snapshot, options, queries, watch);
    watch.progress.end();
    measured?.report(rows, options).ok_or(RecallError::NoRows { column })
}

/// Name of the column, and its live rows.
fn asked_column(snapshot: &Snapshot, name: Option<&str>) -> Result<(String, u64), QueryError> {
    let mut columns = snapshot.statistics().embeddings.into_iter();
    let found = columns.find(|column| name.is_none_or(|name| column.name == name));
    let found = found.ok_or_else(|| QueryError::UnknownColumn {
        name: name.unwrap_or_default().to_owned(),
        known: snapshot.column_names().collect::<Vec<_>>().join(", "),
    })?;
    Ok((found.name, found.rows))
}

/// Asks `queries` questions.
fn ask(
    snapshot: &Snapshot,
    options: &RecallOptions,
    queries: usize,
    watch: Watch<'_>,
) -> Result<Tally, QueryError> {
    let mut tally = Tally::default();
    let (mut drawn, mut looked_at) = (queries, 0);
    while tally.queries() < queries {
        let keys = snapshot.sample_keys(drawn, options.seed)?;
        for key in keys.iter().skip(looked_at) {
            if watch.cancel.is_cancelled() {
                return Err(QueryError::Cancelled);
            }
            match ask_one(snapshot, options, key, watch) {
                Ok(ends) => tally.add(ends),
                // Not a question: the longer sample has another row in its place.
                Err(QueryError::NoValue { .. }) => continue,
                Err(error) => return Err(error),
            }
            watch.progress.advance(tally.queries() as u64);
            if tally.queries() == queries {
                break;
            }
        }
        if keys.len() < drawn {
            // These were all rows.
            break;
        }
        looked_at = drawn;
        drawn = drawn.saturating_mul(2);
    }
    Ok(tally)
}

/// Both answers, the planner's and the exact one, for each end.
fn ask_one(
    snapshot: &Snapshot,
    options: &RecallOptions,
    key: &str,
    watch: Watch<'_>,
) -> Result<[(Answer, Answer); 2], QueryError> {
    let answer = |side, exact| {
        let query = Query {
            k: options.k,
            side,
            filter: options.filter.clone(),
            column: options.column.clone(),
            exact,
            ..Query::new(QueryInput::Key(key.to_owned()))
        };
        snapshot.query(&query, watch.cancel)
    };
    Ok([
        (answer(Side::Proponents, false)?, answer(Side::Proponents, true)?),
        (answer(Side::Opponents, false)?, answer(Side::Opponents, true)?),
    ])
}

/// What the answers so far came to.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// Recall of each question.
    proponents: Vec<f64>,
    opponents: Vec<f64>,
    plans: BTreeMap<&'static str, usize>,
    /// Times of each answer.
    planned: Vec<Duration>,
    exact: Vec<Duration>,
}

impl Tally {
    fn queries(&self) -> usize {
        self.proponents.len()
    }

    fn add(&mut self, [proponents, opponents]: [(Answer, Answer); 2]) {
        let recall = |(planned, exact): &(Answer, Answer), end: fn(&Answer) -> &[Hit]| {
            recall_of(end(planned), end(exact))
        };
        self.proponents.push(recall(&proponents, |answer| &answer.proponents));
        self.opponents.push(recall(&opponents, |answer| &answer.opponents));
        for (planned, exact) in [proponents, opponents] {
            *self.plans.entry(planned.plan).or_default() += 1;
            self.planned.push(planned.elapsed);
            self.exact.push(exact.elapsed);
        }
    }

    /// `None` without a question.
    fn report(mut self, rows: u64, options: &RecallOptions) -> Option<RecallReport> {
        let interval = |recalls: &[f64]| mean_interval(recalls, LEVEL, RESAMPLES, options.seed);
        Some(RecallReport {
            rows,
            k: options.k,
            queries: self.queries(),
            proponents: interval(&self.proponents)?,
            opponents: interval(&self.opponents)?,
            planned: median(&mut self.planned),
            exact: median(&mut self.exact),
            plans: self.plans,
        })
    }
}

/// The value in the middle, the lower one of two; zero of none.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(plan: &'static str, milliseconds: u64, keys: [&[&str]; 2]) -> Answer {
        let hits = |keys: &[&str], sign: f64| -> Vec<Hit> {
            let hit = |(place, key): (usize, &&str)| Hit {
                rank: place + 1,
                key: (*key).to_owned(),
                score: sign * (10.0 - place as f64),
                z: None,
                percentile: Some(50.0),
                text: String::new(),
                metadata: serde_json::Map::new(),
                layers: Vec::new(),
            };
            keys.iter().enumerate().map(hit).collect()
        };
        Answer {
            score: "learned",
            curvature: None,
            without: None,
            input: QueryInput::Key("q".to_owned()),
            column: "embedding".to_owned(),
            encoder: "vectors:2".to_owned(),
            kind: crate::attribution::ScoreKind::Dot,
            plan,
            plan_reason: String::new(),
            hops: 0,
            rows: 9,
            eligible_rows: 9,
            segments: 1,
            bytes: 0,
            rows_by_codes: 0,
            rows_exact: 9,
            elapsed: Duration::from_millis(milliseconds),
            stages: Default::default(),
            proponents: hits(keys[0], 1.0),
            opponents: hits(keys[1], -1.0),
        }
    }

    /// A planner that overlooks one of four proponents, and every opponent of the first of two questions.
    #[test]
    fn poor_answers_are_counted_at_their_own_end() {
        let mut tally = Tally::default();
        let exact = || answer("scan", 8, [&["a", "b", "c", "d"], &["w", "x"]]);
        let three = || answer("graph", 2, [&["a", "b", "c"], &[]]);
        tally.add([(three(), exact()), (answer("scan", 4, [&[], &[]]), exact())]);
        tally.add([(three(), exact()), (answer("scan", 3, [&[], &["w", "x"]]), exact())]);
        let report = tally.report(9, &RecallOptions { k: 4, ..RecallOptions::default() }).unwrap();
        assert_eq!(report.proponents, Interval { mean: 0.75, low: 0.75, high: 0.75 });
        assert_eq!(report.opponents, Interval { mean: 0.5, low: 0.0, high: 1.0 });
        assert_eq!(report.plans, BTreeMap::from([("graph", 2), ("scan", 2)]));
        assert_eq!((report.planned, report.exact), (Duration::from_millis(2), Duration::from_millis(8)));
        assert_eq!((report.rows, report.k, report.queries), (9, 4, 2));
    }

    #[test]
    fn without_a_question_there_is_no_report() {
        assert_eq!(Tally::default().report(0, &RecallOptions::default()), None);
    }

    #[test]
    fn the_median_is_a_time_that_was_measured() {
        let milliseconds = |times: &[u64]| {
            median(&mut times.iter().copied().map(Duration::from_millis).collect::<Vec<_>>()).as_millis()
        };
        assert_eq!([&[][..], &[5], &[9, 2], &[9, 2, 4]].map(milliseconds), [0, 5, 2, 4]);
    }
}
