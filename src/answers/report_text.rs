//! Reports written as tables, JSON, JSONL and CSV.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value};

use super::comma_separated::write_record;
use super::report::Report;
use super::{Grid, GridColumn, OutputFormat, Page, bytes_shown, count_shown, duration_shown};

/// Writes a report.
///
/// - table: names and values, then one table for each list of objects;
/// - json: one indented object;
/// - jsonl: the same object on one line;
/// - csv: the names as header and one record; lists as JSON text.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_report(
    out: &mut dyn Write,
    format: OutputFormat,
    page: Page,
    report: &Report,
) -> io::Result<()> {
    match format {
        OutputFormat::Table => write_table(out, page, report),
        OutputFormat::Json => writeln!(out, "{:#}", report.to_value()),
        OutputFormat::JsonLines => writeln!(out, "{}", report.to_value()),
        OutputFormat::Csv => {
            let values = report.values();
            write_record(out, values.keys().map(String::as_str))?;
            let fields: Vec<String> = values.values().map(raw_text).collect();
            write_record(out, fields.iter().map(String::as_str))
        }
    }
}

fn write_table(out: &mut dyn Write, page: Page, report: &Report) -> io::Result<()> {
    let mut grid = Grid::new(&[("", GridColumn::Name), ("", GridColumn::Paragraph)]);
    let mut lists = Vec::new();
    for (name, value) in report.values() {
        match objects_of(value) {
            Some(objects) if !objects.is_empty() => lists.push((name, objects)),
            // The unit stands beside the number for people.
            _ => grid.row([name.strip_suffix("_ms").unwrap_or(name), &shown(name, value)]),
        }
    }
    grid.write(out, page)?;
    for (name, objects) in lists {
        writeln!(out, "\n{name}:")?;
        objects_grid(&objects).write(out, page)?;
    }
    Ok(())
}

/// The objects of a list of nothing else.
fn objects_of(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    value.as_array()?.iter().map(Value::as_object).collect()
}

fn objects_grid(objects: &[&Map<String, Value>]) -> Grid {
    let names: Vec<&str> =
        objects.first().iter().flat_map(|object| object.keys()).map(String::as_str).collect();
    let is_number = |name: &str| objects.iter().all(|object| object.get(name).is_some_and(Value::is_number));
    let columns: Vec<_> = names
        .iter()
        .map(|name| {
            let kind = if is_number(name) { GridColumn::Number } else { GridColumn::Paragraph };
            (name.strip_suffix("_ms").unwrap_or(name), kind)
        })
        .collect();
    let mut grid = Grid::new(&columns);
    for object in objects {
        let cells: Vec<String> = names
            .iter()
            .map(|name| object.get(*name).map_or_else(String::new, |value| shown(name, value)))
            .collect();
        grid.row(cells.iter().map(String::as_str));
    }
    grid
}

/// A value for people.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        // Enough to tell two apart; whole in the other formats.
        Value::String(text) if name == "fingerprint" => text.chars().take(16).collect(),
        Value::Number(number) if name.starts_with("bytes") => {
            number.as_u64().map_or_else(|| number.to_string(), bytes_shown)
        }
        Value::Number(number) if name.ends_with("_ms") => number
            .as_f64()
            .and_then(|value| Duration::try_from_secs_f64(value / 1e3).ok())
            .map_or_else(|| number.to_string(), duration_shown),
        Value::Object(values) => {
            let values = values.iter().map(|(name, value)| format!("{name} {}", shown(name, value)));
            values.collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), count_shown),
        other => raw_text(other),
    }
}

/// Text without quotes, null as nothing, everything else as JSON.
fn raw_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::verify_report;
    use super::*;
    use crate::base::CommitSeq;
    use crate::engine::{Problem, VerifyReport};

    fn report() -> Report {
        verify_report(&VerifyReport {
            commit: Some(CommitSeq(7)),
            files: 3,
            bytes: 1_234_567,
            rows: 4284,
            catalog: true,
            problems: vec![Problem {
                place: "segments/1.rows".to_owned(),
                message: "checksum, \"wrong\"\u{1b}".to_owned(),
            }],
        })
    }

    fn written(format: OutputFormat) -> String {
        let mut out = Vec::new();
        write_report(&mut out, format, Page::default(), &report()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_and_json_lines_hold_the_same_object() {
        let json: Value = serde_json::from_str(&written(OutputFormat::Json)).unwrap();
        let line = written(OutputFormat::JsonLines);
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json);
        assert_eq!(json["ok"], json!(false));
        assert_eq!(json["problems"][0]["place"], json!("segments/1.rows"));
    }

    #[test]
    fn csv_is_a_header_and_a_record() {
        let text = written(OutputFormat::Csv);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let record = reader.records().next().unwrap().unwrap();
        let at = |name: &str| &record[header.iter().position(|field| field == name).unwrap()];
        assert_eq!((at("ok"), at("bytes"), at("commit")), ("false", "1234567", "7"));
        assert_eq!(serde_json::from_str::<Value>(at("problems")).unwrap()[0]["place"], "segments/1.rows");
    }

    #[test]
    fn tables_are_for_people() {
        let text = written(OutputFormat::Table);
        assert!(text.contains("1.23 MB") && text.contains("4,284"), "{text}");
        assert!(text.contains("problems:\nplace"), "{text}");
        assert!(text.contains("\\u{1b}") && !text.contains('\u{1b}'), "{text}");
    }
}
