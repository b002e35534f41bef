//! Heads that are trained on a store's texts, what they say of others, and what retraining says.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use ascribe::base::{Cancel, Progress};
use ascribe::encoder::HeadConfiguration;
use ascribe::engine::{OpenOptions, Reader, Watch};
use ascribe::training::{TruthPlan, TruthQuery, measure_store_truth};
use serde_json::{Value, json};

use crate::scene::{Run, Scene};

/// Small enough to be trained at once, large enough to learn the words.
const HEAD: [&str; 4] = ["--hidden", "6", "--epochs", "20"];

const WORDS: [(&str, [&str; 4]); 3] = [
    ("animal", ["cat", "dog", "horse", "mouse"]),
    ("plant", ["tree", "flower", "grass", "moss"]),
    ("weather", ["rain", "snow", "wind", "sun"]),
];

/// A line with the words of a class; number `row` of it. In field `is` stands the class too, but for one row that is told
/// to be of another.
fn line(prefix: &str, row: usize) -> String {
    let (class, words) = WORDS[row % 3];
    let text = format!("{} and {} near the {}", words[row % 4], words[(row / 3) % 4], words[(row / 5) % 4]);
    let is = if row == 7 { WORDS[2].0 } else { class };
    json!({"key": format!("{prefix}{row}"), "text": text, "class": class, "is": is}).to_string() + "\n"
}

/// A store `texts` of 36 rows of three classes, one of them without a label, and a file of queries.
pub(crate) fn with_texts() -> Scene {
    let place = Scene::new();
    place.run(&["create", "texts", "--encoder", "hashed:32", "--field", "class:text"]).ok();
    let rows: String = (0..35).map(|row| line("r", row)).collect();
    place.write("rows.jsonl", rows + "{\"key\": \"r35\", \"text\": \"cat and tree\", \"class\": null}\n");
    place.run(&["ingest", "texts", "rows.jsonl", "--key", "key", "--text", "text"]).ok();
    place.write("queries.jsonl", (0..6).map(|row| line("q", row * 7 + 1)).collect::<String>());
    place
}

pub(crate) fn trained(place: &Scene) -> Value {
    let arguments = ["train-head", "texts", "--label", "class", "--runs", "2", "--format", "json"];
    place.run(&[&arguments[..], &HEAD].concat()).ok().json()
}

pub(crate) fn failed(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
    assert!(run.err.starts_with("error: ") && run.err.lines().count() == 1, "{run:?}");
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in {run:?}");
    }
}

#[test]
fn a_head_is_trained_and_asked_about_texts_with_labels() {
    let place = with_texts();
    let report = trained(&place);
    for (name, expected) in [
        ("column", json!("sketch")),
        ("rows", json!(35)),
        ("rows_unlabelled", json!(1)),
        ("classes", json!(3)),
        ("members", json!(4)),
    ] {
        assert_eq!(report[name], expected, "{report}");
    }
    assert!(report["accuracy"].as_f64() > Some(0.8), "{report}");
    let fitted = place.run(&["fit", "texts", "--format", "json"]).ok().json();
    assert_eq!(
        (&fitted["curvature"], &fitted["rows"], &fitted["zero_rows"], &fitted["members"]),
        (&json!("margin"), &json!(36), &json!(1), &json!(4)),
        "{fitted}"
    );
    let stats = place.run(&["stats", "texts", "--format", "json"]).ok().json();
    assert_eq!(stats["curvature"][0]["zero_rows"], json!(1), "{stats}");
    let ask = ["query", "texts", "a cat near the dog", "--score", "gradient", "--format", "json"];
    let animal = place.run(&[&ask[..], &["--label", "animal"]].concat()).ok().json();
    let question = json!({"kind": "text", "value": "a cat near the dog", "label": "animal"});
    assert_eq!(animal["query"], question);
    assert_eq!(animal["proponents"][0]["metadata"]["class"], json!("animal"), "{animal}");
    // Asked about as another class, other rows help.
    let plant = place.run(&[&ask[..], &["--label", "plant"]].concat()).ok().json();
    assert_eq!(plant["proponents"][0]["metadata"]["class"], json!("plant"), "{plant}");
    let unknown = place.run(&[&ask[..], &["--label", "mineral"]].concat());
    failed(&unknown, &["\"mineral\" is none of the classes", "animal, plant, weather"]);
    let learned = place.run(&["query", "texts", "x", "--label", "animal"]);
    assert_eq!(learned.code, 2, "{learned:?}");
    place.verify("texts");
}

