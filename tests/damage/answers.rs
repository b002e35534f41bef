//! A fixed set of questions to a store. Each answer of a damaged store must be an error or the answer of the whole one.

use std::sync::Arc;
use std::time::Duration;

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::Cancel;
use ascribe::engine::{
    Answer, Query, QueryInput, QueryStages, Reader, Row, Snapshot, Statistics, Store, Watch, verify,
};
use ascribe::format::Manifest;
use ascribe::storage::{CatalogCheck, CatalogError, Storage};

use crate::small_store::{KEYS, options};

#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Answer(Box<Answer>),
    Row(Option<Row>),
    Statistics(Box<Statistics>),
}

/// Answers in the order of the questions; errors as their text.
pub(crate) type Replies = Vec<Result<Reply, String>>;

fn queries() -> Vec<Query> {
    let ask = |input: QueryInput, column: &str, kind: ScoreKind, filter: Option<&str>| Query {
        column: Some(column.to_owned()),
        kind,
        filter: filter.map(str::to_owned),
        ..Query::new(input)
    };
    let text = |text: &str| QueryInput::Text(text.to_owned());
    let key = |key: &str| QueryInput::Key(key.to_owned());
    let vector = QueryInput::Vector(vec![1.0, -2.0, 0.5, 0.25]);
    let typed = "(label LIKE 'a%' AND year > 1980) OR score >= 0.5 OR good = false OR seen < '2000-01-01'";
    let mut queries = vec![
        ask(text("cat sea"), "embedding", ScoreKind::Dot, None),
        ask(text("cat sea"), "embedding", ScoreKind::Cosine, Some(typed)),
        ask(text("rain dog"), "small", ScoreKind::Cosine, Some("late > 0 OR late IS NULL")),
        ask(key("e"), "small", ScoreKind::Relatif, None),
        ask(key("a"), "ready", ScoreKind::Dot, Some("year IS NOT NULL")),
        ask(vector, "ready", ScoreKind::Relatif, None),
        ask(QueryInput::Vector(vec![1.0; 3]), "other", ScoreKind::Dot, None),
    ];
    queries.push(Query { side: Side::Opponents, k: 2, ..Query::text("mat") });
    queries
}

/// Asks everything.
pub(crate) fn ask(snapshot: &Snapshot) -> Replies {
    let cancel = Cancel::new();
    let mut replies = Replies::new();
    for query in queries() {
        let answer = snapshot.query(&query, &cancel).map(|mut answer| {
            answer.elapsed = Duration::ZERO;
            answer.stages = QueryStages::default();
            Reply::Answer(Box::new(answer))
        });
        replies.push(answer.map_err(|error| error.to_string()));
    }
    for key in KEYS {
        replies.push(snapshot.row(key).map(Reply::Row).map_err(|error| error.to_string()));
    }
    let mut statistics = snapshot.statistics();
    // The catalog counts in the first, which readers do not open and writers change; the others are of this process.
    (statistics.bytes_on_disk, statistics.bytes_mapped, statistics.bytes_heap) = (0, 0, 0);
    replies.push(Ok(Reply::Statistics(Box::new(statistics))));
    replies
}

/// Opens for reading and asks.
pub(crate) fn read(storage: Arc<dyn Storage>) -> Result<Replies, String> {
    let reader = Reader::open(storage, options()).map_err(|error| error.to_string())?;
    Ok(ask(&reader.snapshot()))
}

/// Opens for writing and asks.
pub(crate) fn write(storage: Arc<dyn Storage>) -> Result<Replies, String> {
    let store = Store::open(storage, options()).map_err(|error| error.to_string())?;
    Ok(ask(&store.snapshot()))
}

/// Whether each reply is an error or as expected; and that errors say something.
pub(crate) fn judge(expected: &Replies, found: &Result<Replies, String>) -> Result<(), String> {
    let replies = match found {
        Ok(replies) => replies,
        Err(text) if text.is_empty() => return Err("an error without text".to_owned()),
        Err(_) => return Ok(()),
    };
    for (question, (expected, found)) in expected.iter().zip(replies).enumerate() {
        match found {
            Err(text) if text.is_empty() => return Err(format!("question {question}: error without text")),
            Err(_) => {}
            Ok(reply) if expected.as_ref() == Ok(reply) => {}
            Ok(reply) => {
                return Err(format!("question {question}: wrong answer {reply:?}, expected {expected:?}"));
            }
        }
    }
    Ok(())
}

/// Never asked: the caller holds the writer's lock.
#[derive(Debug)]
struct NoCheck;

impl CatalogCheck for NoCheck {
    fn check(&self, _bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError> {
        Ok(None)
    }
}

/// Problems that the deep check finds, the catalog left out; one if it ends with an error.
pub(crate) fn problems(storage: &Arc<dyn Storage>) -> usize {
    let lock = storage.lock_exclusive("LOCK");
    let cancel = Cancel::new();
    let report = verify(storage, true, &NoCheck, Watch::silent(&cancel));
    drop(lock);
    report.map_or(1, |report| report.problems.len())
}

#[test]
fn the_questions_have_answers_that_say_something() {
    let _alone = crate::cases::alone();
    let storage: Arc<dyn Storage> = Arc::new(crate::small_store::simulated());
    let replies = read(Arc::clone(&storage)).unwrap();
    for (question, reply) in replies.iter().enumerate() {
        match reply.as_ref().unwrap() {
            Reply::Answer(answer) if answer.column == "other" => assert_eq!(answer.rows, 0),
            Reply::Answer(answer) => {
                assert!(answer.proponents.len() + answer.opponents.len() > 1, "question {question}");
                assert!(answer.eligible_rows > 1, "question {question}: {}", answer.eligible_rows);
            }
            Reply::Row(row) => {
                let key = KEYS[question - queries().len()];
                assert_eq!(row.is_some(), !["b", "nobody"].contains(&key), "{key}");
            }
            Reply::Statistics(statistics) => {
                assert_eq!((statistics.rows, statistics.deleted_rows, statistics.segments), (9, 2, 3));
            }
        }
    }
    assert_eq!(problems(&storage), 0);
    assert_eq!(write(storage).unwrap(), replies);
}
