//! The formats of answers, and what does not belong in a pipe.

use serde_json::{Value, json};

use crate::scene::Scene;

const ESCAPES: &str =
    "{\"id\": \"k\\u001b[2J\", \"text\": \"cat \\u001b[31mred\\u0007 \\\"quoted\\\", and\\nmore\"}\n";

#[test]
fn every_format_reads_back() {
    let place = Scene::new().with_pets();
    place.run_with_input(&["ingest", "pets", "-", "--key", "id"], ESCAPES).ok();
    let of = |format: &str| place.run(&["query", "pets", "a cat", "--format", format]).ok();
    let json = of("json").json();
    let sides = ["proponents", "opponents"].map(|side| json[side].as_array().map_or(0, Vec::len));
    let lines = of("jsonl").json_lines();
    assert_eq!(lines.len(), sides.iter().sum::<usize>());
    assert!(lines.iter().take(sides[0]).all(|line| line["side"] == "proponents"));
    let text = of("csv").out;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a header").iter().nth(3), Some("key"));
    let records: Vec<csv::StringRecord> = reader.records().map(|record| record.expect("a record")).collect();
    assert_eq!(records.len(), lines.len());
    for (record, line) in records.iter().zip(&lines) {
        assert_eq!(
            (&record[3], &record[7]),
            (line["key"].as_str().expect("a key"), line["text"].as_str().expect("a text"))
        );
        assert_eq!(record[4].parse::<f64>().ok(), line["score"].as_f64());
        assert_eq!(serde_json::from_str::<Value>(&record[8]).expect("JSON"), line["metadata"]);
    }
    assert!(lines.iter().any(|line| line["key"] == "k\u{1b}[2J"));
}

#[test]
fn reports_read_back_in_every_format() {
    let place = Scene::new().with_pets();
    let of = |format: &str| place.run(&["stats", "pets", "--format", format]).ok();
    let json = of("json").json();
    assert_eq!(of("jsonl").json_lines(), std::slice::from_ref(&json));
    let text = of("csv").out;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a header").get(0), Some("rows"));
    let record = reader.records().next().expect("one record").expect("a record");
    assert_eq!(record.get(0), Some("5"));
    assert!(of("table").out.contains("hashed:64"));
    assert_eq!(json["fields"][0], json!({"name": "year", "type": "integer"}));
}

#[test]
fn nothing_in_a_pipe_steers_a_terminal() {
    let place = Scene::new().with_pets();
    place.run_with_input(&["ingest", "pets", "-", "--key", "id"], ESCAPES).ok();
    for arguments in [
        &["query", "pets", "a red cat"][..],
        &["stats", "pets"],
        &["verify", "pets", "--deep"],
        &["query", "pets", "--key", "no\u{1b}[2Jkey"],
        &["query", "--help"],
        &["querry"],
    ] {
        for no_color in [None, Some("1")] {
            let mut command = place.command(arguments);
            if let Some(value) = no_color {
                command.env("NO_COLOR", value);
            }
            let output = command.output().expect("the binary runs");
            let all = [output.stdout, output.stderr].concat();
            assert!(!all.is_empty() && !all.contains(&0x1b) && !all.contains(&0x07), "{arguments:?}");
        }
    }
}

#[test]
fn tables_of_a_pipe_are_120_wide_at_most() {
    let place = Scene::new().with_pets();
    let long = "cat ".repeat(400);
    place.run_with_input(&["ingest", "pets", "-"], format!("{{\"text\": \"{long}\"}}\n")).ok();
    let out = place.run(&["query", "pets", "cat"]).ok().out;
    assert!(out.contains('…'), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 120), "{out}");
}