#[test]
fn a_head_that_is_trained_again_takes_the_place_of_the_first() {
    let place = with_texts();
    trained(&place);
    place.run(&["fit", "texts"]).ok();
    trained(&place);
    let ask = ["query", "texts", "--key", "r1", "--score", "gradient"];
    failed(&place.run(&ask), &["ascribe fit"]);
    place.run(&["fit", "texts"]).ok();
    place.run(&ask).ok();
    let taken = ["train-head", "texts", "--label", "class", "--column", "embedding"];
    failed(&place.run(&[&taken[..], &HEAD].concat()), &["\"embedding\""]);
    failed(&place.run(&["train-head", "texts", "--label", "colour"]), &["\"colour\"", "at least 2"]);
    place.verify("texts");
}

fn measure(place: &Scene, out: &str, subsets: &str, seed: &str) -> Run {
    let arguments = ["measure-truth", "texts", "--label", "class", "--queries", "queries.jsonl"];
    let plan = ["--subsets", subsets, "--seeds", "2", "--seed", seed, "--out", out, "--format", "json"];
    place.run(&[&arguments[..], &plan, &HEAD].concat())
}

/// Stops the work when so much is done.
struct StopAfter<'a>(u64, &'a Cancel);

impl Progress for StopAfter<'_> {
    fn begin(&self, _stage: &str, _unit: &str, _total: Option<u64>) {}

    fn advance(&self, done: u64) {
        if done >= self.0 {
            self.1.cancel();
        }
    }

    fn end(&self) {}
}

/// Begins the measurement of [`measure`] and stops it after so many trainings; what it leaves beside `out`.
fn begun(place: &Scene, out: &str, trainings: u64) -> String {
    let options = OpenOptions { threads: NonZeroUsize::new(1), ..OpenOptions::default() };
    let snapshot = Reader::open_at(&place.path("texts"), options).expect("a store").snapshot();
    let queries: Vec<TruthQuery> = fs::read_to_string(place.path("queries.jsonl"))
        .expect("queries")
        .lines()
        .map(|line| {
            let query: Value = serde_json::from_str(line).expect("a query");
            let text = |name: &str| query[name].as_str().expect("a text").to_owned();
            let vector = snapshot.embed(None, &text("text")).expect("an embedding");
            TruthQuery { key: text("key"), vector, label: text("class") }
        })
        .collect();
    let configuration = HeadConfiguration { hidden: Some(6), epochs: 20, ..HeadConfiguration::default() };
    let plan = TruthPlan { subsets: 4, runs: 2, configuration, ..TruthPlan::default() };
    let cancel = Cancel::new();
    let stop = StopAfter(trainings, &cancel);
    let watch = Watch { progress: &stop, cancel: &cancel };
    let stopped = measure_store_truth(&snapshot, (None, "class"), &queries, &plan, &place.path(out), watch);
    assert!(stopped.is_err(), "{stopped:?}");
    assert!(!place.path(out).exists());
    fs::read_to_string(place.path(&format!("{out}.partial"))).expect("what was measured")
}

