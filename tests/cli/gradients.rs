//! Verbs about gradients: what is imported, fitted, asked, scored; heads that are trained, and what retraining says.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::scene::{Run, Scene};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/attribution");

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn failed(run: &Run, code: i32, words: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (code, ""), "{run:?}");
    assert!(run.err.starts_with("error: ") && run.err.lines().count() == 1, "{run:?}");
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in {run:?}");
    }
}

/// The f32 values of an npy file, and its shape as it is written there.
fn matrix(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).expect("a file");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..10 + length].to_vec()).expect("a header");
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': ").expect("a shape").1;
    let shape = shape.split_once(')').expect("an end").0.to_owned() + ")";
    let values = bytes[10 + length..].chunks_exact(4);
    (shape, values.map(|value| f32::from_le_bytes(value.try_into().expect("4 bytes"))).collect())
}

#[test]
fn sketches_are_imported_and_fitted() {
    let place = Scene::new().with_models();
    let stats = place.run(&["stats", "models", "--format", "json"]).ok().json();
    assert_eq!((&stats["rows"], &stats["embedding"]), (&json!(40), &json!([])), "{stats}");
    let report = place.run(&["fit", "models", "--format", "json"]).ok().json();
    assert_eq!(
        names(&report),
        [
            "version",
            "curvature",
            "form",
            "column",
            "rows",
            "zero_rows",
            "members",
            "parameters",
            "damping",
            "bytes",
            "commit",
            "elapsed_ms"
        ]
    );
    for (name, expected) in [
        ("version", json!(1)),
        ("curvature", json!("margin")),
        ("form", json!("dual")),
        ("column", json!("sketch")),
        ("rows", json!(40)),
        ("zero_rows", json!(0)),
        ("members", json!(1)),
        ("parameters", json!(140)),
    ] {
        assert_eq!(report[name], expected, "{report}");
    }
    assert!(report["damping"][0].as_f64() > Some(0.0) && report["bytes"].as_u64() > Some(0), "{report}");
    for kind in ["identity", "diagonal", "fisher"] {
        let report = place.run(&["fit", "models", "--curvature", kind, "--format", "json"]).ok().json();
        assert_eq!(report["curvature"], json!(kind));
        let sums = json!({"segments": 1, "kept": 0, "rows_added": 40, "rows_taken_away": 0});
        assert_eq!(report.get("sums"), (kind == "diagonal").then_some(&sums), "{report}");
    }
    let again =
        place.run(&["import", "models", "--keys", "train.keys.jsonl", "--sketches", "train.safetensors"]);
    failed(&again, 1, &["r0", "nothing was imported"]);
    place.verify("models");
}

#[test]
fn kronecker_products_take_factors_of_their_own_or_those_of_the_gradients() {
    let place = Scene::new().with_models();
    let fit = |more: &[&str]| {
        place.run(&[&["fit", "models", "--curvature", "ekfac", "--format", "json"], more].concat())
    };
    let report = fit(&[]).ok().json();
    assert_eq!((&report["form"], &report["factors"]), (&json!("direct"), &json!("sketches")), "{report}");
    assert_eq!(report["damping"].as_array().map(Vec::len), Some(2), "{report}");
    let factors = format!("{FIXTURES}/factors.safetensors");
    let report = fit(&["--factors", &factors]).ok().json();
    assert_eq!(report["factors"], json!("own"), "{report}");
    let ask = ["query", "models", "--key", "r3", "--score", "gradient", "--curvature", "ekfac"];
    let answer = place.run(&[&ask[..], &["--format", "json"]].concat()).ok().json();
    assert_eq!(answer["proponents"][0]["key"], json!("r3"), "{answer}");
    // Those that kronfluence left for another model do not fit.
    let foreign =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/importers/kronfluence/perceptron/factors_ekfac");
    failed(&fit(&["--factors", foreign]), 1, &["factors_ekfac", "the schema has 8 outputs and 13 inputs"]);
    failed(&fit(&["--factors", "train.safetensors"]), 1, &["train.safetensors", "no factors", "--factors"]);
    failed(&fit(&["--factors", "train.keys.jsonl"]), 1, &["train.keys.jsonl"]);
    let fisher = ["fit", "models", "--curvature", "fisher", "--factors", &factors];
    failed(&place.run(&fisher), 1, &["factors go with kfac and ekfac, not with fisher"]);
    place.verify("models");
}

