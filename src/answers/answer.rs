//! The answer to a query as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::engine::{Answer, Hit, QueryInput};

/// What an answer shows beside its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerDetail {
    /// What everyone wants to know.
    #[default]
    Plain,
    /// How the answer came about too: column, encoder, stages and their times.
    Explained,
}

/// The question as JSON: `{"kind": "text", "value": "..."}`; kinds are `text`, `key`, `vector` and `sketch`.
///
/// ```
/// use ascribe::answers::question_value;
/// use ascribe::engine::QueryInput;
/// let question = question_value(&QueryInput::Key("r17".into()));
/// assert_eq!(question.to_string(), r#"{"kind":"key","value":"r17"}"#);
/// ```
pub fn question_value(input: &QueryInput) -> Value {
    match input {
        QueryInput::Text(text) => json!({"kind": "text", "value": text}),
        QueryInput::Key(key) => json!({"kind": "key", "value": key}),
        QueryInput::Vector(values) => {
            let values: Vec<Value> = values.iter().map(|value| Value::from(f64::from(*value))).collect();
            json!({"kind": "vector", "value": values})
        }
        QueryInput::Sketch { source, row } => json!({"kind": "sketch", "value": source, "row": row + 1}),
    }
}

/// The answer as one JSON object. `question` is what was asked, as [`question_value`] gives it, or a shorter form
/// of the same shape, such as the file that a vector came from.
///
/// Times are in milliseconds. A number that is not finite cannot occur; if it did, it would be null.
pub fn answer_value(question: &Value, answer: &Answer, detail: AnswerDetail) -> Value {
    let hits =
        |hits: &[Hit]| Value::from(hits.iter().map(|hit| Value::from(hit_map(hit))).collect::<Vec<_>>());
    let mut object = Map::new();
    object.insert("query".into(), question.clone());
    object.insert("score".into(), Value::from(answer.score));
    object.insert("kind".into(), Value::from(answer.kind.name()));
    object.insert("column".into(), Value::from(answer.column.as_str()));
    if let Some(curvature) = &answer.curvature {
        object.insert("curvature".into(), Value::from(curvature.as_str()));
    }
    object.insert("exact".into(), Value::from(is_exact(answer)));
    object.insert(
        "searched".into(),
        json!({"rows": answer.eligible_rows, "segments": answer.segments, "plan": answer.plan}),
    );
    object.insert("elapsed_ms".into(), milliseconds(answer.elapsed));
    if detail == AnswerDetail::Explained {
        object.insert("explain".into(), explain_value(answer));
    }
    if let Some(without) = &answer.without {
        let value = json!({"rows": without.rows, "predicted_loss_change": without.change});
        object.insert("without".into(), value);
    }
    object.insert("proponents".into(), hits(&answer.proponents));
    object.insert("opponents".into(), hits(&answer.opponents));
    Value::from(object)
}

/// A scan looks at every row, and a prefilter at every row that may be chosen; a walk may overlook one, and candidates are
/// some of the rows only.
fn is_exact(answer: &Answer) -> bool {
    !matches!(answer.plan, "graph" | "candidates")
}

fn explain_value(answer: &Answer) -> Value {
    let stages = &answer.stages;
    json!({
        "encoder": answer.encoder,
        "live_rows": answer.rows,
        "eligible_rows": answer.eligible_rows,
        "plan": answer.plan,
        "plan_reason": answer.plan_reason,
        "hops": answer.hops,
        "rows_by_codes": answer.rows_by_codes,
        "rows_exact": answer.rows_exact,
        "bytes": answer.bytes,
        "stages_ms": {
            "encode": milliseconds(stages.encode),
            "filter": milliseconds(stages.filter),
            "scan": milliseconds(stages.scan),
            "select": milliseconds(stages.select),
            "fetch": milliseconds(stages.fetch),
        },
    })
}

/// One row of an answer: rank, key, score, z, percentile, text, metadata.
pub(super) fn hit_map(hit: &Hit) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("rank".into(), Value::from(hit.rank));
    object.insert("key".into(), Value::from(hit.key.as_str()));
    // Null where a number is not finite.
    object.insert("score".into(), Value::from(hit.score));
    object.insert("z".into(), hit.z.map_or(Value::Null, Value::from));
    object.insert("percentile".into(), hit.percentile.map_or(Value::Null, Value::from));
    object.insert("text".into(), Value::from(hit.text.as_str()));
    object.insert("metadata".into(), Value::from(hit.metadata.clone()));
    if !hit.layers.is_empty() {
        let layers = hit.layers.iter().map(|(name, part)| (name.clone(), Value::from(*part)));
        object.insert("layers".into(), Value::from(layers.collect::<Map<_, _>>()));
    }
    object
}

/// Milliseconds, to the microsecond.
pub(super) fn milliseconds(duration: Duration) -> Value {
    Value::from(duration.as_micros() as f64 / 1e3)
}