#[test]
fn a_stopped_measurement_goes_on_to_the_same_file() {
    let place = with_texts();
    let report = measure(&place, "whole.safetensors", "4", "0").ok().json();
    for (name, expected) in [("rows", 35), ("queries", 6), ("subsets", 4), ("seeds", 2), ("resumed", 0)] {
        assert_eq!(report[name], json!(expected), "{report}");
    }
    let whole = fs::read(place.path("whole.safetensors")).expect("a truth");
    assert!(!place.path("whole.safetensors.partial").exists());

    let partial = begun(&place, "part.safetensors", 3);
    let lines: Vec<&str> = partial.lines().collect();
    assert_eq!(lines.len(), 1 + 3, "{partial}");
    // Killed in the middle of a line.
    let cut = &partial[..partial.len() - lines[3].len() / 2];
    for (text, resumed) in [(partial.as_str(), 3), (cut, 2), (lines[0], 0), ("", 0)] {
        let _ = fs::remove_file(place.path("part.safetensors"));
        place.write("part.safetensors.partial", text);
        let report = measure(&place, "part.safetensors", "4", "0").ok().json();
        assert_eq!(report["resumed"], json!(resumed), "{text:?}");
        assert!(!place.path("part.safetensors.partial").exists());
        let found = fs::read(place.path("part.safetensors")).expect("a truth");
        assert!(found == whole, "resumed from {resumed}: another file");
    }
    let other = measure(&place, "other.safetensors", "4", "1").ok().json();
    assert_ne!(other["fingerprint"], report["fingerprint"]);
    assert!(fs::read(place.path("other.safetensors")).expect("a truth") != whole);
}

#[test]
fn what_was_measured_of_other_rows_is_not_taken_over() {
    let place = with_texts();
    let partial = begun(&place, "part.safetensors", 2);
    let refused = |run: &Run| {
        failed(run, &["part.safetensors.partial", "other rows, queries or settings", "remove it"]);
        let left = fs::read_to_string(place.path("part.safetensors.partial")).expect("what was measured");
        assert_eq!(left, partial);
        assert!(!place.path("part.safetensors").exists());
    };
    refused(&measure(&place, "part.safetensors", "4", "1"));
    place.run(&["delete", "texts", "--key", "r0"]).ok();
    refused(&measure(&place, "part.safetensors", "4", "0"));
    place.write("queries.jsonl", line("q", 2).replace("weather", "mineral"));
    failed(&measure(&place, "new.safetensors", "4", "0"), &["\"q2\"", "\"mineral\""]);
    assert!(!place.path("new.safetensors").exists() && !place.path("new.safetensors.partial").exists());
}