#[test]
fn codes_of_one_bit_find_candidates_where_gradients_are_half_whitened() {
    let place = Scene::new().with_models();
    let fit = |curvature: &str, more: &[&str]| {
        let fit = ["fit", "models", "--curvature", curvature, "--code-bits", "1", "--format", "json"];
        place.run(&[&fit[..], more].concat())
    };
    for (curvature, coordinates) in [("ekfac", 140), ("kfac", 140), ("diagonal", 140), ("trak", 40)] {
        let report = fit(curvature, &[]).ok().json();
        assert_eq!((&report["code_bits"], &report["codes"]), (&json!(1), &json!(coordinates)), "{report}");
        let ask = ["query", "models", "--key", "r3", "--score", "hybrid", "--curvature", curvature];
        let answer = place.run(&[&ask[..], &["--candidates", "8", "--format", "json"]].concat()).ok().json();
        let hits = answer["proponents"].as_array().expect("hits");
        assert!(hits.iter().any(|hit| hit["key"] == json!("r3")), "{answer}");
        assert_eq!(answer["searched"]["plan"], json!("candidates"), "{answer}");
    }
    failed(&fit("identity", &[]), 1, &["half-whitened", "identity whitens nothing"]);
    failed(&fit("ekfac", &["--codes", "9"]), 1, &["not with ekfac", "--code-bits 1"]);
    place.verify("models");
}

#[test]
fn dampings_and_curvatures_that_cannot_be_are_wrong_usage() {
    let place = Scene::new().with_models();
    for more in [
        &["--damping", "0"][..],
        &["--damping=-1"],
        &["--damping", "NaN"],
        &["--damping", "inf"],
        &["--damping", "some"],
        &["--curvature", "hessian"],
        &["--form", "direct"],
    ] {
        let run = place.run(&[&["fit", "models"], more].concat());
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{more:?}: {run:?}");
        assert!(run.err.starts_with("error: "), "{more:?}: {run:?}");
    }
    failed(&place.run(&["fit", "models", "--column", "other"]), 1, &["\"other\"", "sketch"]);
    failed(&place.run(&["query", "models", "--key", "r0", "--score", "gradient"]), 1, &["ascribe fit"]);
    failed(&place.run(&["self", "models"]), 1, &["ascribe fit"]);
    failed(
        &place.run(&["query", "models", "x", "--score", "gradient"]),
        2,
        &["--label", "--key", "--sketch"],
    );
    failed(&place.run(&["query", "models", "--key", "r0", "--layers"]), 2, &["--score gradient"]);
    place.run(&["create", "words", "--encoder", "hashed:8"]).ok();
    failed(&place.run(&["fit", "words"]), 1, &["no sketch column"]);
    let report = place.run(&["fit", "models", "--damping", "0.25", "--format", "json"]).ok().json();
    assert_eq!(report["version"], json!(1), "{report}");
    place.verify("models");
}

#[test]
fn rows_are_asked_about_by_key_and_answer_in_the_contract_of_json() {
    let place = Scene::new().with_models();
    place.run(&["fit", "models"]).ok();
    let arguments = ["query", "models", "--key", "r3", "--score", "gradient", "-k", "4", "--format", "json"];
    let answer = place.run(&arguments).ok().json();
    assert_eq!(
        names(&answer),
        [
            "query",
            "score",
            "kind",
            "column",
            "curvature",
            "exact",
            "searched",
            "elapsed_ms",
            "proponents",
            "opponents"
        ]
    );
    assert_eq!(answer["query"], json!({"kind": "key", "value": "r3"}));
    assert_eq!((&answer["score"], &answer["kind"]), (&json!("gradient"), &json!("dot")));
    assert_eq!(answer["curvature"], json!("margin (dual), version 1"));
    assert_eq!(answer["searched"], json!({"rows": 40, "segments": 1, "plan": "scan"}));
    for (end, is_right) in [("proponents", 1.0), ("opponents", -1.0)] {
        let hits = answer[end].as_array().expect("rows");
        assert_eq!(hits.len(), 4);
        for (rank, hit) in hits.iter().enumerate() {
            assert_eq!(names(hit), ["rank", "key", "score", "z", "percentile", "text", "metadata"]);
            assert_eq!(hit["rank"], json!(rank + 1));
            assert!(hit["score"].as_f64().expect("a score") * is_right > 0.0, "{hit}");
            assert!(hit["metadata"]["label"].is_i64(), "{hit}");
        }
    }
    let few = place.run(&[&arguments[..], &["--where", "label = 2"]].concat()).ok().json();
    assert!(few["searched"]["rows"].as_u64().is_some_and(|rows| rows < 40), "{few}");
    let hits = few["proponents"].as_array().expect("rows");
    assert!(hits.iter().all(|hit| hit["metadata"]["label"] == json!(2)), "{few}");
}

