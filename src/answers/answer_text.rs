//! Answers written as tables, JSON, JSONL and CSV.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::answer::{AnswerDetail, answer_value, hit_map};
use super::comma_separated::write_record;
use super::{Grid, GridColumn, OutputFormat, Page};
use super::{bytes_shown, count_shown, duration_shown, escaped, score_shown};
use crate::engine::{Answer, Hit};

/// Characters of a line from which a table has room for metadata too.
const METADATA_WIDTH_MIN: u16 = 100;

/// Fields of a CSV record.
const CSV_HEADER: [&str; 9] =
    ["query", "side", "rank", "key", "score", "z", "percentile", "text", "metadata"];

/// Writes one answer, or several to one output.
///
/// - table: one table for each end, a line about the search;
/// - json: one indented object, or one object a line if there are several answers;
/// - jsonl: one object a row with `query` (number of the question, from 1) and `side` before the fields of the row;
/// - csv: the same fields under one header, metadata as JSON text.
#[derive(Debug)]
pub struct AnswerWriter {
    format: OutputFormat,
    page: Page,
    detail: AnswerDetail,
    several: bool,
    written: usize,
}

impl AnswerWriter {
    /// A writer of one answer.
    pub fn new(format: OutputFormat, page: Page, detail: AnswerDetail) -> Self {
        Self { format, page, detail, several: false, written: 0 }
    }

    /// A writer of several answers.
    #[must_use]
    pub fn of_several(mut self) -> Self {
        self.several = true;
        self
    }

    /// Writes `answer` to `question` (see [`question_value`](super::question_value)).
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn write(&mut self, out: &mut dyn Write, question: &Value, answer: &Answer) -> io::Result<()> {
        self.written += 1;
        match self.format {
            OutputFormat::Table => self.write_table(out, question, answer),
            OutputFormat::Json => {
                let value = answer_value(question, answer, self.detail);
                if self.several { writeln!(out, "{value}") } else { writeln!(out, "{value:#}") }
            }
            OutputFormat::JsonLines => rows(answer).try_for_each(|(side, hit)| {
                let mut object = Map::new();
                object.insert("query".into(), Value::from(self.written));
                object.insert("side".into(), Value::from(side));
                object.extend(hit_map(hit));
                writeln!(out, "{}", Value::from(object))
            }),
            OutputFormat::Csv => {
                if self.written == 1 {
                    write_record(out, CSV_HEADER)?;
                }
                rows(answer).try_for_each(|(side, hit)| {
                    let fields = csv_fields(self.written, side, hit);
                    write_record(out, fields.iter().map(String::as_str))
                })
            }
        }
    }

    fn write_table(&self, out: &mut dyn Write, question: &Value, answer: &Answer) -> io::Result<()> {
        if self.several {
            if self.written > 1 {
                writeln!(out)?;
            }
            let value = question.get("value").map(cell_text).unwrap_or_default();
            let row = question.get("row").map(|row| format!(", row {row}")).unwrap_or_default();
            writeln!(out, "Question {}: {}{row}", self.written, escaped(&value))?;
        }
        let with_metadata =
            self.page.width >= METADATA_WIDTH_MIN && rows(answer).any(|(_, hit)| !hit.metadata.is_empty());
        for (title, meaning, hits) in [
            ("Proponents", "more weight on these rows helps the query", &answer.proponents),
            ("Opponents", "more weight on these rows hurts the query", &answer.opponents),
        ] {
            if hits.is_empty() {
                continue;
            }
            writeln!(out, "{title}: {meaning}")?;
            hits_grid(hits, with_metadata).write(out, self.page)?;
            writeln!(out)?;
        }
        if answer.proponents.is_empty() && answer.opponents.is_empty() {
            writeln!(out, "No row answers: every score is 0, or no row passes the filter.")?;
        }
        write_search(out, answer)?;
        if self.detail == AnswerDetail::Explained { write_explanation(out, answer) } else { Ok(()) }
    }
}

fn rows(answer: &Answer) -> impl Iterator<Item = (&'static str, &Hit)> {
    let proponents = answer.proponents.iter().map(|hit| ("proponents", hit));
    proponents.chain(answer.opponents.iter().map(|hit| ("opponents", hit)))
}

