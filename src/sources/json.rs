//! Strict JSON values: no name twice in an object, a bounded number of values, the column of every problem.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::shortened;
use crate::base::limits::LINE_VALUES_MAX;

/// Text that is no acceptable JSON.
#[derive(Debug, PartialEq)]
pub(super) struct JsonProblem {
    /// Byte of the text, from 1.
    pub(super) column: usize,
    /// What is wrong.
    pub(super) reason: String,
}

/// The one JSON value of `text`, which has no line breaks.
///
/// Nesting is bounded by the parser (128), the number of values by [`LINE_VALUES_MAX`].
pub(super) fn parse(text: &str) -> Result<Value, JsonProblem> {
    let mut values_left = LINE_VALUES_MAX;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    StrictValue { values_left: &mut values_left }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let said = error.to_string();
            // The parser's own "at line 1 column 7" would contradict the line of the input.
            let reason = said.rsplit_once(" at line ").map_or(said.as_str(), |(reason, _)| reason);
            JsonProblem { column: error.column().max(1), reason: reason.to_owned() }
        })
}

/// What `value` is, for messages.
pub(super) fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Builds one value and counts it.
struct StrictValue<'a> {
    values_left: &'a mut usize,
}

impl StrictValue<'_> {
    fn inner(&mut self) -> StrictValue<'_> {
        StrictValue { values_left: self.values_left }
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom(format!("more than {LINE_VALUES_MAX} values in one line")))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            // Which of the two would count differs from parser to parser.
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!(
                    "the name {:?} stands twice in one object",
                    shortened(&name)
                )));
            }
            let value = members.next_value_seed(self.inner())?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> JsonProblem {
        parse(text).expect_err("must be refused")
    }

    #[test]
    fn values_come_as_the_usual_parser_reads_them() {
        for text in
            [r#"{"b":[1,-2,0.5,1e3,null,true,{"x":""}],"a":"\u00e9\ud83d\ude00"}"#, "18446744073709551615"]
        {
            assert_eq!(parse(text), Ok(serde_json::from_str(text).unwrap()));
        }
        let names: Vec<_> =
            parse(r#"{"z":1,"a":2,"m":3}"#).unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["z", "a", "m"]);
    }

    #[test]
    fn a_name_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"b":2,"a":3}"#, r#"{"o":[{"a":1,"a":1}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(problem(text).reason.contains(r#""a" stands twice"#), "{text}");
        }
        assert!(parse(r#"{"a":{"a":{}},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn problems_carry_their_column() {
        let found = problem(r#"{"a": nope}"#);
        assert_eq!(found.column, 8);
        assert!(!found.reason.contains("line"), "{}", found.reason);
        assert_eq!(problem("").column, 1);
        for text in ["{} {}", "[1,]", "NaN", "1e999", r#""\ud800""#, "{\"a\"}", "'a'"] {
            problem(text);
        }
    }

    #[test]
    fn nesting_and_number_of_values_are_bounded() {
        problem(&"[".repeat(100_000));
        let many = format!("[{}1]", "1,".repeat(LINE_VALUES_MAX));
        assert!(problem(&many).reason.contains("more than"));
        let fits = format!("[{}1]", "1,".repeat(LINE_VALUES_MAX - 2));
        assert!(parse(&fits).is_ok());
    }
}