#[test]
fn gradients_of_a_file_answer_one_a_line_with_layers_and_predictions() {
    let place = Scene::new().with_models();
    place.run(&["fit", "models", "--curvature", "identity"]).ok();
    let arguments = ["query", "models", "--sketch", "queries.safetensors", "-k", "100", "--layers"];
    let more = ["--without", "label = 0", "--format", "json"];
    let lines = place.run(&[&arguments[..], &more].concat()).ok().json_lines();
    assert_eq!(lines.len(), 6);
    let expected = fs::read(Path::new(FIXTURES).join("expected.json")).expect("a file");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    for (row, line) in lines.iter().enumerate() {
        let question = json!({"kind": "sketch", "value": "queries.safetensors", "row": row + 1});
        assert_eq!(line["query"], question);
        let without = &line["without"];
        assert_eq!(names(without), ["rows", "predicted_loss_change"]);
        let (mut left_out, mut sum) = (0, 0.0);
        let ends = ["proponents", "opponents"].map(|end| line[end].as_array().expect("rows"));
        assert_eq!(ends[0].len() + ends[1].len(), 40);
        for hit in ends.into_iter().flatten() {
            let score = hit["score"].as_f64().expect("a score");
            let key = hit["key"].as_str().expect("a key");
            let number: usize = key[1..].parse().expect("a number");
            let other = expected["autograd"]["scores"][row][number].as_f64().expect("a score");
            assert!((score - other).abs() < 1e-6 * (1.0 + other.abs()), "{key}: {score} for {other}");
            let parts: f64 =
                hit["layers"].as_object().expect("layers").values().filter_map(Value::as_f64).sum();
            assert!((parts - score).abs() < 1e-9 * (1.0 + score.abs()), "{hit}");
            if hit["metadata"]["label"] == json!(0) {
                left_out += 1;
                sum += score;
            }
        }
        assert_eq!(without["rows"], json!(left_out));
        let change = without["predicted_loss_change"].as_f64().expect("a change");
        assert!((change - sum / 40.0).abs() < 1e-9 * (1.0 + sum.abs()), "{without}, {sum}");
    }
    // For people, too.
    let table = place.run(&arguments).ok().out;
    assert!(table.contains("r0"), "{table}");
    let mixed = place.run(&[&arguments[..], &["--kind", "cosine"]].concat());
    failed(&mixed, 1, &["--layers"]);
}

#[test]
fn matrices_of_scores_stand_beside_their_keys() {
    let place = Scene::new().with_models();
    place.run(&["fit", "models"]).ok();
    place.run(&["delete", "models", "--key", "r5"]).ok();
    let score = ["score", "models", "--queries", "queries.safetensors", "--out", "s.npy", "--format", "json"];
    let report = place.run(&score).ok().json();
    assert_eq!(
        (&report["queries"], &report["rows"], &report["score"]),
        (&json!(6), &json!(39), &json!("gradient"))
    );
    let (shape, values) = matrix(&place.path("s.npy"));
    assert_eq!((shape.replace(", )", ")").as_str(), values.len()), ("(6, 39)", 6 * 39));
    let keys: String =
        (0..40).filter(|row| *row != 5).map(|row| format!("{{\"key\":\"r{row}\"}}\n")).collect();
    assert_eq!(fs::read_to_string(place.path("s.keys.jsonl")).expect("keys"), keys);
    // The same scores as those of answers.
    let ask = ["query", "models", "--sketch", "queries.safetensors", "-k", "100", "--format", "json"];
    let keys: Vec<String> = (0..40).filter(|row| *row != 5).map(|row| format!("r{row}")).collect();
    for (row, line) in place.run(&ask).ok().json_lines().iter().enumerate() {
        for hit in ["proponents", "opponents"].iter().filter_map(|end| line[end].as_array()).flatten() {
            let at = keys.iter().position(|key| json!(key) == hit["key"]).expect("a key");
            let score = hit["score"].as_f64().expect("a score") as f32;
            assert_eq!(values[row * 39 + at], score, "{hit}");
        }
    }
    let own = place.run(&["self", "models", "-k", "3", "--out", "own.npy", "--format", "json"]).ok().json();
    assert_eq!((&own["rows"], own["highest"].as_array().map(Vec::len)), (&json!(39), Some(3)), "{own}");
    let (shape, values) = matrix(&place.path("own.npy"));
    assert_eq!((shape.replace(", )", ",)").as_str(), values.len()), ("(39,)", 39));
    let mut ranked: Vec<(f32, &String)> = values.iter().copied().zip(&keys).collect();
    ranked.sort_by(|left, right| right.0.total_cmp(&left.0));
    for (rank, (value, key)) in ranked.iter().take(3).enumerate() {
        let row = &own["highest"][rank];
        assert_eq!((&row["rank"], &row["key"]), (&json!(rank + 1), &json!(key)), "{own}");
        assert_eq!(row["self_influence"].as_f64().map(|own| own as f32), Some(*value), "{own}");
    }
    let missing = place.run(&["score", "models", "--queries", "no.safetensors", "--out", "t.npy"]);
    failed(&missing, 1, &["no.safetensors"]);
    assert!(!place.path("t.npy").exists() && !place.path("t.npy.new").exists());
}

#[test]
fn an_imported_column_has_no_head_for_texts() {
    let place = Scene::new().with_models();
    place.run(&["fit", "models"]).ok();
    let run = place.run(&["query", "models", "a text", "--label", "1", "--score", "gradient"]);
    failed(&run, 1, &["\"sketch\"", "train-head", "--sketch"]);
}
