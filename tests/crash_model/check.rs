//! Whether a snapshot holds exactly what a model holds.

use ascribe::attribution::{ScoreKind, Side};
use ascribe::base::{Cancel, RandomStream};
use ascribe::engine::{Hit, Plan, Query, QueryInput, Snapshot};

use crate::model::{Column, End, LetterEncoder, Model, ModelRow, WIDTH};

/// Keys that rows may have.
pub(crate) const KEYS: u64 = 24;

pub(crate) fn key(number: u64) -> String {
    format!("k{number}")
}

/// Why the snapshot is not the model; `None` if it is.
pub(crate) fn difference(snapshot: &Snapshot, model: &Model, random: &mut RandomStream) -> Option<String> {
    if snapshot.row_count() != model.rows.len() as u64 {
        return Some(format!("{} rows instead of {}", snapshot.row_count(), model.rows.len()));
    }
    let has_late = snapshot.fields().iter().any(|field| field.name == "late");
    let columns: Vec<&str> = snapshot.column_names().skip(2).collect();
    if has_late != model.has_late_field || columns != model.extra_columns {
        return Some(format!("schema: late {has_late}, columns {columns:?}"));
    }
    for number in 0..KEYS {
        let found = snapshot.row(&key(number)).unwrap_or_else(|error| panic!("row {number}: {error}"));
        let expected = model.rows.get(&key(number));
        let same = match (&found, expected) {
            (None, None) => true,
            (Some(row), Some(expected)) => same_row(row, expected),
            _ => false,
        };
        if !same {
            return Some(format!("row {}: {found:?} instead of {expected:?}", key(number)));
        }
    }
    (0..3).find_map(|_| different_answer(snapshot, model, random))
}

fn same_row(row: &ascribe::engine::Row, expected: &ModelRow) -> bool {
    row.text == expected.text
        && row.metadata.get("note").and_then(|value| value.as_str()) == Some(expected.note.as_str())
        && row.metadata.get("year").and_then(|value| value.as_i64()) == expected.year
        && row.metadata.get("late").and_then(|value| value.as_i64()) == Some(expected.vector[0] as i64)
}

fn different_answer(snapshot: &Snapshot, model: &Model, random: &mut RandomStream) -> Option<String> {
    let column = match (random.below(3), model.extra_columns.first()) {
        (0, _) => Column::Vectors,
        (1, Some(name)) => Column::Extra(name.clone()),
        _ => Column::Letters,
    };
    let (input, vector) = match (random.below(3), model.rows.first_key_value()) {
        (0, Some((key, row))) => {
            let vector =
                if column == Column::Vectors { row.vector } else { LetterEncoder::vector(&row.text) };
            (QueryInput::Key(key.clone()), vector)
        }
        (1, _) if column == Column::Letters => {
            (QueryInput::Text("aacdd".to_owned()), LetterEncoder::vector("aacdd"))
        }
        _ => {
            let vector = [(); WIDTH].map(|()| random.below(7) as f32 - 3.0);
            (QueryInput::Vector(vector.to_vec()), vector)
        }
    };
    let k = 1 + random.below(8) as usize;
    let bound = 1990 + random.below(10) as i64;
    let mut filter = (random.below(2) == 0).then(|| format!("year >= {bound} OR year IS NULL"));
    let late = filter.is_none() && model.has_late_field && random.below(2) == 0;
    if late {
        filter = Some("late > 0".to_owned());
    }
    let has_filter = filter.is_some();
    let passes = |row: &ModelRow| match (has_filter, late) {
        (false, _) => true,
        (true, false) => row.year.is_none_or(|year| year >= bound),
        (true, true) => row.vector[0] > 0.0,
    };
    let query = Query {
        input,
        k,
        side: Side::Both,
        filter,
        kind: ScoreKind::Dot,
        column: Some(column.name().to_owned()),
        exact: random.below(3) == 0,
        background: false,
        // The beam holds all rows there can be, so that a walk misses none.
        plan: if random.below(2) == 0 { Plan::Auto } else { Plan::Graph { beam: 64 } },
    };
    let answer = snapshot.query(&query, &Cancel::new()).unwrap_or_else(|error| panic!("{query:?}: {error}"));
    let (proponents, opponents) = model.answer(&column, &vector, k, passes);
    let has_percentiles =
        answer.proponents.iter().chain(&answer.opponents).all(|hit| hit.percentile.is_some());
    if answer.plan == "scan" && !has_percentiles {
        return Some(format!("{query:?}: a scan without percentiles: {answer:#?}"));
    }
    let same = same_end(&answer.proponents, &proponents) && same_end(&answer.opponents, &opponents);
    (!same).then(|| format!("{query:?}: {answer:#?} instead of {proponents:?} and {opponents:?}"))
}

fn same_end(hits: &[Hit], expected: &End) -> bool {
    hits.len() == expected.len()
        && hits.iter().zip(expected).enumerate().all(|(place, (hit, (key, score, percentile)))| {
            hit.rank == place + 1
                && hit.key == *key
                && hit.score == *score
                && hit.percentile.is_none_or(|own| (own - percentile).abs() < 1e-9)
                && hit.z.is_none_or(f64::is_finite)
        })
}