fn csv_fields(query: usize, side: &str, hit: &Hit) -> [String; 9] {
    let number = |value: Option<f64>| {
        value
            .filter(|value| value.is_finite())
            .map(|value| Value::from(value).to_string())
            .unwrap_or_default()
    };
    [
        query.to_string(),
        side.to_owned(),
        hit.rank.to_string(),
        hit.key.clone(),
        number(Some(hit.score)),
        number(hit.z),
        number(hit.percentile),
        hit.text.clone(),
        Value::from(hit.metadata.clone()).to_string(),
    ]
}

fn hits_grid(hits: &[Hit], with_metadata: bool) -> Grid {
    let mut columns = vec![
        ("#", GridColumn::Number),
        ("score", GridColumn::Number),
        ("z", GridColumn::Number),
        ("percentile", GridColumn::Number),
        ("key", GridColumn::Name),
        ("text", GridColumn::Text),
    ];
    if with_metadata {
        columns.push(("fields", GridColumn::Name));
    }
    let mut grid = Grid::new(&columns);
    grid.colour_signs(1);
    for hit in hits {
        let z = hit.z.map(|z| format!("{z:+.1}")).unwrap_or_default();
        let mut cells = vec![
            hit.rank.to_string(),
            score_shown(hit.score),
            z,
            hit.percentile.map(|percentile| format!("{percentile:.2}")).unwrap_or_default(),
            hit.key.clone(),
            hit.text.clone(),
        ];
        if with_metadata {
            cells.push(fields_text(&hit.metadata));
        }
        grid.row(cells.iter().map(String::as_str));
    }
    grid
}

fn fields_text(metadata: &Map<String, Value>) -> String {
    let fields = metadata.iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| format!("{name}: {}", cell_text(value))).collect::<Vec<_>>().join(", ")
}

/// Text without quotes, everything else as JSON.
fn cell_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn write_search(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let (looked_at, all) = (count_shown(answer.eligible_rows), count_shown(answer.rows));
    let rows = if answer.plan == "candidates" {
        format!("{looked_at} of {all} rows")
    } else if answer.eligible_rows < answer.rows {
        format!("{looked_at} of {all} rows pass the filter")
    } else {
        format!("{all} rows")
    };
    let plural = if answer.segments == 1 { "" } else { "s" };
    let (segments, plan) = (answer.segments, answer.plan);
    writeln!(out, "{rows}, {segments} segment{plural}, {plan}, {}", duration_shown(answer.elapsed))
}

