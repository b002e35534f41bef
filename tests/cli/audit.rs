//! `audit labels` and `eval labels`: what to look at, and how well it is found.

use serde_json::json;

use crate::scene::Scene;

/// A store of 40 rows in two corners, of which rows 7 and 22 have the label of the other corner.
fn corners() -> Scene {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:2"]).ok();
    let row = |row: usize| {
        let (is, other) = if row.is_multiple_of(2) { ("even", "odd") } else { ("odd", "even") };
        let label = if [7, 22].contains(&row) { other } else { is };
        let wide = 1.0 + row as f64 / 50.0;
        let v = if row.is_multiple_of(2) { [wide, 0.1] } else { [0.1, wide] };
        json!({"id": format!("r{row}"), "v": v, "label": label, "is": is, "same": label}).to_string() + "\n"
    };
    place.write("rows.jsonl", (0..40).map(row).collect::<String>());
    place.run(&["ingest", "s", "rows.jsonl", "--key", "id", "--vector", "v"]).ok();
    place
}

#[test]
fn suspicious_rows_come_first_and_all_scores_are_written() {
    let place = corners();
    let arguments =
        ["audit", "labels", "s", "--label", "label", "-k", "3", "--out", "a.npy", "--format", "json"];
    let report = place.run(&arguments).ok().json();
    assert_eq!(
        (&report["rows"], &report["unlabelled"], &report["classes"], &report["disputed"]),
        (&json!(40), &json!(0), &json!(2), &json!(2))
    );
    assert_eq!(report["kernel"], json!("cosine of the embeddings"));
    assert_eq!((&report["columns"][0]["name"], &report["columns"][1]), (&json!("embedding"), &json!(null)));
    assert!(report["notes"].as_str().is_some_and(|notes| notes.contains("train-head")), "{report}");
    let rows = report["suspicious"].as_array().expect("a list");
    assert_eq!(rows.len(), 3);
    let mut keys: Vec<&str> = rows.iter().take(2).filter_map(|row| row["key"].as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["r22", "r7"]);
    assert!(
        rows.iter().take(2).all(|row| row["suggested"] != row["label"] && row["ridge"].as_f64() > Some(0.0))
    );
    let written = std::fs::read_to_string(place.path("a.keys.jsonl")).expect("keys beside the scores");
    assert_eq!(written.lines().count(), 40);
    assert_eq!(written.lines().nth(7), Some("{\"key\":\"r7\"}"));
    let bytes = std::fs::read(place.path("a.npy")).expect("scores");
    let (values, _) = bytes[bytes.len() - 160..].as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let best = (0..40).max_by(|a, b| values[*a].total_cmp(&values[*b]));
    assert!([Some(7), Some(22)].contains(&best), "{values:?}");
    let table = place.run(&["audit", "labels", "s", "--label", "label"]).ok().out;
    assert!(table.contains("suspicious:") && table.contains("r22"), "{table}");
}

#[test]
fn detection_is_measured_against_true_labels() {
    let place = corners();
    let arguments = ["eval", "labels", "s", "--label", "label", "--clean", "is", "--format", "json"];
    let report = place.run(&arguments).ok().json();
    assert_eq!((&report["rows"], &report["flipped"], &report["unknown"]), (&json!(40), &json!(2), &json!(0)));
    let methods: Vec<&str> = report["methods"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line["method"].as_str())
        .collect();
    assert_eq!(methods, ["audit", "leave-one-out fit alone", "nearest rows alone"]);
    let line = &report["methods"][0];
    assert_eq!(
        (&line["auc"], &line["found_at_10%"], &line["precision_at_10%"], &line["precision_at_20%"]),
        (&json!(1.0), &json!(1.0), &json!(0.5), &json!(0.25))
    );
    assert_eq!((&line["low"], &line["high"]), (&json!(1.0), &json!(1.0)));
    assert_eq!(
        (&report["resamples"], &report["seed"], &report["curvature"]),
        (&json!(1740), &json!(0), &json!(null))
    );
    assert_eq!(
        (&report["columns"][0]["name"], &report["columns"][0]["encoder"]),
        (&json!("embedding"), &json!("vectors:2"))
    );
    assert_eq!(place.run(&arguments).ok().json()["methods"], report["methods"]);
}

#[test]
fn what_cannot_be_audited_or_measured_says_why() {
    let place = corners();
    for (arguments, reason) in [
        (&["audit", "labels", "s", "--label", "nothing"][..], "has a value in field \"nothing\""),
        (&["audit", "labels", "s", "--label", "label", "--column", "x"], "no sketch column"),
        (
            &["eval", "labels", "s", "--label", "label", "--clean", "nothing"],
            "name the field with the true labels",
        ),
        (&["eval", "labels", "s", "--label", "label", "--clean", "same"], "0 differ"),
        (&["audit", "labels", "none", "--label", "label"], "there is no such folder"),
    ] {
        let run = place.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
        assert!(run.err.starts_with("error: ") && run.err.contains(reason), "{run:?}");
    }
    for arguments in [&["audit"][..], &["audit", "labels", "s"], &["eval", "labels", "s", "--label", "label"]]
    {
        assert_eq!(place.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn the_examples_of_the_help_work() {
    for arguments in [&["audit", "--help"][..], &["audit", "labels", "--help"], &["eval", "labels", "--help"]]
    {
        let place = Scene::new();
        let help = place.run(arguments).ok().out;
        let at = help.find("\nExample").expect("an example");
        let lines = help[at..].lines().skip(2).take_while(|line| line.starts_with("  "));
        let commands: Vec<&str> = lines.map(str::trim).collect();
        assert!(commands.len() > 3 && commands.iter().all(|line| line.len() < 80), "{commands:?}");
        let run = place.shell(&commands.join("\n"));
        assert_eq!(run.code, 0, "{commands:?}: {run:?}");
    }
}