#[test]
fn faithfulness_is_told_with_intervals_differences_and_a_ceiling() {
    let place = with_texts();
    trained(&place);
    for kind in ["identity", "margin"] {
        place.run(&["fit", "texts", "--curvature", kind]).ok();
    }
    measure(&place, "t.safetensors", "12", "0").ok();
    let eval = ["eval", "lds", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl"];
    let more = ["--resamples", "50", "--curvature", "margin,identity", "--control", "--permutations", "99"];
    let more = [&more[..], &["--format", "json"]].concat();
    let report = place.run(&[&eval[..], &more].concat()).ok().json();
    for (name, expected) in [
        ("queries", 6),
        ("subsets", 12),
        ("seeds", 2),
        ("resamples", 50),
        ("permutations", 99),
        ("seed", 0),
        ("members", 4),
    ] {
        assert_eq!(report[name], json!(expected), "{report}");
    }
    assert_eq!(
        report["ndcg"],
        json!({"k": 20, "exact": "gradient, margin", "queries": 6, "without_proponents": 0})
    );
    assert!(report["ceiling"].as_f64().is_some_and(|ceiling| (0.0..=1.0).contains(&ceiling)), "{report}");
    let methods = report["methods"].as_array().expect("methods");
    let names: Vec<&str> = methods.iter().filter_map(|method| method["score"].as_str()).collect();
    let expected = ["learned", "embedding cosine x same label", "gradient, margin", "gradient, identity"];
    assert_eq!(names, expected);
    let mut means = HashMap::new();
    for method in methods {
        let [lds, low, high] = ["lds", "low", "high"].map(|name| method[name].as_f64().expect("a number"));
        assert!(-1.0 <= low && low <= high && high <= 1.0, "{method}");
        let [mean, low, high] = ["mean", "low", "high"].map(|name| method["permuted"][name].as_f64());
        // Of 99 permutations of 12 subsets: chance is around 0.
        assert!(
            low < Some(0.0) && Some(0.0) < high && mean.is_some_and(|mean| mean.abs() < 0.15),
            "{method}"
        );
        let ndcg = ["mean", "low", "high"].map(|name| method["ndcg_at_20"][name].as_f64().expect("a number"));
        assert!(0.0 <= ndcg[1] && ndcg[1] <= ndcg[0] && ndcg[0] <= ndcg[2] && ndcg[2] <= 1.0, "{method}");
        means.insert(method["score"].as_str().expect("a name"), lds);
    }
    let ndcg: Vec<f64> = methods.iter().filter_map(|line| line["ndcg_at_20"]["mean"].as_f64()).collect();
    assert_eq!(ndcg[2], 1.0, "the exact score against itself: {report}");
    assert!([0, 1, 3].iter().all(|at| ndcg[*at] < 1.0), "{report}");
    // Half of what the truth says is who was trained on; the best curvature must see some of it.
    assert!(means["gradient, margin"] > 0.2, "{report}");
    let differences = report["differences"].as_array().expect("differences");
    assert_eq!(differences.len(), 6);
    for difference in differences {
        let [one, other] = ["score", "minus"].map(|name| means[difference[name].as_str().expect("a name")]);
        let found = difference["difference"].as_f64().expect("a number");
        // Of numbers with six decimals.
        assert!((found - (one - other)).abs() < 2e-6, "{difference}");
    }
    let table = place.run(&[&eval[..], &["--resamples", "20", "--score", "gradient"]].concat()).ok().out;
    assert!(
        table.contains("ceiling") && table.contains("gradient") && !table.contains("permuted"),
        "{table}"
    );
}

/// A store `texts` with a fitted head of four members, and a truth of 12 subsets.
pub(crate) fn measured() -> Scene {
    let place = with_texts();
    trained(&place);
    place.run(&["fit", "texts"]).ok();
    measure(&place, "t.safetensors", "12", "0").ok();
    place
}

#[test]
fn rankings_are_compared_by_key_and_only_with_a_gradient_score() {
    let place = measured();
    let eval = ["eval", "lds", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl"];
    let learned = place.run(&[&eval[..], &["--score", "learned", "--format", "json"]].concat()).ok().json();
    assert_eq!((&learned["ndcg"], &learned["members"]), (&json!(null), &json!(null)), "{learned}");
    assert!(learned["methods"][0].get("ndcg_at_20").is_none(), "{learned}");

    let ndcg = || {
        let both = [&eval[..], &["--score", "learned,gradient", "--format", "json"]].concat();
        let report = place.run(&both).ok().json();
        [0, 1].map(|at: usize| report["methods"][at]["ndcg_at_20"]["mean"].as_f64().expect("a number"))
    };
    let before = ndcg();
    assert!(before[0] > 0.7 && before[1] == 1.0, "{before:?}");
    // Rows with the very texts of the queries come first by their embeddings, and have no gradient.
    let queries = fs::read_to_string(place.path("queries.jsonl")).expect("queries");
    let more = (0..25).map(|copy| queries.replace("\"key\":\"q", &format!("\"key\":\"copy{copy}-")));
    place.write("more.jsonl", more.collect::<String>());
    place.run(&["ingest", "texts", "more.jsonl", "--key", "key", "--text", "text"]).ok();
    let after = ndcg();
    assert!(after[0] < 0.75 * before[0] && after[1] == 1.0, "{before:?} {after:?}");
}

#[test]
fn a_truth_of_other_rows_or_queries_is_refused() {
    let place = measured();
    let eval = ["eval", "lds", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl"];
    place.run(&["delete", "texts", "--key", "r1"]).ok();
    failed(&place.run(&eval), &["\"r1\"", "not in the store"]);
    place.write("queries.jsonl", line("q", 2));
    failed(&place.run(&eval), &["t.safetensors", "--queries"]);
    assert!(Path::new(&place.path("t.safetensors")).exists());
}

#[test]
fn chosen_members_are_measured_beside_all() {
    let place = measured();
    let eval = ["eval", "lds", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl"];
    let eval = [&eval[..], &["--score", "gradient", "--resamples", "30", "--format", "json"]].concat();
    let with = |more: &[&str]| place.run(&[&eval[..], more].concat());
    let names = |report: &Value| -> Vec<String> {
        let methods = report["methods"].as_array().expect("methods");
        methods.iter().map(|method| method["score"].as_str().expect("a name").to_owned()).collect()
    };
    let some =
        with(&["--only-members", "0,1", "--only-members", "3", "--only-members", "0,1,2,3"]).ok().json();
    let expected = ["gradient", "gradient, members 0,1", "gradient, member 3", "gradient, members 0,1,2,3"];
    assert_eq!(names(&some), expected);
    let lds = |report: &Value, at: usize| report["methods"][at]["lds"].as_f64().expect("a number");
    // All members by name are all members; fewer say something else.
    assert_eq!(
        (lds(&some, 0), &some["methods"][3]["ndcg_at_20"]["mean"]),
        (lds(&some, 3), &json!(1.0)),
        "{some}"
    );
    assert!(lds(&some, 1) != lds(&some, 0) && lds(&some, 2) != lds(&some, 0), "{some}");
    let pairs = some["differences"].as_array().expect("differences");
    assert_eq!(pairs.len(), 6);
    let pair = |name: &str, other: &str| {
        let found = pairs.iter().find(|pair| pair["score"] == json!(name) && pair["minus"] == json!(other));
        found.unwrap_or_else(|| panic!("{name} - {other}: {some}"))
    };
    assert_eq!(pair(expected[0], expected[3])["difference"], json!(0.0));
    let found = pair(expected[1], expected[2])["difference"].as_f64().expect("a number");
    assert!((found - (lds(&some, 1) - lds(&some, 2))).abs() < 2e-6, "{some}");

    let each = with(&["--each-member", "--curvature", "margin", "--only-members", "1,0"]).ok().json();
    let expected = [
        "gradient, margin",
        "gradient, margin, members 1,0",
        "gradient, margin, member 0",
        "gradient, margin, member 1",
        "gradient, margin, member 2",
        "gradient, margin, member 3",
    ];
    assert_eq!(names(&each), expected);
    // Whatever stands beside it, a method scores the same.
    assert_eq!([lds(&each, 1), lds(&each, 5)], [lds(&some, 1), lds(&some, 2)]);

    failed(&with(&["--only-members", "0,9"]), &["no member 9", "0 to 3"]);
    for wrong in [
        &["--only-members", "a"][..],
        &["--only-members", ""],
        &["--only-members", "0,,1"],
        &["--permutations", "50"],
    ] {
        let run = with(wrong);
        assert_eq!(run.code, 2, "{run:?}");
    }
    let few = with(&["--control", "--permutations", "38"]);
    assert_eq!(few.code, 2, "{few:?}");
    let learned = place.run(&[&eval[..7], &["--score", "learned", "--each-member"]].concat());
    assert_eq!(learned.code, 2, "{learned:?}");
    assert!(learned.err.contains("--score gradient"), "{learned:?}");
}

/// Each figure tells the data, the encoder, the gradients and the fit that it is of.
#[test]
fn figures_say_what_they_were_computed_with() {
    let place = measured();
    place.run(&["fit", "texts", "--curvature", "identity"]).ok();
    let statistics = place.run(&["stats", "texts", "--format", "json"]).ok().json();
    let column =
        |of: &Value| json!({"name": of["name"], "encoder": of["encoder"], "fingerprint": of["fingerprint"]});
    let [embedding, sketch] = ["embedding", "sketch"].map(|kind| column(&statistics[kind][0]));
    assert!(embedding["fingerprint"].is_string() && sketch["fingerprint"].is_string(), "{statistics}");

    let eval = ["eval", "lds", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl"];
    let eval = [&eval[..], &["--resamples", "30", "--seed", "5"]].concat();
    let report =
        place.run(&[&eval[..], &["--curvature", "margin,identity", "--format", "json"]].concat()).ok().json();
    assert_eq!(report["columns"], json!([embedding, sketch]), "{report}");
    assert_eq!((&report["commit"], &report["seed"]), (&statistics["commit"], &json!(5)), "{report}");
    let truth = measure(&place, "again.safetensors", "12", "0").ok().json();
    assert_eq!(report["truth_fingerprint"], truth["fingerprint"], "{report}");
    let curvatures: Vec<&Value> =
        report["methods"].as_array().expect("methods").iter().map(|method| &method["curvature"]).collect();
    let asked = ["query", "texts", "--key", "r1", "--score", "gradient", "--format", "json", "--curvature"];
    let title = |kind: &str| place.run(&[&asked[..], &[kind]].concat()).ok().json()["curvature"].clone();
    assert_eq!(curvatures, [&json!(null), &json!(null), &title("margin"), &title("identity")]);
    // Unless it is named, the one that was fitted last.
    let last = [&eval[..], &["--score", "gradient", "--format", "json"]].concat();
    let last = place.run(&last).ok().json();
    assert_eq!(last["methods"][0]["curvature"], title("identity"), "{last}");
    let learned = [&eval[..], &["--score", "learned", "--format", "json"]].concat();
    assert_eq!(place.run(&learned).ok().json()["columns"], json!([embedding]));
    let table = place.run(&eval).ok().out;
    let fingerprint = &sketch["fingerprint"].as_str().expect("a fingerprint")[..16];
    for part in ["truth_fingerprint", "seed", "columns:", "hashed:32", fingerprint, "version 2"] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }

    let audit = ["audit", "labels", "texts", "--label", "class", "--format", "json"];
    let audit = place.run(&audit).ok().json();
    assert_eq!((&audit["columns"], &audit["commit"]), (&json!([embedding, sketch]), &statistics["commit"]));
    let labels = ["eval", "labels", "texts", "--label", "class", "--clean", "is", "--format", "json"];
    let labels = place.run(&labels).ok().json();
    assert_eq!((&labels["columns"], &labels["commit"]), (&json!([embedding, sketch]), &statistics["commit"]));
    assert_eq!((&labels["rows"], &labels["flipped"], &labels["seed"]), (&json!(35), &json!(1), &json!(0)));
    assert_eq!(labels["curvature"], title("identity"), "{labels}");
    let methods = labels["methods"].as_array().expect("methods");
    assert_eq!(methods.last().expect("a method")["method"], json!("self-influence"), "{labels}");
}

#[test]
fn texts_with_labels_are_scored_by_the_head() {
    let place = with_texts();
    trained(&place);
    place.run(&["fit", "texts"]).ok();
    let arguments = ["score", "texts", "--queries", "queries.jsonl", "--out", "s.npy", "--format", "json"];
    let report = place.run(&arguments).ok().json();
    assert_eq!((&report["queries"], &report["rows"]), (&json!(6), &json!(36)), "{report}");
    let bytes = fs::read(place.path("s.npy")).expect("a matrix");
    let first = bytes.len() - 6 * 36 * 4;
    let value = |at: usize| {
        let place = first + 4 * at;
        f32::from_le_bytes(bytes[place..place + 4].try_into().expect("4 bytes"))
    };
    let query = line("q", 1);
    let query: Value = serde_json::from_str(&query).expect("a query");
    let [text, label] = ["text", "class"].map(|name| query[name].as_str().expect("a text"));
    let ask = ["query", "texts", text, "--label", label, "--score", "gradient", "-k", "100"];
    let answer = place.run(&[&ask[..], &["--format", "json"]].concat()).ok().json();
    let hits = ["proponents", "opponents"].iter().filter_map(|end| answer[end].as_array()).flatten();
    let mut seen = 0;
    for hit in hits {
        let row: usize = hit["key"].as_str().expect("a key")[1..].parse().expect("a number");
        let score = hit["score"].as_f64().expect("a score");
        assert!((f64::from(value(row)) - score).abs() <= 1e-6 * (1.0 + score.abs()), "{hit}");
        seen += 1;
    }
    assert!(seen >= 35, "{answer}");
    let keys = fs::read_to_string(place.path("s.keys.jsonl")).expect("keys");
    assert_eq!(keys.lines().count(), 36);
    place.write("bad.jsonl", "{\"key\": \"q\", \"text\": \"cat\"}\n");
    let bad = ["score", "texts", "--queries", "bad.jsonl", "--out", "b.npy"];
    failed(&place.run(&bad), &["bad.jsonl", "line 1", "\"class\""]);
}