fn write_explanation(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let stages = &answer.stages;
    if answer.hops > 0 {
        writeln!(out, "plan {}: the links of {} rows were followed", answer.plan, count_shown(answer.hops))?;
    } else if !answer.plan_reason.is_empty() {
        writeln!(out, "plan {}: {}", answer.plan, escaped(&answer.plan_reason))?;
    }
    writeln!(
        out,
        "column {}, encoder {}, {} scores, {} rows by codes, {} exactly, {} looked at",
        escaped(&answer.column),
        escaped(&answer.encoder),
        answer.kind,
        count_shown(answer.rows_by_codes),
        count_shown(answer.rows_exact),
        bytes_shown(answer.bytes)
    )?;
    writeln!(
        out,
        "encode {}, filter {}, scan {}, select {}, fetch {}",
        duration_shown(stages.encode),
        duration_shown(stages.filter),
        duration_shown(stages.scan),
        duration_shown(stages.select),
        duration_shown(stages.fetch)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::question_value;
    use super::*;
    use crate::attribution::ScoreKind;
    use crate::engine::{QueryInput, QueryStages};

    fn hit(rank: usize, score: f64) -> Hit {
        Hit {
            layers: Vec::new(),
            rank,
            key: format!("r{rank}"),
            score,
            z: (rank == 1).then_some(2.5),
            percentile: Some(99.5),
            text: "a \"cat\",\u{1b}[31m\nred".to_owned(),
            metadata: [("year".to_owned(), json!(1990)), ("tag".to_owned(), json!("x"))]
                .into_iter()
                .collect(),
        }
    }

    fn answer() -> Answer {
        Answer {
            score: "learned",
            curvature: None,
            without: None,
            input: QueryInput::Text("cats".to_owned()),
            column: "embedding".to_owned(),
            encoder: "hashed:16".to_owned(),
            kind: ScoreKind::Dot,
            plan: "scan",
            rows: 30,
            eligible_rows: 20,
            segments: 1,
            bytes: 1280,
            plan_reason: String::new(),
            hops: 0,
            rows_by_codes: 0,
            rows_exact: 30,
            elapsed: Duration::from_micros(1500),
            stages: QueryStages::default(),
            proponents: vec![hit(1, 0.5), hit(2, 0.25)],
            opponents: vec![hit(1, -0.125)],
        }
    }

    fn written(format: OutputFormat, answers: usize, page: Page) -> String {
        let mut writer = AnswerWriter::new(format, page, AnswerDetail::Explained);
        if answers > 1 {
            writer = writer.of_several();
        }
        let mut out = Vec::new();
        let answer = answer();
        for _ in 0..answers {
            writer.write(&mut out, &question_value(&answer.input), &answer).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_names_of_the_contract_in_order() {
        let text = written(OutputFormat::Json, 1, Page::default());
        let value: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "query",
            "score",
            "kind",
            "column",
            "exact",
            "searched",
            "elapsed_ms",
            "explain",
            "proponents",
            "opponents",
        ];
        assert_eq!(names, expected);
        assert_eq!(value["query"], json!({"kind": "text", "value": "cats"}));
        assert_eq!(value["searched"], json!({"rows": 20, "segments": 1, "plan": "scan"}));
        assert_eq!(value["elapsed_ms"], json!(1.5));
        let first = &value["proponents"][0];
        let names: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["rank", "key", "score", "z", "percentile", "text", "metadata"]);
        assert_eq!(first["text"], hit(1, 0.5).text);
        assert_eq!(value["proponents"][1]["z"], Value::Null);
        assert_eq!(value["opponents"][0]["score"], json!(-0.125));
    }

    #[test]
    fn several_answers_are_one_json_object_a_line() {
        let text = written(OutputFormat::Json, 3, Page::default());
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap()["proponents"].is_array());
        }
    }

    #[test]
    fn json_lines_name_question_and_side() {
        let text = written(OutputFormat::JsonLines, 2, Page::default());
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sides: Vec<_> = rows.iter().map(|row| (row["query"].as_u64(), row["side"].as_str())).collect();
        let of = |query| [(query, "proponents"), (query, "proponents"), (query, "opponents")];
        let expected: Vec<_> = of(1).into_iter().chain(of(2)).map(|(q, s)| (Some(q), Some(s))).collect();
        assert_eq!(sides, expected);
    }

    #[test]
    fn csv_reads_back_with_one_header() {
        let text = written(OutputFormat::Csv, 2, Page::default());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), &CSV_HEADER[..]);
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 6);
        assert_eq!(&records[3][0], "2");
        let third: Vec<&str> = records[2].iter().skip(1).take(5).collect();
        assert_eq!(third, ["opponents", "1", "r1", "-0.125", "2.5"]);
        assert_eq!(&records[1][5], "");
        assert_eq!(records[0][7], hit(1, 0.5).text);
        assert_eq!(serde_json::from_str::<Value>(&records[0][8]).unwrap(), json!({"year": 1990, "tag": "x"}));
    }

    #[test]
    fn numbers_that_are_not_finite_become_null_or_nothing() {
        let mut odd = answer();
        odd.proponents[0].score = f64::NAN;
        odd.proponents[0].z = Some(f64::INFINITY);
        for format in [OutputFormat::Json, OutputFormat::JsonLines, OutputFormat::Csv] {
            let mut out = Vec::new();
            let mut writer = AnswerWriter::new(format, Page::default(), AnswerDetail::Plain);
            writer.write(&mut out, &json!({}), &odd).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!text.to_lowercase().contains("nan") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn tables_fit_and_hold_no_control_characters() {
        for width in [40, 80, 120] {
            let text = written(OutputFormat::Table, 1, Page { width, colour: false });
            assert!(!text.contains('\u{1b}'), "{text}");
            assert!(text.contains("+0.5000") && text.contains("-0.1250"), "{text}");
            assert_eq!(text.contains("year: 1990"), width >= METADATA_WIDTH_MIN, "{text}");
            let table = text.lines().filter(|line| line.contains("99.50"));
            assert!(table.clone().all(|line| line.chars().count() <= usize::from(width)), "{text}");
            assert_eq!(table.count(), 3);
            assert!(text.contains("20 of 30 rows pass the filter, 1 segment, scan, 1.50 ms"), "{text}");
        }
        // Candidates were found otherwise, with a filter or without.
        let mut out = Vec::new();
        let mut writer = AnswerWriter::new(OutputFormat::Table, Page::default(), AnswerDetail::Plain);
        let found = Answer { plan: "candidates", ..answer() };
        writer.write(&mut out, &json!({}), &found).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("20 of 30 rows, 1 segment, candidates, 1.50 ms"), "{text}");
    }
}
